//! What is allowed goes through.

use tidegate_egress::Policy;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::world::{Door, echo, naming, page, read_head, rest, site};

#[tokio::test]
async fn a_plain_request_is_sent_on_without_what_is_of_one_connection() {
    let (at, heads) = page("127.0.0.1:0", "hello").await;
    let door = Door::new(naming(&[at])).await;
    let answer = door
        .say(&format!(
            "GET http://{at}/a/b?c=d HTTP/1.1\r\nHost: something.else\r\nProxy-Authorization: Basic eDp5\r\n\
             Proxy-Connection: keep-alive\r\nX-Private: 1\r\nAccept: text/plain\r\nConnection: close, x-private\r\n\r\n"
        ))
        .await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\nhello"), "{answer}");
    let lower = answer.to_lowercase();
    assert!(lower.contains("x-kept: 1"), "{answer}");
    for gone in ["keep-alive", "x-mine"] {
        assert!(!lower.contains(gone), "{gone}: {answer}");
    }
    let head = heads.lock()[0].to_lowercase();
    assert!(head.starts_with("get /a/b?c=d http/1.1\r\n"), "{head}");
    assert!(head.contains(&format!("host: {at}\r\n")), "{head}");
    assert!(head.contains("accept: text/plain\r\n"), "{head}");
    for gone in ["proxy-", "x-private", "something.else"] {
        assert!(!head.contains(gone), "{gone}: {head}");
    }
    assert_eq!(door.events(), [format!("connected {at}")]);
    // Told once.
    door.get(&format!("http://{at}/")).await;
    assert_eq!(door.events().len(), 1);
}

#[tokio::test]
async fn bodies_go_both_ways_and_a_connection_serves_again() {
    let at = site("127.0.0.1:0", |mut connection| async move {
        let head = read_head(&mut connection).await.to_lowercase();
        assert!(head.contains("content-length: 100000"), "{head}");
        let mut body = vec![0; 100_000];
        connection.read_exact(&mut body).await.expect("a body");
        let answer = format!(
            "HTTP/1.1 201 Created\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        connection.write_all(answer.as_bytes()).await.expect("sent");
        connection.write_all(&body).await.expect("sent");
    })
    .await;
    let door = Door::new(naming(&[at])).await;
    let mut connection = door.open().await;
    let body = "x".repeat(100_000);
    for _ in 0..2 {
        let request = format!(
            "POST http://{at}/ HTTP/1.1\r\nHost: {at}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        connection
            .write_all(request.as_bytes())
            .await
            .expect("sent");
        let head = read_head(&mut connection).await;
        assert!(head.starts_with("HTTP/1.1 201 Created"), "{head}");
        let mut back = vec![0; body.len()];
        connection.read_exact(&mut back).await.expect("an answer");
        assert_eq!(back, body.as_bytes());
    }
}

#[tokio::test]
async fn a_tunnel_carries_bytes_both_ways_until_both_ends() {
    let at = echo("127.0.0.1:0").await;
    let door = Door::new(naming(&[at])).await;
    let (head, mut tunnel) = door.connect(&at.to_string()).await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert!(!head.to_lowercase().contains("content-length"), "{head}");
    for round in 0..3 {
        let text = format!("round {round}");
        tunnel.write_all(text.as_bytes()).await.expect("sent");
        let mut back = vec![0; text.len()];
        tunnel.read_exact(&mut back).await.expect("an echo");
        assert_eq!(back, text.as_bytes());
    }
    // One side is done; the other still speaks.
    tunnel.write_all(b"last").await.expect("sent");
    tunnel.shutdown().await.expect("shut");
    assert_eq!(rest(&mut tunnel).await, "last");
    assert_eq!(door.events(), [format!("connected {at}")]);
}

#[tokio::test]
async fn old_clients_are_served() {
    let at = echo("127.0.0.1:0").await;
    let (site, _) = page("127.0.0.1:0", "hello").await;
    let door = Door::new(naming(&[at, site])).await;
    let mut tunnel = door.open().await;
    let ask = format!("CONNECT {at} HTTP/1.0\r\n\r\n");
    tunnel.write_all(ask.as_bytes()).await.expect("sent");
    let head = read_head(&mut tunnel).await;
    assert!(head.starts_with("HTTP/1.0 200 "), "{head}");
    tunnel.write_all(b"old").await.expect("sent");
    let mut back = [0; 3];
    tunnel.read_exact(&mut back).await.expect("an echo");
    assert_eq!(&back, b"old");
    let answer = door
        .say(&format!("GET http://{site}/ HTTP/1.0\r\n\r\n"))
        .await;
    assert!(answer.ends_with("\r\n\r\nhello"), "{answer}");
}

#[tokio::test]
async fn bytes_that_come_with_the_asking_are_not_lost() {
    let at = echo("127.0.0.1:0").await;
    let door = Door::new(naming(&[at])).await;
    let mut connection = door.open().await;
    let ask = format!("CONNECT {at} HTTP/1.1\r\nHost: {at}\r\n\r\nearly");
    connection.write_all(ask.as_bytes()).await.expect("sent");
    read_head(&mut connection).await;
    let mut back = [0; 5];
    connection.read_exact(&mut back).await.expect("an echo");
    assert_eq!(&back, b"early");
}

#[tokio::test]
async fn what_does_not_answer_is_told() {
    // A port that was free a moment ago.
    let free = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let at = free.local_addr().expect("an address");
    drop(free);
    let door = Door::new(naming(&[at])).await;
    let answer = door.get(&format!("http://{at}/")).await;
    assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
    assert!(
        answer.contains(&format!("{at} cannot be reached")),
        "{answer}"
    );
    assert!(answer.contains("refused"), "{answer}");
    let (head, _) = door.connect(&at.to_string()).await;
    assert!(head.starts_with("HTTP/1.1 502 "), "{head}");
    assert!(door.events()[0].starts_with(&format!("not connected {at}: ")));
    // A host that hangs up instead of answering.
    let at = site("127.0.0.1:0", |mut connection| async move {
        read_head(&mut connection).await;
    })
    .await;
    let door = Door::new(naming(&[at])).await;
    let answer = door.get(&format!("http://{at}/")).await;
    assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
    // A name that nobody has.
    let door = Door::new(Policy::default()).await;
    let answer = door.get("http://no-such-host.invalid/").await;
    assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
    assert!(answer.contains("its name leads nowhere"), "{answer}");
}
