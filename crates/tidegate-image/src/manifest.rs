//! The documents of an image: index, manifest, configuration.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Config, Error, Healthcheck, ImageDigest, Platform, Settings};

/// What a registry is asked for, and what is understood.
pub(crate) const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
     application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, \
     application/vnd.docker.distribution.manifest.v2+json";

pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// Most words, variables, labels and ports of a configuration together: beyond any that a person or tool writes.
const MAX_CONFIG_ITEMS: usize = 10_000;

/// One thing that a document points to.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    #[serde(default)]
    pub(crate) media_type: String,
    pub(crate) digest: ImageDigest,
    pub(crate) size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) platform: Option<PlatformOf>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) annotations: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct PlatformOf {
    os: String,
    architecture: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    variant: String,
}

/// One image: its configuration and its layers, the lowest first.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Manifest {
    pub(crate) schema_version: u8,
    #[serde(default)]
    pub(crate) media_type: String,
    pub(crate) config: Descriptor,
    pub(crate) layers: Vec<Descriptor>,
}

/// Images for several platforms under one name.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Index {
    pub(crate) manifests: Vec<Descriptor>,
}

/// What a name stands for.
pub(crate) enum Document {
    Manifest(Manifest),
    Index(Index),
}

impl Document {
    /// Told by what is in it, as the specification allows: media types are often missing or wrong.
    pub(crate) fn parse(bytes: &[u8], name: &str) -> Result<Self, Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Shape {
            schema_version: Option<u64>,
            manifests: Option<serde::de::IgnoredAny>,
            config: Option<serde::de::IgnoredAny>,
        }
        let what = || format!("manifest of {name}");
        let shape: Shape =
            serde_json::from_slice(bytes).map_err(|e| Error::invalid(what(), e.to_string()))?;
        if shape.schema_version == Some(1) {
            return Err(Error::Unsupported {
                what: format!("the manifest of {name}, of Docker's first schema,"),
                why: "push the image again with a tool of this decade".to_owned(),
            });
        }
        match shape {
            Shape {
                manifests: Some(_),
                config: None,
                ..
            } => serde_json::from_slice(bytes).map(Self::Index),
            _ => serde_json::from_slice(bytes).map(Self::Manifest),
        }
        .map_err(|e| Error::invalid(what(), e.to_string()))
    }
}

impl Index {
    /// The one for the platform, and what there is otherwise.
    pub(crate) fn choose(&self, platform: &Platform, name: &str) -> Result<&Descriptor, Error> {
        let fits = |descriptor: &&Descriptor| {
            descriptor
                .platform
                .as_ref()
                .is_some_and(|it| it.os == platform.os && it.architecture == platform.architecture)
        };
        if let Some(found) = self.manifests.iter().find(fits) {
            return Ok(found);
        }
        // Those that say nothing of themselves are judged by their configuration; a single one only.
        if let [only] = &self.manifests[..]
            && only.platform.is_none()
        {
            return Ok(only);
        }
        let mut found: Vec<String> = self
            .manifests
            .iter()
            .filter_map(|it| it.platform.as_ref())
            // Signatures and the like are for nobody.
            .filter(|it| it.os != "unknown")
            .map(|it| {
                let variant = if it.variant.is_empty() { "" } else { "/" };
                format!("{}/{}{variant}{}", it.os, it.architecture, it.variant)
            })
            .collect();
        found.sort();
        found.dedup();
        if found.is_empty() {
            return Err(Error::invalid(
                format!("index of {name}"),
                "it has no images",
            ));
        }
        Err(Error::Architecture {
            name: name.to_owned(),
            wanted: platform.to_string(),
            found,
        })
    }
}

impl Descriptor {
    pub(crate) fn new(media_type: &str, digest: ImageDigest, size: u64) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest,
            size,
            platform: None,
            annotations: BTreeMap::new(),
        }
    }
}

impl Manifest {
    /// Of one that we made.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("it has nothing that JSON has not")
    }

    /// Whether it can be an image of ours at all, before anything of it is fetched.
    pub(crate) fn check(&self, name: &str, settings: &Settings) -> Result<(), Error> {
        let what = || format!("manifest of {name}");
        if self.schema_version != 2 {
            return Err(Error::invalid(what(), "its schema version is not 2"));
        }
        let config = &self.config.media_type;
        let image = [
            "",
            OCI_CONFIG,
            "application/vnd.docker.container.image.v1+json",
        ];
        if !image.contains(&config.as_str()) {
            return Err(Error::Unsupported {
                what: format!("{name}, which is no image but {config:?},"),
                why: "container images are".to_owned(),
            });
        }
        if self.config.size > settings.max_manifest_bytes as u64 {
            return Err(too_large(format!("configuration of {name}"), settings));
        }
        if self.layers.len() > settings.max_layers {
            return Err(Error::TooLarge {
                what: format!("image {name}"),
                limit: settings.max_layers as u64,
                unit: "layers",
            });
        }
        let mut sum = 0_u64;
        for layer in &self.layers {
            // Held apart from the image, for licences' sake, at addresses of its maker's choice.
            if layer.media_type.contains("nondistributable") || layer.media_type.contains("foreign")
            {
                return Err(Error::Unsupported {
                    what: format!("a layer of {name} that is kept elsewhere"),
                    why: "layers must be in the registry".to_owned(),
                });
            }
            if layer.media_type.ends_with("+encrypted") {
                return Err(Error::Unsupported {
                    what: format!("an encrypted layer of {name}"),
                    why: "layers must be plain".to_owned(),
                });
            }
            sum = sum.saturating_add(layer.size);
        }
        if sum > settings.max_image_bytes {
            return Err(Error::TooLarge {
                what: format!("image {name}"),
                limit: settings.max_image_bytes,
                unit: "bytes",
            });
        }
        Ok(())
    }
}

pub(crate) fn too_large(what: String, settings: &Settings) -> Error {
    Error::TooLarge {
        what,
        limit: settings.max_manifest_bytes as u64,
        unit: "bytes",
    }
}

/// What an image says of itself: the configuration of the specification, with what it says of the image's making.
pub(crate) struct Described {
    pub(crate) config: Config,
    pub(crate) created: Option<String>,
    pub(crate) diff_ids: Vec<ImageDigest>,
}

#[derive(Deserialize)]
struct Raw {
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
    created: Option<String>,
    config: Option<RawConfig>,
    rootfs: RawRoot,
}

#[derive(Deserialize)]
struct RawRoot {
    // `null` of an image without layers.
    diff_ids: Option<Vec<ImageDigest>>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct RawConfig {
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    env: Option<Vec<String>>,
    working_dir: Option<String>,
    user: Option<String>,
    exposed_ports: Option<BTreeMap<String, serde::de::IgnoredAny>>,
    stop_signal: Option<String>,
    labels: Option<BTreeMap<String, String>>,
    healthcheck: Option<RawHealthcheck>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct RawHealthcheck {
    test: Option<Vec<String>>,
    interval: u64,
    timeout: u64,
    start_period: u64,
    retries: u32,
}

impl Described {
    pub(crate) fn parse(bytes: &[u8], name: &str) -> Result<Self, Error> {
        let what = || format!("configuration of {name}");
        let raw: Raw =
            serde_json::from_slice(bytes).map_err(|e| Error::invalid(what(), e.to_string()))?;
        let config = raw.config.unwrap_or_default();
        let env: Vec<(String, String)> = config
            .env
            .unwrap_or_default()
            .into_iter()
            .map(|line| match line.split_once('=') {
                Some((name, value)) => (name.to_owned(), value.to_owned()),
                None => (line, String::new()),
            })
            .filter(|(name, _)| !name.is_empty())
            .collect();
        let mut ports: Vec<u16> = config
            .exposed_ports
            .unwrap_or_default()
            .into_keys()
            .filter_map(|port| {
                let number = port.strip_suffix("/tcp").unwrap_or(&port);
                number.parse().ok().filter(|port| *port > 0)
            })
            .collect();
        ports.sort_unstable();
        ports.dedup();
        let config = Config {
            entrypoint: config.entrypoint.unwrap_or_default(),
            cmd: config.cmd.unwrap_or_default(),
            env,
            workdir: config.working_dir.unwrap_or_default(),
            user: config.user.unwrap_or_default(),
            ports,
            stop_signal: config.stop_signal.filter(|signal| !signal.is_empty()),
            labels: config.labels.unwrap_or_default(),
            architecture: raw.architecture,
            os: raw.os,
            healthcheck: config.healthcheck.map(|it| Healthcheck {
                test: it.test.unwrap_or_default(),
                interval: it.interval,
                timeout: it.timeout,
                start_period: it.start_period,
                retries: it.retries,
            }),
        };
        let items = config.entrypoint.len()
            + config.cmd.len()
            + config.env.len()
            + config.ports.len()
            + config.labels.len();
        if items > MAX_CONFIG_ITEMS {
            return Err(Error::TooLarge {
                what: what(),
                limit: MAX_CONFIG_ITEMS as u64,
                unit: "words, variables, labels and ports",
            });
        }
        Ok(Self {
            config,
            created: raw.created,
            diff_ids: raw.rootfs.diff_ids.unwrap_or_default(),
        })
    }

    /// Whether it goes with its manifest and this machine.
    pub(crate) fn check(
        &self,
        name: &str,
        layers: usize,
        platform: &Platform,
    ) -> Result<(), Error> {
        if self.diff_ids.len() != layers {
            return Err(Error::invalid(
                format!("image {name}"),
                format!(
                    "its manifest has {layers} layers and its configuration {}",
                    self.diff_ids.len()
                ),
            ));
        }
        let (os, architecture) = (&self.config.os, &self.config.architecture);
        if *os == platform.os && *architecture == platform.architecture {
            return Ok(());
        }
        Err(Error::Architecture {
            name: name.to_owned(),
            wanted: platform.to_string(),
            found: vec![format!("{os}/{architecture}")],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn platform() -> Platform {
        Platform {
            os: "linux".to_owned(),
            architecture: "amd64".to_owned(),
        }
    }

    fn index(platforms: &[(&str, &str)]) -> Index {
        let all: Vec<String> = platforms
            .iter()
            .enumerate()
            .map(|(i, (os, architecture))| {
                format!(
                    r#"{{"digest":"{DIGEST}","size":{i},"platform":{{"os":"{os}","architecture":"{architecture}","variant":"v8"}}}}"#
                )
            })
            .collect();
        let text = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, all.join(","));
        match Document::parse(text.as_bytes(), "a").unwrap() {
            Document::Index(index) => index,
            Document::Manifest(_) => panic!("a manifest"),
        }
    }

    #[test]
    fn the_platform_is_chosen_or_the_others_named() {
        let both = index(&[
            ("linux", "arm64"),
            ("linux", "amd64"),
            ("unknown", "unknown"),
        ]);
        assert_eq!(both.choose(&platform(), "a").unwrap().size, 1);
        let other = index(&[
            ("linux", "s390x"),
            ("linux", "arm64"),
            ("unknown", "unknown"),
        ]);
        assert_eq!(
            other.choose(&platform(), "a").unwrap_err().to_string(),
            "image a is not for linux/amd64; it is for linux/arm64/v8, linux/s390x/v8"
        );
    }

    #[test]
    fn a_configuration_is_read_with_what_is_missing() {
        let text = format!(
            r#"{{"architecture":"amd64","os":"linux","created":"2026-01-01T00:00:00Z","config":{{
            "Entrypoint":null,"Cmd":["fwatchdog"],"Env":["PATH=/bin","X=a=b","EMPTY","=no"],"User":"app",
            "WorkingDir":"/home/app","ExposedPorts":{{"8080/tcp":{{}},"53/udp":{{}},"80":{{}}}},"StopSignal":"SIGQUIT",
            "Labels":null,"Healthcheck":{{"Test":["CMD-SHELL","[ -e /tmp/.lock ]"],"Interval":3000000000}}}},
            "rootfs":{{"type":"layers","diff_ids":["{DIGEST}"]}},"history":[]}}"#
        );
        let described = Described::parse(text.as_bytes(), "a").unwrap();
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(
            described.config.env,
            [pair("PATH", "/bin"), pair("X", "a=b"), pair("EMPTY", "")]
        );
        assert_eq!(described.config.ports, [80, 8080]);
        assert_eq!(described.config.cmd, ["fwatchdog"]);
        assert_eq!(
            described.config.healthcheck.as_ref().unwrap().interval,
            3_000_000_000
        );
        described.check("a", 1, &platform()).unwrap();
        assert!(matches!(
            described.check("a", 2, &platform()),
            Err(Error::Invalid { .. })
        ));
        let bare = br#"{"architecture":"arm64","os":"linux","rootfs":{"diff_ids":null}}"#;
        let bare = Described::parse(bare, "a").unwrap();
        assert!(matches!(
            bare.check("a", 0, &platform()),
            Err(Error::Architecture { .. })
        ));
    }

    #[test]
    fn what_is_no_image_is_told() {
        let settings = Settings::default();
        let helm = format!(
            r#"{{"schemaVersion":2,"config":{{"mediaType":"application/vnd.cncf.helm.config.v1+json","digest":"{DIGEST}","size":1}},"layers":[]}}"#
        );
        let Document::Manifest(manifest) = Document::parse(helm.as_bytes(), "a").unwrap() else {
            panic!("an index");
        };
        assert!(matches!(
            manifest.check("a", &settings),
            Err(Error::Unsupported { .. })
        ));
        let old = br#"{"schemaVersion":1,"name":"a","fsLayers":[]}"#;
        assert!(matches!(
            Document::parse(old, "a"),
            Err(Error::Unsupported { .. })
        ));
        for text in ["", "{}", "[]", r#"{"schemaVersion":2,"config":{}}"#] {
            assert!(matches!(
                Document::parse(text.as_bytes(), "a"),
                Err(Error::Invalid { .. })
            ));
        }
    }
}
