//! HTTP/2 by prior knowledge, and TLS.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Version};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::pem::PemObject as _;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::harness::{Server, Shared};

static SERVER: Shared = Shared::new();

const SEEN: &str = "def handler(event):\n    return {'path': event.raw_path, 'proto': event.headers['x-forwarded-proto'], 'host': event.headers['host'], 'cookie': event.headers.get('cookie'), 'body': event.text}\n";

fn block_on<T>(what: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(what)
}

/// Makes requests over HTTP/2 on one connection, all at once, and gives status, body and trailers of each.
async fn over_http2<S>(
    stream: S,
    requests: Vec<Request<Full<Bytes>>>,
) -> Vec<(u16, String, Option<http::HeaderMap>)>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .expect("HTTP/2 is spoken");
    let connection = tokio::spawn(connection);
    let calls: Vec<_> = requests
        .into_iter()
        .map(|request| {
            let mut sender = sender.clone();
            tokio::spawn(async move {
                let response = sender.send_request(request).await.expect("an answer");
                assert_eq!(response.version(), Version::HTTP_2);
                let status = response.status().as_u16();
                let body = response.into_body().collect().await.expect("a whole body");
                let trailers = body.trailers().cloned();
                let text = String::from_utf8_lossy(&body.to_bytes()).into_owned();
                (status, text, trailers)
            })
        })
        .collect();
    let mut answers = Vec::new();
    for call in calls {
        answers.push(call.await.expect("an answer"));
    }
    drop(sender);
    connection.await.expect("no panic").expect("a clean end");
    answers
}

fn request(method: &str, uri: &str, body: &str) -> Request<Full<Bytes>> {
    Request::builder()
        .method(method)
        .uri(uri)
        .body(Full::new(Bytes::copy_from_slice(body.as_bytes())))
        .expect("a request")
}

#[test]
fn http2_by_prior_knowledge() {
    let server = SERVER.get();
    server.deploy("h2", SEEN, &["--max", "4"]);
    let base = format!("http://{}", server.address);
    let requests = (0..20)
        .map(|n| {
            let mut request = request("POST", &format!("{base}/fn/h2/{n}?q"), "in");
            request
                .headers_mut()
                .append("cookie", "a=1".parse().expect("a value"));
            request
                .headers_mut()
                .append("cookie", "b=2".parse().expect("a value"));
            request
        })
        .chain([
            request("GET", &format!("{base}/healthz"), ""),
            request("GET", &format!("{base}/fn/nope"), ""),
        ])
        .collect();
    let answers = block_on(async {
        let stream = TcpStream::connect(server.address)
            .await
            .expect("a connection");
        over_http2(stream, requests).await
    });
    for (n, (status, body, _)) in answers[..20].iter().enumerate() {
        let seen: serde_json::Value = serde_json::from_str(body).expect("JSON");
        assert_eq!(*status, 200);
        assert_eq!(seen["path"], format!("/{n}"));
        assert_eq!(seen["cookie"], "a=1; b=2");
        assert_eq!(seen["host"], server.address.to_string());
        assert_eq!(
            (&seen["proto"], &seen["body"]),
            (&"http".into(), &"in".into())
        );
    }
    assert_eq!((answers[20].0, answers[21].0), (200, 404));
}

#[test]
fn trailers_pass_through() {
    let server = SERVER.get();
    server.deploy(
        "trailers",
        "#!/usr/bin/python3\nimport os, socket\ns = socket.create_server(('127.0.0.1', int(os.environ['PORT'])))\nwhile True:\n    c, _ = s.accept()\n    if c.recv(65536):\n        c.sendall(b'HTTP/1.1 200 OK\\r\\ntransfer-encoding: chunked\\r\\ntrailer: x-sum\\r\\n\\r\\n3\\r\\nabc\\r\\n0\\r\\nx-sum: 3\\r\\n\\r\\n')\n    c.close()\n",
        &["--contract", "http"],
    );
    let get = request("GET", &format!("http://{}/fn/trailers", server.address), "");
    let answers = block_on(async {
        let stream = TcpStream::connect(server.address)
            .await
            .expect("a connection");
        over_http2(stream, vec![get]).await
    });
    let (status, body, trailers) = &answers[0];
    assert_eq!((*status, body.as_str()), (200, "abc"));
    assert_eq!(
        trailers
            .as_ref()
            .and_then(|t| t.get("x-sum"))
            .map(|v| v.as_bytes()),
        Some(&b"3"[..])
    );
}

/// A certificate for `localhost` and its key, made by the `openssl` program.
pub(crate) fn certificate(folder: &Path) -> (PathBuf, PathBuf) {
    let (certificate, key) = (folder.join("certificate.pem"), folder.join("key.pem"));
    let made = std::process::Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
        ])
        .args([
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=DNS:localhost,IP:127.0.0.1",
            "-addext",
            "basicConstraints=critical,CA:FALSE",
        ])
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .output()
        .expect("the package openssl is installed");
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
    (certificate, key)
}

#[test]
fn tls_offers_both_versions() {
    let folder = tempfile::tempdir().expect("a folder");
    let (certificate, key) = certificate(folder.path());
    let text = |path: &Path| path.to_str().expect("text").to_owned();
    let server = Server::options()
        .set("tls.certificate", &text(&certificate))
        .set("tls.key", &text(&key))
        .start();
    assert!(server.url.starts_with("https://"));
    // The command does not know this certificate; a plain socket gets no answer in plain text.
    let ran = server.cli(&["list"]).code(3);
    assert!(ran.stderr.contains("certificate"), "{ran}");
    assert!(server.call("GET", "/healthz").try_send().is_err());

    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(rustls_pki_types::CertificateDer::from_pem_file(&certificate).expect("a certificate"))
        .expect("a root");
    for (protocol, two) in [("h2", true), ("http/1.1", false)] {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots.clone())
            .with_no_client_auth();
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        block_on(async {
            let stream = TcpStream::connect(server.address)
                .await
                .expect("a connection");
            let name = "localhost".try_into().expect("a name");
            let stream = connector.connect(name, stream).await.expect("a handshake");
            assert_eq!(
                stream.get_ref().1.alpn_protocol(),
                Some(protocol.as_bytes())
            );
            if two {
                let answers = over_http2(
                    stream,
                    vec![request("GET", "https://localhost/healthz", "")],
                )
                .await;
                assert_eq!((answers[0].0, answers[0].1.as_str()), (200, "ok\n"));
            } else {
                let (mut sender, connection) =
                    hyper::client::conn::http1::handshake(TokioIo::new(stream))
                        .await
                        .expect("HTTP/1.1");
                tokio::spawn(connection);
                let mut get = request("GET", "/healthz", "");
                get.headers_mut()
                    .insert("host", "localhost".parse().expect("a value"));
                let response = sender.send_request(get).await.expect("an answer");
                assert_eq!(response.status(), 200);
            }
        });
    }
}

#[test]
fn tls_files_that_cannot_be_used_are_one_clear_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let (certificate, key) = certificate(folder.path());
    let text = |path: &Path| path.to_str().expect("text").to_owned();
    let start = |certificate: &str, key: &str| {
        Server::options()
            .set("tls.certificate", certificate)
            .set("tls.key", key)
            .refused()
            .code(1)
    };
    start("/nowhere/c.pem", &text(&key)).says(&["TLS", "/nowhere/c.pem"]);
    start(&text(&key), &text(&key)).says(&["holds no certificate"]);
    let other = folder.path().join("other");
    std::fs::create_dir(&other).expect("made");
    let (_, foreign) = self::certificate(&other);
    start(&text(&certificate), &text(&foreign)).says(&["TLS"]);
}
