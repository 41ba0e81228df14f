//! Files that hold credentials, and so stay behind.
//!
//! A folder that works on a developer's machine often has the keys it works with. An archive is stored, shown and kept, so
//! they do not belong in it; secrets do their work. What is left out is told, one warning a file, and a line `!name` in
//! `.tidegateignore` keeps one that is meant.

use std::fs;
use std::io::Read;
use std::path::Path;

/// How much of a file is looked at: keys and service accounts are smaller, and reading whole data files would be slow.
const LOOK: u64 = 64 << 10;

/// Folders that hold nothing else.
const FOLDERS: &[&str] = &[
    ".aws", ".ssh", ".gnupg", ".kube", ".docker", ".azure", ".gcloud",
];

/// Files known by name.
const NAMES: &[&str] = &[
    ".env",
    ".netrc",
    "_netrc",
    ".pgpass",
    ".git-credentials",
    ".htpasswd",
    "id_rsa",
    "id_dsa",
    "id_ecdsa",
    "id_ed25519",
    ".boto",
    ".s3cfg",
];

/// Key stores, which cannot be told from their content without a password.
const EXTENSIONS: &[&str] = &["p12", "pfx", "jks", "keystore", "kdbx"];

/// `.env.NAME` that are templates by custom.
const TEMPLATES: &[&str] = &["example", "sample", "template", "dist"];

/// What makes a folder of this name one of credentials, if anything.
pub(crate) fn folder(name: &str) -> Option<&'static str> {
    FOLDERS.contains(&name).then_some("a folder of credentials")
}

/// What makes the file a credential, if anything. A file that cannot be read is not one here; packing it will say so.
pub(crate) fn file(path: &Path, name: &str) -> Option<&'static str> {
    if NAMES.contains(&name) {
        return Some("credentials by its name");
    }
    if let Some(rest) = name.strip_prefix(".env.") {
        return (!TEMPLATES.contains(&rest)).then_some("credentials by its name");
    }
    let extension = name.rsplit_once('.').map_or("", |(_, e)| e);
    if EXTENSIONS.contains(&extension) {
        return Some("a key store");
    }
    match (name, extension) {
        // Certificates use the same endings and are not secret, so content decides.
        (_, "pem" | "key" | "crt" | "der") => holds(path, &["PRIVATE KEY-----"], "a private key"),
        (".npmrc", _) => holds(
            path,
            &["_authToken", "_password", "_auth"],
            "a registry token",
        ),
        (".yarnrc.yml" | ".yarnrc", _) => holds(
            path,
            &["npmAuthToken", "npmAuthIdent", "_authToken"],
            "a registry token",
        ),
        ("pip.conf" | "pip.ini", _) => holds_login(path),
        ("credentials.toml" | "credentials", _) => holds(
            path,
            &["token", "aws_secret_access_key"],
            "a registry token",
        ),
        ("auth.json", _) => holds(
            path,
            &["http-basic", "github-oauth", "gitlab-token", "bearer"],
            "a registry token",
        ),
        ("settings.xml", _) => holds(path, &["<password>"], "a registry password"),
        (".pypirc", _) => holds(path, &["password"], "a registry password"),
        (_, "json") => holds(path, &["\"private_key\":"], "a service account's key"),
        _ => None,
    }
}

/// An address with a user's name and password in it.
fn holds_login(path: &Path) -> Option<&'static str> {
    let text = crate::source::head(path)?;
    text.split_whitespace()
        .filter_map(|word| word.split_once("://"))
        .any(|(_, rest)| {
            rest.split('/')
                .next()
                .is_some_and(|host| host.contains('@') && host.contains(':'))
        })
        .then_some("a registry password")
}

fn holds(path: &Path, marks: &[&str], what: &'static str) -> Option<&'static str> {
    let mut head = Vec::new();
    fs::File::open(path)
        .and_then(|f| f.take(LOOK).read_to_end(&mut head))
        .ok()?;
    marks
        .iter()
        .any(|m| head.windows(m.len()).any(|w| w == m.as_bytes()))
        .then_some(what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_known_and_certificates_are_not_keys() {
        let dir = tempfile::tempdir().unwrap();
        for (name, content, secret) in [
            (".env", "A=1", true),
            (".env.production", "A=1", true),
            (".env.example", "A=", false),
            ("tls.pem", "-----BEGIN PRIVATE KEY-----\nx", true),
            ("cacert.pem", "-----BEGIN CERTIFICATE-----\nx", false),
            ("id_rsa", "x", true),
            ("id_rsa.pub", "x", false),
            (".npmrc", "//host/:_authToken=abc", true),
            (".npmrc", "save-exact=true", false),
            ("account.json", "{\"private_key\": \"x\"}", true),
            ("data.json", "{}", false),
            ("store.p12", "x", true),
            (
                "pip.conf",
                "[global]\nindex-url = https://me:secret@host/simple",
                true,
            ),
            (
                "pip.conf",
                "[global]\nindex-url = https://host/simple",
                false,
            ),
            (".yarnrc.yml", "npmAuthToken: x", true),
            (".yarnrc.yml", "nodeLinker: node-modules", false),
            ("auth.json", "{\"github-oauth\": {\"host\": \"x\"}}", true),
            ("settings.xml", "<settings/>", false),
            ("handler.py", "_authToken = 1", false),
        ] {
            let path = dir.path().join(name);
            fs::write(&path, content).unwrap();
            assert_eq!(file(&path, name).is_some(), secret, "{name} with {content}");
        }
        assert!(folder(".aws").is_some());
        assert!(folder("aws").is_none());
    }
}
