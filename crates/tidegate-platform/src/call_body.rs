//! The body of an answer to a call.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::Full;
use tidegate_contract::BodyFault;
use tidegate_engine::ReplyBody;

/// The body of an answer to a call: the code's, or ours.
pub enum CallBody {
    /// The code's, streamed.
    Reply(ReplyBody),
    /// Ours, whole.
    Full(Full<Bytes>),
}

// === impl CallBody ===

impl http_body::Body for CallBody {
    type Data = Bytes;
    type Error = BodyFault;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, BodyFault>>> {
        match self.get_mut() {
            Self::Reply(body) => Pin::new(body).poll_frame(cx),
            Self::Full(body) => Pin::new(body)
                .poll_frame(cx)
                .map(|f| f.map(|f| f.map_err(|never| match never {}))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Reply(body) => body.is_end_stream(),
            Self::Full(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> http_body::SizeHint {
        match self {
            Self::Reply(body) => body.size_hint(),
            Self::Full(body) => body.size_hint(),
        }
    }
}
