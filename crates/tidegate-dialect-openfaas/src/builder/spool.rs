//! A context on its way to the disk.

use std::error::Error as _;
use std::path::Path;

use axum::body::Body;
use futures_util::StreamExt as _;
use tidegate_openfaas::build::Signer;
use tokio::io::AsyncWriteExt as _;

use super::MAX_CONTEXT_BYTES;

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
    mut signer: Option<(Signer, &str)>,
) -> Result<(), Refused> {
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
