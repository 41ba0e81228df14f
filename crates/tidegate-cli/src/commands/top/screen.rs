//! A terminal taken over for a while, and given back as it was however that ends.

use std::io::Read as _;

use tokio::sync::watch;

use crate::context::Context;
use crate::error::Result;
use crate::safe::safe;

/// The other screen, without a cursor.
const TAKE: &str = "\x1b[?1049h\x1b[?25l";
/// The usual screen, with the cursor.
const GIVE_BACK: &str = "\x1b[?25h\x1b[?1049l";
/// To the upper left corner.
const HOME: &str = "\x1b[H";
/// Clears what is left of a line, and what is below.
const CLEAR_LINE: &str = "\x1b[K";
const CLEAR_BELOW: &str = "\x1b[J";
/// Bold, where the first line stands whether or not there is colour.
const BOLD: &str = "\x1b[1m";
const PLAIN: &str = "\x1b[0m";

/// The terminal, until dropped.
pub(super) struct Screen<'a> {
    context: &'a mut Context,
    /// Whether keys are read one by one.
    raw: bool,
    ended: watch::Receiver<bool>,
}

impl<'a> Screen<'a> {
    pub(super) fn new(context: &'a mut Context) -> Result<Self> {
        let stdin = context.stdin();
        let typed = context.process.terminal.stdin;
        // Where that cannot be had, Ctrl-C is a signal as ever.
        let raw = typed && crossterm::terminal::enable_raw_mode().is_ok();
        let screen = Self {
            context,
            raw,
            ended: keys(stdin, typed),
        };
        screen.context.bytes(TAKE.as_bytes())?;
        Ok(screen)
    }

    pub(super) const fn context(&self) -> &Context {
        self.context
    }

    /// Shows lines, as many and as much of each as there is room for.
    pub(super) fn show(&mut self, lines: &[String]) -> Result {
        let (width, height) = self.context.size().unwrap_or((80, 24));
        let mut text = HOME.to_owned();
        for (n, line) in lines.iter().take(height).enumerate() {
            if n > 0 {
                text.push_str("\r\n");
            }
            let line = cut(&safe(line, true), width);
            if n == 0 {
                text.push_str(&format!("{BOLD}{line}{PLAIN}{CLEAR_LINE}"));
            } else {
                text.push_str(&format!("{line}{CLEAR_LINE}"));
            }
        }
        text.push_str(CLEAR_BELOW);
        self.context.bytes(text.as_bytes())
    }

    /// Waits until somebody types q or Ctrl-C.
    pub(super) async fn told_to_end(&self) {
        let mut ended = self.ended.clone();
        if ended.wait_for(|ended| *ended).await.is_err() {
            // Nobody can type any more, which is no wish to end.
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Screen<'_> {
    fn drop(&mut self) {
        if self.raw {
            let _ = crossterm::terminal::disable_raw_mode();
        }
        let _ = self.context.bytes(GIVE_BACK.as_bytes());
    }
}

/// Reads keys on a thread of its own, which is not joined: it may be blocked in a read, and ends with the process.
fn keys(mut stdin: Box<dyn std::io::Read + Send>, typed: bool) -> watch::Receiver<bool> {
    /// Ctrl-C and Ctrl-D, where the terminal makes no signal and no end of them.
    const END: [u8; 4] = [b'q', b'Q', 3, 4];
    let (tx, rx) = watch::channel(false);
    if typed {
        std::thread::spawn(move || {
            let mut key = [0];
            while let Ok(1) = stdin.read(&mut key) {
                if END.contains(&key[0]) {
                    let _ = tx.send(true);
                    return;
                }
            }
        });
    }
    rx
}

/// As much of a line as fits, without cutting through a sequence that sets a style.
fn cut(line: &str, width: usize) -> String {
    let mut text = String::new();
    let mut room = width;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        if c == '\x1b' {
            text.push(c);
            for c in chars.by_ref() {
                text.push(c);
                if c.is_ascii_alphabetic() {
                    break;
                }
            }
        } else if room > 0 {
            text.push(c);
            room -= 1;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_cut_but_its_styles_are_not() {
        assert_eq!(cut("abcdef", 3), "abc");
        assert_eq!(cut("\x1b[31mabcdef\x1b[0m", 3), "\x1b[31mabc\x1b[0m");
    }

    #[test]
    fn q_ends() {
        let stdin = Box::new(std::io::Cursor::new(b"xyq".to_vec()));
        let mut ended = keys(stdin, true);
        tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap()
            .block_on(async { ended.wait_for(|e| *e).await.map(drop).unwrap() });
    }
}
