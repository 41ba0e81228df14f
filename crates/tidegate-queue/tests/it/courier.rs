//! The courier, with a receiver that speaks HTTP on loopback.

use std::sync::Arc;

use aws_lc_rs::hmac;
use futures_util::stream;
use tidegate_egress::{Dialer, Policy as Reach};
use tidegate_queue::{Attempt, Courier, CourierOptions, Forbidden, Ran, Signing, SigningKey, Work};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::*;

const SECRET: &[u8] = b"the namespace's own";
const ATTEMPT: Attempt = Attempt {
    number: 2,
    due_ms: 0,
    deadline_ms: u64::MAX,
};

async fn courier(dir: &Path, reach: Reach) -> (Queue, Courier) {
    let queue = open(dir).await;
    let signing: Signing =
        Arc::new(|namespace: &str| (namespace == "default").then(|| SigningKey::new(SECRET)));
    let mut options = CourierOptions::default();
    options.timeout = Duration::from_secs(10);
    let courier = Courier::new(queue.clone(), Dialer::new(reach), signing, options).unwrap();
    (queue, courier)
}

/// May reach this machine, as nobody may by default.
fn home() -> Reach {
    Reach {
        networks: vec!["127.0.0.0/8".parse().unwrap()],
        ..Reach::default()
    }
}

/// Answers one request so, and gives what it got: the head's lines, and the body.
async fn receiver(answer: &'static str) -> (String, JoinHandle<(Vec<String>, Vec<u8>)>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook?a=b", listener.local_addr().unwrap());
    let task = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut bytes = Vec::new();
        let end = loop {
            let mut chunk = [0; 4096];
            let count = stream.read(&mut chunk).await.unwrap();
            bytes.extend_from_slice(&chunk[..count]);
            if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                break end;
            }
            assert!(count > 0, "no whole head");
        };
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let lines: Vec<String> = head.lines().map(str::to_owned).collect();
        let length = lines
            .iter()
            .find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.unwrap().parse().unwrap();
        let mut body = bytes.split_off(end + 4);
        while body.len() < length {
            let mut chunk = vec![0; 64 * 1024];
            let count = stream.read(&mut chunk).await.unwrap();
            assert!(count > 0, "no whole body");
            body.extend_from_slice(&chunk[..count]);
        }
        stream.write_all(answer.as_bytes()).await.unwrap();
        (lines, body)
    });
    (url, task)
}

fn work(body: Body) -> Work {
    let mut submission = submission("f", "");
    submission.request.body = body;
    submission.request.headers = vec![
        ("content-type".to_owned(), b"text/plain".to_vec()),
        ("connection".to_owned(), b"upgrade".to_vec()),
        ("host".to_owned(), b"elsewhere".to_vec()),
        ("x-tidegate-signature".to_owned(), b"sha256=forged".to_vec()),
    ];
    Work {
        submission,
        accepted_ms: 0,
        tries: 1,
    }
}

fn outcome(ran: &Ran) -> Outcome {
    match ran.verdict {
        Verdict::Ended(ended) => ended.outcome,
        other => panic!("{other:?}: {ran:?}"),
    }
}

fn assert_signed(lines: &[String], body: &[u8]) {
    let signatures: Vec<&str> = lines
        .iter()
        .filter_map(|line| line.strip_prefix("x-tidegate-signature: sha256="))
        .collect();
    assert_eq!(signatures.len(), 1, "{lines:?}");
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET);
    let expected: String = hmac::sign(&key, body)
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(signatures[0], expected);
}

#[tokio::test]
async fn a_receiver_gets_the_request_signed_and_nothing_of_another_connection() {
    let dir = tempfile::tempdir().unwrap();
    let (_queue, courier) = courier(dir.path(), home()).await;
    let (url, got) = receiver("HTTP/1.1 202 Accepted\r\ncontent-length: 2\r\n\r\nok").await;
    let work = work(Body::Inline(Bytes::from_static(b"the body")));
    let ran = courier.deliver(&work, &url, ATTEMPT).await;
    assert_eq!(outcome(&ran), Outcome::Ok, "{ran:?}");
    assert_eq!(ran.answer.unwrap().body, "ok");
    let (lines, body) = got.await.unwrap();
    assert_eq!(lines[0], "POST /hook?a=b HTTP/1.1");
    assert_eq!(body, b"the body");
    let has = |line: &str| lines.iter().any(|one| one == line);
    assert!(has("content-type: text/plain"), "{lines:?}");
    assert!(has("tidegate-attempt: 2"), "{lines:?}");
    let id = work.submission.id.hyphenated();
    assert!(has(&format!("tidegate-delivery: {id}")), "{lines:?}");
    let host = url.strip_prefix("http://").unwrap().split('/').next();
    assert!(has(&format!("host: {}", host.unwrap())), "{lines:?}");
    assert!(!lines.iter().any(|line| line.starts_with("connection")));
    assert_signed(&lines, b"the body");
}

#[tokio::test]
async fn a_body_that_is_on_disk_is_sent_from_there() {
    let dir = tempfile::tempdir().unwrap();
    let (queue, courier) = courier(dir.path(), home()).await;
    let large = vec![b'z'; 3_000_000];
    let chunks: Vec<Result<Bytes, std::io::Error>> = large
        .chunks(100_000)
        .map(|chunk| Ok(Bytes::copy_from_slice(chunk)))
        .collect();
    let spooled = queue.spool(stream::iter(chunks), 10_000_000).await.unwrap();
    let (url, got) = receiver("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let work = work(Body::Spooled(spooled));
    let ran = courier.deliver(&work, &url, ATTEMPT).await;
    assert_eq!(outcome(&ran), Outcome::Ok, "{ran:?}");
    let (lines, body) = got.await.unwrap();
    assert_eq!(body, large);
    assert_signed(&lines, &large);
}

#[tokio::test]
async fn what_a_receiver_answers_decides_what_follows() {
    let dir = tempfile::tempdir().unwrap();
    let (_queue, courier) = courier(dir.path(), home()).await;
    for (answer, expected, retry_after) in [
        (
            "HTTP/1.1 503 Busy\r\nretry-after: 7\r\ncontent-length: 0\r\n\r\n",
            Outcome::Application,
            Some(7000),
        ),
        (
            "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n",
            Outcome::Function,
            None,
        ),
        ("not HTTP at all\r\n\r\n", Outcome::Function, None),
    ] {
        let (url, got) = receiver(answer).await;
        let work = work(Body::Inline(Bytes::new()));
        let ran = courier.deliver(&work, &url, ATTEMPT).await;
        assert_eq!(outcome(&ran), expected, "{answer}: {ran:?}");
        let Verdict::Ended(ended) = ran.verdict else {
            panic!("{ran:?}");
        };
        assert_eq!(ended.retry_after_ms, retry_after);
        assert!(ran.message.is_some());
        got.await.unwrap();
    }
    // Nobody listens any more.
    let (url, got) = receiver("").await;
    got.abort();
    assert!(got.await.unwrap_err().is_cancelled());
    let ran = courier
        .deliver(&work(Body::Inline(Bytes::new())), &url, ATTEMPT)
        .await;
    assert_eq!(outcome(&ran), Outcome::Function, "{ran:?}");
}

#[tokio::test]
async fn what_may_not_be_reached_is_refused_when_it_can_be_known_and_never_dialled() {
    let dir = tempfile::tempdir().unwrap();
    let (_queue, courier) = courier(dir.path(), Reach::default()).await;
    courier.check("https://hooks.example.org/path").unwrap();
    for (url, words) in [
        ("http://127.0.0.1:8080/", "loopback"),
        ("http://[::1]:8080/", "loopback"),
        ("http://169.254.169.254/latest/meta-data", "link-local"),
        ("http://10.1.2.3/", "private"),
        ("http://example.org:22/", "port 22"),
        ("ftp://example.org/", "no URL"),
        ("/path", "no URL"),
        ("https://user:pw@example.org/", "password"),
    ] {
        let forbidden: Forbidden = courier.check(url).unwrap_err();
        assert!(forbidden.to_string().contains(words), "{url}: {forbidden}");
        assert!(!forbidden.to_string().contains("pw@"), "{forbidden}");
    }
    // A name that leads here is found out when it is dialled.
    let (url, got) = receiver("HTTP/1.1 200 OK\r\n\r\n").await;
    let url = url.replace("127.0.0.1", "localhost");
    courier.check(&url).unwrap();
    let ran = courier
        .deliver(&work(Body::Inline(Bytes::new())), &url, ATTEMPT)
        .await;
    assert_eq!(ran.verdict, Verdict::Refused, "{ran:?}");
    assert!(ran.message.unwrap().contains("loopback"));
    assert!(!got.is_finished());
    got.abort();
}
