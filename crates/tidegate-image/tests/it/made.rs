//! Images made by the tests: a tar writer that writes whatever it is told, layers, documents, layouts.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use tidegate_image::{
    Credentials, Error, Event, Image, ImageDigest, Images, Progress, Reference, Settings,
};

/// A tar in the making.
#[derive(Clone, Default)]
pub(crate) struct Tar(Vec<u8>);

impl Tar {
    pub(crate) fn entry(
        mut self,
        name: &str,
        kind: u8,
        mode: u32,
        target: &str,
        content: &[u8],
    ) -> Self {
        let header = |name: &[u8], kind: u8, target: &[u8], size: usize| {
            let mut block = [0_u8; 512];
            block[..name.len()].copy_from_slice(name);
            block[100..107].copy_from_slice(format!("{mode:07o}").as_bytes());
            block[124..135].copy_from_slice(format!("{size:011o}").as_bytes());
            block[136..147].copy_from_slice(b"14000000000");
            block[156] = kind;
            block[157..157 + target.len()].copy_from_slice(target);
            block[257..265].copy_from_slice(b"ustar  \0");
            block[148..156].fill(b' ');
            let sum: u64 = block.iter().map(|b| u64::from(*b)).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            block
        };
        if name.len() > 100 {
            self.0.extend(header(b"long", b'L', b"", name.len()));
            self.padded(name.as_bytes());
        }
        let short = &name.as_bytes()[..name.len().min(100)];
        self.0
            .extend(header(short, kind, target.as_bytes(), content.len()));
        self.padded(content);
        self
    }

    fn padded(&mut self, content: &[u8]) {
        self.0.extend(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
    }

    pub(crate) fn file(self, name: &str, content: &[u8]) -> Self {
        self.entry(name, b'0', 0o644, "", content)
    }

    pub(crate) fn folder(self, name: &str) -> Self {
        self.entry(name, b'5', 0o755, "", b"")
    }

    pub(crate) fn symlink(self, name: &str, target: &str) -> Self {
        self.entry(name, b'2', 0o777, target, b"")
    }

    pub(crate) fn hardlink(self, name: &str, target: &str) -> Self {
        self.entry(name, b'1', 0o644, target, b"")
    }

    pub(crate) fn bytes(mut self) -> Vec<u8> {
        self.0.extend([0; 1024]);
        self.0
    }
}

/// An image in the forms that registries and layouts have.
#[derive(Clone)]
pub(crate) struct Made {
    pub(crate) manifest: Vec<u8>,
    pub(crate) config: Vec<u8>,
    /// Compressed.
    pub(crate) layers: Vec<Vec<u8>>,
    pub(crate) tars: Vec<Vec<u8>>,
}

impl Made {
    /// Of layers as they are, the lowest first, compressed by gzip.
    pub(crate) fn of(tars: &[Tar]) -> Self {
        Self::with(
            tars,
            &json!({ "Cmd": ["/bin/hello"], "Env": ["A=b"] }),
            gzip,
        )
    }

    pub(crate) fn with(tars: &[Tar], config: &Value, compress: fn(&[u8]) -> Vec<u8>) -> Self {
        let tars: Vec<Vec<u8>> = tars.iter().cloned().map(Tar::bytes).collect();
        let layers: Vec<Vec<u8>> = tars.iter().map(|tar| compress(tar)).collect();
        Self::from_parts(
            tars,
            layers,
            config,
            tidegate_image::Platform::machine().architecture.as_str(),
        )
    }

    pub(crate) fn from_parts(
        tars: Vec<Vec<u8>>,
        layers: Vec<Vec<u8>>,
        config: &Value,
        architecture: &str,
    ) -> Self {
        let diff_ids: Vec<ImageDigest> = tars.iter().map(|tar| ImageDigest::of(tar)).collect();
        let config = json!({
            "architecture": architecture, "os": "linux", "created": "2026-01-02T03:04:05Z", "config": config,
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        })
        .to_string()
        .into_bytes();
        let descriptors: Vec<Value> = layers
            .iter()
            .map(|layer| descriptor("application/vnd.oci.image.layer.v1.tar+gzip", layer))
            .collect();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
            "layers": descriptors,
        })
        .to_string()
        .into_bytes();
        Self {
            manifest,
            config,
            layers,
            tars,
        }
    }

    pub(crate) fn digest(&self) -> ImageDigest {
        ImageDigest::of(&self.manifest)
    }

    /// A blob or manifest of this digest.
    pub(crate) fn find(&self, digest: &str) -> Option<&[u8]> {
        [&self.config, &self.manifest]
            .into_iter()
            .chain(&self.layers)
            .find(|content| ImageDigest::of(content).as_str() == digest)
            .map(Vec::as_slice)
    }

    /// Writes it into a layout, which may have others.
    pub(crate) fn lay_out(&self, folder: &Path, index: &Value) {
        let blobs = folder.join("blobs/sha256");
        std::fs::create_dir_all(&blobs).unwrap();
        for content in [&self.config, &self.manifest]
            .into_iter()
            .chain(&self.layers)
        {
            std::fs::write(blobs.join(ImageDigest::of(content).hex()), content).unwrap();
        }
        std::fs::write(
            folder.join("oci-layout"),
            r#"{"imageLayoutVersion":"1.0.0"}"#,
        )
        .unwrap();
        std::fs::write(folder.join("index.json"), index.to_string()).unwrap();
    }
}

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";

pub(crate) fn descriptor(media_type: &str, content: &[u8]) -> Value {
    json!({ "mediaType": media_type, "digest": ImageDigest::of(content), "size": content.len() })
}

/// An index of manifests for these platforms.
pub(crate) fn index(manifests: &[(&[u8], &str)]) -> Value {
    let all: Vec<Value> = manifests
        .iter()
        .map(|(content, architecture)| {
            let mut one = descriptor(MANIFEST, content);
            one["platform"] = json!({ "os": "linux", "architecture": architecture });
            one
        })
        .collect();
    json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": all })
}

pub(crate) fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn zstd(plain: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(plain, ruzstd::encoding::CompressionLevel::Fastest)
}

/// Bytes that do not compress, the same each time.
pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut state = 88_172_645_463_325_252_u64;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        })
        .collect()
}

/// Images in a folder of their own, with waits that suit a test.
pub(crate) struct World {
    pub(crate) images: Images,
    pub(crate) folder: tempfile::TempDir,
    settings: Settings,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = Settings {
            retry: std::time::Duration::from_millis(5),
            ..Settings::default()
        };
        change(&mut settings);
        let folder = tempfile::tempdir().unwrap();
        Self {
            images: Images::open(folder.path(), settings.clone()).unwrap(),
            folder,
            settings,
        }
    }

    /// Pulls as somebody without a login, to whom nothing is told.
    pub(crate) async fn pull(&self, name: &Reference) -> Result<Image, Error> {
        let nobody = Credentials::Anonymous;
        self.images.pull(name, &nobody, Arc::new(())).await
    }

    /// As after a restart.
    pub(crate) fn again(self) -> Self {
        let Self {
            images,
            folder,
            settings,
        } = self;
        drop(images);
        Self {
            images: Images::open(folder.path(), settings.clone()).unwrap(),
            folder,
            settings,
        }
    }

    /// What is in a folder of the store.
    pub(crate) fn count(&self, name: &str) -> usize {
        std::fs::read_dir(self.folder.path().join(name))
            .unwrap()
            .count()
    }

    /// That a failure has left nothing.
    pub(crate) fn assert_bare(&self) {
        for name in ["layers", "images", "names", "parts", "scratch"] {
            assert_eq!(self.count(name), 0, "{name}");
        }
    }
}

/// Keeps what it is told.
#[derive(Default)]
pub(crate) struct Told(std::sync::Mutex<Vec<Event>>, tokio::sync::Notify);

impl Progress for Told {
    fn report(&self, event: Event) {
        self.0.lock().unwrap().push(event);
        self.1.notify_waiters();
    }
}

impl Told {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    pub(crate) fn all(&self) -> Vec<Event> {
        self.0.lock().unwrap().clone()
    }

    pub(crate) fn count(&self, fits: impl Fn(&Event) -> bool) -> usize {
        self.all().iter().filter(|event| fits(event)).count()
    }

    /// Until something like it has come about.
    pub(crate) async fn until(&self, fits: impl Fn(&Event) -> bool) {
        loop {
            let next = self.1.notified();
            if self.count(&fits) > 0 {
                return;
            }
            next.await;
        }
    }
}
