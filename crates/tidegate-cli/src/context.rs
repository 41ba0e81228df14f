//! What a command may touch of the process: its environment, streams and terminal, as values.
//!
//! Commands never look at the process themselves, so a test gives them other values and reads what they wrote.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Display;
use std::io::{self, IsTerminal as _, Read, Write};

use anstyle::{AnsiColor, Style};
use serde::Serialize;

use crate::doctor::Diagnosis;
use crate::error::{Error, Result};
use crate::run::DEFAULT_NAMESPACE;
use crate::safe::{safe, safe_json};

/// Checks of this machine that the assembled program adds to `doctor`.
pub type Checks = Vec<Box<dyn Fn() -> Vec<Diagnosis>>>;

const ERROR: Style = AnsiColor::Red.on_default().bold();
const WARNING: Style = AnsiColor::Yellow.on_default().bold();
const HINT: Style = AnsiColor::Cyan.on_default().bold();

/// The process, or a test's idea of one.
pub struct Process {
    /// Environment variables.
    pub env: BTreeMap<String, OsString>,
    /// Standard input; taken by the one command that reads it.
    pub stdin: Option<Box<dyn Read + Send>>,
    /// Standard output: data.
    pub stdout: Box<dyn Write>,
    /// Standard error: everything else.
    pub stderr: Box<dyn Write>,
    /// Whether standard input, output and error are terminals.
    pub terminal: Terminal,
    /// See [`Checks`].
    pub checks: Checks,
}

/// Which streams are terminals, and how wide they are.
#[derive(Clone, Copy, Debug, Default)]
pub struct Terminal {
    /// Standard input is.
    pub stdin: bool,
    /// Standard output is.
    pub stdout: bool,
    /// Standard error is.
    pub stderr: bool,
    /// Columns of help pages and of what is drawn; the terminal's own where absent.
    pub width: Option<usize>,
}

/// When to use colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Color {
    // On a terminal, unless NO_COLOR is set.
    #[default]
    Auto,
    Always,
    Never,
}

/// What the commands share.
pub(crate) struct Context {
    pub(crate) process: Process,
    pub(crate) url: String,
    /// Whether the address was given, by flag or variable.
    pub(crate) chosen: bool,
    pub(crate) token: Option<String>,
    pub(crate) namespace: String,
    pub(crate) quiet: bool,
    pub(crate) color: Color,
}

impl Process {
    /// This process.
    #[must_use]
    pub fn current(checks: Checks) -> Self {
        Self {
            env: std::env::vars_os()
                .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
                .collect(),
            stdin: Some(Box::new(io::stdin())),
            stdout: Box::new(io::stdout()),
            stderr: Box::new(io::stderr()),
            terminal: Terminal {
                stdin: io::stdin().is_terminal(),
                stdout: io::stdout().is_terminal(),
                stderr: io::stderr().is_terminal(),
                width: None,
            },
            checks,
        }
    }

    /// A variable, if it is set and not empty.
    pub(crate) fn var(&self, name: &str) -> Option<OsString> {
        self.env.get(name).filter(|v| !v.is_empty()).cloned()
    }

    pub(crate) fn colored(&self, color: Color, terminal: bool) -> bool {
        match color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => {
                terminal
                    && self.var("NO_COLOR").is_none()
                    && self.var("TERM").is_none_or(|t| t != "dumb")
            }
        }
    }
}

impl Context {
    /// A look-up in the environment, for [`crate::paths`].
    pub(crate) fn env(&self) -> impl Fn(&str) -> Option<OsString> + '_ {
        |name| self.process.var(name)
    }

    /// A line of data.
    pub(crate) fn line(&mut self, text: impl Display) -> Result {
        let text = text.to_string();
        writeln!(self.process.stdout, "{}", self.shown_out(&text))?;
        Ok(())
    }

    /// Text of whole lines, at once.
    pub(crate) fn text(&mut self, text: &str) -> Result {
        let shown = self.shown_out(text);
        self.process.stdout.write_all(shown.as_bytes())?;
        self.process.stdout.flush()?;
        Ok(())
    }

    /// Bytes of data as they come, whatever they do to a terminal.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result {
        self.process.stdout.write_all(bytes)?;
        self.process.stdout.flush()?;
        Ok(())
    }

    /// A value as indented JSON.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> Result {
        let text = serde_json::to_string_pretty(value)
            .map_err(|e| Error::unexpected("cannot write JSON").because(&e))?;
        let text = self.json_out(&text);
        self.line(text)
    }

    /// A value as one line of JSON, for streams.
    pub(crate) fn json_line(&mut self, value: &impl Serialize) -> Result {
        let text = serde_json::to_string(value)
            .map_err(|e| Error::unexpected("cannot write JSON").because(&e))?;
        let text = self.json_out(&text);
        self.line(text)?;
        self.process.stdout.flush()?;
        Ok(())
    }

    /// A line for people, not in the way of the data. Nobody may be listening, so a failure to write it is no failure.
    pub(crate) fn note(&mut self, text: impl Display) {
        if !self.quiet {
            self.aside(text);
        }
    }

    /// A line that is not data but was asked for, so that it is written however quiet the rest is to be.
    pub(crate) fn aside(&mut self, text: impl Display) {
        let text = text.to_string();
        let shown = self.shown_err(&text);
        let _ = writeln!(self.process.stderr, "{shown}");
    }

    /// Something that is not as it should be, though the command goes on.
    pub(crate) fn warn(&mut self, text: impl Display) {
        let label = self.styled(WARNING, "warning:");
        self.aside(format_args!("{label} {text}"));
    }

    /// The last words of a failed command.
    pub(crate) fn report(&mut self, error: &Error) {
        if !error.message.is_empty() {
            let label = self.styled(ERROR, "error:");
            self.aside(format_args!("{label} {}", error.message));
        }
        for cause in &error.causes {
            self.aside(format_args!("  Caused by: {cause}"));
        }
        for hint in &error.hints {
            let label = self.styled(HINT, "hint:");
            self.aside(format_args!("{label} {hint}"));
        }
    }

    /// Text as standard output shows it.
    fn shown_out<'t>(&self, text: &'t str) -> Cow<'t, str> {
        match self.process.terminal.stdout {
            true => safe(text, self.colored_stdout()),
            false => Cow::Borrowed(text),
        }
    }

    /// JSON as standard output shows it: still JSON, and the same.
    fn json_out<'t>(&self, text: &'t str) -> Cow<'t, str> {
        match self.process.terminal.stdout {
            true => safe_json(text),
            false => Cow::Borrowed(text),
        }
    }

    /// The same of standard error.
    fn shown_err<'t>(&self, text: &'t str) -> Cow<'t, str> {
        match self.process.terminal.stderr {
            true => safe(text, self.colored_stderr()),
            false => Cow::Borrowed(text),
        }
    }

    /// A command for a hint, with the namespace where it is not the usual one.
    pub(crate) fn advice(&self, command: impl Display) -> String {
        if self.namespace == DEFAULT_NAMESPACE {
            format!("'tidegate {command}'")
        } else {
            format!("'tidegate {command} -n {}'", self.namespace)
        }
    }

    /// Whether progress can be drawn.
    pub(crate) fn draws(&self) -> bool {
        self.process.terminal.stderr && !self.quiet
    }

    /// Whether standard error has colour.
    pub(crate) fn colored_stderr(&self) -> bool {
        self.process
            .colored(self.color, self.process.terminal.stderr)
    }

    /// Columns and rows of the terminal that standard output is; `None` where it is none.
    pub(crate) fn size(&self) -> Option<(usize, usize)> {
        /// Where a terminal does not say.
        const USUAL: (usize, usize) = (80, 24);
        let terminal = self.process.terminal;
        if !terminal.stdout {
            return None;
        }
        if let Some(width) = terminal.width {
            return Some((width, USUAL.1));
        }
        let told = crossterm::terminal::size().ok();
        let told = told.filter(|(columns, rows)| *columns > 0 && *rows > 0);
        Some(told.map_or(USUAL, |(columns, rows)| (columns.into(), rows.into())))
    }

    /// Whether standard output has colour.
    pub(crate) fn colored_stdout(&self) -> bool {
        self.process
            .colored(self.color, self.process.terminal.stdout)
    }

    /// Standard input, for the one that reads it.
    pub(crate) fn stdin(&mut self) -> Box<dyn Read + Send> {
        self.process
            .stdin
            .take()
            .unwrap_or_else(|| Box::new(io::empty()))
    }

    /// Text in a style where standard error has colour.
    fn styled(&self, style: Style, text: &str) -> String {
        if self
            .process
            .colored(self.color, self.process.terminal.stderr)
        {
            format!("{style}{text}{style:#}")
        } else {
            text.to_owned()
        }
    }

    /// Text in a style where standard output has colour.
    pub(crate) fn styled_out(&self, style: Style, text: &str) -> String {
        if self
            .process
            .colored(self.color, self.process.terminal.stdout)
        {
            format!("{style}{text}{style:#}")
        } else {
            text.to_owned()
        }
    }
}
