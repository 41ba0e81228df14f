//! Images made of the machine's own files, and a registry of the distribution's to keep them in.

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Call, Reply, until};

/// Who may use a registry that asks, and what it keeps of the password.
pub(crate) const USER: &str = "sailor";
pub(crate) const PASSWORD: &str = "open-sesame";
const HTPASSWD: &str = "$2y$04$lU0hvil5DBhqBIyfCjE1Du1TLNIdGkSLgW63vrrIuDb/I2nftJiz2";

/// A program that a script calls, from the machine: one file that needs no libraries.
const BUSYBOX: &str = "/usr/bin/busybox";

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// An image to be.
#[derive(Clone)]
pub(crate) struct Image {
    layers: Vec<Vec<u8>>,
    config: Value,
    architecture: String,
}

/// What is in a tar.
pub(crate) enum Item<'a> {
    File(u32, &'a [u8]),
    Folder,
    Link(&'a str),
}

/// A registry on this machine.
pub(crate) struct Registry {
    child: Child,
    pub(crate) address: SocketAddr,
    login: bool,
    _folder: TempDir,
}

/// The tar of some items.
pub(crate) fn layer(items: &[(&str, Item<'_>)]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, item) in items {
        let mut header = tar::Header::new_gnu();
        header.set_size(0);
        header.set_mode(0o755);
        // As it is, whatever it is: the tests of what is refused need names that a careful writer would not write.
        header.as_gnu_mut().expect("of that form").name[..name.len()]
            .copy_from_slice(name.as_bytes());
        let mut content: &[u8] = &[];
        match item {
            Item::File(mode, bytes) => {
                header.set_mode(*mode);
                header.set_size(bytes.len() as u64);
                content = bytes;
            }
            Item::Folder => header.set_entry_type(tar::EntryType::Directory),
            Item::Link(to) => {
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_link_name(to).expect("a link");
            }
        }
        header.set_cksum();
        archive.append(&header, content).expect("an entry");
    }
    archive.into_inner().expect("an archive")
}

// === impl Image ===

impl Image {
    /// A shell and small programs, and a user.
    pub(crate) fn busybox() -> Self {
        let busybox = std::fs::read(BUSYBOX).expect("busybox-static is installed");
        let passwd = b"root:x:0:0::/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n";
        let base = layer(&[
            ("bin/", Item::Folder),
            ("bin/busybox", Item::File(0o755, &busybox)),
            ("bin/sh", Item::Link("busybox")),
            ("etc/", Item::Folder),
            ("etc/passwd", Item::File(0o644, passwd)),
            ("etc/group", Item::File(0o644, b"root:x:0:\napp:x:1000:\n")),
            ("tmp/", Item::Folder),
        ]);
        Self {
            layers: vec![base],
            config: json!({}),
            architecture: match std::env::consts::ARCH {
                "x86_64" => "amd64",
                "aarch64" => "arm64",
                other => other,
            }
            .to_owned(),
        }
    }

    /// An HTTP server: what it is called with is told at `/cgi-bin/env`, what it may do at `/cgi-bin/try`, and `/` says which
    /// it is.
    pub(crate) fn web(says: &str) -> Self {
        let env = b"#!/bin/sh\necho 'Content-Type: text/plain'\necho\n/bin/busybox env\n/bin/busybox id -u\n\
            for f in /run/secrets/* /var/openfaas/secrets/*; do test -f $f && echo \"$f=$(/bin/busybox cat $f)\"; done\n";
        let attempt = b"#!/bin/sh\necho 'Content-Type: text/plain'\necho\n\
            for f in /root-file /tmp/file; do if (echo x > $f) 2>/dev/null; then echo $f yes; else echo $f no; fi; done\n";
        let site = layer(&[
            ("www/", Item::Folder),
            ("www/index.html", Item::File(0o644, says.as_bytes())),
            ("www/cgi-bin/", Item::Folder),
            ("www/cgi-bin/env", Item::File(0o755, env)),
            ("www/cgi-bin/try", Item::File(0o755, attempt)),
        ]);
        Self::busybox().add(site).config(json!({
            "Entrypoint": ["/bin/busybox", "httpd", "-f"],
            "Cmd": ["-p", "8080", "-h", "/www"],
            "Env": ["PATH=/bin", "FROM_IMAGE=yes"],
            "User": "app",
            "ExposedPorts": { "8080/tcp": {} },
        }))
    }

    pub(crate) fn add(mut self, layer: Vec<u8>) -> Self {
        self.layers.push(layer);
        self
    }

    pub(crate) fn config(mut self, config: Value) -> Self {
        self.config = config;
        self
    }

    pub(crate) fn architecture(mut self, architecture: &str) -> Self {
        architecture.clone_into(&mut self.architecture);
        self
    }

    /// Its blobs, the manifest last.
    fn blobs(&self) -> Vec<(&'static str, Vec<u8>)> {
        let config = json!({
            "architecture": self.architecture,
            "os": "linux",
            "config": self.config,
            "rootfs": { "type": "layers", "diff_ids": self.layers.iter().map(|l| digest_of(l)).collect::<Vec<_>>() },
        });
        let config = config.to_string().into_bytes();
        let described = |kind: &str, blob: &[u8]| json!({ "mediaType": kind, "digest": digest_of(blob), "size": blob.len() });
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": described(CONFIG, &config),
            "layers": self.layers.iter().map(|l| described(LAYER, l)).collect::<Vec<_>>(),
        });
        let layers = self.layers.iter().map(|l| (LAYER, l.clone()));
        layers
            .chain([
                (CONFIG, config),
                (MANIFEST, manifest.to_string().into_bytes()),
            ])
            .collect()
    }

    /// The digest of its manifest.
    pub(crate) fn digest(&self) -> String {
        let (_, manifest) = self.blobs().pop().expect("a manifest");
        digest_of(&manifest)
    }

    /// An archive of the OCI layout.
    pub(crate) fn archive(&self, name: &str) -> Vec<u8> {
        let blobs = self.blobs();
        let (_, manifest) = blobs.last().expect("a manifest");
        let index = json!({
            "schemaVersion": 2,
            "manifests": [{
                "mediaType": MANIFEST, "digest": digest_of(manifest), "size": manifest.len(),
                "annotations": { "org.opencontainers.image.ref.name": name },
            }],
        });
        let index = index.to_string();
        let paths: Vec<String> = blobs
            .iter()
            .map(|(_, blob)| format!("blobs/{}", digest_of(blob).replace(':', "/")))
            .collect();
        let version = br#"{"imageLayoutVersion":"1.0.0"}"#;
        let mut items = vec![
            ("oci-layout", Item::File(0o644, version)),
            ("index.json", Item::File(0o644, index.as_bytes())),
        ];
        for (path, (_, blob)) in paths.iter().zip(&blobs) {
            items.push((path, Item::File(0o644, blob)));
        }
        layer(&items)
    }
}

fn digest_of(bytes: &[u8]) -> String {
    let digits = digest(&SHA256, bytes);
    let digits: String = digits.as_ref().iter().map(|b| format!("{b:02x}")).collect();
    format!("sha256:{digits}")
}

// === impl Registry ===

impl Registry {
    pub(crate) fn start() -> Self {
        Self::with(false)
    }

    /// One that wants [`USER`] and [`PASSWORD`].
    pub(crate) fn with_login() -> Self {
        Self::with(true)
    }

    fn with(login: bool) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let address = TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .expect("a free port");
        let path = |name: &str| folder.path().join(name).display().to_string();
        let mut config = json!({
            "version": 0.1,
            "log": { "level": "error" },
            "storage": { "filesystem": { "rootdirectory": path("data") } },
            "http": { "addr": address.to_string() },
        });
        if login {
            let file = path("htpasswd");
            std::fs::write(&file, format!("{USER}:{HTPASSWD}\n")).expect("a file");
            config["auth"] = json!({ "htpasswd": { "realm": "test", "path": file } });
        }
        // JSON is YAML.
        std::fs::write(path("config.yml"), config.to_string()).expect("a file");
        let child = Command::new("docker-registry")
            .args(["serve", &path("config.yml")])
            .env_clear()
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("docker-registry is installed");
        let registry = Self {
            child,
            address,
            login,
            _folder: folder,
        };
        until("the registry answers", || {
            registry
                .call("GET", "/v2/")
                .try_send()
                .is_ok_and(|r| r.status == 200)
        });
        registry
    }

    /// The full name of an image there.
    pub(crate) fn name(&self, image: &str) -> String {
        format!("{}/{image}", self.address)
    }

    fn call(&self, method: &str, target: &str) -> Call {
        let call = Call::new(self.address, method, target);
        if self.login {
            call.header("authorization", &format!("Basic {}", login()))
        } else {
            call
        }
    }

    /// Puts an image there.
    #[track_caller]
    pub(crate) fn push(&self, repository: &str, tag: &str, image: &Image) {
        let blobs = image.blobs();
        let (manifest, others) = blobs.split_last().expect("a manifest");
        for (_, blob) in others {
            let begun = self
                .call("POST", &format!("/v2/{repository}/blobs/uploads/"))
                .body("")
                .send();
            let place = begun.header("location").expect("a place").to_owned();
            let place = match place.split_once("://") {
                Some((_, rest)) => rest[rest.find('/').expect("a path")..].to_owned(),
                None => place,
            };
            let joined = if place.contains('?') { '&' } else { '?' };
            let put = format!("{place}{joined}digest={}", digest_of(blob));
            let stored = self
                .call("PUT", &put)
                .header("content-type", "application/octet-stream")
                .body(blob.clone())
                .send();
            created(&stored);
        }
        let stored = self
            .call("PUT", &format!("/v2/{repository}/manifests/{tag}"))
            .header("content-type", manifest.0)
            .body(manifest.1.clone())
            .send();
        created(&stored);
    }

    /// Puts an index there that has this image, which is there, and one for another processor. Gives its digest.
    #[track_caller]
    pub(crate) fn push_index(&self, repository: &str, tag: &str, image: &Image) -> String {
        let (_, manifest) = image.blobs().pop().expect("a manifest");
        let other = image.clone().architecture("s390x");
        self.push(repository, "other", &other);
        let (_, elsewhere) = other.blobs().pop().expect("a manifest");
        let described = |manifest: &[u8], architecture: &str| {
            json!({
                "mediaType": MANIFEST, "digest": digest_of(manifest), "size": manifest.len(),
                "platform": { "os": "linux", "architecture": architecture },
            })
        };
        let index = json!({
            "schemaVersion": 2,
            "mediaType": INDEX,
            "manifests": [described(&elsewhere, "s390x"), described(&manifest, &image.architecture)],
        });
        let index = index.to_string();
        let digest = digest_of(index.as_bytes());
        let stored = self
            .call("PUT", &format!("/v2/{repository}/manifests/{tag}"))
            .header("content-type", INDEX)
            .body(index)
            .send();
        created(&stored);
        digest
    }

    /// What `docker login` would write.
    pub(crate) fn docker_config(&self) -> String {
        json!({ "auths": { (self.address.to_string()): { "auth": login() } } }).to_string()
    }
}

#[track_caller]
fn created(reply: &Reply) {
    assert_eq!(reply.status, 201, "{}", reply.text());
}

fn login() -> String {
    STANDARD.encode(format!("{USER}:{PASSWORD}"))
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Copies a program of the machine's, and the libraries that it needs, below a folder.
pub(crate) fn copy_program(program: &str, to: &Path) {
    let listed = Command::new("ldd").arg(program).output().expect("ldd");
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let libraries = listed
        .split_whitespace()
        .filter(|word| word.starts_with('/'));
    for file in libraries.chain([program]) {
        let target = to.join(file.trim_start_matches('/'));
        std::fs::create_dir_all(target.parent().expect("a folder")).expect("a folder");
        std::fs::copy(file, target).expect("a copy");
    }
}

/// Writes bytes to a new file of a folder.
pub(crate) fn write(folder: &Path, name: &str, bytes: &[u8]) -> String {
    let path = folder.join(name);
    let mut file = std::fs::File::create(&path).expect("a file");
    file.write_all(bytes).expect("written");
    path.display().to_string()
}
