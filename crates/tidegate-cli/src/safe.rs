//! What is written to a terminal, without what would do more there than be read.
//!
//! Messages and lines of functions, and what servers answer, are somebody else's text. On a terminal it could move the cursor
//! over what stands there, set the title, or fill the clipboard. So everything that is text goes through here where the
//! stream is a terminal: plain colours stay where there is colour, and end with their line; all other control characters are
//! shown as what they are. What goes into a pipe or a file, and the answer of a function that was called, is not touched.

use std::borrow::Cow;

/// Ends all colours.
const RESET: &str = "\x1b[0m";

/// Text as it is shown on a terminal.
pub(crate) fn safe(text: &str, colored: bool) -> Cow<'_, str> {
    if !text.chars().any(|c| does_more(c) && c != '\n' && c != '\t') {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len());
    let mut is_colored = false;
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        match c {
            '\x1b' if let Some(end) = color(rest) => {
                let (codes, after) = rest.split_at(end);
                rest = after;
                if colored {
                    shown.push('\x1b');
                    shown.push_str(codes);
                    is_colored = !matches!(codes, "[m" | "[0m");
                }
            }
            '\n' => {
                if std::mem::take(&mut is_colored) {
                    shown.push_str(RESET);
                }
                shown.push(c);
            }
            // The end of a line elsewhere.
            '\r' if rest.starts_with('\n') => {}
            '\t' => shown.push(c),
            c if does_more(c) => shown.extend(c.escape_default()),
            c => shown.push(c),
        }
    }
    if is_colored {
        shown.push_str(RESET);
    }
    Cow::Owned(shown)
}

/// JSON as it is shown on a terminal: what does more than be read stands in strings alone, and is written as JSON has it.
pub(crate) fn safe_json(json: &str) -> Cow<'_, str> {
    if !json.chars().any(|c| does_more(c) && c != '\n') {
        return Cow::Borrowed(json);
    }
    let mut shown = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            c if does_more(c) && c != '\n' => shown.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => shown.push(c),
        }
    }
    Cow::Owned(shown)
}

/// Whether a character is for the terminal rather than for its reader: a control character, or one that turns the direction
/// of what follows.
fn does_more(c: char) -> bool {
    c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Where a sequence ends that begins after an escape and sets one of the sixteen colours, bold, dim, underlined or nothing.
fn color(rest: &str) -> Option<usize> {
    let codes = rest.strip_prefix('[')?;
    let end = codes.find(|c: char| !c.is_ascii_digit() && c != ';')?;
    let harmless = |code: &str| {
        matches!(
            code.parse::<u8>(),
            Ok(0..=2 | 4 | 22 | 24 | 30..=37 | 39..=47 | 49 | 90..=97 | 100..=107)
        )
    };
    let codes = &codes[..end];
    let fits = codes.is_empty() || codes.split(';').all(harmless);
    (fits && rest[1 + end..].starts_with('m')).then_some(end + 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_more_than_be_read_is_shown_as_what_it_is() {
        for (text, shown) in [
            ("plain\ttext\nü €", "plain\ttext\nü €"),
            ("a\x1b[2Jb", r"a\u{1b}[2Jb"),
            ("\x1b]52;c;ZWNobw==\x07", r"\u{1b}]52;c;ZWNobw==\u{7}"),
            ("50%\r100%\r\n", "50%\\r100%\n"),
            ("\u{9b}31m\u{7f}\0", r"\u{9b}31m\u{7f}\u{0}"),
            ("a\u{202e}b", r"a\u{202e}b"),
            // Hidden, and a colour that never ends its sequence.
            (
                "\x1b[8mx\x1b[38;5;1mx\x1b[31",
                r"\u{1b}[8mx\u{1b}[38;5;1mx\u{1b}[31",
            ),
        ] {
            assert_eq!(safe(text, true), shown, "{text:?}");
            assert_eq!(safe(text, false), shown, "{text:?}");
        }
    }

    #[test]
    fn json_stays_the_same_json() {
        let value = serde_json::json!({ "a": "\u{9b}31m\u{7f}\x1b[31mred\n\u{202e}\u{2066}ü" });
        let json = serde_json::to_string_pretty(&value).unwrap();
        let shown = safe_json(&json);
        assert!(
            shown.contains(r"\u009b31m\u007f\u001b[31mred\n\u202e\u2066ü"),
            "{shown}"
        );
        assert_eq!(safe(&shown, true), shown);
        let read: serde_json::Value = serde_json::from_str(&shown).unwrap();
        assert_eq!(read, value);
    }

    #[test]
    fn plain_colours_end_with_their_line() {
        let text = "\x1b[1;31mbad\nnext \x1b[32mgood\x1b[0m\n\x1b[m";
        assert_eq!(
            safe(text, true),
            "\x1b[1;31mbad\x1b[0m\nnext \x1b[32mgood\x1b[0m\n\x1b[m"
        );
        assert_eq!(safe(text, false), "bad\nnext good\n");
    }
}
