//! A client for HTTP/1.1 on loopback, just large enough to load a server and to read what it says of itself.
//!
//! One connection, one request at a time, answers with a length. What needs more than that (many connections without a
//! thread each) is done by `wrk`, or by `bench-client`.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

/// Longest time for a connection to be made, and without a byte of an answer.
const LIMIT: Duration = Duration::from_secs(30);
/// Longest line of an answer's head, and most lines of it.
const LONGEST_LINE: u64 = 16 * 1024;
const MOST_LINES: usize = 200;
/// Longest answer read: a page of a thousand records is a tenth of it.
const LONGEST_BODY: usize = 8 * 1024 * 1024;

/// An open connection.
pub(crate) struct Connection {
    host: String,
    reader: BufReader<TcpStream>,
    out: Vec<u8>,
}

/// What was answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Names in small letters.
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    pub(crate) fn json(&self) -> Result<Value> {
        serde_json::from_slice(&self.body).context("the answer is not JSON")
    }

    /// This answer where it is one of success.
    pub(crate) fn success(self, what: &str) -> Result<Self> {
        if !(200..300).contains(&self.status) {
            let text = String::from_utf8_lossy(&self.body);
            bail!("{what} was answered {}: {}", self.status, text.trim());
        }
        Ok(self)
    }
}

impl Connection {
    /// Connects to the address in `http://ADDRESS`.
    pub(crate) fn open(url: &str) -> Result<Self> {
        let host = url
            .strip_prefix("http://")
            .map(|rest| rest.trim_end_matches('/').to_owned())
            .with_context(|| format!("the address is {url:?}; expected http://ADDRESS:PORT"))?;
        let at: SocketAddr = host
            .parse()
            .with_context(|| format!("{host:?} is no address with a port"))?;
        let stream = TcpStream::connect_timeout(&at, LIMIT)
            .with_context(|| format!("cannot connect to {at}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.set_write_timeout(Some(LIMIT))?;
        Ok(Self {
            host,
            reader: BufReader::new(stream),
            out: Vec::new(),
        })
    }

    /// Sends a request and reads its answer. After an error the connection is of no use.
    pub(crate) fn call(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Answer> {
        self.out.clear();
        write!(
            self.out,
            "{method} {path} HTTP/1.1\r\nhost: {}\r\ncontent-length: {}\r\n",
            self.host,
            body.len()
        )?;
        for (name, value) in headers {
            write!(self.out, "{name}: {value}\r\n")?;
        }
        self.out.extend_from_slice(b"\r\n");
        self.out.extend_from_slice(body);
        self.reader.get_mut().write_all(&self.out)?;
        self.answer()
    }

    fn answer(&mut self) -> Result<Answer> {
        let line = self.line()?;
        let status = line
            .strip_prefix("HTTP/1.1 ")
            .and_then(|rest| rest.get(..3)?.parse().ok())
            .with_context(|| format!("the answer begins with {line:?}"))?;
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                break;
            }
            if headers.len() == MOST_LINES {
                bail!("the answer has more than {MOST_LINES} headers");
            }
            let (name, value) = line.split_once(':').context("a header without a colon")?;
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let mut answer = Answer {
            status,
            headers,
            body: Vec::new(),
        };
        answer.body = match answer.header("content-length") {
            Some(text) => {
                let length: usize = text.parse().context("the answer's length")?;
                self.bytes(length)?
            }
            None if answer.header("transfer-encoding") == Some("chunked") => self.chunks()?,
            None => Vec::new(),
        };
        Ok(answer)
    }

    fn chunks(&mut self) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.line()?;
            let length = usize::from_str_radix(&line, 16).context("a chunk's length")?;
            if body.len() + length > LONGEST_BODY {
                bail!("the answer is longer than {LONGEST_BODY} bytes");
            }
            body.append(&mut self.bytes(length)?);
            self.line()?;
            if length == 0 {
                return Ok(body);
            }
        }
    }

    fn bytes(&mut self, length: usize) -> Result<Vec<u8>> {
        if length > LONGEST_BODY {
            bail!("the answer is {length} bytes long; at most {LONGEST_BODY} are read");
        }
        let mut body = vec![0; length];
        self.reader.read_exact(&mut body)?;
        Ok(body)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = Vec::new();
        let mut limited = self.reader.by_ref().take(LONGEST_LINE);
        limited.read_until(b'\n', &mut line)?;
        if line.pop() != Some(b'\n') {
            bail!("the answer broke off");
        }
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        String::from_utf8(line).context("the answer's head is not text")
    }
}

#[cfg(test)]
mod tests {
    use super::Connection;
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    /// A server that answers each request of one connection with the next of `answers`.
    fn scripted(answers: &'static [&'static str]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            for answer in answers {
                let mut buffer = [0; 4096];
                assert!(stream.read(&mut buffer).unwrap() > 0);
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        format!("http://{at}")
    }

    #[test]
    fn answers_are_read_one_after_the_other() {
        let url = scripted(&[
            "HTTP/1.1 202 Accepted\r\nX-Request-Id: a1\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\n{\"a\"\r\n3\r\n:1}\r\n0\r\n\r\n",
            "HTTP/1.1 503 Unavailable\r\nretry-after: 2\r\ncontent-length: 4\r\n\r\nfull",
        ]);
        let mut connection = Connection::open(&url).unwrap();
        let mut call = || connection.call("POST", "/", &[("a", "b")], b"body");
        let first = call().unwrap();
        assert_eq!(
            (first.status, first.header("x-request-id")),
            (202, Some("a1"))
        );
        assert_eq!(call().unwrap().json().unwrap()["a"], 1);
        let last = call().unwrap();
        assert_eq!(last.header("retry-after"), Some("2"));
        let error = last.success("the call").unwrap_err().to_string();
        assert_eq!(error, "the call was answered 503: full");
    }

    #[test]
    fn an_answer_that_breaks_off_is_an_error() {
        for answer in [
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nab",
            "HTTP/1.1 200",
            "hello\r\n\r\n",
        ] {
            let url = scripted(Vec::leak(vec![answer]));
            let mut connection = Connection::open(&url).unwrap();
            assert!(connection.call("GET", "/", &[], b"").is_err(), "{answer}");
        }
    }
}
