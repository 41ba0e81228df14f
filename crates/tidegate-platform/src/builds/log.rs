//! What a build says while it runs, for as many readers as want to see it.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use parking_lot::Mutex;
use tidegate_instance::{JobOutput, LogStream};
use tokio::sync::Notify;

/// Lines kept of a build: what a reader who comes late still sees. A noisy compiler's beginning goes first.
const MAX_LINES: usize = 5_000;

/// Bytes kept of a build's lines.
const MAX_BYTES: usize = 1 << 20;

/// Shortest value that is taken out of lines, in bytes: a shorter one is no secret, and would be found in every other word.
const HIDDEN: usize = 8;

/// What stands in its place.
const MASK: &str = "***";

/// One line of a build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildLine {
    /// When it was said.
    pub time: SystemTime,
    /// Who said it.
    pub kind: BuildLineKind,
    /// The line, without its end.
    pub text: Arc<str>,
}

/// Who said a line of a build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BuildLineKind {
    /// A step begins: its title.
    Step,
    /// The platform: what is taken from a cache, what was decided.
    Note,
    /// The tool, to its standard output.
    Stdout,
    /// The tool, to its standard error.
    Stderr,
}

/// The log of one build.
#[derive(Debug, Default)]
pub(super) struct BuildLog {
    state: Mutex<State>,
    changed: Notify,
    /// What no line shows, the longest first.
    hidden: OnceLock<Vec<String>>,
}

#[derive(Debug, Default)]
struct State {
    lines: VecDeque<BuildLine>,
    bytes: usize,
    /// Number of the first line kept.
    first: usize,
    done: bool,
}

// === impl BuildLineKind ===

impl BuildLineKind {
    /// The stable word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Step => "step",
            Self::Note => "note",
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

// === impl BuildLog ===

impl BuildLog {
    /// Takes what is secret in these values out of every line from now on: a tool that is asked for its settings prints
    /// them, and lines are kept in plain text. A help against mishaps; who writes the build can always print a secret in
    /// pieces.
    pub(super) fn hide<'a>(&self, values: impl Iterator<Item = &'a [u8]>) {
        let mut hidden: Vec<String> = values
            .filter_map(|value| std::str::from_utf8(value).ok())
            .flat_map(str::lines)
            .flat_map(secrets_of)
            .map(|text| text.trim().trim_matches(['"', '\'']).to_owned())
            .filter(|text| text.len() >= HIDDEN)
            .collect();
        hidden.sort_unstable_by_key(|text| std::cmp::Reverse(text.len()));
        // Once a build.
        let _ = self.hidden.set(hidden);
    }

    pub(super) fn push(&self, kind: BuildLineKind, text: impl Into<Arc<str>>) {
        let mut text = text.into();
        for hidden in self.hidden.get().into_iter().flatten() {
            if text.contains(hidden.as_str()) {
                text = text.replace(hidden.as_str(), MASK).into();
            }
        }
        let line = BuildLine {
            time: SystemTime::now(),
            kind,
            text,
        };
        let mut state = self.state.lock();
        state.bytes += line.text.len();
        state.lines.push_back(line);
        while state.lines.len() > MAX_LINES || state.bytes > MAX_BYTES {
            if let Some(gone) = state.lines.pop_front() {
                state.bytes -= gone.text.len();
                state.first += 1;
            }
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// Nothing will be said any more.
    pub(super) fn end(&self) {
        self.state.lock().done = true;
        self.changed.notify_waiters();
    }

    /// The newest lines of the tool's own.
    pub(super) fn last(&self, count: usize) -> Vec<String> {
        let state = self.state.lock();
        let said = state.lines.iter().filter(|l| l.kind.is_tool());
        let mut last: Vec<String> = said
            .rev()
            .take(count)
            .map(|l| l.text.as_ref().to_owned())
            .collect();
        last.reverse();
        last
    }

    /// Lines from this number on, waiting for some. `None` when the build has ended and all were read.
    pub(super) async fn read(&self, from: &mut usize) -> Option<Vec<BuildLine>> {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            {
                let state = self.state.lock();
                let skip = from.saturating_sub(state.first);
                let lines: Vec<_> = state.lines.iter().skip(skip).cloned().collect();
                *from = state.first + state.lines.len();
                if !lines.is_empty() {
                    return Some(lines);
                }
                if state.done {
                    return None;
                }
            }
            changed.await;
        }
    }
}

/// What may be secret in a line of a value: all of it, what stands behind a `=`, the last word, as in a `.netrc`; of a URL
/// the password alone, since where a registry is has to be seen when it cannot be reached.
fn secrets_of(line: &str) -> impl Iterator<Item = &str> {
    let set = line.split_once('=').map_or(line, |(_, value)| value);
    let parts = match set.split_once("://") {
        Some((_, rest)) => {
            let user = rest.rsplit_once('@').map(|(user, _)| user);
            let password = user.map(|user| user.split_once(':').map_or(user, |(_, word)| word));
            [None, None, password]
        }
        None => [Some(line), Some(set), set.split_whitespace().last()],
    };
    parts.into_iter().flatten()
}

impl BuildLineKind {
    const fn is_tool(self) -> bool {
        matches!(self, Self::Stdout | Self::Stderr)
    }
}

impl JobOutput for BuildLog {
    fn line(&self, stream: LogStream, text: &[u8]) {
        let kind = match stream {
            LogStream::Stdout => BuildLineKind::Stdout,
            LogStream::Stderr => BuildLineKind::Stderr,
            LogStream::System => BuildLineKind::Note,
        };
        self.push(kind, String::from_utf8_lossy(text));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_reader_gets_every_line_once_and_then_the_end() {
        let log = Arc::new(BuildLog::default());
        log.push(BuildLineKind::Step, "one");
        let reader = tokio::spawn({
            let log = log.clone();
            async move {
                let (mut from, mut all) = (0, Vec::new());
                while let Some(lines) = log.read(&mut from).await {
                    all.extend(lines.into_iter().map(|l| l.text));
                }
                all
            }
        });
        log.push(BuildLineKind::Stderr, "two");
        log.end();
        let all = reader.await.unwrap();
        assert_eq!(all.iter().map(|t| &**t).collect::<Vec<_>>(), ["one", "two"]);
        assert_eq!(log.last(5), ["two"]);
    }

    #[test]
    fn secrets_are_not_shown() {
        let log = BuildLog::default();
        let values: [&[u8]; 4] = [
            b"t0k3n-t0k3n==",
            b"//registry.example/:_authToken=abcdefgh\nalways-auth=true\n",
            b"[global]\nindex-url = https://tide:s3cr3t-word@pypi.example/simple\n",
            &[0xff],
        ];
        log.hide(values.into_iter());
        for said in [
            "GET /?t=t0k3n-t0k3n==",
            "Bearer abcdefgh",
            "it is true",
            "at https://tide:s3cr3t-word@pypi.example/simple",
        ] {
            log.push(BuildLineKind::Stdout, said);
        }
        assert_eq!(
            log.last(4),
            [
                "GET /?t=***",
                "Bearer ***",
                "it is true",
                "at https://tide:***@pypi.example/simple"
            ]
        );
    }

    #[tokio::test]
    async fn a_late_reader_of_a_long_build_sees_its_end() {
        let log = BuildLog::default();
        for n in 0..MAX_LINES + 10 {
            log.push(BuildLineKind::Stdout, n.to_string());
        }
        log.end();
        let mut from = 0;
        let lines = log.read(&mut from).await.unwrap();
        assert_eq!(lines.len(), MAX_LINES);
        assert_eq!(&*lines[0].text, "10");
        assert!(log.read(&mut from).await.is_none());
    }
}
