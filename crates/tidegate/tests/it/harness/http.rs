//! A small HTTP/1.1 client on a plain socket: it shows when bytes come, how a body ends, and lets a test send what no
//! proper client would.

use std::fmt;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Longest wait for a byte.
const READ_LIMIT: Duration = Duration::from_secs(40);

/// Bytes that a socket takes without anybody reading.
const AT_ONCE: usize = 16 * 1024;

/// A request to be made.
pub(crate) struct Call {
    address: SocketAddr,
    head: String,
    headers: String,
    has_host: bool,
    body: Vec<u8>,
}

/// One connection.
pub(crate) struct Connection {
    stream: BufReader<TcpStream>,
}

/// A response whose body is still to be read.
pub(crate) struct Exchange {
    connection: Connection,
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    left: Left,
}

/// How the end of a body is told.
enum Left {
    Bytes(u64),
    Chunks,
    Close,
    Nothing,
}

/// A response, read to its end.
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Whether the body ended as it had been declared.
    pub(crate) whole: bool,
}

// === impl Call ===

impl Call {
    pub(crate) fn new(address: SocketAddr, method: &str, target: &str) -> Self {
        Self {
            address,
            head: format!("{method} {target} HTTP/1.1\r\n"),
            headers: String::new(),
            has_host: false,
            body: Vec::new(),
        }
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.has_host |= name.eq_ignore_ascii_case("host");
        self.headers.push_str(&format!("{name}: {value}\r\n"));
        self
    }

    pub(crate) fn bearer(self, key: &str) -> Self {
        self.header("authorization", &format!("Bearer {key}"))
    }

    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self.headers
            .push_str(&format!("content-length: {}\r\n", self.body.len()));
        self
    }

    /// The head as it goes over the wire.
    fn head(&self) -> String {
        let host = if self.has_host {
            String::new()
        } else {
            format!("host: {}\r\n", self.address)
        };
        format!("{}{host}{}\r\n", self.head, self.headers)
    }

    /// Sends it on a fresh connection and reads the whole answer.
    #[track_caller]
    pub(crate) fn send(self) -> Reply {
        self.try_send().expect("an answer")
    }

    pub(crate) fn try_send(self) -> io::Result<Reply> {
        Ok(self.open()?.finish())
    }

    /// Sends it on a fresh connection and reads the head of the answer.
    pub(crate) fn open(self) -> io::Result<Exchange> {
        Connection::open(self.address)?.exchange(&self)
    }

    /// Sends it and nothing more: whoever gets the connection decides what to read, or to hang up.
    pub(crate) fn begin(self) -> io::Result<Connection> {
        let mut connection = Connection::open(self.address)?;
        connection.write(&self)?;
        Ok(connection)
    }
}

// === impl Connection ===

impl Connection {
    pub(crate) fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(READ_LIMIT))?;
        stream.set_write_timeout(Some(READ_LIMIT))?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream: BufReader::new(stream),
        })
    }

    pub(crate) fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    pub(crate) fn stream(&mut self) -> &mut BufReader<TcpStream> {
        &mut self.stream
    }

    fn write(&mut self, call: &Call) -> io::Result<()> {
        self.raw(call.head().as_bytes())?;
        if call.body.len() <= AT_ONCE {
            return self.raw(&call.body);
        }
        // The answer may begin before the body has ended, and may have to be read for it to go on. One that was refused
        // is cut off; its answer tells.
        let mut stream = self.stream.get_ref().try_clone()?;
        let body = call.body.clone();
        std::thread::spawn(move || stream.write_all(&body));
        Ok(())
    }

    pub(crate) fn exchange(mut self, call: &Call) -> io::Result<Exchange> {
        self.write(call)?;
        self.answer(call.head.starts_with("HEAD "))
    }

    /// Reads the head of an answer.
    pub(crate) fn answer(mut self, no_body: bool) -> io::Result<Exchange> {
        let line = self.line()?;
        let status = line
            .split(' ')
            .nth(1)
            .and_then(|word| word.parse().ok())
            .ok_or_else(|| io::Error::other(format!("no status line: {line:?}")))?;
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            let Some((name, value)) = line.split_once(':') else {
                break;
            };
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let get = |name| find(&headers, name);
        let left = if no_body || status == 204 || status == 304 || status == 101 {
            Left::Nothing
        } else if get("transfer-encoding") == Some("chunked") {
            Left::Chunks
        } else if let Some(length) = get("content-length") {
            Left::Bytes(length.parse().map_err(io::Error::other)?)
        } else {
            Left::Close
        };
        Ok(Exchange {
            connection: self,
            status,
            headers,
            left,
        })
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end_matches(['\r', '\n']).to_owned())
    }
}

// === impl Exchange ===

impl Exchange {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    /// Sends more of the request while its answer comes.
    pub(crate) fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.connection.raw(bytes)
    }

    /// The next piece as it comes; `None` at the declared end, an error where the body broke off.
    pub(crate) fn piece(&mut self) -> io::Result<Option<Vec<u8>>> {
        match self.left {
            Left::Nothing | Left::Bytes(0) => Ok(None),
            Left::Bytes(ref mut left) => {
                let mut piece = vec![0; usize::try_from(*left).unwrap_or(usize::MAX).min(65536)];
                let n = self.connection.stream.read(&mut piece)?;
                if n == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                *left -= n as u64;
                piece.truncate(n);
                Ok(Some(piece))
            }
            Left::Chunks => {
                let size = self.connection.line()?;
                let size = size.split(';').next().unwrap_or_default();
                let size = usize::from_str_radix(size, 16).map_err(io::Error::other)?;
                let mut piece = vec![0; size];
                self.connection.stream.read_exact(&mut piece)?;
                if size > 0 {
                    self.connection.line()?;
                    return Ok(Some(piece));
                }
                self.left = Left::Nothing;
                loop {
                    let line = self.connection.line()?;
                    match line.split_once(':') {
                        // Trailers.
                        Some((name, value)) => self
                            .headers
                            .push((name.to_ascii_lowercase(), value.trim().to_owned())),
                        None => return Ok(None),
                    }
                }
            }
            Left::Close => {
                let mut piece = vec![0; 65536];
                let n = self.connection.stream.read(&mut piece)?;
                piece.truncate(n);
                Ok((n > 0).then_some(piece))
            }
        }
    }

    pub(crate) fn finish(mut self) -> Reply {
        let (body, whole) = self.rest();
        Reply {
            status: self.status,
            headers: self.headers,
            body,
            whole,
        }
    }

    /// The connection after the answer, for the next.
    pub(crate) fn next(mut self) -> (Reply, Connection) {
        let (body, whole) = self.rest();
        let reply = Reply {
            status: self.status,
            headers: self.headers,
            body,
            whole,
        };
        (reply, self.connection)
    }

    /// The connection, of an upgrade.
    pub(crate) fn into_connection(self) -> Connection {
        self.connection
    }

    fn rest(&mut self) -> (Vec<u8>, bool) {
        let mut body = Vec::new();
        loop {
            match self.piece() {
                Ok(Some(piece)) => body.extend(piece),
                Ok(None) => return (body, true),
                Err(_) => return (body, false),
            }
        }
    }
}

// === impl Reply ===

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }

    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {self}"))
    }

    /// The outcome, where the answer is not the code's.
    pub(crate) fn outcome(&self) -> Option<&str> {
        self.header("x-tidegate-outcome")
    }

    /// The same, when it has this status.
    #[track_caller]
    pub(crate) fn status(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self}");
        self
    }

    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        self.status(200)
    }

    /// The same, when the body has all of this.
    #[track_caller]
    pub(crate) fn says(self, parts: &[&str]) -> Self {
        let text = String::from_utf8_lossy(&self.body);
        for part in parts {
            assert!(text.contains(part), "{part:?} is not in {self}");
        }
        self
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let body = String::from_utf8_lossy(&self.body[..self.body.len().min(2000)]);
        write!(
            f,
            "{} {:?} whole={} {body}",
            self.status, self.headers, self.whole
        )
    }
}

fn find<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers
        .iter()
        .find(|(n, _)| n == name)
        .map(|(_, v)| v.as_str())
}
