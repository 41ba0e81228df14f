//! What is wrong with a manifest, and where.

use std::fmt;

/// Longest line shown in a snippet, in characters; the rest of a longer one is left out around the place.
const MAX_SHOWN: usize = 100;

/// Mistakes kept at most: after that many the rest follow from the first.
const MAX_MISTAKES: usize = 40;

/// One mistake. Its `Display` is several lines: what is wrong, where, and that line of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// One line: the thing, the value, what would be accepted.
    pub message: String,
    /// The file as it was named, or `standard input`.
    pub file: String,
    /// From 1; 0 where the whole file is meant.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// The line, and how many characters of it from `column` on are meant.
    snippet: Option<(String, usize)>,
}

/// Every mistake that was found, in the order in which they stand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mistakes(pub Vec<Mistake>);

impl Mistake {
    /// A mistake of a file as a whole.
    #[must_use]
    pub fn whole(file: &str, message: impl fmt::Display) -> Self {
        Self {
            message: message.to_string(),
            file: file.to_owned(),
            line: 0,
            column: 0,
            snippet: None,
        }
    }

    /// A mistake at these bytes of a text.
    #[must_use]
    pub fn at(file: &str, text: &str, range: std::ops::Range<usize>, message: String) -> Self {
        let start = floor(text, range.start);
        let begin = text[..start].rfind('\n').map_or(0, |n| n + 1);
        let shown = text[begin..].split(['\n', '\r']).next().unwrap_or("");
        let line = text[..start].matches('\n').count() + 1;
        let column = text[begin..start].chars().count() + 1;
        let end = floor(text, range.end.min(begin + shown.len()));
        let width = text.get(start..end).map_or(0, |t| t.chars().count()).max(1);
        Self {
            message,
            file: file.to_owned(),
            line,
            column,
            snippet: Some((shown.to_owned(), width)),
        }
    }
}

/// The nearest boundary of a character at or before a place.
fn floor(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        let Some((line, width)) = &self.snippet else {
            return write!(f, "\n  --> {}", self.file);
        };
        let number = self.line.to_string();
        let gutter = " ".repeat(number.len());
        write!(
            f,
            "\n {gutter}--> {}:{}:{}",
            self.file, self.line, self.column
        )?;
        // Tabs and the like would put the marks under another place.
        let clean: Vec<char> = line
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        let skipped = (self.column - 1).saturating_sub(MAX_SHOWN / 2);
        let skipped = if clean.len() > MAX_SHOWN { skipped } else { 0 };
        let shown: String = clean.iter().skip(skipped).take(MAX_SHOWN).collect();
        let before = " ".repeat(self.column - 1 - skipped);
        let marks = "^".repeat((*width).min(MAX_SHOWN.saturating_sub(before.len())).max(1));
        let shown = shown.trim_end();
        write!(
            f,
            "\n {gutter} |\n {number} | {shown}\n {gutter} | {before}{marks}"
        )
    }
}

impl std::error::Error for Mistake {}

impl Mistakes {
    /// Adds one, unless there are so many that the rest follow from the first.
    pub fn push(&mut self, mistake: Mistake) {
        if self.0.len() < MAX_MISTAKES {
            self.0.push(mistake);
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, mistake) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str("\n\n")?;
            }
            write!(f, "{mistake}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Mistakes {}
