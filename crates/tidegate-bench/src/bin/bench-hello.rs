//! A server that answers `hello` to everything: the ceiling, and the function that Tidegate is put before.
//!
//! Listens on the port in its first argument, else on `$PORT`.

#![forbid(unsafe_code)]

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http::{HeaderValue, Response, header::CONTENT_TYPE};
use http_body_util::Full;

fn main() -> Result<()> {
    let port = std::env::args()
        .nth(1)
        .or_else(|| std::env::var("PORT").ok())
        .context("no port; expected it as an argument or in PORT")?;
    let port = port
        .parse()
        .with_context(|| format!("port is {port:?}; expected a number up to 65535"))?;
    tidegate_bench::serve(port, |_| async {
        let mut answer = Response::new(Full::new(Bytes::from_static(b"hello\n")));
        answer
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        answer
    })
}
