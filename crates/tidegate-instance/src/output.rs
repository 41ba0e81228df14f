//! What functions print: cut into lines, bounded in length and rate, handed to the sink.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tidegate_core::{InstanceId, InvocationId};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::{LogSink, LogStream};

/// Longest line in bytes; a longer one is split.
pub const MAX_LINE: usize = 16 * 1024;

/// Bytes that may come at once.
const BURST: u64 = 1024 * 1024;

/// Bytes a second that may come for long. An endless loop that prints costs this much of the log and no more.
const RATE: u64 = 256 * 1024;

/// How long the reader rests after each piece (at most [`PIECE`] bytes) while output is being dropped: who prints a
/// gigabyte a second is slowed by a full pipe to 1.6 MiB/s, instead of making the server throw it away as fast.
pub const REST: Duration = Duration::from_millis(5);

/// Bytes read at once: small, since every instance has two readers and most are silent.
const PIECE: usize = 8 * 1024;

/// Bytes of the last line that are kept to be quoted: a compiler's message with a path fits.
const QUOTED: usize = 400;

/// What a line costs besides its text, so that endless empty lines are bounded too.
const LINE_COST: u64 = 16;

/// Where the output of one instance goes: what isolations share of it.
#[derive(Clone)]
pub struct Output {
    instance: InstanceId,
    sink: Arc<dyn LogSink>,
    bucket: Arc<Mutex<Bucket>>,
    /// The last line of standard error, for the message of a start that failed.
    last: Arc<Mutex<String>>,
}

/// Tokens for bytes, and what was dropped for want of them.
struct Bucket {
    tokens: u64,
    at: Instant,
    dropped: u64,
}

impl Bucket {
    /// Takes the cost of a line. `Err`: there is not enough, the line is dropped. `Ok(n)`: it may pass, and `n` bytes have
    /// been dropped since the last one that did.
    fn take(&mut self, bytes: u64, now: Instant) -> Result<u64, ()> {
        let earned = now
            .saturating_duration_since(self.at)
            .as_micros()
            .saturating_mul(u128::from(RATE))
            / 1_000_000;
        let earned = u64::try_from(earned).unwrap_or(u64::MAX);
        if earned > 0 {
            self.tokens = self.tokens.saturating_add(earned).min(BURST);
            self.at = now;
        }
        let cost = bytes + LINE_COST;
        // After a gap wait for a tenth of the burst, so that the note about it is not half of what follows.
        let needed = if self.dropped > 0 {
            cost.max(BURST / 10)
        } else {
            cost
        };
        if self.tokens < needed {
            self.dropped += bytes;
            return Err(());
        }
        self.tokens -= cost;
        Ok(std::mem::take(&mut self.dropped))
    }
}

impl Output {
    /// An instance's.
    #[must_use]
    pub fn new(instance: InstanceId, sink: Arc<dyn LogSink>) -> Self {
        Self {
            instance,
            sink,
            bucket: Arc::new(Mutex::new(Bucket {
                tokens: BURST,
                at: Instant::now(),
                dropped: 0,
            })),
            last: Arc::default(),
        }
    }

    /// One line.
    pub fn line(&self, stream: LogStream, invocation: Option<InvocationId>, text: &[u8]) {
        if stream == LogStream::Stderr && !text.is_empty() {
            let mut last = self.last.lock();
            last.clear();
            last.push_str(&String::from_utf8_lossy(&text[..text.len().min(QUOTED)]));
        }
        let passed = self.bucket.lock().take(text.len() as u64, Instant::now());
        if let Ok(dropped) = passed {
            self.tell_dropped(dropped);
            self.sink.line(self.instance, stream, invocation, text);
        }
    }

    /// A message of the platform's about the instance.
    pub fn system(&self, text: &str) {
        self.sink
            .line(self.instance, LogStream::System, None, text.as_bytes());
    }

    /// The last line of standard error, shortened.
    #[must_use]
    pub fn last_line(&self) -> String {
        self.last.lock().clone()
    }

    /// Says what was dropped at the end, when no line came after it.
    pub fn finish(&self) {
        let dropped = std::mem::take(&mut self.bucket.lock().dropped);
        self.tell_dropped(dropped);
    }

    /// Whether more comes than may pass: whoever reads it should rest.
    #[must_use]
    pub fn is_dropping(&self) -> bool {
        self.bucket.lock().dropped > 0
    }

    fn tell_dropped(&self, dropped: u64) {
        if dropped > 0 {
            self.system(&format!(
                "{dropped} bytes of output were dropped: it came faster than {} KiB/s",
                RATE / 1024
            ));
        }
    }

    /// Reads a pipe to its end, line by line.
    pub async fn pump(
        self,
        mut pipe: impl AsyncRead + Unpin,
        stream: LogStream,
        invocation: Option<InvocationId>,
    ) {
        let mut lines = Lines::default();
        let mut buffer = vec![0; PIECE];
        loop {
            match pipe.read(&mut buffer).await {
                Ok(0) | Err(_) => break,
                Ok(len) => lines.push(&buffer[..len], |line| self.line(stream, invocation, line)),
            }
            if self.is_dropping() {
                tokio::time::sleep(REST).await;
            }
        }
        lines.finish(|line| self.line(stream, invocation, line));
        self.finish();
    }
}

/// Cuts a stream of bytes into lines of at most [`MAX_LINE`] bytes.
#[derive(Default)]
struct Lines {
    partial: Vec<u8>,
}

impl Lines {
    fn push(&mut self, mut bytes: &[u8], mut each: impl FnMut(&[u8])) {
        while !bytes.is_empty() {
            let room = MAX_LINE - self.partial.len();
            let end = bytes.iter().take(room + 1).position(|&b| b == b'\n');
            match end {
                Some(at) => {
                    if self.partial.is_empty() {
                        each(&bytes[..at]);
                    } else {
                        self.partial.extend_from_slice(&bytes[..at]);
                        each(&self.partial);
                        self.partial.clear();
                    }
                    bytes = &bytes[at + 1..];
                }
                None if bytes.len() > room => {
                    self.partial.extend_from_slice(&bytes[..room]);
                    each(&self.partial);
                    self.partial.clear();
                    bytes = &bytes[room..];
                }
                None => {
                    self.partial.extend_from_slice(bytes);
                    return;
                }
            }
        }
    }

    fn finish(&mut self, mut each: impl FnMut(&[u8])) {
        if !self.partial.is_empty() {
            each(&self.partial);
            self.partial.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(chunks: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut lines = Lines::default();
        let mut out = Vec::new();
        for chunk in chunks {
            lines.push(chunk, |l| out.push(l.to_vec()));
        }
        lines.finish(|l| out.push(l.to_vec()));
        out
    }

    #[test]
    fn lines_are_put_together_over_chunks_and_split_when_too_long() {
        assert_eq!(cut(&[b"a\nb", b"c\n\nd"]), [&b"a"[..], b"bc", b"", b"d"]);
        let long = vec![b'x'; MAX_LINE + 5];
        let lines = cut(&[&long[..10], &long[10..], b"\nnext"]);
        assert_eq!(
            lines.iter().map(Vec::len).collect::<Vec<_>>(),
            [MAX_LINE, 5, 4]
        );
        let exact = vec![b'y'; MAX_LINE];
        assert_eq!(
            cut(&[&exact, b"\nz"])
                .iter()
                .map(Vec::len)
                .collect::<Vec<_>>(),
            [MAX_LINE, 1]
        );
    }

    #[test]
    fn a_flood_is_held_to_the_rate_and_the_gap_is_counted() {
        let start = Instant::now();
        let mut bucket = Bucket {
            tokens: BURST,
            at: start,
            dropped: 0,
        };
        let line = 1000;
        let passed = (0..10_000)
            .filter(|_| bucket.take(line, start).is_ok())
            .count() as u64;
        assert_eq!(passed, BURST / (line + LINE_COST));
        let dropped = bucket.dropped;
        assert_eq!(dropped, (10_000 - passed) * line);
        assert_eq!(
            bucket.take(line, start + Duration::from_millis(10)),
            Err(())
        );
        assert_eq!(
            bucket.take(line, start + Duration::from_secs(1)),
            Ok(dropped + line)
        );
    }
}
