//! What is on disk, and the same in memory.
//!
//! ```text
//! layers/HEX/fs           an unpacked layer, by diff id
//! layers/HEX/layer.json   what it has become
//! images/HEX/             manifest.json and config.json, by the manifest's digest
//! names/HEX.json          a name and what it stands for, by the name's digest
//! parts/HEX               as much of a compressed layer as has come
//! scratch/                what is being made or removed
//! empty/                  the lowest layer of all
//! ```
//!
//! Whatever has its place here is whole: it is made in `scratch`, made durable, and renamed. A layer is a folder of many files,
//! so its file system is synced once, not each file. Nothing is ever changed in place, and what is removed is renamed to
//! `scratch` first. So a crash leaves rubbish in `scratch` alone, which the next start throws away. An image is renamed
//! into its place after all its layers, and removed before any.
//!
//! Reading is from memory: what an image consists of is asked at every cold start.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::error::{at, sys};
use crate::manifest::{Described, Document, Manifest};
use crate::unpack::{self, Budget, Made, Wanted};
use crate::{Error, Image, ImageDigest, Layer, Reference};

/// How long what belongs to no image yet is kept over a restart, so that a pull can go on where it was cut off.
const ABANDONED: Duration = Duration::from_secs(24 * 60 * 60);
/// Largest of our own documents when it is read back: manifests and configurations are bounded when they are written.
const MAX_DOCUMENT: u64 = 64 << 20;

pub(crate) struct Store {
    root: PathBuf,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    layers: HashMap<ImageDigest, Made>,
    images: BTreeMap<ImageDigest, Arc<Kept>>,
    names: BTreeMap<String, ImageDigest>,
    /// Layers that somebody is about to use, and how many.
    pins: HashMap<ImageDigest, usize>,
}

/// An image without what may change.
struct Kept {
    described: Described,
}

/// A name, as it is stored.
#[derive(Serialize, Deserialize)]
struct Named {
    name: String,
    digest: ImageDigest,
}

/// Layers that stay while this is held, whether an image has them or not.
pub(crate) struct Pins {
    store: Arc<Store>,
    layers: Vec<ImageDigest>,
}

/// What an image is made of, before it is one.
pub(crate) struct Parts<'a> {
    pub(crate) digest: &'a ImageDigest,
    pub(crate) manifest: &'a [u8],
    pub(crate) config: &'a [u8],
}

/// What is to be deleted, outside of any lock.
#[derive(Default)]
pub(crate) struct Rubbish(Vec<PathBuf>);

impl Store {
    pub(crate) fn open(root: &Path) -> Result<Self, Error> {
        let store = Self {
            root: root.to_owned(),
            state: Mutex::default(),
        };
        fs::create_dir_all(root).map_err(at(root))?;
        let scratch = store.place("scratch");
        if scratch.exists() {
            remove_tree(&scratch)?;
        }
        for name in ["layers", "images", "names", "parts", "scratch", "empty"] {
            let path = store.place(name);
            fs::create_dir_all(&path).map_err(at(&path))?;
        }
        let mut state = State::default();
        store.find_layers(&mut state)?;
        store.find_images(&mut state)?;
        store.find_names(&mut state)?;
        store.forget_abandoned(&mut state)?;
        *store.state.lock() = state;
        Ok(store)
    }

    fn place(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    pub(crate) fn part(&self, blob: &ImageDigest) -> PathBuf {
        self.place("parts").join(blob.hex())
    }

    fn layer_place(&self, diff_id: &ImageDigest) -> PathBuf {
        self.place("layers").join(diff_id.hex())
    }

    fn image_place(&self, digest: &ImageDigest) -> PathBuf {
        self.place("images").join(digest.hex())
    }

    fn name_place(&self, name: &str) -> PathBuf {
        let hex = ImageDigest::of(name.as_bytes());
        self.place("names").join(format!("{}.json", hex.hex()))
    }

    /// A folder that is gone at the end, or at the next start.
    pub(crate) fn scratch(&self) -> Result<Scratch, Error> {
        let path = self.place("scratch");
        let made = tempfile::Builder::new()
            .prefix("")
            .tempdir_in(&path)
            .map_err(at(&path))?;
        Ok(Scratch(made.keep()))
    }

    /// Bytes that the file system has left for this user.
    pub(crate) fn room(&self) -> Result<u64, Error> {
        let stat = rustix::fs::statvfs(&self.root).map_err(sys(&self.root))?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }
}

// === finding what is there ===

impl Store {
    fn find_layers(&self, state: &mut State) -> Result<(), Error> {
        for (hex, path) in entries(&self.place("layers"))? {
            let Ok(diff_id) = format!("sha256:{hex}").parse::<ImageDigest>() else {
                continue;
            };
            match read_json(&path.join("layer.json")) {
                Ok(made) => drop(state.layers.insert(diff_id, made)),
                Err(e) => {
                    tracing::warn!(layer = diff_id.short(), error = %e, "a layer is damaged and is removed");
                    remove_tree(&path)?;
                }
            }
        }
        Ok(())
    }

    fn find_images(&self, state: &mut State) -> Result<(), Error> {
        for (hex, path) in entries(&self.place("images"))? {
            let Ok(digest) = format!("sha256:{hex}").parse::<ImageDigest>() else {
                continue;
            };
            match read_image(&path, &digest) {
                Ok(kept)
                    if kept
                        .described
                        .diff_ids
                        .iter()
                        .all(|id| state.layers.contains_key(id)) =>
                {
                    state.images.insert(digest, Arc::new(kept));
                }
                found => {
                    let error = found.err().map(|e| e.to_string());
                    tracing::warn!(
                        image = digest.short(),
                        ?error,
                        "an image is damaged or lacks layers and is removed"
                    );
                    remove_tree(&path)?;
                }
            }
        }
        Ok(())
    }

    fn find_names(&self, state: &mut State) -> Result<(), Error> {
        for (_, path) in entries(&self.place("names"))? {
            match read_json::<Named>(&path) {
                Ok(named) if state.images.contains_key(&named.digest) => {
                    state.names.insert(named.name, named.digest);
                }
                _ => fs::remove_file(&path).map_err(at(&path))?,
            }
        }
        Ok(())
    }

    fn forget_abandoned(&self, state: &mut State) -> Result<(), Error> {
        let old = |path: &Path| {
            fs::symlink_metadata(path)
                .and_then(|meta| meta.modified())
                .is_ok_and(|then| {
                    SystemTime::now()
                        .duration_since(then)
                        .is_ok_and(|age| age > ABANDONED)
                })
        };
        for (_, path) in entries(&self.place("parts"))? {
            if old(&path) {
                fs::remove_file(&path).map_err(at(&path))?;
            }
        }
        let unused: Vec<ImageDigest> = state
            .layers
            .keys()
            .filter(|id| !state.is_used(id) && old(&self.layer_place(id)))
            .cloned()
            .collect();
        for id in unused {
            remove_tree(&self.layer_place(&id))?;
            state.layers.remove(&id);
        }
        Ok(())
    }
}

impl State {
    fn is_used(&self, layer: &ImageDigest) -> bool {
        self.images
            .values()
            .any(|kept| kept.described.diff_ids.contains(layer))
    }
}

// === asking ===

impl Store {
    pub(crate) fn layer(&self, diff_id: &ImageDigest) -> Option<Made> {
        self.state.lock().layers.get(diff_id).copied()
    }

    pub(crate) fn resolve(&self, reference: &Reference) -> Option<ImageDigest> {
        let state = self.state.lock();
        if let Some(digest) = state.names.get(&reference.to_string()) {
            return Some(digest.clone());
        }
        let digest = reference.digest()?;
        if let Some(found) = state.names.get(&reference.at(digest).to_string()) {
            return Some(found.clone());
        }
        state.images.contains_key(digest).then(|| digest.clone())
    }

    pub(crate) fn get(&self, digest: &ImageDigest) -> Result<Image, Error> {
        let state = self.state.lock();
        match state.images.get(digest) {
            Some(kept) => Ok(state.image(digest, kept)),
            None => Err(absent(digest)),
        }
    }

    pub(crate) fn list(&self) -> Vec<Image> {
        let state = self.state.lock();
        state
            .images
            .iter()
            .map(|(digest, kept)| state.image(digest, kept))
            .collect()
    }

    pub(crate) fn layers(&self, digest: &ImageDigest) -> Result<Vec<PathBuf>, Error> {
        let state = self.state.lock();
        let kept = state.images.get(digest).ok_or_else(|| absent(digest))?;
        let ids = &kept.described.diff_ids;
        // All below a layer that hides everything is hidden.
        let lowest = ids
            .iter()
            .rposition(|id| state.layers.get(id).is_some_and(|made| made.opaque))
            .unwrap_or(0);
        // An overlay needs two layers, and overlooks marks in the lowest.
        Ok([self.place("empty")]
            .into_iter()
            .chain(
                ids[lowest..]
                    .iter()
                    .map(|id| self.layer_place(id).join("fs")),
            )
            .collect())
    }
}

impl State {
    fn image(&self, digest: &ImageDigest, kept: &Kept) -> Image {
        let layers: Vec<Layer> = kept
            .described
            .diff_ids
            .iter()
            .map(|id| Layer {
                diff_id: id.clone(),
                size: self.layers.get(id).map_or(0, |made| made.size),
            })
            .collect();
        Image {
            digest: digest.clone(),
            names: self
                .names
                .iter()
                .filter(|(_, named)| *named == digest)
                .map(|(name, _)| name.clone())
                .collect(),
            config: kept.described.config.clone(),
            size: layers.iter().map(|layer| layer.size).sum(),
            layers,
            created: kept.described.created.clone(),
        }
    }
}

// === making ===

impl Store {
    /// Unpacks a layer into its place.
    pub(crate) fn unpack(
        &self,
        from: impl Read,
        diff_id: &ImageDigest,
        budget: &Budget,
        wanted: &Wanted,
    ) -> Result<Made, Error> {
        let scratch = self.scratch()?;
        // Whoever mounts it may be another user, in a namespace of its own; the data folder is where strangers are kept out.
        fs::set_permissions(scratch.path(), Permissions::from_mode(0o755))
            .map_err(at(scratch.path()))?;
        let made = unpack::unpack(from, &scratch.path().join("fs"), diff_id, budget, wanted)?;
        write_json(&scratch.path().join("layer.json"), &made)?;
        wanted.check()?;
        sync_all(scratch.path())?;
        let place = self.layer_place(diff_id);
        let mut state = self.state.lock();
        if !state.layers.contains_key(diff_id) {
            scratch.put(&place)?;
            state.layers.insert(diff_id.clone(), made);
        }
        drop(state);
        sync_folder(&self.place("layers"))?;
        Ok(made)
    }

    /// Keeps an image whose layers are there.
    pub(crate) fn keep(&self, parts: &Parts<'_>) -> Result<(), Error> {
        let described = Described::parse(parts.config, parts.digest.as_str())?;
        if self.state.lock().images.contains_key(parts.digest) {
            return Ok(());
        }
        let scratch = self.scratch()?;
        for (name, content) in [
            ("manifest.json", parts.manifest),
            ("config.json", parts.config),
        ] {
            write_file(&scratch.path().join(name), content)?;
        }
        sync_folder(scratch.path())?;
        let mut state = self.state.lock();
        if let Some(lost) = described
            .diff_ids
            .iter()
            .find(|id| !state.layers.contains_key(*id))
        {
            return Err(Error::NotFound {
                name: parts.digest.to_string(),
                reason: format!("its layer {lost} was removed meanwhile"),
            });
        }
        if !state.images.contains_key(parts.digest) {
            scratch.put(&self.image_place(parts.digest))?;
            state
                .images
                .insert(parts.digest.clone(), Arc::new(Kept { described }));
        }
        drop(state);
        sync_folder(&self.place("images"))
    }

    pub(crate) fn name(&self, name: &Reference, digest: &ImageDigest) -> Result<(), Error> {
        let name = name.to_string();
        let named = Named {
            name: name.clone(),
            digest: digest.clone(),
        };
        let scratch = self.scratch()?;
        let file = scratch.path().join("name.json");
        write_json(&file, &named)?;
        let mut state = self.state.lock();
        if !state.images.contains_key(digest) {
            return Err(absent(digest));
        }
        let place = self.name_place(&name);
        fs::rename(&file, &place).map_err(at(&place))?;
        state.names.insert(name, digest.clone());
        drop(state);
        sync_folder(&self.place("names"))
    }

    pub(crate) fn pin(self: &Arc<Self>, layers: &[ImageDigest]) -> Pins {
        let mut state = self.state.lock();
        for layer in layers {
            *state.pins.entry(layer.clone()).or_default() += 1;
        }
        Pins {
            store: Arc::clone(self),
            layers: layers.to_vec(),
        }
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        let mut state = self.store.state.lock();
        for layer in &self.layers {
            if let Some(count) = state.pins.get_mut(layer) {
                *count -= 1;
                if *count == 0 {
                    state.pins.remove(layer);
                }
            }
        }
    }
}

// === removing ===

impl Store {
    pub(crate) fn unname(&self, name: &Reference) -> Result<bool, Error> {
        let name = name.to_string();
        let mut state = self.state.lock();
        if !state.names.contains_key(&name) {
            return Ok(false);
        }
        let place = self.name_place(&name);
        fs::remove_file(&place).map_err(at(&place))?;
        state.names.remove(&name);
        drop(state);
        sync_folder(&self.place("names"))?;
        Ok(true)
    }

    pub(crate) fn digests(&self) -> Vec<ImageDigest> {
        self.state.lock().images.keys().cloned().collect()
    }

    /// Takes an image out of its place, with its names.
    pub(crate) fn drop_image(
        &self,
        digest: &ImageDigest,
        rubbish: &mut Rubbish,
    ) -> Result<bool, Error> {
        let away = self.away()?;
        let mut state = self.state.lock();
        if !state.images.contains_key(digest) {
            return Ok(false);
        }
        let names: Vec<String> = state
            .names
            .iter()
            .filter(|(_, named)| *named == digest)
            .map(|(name, _)| name.clone())
            .collect();
        for name in names {
            let place = self.name_place(&name);
            fs::remove_file(&place).map_err(at(&place))?;
            state.names.remove(&name);
        }
        let place = self.image_place(digest);
        fs::rename(&place, &away).map_err(at(&place))?;
        state.images.remove(digest);
        rubbish.0.push(away);
        Ok(true)
    }

    /// Takes layers that nobody has or is about to have out of their places: of these, or of all. Returns how many, and
    /// their bytes.
    pub(crate) fn drop_layers(
        &self,
        of: Option<&[ImageDigest]>,
        rubbish: &mut Rubbish,
    ) -> Result<(u64, u64), Error> {
        let mut state = self.state.lock();
        let unused: Vec<ImageDigest> = state
            .layers
            .keys()
            .filter(|id| of.is_none_or(|of| of.contains(id)))
            .filter(|id| !state.pins.contains_key(*id) && !state.is_used(id))
            .cloned()
            .collect();
        let mut bytes = 0;
        for id in &unused {
            let (away, place) = (self.away()?, self.layer_place(id));
            fs::rename(&place, &away).map_err(at(&place))?;
            bytes += state.layers.remove(id).map_or(0, |made| made.size);
            rubbish.0.push(away);
        }
        Ok((unused.len() as u64, bytes))
    }

    /// Parts of layers by the blob's digest, with their sizes.
    pub(crate) fn parts(&self) -> Result<Vec<(ImageDigest, PathBuf, u64)>, Error> {
        let mut parts = Vec::new();
        for (hex, path) in entries(&self.place("parts"))? {
            if let Ok(digest) = format!("sha256:{hex}").parse() {
                let size = fs::symlink_metadata(&path).map_or(0, |meta| meta.len());
                parts.push((digest, path, size));
            }
        }
        Ok(parts)
    }

    /// A path in `scratch` with nothing there.
    fn away(&self) -> Result<PathBuf, Error> {
        let path = self.place("scratch");
        let folder = tempfile::Builder::new()
            .prefix("away-")
            .tempdir_in(&path)
            .map_err(at(&path))?
            .keep();
        // An empty folder gives its place to one that is renamed.
        Ok(folder)
    }
}

impl Rubbish {
    /// Deletes it. Takes its time.
    pub(crate) fn delete(self) -> Result<(), Error> {
        self.0.iter().try_for_each(|path| remove_tree(path))
    }
}

/// A folder that is removed, unless it is put in its place.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Makes it what is found in the place. To be made durable by syncing the folder around it.
    fn put(mut self, place: &Path) -> Result<(), Error> {
        fs::rename(&self.0, place).map_err(at(place))?;
        self.0 = PathBuf::new();
        Ok(())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !self.0.as_os_str().is_empty()
            && let Err(e) = remove_tree(&self.0)
        {
            tracing::warn!(path = %self.0.display(), error = %e, "could not remove what was unfinished");
        }
    }
}

// === files ===

fn absent(digest: &ImageDigest) -> Error {
    Error::NotFound {
        name: digest.to_string(),
        reason: "this machine has no such image".to_owned(),
    }
}

fn read_image(path: &Path, digest: &ImageDigest) -> Result<Kept, Error> {
    let manifest = read_file(&path.join("manifest.json"))?;
    let config = read_file(&path.join("config.json"))?;
    let name = digest.as_str();
    let damaged = |why: &str| Error::invalid(format!("image {name}"), why);
    if ImageDigest::of(&manifest) != *digest {
        return Err(damaged("its manifest has another digest"));
    }
    let Document::Manifest(Manifest { config: of, .. }) = Document::parse(&manifest, name)? else {
        return Err(damaged("its manifest is an index"));
    };
    if ImageDigest::of(&config) != of.digest {
        return Err(damaged("its configuration has another digest"));
    }
    Ok(Kept {
        described: Described::parse(&config, name)?,
    })
}

/// Names that are text, with their paths; others are not ours.
fn entries(folder: &Path) -> Result<Vec<(String, PathBuf)>, Error> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).map_err(at(folder))? {
        let entry = entry.map_err(at(folder))?;
        if let Ok(name) = entry.file_name().into_string() {
            all.push((name, entry.path()));
        }
    }
    Ok(all)
}

fn read_file(path: &Path) -> Result<Vec<u8>, Error> {
    let mut content = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_DOCUMENT).read_to_end(&mut content))
        .map_err(at(path))?;
    Ok(content)
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, Error> {
    serde_json::from_slice(&read_file(path)?)
        .map_err(|e| Error::invalid(path.display().to_string(), e.to_string()))
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<(), Error> {
    let content = serde_json::to_vec(value).map_err(|e| at(path)(io::Error::other(e)))?;
    write_file(path, &content)
}

fn write_file(path: &Path, content: &[u8]) -> Result<(), Error> {
    let mut file = File::create_new(path).map_err(at(path))?;
    file.write_all(content)
        .and_then(|()| file.sync_all())
        .map_err(at(path))
}

fn sync_folder(path: &Path) -> Result<(), Error> {
    File::open(path)
        .and_then(|folder| folder.sync_all())
        .map_err(at(path))
}

/// Everything that its file system holds back.
fn sync_all(path: &Path) -> Result<(), Error> {
    let folder = File::open(path).map_err(at(path))?;
    rustix::fs::syncfs(&folder).map_err(sys(path))
}

/// Removes a folder with all in it; nothing there is fine.
pub(crate) fn remove_tree(path: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(at(path)(e)),
        _ => Ok(()),
    }
}
