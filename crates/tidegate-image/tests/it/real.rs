//! Debian's `docker-registry`, with and without a password, and with certificates that nobody knows.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use reqwest::StatusCode;
use tidegate_image::{Credentials, Error, Event, ImageDigest, Reference};

use crate::made::{INDEX, MANIFEST, Made, Tar, Told, World, index};

/// How long it may take to come up.
const READY: Duration = Duration::from_secs(20);

struct Registry {
    program: Child,
    port: u16,
    scheme: &'static str,
    http: reqwest::Client,
    _folder: tempfile::TempDir,
}

/// What is asked of whoever comes, and shown to them.
#[derive(Default)]
struct Ways<'a> {
    password: bool,
    /// A certificate and its key.
    certificate: Option<&'a Certificate>,
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}

/// `user:secret`, as `htpasswd -nbB` writes it.
const HTPASSWD: &str = "user:$2y$05$F28/k8ugBZC4f.3R5QTIR.oOmiVA613DtgCWlUa3VkhKvAtuEilzG";

impl Registry {
    async fn start(ways: Ways<'_>) -> Self {
        let program = ["/usr/bin/docker-registry", "/usr/local/bin/registry"]
            .iter()
            .map(PathBuf::from)
            .find(|path| path.is_file())
            .expect("the package docker-registry is installed; `cargo xtask setup` does it");
        let folder = tempfile::tempdir().unwrap();
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let data = folder.path().join("data");
        let tls = ways.certificate.map_or_else(String::new, |it| {
            let (certificate, key) = (it.certificate.display(), it.key.display());
            format!(", tls: {{ certificate: {certificate}, key: {key} }}")
        });
        let mut config = format!(
            "version: 0.1\nlog: {{ level: error }}\nstorage:\n  filesystem: {{ rootdirectory: {} }}\nhttp: {{ addr: '127.0.0.1:{port}'{tls} }}\n",
            data.display()
        );
        if ways.password {
            let file = folder.path().join("htpasswd");
            std::fs::write(&file, HTPASSWD).unwrap();
            config += &format!(
                "auth:\n  htpasswd: {{ realm: test, path: {} }}\n",
                file.display()
            );
        }
        let file = folder.path().join("config.yml");
        std::fs::write(&file, config).unwrap();
        let program = Command::new(program)
            .arg("serve")
            .arg(&file)
            .env_clear()
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let registry = Self {
            program,
            port,
            scheme: if ways.certificate.is_some() {
                "https"
            } else {
                "http"
            },
            http: reqwest::Client::builder()
                .no_proxy()
                .tls_danger_accept_invalid_certs(true)
                .build()
                .unwrap(),
            _folder: folder,
        };
        let ready = async {
            let address = registry.url("");
            while registry.http.get(&address).send().await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(READY, ready)
            .await
            .expect("the registry comes up");
        registry
    }

    fn reference(&self, rest: &str) -> Reference {
        format!("127.0.0.1:{}/{rest}", self.port).parse().unwrap()
    }

    async fn push(&self, made: &Made, repository: &str, tag: &str) {
        for content in made.layers.iter().chain([&made.config]) {
            let start = self.url(&format!("{repository}/blobs/uploads/"));
            let answer = self
                .http
                .post(start)
                .basic_auth("user", Some("secret"))
                .send()
                .await
                .unwrap();
            assert_eq!(answer.status(), StatusCode::ACCEPTED);
            let mut place: reqwest::Url = answer.headers()["location"]
                .to_str()
                .unwrap()
                .parse()
                .unwrap();
            place
                .query_pairs_mut()
                .append_pair("digest", ImageDigest::of(content).as_str());
            let put = self
                .http
                .put(place)
                .header("content-type", "application/octet-stream");
            let answer = put
                .basic_auth("user", Some("secret"))
                .body(content.clone())
                .send()
                .await
                .unwrap();
            assert_eq!(answer.status(), StatusCode::CREATED);
        }
        self.manifest(&made.manifest, MANIFEST, repository, tag)
            .await;
    }

    async fn manifest(&self, content: &[u8], media_type: &str, repository: &str, tag: &str) {
        let put = self
            .http
            .put(self.url(&format!("{repository}/manifests/{tag}")));
        let put = put
            .basic_auth("user", Some("secret"))
            .header("content-type", media_type);
        let answer = put.body(content.to_vec()).send().await.unwrap();
        assert_eq!(
            answer.status(),
            StatusCode::CREATED,
            "{}",
            answer.text().await.unwrap()
        );
    }

    fn url(&self, rest: &str) -> String {
        format!("{}://127.0.0.1:{}/v2/{rest}", self.scheme, self.port)
    }
}

/// An image of a program of this machine's.
fn image() -> Made {
    let program = std::fs::read("/bin/true").unwrap();
    Made::of(&[
        Tar::default()
            .folder("bin/")
            .entry("bin/hello", b'0', 0o755, "", &program),
        Tar::default().file("etc/passwd", b"app:x:7:8::/:/bin/hello\n"),
    ])
}

#[tokio::test]
async fn an_image_that_was_pushed_is_pulled() {
    let (registry, world, made) = (
        Registry::start(Ways::default()).await,
        World::new(),
        image(),
    );
    registry.push(&made, "team/hello", "1").await;
    let name = registry.reference("team/hello:1");
    let pulled = world.pull(&name).await.unwrap();
    assert_eq!(pulled.digest, made.digest());
    assert_eq!(world.images.resolve(&name), Some(made.digest()));
    let hello = world.images.layers(&pulled.digest).unwrap()[1].join("bin/hello");
    assert!(Command::new(hello).status().unwrap().success());
    assert_eq!(world.images.user(&pulled.digest, "app").unwrap(), (7, 8));

    // By digest, and by an index.
    let by_digest = name.at(&made.digest());
    world.pull(&by_digest).await.unwrap();
    let machine = tidegate_image::Platform::machine().architecture;
    let list = index(&[(&made.manifest, &machine)]).to_string();
    registry
        .manifest(list.as_bytes(), INDEX, "team/hello", "list")
        .await;
    let by_index = registry.reference("team/hello:list");
    let same = world.pull(&by_index).await.unwrap();
    assert_eq!(same.digest, made.digest());
    assert_eq!(same.names.len(), 3);

    for lost in ["team/hello:2", "team/none:1"] {
        let name = registry.reference(lost);
        let error = world.pull(&name).await.unwrap_err();
        assert!(matches!(error, Error::NotFound { .. }), "{error}");
    }
}

#[tokio::test]
async fn a_password_is_asked_for_and_given() {
    let ways = Ways {
        password: true,
        ..Ways::default()
    };
    let (registry, world, made) = (Registry::start(ways).await, World::new(), image());
    registry.push(&made, "hello", "latest").await;
    let name = registry.reference("hello");
    let wrong = Credentials::Basic {
        user: "user".to_owned(),
        password: "wrong".to_owned(),
    };
    for credentials in [Credentials::Anonymous, wrong] {
        let error = world
            .images
            .pull(&name, &credentials, Arc::new(()))
            .await
            .unwrap_err();
        assert!(matches!(error, Error::Unauthorized { .. }), "{error}");
        world.assert_bare();
    }
    let config = format!(
        r#"{{"auths":{{"127.0.0.1:{}":{{"auth":"dXNlcjpzZWNyZXQ="}}}}}}"#,
        registry.port
    );
    let credentials = Credentials::from_docker_config(&config, name.registry()).unwrap();
    world
        .images
        .pull(&name, &credentials, Arc::new(()))
        .await
        .unwrap();
}

/// A certificate for this machine's address, in files.
struct Certificate {
    certificate: PathBuf,
    key: PathBuf,
}

impl Certificate {
    /// One that has signed itself, as the guides of registries make it.
    fn of(folder: &Path, name: &str, subject: &str) -> Self {
        Self::made(
            folder,
            name,
            &["-addext", &format!("subjectAltName={subject}")],
        )
    }

    /// One that this one has signed as an authority.
    fn sign(&self, folder: &Path, name: &str, subject: &str) -> Self {
        let [certificate, key] = [&self.certificate, &self.key].map(|path| path.to_str().unwrap());
        let subject = format!("subjectAltName={subject}");
        let server = "basicConstraints=critical,CA:FALSE";
        Self::made(
            folder,
            name,
            &[
                "-CA",
                certificate,
                "-CAkey",
                key,
                "-addext",
                &subject,
                "-addext",
                server,
            ],
        )
    }

    fn made(folder: &Path, name: &str, more: &[&str]) -> Self {
        let made = Self {
            certificate: folder.join(format!("{name}.crt")),
            key: folder.join(format!("{name}.key")),
        };
        let usual = [
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
        ];
        let told = Command::new("openssl")
            .args(usual)
            .args([
                "-nodes",
                "-days",
                "2",
                "-subj",
                &format!("/CN={name}"),
                "-keyout",
            ])
            .arg(&made.key)
            .arg("-out")
            .arg(&made.certificate)
            .args(more)
            .output()
            .expect("openssl is installed");
        assert!(
            told.status.success(),
            "{}",
            String::from_utf8_lossy(&told.stderr)
        );
        made
    }
}

#[tokio::test]
async fn a_certificate_is_trusted_only_when_it_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let alone = Certificate::of(folder.path(), "alone", "IP:127.0.0.1,IP:0.0.0.0");
    let authority = Certificate::of(folder.path(), "authority", "DNS:nobody.example");
    let signed = authority.sign(folder.path(), "signed", "IP:127.0.0.1,IP:0.0.0.0");
    let trusting = |file: &Path| World::with(|settings| settings.ca_file = Some(file.to_owned()));
    let made = image();
    for (shown, named, other) in [
        (&alone, &alone, &authority),
        (&signed, &authority, &alone),
        (&signed, &signed, &alone),
    ] {
        let ways = Ways {
            password: true,
            certificate: Some(shown),
        };
        let registry = Registry::start(ways).await;
        registry.push(&made, "hello", "1").await;
        let user = Credentials::Basic {
            user: "user".to_owned(),
            password: "secret".to_owned(),
        };
        // By an address that is spoken to without TLS at first, and by one that never is.
        let elsewhere = format!("0.0.0.0:{}/hello:1", registry.port)
            .parse()
            .unwrap();
        for name in [registry.reference("hello:1"), elsewhere] {
            for world in [World::new(), trusting(&other.certificate)] {
                let told = Told::new();
                let error = world.images.pull(&name, &user, told.clone()).await;
                let error = error.unwrap_err();
                assert!(matches!(error, Error::Untrusted { .. }), "{error}");
                let text = error.to_string();
                assert!(text.contains(name.registry()), "{text}");
                assert!(text.contains("images.ca-file"), "{text}");
                assert_eq!(told.count(|e| matches!(e, Event::Retry { .. })), 0);
                world.assert_bare();
            }
            let world = trusting(&named.certificate);
            let pulled = world.images.pull(&name, &user, Told::new()).await.unwrap();
            assert_eq!(pulled.digest, made.digest());
        }
    }
}

#[tokio::test]
async fn a_certificate_that_is_named_is_one_for_its_names() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Certificate::of(folder.path(), "authority", "DNS:nobody.example");
    let signed = authority.sign(folder.path(), "signed", "DNS:other.example");
    for shown in [&authority, &signed] {
        let ways = Ways {
            certificate: Some(shown),
            ..Ways::default()
        };
        let registry = Registry::start(ways).await;
        let world = World::with(|it| it.ca_file = Some(authority.certificate.clone()));
        let error = world.pull(&registry.reference("hello:1")).await;
        let error = error.unwrap_err();
        assert!(matches!(error, Error::Untrusted { .. }), "{error}");
        assert!(error.to_string().contains("not valid for name"), "{error}");
    }
}

#[tokio::test]
async fn a_file_without_certificates_and_a_registry_without_tls_are_said_to_be() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("notes");
    std::fs::write(&file, "none").unwrap();
    let registry = Registry::start(Ways::default()).await;
    let name: Reference = format!("0.0.0.0:{}/hello:1", registry.port)
        .parse()
        .unwrap();
    let error = World::new().pull(&name).await.unwrap_err();
    assert!(error.to_string().contains("images.insecure"), "{error}");
    for (file, why) in [
        (file, "no certificate"),
        (folder.path().join("gone"), "No such file"),
    ] {
        let world = World::with(|it| it.ca_file = Some(file.clone()));
        let error = world.pull(&name).await.unwrap_err().to_string();
        let shown = file.display().to_string();
        for part in ["images.ca-file", shown.as_str(), why] {
            assert!(error.contains(part), "{error}");
        }
    }
}
