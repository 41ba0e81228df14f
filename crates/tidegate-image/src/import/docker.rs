//! Archives as `docker save` made them before it wrote layouts: a list of images, their configurations, their layers' tars.

use serde::Deserialize;

use super::{Found, Import, MAX_IMAGES, Place, Things, lacks};
use crate::digest::Hashing;
use crate::manifest::{Described, Descriptor, Manifest, OCI_CONFIG, OCI_LAYER, OCI_MANIFEST};
use crate::{Error, ImageDigest, Reference};

/// What lists the images.
pub(super) const LIST: &str = "manifest.json";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// The images of such an archive. They have no manifests: each is given the one that it would have if its layers were pushed
/// as they are, so that the same archive always makes the same image.
pub(super) fn find(import: &Import, things: &dyn Things, list: &[u8]) -> Result<Vec<Found>, Error> {
    let what = || format!("{LIST} of {}", things.shown());
    let list: Vec<Listed> =
        serde_json::from_slice(list).map_err(|e| Error::invalid(what(), e.to_string()))?;
    if list.is_empty() {
        return Err(Error::invalid(what(), "it has no images"));
    }
    if list.len() > MAX_IMAGES {
        return Err(Error::TooLarge {
            what: what(),
            limit: MAX_IMAGES as u64,
            unit: "images",
        });
    }
    list.into_iter()
        .map(|listed| {
            let config = import
                .small(things, &listed.config)?
                .ok_or_else(|| lacks(things, &listed.config))?;
            found(import, things, listed, config)
        })
        .collect()
}

fn found(
    import: &Import,
    things: &dyn Things,
    listed: Listed,
    config: Vec<u8>,
) -> Result<Found, Error> {
    let tags = listed.repo_tags.unwrap_or_default();
    let names: Vec<Reference> = tags.iter().filter_map(|tag| tag.parse().ok()).collect();
    let shown = tags.first().cloned().unwrap_or_else(|| things.shown());
    let described = Described::parse(&config, &shown)?;
    let settings = &import.shared.settings;
    described.check(&shown, listed.layers.len(), &settings.platform)?;
    if listed.layers.len() > settings.max_layers {
        return Err(Error::TooLarge {
            what: format!("image {shown}"),
            limit: settings.max_layers as u64,
            unit: "layers",
        });
    }
    let mut layers = Vec::new();
    for name in &listed.layers {
        // A layer may be compressed, and then its digest is not its diff id: it is read once more than it has to be.
        let thing = things.open(name)?.ok_or_else(|| lacks(things, name))?;
        let mut thing = Hashing::new(thing);
        let size = std::io::copy(&mut thing, &mut std::io::sink())
            .map_err(|e| Error::invalid(format!("{name} of {}", things.shown()), e.to_string()))?;
        import.wanted.check()?;
        layers.push((name.clone(), thing.into_parts().0, size));
    }
    let manifest = Manifest {
        schema_version: 2,
        media_type: OCI_MANIFEST.to_owned(),
        config: Descriptor::new(OCI_CONFIG, ImageDigest::of(&config), config.len() as u64),
        layers: layers
            .iter()
            .map(|(_, digest, size)| Descriptor::new(OCI_LAYER, digest.clone(), *size))
            .collect(),
    };
    manifest.check(&shown, settings)?;
    let manifest = manifest.bytes();
    Ok(Found {
        digest: ImageDigest::of(&manifest),
        manifest,
        config,
        names,
        layers: layers
            .into_iter()
            .map(|(name, digest, size)| Place {
                name,
                announced: Some((digest, size)),
            })
            .collect(),
    })
}
