//! Small public documents from anywhere: lists of what others published.

use std::time::Duration;

use reqwest::Url;
use reqwest::redirect::Policy;

use super::{CONNECT, Error, body};
use crate::credentials;

/// Largest document in bytes; the largest list known has some hundred KiB.
const MAX_DOCUMENT: usize = 4 << 20;

/// How long it may take.
const WHOLE: Duration = Duration::from_secs(30);

/// Redirects followed: from a short address to a mirror, and once more.
const REDIRECTS: usize = 5;

/// Fetches a document, without a key.
pub(crate) async fn fetch(url: &str) -> Result<Vec<u8>, Error> {
    let parsed = Url::parse(url).ok().filter(|u| {
        matches!(u.scheme(), "http" | "https") && u.host_str().is_some_and(|h| !h.is_empty())
    });
    let Some(parsed) = parsed else {
        return Err(Error::Url {
            url: url.chars().take(200).collect(),
            why: "is no address of a document",
        });
    };
    // An error means that one is installed, which is all that is wanted.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("tidegate/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT)
        .timeout(WHOLE)
        .redirect(Policy::limited(REDIRECTS));
    if credentials::is_loopback(&parsed) {
        builder = builder.no_proxy();
    }
    let http = builder.build().map_err(Error::Setup)?;
    let failed = |e| Error::transport(url.to_owned(), Some(WHOLE), e);
    let response = http.get(parsed).send().await.map_err(failed)?;
    let status = response.status();
    if !status.is_success() {
        return Err(Error::bare(status));
    }
    let bytes = body::read(url.to_owned(), response, MAX_DOCUMENT).await?;
    Ok(bytes.to_vec())
}
