//! Bodies in both directions, bounded.

use std::io::Read;

use bytes::{Buf as _, Bytes, BytesMut};
use futures_util::stream;
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use reqwest::{Body, Request, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tidegate_document::ErrorBody;

use super::Error;

/// Largest document in bytes: a page of functions with long environments.
pub(super) const MAX_DOCUMENT: usize = 64 << 20;

/// Largest error in bytes. A message is one line; a proxy's error page is some KiB.
pub(crate) const MAX_ERROR: usize = 64 << 10;

/// Longest line of a stream in bytes: a function's document, or a line of a log, with room to spare.
const MAX_LINE: usize = 4 << 20;

/// Bytes sent at a time.
const CHUNK: usize = 64 << 10;

/// Lines of JSON as they come.
pub(crate) struct Lines {
    url: String,
    response: Response,
    buffer: BytesMut,
    /// How much of the buffer is known to have no line end.
    searched: usize,
}

impl Lines {
    pub(super) fn new(url: String, response: Response) -> Self {
        Self {
            url,
            response,
            buffer: BytesMut::new(),
            searched: 0,
        }
    }

    /// The next line as a document; `None` when the server ended the stream.
    pub(crate) async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, Error> {
        loop {
            if let Some(at) = self.buffer[self.searched..]
                .iter()
                .position(|b| *b == b'\n')
            {
                let line = self.buffer.split_to(self.searched + at);
                self.buffer.advance(1);
                self.searched = 0;
                // A stream that has nothing to say may send empty lines to show that it is alive.
                if line.trim_ascii().is_empty() {
                    continue;
                }
                return self.parse(&line).map(Some);
            }
            self.searched = self.buffer.len();
            if self.buffer.len() > MAX_LINE {
                return Err(Error::TooLarge {
                    url: self.url.clone(),
                    limit: MAX_LINE,
                });
            }
            match self.response.chunk().await {
                Ok(Some(chunk)) => self.buffer.extend_from_slice(&chunk),
                Ok(None) => {
                    let rest = self.buffer.split();
                    self.searched = 0;
                    return if rest.trim_ascii().is_empty() {
                        Ok(None)
                    } else {
                        self.parse(&rest).map(Some)
                    };
                }
                Err(e) => return Err(Error::transport(self.url.clone(), None, e)),
            }
        }
    }

    fn parse<T: DeserializeOwned>(&self, line: &[u8]) -> Result<T, Error> {
        serde_json::from_slice(line).map_err(|source| Error::Unexpected {
            url: self.url.clone(),
            what: "a line that is not the document expected".to_owned(),
            source: Some(source),
        })
    }
}

/// The whole body, if it is no longer than the limit.
pub(super) async fn read(
    url: String,
    mut response: Response,
    limit: usize,
) -> Result<Bytes, Error> {
    let mut bytes = BytesMut::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if bytes.len() + chunk.len() > limit => {
                return Err(Error::TooLarge { url, limit });
            }
            Ok(Some(chunk)) => bytes.extend_from_slice(&chunk),
            Ok(None) => return Ok(bytes.freeze()),
            Err(e) => return Err(Error::transport(url, None, e)),
        }
    }
}

/// Gives a request a document to carry.
pub(super) fn write(
    request: &mut Request,
    url: String,
    document: &impl Serialize,
) -> Result<(), Error> {
    let body = serde_json::to_vec(document).map_err(|source| Error::Unexpected {
        url,
        what: "a document that cannot be written".to_owned(),
        source: Some(source),
    })?;
    *request.body_mut() = Some(body.into());
    request
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(())
}

/// What an answer that is no success says.
pub(super) async fn error(url: String, response: Response) -> Error {
    let status = response.status();
    let bytes = match read(url.clone(), response, MAX_ERROR).await {
        Ok(bytes) => bytes,
        Err(error) => return error,
    };
    match serde_json::from_slice::<ErrorBody>(&bytes) {
        Ok(body) => Error::Answered { status, body },
        Err(_) => Error::Unexpected {
            url,
            what: format!("{status}, without an error as Tidegate writes it"),
            source: None,
        },
    }
}

/// A body read from a local file, a chunk at a time. Reading blocks, which on a thread of one command harms nobody.
pub(super) fn of_reader(
    reader: impl Read + Send + Sync + 'static,
    sent: impl Fn(u64) + Send + Sync + 'static,
) -> Body {
    Body::wrap_stream(stream::unfold(Some((reader, sent)), async |state| {
        let (mut reader, sent) = state?;
        let mut chunk = vec![0; CHUNK];
        match reader.read(&mut chunk) {
            Ok(0) => None,
            Ok(n) => {
                chunk.truncate(n);
                sent(n as u64);
                Some((Ok(Bytes::from(chunk)), Some((reader, sent))))
            }
            Err(e) => Some((Err(e), None)),
        }
    }))
}

/// A body read from a stream that may block for ever, such as a terminal or a pipe: a thread reads, and waits when the
/// network is slower.
pub(crate) fn of_stream(mut reader: impl Read + Send + 'static) -> Body {
    /// Chunks read ahead: enough to keep both sides busy.
    const AHEAD: usize = 4;
    let (tx, rx) = tokio::sync::mpsc::channel::<std::io::Result<Bytes>>(AHEAD);
    // Not joined: it may be blocked in a read that never returns, and ends with the process.
    std::thread::spawn(move || {
        loop {
            let mut chunk = vec![0; CHUNK];
            let item = match reader.read(&mut chunk) {
                Ok(0) => return,
                Ok(n) => {
                    chunk.truncate(n);
                    Ok(Bytes::from(chunk))
                }
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(e) => Err(e),
            };
            let last = item.is_err();
            if tx.blocking_send(item).is_err() || last {
                return;
            }
        }
    });
    Body::wrap_stream(stream::unfold(rx, async |mut rx| {
        let item = rx.recv().await?;
        Some((item, rx))
    }))
}
