//! Calls made with curl, so that the line shown to paste is the line that was run.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::child;

/// Longest time for one call.
const CALL_LIMIT: Duration = Duration::from_secs(30);
/// How much of an answer is shown when it is wrong.
const EXCERPT: usize = 200;

/// A call: where, and curl's own words for the rest.
pub(crate) struct Request {
    target: String,
    words: Vec<String>,
    url: String,
    saved_as: Option<&'static str>,
}

/// What came back.
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// From curl's first step to the last byte; starting curl is not in it.
    pub(crate) time: Duration,
    /// Header lines as sent, in lower case.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Request {
    /// A call of `target`, which is put behind the function's URL.
    pub(crate) fn new(target: &str) -> Self {
        Self {
            target: target.to_owned(),
            words: Vec::new(),
            url: String::new(),
            saved_as: None,
        }
    }

    /// Sends the file as it is.
    pub(crate) fn file(self, path: impl AsRef<Path>) -> Self {
        self.word("--data-binary")
            .word(&format!("@{}", path.as_ref().display()))
    }

    pub(crate) fn header(self, header: &str) -> Self {
        self.word("-H").word(header)
    }

    pub(crate) fn word(mut self, word: &str) -> Self {
        self.words.push(word.to_owned());
        self
    }

    /// Has the pasted line write to a file, for what a terminal cannot show.
    pub(crate) fn saved_as(mut self, name: &'static str) -> Self {
        self.saved_as = Some(name);
        self
    }

    /// The same call at a function's URL.
    pub(crate) fn at(mut self, url: &str) -> Self {
        self.url = format!("{url}{}", self.target);
        self
    }

    /// The command line, ready to paste in the workspace's folder.
    pub(crate) fn line(&self) -> String {
        let mut words = vec!["curl".to_owned()];
        words.extend(self.words.iter().map(|word| quoted(word)));
        words.push(quoted(&self.url));
        if let Some(name) = self.saved_as {
            words.extend([">".to_owned(), quoted(name)]);
        }
        words.join(" ")
    }

    /// Makes the call; paths are relative to `root`, and the answer passes through a file in `scratch`.
    pub(crate) fn send(&self, root: &Path, scratch: &Path) -> Result<Reply> {
        let (head, body) = (scratch.join("reply.head"), scratch.join("reply.body"));
        for old in [&head, &body] {
            // Absent before the first call; anything else shows when the answer is read.
            let _ = fs::remove_file(old);
        }
        let mut command = Command::new("curl");
        // A proxy that the environment names cannot reach a port of this machine.
        command
            .args(["--silent", "--show-error", "--noproxy", "*", "--max-time"])
            .arg(CALL_LIMIT.as_secs().to_string())
            .arg("--dump-header")
            .arg(&head)
            .arg("--output")
            .arg(&body)
            .args(["--write-out", "%{http_code} %{time_total}"])
            .args(&self.words)
            .arg(&self.url)
            .current_dir(root);
        let told =
            child::capture(&mut command, CALL_LIMIT + Duration::from_secs(5))?.success("curl")?;
        let (status, time) = told.trim().split_once(' ').context("curl told no time")?;
        let time: f64 = time.parse().context("curl told no time")?;
        Ok(Reply {
            status: status.parse().context("curl told no status")?,
            time: Duration::try_from_secs_f64(time).context("curl told no time")?,
            head: String::from_utf8_lossy(&fs::read(&head)?).to_lowercase(),
            // No file is made for an answer without a body.
            body: fs::read(&body).unwrap_or_default(),
        })
    }
}

impl Reply {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Result<serde_json::Value> {
        serde_json::from_slice(&self.body).context("the answer is not JSON")
    }

    /// The beginning of the answer on one line.
    pub(crate) fn excerpt(&self) -> String {
        let line: String = self
            .text()
            .chars()
            .take(EXCERPT)
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        format!("the answer begins {:?}", line.trim())
    }
}

/// A word as a shell takes it whole.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "@%+=:,./-_".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::Request;

    #[test]
    fn lines_can_be_pasted() {
        let line = |request: Request| request.at("http://127.0.0.1:8080/fn/wc").line();
        assert_eq!(line(Request::new("")), "curl http://127.0.0.1:8080/fn/wc");
        assert_eq!(
            line(Request::new("?a&b").file("dir/it's").header("X-A: b")),
            r"curl --data-binary '@dir/it'\''s' -H 'X-A: b' 'http://127.0.0.1:8080/fn/wc?a&b'"
        );
        assert_eq!(
            line(Request::new("").saved_as("small.jpg")),
            "curl http://127.0.0.1:8080/fn/wc > small.jpg"
        );
    }
}
