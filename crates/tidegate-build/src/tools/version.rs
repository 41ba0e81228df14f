//! Asking a tool which version it is, in bounded time.

use std::ffi::OsString;
use std::io::Read as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// A tool that has not said its version by then does not work. Virtual machines start slowly on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// More of an answer in bytes is not read.
const LONGEST: u64 = 16 << 10;

/// The version in what the program says when asked with these arguments.
pub(super) fn of(
    program: &Path,
    arguments: &[&str],
    environment: &[(&'static str, OsString)],
) -> Result<String, String> {
    let said = output(program, arguments, environment)?;
    number(&said).ok_or_else(|| {
        format!(
            "does not say its version ({} {})",
            program.display(),
            arguments.join(" ")
        )
    })
}

/// What the program writes to standard output, or else to standard error.
pub(super) fn output(
    program: &Path,
    arguments: &[&str],
    environment: &[(&'static str, OsString)],
) -> Result<String, String> {
    let shown = || format!("{} {}", program.display(), arguments.join(" "));
    let mut child = Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(environment.iter().map(|(k, v)| (*k, v)))
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| format!("cannot be run ({}: {e})", shown()))?;
    let said = listen(&mut child);
    if said.is_none() {
        // It may have ended by itself meanwhile.
        let _ = child.kill();
    }
    let status = child.wait();
    match (said, status) {
        (None, _) => Err(format!(
            "does not answer within {} seconds ({})",
            PATIENCE.as_secs(),
            shown()
        )),
        (Some((out, _)), Ok(status)) if status.success() && !out.trim().is_empty() => Ok(out),
        (Some((_, err)), Ok(status)) if status.success() => Ok(err),
        (Some((_, err)), _) => Err(format!(
            "does not run ({}: {})",
            shown(),
            err.lines().last().unwrap_or("no reason given")
        )),
    }
}

/// Both outputs to their end, or nothing when that does not come in time. A thread whose pipe somebody keeps open ends
/// when the child is killed.
fn listen(child: &mut Child) -> Option<(String, String)> {
    let (mut out, mut err) = (child.stdout.take()?, child.stderr.take()?);
    let (send, receive) = mpsc::channel();
    thread::spawn(move || {
        let mut text = (Vec::new(), Vec::new());
        let _ = (&mut out).take(LONGEST).read_to_end(&mut text.0);
        let _ = (&mut err).take(LONGEST).read_to_end(&mut text.1);
        let _ = send.send(text);
    });
    let (out, err) = receive.recv_timeout(PATIENCE).ok()?;
    Some((plain(&out), plain(&err)))
}

/// What a terminal would show, less colours: some tools write them to whoever reads, and it goes on to other terminals
/// and into documents.
fn plain(said: &[u8]) -> String {
    let text = String::from_utf8_lossy(said);
    let mut pieces = text.split('\x1b');
    let mut shown = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        // A sequence ends with its first letter.
        let rest = piece.split_once(|c: char| c.is_ascii_alphabetic());
        shown.push_str(rest.map_or("", |(_, rest)| rest));
    }
    shown.retain(|c| !c.is_control() || c.is_whitespace());
    shown
}

/// The first word that has digits with a dot between them, less what stands before its first digit.
fn number(said: &str) -> Option<String> {
    said.split(|c: char| c.is_whitespace() || "\"'(),".contains(c))
        .filter_map(|word| {
            let word = &word[word.find(|c: char| c.is_ascii_digit())?..];
            let dotted = word.split_once('.').is_some_and(|(before, after)| {
                before.bytes().all(|b| b.is_ascii_digit())
                    && after.starts_with(|c: char| c.is_ascii_digit())
            });
            dotted.then(|| word.trim_end_matches('.').to_owned())
        })
        .next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_tools_write_them() {
        for (said, expected) in [
            ("Python 3.11.2\n", "3.11.2"),
            ("v20.20.1", "20.20.1"),
            ("go version go1.26.1 linux/amd64", "1.26.1"),
            ("cargo 1.95.0 (abc 2026-01-02)", "1.95.0"),
            ("openjdk version \"17.0.17\" 2025-10-21\n", "17.0.17"),
            ("ruby 3.1.2p20 (2022-04-12 revision 1) [x86_64]", "3.1.2p20"),
            ("PHP 8.2.29 (cli) (built: Jul  3 2025)", "8.2.29"),
            ("Bundler version 2.3.15", "2.3.15"),
            (
                "pip 23.0.1 from /usr/lib/python3/dist-packages/pip",
                "23.0.1",
            ),
        ] {
            assert_eq!(number(said).as_deref(), Some(expected), "{said}");
        }
        assert_eq!(number("no version here"), None);
    }

    #[test]
    fn colours_are_no_part_of_a_version() {
        for (said, expected) in [
            ("\x1b[1mApache Maven 3.8.7\x1b[m\nMaven home", "3.8.7"),
            ("tool \x1b[1;32m2.0.1\x1b[0m", "2.0.1"),
            ("tool 4.1\x07\x1b", "4.1"),
        ] {
            let said = plain(said.as_bytes());
            assert!(
                !said.chars().any(|c| c.is_control() && c != '\n'),
                "{said:?}"
            );
            assert_eq!(number(&said).as_deref(), Some(expected), "{said:?}");
        }
    }

    #[test]
    fn what_does_not_run_says_why() {
        let shell = Path::new("/bin/sh");
        let error = output(shell, &["-c", "echo broken >&2; exit 3"], &[]).unwrap_err();
        assert!(error.ends_with(": broken)"), "{error}");
        assert_eq!(
            output(shell, &["-c", "echo said >&2"], &[]).unwrap(),
            "said\n"
        );
    }
}
