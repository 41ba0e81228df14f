//! Questions that are no address's (mail, services, texts) go to whom the machine itself asks.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use crate::dns::Question;

/// How long one name server is waited for.
const PATIENCE: Duration = Duration::from_secs(4);

/// Name servers that are asked, one after another; the C library asks as many.
const MAX_SERVERS: usize = 3;

/// Longest answer in bytes.
const MAX_ANSWER: usize = 16 * 1024;

/// Longest file of name servers in bytes.
const MAX_FILE: usize = 64 * 1024;

/// The machine's name servers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Servers(Vec<SocketAddr>);

impl Servers {
    /// As `/etc/resolv.conf` has them; the machine itself where it names none, as the C library has it.
    pub(crate) fn of_the_machine() -> Self {
        let text = std::fs::read("/etc/resolv.conf").unwrap_or_default();
        Self::read(&String::from_utf8_lossy(&text[..text.len().min(MAX_FILE)]))
    }

    fn read(text: &str) -> Self {
        let addresses = text.lines().filter_map(|line| {
            let mut words = line.split_whitespace();
            let address = words.by_ref().next().filter(|w| *w == "nameserver");
            address.and_then(|_| words.next())?.parse::<IpAddr>().ok()
        });
        let mut servers: Vec<_> = addresses
            .take(MAX_SERVERS)
            .map(|address| SocketAddr::new(address, 53))
            .collect();
        if servers.is_empty() {
            servers.push((Ipv4Addr::LOCALHOST, 53).into());
        }
        Self(servers)
    }

    /// The first answer that comes.
    pub(crate) async fn ask(&self, question: &Question, stream: bool) -> Option<Vec<u8>> {
        let message = &question.message();
        for &server in &self.0 {
            let asked = async {
                match stream {
                    true => by_stream(server, question, message).await,
                    false => by_datagram(server, question, message).await,
                }
            };
            match timeout(PATIENCE, asked).await {
                Ok(Ok(answer)) => return Some(answer),
                Ok(Err(error)) => tracing::debug!(%server, %error, "a name server did not answer"),
                Err(_) => tracing::debug!(%server, "a name server did not answer in time"),
            }
        }
        None
    }
}

async fn by_datagram(
    server: SocketAddr,
    question: &Question,
    message: &[u8],
) -> io::Result<Vec<u8>> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    socket.send(message).await?;
    let mut buffer = vec![0; MAX_ANSWER];
    loop {
        let len = socket.recv(&mut buffer).await?;
        // Anything else is late, or somebody who guesses.
        if question.is_answered_by(&buffer[..len]) {
            buffer.truncate(len);
            return Ok(buffer);
        }
    }
}

async fn by_stream(server: SocketAddr, question: &Question, message: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let len = u16::try_from(message.len()).map_err(io::Error::other)?;
    stream.write_all(&len.to_be_bytes()).await?;
    stream.write_all(message).await?;
    let len = stream.read_u16().await?;
    let mut answer = vec![0; usize::from(len)];
    stream.read_exact(&mut answer).await?;
    match question.is_answered_by(&answer) {
        true => Ok(answer),
        false => Err(io::ErrorKind::InvalidData.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_are_read_as_the_c_library_reads_them() {
        let of = |text| {
            let servers = Servers::read(text).0;
            servers.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(
            of(
                "# a\nsearch x\nnameserver 10.0.0.1\n nameserver fd00::1 \nnameserver x\nnameserver 1.1.1.1\nnameserver 2.2.2.2\n"
            ),
            ["10.0.0.1:53", "[fd00::1]:53", "1.1.1.1:53"]
        );
        assert_eq!(of(""), ["127.0.0.1:53"]);
    }
}
