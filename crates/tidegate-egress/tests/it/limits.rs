//! How much, and for how long.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tidegate_egress::{Limits, Policy, Resolve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::world::{Door, echo, naming, read_head, rest, site, until};

const SHORT: Duration = Duration::from_millis(200);

fn limited(at: SocketAddr, change: impl FnOnce(&mut Limits)) -> Policy {
    let mut policy = naming(&[at]);
    change(&mut policy.limits);
    policy
}

#[tokio::test]
async fn connections_are_counted_and_come_back() {
    let at = echo("127.0.0.1:0").await;
    let door = Door::new(limited(at, |l| l.connections = 2)).await;
    let (head, first) = door.connect(&at.to_string()).await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    let (_, _second) = door.connect(&at.to_string()).await;
    let mut third = door.open().await;
    let answer = rest(&mut third).await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(
        answer.contains("2 connections are open already"),
        "{answer}"
    );
    drop(first);
    // The seat is free once the tunnel has noticed.
    let began = Instant::now();
    loop {
        let (head, _) = door.connect(&at.to_string()).await;
        if head.starts_with("HTTP/1.1 200 ") {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(10), "{head}");
    }
}

#[tokio::test]
async fn bytes_are_counted_over_all_connections() {
    let at = echo("127.0.0.1:0").await;
    let door = Door::new(limited(at, |l| l.bytes = 1 << 20)).await;
    let (_, mut one) = door.connect(&at.to_string()).await;
    let (_, mut other) = door.connect(&at.to_string()).await;
    let piece = vec![0; 64 * 1024];
    let mut back = vec![0; piece.len()];
    let mut moved = 0;
    // There and back counts twice.
    while one.write_all(&piece).await.is_ok() && one.read_exact(&mut back).await.is_ok() {
        moved += 2 * piece.len();
        assert!(moved <= 1 << 20, "{moved} bytes went through");
    }
    assert!(moved >= 1 << 19, "{moved} bytes went through");
    assert_eq!(rest(&mut other).await, "", "the other one ends too");
    let last = until("event", || {
        door.events().pop().filter(|e| e.contains("MiB"))
    })
    .await;
    assert!(last.contains("1 MiB over the network"), "{last}");
    let (head, _) = door.connect(&at.to_string()).await;
    assert_eq!(head, "", "nothing is served any more");
}

#[tokio::test]
async fn a_silent_tunnel_ends_and_one_that_speaks_does_not() {
    let at = echo("127.0.0.1:0").await;
    let door = Door::new(limited(at, |l| l.idle = SHORT)).await;
    let began = Instant::now();
    let (_, mut silent) = door.connect(&at.to_string()).await;
    let (_, mut speaking) = door.connect(&at.to_string()).await;
    let ended = tokio::spawn(async move {
        rest(&mut silent).await;
        began.elapsed()
    });
    while began.elapsed() < SHORT * 4 {
        speaking.write_all(b"x").await.expect("sent");
        assert_eq!(speaking.read_u8().await.expect("an echo"), b'x');
        tokio::time::sleep(SHORT / 10).await;
    }
    let after = ended.await.expect("it ends");
    assert!(
        after >= SHORT && after < Duration::from_secs(5),
        "{after:?}"
    );
}

#[tokio::test]
async fn a_host_that_never_answers_is_given_up() {
    let at = site("127.0.0.1:0", |mut connection| async move {
        read_head(&mut connection).await;
        std::future::pending::<()>().await;
    })
    .await;
    let door = Door::new(limited(at, |l| l.idle = SHORT)).await;
    let began = Instant::now();
    let answer = door.get(&format!("http://{at}/")).await;
    assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
    assert!(answer.contains("nothing came for too long"), "{answer}");
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_name_that_is_never_resolved_is_given_up() {
    struct Never;
    #[async_trait]
    impl Resolve for Never {
        async fn resolve(&self, _: &str, _: u16) -> io::Result<Vec<SocketAddr>> {
            std::future::pending().await
        }
    }
    let mut policy = Policy::default();
    policy.limits.connect = SHORT;
    let door = Door::with(policy, Never).await;
    let (head, _) = door.connect("example.org:443").await;
    assert!(head.starts_with("HTTP/1.1 502 "), "{head}");
    assert!(head.contains("no answer within 200ms"), "{head}");
}

#[tokio::test]
async fn a_client_that_dribbles_its_head_is_given_up() {
    let mut policy = Policy::default();
    policy.limits.head = SHORT;
    let door = Door::new(policy).await;
    let mut connection = door.open().await;
    let began = Instant::now();
    let (mut read, mut write) = connection.split();
    let dribble = async {
        while write.write_all(b"G").await.is_ok() {
            tokio::time::sleep(SHORT / 10).await;
        }
    };
    let mut buffer = [0; 1024];
    let ended = async { while !matches!(read.read(&mut buffer).await, Ok(0) | Err(_)) {} };
    tokio::select! {
        () = dribble => {}
        () = ended => {}
    }
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn dropping_the_proxy_ends_its_connections() {
    let at = echo("127.0.0.1:0").await;
    let door = Door::new(naming(&[at])).await;
    let (_, mut tunnel) = door.connect(&at.to_string()).await;
    let mut waiting = door.open().await;
    *door.proxy.lock() = None;
    assert_eq!(rest(&mut tunnel).await, "");
    assert_eq!(rest(&mut waiting).await, "");
}
