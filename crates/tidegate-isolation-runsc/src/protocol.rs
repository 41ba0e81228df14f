//! What server and relay say to one another: JSON, one message a line, over the first connection; what belongs to a program
//! over connections that begin with a header.

use std::io;

/// Longest line in bytes: an environment and a secret fit.
pub(crate) const MAX_LINE: u64 = 4 * 1024 * 1024;

/// Where the socket is inside.
pub(crate) const FOLDER: &str = "/run/tidegate";
pub(crate) const SOCKET: &str = "/run/tidegate/s";

/// Where the relay's program is inside.
pub(crate) const RELAY: &str = "/run/relay";

/// User and group of everything but the relay.
pub(crate) const USER: u32 = 1000;

/// Number of the run that is an instance's server program.
pub(crate) const MAIN: u64 = 0;

/// What the server asks of the relay.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
#[serde(tag = "op", rename_all = "lowercase")]
pub(crate) enum Order {
    /// Write a file under `/run/secrets`.
    Secret { name: String, value: Vec<u8> },
    /// Run a program. Its streams are connections.
    Exec {
        n: u64,
        argv: Vec<String>,
        env: Vec<(String, String)>,
        /// Standard error goes where standard output goes.
        merged: bool,
    },
    /// Connect to a port of the loopback device.
    Dial { n: u64, port: u16 },
    /// Signal a run's process group.
    Signal { n: u64, signal: i32 },
    /// Kill everything; the relay stays.
    Sweep,
}

/// What the relay tells the server.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
#[serde(tag = "op", rename_all = "lowercase")]
pub(crate) enum Word {
    /// It is there.
    Ready,
    /// The run has begun, or why not.
    Begun { n: u64, errno: Option<i32> },
    /// The run has ended, and all it left is gone.
    Ended {
        n: u64,
        code: Option<i32>,
        signal: Option<i32>,
    },
    /// The port did not answer.
    Refused { n: u64, errno: i32 },
}

/// What a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum What {
    Orders,
    Stdin,
    Stdout,
    Stderr,
    Dialled,
}

/// The first bytes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Header {
    pub(crate) what: What,
    pub(crate) n: u64,
}

impl Header {
    pub(crate) const LEN: usize = 9;

    pub(crate) fn to_bytes(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[0] = match self.what {
            What::Orders => b'o',
            What::Stdin => b'i',
            What::Stdout => b'1',
            What::Stderr => b'2',
            What::Dialled => b'd',
        };
        bytes[1..].copy_from_slice(&self.n.to_le_bytes());
        bytes
    }

    pub(crate) fn from_bytes(bytes: [u8; Self::LEN]) -> io::Result<Self> {
        let what = match bytes[0] {
            b'o' => What::Orders,
            b'i' => What::Stdin,
            b'1' => What::Stdout,
            b'2' => What::Stderr,
            b'd' => What::Dialled,
            _ => return Err(io::ErrorKind::InvalidData.into()),
        };
        let [_, rest @ ..] = bytes;
        Ok(Self {
            what,
            n: u64::from_le_bytes(rest),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_what_it_was() {
        for what in [
            What::Orders,
            What::Stdin,
            What::Stdout,
            What::Stderr,
            What::Dialled,
        ] {
            let header = Header { what, n: 1 << 40 };
            assert_eq!(Header::from_bytes(header.to_bytes()).unwrap(), header);
        }
        assert!(Header::from_bytes(*b"x00000000").is_err());
    }
}
