//! Bodies of all answers the listener gives.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use tidegate_dialect_native::CallBody;

/// The body of an answer: an enum, so that a call's needs no box.
pub(crate) enum ServerBody {
    Call(CallBody),
    Control(axum::body::Body),
    Full(Full<Bytes>),
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

impl Body for ServerBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            Self::Call(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
            Self::Control(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
            Self::Full(body) => Pin::new(body)
                .poll_frame(cx)
                .map_err(|never| match never {}),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Call(body) => body.is_end_stream(),
            Self::Control(body) => body.is_end_stream(),
            Self::Full(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Call(body) => body.size_hint(),
            Self::Control(body) => body.size_hint(),
            Self::Full(body) => body.size_hint(),
        }
    }
}
