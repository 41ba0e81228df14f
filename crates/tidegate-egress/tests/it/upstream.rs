//! Through the operator's own proxy.

use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tidegate_egress::{NoProxy, Policy, Upstream, Upstreams};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::world::{Door, echo, page, read_head, site};

/// A proxy that takes everything for itself: it answers requests, and sends back what comes through its tunnels.
async fn far_proxy(answer: &'static str) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let heads: Arc<Mutex<Vec<String>>> = Arc::default();
    let kept = heads.clone();
    let at = site("127.0.0.1:0", move |mut connection| {
        let kept = kept.clone();
        async move {
            let head = read_head(&mut connection).await;
            kept.lock().push(head);
            let _ = connection.write_all(answer.as_bytes()).await;
            let (mut read, mut write) = connection.split();
            let _ = tokio::io::copy(&mut read, &mut write).await;
        }
    })
    .await;
    (at, heads)
}

fn through(at: SocketAddr) -> Policy {
    let upstream = Upstream::new(&format!("http://user:pass@{at}")).expect("a proxy");
    Policy {
        upstreams: Upstreams {
            http: Some(upstream.clone()),
            https: Some(upstream),
            past: NoProxy::default(),
        },
        ..Policy::default()
    }
}

#[tokio::test]
async fn tunnels_are_asked_for_with_the_operators_password() {
    let (at, heads) = far_proxy("HTTP/1.1 200 Connection established\r\n\r\n").await;
    let door = Door::new(through(at)).await;
    // 192.0.2.0/24 is nobody's; a name that no resolver knows is the far proxy's affair.
    let (head, mut tunnel) = door.connect("registry.invalid:443").await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    tunnel.write_all(b"through two").await.expect("sent");
    let mut back = [0; 11];
    tunnel.read_exact(&mut back).await.expect("an echo");
    assert_eq!(&back, b"through two");
    let asked = heads.lock()[0].to_lowercase();
    assert!(
        asked.starts_with("connect registry.invalid:443 http/1.1\r\n"),
        "{asked}"
    );
    assert!(asked.contains("host: registry.invalid:443\r\n"), "{asked}");
    assert!(
        asked.contains("proxy-authorization: basic dxnlcjpwyxnz\r\n"),
        "{asked}"
    );
    assert_eq!(door.events(), ["connected registry.invalid:443"]);
}

#[tokio::test]
async fn plain_requests_keep_their_whole_url() {
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nfar";
    let (at, heads) = far_proxy(answer).await;
    let door = Door::new(through(at)).await;
    let answer = door.get("http://registry.invalid/x?y").await;
    assert!(answer.ends_with("\r\n\r\nfar"), "{answer}");
    let asked = heads.lock()[0].to_lowercase();
    assert!(
        asked.starts_with("get http://registry.invalid/x?y http/1.1\r\n"),
        "{asked}"
    );
    assert!(asked.contains("host: registry.invalid\r\n"), "{asked}");
    assert!(
        asked.contains("proxy-authorization: basic dxnlcjpwyxnz\r\n"),
        "{asked}"
    );
}

#[tokio::test]
async fn what_may_not_be_reached_is_not_asked_of_the_far_proxy_either() {
    let (at, heads) = far_proxy("HTTP/1.1 200 OK\r\n\r\n").await;
    let door = Door::new(through(at)).await;
    for target in [
        "127.0.0.1:8080",
        "localhost:8080",
        "169.254.169.254:80",
        "10.0.0.1:443",
        "a.org:22",
    ] {
        let (head, _) = door.connect(target).await;
        assert!(head.starts_with("HTTP/1.1 403 "), "{target}: {head}");
    }
    assert_eq!(heads.lock().len(), 0);
}

#[tokio::test]
async fn a_far_proxy_that_refuses_is_named() {
    let (at, _) =
        far_proxy("HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n").await;
    let door = Door::new(through(at)).await;
    let (head, _) = door.connect("registry.invalid:443").await;
    assert!(head.starts_with("HTTP/1.1 502 "), "{head}");
    assert!(head.contains("407"), "{head}");
    assert!(!head.contains("pass"), "{head}");
    assert!(
        door.events()[0].contains(&format!("the proxy {at}: it answered 407")),
        "{:?}",
        door.events()
    );
}

#[tokio::test]
async fn what_goes_past_it_is_dialled() {
    let (at, heads) = far_proxy("HTTP/1.1 200 OK\r\n\r\n").await;
    let (site, _) = page("127.0.0.1:0", "near").await;
    let tunnel = echo("127.0.0.1:0").await;
    let mut policy = through(at);
    policy.networks = vec!["127.0.0.1".parse().expect("a network")];
    policy.upstreams.past = NoProxy::new("127.0.0.0/8");
    let door = Door::new(policy).await;
    assert!(door.get(&format!("http://{site}/")).await.ends_with("near"));
    let (head, mut tunnel) = door.connect(&tunnel.to_string()).await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    tunnel.write_all(b"x").await.expect("sent");
    assert_eq!(tunnel.read_u8().await.expect("an echo"), b'x');
    assert_eq!(heads.lock().len(), 0);
}
