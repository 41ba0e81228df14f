//! Invocations and what they led to, and where the time of each went, as lines of text.
//!
//! Pure: what was found goes in, lines come out. On a terminal each line ends in a bar, all of them to one scale; the parts
//! are told by the pattern and, where there is colour, by it too, so that neither is needed.

use anstyle::{AnsiColor, Style};
use jiff::Timestamp;
use tidegate_document::Record;

use super::row::{cause, start_us};
use crate::table::Table;
use crate::units::span;

/// Least columns for a bar; below that a line would tell more of its edges than of time.
const MIN_BAR: usize = 16;

/// Longest name of a node in characters, its branches included.
const MAX_LABEL: usize = 48;

/// Marks the one that was asked for.
const ASKED: &str = "◀";

/// An invocation, by its place in [`Tree::nodes`].
#[derive(Debug)]
pub(super) struct Node {
    pub(super) id: String,
    /// Nothing where it is known only from what it led to.
    pub(super) record: Option<Record>,
    pub(super) children: Vec<usize>,
}

/// What led to an invocation and what that led to, from the first one known.
#[derive(Debug)]
pub(super) struct Tree {
    /// The root first.
    pub(super) nodes: Vec<Node>,
    /// The one that was asked for.
    pub(super) asked: usize,
}

/// A part of an invocation's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Queue,
    Sandbox,
    Runtime,
    Load,
    Run,
    /// As [`Self::Run`], of one that did not end well.
    Failed,
}

impl Part {
    const fn pattern(self) -> char {
        match self {
            Self::Queue => '·',
            Self::Sandbox => '░',
            Self::Runtime => '▒',
            Self::Load => '▓',
            Self::Run | Self::Failed => '█',
        }
    }

    const fn style(self) -> Style {
        match self {
            Self::Queue => Style::new().dimmed(),
            Self::Sandbox | Self::Runtime | Self::Load => AnsiColor::Yellow.on_default(),
            Self::Run => AnsiColor::Green.on_default(),
            Self::Failed => AnsiColor::Red.on_default(),
        }
    }
}

/// A line before it is drawn: the node, and the branches in front of its name.
struct Line<'a> {
    node: &'a Node,
    label: String,
}

impl Tree {
    /// Lines with bars, `width` columns wide; `None` where the names leave no room for bars.
    pub(super) fn bars(&self, width: usize, colored: bool) -> Option<Vec<String>> {
        let lines = self.lines();
        let mut names = Table::new(&["", "", ""]);
        for line in &lines {
            let (outcome, total) = match &line.node.record {
                Some(record) => (record.outcome.clone(), span(record.times.total_us)),
                None => (String::new(), String::new()),
            };
            names.row(vec![line.label.clone(), outcome, total]);
        }
        let used = names.width() + 2;
        let room = width.checked_sub(used).filter(|room| *room >= MIN_BAR)?;
        let (from, to) = self.window();
        let mut cold = false;
        // The empty headings are a line as well.
        let text = names.render_padded();
        let mut drawn = Vec::new();
        for (text, line) in text.iter().skip(1).zip(&lines) {
            let bar = match &line.node.record {
                Some(record) => {
                    cold |= record.times.cold.is_some();
                    draw(&parts(record), from, to, room, colored)
                }
                None => String::new(),
            };
            drawn.push(format!("{text}  {bar}").trim_end().to_owned());
        }
        drawn.push(legend(cold));
        Some(drawn)
    }

    /// A table of numbers, for where nothing can be drawn to scale.
    pub(super) fn table(&self) -> String {
        let (from, _) = self.window();
        let mut table = Table::new(&[
            "INVOCATION",
            "OUTCOME",
            "AT",
            "TOTAL",
            "QUEUE",
            "START",
            "RUN",
            "ID",
        ]);
        for Line { node, label } in self.lines() {
            let dash = || "-".to_owned();
            let mut cells = vec![label];
            match &node.record {
                Some(record) => cells.extend([
                    record.outcome.clone(),
                    format!("+{}", span(received_us(record).saturating_sub(from))),
                    span(record.times.total_us),
                    span(record.times.queue_us),
                    start_us(record).map_or_else(dash, span),
                    span(record.times.run_us),
                ]),
                None => cells.extend(std::iter::repeat_with(dash).take(6)),
            }
            cells.push(node.id.clone());
            table.row(cells);
        }
        table.render()
    }

    /// The first moment of any, and the last one.
    fn window(&self) -> (u64, u64) {
        let known = || self.nodes.iter().filter_map(|n| n.record.as_ref());
        let from = known().map(received_us).min().unwrap_or(0);
        let end = |r: &Record| received_us(r).saturating_add(r.times.total_us);
        let to = known().map(end).max().unwrap_or(0);
        (from, to.max(from + 1))
    }

    fn lines(&self) -> Vec<Line<'_>> {
        let mut lines = Vec::new();
        // A stack rather than recursion: chains of causes may be long.
        let mut waiting = vec![(0, String::new(), String::new())];
        while let Some((at, first, rest)) = waiting.pop() {
            let node = &self.nodes[at];
            let name = match &node.record {
                Some(record) => format!("{} · {}", record.function, cause(&record.cause)),
                None => "(no record of its own)".to_owned(),
            };
            let mark = if at == self.asked && self.nodes.len() > 1 {
                format!(" {ASKED}")
            } else {
                String::new()
            };
            let room = MAX_LABEL.saturating_sub(mark.chars().count());
            let mut label: String = format!("{first}{name}");
            if label.chars().count() > room {
                label = label.chars().take(room - 1).collect();
                label.push('…');
            }
            label.push_str(&mark);
            lines.push(Line { node, label });
            for (n, child) in node.children.iter().enumerate().rev() {
                let last = n + 1 == node.children.len();
                let (branch, beside) = if last {
                    ("└─ ", "   ")
                } else {
                    ("├─ ", "│  ")
                };
                waiting.push((*child, format!("{rest}{branch}"), format!("{rest}{beside}")));
            }
        }
        lines
    }
}

/// When it arrived, in microseconds since the Unix epoch.
pub(super) fn received_us(record: &Record) -> u64 {
    let at = record.received.parse::<Timestamp>();
    at.map_or(0, |at| u64::try_from(at.as_microsecond()).unwrap_or(0))
}

/// When each part began and ended, in microseconds since the Unix epoch, one after another.
fn parts(record: &Record) -> Vec<(Part, u64, u64)> {
    let times = &record.times;
    let start = start_us(record).unwrap_or(0);
    let run = match record.outcome.as_str() {
        "ok" => Part::Run,
        _ => Part::Failed,
    };
    let (sandbox, runtime, load) = times.cold.as_ref().map_or((0, 0, 0), |cold| {
        (cold.sandbox_us, cold.runtime_us, cold.load_us)
    });
    // What of the start had been done before it came to wait is not its time.
    let waited = times.queue_us.saturating_sub(start);
    let whole = times.queue_us.min(start);
    let mut from = received_us(record);
    let mut parts = Vec::new();
    for (part, length) in [
        (Part::Queue, waited),
        (Part::Sandbox, share(whole, sandbox, start)),
        (Part::Runtime, share(whole, runtime, start)),
        (Part::Load, share(whole, load, start)),
        (run, times.run_us),
    ] {
        if length > 0 {
            parts.push((part, from, from + length));
            from += length;
        }
    }
    parts
}

/// The part of `whole` that `piece` is of `all`.
fn share(whole: u64, piece: u64, all: u64) -> u64 {
    if all == 0 {
        return 0;
    }
    u64::try_from(u128::from(whole) * u128::from(piece) / u128::from(all)).unwrap_or(whole)
}

/// A bar of `width` cells from `from` to `to`. What took any time at all is seen, be it shorter than a cell.
fn draw(parts: &[(Part, u64, u64)], from: u64, to: u64, width: usize, colored: bool) -> String {
    let cell = |at: u64| {
        let of = u128::from(to - from);
        let at = u128::from(at.saturating_sub(from)) * width as u128;
        (usize::try_from(at / of).unwrap_or(width)).min(width)
    };
    let mut cells: Vec<Option<Part>> = vec![None; width];
    for (part, begin, end) in parts {
        let first = cell(*begin).min(width - 1);
        let last = cell(*end).clamp(first + 1, width);
        cells[first..last].fill(Some(*part));
    }
    let mut bar = String::new();
    let mut rest = cells.as_slice();
    while let Some(part) = rest.first() {
        let same = rest.iter().take_while(|p| *p == part).count();
        let text: String = match part {
            Some(part) => part.pattern().to_string().repeat(same),
            None => " ".repeat(same),
        };
        match part {
            Some(part) if colored => {
                let style = part.style();
                bar.push_str(&format!("{style}{text}{style:#}"));
            }
            _ => bar.push_str(&text),
        }
        rest = &rest[same..];
    }
    bar
}

fn legend(cold: bool) -> String {
    let mut known = vec![(Part::Queue, "waited")];
    if cold {
        known.extend([
            (Part::Sandbox, "sandbox"),
            (Part::Runtime, "runtime"),
            (Part::Load, "code"),
        ]);
    }
    known.push((Part::Run, "ran"));
    let known: Vec<String> = known
        .into_iter()
        .map(|(part, name)| format!("{} {name}", part.pattern()))
        .collect();
    known.join("   ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_to_scale_and_shows_what_is_short() {
        let parts = [
            (Part::Queue, 0, 50),
            (Part::Load, 50, 51),
            (Part::Run, 51, 100),
        ];
        assert_eq!(draw(&parts, 0, 100, 20, false), "··········██████████");
        assert_eq!(
            draw(&[(Part::Failed, 99, 100)], 0, 100, 10, false),
            "         █"
        );
        assert_eq!(
            draw(&[(Part::Run, 100, 101)], 0, 100, 10, false),
            "         █"
        );
        let colored = draw(&[(Part::Run, 0, 1)], 0, 1, 2, true);
        assert_eq!(colored, "\u{1b}[32m██\u{1b}[0m");
    }
}
