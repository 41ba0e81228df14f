//! A context on its way to the disk.

use std::error::Error as _;
use std::path::Path;
use std::time::Duration;

use axum::body::Body;
use futures_util::StreamExt as _;
use tidegate_openfaas::build::Signer;
use tokio::io::AsyncWriteExt as _;

use super::MAX_CONTEXT_BYTES;

/// Longest time that a context may take to arrive. It has a place among few, and whose it is is known at its end only.
const MAX_TIME: Duration = Duration::from_secs(10 * 60);

/// Why a context is not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    /// Nobody who knows the secret has signed it.
    #[error("the signature is missing or wrong")]
    Signature,
    /// Larger than [`MAX_CONTEXT_BYTES`].
    #[error(
        "the build context is larger than {} MiB; leave out of the handler's folder what it does not need",
        MAX_CONTEXT_BYTES >> 20
    )]
    TooLarge,
    /// It came too slowly.
    #[error(
        "the build context did not arrive within {} minutes",
        MAX_TIME.as_secs() / 60
    )]
    Slow,
    /// It did not come whole.
    #[error("the build context did not arrive: {0}")]
    Body(String),
    /// The machine's disk.
    #[error("the build context cannot be written: {0}")]
    Disk(#[from] std::io::Error),
}

/// Writes the body to a file, and says whether it is one to look at. The signer comes with the signature that was sent; it is
/// compared when all is there, since a client that is answered earlier may be writing still and not see it.
pub(super) async fn spool(
    body: Body,
    to: &Path,
    signer: Option<(Signer, &str)>,
) -> Result<(), Refused> {
    let written = tokio::time::timeout(MAX_TIME, write(body, to, signer)).await;
    written.unwrap_or(Err(Refused::Slow))
}

async fn write(body: Body, to: &Path, mut signer: Option<(Signer, &str)>) -> Result<(), Refused> {
    let mut file = tokio::fs::File::create_new(to).await?;
    let mut body = body.into_data_stream();
    let mut size = 0_u64;
    while let Some(part) = body.next().await {
        let part = part.map_err(|error| Refused::Body(told(&error)))?;
        size = size.saturating_add(part.len() as u64);
        if size > MAX_CONTEXT_BYTES {
            return Err(Refused::TooLarge);
        }
        if let Some((signer, _)) = &mut signer {
            signer.update(&part);
        }
        file.write_all(&part).await?;
    }
    file.flush().await?;
    let signed = signer.is_none_or(|(signer, given)| signer.matches(given));
    signed.then_some(()).ok_or(Refused::Signature)
}

/// An error that comes wrapped in those of the libraries that passed it on.
fn told(error: &axum::Error) -> String {
    match error.source() {
        Some(source) => source.to_string(),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_context_that_drips_is_given_up() {
        let folder = tempfile::tempdir().unwrap();
        let drops = futures_util::stream::unfold((), async |()| {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Some((Ok::<_, std::io::Error>(Bytes::from_static(b"x")), ()))
        });
        let body = Body::from_stream(drops);
        let began = tokio::time::Instant::now();
        let refused = spool(body, &folder.path().join("x"), None).await;
        assert!(matches!(refused, Err(Refused::Slow)), "{refused:?}");
        assert!(began.elapsed() < MAX_TIME * 2);
    }
}
