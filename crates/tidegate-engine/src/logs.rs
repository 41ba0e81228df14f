//! What functions have written, in bounded memory.
//!
//! A ring of lines a function, made when it first writes. When all rings together pass [`TOTAL_BYTES`], whoever writes is
//! held to [`PRESSED_BYTES`]: no walk over every function is needed, and the total can pass the bound only where more than
//! four thousand functions write, by that much each.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use parking_lot::Mutex;
use tidegate_core::{InstanceId, InvocationId};
use tidegate_instance::{LogSink, LogStream};
use tokio::sync::Notify;

use crate::ledger::Books;

/// Bytes kept of one function, text and bookkeeping: some thousand lines.
const FUNCTION_BYTES: usize = 512 * 1024;
/// Bytes kept of all functions.
const TOTAL_BYTES: usize = 64 * 1024 * 1024;
/// Bytes kept of one function while all together are over the bound.
const PRESSED_BYTES: usize = 16 * 1024;
/// Bookkeeping a line.
const LINE_BYTES: usize = size_of::<LogLine>();

static TOTAL: AtomicUsize = AtomicUsize::new(0);

/// One line.
#[derive(Clone, Debug)]
pub struct LogLine {
    /// When it arrived.
    pub time: SystemTime,
    /// Who wrote it.
    pub instance: InstanceId,
    /// Where to.
    pub stream: LogStream,
    /// During which invocation, where that is known exactly.
    pub invocation: Option<InvocationId>,
    /// The text, invalid UTF-8 replaced.
    pub text: Arc<str>,
}

/// What one function has written.
#[derive(Default)]
pub struct FunctionLog {
    ring: Mutex<Ring>,
    grew: Notify,
    /// Told of every line, too.
    books: Option<Arc<Books>>,
}

#[derive(Default)]
struct Ring {
    lines: VecDeque<LogLine>,
    bytes: usize,
    /// Number of the first line in the ring.
    first: u64,
    /// Whether the function was removed, so that nobody need wait for more.
    closed: bool,
}

/// Which lines.
#[derive(Clone, Copy, Debug, Default)]
pub struct LogQuery {
    /// Only of this invocation.
    pub invocation: Option<InvocationId>,
    /// Only of this instance.
    pub instance: Option<InstanceId>,
    /// Only from this moment on.
    pub since: Option<SystemTime>,
}

/// Reads a log from some point on.
pub struct LogTail {
    log: Arc<FunctionLog>,
    query: LogQuery,
    next: u64,
}

/// Lines handed out at once: bounds what a reader holds, not what it can read.
const BATCH: usize = 256;

// === impl FunctionLog ===

impl FunctionLog {
    pub(crate) fn told_to(books: Arc<Books>) -> Self {
        Self {
            ring: Mutex::default(),
            grew: Notify::new(),
            books: Some(books),
        }
    }

    /// A reader that begins at the last `tail` lines that match, or at the oldest kept.
    pub fn tail(self: &Arc<Self>, query: LogQuery, tail: Option<usize>) -> LogTail {
        let ring = self.ring.lock();
        let next = match tail {
            None => ring.first,
            Some(0) => ring.end(),
            Some(n) => {
                let mut matching = ring
                    .lines
                    .iter()
                    .enumerate()
                    .rev()
                    .filter(|(_, line)| query.matches(line));
                matching
                    .nth(n - 1)
                    .map_or(ring.first, |(at, _)| ring.first + at as u64)
            }
        };
        drop(ring);
        LogTail {
            log: self.clone(),
            query,
            next,
        }
    }

    /// Ends the wait of everybody who follows, now and later. What calls in flight still write is kept and read all the same.
    pub(crate) fn close(&self) {
        self.ring.lock().closed = true;
        self.grew.notify_waiters();
    }

    fn is_closed(&self) -> bool {
        self.ring.lock().closed
    }

    fn push(&self, line: LogLine) {
        if let Some(books) = &self.books {
            books.account().line(&line);
        }
        let size = LINE_BYTES + line.text.len();
        let total = TOTAL.fetch_add(size, Ordering::Relaxed) + size;
        let bound = if total > TOTAL_BYTES {
            PRESSED_BYTES
        } else {
            FUNCTION_BYTES
        };
        let mut ring = self.ring.lock();
        ring.bytes += size;
        ring.lines.push_back(line);
        while ring.bytes > bound && ring.lines.len() > 1 {
            ring.drop_first();
        }
        drop(ring);
        self.grew.notify_waiters();
    }
}

impl LogSink for FunctionLog {
    fn line(
        &self,
        instance: InstanceId,
        stream: LogStream,
        invocation: Option<InvocationId>,
        text: &[u8],
    ) {
        let text = String::from_utf8_lossy(text).into();
        self.push(LogLine {
            time: SystemTime::now(),
            instance,
            stream,
            invocation,
            text,
        });
    }
}

impl Drop for FunctionLog {
    fn drop(&mut self) {
        TOTAL.fetch_sub(self.ring.get_mut().bytes, Ordering::Relaxed);
    }
}

// === impl Ring ===

impl Ring {
    fn end(&self) -> u64 {
        self.first + self.lines.len() as u64
    }

    fn drop_first(&mut self) {
        if let Some(line) = self.lines.pop_front() {
            let size = LINE_BYTES + line.text.len();
            self.bytes -= size;
            self.first += 1;
            TOTAL.fetch_sub(size, Ordering::Relaxed);
        }
    }
}

// === impl LogQuery ===

impl LogQuery {
    fn matches(&self, line: &LogLine) -> bool {
        self.invocation.is_none_or(|id| line.invocation == Some(id))
            && self.instance.is_none_or(|id| line.instance == id)
            && self.since.is_none_or(|since| line.time >= since)
    }
}

// === impl LogTail ===

impl LogTail {
    /// The next lines that are there now; none at the end. Lines that fell out of the ring meanwhile are passed over.
    pub fn read(&mut self) -> Vec<LogLine> {
        let ring = self.log.ring.lock();
        let mut lines = Vec::new();
        let mut at = self.next.max(ring.first);
        while at < ring.end() && lines.len() < BATCH {
            let line = &ring.lines[(at - ring.first) as usize];
            if self.query.matches(line) {
                lines.push(line.clone());
            }
            at += 1;
        }
        self.next = at;
        lines
    }

    /// Waits for the next lines. None where there will be no more, because the function was removed.
    pub async fn follow(&mut self) -> Vec<LogLine> {
        let log = self.log.clone();
        loop {
            // Registered before the look, so that a line between the two is not missed.
            let mut grew = std::pin::pin!(log.grew.notified());
            grew.as_mut().enable();
            let (closed, lines) = (log.is_closed(), self.read());
            if closed || !lines.is_empty() {
                return lines;
            }
            grew.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(log: &FunctionLog, text: &str, invocation: Option<u128>) {
        log.line(
            InstanceId(1),
            LogStream::Stdout,
            invocation.map(InvocationId::from_u128),
            text.as_bytes(),
        );
    }

    fn texts(lines: &[LogLine]) -> Vec<&str> {
        lines.iter().map(|l| &*l.text).collect()
    }

    #[test]
    fn the_tail_counts_only_lines_that_match() {
        let log = Arc::new(FunctionLog::default());
        for n in 0..10 {
            write(&log, &n.to_string(), Some(n % 2));
        }
        let all = log.tail(LogQuery::default(), Some(3)).read();
        assert_eq!(texts(&all), ["7", "8", "9"]);
        let odd = LogQuery {
            invocation: Some(InvocationId::from_u128(1)),
            ..LogQuery::default()
        };
        assert_eq!(texts(&log.tail(odd, Some(2)).read()), ["7", "9"]);
        let instance = |n| LogQuery {
            instance: Some(InstanceId(n)),
            ..LogQuery::default()
        };
        assert_eq!(texts(&log.tail(instance(1), Some(1)).read()), ["9"]);
        assert!(log.tail(instance(2), None).read().is_empty());
        assert!(log.tail(LogQuery::default(), Some(0)).read().is_empty());
        assert_eq!(log.tail(LogQuery::default(), None).read().len(), 10);
    }

    #[test]
    fn the_ring_is_bounded_and_keeps_the_newest() {
        let log = Arc::new(FunctionLog::default());
        let line = "x".repeat(16 * 1024);
        for _ in 0..100 {
            write(&log, &line, None);
        }
        write(&log, "last", None);
        let mut tail = log.tail(LogQuery::default(), None);
        let kept = tail.read();
        assert!(
            kept.len() < 40 && kept.iter().map(|l| l.text.len()).sum::<usize>() <= FUNCTION_BYTES
        );
        assert_eq!(&*kept.last().unwrap().text, "last");
        assert!(tail.read().is_empty());
    }

    #[tokio::test]
    async fn a_follower_gets_what_comes_after_it_looked() {
        let log = Arc::new(FunctionLog::default());
        let mut tail = log.tail(LogQuery::default(), Some(0));
        let writer = log.clone();
        let (lines, ()) = tokio::join!(tail.follow(), async move {
            tokio::task::yield_now().await;
            write(&writer, "hello", None);
        });
        assert_eq!(texts(&lines), ["hello"]);
    }

    #[tokio::test]
    async fn a_follower_ends_with_the_function() {
        let log = Arc::new(FunctionLog::default());
        write(&log, "last", None);
        let mut tail = log.tail(LogQuery::default(), Some(1));
        assert_eq!(texts(&tail.follow().await), ["last"]);
        let (lines, ()) = tokio::join!(tail.follow(), async {
            tokio::task::yield_now().await;
            log.close();
        });
        assert!(lines.is_empty());
        // Whoever comes later reads what is kept, and does not wait either.
        let mut late = log.tail(LogQuery::default(), None);
        assert_eq!(texts(&late.follow().await), ["last"]);
        assert!(late.follow().await.is_empty());
    }
}
