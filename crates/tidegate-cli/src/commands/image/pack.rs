//! What is sent for an import: an archive as it is, or one made of a folder.
//!
//! A folder in the OCI image layout is sent as the archive that the layout describes. Any other folder is a root file system:
//! it becomes the one layer of an image without a command, which functions bring themselves. Owners are left out, since
//! functions see everything as their own.

use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use aws_lc_rs::digest::{Context, SHA256};
use serde_json::{Value as Json, json};
use tar::{Builder, EntryType, Header};

use crate::error::{Error, Result};

/// Files and folders of one folder; the server takes as many.
const MAX_ENTRIES: u64 = 1_000_000;

/// Folders in folders: more are a loop of mounts.
const MAX_DEPTH: usize = 200;

/// An archive, and what is in it.
pub(super) struct Packed {
    pub(super) archive: File,
    pub(super) size: u64,
    /// Devices, pipes and sockets.
    pub(super) left_out: u64,
}

/// Opens or makes the archive of a path.
pub(super) fn pack(path: &Path) -> Result<Packed> {
    let shown = path.display();
    let unreadable = |e: io::Error| Error::usage(format!("cannot read {shown}")).because(&e);
    let is_folder = fs::metadata(path).map_err(unreadable)?.is_dir();
    if !is_folder {
        let archive = File::open(path).map_err(unreadable)?;
        let size = archive.metadata().map_err(unreadable)?.len();
        return Ok(Packed {
            archive,
            size,
            left_out: 0,
        });
    }
    let made = if path.join("oci-layout").is_file() {
        layout(path)
    } else {
        image_of(path)
    };
    made.map_err(|e| Error::usage(format!("cannot make an image of {shown}")).because(&e))
}

fn layout(folder: &Path) -> io::Result<Packed> {
    let mut builder = Builder::new(tempfile::tempfile()?);
    let left_out = add(&mut builder, folder)?;
    finished(builder.into_inner()?, left_out)
}

/// The one layer, and then the layout around it.
fn image_of(folder: &Path) -> io::Result<Packed> {
    let mut builder = Builder::new(Digesting::new(tempfile::tempfile()?));
    let left_out = add(&mut builder, folder)?;
    let (mut layer, digest, size) = builder.into_inner()?.finish();
    layer.rewind()?;
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let config = json!({
        "architecture": architecture,
        "os": "linux",
        "config": {},
        "rootfs": { "type": "layers", "diff_ids": [digest] },
    })
    .to_string();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": described("application/vnd.oci.image.config.v1+json", &digest_of(config.as_bytes()), config.len() as u64),
        "layers": [described("application/vnd.oci.image.layer.v1.tar", &digest, size)],
    })
    .to_string();
    let manifest_digest = digest_of(manifest.as_bytes());
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let index = json!({
        "schemaVersion": 2,
        "manifests": [described(kind, &manifest_digest, manifest.len() as u64)],
    })
    .to_string();
    let mut builder = Builder::new(tempfile::tempfile()?);
    let place = |digest: &str| format!("blobs/{}", digest.replace(':', "/"));
    let documents = [
        (
            "oci-layout".to_owned(),
            json!({ "imageLayoutVersion": "1.0.0" }).to_string(),
        ),
        ("index.json".to_owned(), index),
        (place(&manifest_digest), manifest),
        (place(&digest_of(config.as_bytes())), config),
    ];
    for (name, text) in &documents {
        builder.append_data(&mut header(text.len() as u64), name, text.as_bytes())?;
    }
    builder.append_data(&mut header(size), place(&digest), layer)?;
    finished(builder.into_inner()?, left_out)
}

fn finished(mut archive: File, left_out: u64) -> io::Result<Packed> {
    let size = archive.stream_position()?;
    archive.rewind()?;
    Ok(Packed {
        archive,
        size,
        left_out,
    })
}

fn described(kind: &str, digest: &str, size: u64) -> Json {
    json!({ "mediaType": kind, "digest": digest, "size": size })
}

fn header(size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_size(size);
    header.set_mode(0o644);
    header
}

/// Everything in a folder, by name, links as they are. Gives how much was left out.
fn add<W: Write>(builder: &mut Builder<W>, folder: &Path) -> io::Result<u64> {
    let (mut left_out, mut entries) = (0, 0_u64);
    // The last is looked at next; each with its path in the archive.
    let mut open = vec![(folder.to_owned(), std::path::PathBuf::new())];
    while let Some((at, inside)) = open.pop() {
        if inside.components().count() > MAX_DEPTH {
            return Err(io::Error::other(format!(
                "{} is more than {MAX_DEPTH} folders deep",
                at.display()
            )));
        }
        let mut found = fs::read_dir(&at)
            .and_then(Iterator::collect::<io::Result<Vec<_>>>)
            .map_err(|e| of(&at, &e))?;
        found.sort_by_key(fs::DirEntry::file_name);
        for entry in found {
            entries += 1;
            if entries > MAX_ENTRIES {
                return Err(io::Error::other(format!(
                    "it holds more than {MAX_ENTRIES} files and folders"
                )));
            }
            let (path, name) = (entry.path(), inside.join(entry.file_name()));
            let metadata = fs::symlink_metadata(&path).map_err(|e| of(&path, &e))?;
            let mut header = Header::new_gnu();
            header.set_mode(metadata.permissions().mode() & 0o1777);
            let modified = std::os::unix::fs::MetadataExt::mtime(&metadata);
            header.set_mtime(u64::try_from(modified).unwrap_or(0));
            header.set_size(0);
            let kind = metadata.file_type();
            if kind.is_symlink() {
                header.set_entry_type(EntryType::Symlink);
                let target = fs::read_link(&path).map_err(|e| of(&path, &e))?;
                builder.append_link(&mut header, &name, target)?;
            } else if kind.is_dir() {
                header.set_entry_type(EntryType::Directory);
                builder.append_data(&mut header, &name, io::empty())?;
                open.push((path, name));
            } else if kind.is_file() {
                header.set_entry_type(EntryType::Regular);
                header.set_size(metadata.len());
                // One that grows meanwhile must not shift what follows it.
                let file = File::open(&path).map_err(|e| of(&path, &e))?;
                let file = file.take(metadata.len());
                builder.append_data(&mut header, &name, file)?;
            } else {
                left_out += 1;
            }
        }
    }
    Ok(left_out)
}

/// What went wrong, with the file that it went wrong with.
fn of(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

fn digest_of(bytes: &[u8]) -> String {
    let mut digesting = Digesting::new(io::sink());
    digesting.context.update(bytes);
    digesting.finish().1
}

/// Digests what is written.
struct Digesting<W> {
    inner: W,
    context: Context,
    size: u64,
}

impl<W> Digesting<W> {
    fn new(inner: W) -> Self {
        Self {
            inner,
            context: Context::new(&SHA256),
            size: 0,
        }
    }

    fn finish(self) -> (W, String, u64) {
        let digest = self.context.finish();
        let digits = digest.as_ref().iter().map(|byte| format!("{byte:02x}"));
        let digest = format!("sha256:{}", digits.collect::<String>());
        (self.inner, digest, self.size)
    }
}

impl<W: Write> Write for Digesting<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.context.update(&bytes[..written]);
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn entries(archive: impl Read) -> BTreeMap<String, Vec<u8>> {
        let mut archive = tar::Archive::new(archive);
        let read = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            (entry.path().unwrap().display().to_string(), bytes)
        });
        read.collect()
    }

    #[test]
    fn a_root_file_system_becomes_an_image_whose_digests_are_right() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("bin")).unwrap();
        fs::write(folder.path().join("bin/serve"), "#!/bin/sh\n").unwrap();
        std::os::unix::fs::symlink("serve", folder.path().join("bin/alias")).unwrap();
        let socket = folder.path().join("socket");
        let _listening = std::os::unix::net::UnixListener::bind(socket).unwrap();
        let packed = pack(folder.path()).unwrap();
        assert_eq!(packed.left_out, 1);
        let all = entries(packed.archive);
        for (name, bytes) in &all {
            if let Some(digits) = name.strip_prefix("blobs/sha256/") {
                assert_eq!(digest_of(bytes), format!("sha256:{digits}"));
            }
        }
        let index: Json = serde_json::from_slice(&all["index.json"]).unwrap();
        let blob = |descriptor: &Json| {
            let digest = descriptor["digest"].as_str().unwrap();
            let bytes = &all[&format!("blobs/{}", digest.replace(':', "/"))];
            assert_eq!(descriptor["size"], bytes.len());
            bytes
        };
        let manifest: Json = serde_json::from_slice(blob(&index["manifests"][0])).unwrap();
        let layer = entries(blob(&manifest["layers"][0]).as_slice());
        assert_eq!(layer["bin/serve"], b"#!/bin/sh\n");
        assert!(layer.contains_key("bin/alias") && !layer.contains_key("socket"));
        let config: Json = serde_json::from_slice(blob(&manifest["config"])).unwrap();
        assert_eq!(
            config["rootfs"]["diff_ids"][0],
            manifest["layers"][0]["digest"]
        );
    }

    #[test]
    fn a_layout_is_sent_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("oci-layout"), "{}").unwrap();
        fs::create_dir_all(folder.path().join("blobs/sha256")).unwrap();
        fs::write(folder.path().join("blobs/sha256/a"), "blob").unwrap();
        let all = entries(pack(folder.path()).unwrap().archive);
        assert_eq!(all["blobs/sha256/a"], b"blob");
        assert!(all.contains_key("oci-layout"));
    }

    #[test]
    fn what_is_not_there_is_the_users_mistake() {
        let error = pack(Path::new("/nonexistent/image.tar")).err().unwrap();
        assert!(error.message.contains("/nonexistent/image.tar"));
    }
}
