//! Bodies of all answers the listener gives.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use tidegate_dialect_openfaas::CountedBody;
use tidegate_platform::CallBody;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// The body of an answer: an enum, so that a call's needs no box.
pub(crate) enum ServerBody {
    Call(CallBody),
    OpenFaas(CountedBody),
    Control(axum::body::Body),
    /// One whose end is not known, such as a log that is followed: it ends with the server, which would else wait for it.
    Open(axum::body::Body, Pin<Box<WaitForCancellationFutureOwned>>),
    Full(Full<Bytes>),
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

impl ServerBody {
    /// The body of a control route's answer.
    pub(crate) fn control(body: axum::body::Body, stop: &CancellationToken) -> Self {
        match body.size_hint().exact() {
            Some(_) => Self::Control(body),
            None => Self::Open(body, Box::pin(stop.clone().cancelled_owned())),
        }
    }
}

impl Body for ServerBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            Self::Call(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
            Self::OpenFaas(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
            Self::Control(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
            Self::Open(body, stop) => match stop.as_mut().poll(cx) {
                Poll::Ready(()) => Poll::Ready(None),
                Poll::Pending => Pin::new(body).poll_frame(cx).map_err(Into::into),
            },
            Self::Full(body) => Pin::new(body)
                .poll_frame(cx)
                .map_err(|never| match never {}),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Call(body) => body.is_end_stream(),
            Self::OpenFaas(body) => body.is_end_stream(),
            Self::Control(body) | Self::Open(body, _) => body.is_end_stream(),
            Self::Full(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Call(body) => body.size_hint(),
            Self::OpenFaas(body) => body.size_hint(),
            Self::Control(body) | Self::Open(body, _) => body.size_hint(),
            Self::Full(body) => body.size_hint(),
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test]
    async fn what_has_no_end_ends_with_the_server() {
        let stop = CancellationToken::new();
        let endless = futures_util::stream::pending::<Result<Bytes, std::io::Error>>();
        let body = ServerBody::control(axum::body::Body::from_stream(endless), &stop);
        let reading = tokio::spawn(body.collect());
        tokio::task::yield_now().await;
        assert!(!reading.is_finished());
        stop.cancel();
        assert!(reading.await.unwrap().unwrap().to_bytes().is_empty());
        // A whole one is told whole, whenever.
        let body = ServerBody::control(axum::body::Body::from("whole"), &stop);
        assert_eq!(body.collect().await.unwrap().to_bytes(), "whole");
    }
}
