//! Debian's `docker-registry`, with and without a password.

use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use reqwest::StatusCode;
use tidegate_image::{Credentials, Error, ImageDigest, Reference};

use crate::made::{INDEX, MANIFEST, Made, Tar, World, index};

/// How long it may take to come up.
const READY: Duration = Duration::from_secs(20);

struct Registry {
    program: Child,
    port: u16,
    http: reqwest::Client,
    _folder: tempfile::TempDir,
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
    async fn start(password: bool) -> Self {
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
        let mut config = format!(
            "version: 0.1\nlog: {{ level: error }}\nstorage:\n  filesystem: {{ rootdirectory: {} }}\nhttp: {{ addr: '127.0.0.1:{port}' }}\n",
            data.display()
        );
        if password {
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
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
            _folder: folder,
        };
        let ready = async {
            let address = format!("http://127.0.0.1:{port}/v2/");
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
        format!("http://127.0.0.1:{}/v2/{rest}", self.port)
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
    let (registry, world, made) = (Registry::start(false).await, World::new(), image());
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
    let (registry, world, made) = (Registry::start(true).await, World::new(), image());
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
