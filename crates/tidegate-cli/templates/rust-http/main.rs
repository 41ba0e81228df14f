//! Greets whoever the query names: an HTTP server on $PORT.
//!
//! It speaks just enough HTTP for a platform in front of it, with the standard library alone. Anything larger is better
//! off with a server from the Rust registry.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

/// Longest head and longest body in bytes.
const MAX_HEAD: u64 = 16 * 1024;
const MAX_BODY: u64 = 64 * 1024;

fn main() -> io::Result<()> {
    let port = std::env::var("PORT").map_err(io::Error::other)?;
    let listener = TcpListener::bind(format!("127.0.0.1:{port}"))?;
    for connection in listener.incoming() {
        let connection = connection?;
        thread::spawn(move || {
            if let Err(error) = serve(&connection) {
                eprintln!("{error}");
            }
        });
    }
    Ok(())
}

/// Answers the requests of one connection, one after the other.
fn serve(connection: &TcpStream) -> io::Result<()> {
    let mut reader = BufReader::new(connection);
    let mut writer = connection;
    while let Some(request) = Request::read(&mut reader)? {
        let body = format!("{}\n", greeting(&request));
        write!(
            writer,
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )?;
        writer.flush()?;
    }
    Ok(())
}

fn greeting(request: &Request) -> String {
    let query = request.target.split_once('?').map_or("", |(_, query)| query);
    let named = query.split('&').find_map(|pair| pair.strip_prefix("name="));
    match (named, request.body.trim()) {
        (Some(name), _) if !name.is_empty() => format!("hello, {name}"),
        (_, "") => "hello, world".to_owned(),
        (_, name) => format!("hello, {name}"),
    }
}

struct Request {
    target: String,
    body: String,
}

impl Request {
    /// The next request; nothing when the other side is done.
    fn read(reader: &mut impl BufRead) -> io::Result<Option<Self>> {
        let mut head = reader.take(MAX_HEAD);
        let mut line = String::new();
        if head.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let target = line.split(' ').nth(1).unwrap_or("/").to_owned();
        let mut length = 0;
        let mut chunked = false;
        loop {
            line.clear();
            if head.read_line(&mut line)? == 0 {
                return Err(io::Error::other("the head of the request is cut off, or too long"));
            }
            if line.trim().is_empty() {
                break;
            }
            if let Some((name, value)) = line.split_once(':') {
                if name.eq_ignore_ascii_case("content-length") {
                    length = value.trim().parse().map_err(io::Error::other)?;
                }
                chunked |= name.eq_ignore_ascii_case("transfer-encoding") && value.trim().eq_ignore_ascii_case("chunked");
            }
        }
        let mut body = Vec::new();
        if chunked {
            read_chunks(reader, &mut body)?;
        } else {
            read_part(reader, length, &mut body)?;
        }
        let body = String::from_utf8(body).map_err(io::Error::other)?;
        Ok(Some(Self { target, body }))
    }
}

/// A body whose length was not known beforehand: parts, each after a line with its length, to an empty one.
fn read_chunks(reader: &mut impl BufRead, body: &mut Vec<u8>) -> io::Result<()> {
    loop {
        let mut line = String::new();
        reader.take(MAX_HEAD).read_line(&mut line)?;
        let length = line.split(';').next().unwrap_or_default().trim();
        let length = u64::from_str_radix(length, 16).map_err(io::Error::other)?;
        read_part(reader, length, body)?;
        reader.take(MAX_HEAD).read_line(&mut line)?;
        if length == 0 {
            return Ok(());
        }
    }
}

fn read_part(reader: &mut impl BufRead, length: u64, body: &mut Vec<u8>) -> io::Result<()> {
    if length > MAX_BODY.saturating_sub(body.len() as u64) {
        return Err(io::Error::other("the body is too long"));
    }
    reader.take(length).read_to_end(body)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn greet(text: &str) -> String {
        greeting(&Request::read(&mut text.as_bytes()).unwrap().unwrap())
    }

    #[test]
    fn greets_by_name() {
        assert_eq!(greet("GET /?name=gate HTTP/1.1\r\n\r\n"), "hello, gate");
        assert_eq!(greet("GET / HTTP/1.1\r\n\r\n"), "hello, world");
        assert_eq!(greet("POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\ntide\n"), "hello, tide");
        let chunks = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nti\r\n3\r\nde\n\r\n0\r\n\r\n";
        assert_eq!(greet(chunks), "hello, tide");
    }
}
