//! Somebody who is not killed, and remembers what ran.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;

/// Longest line taken: a time and a number.
const LONGEST_LINE: u64 = 256;

/// For each call that ran, by its number, when each process in which it ran was born, in seconds since the Unix epoch.
type Ran = HashMap<u64, Vec<f64>>;

/// A listener that instances of `witness.py` tell of their calls.
pub(super) struct Witness {
    pub(super) port: u16,
    ran: Arc<Mutex<Ran>>,
}

impl Witness {
    pub(super) fn listen() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        let ran = Arc::new(Mutex::new(Ran::new()));
        let to = Arc::clone(&ran);
        // Ends with the process; there are as many connections as instances.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let to = Arc::clone(&to);
                std::thread::spawn(move || hear(stream, &to));
            }
        });
        Ok(Self { port, ran })
    }

    /// How many different calls ran.
    pub(super) fn count(&self) -> usize {
        self.lock().len()
    }

    pub(super) fn ran(&self) -> Ran {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Ran> {
        self.ran.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn hear(stream: TcpStream, to: &Mutex<Ran>) {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    while let Ok(1..) = reader.by_ref().take(LONGEST_LINE).read_line(&mut line) {
        // A line that was cut off by a kill was not sent whole, so its call was not answered either.
        if let Some((born, number)) = line.strip_suffix('\n').and_then(|l| l.split_once(' '))
            && let (Ok(born), Ok(number)) = (born.parse(), number.parse())
        {
            let mut ran = to.lock().unwrap_or_else(PoisonError::into_inner);
            ran.entry(number).or_default().push(born);
        }
        line.clear();
    }
}
