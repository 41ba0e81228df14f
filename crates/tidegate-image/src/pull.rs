//! From a registry to this machine.
//!
//! A name becomes a manifest, the manifest its layers: each is fetched to a file, three at a time, checked, and unpacked on a
//! thread of its own while the next come. Who wants a layer that another pull is at waits for it. When the caller drops the
//! future, nothing goes on but what a thread has in hand, which looks whether it is still wanted.

use std::fs::File;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, StreamExt as _, stream};
use tokio::sync::RwLock;

use crate::error::at;
use crate::images::Shared;
use crate::manifest::{Described, Descriptor, Document, Manifest};
use crate::registry::{Registry, check};
use crate::store::{Parts, Rubbish};
use crate::unpack::{Budget, Wanted};
use crate::{Credentials, Error, Event, Image, ImageDigest, Progress, Reference};

/// Layers of one image that are fetched or unpacked at a time, as other tools do: more gains nothing on one line.
const AT_A_TIME: usize = 3;

/// An image on its way.
struct Coming {
    shared: Arc<Shared>,
    registry: Registry,
    progress: Arc<dyn Progress>,
    budget: Arc<Budget>,
    of: usize,
    /// Shared by the threads that unpack for it, so that whoever has it alone knows that all of them have ended.
    at_work: Arc<RwLock<()>>,
}

pub(crate) async fn pull(
    shared: &Arc<Shared>,
    reference: &Reference,
    credentials: &Credentials,
    progress: Arc<dyn Progress>,
) -> Result<Image, Error> {
    let settings = Arc::new(shared.settings.clone());
    let registry = Registry::new(
        reference,
        credentials,
        &shared.clients,
        settings,
        Arc::clone(&progress),
    )?;
    let name = reference.to_string();
    let (digest, bytes, manifest) = resolve(&registry, reference, shared).await?;
    manifest.check(&name, &shared.settings)?;
    progress.report(Event::Resolved {
        digest: digest.clone(),
        layers: manifest.layers.len(),
        size: manifest.layers.iter().map(|layer| layer.size).sum(),
    });
    if shared.store.get(&digest).is_err() {
        let config = registry
            .small_blob(&manifest.config.digest, &format!("configuration of {name}"))
            .await?;
        let described = Described::parse(&config, &name)?;
        described.check(&name, manifest.layers.len(), &shared.settings.platform)?;
        enough_room(shared, &manifest, &described)?;
        let pins = shared.store.pin(&described.diff_ids);
        let coming = Coming {
            shared: Arc::clone(shared),
            registry,
            progress: Arc::clone(&progress),
            budget: Arc::new(Budget::new(name.clone(), &shared.settings)),
            of: manifest.layers.len(),
            at_work: Arc::default(),
        };
        let whole = async {
            coming.layers(&manifest, &described).await?;
            let (store, digest) = (Arc::clone(shared), digest.clone());
            blocking(move || {
                store.store.keep(&Parts {
                    digest: &digest,
                    manifest: &bytes,
                    config: &config,
                })
            })
            .await
        };
        let outcome = whole.await;
        drop(pins);
        if let Err(error) = outcome {
            // They look whether they are still wanted, and nobody waits for them any more.
            drop(coming.at_work.write().await);
            clean_up(shared, &error, &manifest, described.diff_ids).await;
            return Err(error);
        }
    }
    let (named, of, wanted) = (Arc::clone(shared), digest.clone(), reference.clone());
    blocking(move || named.store.name(&wanted, &of)).await?;
    let image = shared.store.get(&digest)?;
    progress.report(Event::Done {
        digest,
        size: image.size,
    });
    Ok(image)
}

/// The manifest for this machine that a name stands for, and its digest.
async fn resolve(
    registry: &Registry,
    reference: &Reference,
    shared: &Shared,
) -> Result<(ImageDigest, Vec<u8>, Manifest), Error> {
    let name = reference.to_string();
    let bytes = registry.manifest(reference.wanted()).await?;
    let what = || format!("manifest of {name}");
    if let Some(expected) = reference.digest() {
        check(&bytes, expected, &what())?;
    }
    let (bytes, document) = match Document::parse(&bytes, &name)? {
        Document::Index(index) => {
            let chosen = index.choose(&shared.settings.platform, &name)?;
            let bytes = registry.manifest(chosen.digest.as_str()).await?;
            check(&bytes, &chosen.digest, &what())?;
            let document = Document::parse(&bytes, &name)?;
            (bytes, document)
        }
        document @ Document::Manifest(_) => (bytes, document),
    };
    match document {
        Document::Manifest(manifest) => Ok((ImageDigest::of(&bytes), bytes, manifest)),
        Document::Index(_) => Err(Error::invalid(what(), "an index in an index")),
    }
}

/// Refuses what cannot fit before any of it comes. Layers take at least as much unpacked as they do compressed.
fn enough_room(shared: &Shared, manifest: &Manifest, described: &Described) -> Result<(), Error> {
    let missing: u64 = manifest
        .layers
        .iter()
        .zip(&described.diff_ids)
        .filter(|(_, id)| shared.store.layer(id).is_none())
        .map(|(layer, _)| layer.size)
        .sum();
    if missing > shared.store.room()? {
        return Err(Error::NoSpace {
            path: shared.store.root().to_owned(),
        });
    }
    Ok(())
}

impl Coming {
    async fn layers(&self, manifest: &Manifest, described: &Described) -> Result<(), Error> {
        // Boxed, and collected: the compiler cannot tell of a lazy one that it may be sent to another thread.
        let all: Vec<BoxFuture<'_, Result<(), Error>>> = manifest
            .layers
            .iter()
            .zip(&described.diff_ids)
            .enumerate()
            .map(|(index, (layer, diff_id))| self.layer(index, layer, diff_id).boxed())
            .collect();
        let mut coming = stream::iter(all).buffer_unordered(AT_A_TIME);
        while let Some(layer) = coming.next().await {
            layer?;
        }
        Ok(())
    }

    async fn layer(
        &self,
        index: usize,
        descriptor: &Descriptor,
        diff_id: &ImageDigest,
    ) -> Result<(), Error> {
        let locks = &self.shared.locks;
        let of_layer = locks.lock(diff_id).await;
        if let Some(made) = self.shared.store.layer(diff_id) {
            self.progress.report(Event::Exists { layer: index });
            return self.budget.take(made.size, made.entries);
        }
        // One blob said to be two layers is a lie, but not one to trip over. Always locked second, so nobody waits in a ring.
        let of_blob = self.shared.blob_locks.lock(&descriptor.digest).await;
        self.progress.report(Event::Layer {
            index,
            of: self.of,
            size: descriptor.size,
        });
        let part = self.shared.store.part(&descriptor.digest);
        self.registry.blob(descriptor, index, &part).await?;
        self.progress.report(Event::Unpacking { layer: index });
        let (waiting, wanted) = Wanted::new();
        let (shared, budget) = (Arc::clone(&self.shared), Arc::clone(&self.budget));
        let pins = self.shared.store.pin(std::slice::from_ref(diff_id));
        let diff_id = diff_id.clone();
        let at_work = Arc::clone(&self.at_work).read_owned().await;
        let made = blocking(move || {
            // Held here, because this goes on for a while after whoever waited has gone.
            let _held = (of_layer, of_blob, pins, at_work);
            let compressed = File::open(&part).map_err(at(&part))?;
            let made = shared.store.unpack(compressed, &diff_id, &budget, &wanted);
            // Of what is wrong nothing is kept, and of what is done neither.
            if !matches!(made, Err(Error::Interrupted)) {
                std::fs::remove_file(&part).map_err(at(&part))?;
            }
            made
        })
        .await?;
        drop(waiting);
        self.progress.report(Event::Unpacked {
            layer: index,
            size: made.size,
            skipped: made.skipped,
        });
        Ok(())
    }
}

/// After a failure. What another attempt can go on with stays, unless the failure would be the same again, or the disk is
/// full.
async fn clean_up(
    shared: &Arc<Shared>,
    error: &Error,
    manifest: &Manifest,
    layers: Vec<ImageDigest>,
) {
    if matches!(error, Error::Unreachable { .. } | Error::Interrupted) {
        return;
    }
    let shared = Arc::clone(shared);
    let blobs: Vec<ImageDigest> = manifest
        .layers
        .iter()
        .map(|layer| layer.digest.clone())
        .collect();
    let done = blocking(move || {
        for blob in &blobs {
            let Some(_free) = shared.blob_locks.try_lock(blob) else {
                continue;
            };
            let part = shared.store.part(blob);
            if part.exists() {
                std::fs::remove_file(&part).map_err(at(&part))?;
            }
        }
        let mut rubbish = Rubbish::default();
        let dropped = shared.store.drop_layers(Some(&layers), &mut rubbish);
        rubbish.delete()?;
        dropped.map(drop)
    });
    if let Err(e) = done.await {
        tracing::warn!(error = %e, "could not clean up after a pull that failed");
    }
}

/// Runs what blocks on a thread for that.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work)
        .await
        // A panic is a bug that has been told; otherwise the runtime is going down.
        .unwrap_or(Err(Error::Interrupted))
}
