//! From this machine's own files: a layout, an archive of one, an archive as `docker save` makes it, or a folder.
//!
//! All of them become the same, a list of things by name (`Things`), out of which images are read. A layer goes from there
//! through the decoder to its folder in one pass, with both of its digests made on the way.

mod archive;
mod docker;
mod folder;

use std::fs::File;
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use crate::digest::Hashing;
use crate::error::at;
use crate::images::Shared;
use crate::manifest::{Described, Descriptor, Document, Manifest};
use crate::pull::blocking;
use crate::store::{Parts, Rubbish};
use crate::unpack::{Budget, Wanted};
use crate::{Error, Event, Image, ImageDigest, Progress, Reference, Source};

/// Most images of one archive or layout.
const MAX_IMAGES: usize = 64;
/// How deep an index may stand in another.
const MAX_NESTING: usize = 3;
/// Where layouts list their images.
const INDEX: &str = "index.json";
/// What a layout is known by.
const LAYOUT: &str = "oci-layout";
/// Where layouts keep the name of an image: the tag alone, or all of it.
const NAMES: [&str; 2] = [
    "io.containerd.image.name",
    "org.opencontainers.image.ref.name",
];

/// Things to read, by the path that they have in a layout or archive.
trait Things: Send {
    /// Nothing where there is none of the name.
    fn open(&self, name: &str) -> Result<Option<Box<dyn Read + Send>>, Error>;
    /// For messages.
    fn shown(&self) -> String;
}

/// An image that has been found: its documents, and where its layers are.
struct Found {
    digest: ImageDigest,
    manifest: Vec<u8>,
    config: Vec<u8>,
    names: Vec<Reference>,
    layers: Vec<Place>,
}

/// Where a layer is.
struct Place {
    name: String,
    /// Of it as it lies there, and its size; where its manifest tells.
    announced: Option<(ImageDigest, u64)>,
}

pub(crate) async fn import(
    shared: &Arc<Shared>,
    source: Source,
    name: Option<Reference>,
    progress: Arc<dyn Progress>,
) -> Result<Vec<Image>, Error> {
    let (waiting, wanted) = Wanted::new();
    let shared = Arc::clone(shared);
    let images = blocking(move || {
        let import = Import {
            shared,
            progress,
            wanted,
        };
        import.run(source, name.as_ref())
    })
    .await;
    drop(waiting);
    images
}

struct Import {
    shared: Arc<Shared>,
    progress: Arc<dyn Progress>,
    wanted: Wanted,
}

impl Import {
    fn run(&self, source: Source, name: Option<&Reference>) -> Result<Vec<Image>, Error> {
        // What archives are expanded to, or folders packed to, on the way.
        let scratch = self.shared.store.scratch()?;
        let limit = self.shared.settings.max_image_bytes.saturating_mul(2);
        let things: Box<dyn Things> = match source {
            Source::Layout(path) => Box::new(Layout(path)),
            Source::Archive(path) => Box::new(archive::Archive::open(
                &path,
                scratch.path(),
                limit,
                &self.wanted,
            )?),
            Source::Folder(path) => {
                let platform = &self.shared.settings.platform;
                let (found, packed) =
                    folder::pack(&path, scratch.path(), limit, platform, &self.wanted)?;
                let image = self.image(found, &packed, name)?;
                return Ok(vec![image]);
            }
        };
        let found = if self.small(&*things, LAYOUT)?.is_some() {
            self.layout(&*things)?
        } else if let Some(list) = self.small(&*things, docker::LIST)? {
            docker::find(self, &*things, &list)?
        } else {
            return Err(Error::invalid(
                things.shown(),
                "it is neither an OCI image layout nor an archive of docker save",
            ));
        };
        if let (Some(name), [only]) = (name, &found[..])
            && let Some(digest) = name.digest()
            && *digest != only.digest
        {
            return Err(Error::Digest {
                what: format!("the image of {}", things.shown()),
                expected: digest.clone(),
                found: only.digest.clone(),
            });
        }
        if found.len() > 1 && name.is_some() {
            return Err(Error::invalid(
                things.shown(),
                format!("it has {} images, and one name was given", found.len()),
            ));
        }
        found
            .into_iter()
            .map(|found| self.image(found, &*things, name))
            .collect()
    }

    /// A document.
    fn small(&self, things: &dyn Things, name: &str) -> Result<Option<Vec<u8>>, Error> {
        let Some(thing) = things.open(name)? else {
            return Ok(None);
        };
        let most = self.shared.settings.max_manifest_bytes;
        let what = || format!("{name} of {}", things.shown());
        let mut content = Vec::new();
        thing
            .take(most as u64 + 1)
            .read_to_end(&mut content)
            .map_err(|e| Error::invalid(what(), e.to_string()))?;
        if content.len() > most {
            return Err(crate::manifest::too_large(what(), &self.shared.settings));
        }
        Ok(Some(content))
    }

    fn blob(&self, things: &dyn Things, digest: &ImageDigest) -> Result<Vec<u8>, Error> {
        let name = blob_name(digest);
        let content = self
            .small(things, &name)?
            .ok_or_else(|| lacks(things, &name))?;
        crate::registry::check(&content, digest, &format!("{name} of {}", things.shown()))?;
        Ok(content)
    }

    fn layout(&self, things: &dyn Things) -> Result<Vec<Found>, Error> {
        let index = self
            .small(things, INDEX)?
            .ok_or_else(|| lacks(things, INDEX))?;
        let Document::Index(index) = Document::parse(&index, &things.shown())? else {
            return Err(Error::invalid(things.shown(), "its index is none"));
        };
        let (mut found, mut others) = (Vec::new(), None);
        for descriptor in &index.manifests {
            if found.len() >= MAX_IMAGES {
                return Err(Error::TooLarge {
                    what: things.shown(),
                    limit: MAX_IMAGES as u64,
                    unit: "images",
                });
            }
            match self.found(things, descriptor, MAX_NESTING) {
                Ok(one) => found.push(one),
                // Images for other machines beside ours are passed over, alone they are the answer.
                Err(error @ Error::Architecture { .. }) => others = Some(error),
                Err(error) => return Err(error),
            }
        }
        match (found.is_empty(), others) {
            (false, _) => Ok(found),
            (true, Some(error)) => Err(error),
            (true, None) => Err(Error::invalid(things.shown(), "it has no images")),
        }
    }

    fn found(
        &self,
        things: &dyn Things,
        descriptor: &Descriptor,
        nesting: usize,
    ) -> Result<Found, Error> {
        let names = names_of(descriptor);
        let shown = names
            .first()
            .map_or_else(|| descriptor.digest.to_string(), ToString::to_string);
        let bytes = self.blob(things, &descriptor.digest)?;
        let manifest = match Document::parse(&bytes, &shown)? {
            Document::Manifest(manifest) => manifest,
            Document::Index(_) if nesting == 0 => {
                return Err(Error::invalid(
                    things.shown(),
                    "its indexes are nested too deep",
                ));
            }
            Document::Index(index) => {
                let chosen = index.choose(&self.shared.settings.platform, &shown)?;
                let mut found = self.found(things, chosen, nesting - 1)?;
                found.names.extend(names);
                return Ok(found);
            }
        };
        manifest.check(&shown, &self.shared.settings)?;
        let config = self.blob(things, &manifest.config.digest)?;
        Described::parse(&config, &shown)?.check(
            &shown,
            manifest.layers.len(),
            &self.shared.settings.platform,
        )?;
        Ok(Found {
            digest: descriptor.digest.clone(),
            manifest: bytes,
            config,
            names,
            layers: places(&manifest),
        })
    }

    /// Unpacks what is missing of an image, and keeps it.
    fn image(
        &self,
        found: Found,
        things: &dyn Things,
        name: Option<&Reference>,
    ) -> Result<Image, Error> {
        let shown = found.digest.to_string();
        let described = Described::parse(&found.config, &shown)?;
        self.progress.report(Event::Resolved {
            digest: found.digest.clone(),
            layers: found.layers.len(),
            size: found
                .layers
                .iter()
                .filter_map(|it| Some(it.announced.as_ref()?.1))
                .sum(),
        });
        let pins = self.shared.store.pin(&described.diff_ids);
        let outcome = self.layers(&found, &described, things).and_then(|()| {
            self.shared.store.keep(&Parts {
                digest: &found.digest,
                manifest: &found.manifest,
                config: &found.config,
            })
        });
        drop(pins);
        if let Err(error) = outcome {
            let mut rubbish = Rubbish::default();
            self.shared
                .store
                .drop_layers(Some(&described.diff_ids), &mut rubbish)?;
            rubbish.delete()?;
            return Err(error);
        }
        let names = match name {
            Some(name) => std::slice::from_ref(name),
            None => &found.names[..],
        };
        // Nobody has verified that another digest stands for this image, and whoever asks for it relies on that.
        let is_true = |name: &&Reference| name.digest().is_none_or(|it| *it == found.digest);
        for name in names.iter().filter(is_true) {
            self.shared.store.name(name, &found.digest)?;
        }
        let image = self.shared.store.get(&found.digest)?;
        self.progress.report(Event::Done {
            digest: found.digest,
            size: image.size,
        });
        Ok(image)
    }

    fn layers(
        &self,
        found: &Found,
        described: &Described,
        things: &dyn Things,
    ) -> Result<(), Error> {
        let budget = Budget::new(found.digest.to_string(), &self.shared.settings);
        for (index, (place, diff_id)) in found.layers.iter().zip(&described.diff_ids).enumerate() {
            let _held = self.shared.locks.lock_blocking(diff_id);
            if let Some(made) = self.shared.store.layer(diff_id) {
                self.progress.report(Event::Exists { layer: index });
                budget.take(made.size, made.entries)?;
                continue;
            }
            let size = place.announced.as_ref().map(|(_, size)| *size);
            self.progress.report(Event::Layer {
                index,
                of: found.layers.len(),
                size: size.unwrap_or(0),
            });
            self.progress.report(Event::Unpacking { layer: index });
            let thing = things
                .open(&place.name)?
                .ok_or_else(|| lacks(things, &place.name))?;
            let mut thing = Hashing::new(thing.take(size.unwrap_or(u64::MAX)));
            let made = self
                .shared
                .store
                .unpack(&mut thing, diff_id, &budget, &self.wanted);
            let (compressed, _) = thing.into_parts();
            // Of a layer that is not what was announced, that is what is wrong, however far its unpacking came.
            if let Some((expected, _)) = &place.announced
                && made.is_ok()
                && compressed != *expected
            {
                return Err(Error::Digest {
                    what: format!("{} of {}", place.name, things.shown()),
                    expected: expected.clone(),
                    found: compressed,
                });
            }
            let made = made?;
            self.progress.report(Event::Unpacked {
                layer: index,
                size: made.size,
                skipped: made.skipped,
            });
        }
        Ok(())
    }
}

/// A folder in the OCI image layout.
struct Layout(PathBuf);

impl Things for Layout {
    fn open(&self, name: &str) -> Result<Option<Box<dyn Read + Send>>, Error> {
        // In a folder that 'docker save' was unpacked to, names come from its list. A link that stands in a layout leads to
        // what has the digest, or to an error.
        if !Path::new(name)
            .components()
            .all(|part| matches!(part, Component::Normal(_)))
        {
            return Err(Error::invalid(
                self.shown(),
                format!("it names {name:?}, which is not below it"),
            ));
        }
        let path = self.0.join(name);
        match File::open(&path) {
            Ok(file) => Ok(Some(Box::new(file))),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(at(&path)(e)),
        }
    }

    fn shown(&self) -> String {
        self.0.display().to_string()
    }
}

fn blob_name(digest: &ImageDigest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn places(manifest: &Manifest) -> Vec<Place> {
    manifest
        .layers
        .iter()
        .map(|layer| Place {
            name: blob_name(&layer.digest),
            announced: Some((layer.digest.clone(), layer.size)),
        })
        .collect()
}

fn lacks(things: &dyn Things, name: &str) -> Error {
    Error::invalid(things.shown(), format!("it lacks {name}"))
}

/// Full names that are written beside a descriptor. A tag alone names nothing.
fn names_of(descriptor: &Descriptor) -> Vec<Reference> {
    NAMES
        .iter()
        .filter_map(|key| descriptor.annotations.get(*key))
        .find(|name| name.contains(['/', ':']))
        .and_then(|name| name.parse().ok())
        .into_iter()
        .collect()
}
