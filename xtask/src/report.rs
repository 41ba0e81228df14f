//! What a chore says: steps with their times, counts of what passed, tables.

use std::time::{Duration, Instant};

use anyhow::Result;

/// Passed and failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
}

impl Tally {
    pub(crate) const PASSED: Self = Self {
        passed: 1,
        failed: 0,
    };
    pub(crate) const FAILED: Self = Self {
        passed: 0,
        failed: 1,
    };

    pub(crate) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

/// How a step ended.
pub(crate) enum Ended {
    /// It ran; what it counted, or one for itself.
    Ran(Tally),
    /// It could not run here, and why.
    Skipped(String),
}

/// Steps, some of them at once, and the account of them.
pub(crate) struct Steps {
    began: Instant,
    rows: Vec<(String, Duration, Ended)>,
    /// What failed, by name; said again at the end, where it is found.
    failures: Vec<String>,
}

impl Steps {
    pub(crate) fn new() -> Self {
        Self {
            began: Instant::now(),
            rows: Vec::new(),
            failures: Vec::new(),
        }
    }

    /// Runs a step, says so, and keeps its account. An error counts as one failure. Returns whether nothing failed.
    pub(crate) fn run(&mut self, name: &str, step: impl FnOnce() -> Result<Ended>) -> bool {
        println!("\n── {name}");
        let began = Instant::now();
        let ended = step();
        self.add(name, began.elapsed(), ended)
    }

    /// Keeps the account of a step that was run elsewhere, and says how it ended. An error counts as one failure. Returns
    /// whether nothing failed.
    pub(crate) fn add(&mut self, name: &str, took: Duration, ended: Result<Ended>) -> bool {
        let ended = ended.unwrap_or_else(|error| {
            println!("error: {error:#}");
            self.failures.push(format!("{name}: {error:#}"));
            Ended::Ran(Tally::FAILED)
        });
        let good = match &ended {
            Ended::Ran(tally) => tally.failed == 0,
            Ended::Skipped(why) => {
                println!("skipped: {why}");
                true
            }
        };
        println!(
            "── {name}: {} in {}",
            if good { "done" } else { "FAILED" },
            seconds(took)
        );
        if !good {
            self.failures.push(name.to_owned());
        }
        self.rows.push((name.to_owned(), took, ended));
        good
    }

    /// Keeps the name of a test that failed.
    pub(crate) fn failed(&mut self, name: String) {
        self.failures.push(name);
    }

    /// Prints the account; the last line is `N passed, N failed`.
    pub(crate) fn finish(&self) -> Tally {
        let mut all = Tally::default();
        let mut table = vec![["step", "time", "passed", "failed", ""].map(str::to_owned)];
        for (name, took, ended) in &self.rows {
            let (passed, failed, note) = match ended {
                Ended::Ran(tally) => {
                    all.add(*tally);
                    (
                        tally.passed.to_string(),
                        tally.failed.to_string(),
                        String::new(),
                    )
                }
                Ended::Skipped(why) => ("-".into(), "-".into(), format!("skipped: {why}")),
            };
            table.push([name.clone(), seconds(*took), passed, failed, note]);
        }
        println!("\n{}", render(&table));
        println!("took {}\n", seconds(self.began.elapsed()));
        for failure in &self.failures {
            println!("failed: {failure}");
        }
        println!("{} passed, {} failed", all.passed, all.failed);
        all
    }
}

/// `12.3 s` or `4 min 05 s`.
pub(crate) fn seconds(time: Duration) -> String {
    let whole = time.as_secs();
    if whole < 100 {
        format!("{:.1} s", time.as_secs_f64())
    } else {
        format!("{} min {:02} s", whole / 60, whole % 60)
    }
}

/// Rows as aligned columns; the first row is the head. Columns whose cells all begin with a digit, or are empty, stand right.
pub(crate) fn render<const N: usize>(rows: &[[String; N]]) -> String {
    let width: [usize; N] = std::array::from_fn(|column| {
        rows.iter()
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or(0)
    });
    let right: [bool; N] = std::array::from_fn(|column| {
        rows.iter().skip(1).all(|row| {
            let cell = row[column].trim_start_matches(['-', '+']);
            cell.is_empty() || cell.starts_with(|first: char| first.is_ascii_digit())
        })
    });
    let mut text = String::new();
    for (number, row) in rows.iter().enumerate() {
        let line: Vec<String> = (0..N)
            .map(|column| {
                let (cell, width) = (&row[column], width[column]);
                if right[column] {
                    format!("{cell:>width$}")
                } else {
                    format!("{cell:<width$}")
                }
            })
            .collect();
        text.push_str(line.join("  ").trim_end());
        text.push('\n');
        if number == 0 {
            text.push_str(&"─".repeat(width.iter().sum::<usize>() + 2 * (N - 1)));
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{render, seconds};
    use std::time::Duration;

    #[test]
    fn columns_are_aligned() {
        let rows =
            [["name", "req/s"], ["a", "10"], ["long", "9"]].map(|row| row.map(str::to_owned));
        assert_eq!(
            render(&rows),
            "name  req/s\n───────────\na        10\nlong      9\n"
        );
    }

    #[test]
    fn times_read_well() {
        assert_eq!(seconds(Duration::from_millis(1240)), "1.2 s");
        assert_eq!(seconds(Duration::from_secs(245)), "4 min 05 s");
    }
}
