//! What passes between a builder and its clients: the archive of a build context, its signature, the lines of an answer.
//!
//! A context is a plain tar: a folder `context` with the template's files and the handler, and after it, beside it, the
//! [`BuildConfig`] and sealed secrets where there are any. Its signature is over the archive's bytes, so that nothing has to
//! be read of an archive before it is known who made it.

use std::fs::File;
use std::io::{self, Read as _, Write};
use std::path::PathBuf;

use aws_lc_rs::{constant_time, hmac};
use serde::{Deserialize, Serialize};

use crate::BuildConfig;

/// Where contexts are posted to.
pub const BUILD_PATH: &str = "/build";

/// Where the key is that secrets are sealed for.
pub const PUBLIC_KEY_PATH: &str = "/publickey";

/// The header with a context's signature.
pub const SIGNATURE_HEADER: &str = "x-build-signature";

/// What a client accepts that wants the answer line by line.
pub const NDJSON: &str = "application/x-ndjson";

/// The folder of the context's files.
pub const CONTEXT_ENTRY: &str = "context";

/// The entry that is a [`BuildConfig`].
pub const CONFIG_ENTRY: &str = "com.openfaas.docker.config";

/// The entry with [sealed](crate::seal) secrets.
pub const SECRETS_ENTRY: &str = "com.openfaas.secrets";

/// Longest line of an answer, in bytes, its end included: a client that scans lines with the usual buffer of 64 KiB stops
/// without a word at a longer one.
pub const MAX_LINE_BYTES: usize = 60 << 10;

/// What a signature begins with.
const SIGNATURE_PREFIX: &str = "sha256=";

/// Mode of the folder `context` itself.
const CONTEXT_MODE: u32 = 0o700;

/// Mode of the entries beside it.
const ENTRY_MODE: u32 = 0o664;

/// Where a build stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BuildState {
    /// There is more to come.
    #[default]
    InProgress,
    /// The image can be deployed.
    Success,
    /// It did not come to be; `error` says why.
    Failed,
}

/// A line of an answer, or all of it for a client that wants no lines.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BuildResult {
    /// What was said.
    #[serde(deserialize_with = "crate::image::or_null")]
    pub log: Vec<String>,
    /// The image's name.
    pub image: String,
    /// Where it stands.
    pub status: BuildState,
    /// Why it failed.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub error: String,
}

/// The key that secrets are sealed for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PublicKey {
    /// Tells it from those before it.
    pub key_id: String,
    /// How they are sealed; [`crate::seal::ALGORITHM`] where empty.
    pub algorithm: String,
    /// The key, in base64.
    pub public_key: String,
}

/// A file of a context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContextFile {
    /// Relative to the context's root, `/` between the parts.
    pub path: String,
    /// Permissions: `0o644`.
    pub mode: u32,
    /// What it is.
    pub content: Content,
}

/// What a [`ContextFile`] is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// A folder; those that only hold files need not be listed.
    Folder,
    /// A file with these bytes.
    Bytes(Vec<u8>),
    /// A file with the content of this one, read when the context is written.
    Copy(PathBuf),
    /// A symbolic link to this.
    Link(String),
}

/// Adds a signature up over parts of an archive.
#[derive(Clone)]
pub struct Signer(hmac::Context);

/// The value of [`SIGNATURE_HEADER`] for an archive. Whitespace around the secret is no part of it.
#[must_use]
pub fn sign(secret: &[u8], archive: &[u8]) -> String {
    let mut signer = Signer::new(secret);
    signer.update(archive);
    signer.header()
}

/// Writes the archive of a context.
///
/// # Errors
/// A file cannot be read, or changes while it is; a path is absolute, climbs or is too long; or `out` does not take it.
pub fn write_context<W: Write>(
    out: W,
    config: &BuildConfig,
    files: impl IntoIterator<Item = ContextFile>,
    secrets: Option<&[u8]>,
) -> io::Result<W> {
    let mut archive = tar::Builder::new(out);
    append(
        &mut archive,
        &format!("{CONTEXT_ENTRY}/"),
        tar::EntryType::Directory,
        CONTEXT_MODE,
        &[],
    )?;
    for file in files {
        let path = format!("{CONTEXT_ENTRY}/{}", file.path);
        match file.content {
            Content::Folder => append(
                &mut archive,
                &format!("{path}/"),
                tar::EntryType::Directory,
                file.mode,
                &[],
            )?,
            Content::Bytes(bytes) => append(
                &mut archive,
                &path,
                tar::EntryType::Regular,
                file.mode,
                &bytes,
            )?,
            Content::Copy(from) => copy(&mut archive, &path, file.mode, &from)
                .map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", from.display())))?,
            Content::Link(target) => {
                let mut header = header(tar::EntryType::Symlink, 0o777, 0);
                archive.append_link(&mut header, &path, target)?;
            }
        }
    }
    let config = serde_json::to_vec(config)?;
    append(
        &mut archive,
        CONFIG_ENTRY,
        tar::EntryType::Regular,
        ENTRY_MODE,
        &config,
    )?;
    if let Some(secrets) = secrets {
        append(
            &mut archive,
            SECRETS_ENTRY,
            tar::EntryType::Regular,
            ENTRY_MODE,
            secrets,
        )?;
    }
    archive.into_inner()
}

fn header(kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header
}

fn append<W: Write>(
    archive: &mut tar::Builder<W>,
    path: &str,
    kind: tar::EntryType,
    mode: u32,
    bytes: &[u8],
) -> io::Result<()> {
    archive.append_data(&mut header(kind, mode, bytes.len() as u64), path, bytes)
}

fn copy<W: Write>(
    archive: &mut tar::Builder<W>,
    path: &str,
    mode: u32,
    from: &std::path::Path,
) -> io::Result<()> {
    let file = File::open(from)?;
    let size = file.metadata()?.len();
    let mut header = header(tar::EntryType::Regular, mode, size);
    // An entry that is shorter than it says spoils everything after it.
    let mut counted = Counted {
        inner: file.take(size),
        read: 0,
    };
    archive.append_data(&mut header, path, &mut counted)?;
    if counted.read == size {
        Ok(())
    } else {
        Err(io::Error::other("changed while it was read; try again"))
    }
}

struct Counted<R> {
    inner: R,
    read: u64,
}

impl<R: io::Read> io::Read for Counted<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buf)?;
        self.read += read as u64;
        Ok(read)
    }
}

// === impl Signer ===

impl Signer {
    /// Begins with this secret; whitespace around it is no part of it.
    #[must_use]
    pub fn new(secret: &[u8]) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.trim_ascii());
        Self(hmac::Context::with_key(&key))
    }

    /// Takes the next part of the archive.
    pub fn update(&mut self, part: &[u8]) {
        self.0.update(part);
    }

    /// The value of [`SIGNATURE_HEADER`].
    #[must_use]
    pub fn header(self) -> String {
        let tag = self.0.sign();
        let hex = tag.as_ref().iter().map(|byte| format!("{byte:02x}"));
        std::iter::once(SIGNATURE_PREFIX.to_owned())
            .chain(hex)
            .collect()
    }

    /// Whether this is the archive's signature, in a time that does not tell how much of it is right.
    #[must_use]
    pub fn matches(self, header: &str) -> bool {
        let given = header.trim().to_ascii_lowercase();
        constant_time::verify_slices_are_equal(self.header().as_bytes(), given.as_bytes()).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_signature_is_over_every_byte() {
        // RFC 4231, test case 2.
        let signed = sign(b" Jefe\n", b"what do ya want for nothing?");
        assert_eq!(
            signed,
            "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
        let parts = || {
            let mut signer = Signer::new(b"Jefe");
            signer.update(b"what do ya want ");
            signer.update(b"for nothing?");
            signer
        };
        assert!(parts().matches(&signed));
        assert!(!parts().matches(&signed.replace("3843", "3844")));
        assert!(!parts().matches(&signed["sha256=".len()..]));
        assert!(!parts().matches(""));
    }

    #[test]
    fn a_context_is_written_before_what_describes_it() {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("run.sh");
        std::fs::write(&run, "#!/bin/sh\n").unwrap();
        let deep = format!("function/{}/x.py", "d".repeat(150));
        let file = |path: &str, mode, content| ContextFile {
            path: path.to_owned(),
            mode,
            content,
        };
        let config = BuildConfig {
            image: "hello:latest".to_owned(),
            build_args: [("ADDITIONAL_PACKAGE".to_owned(), String::new())].into(),
            ..BuildConfig::default()
        };
        let files = vec![
            file("function", 0o755, Content::Folder),
            file(&deep, 0o644, Content::Bytes(b"x = 1\n".to_vec())),
            file("run.sh", 0o755, Content::Copy(run)),
            file("link", 0o777, Content::Link("run.sh".to_owned())),
        ];
        let bytes = write_context(Vec::new(), &config, files, Some(b"version: v1\n")).unwrap();
        let out = folder.path().join("out");
        let mut archive = tar::Archive::new(&*bytes);
        let names: Vec<_> = archive
            .entries()
            .unwrap()
            .map(|e| e.unwrap().path().unwrap().display().to_string())
            .collect();
        assert_eq!(
            names,
            [
                "context/",
                "context/function/",
                &format!("context/{deep}"),
                "context/run.sh",
                "context/link",
                CONFIG_ENTRY,
                SECRETS_ENTRY
            ]
        );
        tar::Archive::new(&*bytes).unpack(&out).unwrap();
        assert_eq!(
            std::fs::read_to_string(out.join(CONFIG_ENTRY)).unwrap(),
            r#"{"image":"hello:latest","buildArgs":{"ADDITIONAL_PACKAGE":""}}"#
        );
        let run = out.join("context/run.sh").metadata().unwrap();
        assert_eq!((run.len(), run.permissions().mode() & 0o777), (10, 0o755));
        assert_eq!(
            std::fs::read(out.join("context").join(deep)).unwrap(),
            b"x = 1\n"
        );
    }

    #[test]
    fn paths_that_leave_the_context_are_not_written() {
        for path in ["../../etc/passwd", "a/../../b"] {
            let file = ContextFile {
                path: path.to_owned(),
                mode: 0o644,
                content: Content::Bytes(Vec::new()),
            };
            let written = write_context(Vec::new(), &BuildConfig::default(), [file], None);
            assert!(written.is_err(), "{path}");
        }
    }

    #[test]
    fn what_go_leaves_empty_is_empty() {
        let text = r#"{"image":"x","buildArgs":null,"platforms":null,"skipPush":true}"#;
        let config: BuildConfig = serde_json::from_str(text).unwrap();
        assert_eq!((&*config.image, config.platforms.len()), ("x", 0));
    }

    #[test]
    fn answers_read_as_other_builders_write_them() {
        let line: BuildResult =
            serde_json::from_str(r#"{"log":null,"status":"in_progress","duration":0.1}"#).unwrap();
        assert_eq!(line, BuildResult::default());
        let done = BuildResult {
            image: "hello:latest".to_owned(),
            status: BuildState::Success,
            ..BuildResult::default()
        };
        assert_eq!(
            serde_json::to_string(&done).unwrap(),
            r#"{"log":[],"image":"hello:latest","status":"success"}"#
        );
    }
}
