//! What is not allowed does not.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use tidegate_egress::{Policy, Resolve};
use tokio::io::AsyncWriteExt;

use crate::world::{Door, page, rest};

#[tokio::test]
async fn this_machine_is_refused_in_every_spelling() {
    let (at, heads) = page("127.0.0.1:0", "secret").await;
    let port = at.port();
    let door = Door::new(Policy::default()).await;
    for host in [
        "127.0.0.1",
        "127.1.2.3",
        "localhost",
        "LOCALHOST.",
        "0.0.0.0",
        "0",
        "127.1",
        "2130706433",
        "0x7f000001",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::]",
        "169.254.169.254",
        "10.0.0.1",
        "[fd00:ec2::254]",
        "[fe80::1]",
    ] {
        let answer = door.get(&format!("http://{host}:{port}/")).await;
        assert!(!answer.contains("secret"), "{host}: {answer}");
        assert!(
            answer.starts_with("HTTP/1.1 403 ") || answer.starts_with("HTTP/1.1 502 "),
            "{host}: {answer}"
        );
        let (head, _) = door.connect(&format!("{host}:{port}")).await;
        assert!(
            head.starts_with("HTTP/1.1 403 ") || head.starts_with("HTTP/1.1 502 "),
            "{host}: {head}"
        );
    }
    assert_eq!(heads.lock().len(), 0, "nobody came");
    let answer = door.get(&format!("http://127.0.0.1:{port}/")).await;
    let sentence = format!(
        "builds may not reach 127.0.0.1:{port}: 127.0.0.1 is this machine's loopback, which the operator has not allowed"
    );
    assert!(
        answer.starts_with(&format!("HTTP/1.1 403 {sentence}\r\n")),
        "{answer}"
    );
    assert!(
        answer.ends_with(&format!("\r\n\r\n{sentence}\n")),
        "{answer}"
    );
    assert_eq!(
        door.events()[0],
        format!(
            "refused 127.0.0.1:{port}: 127.0.0.1 is this machine's loopback, which the operator has not allowed"
        )
    );
}

#[tokio::test]
async fn the_machines_own_address_is_refused_though_it_looks_like_any_other() {
    // The address from which this machine would speak to the world, if it has one.
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").expect("a socket");
    let own = socket
        .connect("1.1.1.1:80")
        .and_then(|()| socket.local_addr())
        .map_or_else(|_| "127.0.0.1".parse().expect("an address"), |a| a.ip());
    let (at, heads) = page("0.0.0.0:0", "secret").await;
    let policy = Policy {
        private: true,
        ..Policy::default()
    };
    let door = Door::new(policy).await;
    let answer = door
        .get(&format!("http://{}/", SocketAddr::new(own, at.port())))
        .await;
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    assert!(answer.contains("this machine's"), "{answer}");
    assert_eq!(heads.lock().len(), 0);
}

#[tokio::test]
async fn ports_and_names_are_judged_before_anybody_is_asked() {
    struct Nobody;
    #[async_trait]
    impl Resolve for Nobody {
        async fn resolve(&self, host: &str, _: u16) -> io::Result<Vec<SocketAddr>> {
            panic!("{host} was resolved");
        }
    }
    let policy = Policy {
        hosts: Some(vec!["*.example.org".parse().expect("a pattern")]),
        ..Policy::default()
    };
    let door = Door::with(policy, Nobody).await;
    let answer = door.get("http://example.net/").await;
    assert!(answer.contains("not among the hosts"), "{answer}");
    let (head, _) = door.connect("a.example.org:25").await;
    assert!(head.starts_with("HTTP/1.1 403 "), "{head}");
    assert!(head.contains("port 25"), "{head}");
}

/// Says one thing when it is asked first and another ever after.
struct Turncoat {
    asked: AtomicUsize,
    first: Vec<SocketAddr>,
    then: Vec<SocketAddr>,
}

#[async_trait]
impl Resolve for Turncoat {
    async fn resolve(&self, _: &str, _: u16) -> io::Result<Vec<SocketAddr>> {
        Ok(match self.asked.fetch_add(1, Ordering::SeqCst) {
            0 => self.first.clone(),
            _ => self.then.clone(),
        })
    }
}

#[tokio::test]
async fn a_name_that_changes_its_mind_reaches_what_was_judged_and_nothing_else() {
    let (good, _) = page("127.0.0.1:0", "public").await;
    let bad: SocketAddr = format!("127.0.0.2:{}", good.port())
        .parse()
        .expect("an address");
    let (_, secrets) = page(&bad.to_string(), "secret").await;
    // Of the two, only one stands for the public network here.
    let policy = Policy {
        networks: vec!["127.0.0.1".parse().expect("a network")],
        ..Policy::default()
    };
    let resolver = Turncoat {
        asked: AtomicUsize::new(0),
        first: vec![good],
        then: vec![bad],
    };
    let door = Door::with(policy.clone(), resolver).await;
    let url = format!("http://rebind.example.org:{}/", good.port());
    let answer = door.get(&url).await;
    assert!(answer.ends_with("public"), "{answer}");
    let answer = door.get(&url).await;
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    // Where a name has both, the bad one is passed over.
    let resolver = Turncoat {
        asked: AtomicUsize::new(0),
        first: vec![bad, good],
        then: vec![bad, bad],
    };
    let door = Door::with(policy, resolver).await;
    assert!(door.get(&url).await.ends_with("public"));
    assert!(door.get(&url).await.starts_with("HTTP/1.1 403 "));
    assert_eq!(secrets.lock().len(), 0, "nobody came");
}

#[tokio::test]
async fn what_is_no_proxy_request_is_told_so() {
    let door = Door::new(Policy::default()).await;
    for request in [
        "GET / HTTP/1.1\r\nHost: example.org\r\nConnection: close\r\n\r\n",
        "GET https://example.org/ HTTP/1.1\r\nHost: example.org\r\nConnection: close\r\n\r\n",
        "GET ftp://example.org/ HTTP/1.1\r\nHost: example.org\r\nConnection: close\r\n\r\n",
        "CONNECT example.org HTTP/1.1\r\nHost: example.org\r\nConnection: close\r\n\r\n",
        "CONNECT example.org:0 HTTP/1.1\r\nHost: example.org\r\nConnection: close\r\n\r\n",
    ] {
        let answer = door.say(request).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{request}: {answer}");
    }
    for garbage in ["\u{16}\u{3}\u{1}\u{2}hello\r\n\r\n", "nonsense\r\n\r\n"] {
        let answer = door.say(garbage).await;
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 400 "),
            "{answer}"
        );
    }
    let long = format!(
        "GET http://example.org/ HTTP/1.1\r\nX: {}\r\n\r\n",
        "x".repeat(1_000_000)
    );
    let mut connection = door.open().await;
    // The far side may hang up before it has read everything.
    let _ = connection.write_all(long.as_bytes()).await;
    let answer = rest(&mut connection).await;
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 431 "),
        "{answer}"
    );
    assert_eq!(door.events(), Vec::<String>::new());
}
