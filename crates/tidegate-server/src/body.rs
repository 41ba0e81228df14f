//! Bodies of all answers the listener gives.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Response;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use tidegate_dialect_openfaas::{CountedBody, LastWords};
use tidegate_platform::CallBody;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// The body of an answer: an enum, so that a call's needs no box.
pub(crate) enum ServerBody {
    Call(CallBody),
    OpenFaas(CountedBody),
    Control(axum::body::Body),
    Open(OpenBody),
    Full(Full<Bytes>),
}

/// A body whose end is not known, such as a log that is followed: it ends with the server, which would else wait for it.
pub(crate) struct OpenBody {
    body: axum::body::Body,
    stop: Pin<Box<WaitForCancellationFutureOwned>>,
    /// What it says before that.
    last: Option<Bytes>,
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

impl ServerBody {
    /// The body of a control route's answer.
    pub(crate) fn control(
        mut response: Response<axum::body::Body>,
        stop: &CancellationToken,
    ) -> Response<Self> {
        let last = response.extensions_mut().remove::<LastWords>();
        response.map(|body| match body.size_hint().exact() {
            Some(_) => Self::Control(body),
            None => Self::Open(OpenBody {
                body,
                stop: Box::pin(stop.clone().cancelled_owned()),
                last: last.map(|LastWords(words)| words),
            }),
        })
    }
}

impl OpenBody {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.stop.as_mut().poll(cx).is_pending() {
            return Pin::new(&mut self.body).poll_frame(cx).map_err(Into::into);
        }
        // It may have come to its own end.
        if self.last.is_some()
            && let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx)
        {
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        Poll::Ready(self.last.take().map(|words| Ok(Frame::data(words))))
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
            Self::Open(body) => body.poll(cx),
            Self::Full(body) => Pin::new(body)
                .poll_frame(cx)
                .map_err(|never| match never {}),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Call(body) => body.is_end_stream(),
            Self::OpenFaas(body) => body.is_end_stream(),
            Self::Control(body) | Self::Open(OpenBody { body, .. }) => body.is_end_stream(),
            Self::Full(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Call(body) => body.size_hint(),
            Self::OpenFaas(body) => body.size_hint(),
            Self::Control(body) | Self::Open(OpenBody { body, .. }) => body.size_hint(),
            Self::Full(body) => body.size_hint(),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt as _;
    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test]
    async fn what_has_no_end_ends_with_the_server() {
        let stop = CancellationToken::new();
        let endless = futures_util::stream::pending::<Result<Bytes, std::io::Error>>();
        let response = Response::new(axum::body::Body::from_stream(endless));
        let body = ServerBody::control(response, &stop).into_body();
        let reading = tokio::spawn(body.collect());
        tokio::task::yield_now().await;
        assert!(!reading.is_finished());
        stop.cancel();
        assert!(reading.await.unwrap().unwrap().to_bytes().is_empty());
        // A whole one is told whole, whenever.
        let response = Response::new(axum::body::Body::from("whole"));
        let body = ServerBody::control(response, &stop).into_body();
        assert_eq!(body.collect().await.unwrap().to_bytes(), "whole");
    }

    #[tokio::test]
    async fn what_must_not_just_end_says_so_before_it_does() {
        let said = async |frames: &[&'static str], pending: bool| {
            let stop = CancellationToken::new();
            stop.cancel();
            let frames: Vec<_> = frames.iter().map(|f| Ok(Bytes::from(*f))).collect();
            let frames = futures_util::stream::iter(frames);
            let rest = futures_util::stream::pending::<Result<Bytes, std::io::Error>>();
            let rest = rest.take(usize::from(pending));
            let body = axum::body::Body::from_stream(frames.chain(rest));
            let mut response = Response::new(body);
            response
                .extensions_mut()
                .insert(LastWords(Bytes::from_static(b"cut")));
            let body = ServerBody::control(response, &stop).into_body();
            body.collect().await.unwrap().to_bytes()
        };
        assert_eq!(said(&["one ", "two "], true).await, "one two cut");
        // Unless it came to its own.
        assert_eq!(said(&["one ", "done"], false).await, "one done");
    }
}
