//! From arguments to an exit code.

use std::ffi::OsString;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use clap::{ColorChoice, CommandFactory as _, FromArgMatches as _};
use tidegate_core::Name;

use crate::cli::{Cli, Global};
use crate::context::{Checks, Color, Context, Process};
use crate::error::{Error, Result};
use crate::exit;

/// Where a server listens unless told otherwise.
pub(crate) const DEFAULT_URL: &str = "http://127.0.0.1:8080";

/// The namespace unless told otherwise.
pub(crate) const DEFAULT_NAMESPACE: &str = "default";

/// The whole program, for this process.
#[must_use]
pub fn main() -> ExitCode {
    main_with(Vec::new())
}

/// The same, with checks of the machine for `doctor`.
#[must_use]
pub fn main_with(checks: Checks) -> ExitCode {
    exit::code(run(std::env::args_os(), Process::current(checks)))
}

/// The definition of the command line, from which completions and references are made.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}

/// Runs one command line, the program's name first, and gives the exit code.
pub fn run(args: impl IntoIterator<Item = OsString>, process: Process) -> u8 {
    let args: Vec<OsString> = args.into_iter().collect();
    let color = early_color(&args);
    let mut definition = command().color(
        match (color, process.colored(color, process.terminal.stderr)) {
            (Color::Auto, true) | (Color::Always, _) => ColorChoice::Always,
            _ => ColorChoice::Never,
        },
    );
    if let Some(width) = process.terminal.width {
        definition = definition.term_width(width);
    }
    let parsed = definition
        .try_get_matches_from(&args)
        .and_then(|matches| Cli::from_arg_matches(&matches));
    match parsed {
        Ok(cli) => dispatch(cli, process),
        Err(error) => told_by_clap(&error, process, color),
    }
}

fn dispatch(cli: Cli, process: Process) -> u8 {
    let global = &cli.global;
    let mut context = Context {
        process,
        url: DEFAULT_URL.to_owned(),
        chosen: false,
        token: None,
        namespace: DEFAULT_NAMESPACE.to_owned(),
        quiet: global.quiet,
        color: global.color,
    };
    // A panic is a bug of ours and says so in the exit code; its message has been printed by then.
    let ended = catch_unwind(AssertUnwindSafe(|| {
        settle(global, &mut context)?;
        cli.command.run(&mut context)
    }))
    .unwrap_or_else(|_| Err(Error::silent(exit::UNEXPECTED)));
    let ended = ended.and_then(|()| Ok(context.process.stdout.flush()?));
    match ended {
        Ok(()) => exit::OK,
        Err(error) => {
            context.report(&error);
            error.code
        }
    }
}

/// Flags before variables before defaults.
fn settle(global: &Global, context: &mut Context) -> Result {
    if let Some(url) = text(context, global.url.clone(), "TIDEGATE_URL")? {
        context.url = url;
        context.chosen = true;
    }
    context.token = text(context, global.token.clone(), "TIDEGATE_TOKEN")?;
    let named = global.namespace.as_ref().map(|n| n.as_str().to_owned());
    if let Some(namespace) = text(context, named, "TIDEGATE_NAMESPACE")? {
        Name::new(&namespace).map_err(|e| Error::usage(format!("TIDEGATE_NAMESPACE: {e}")))?;
        context.namespace = namespace;
    }
    Ok(())
}

fn text(context: &Context, flag: Option<String>, variable: &str) -> Result<Option<String>> {
    match (flag, context.process.var(variable)) {
        (Some(flag), _) => Ok(Some(flag)),
        (None, Some(value)) => value
            .into_string()
            .map(Some)
            .map_err(|_| Error::usage(format!("{variable} is not UTF-8 text"))),
        (None, None) => Ok(None),
    }
}

/// Help and version are data; a wrong command line is not.
fn told_by_clap(error: &clap::Error, mut process: Process, color: Color) -> u8 {
    let (code, stream, terminal) = if error.use_stderr() {
        (exit::USAGE, &mut process.stderr, process.terminal.stderr)
    } else {
        (exit::OK, &mut process.stdout, process.terminal.stdout)
    };
    let colored = match color {
        Color::Always => true,
        Color::Never => false,
        Color::Auto => terminal && process.env.get("NO_COLOR").is_none_or(|v| v.is_empty()),
    };
    let text = error.render();
    // Nobody may be there to read it, which changes nothing.
    let _ = if colored {
        write!(stream, "{}", text.ansi())
    } else {
        write!(stream, "{text}")
    };
    code
}

/// `--color`, looked for before anything is parsed, since a parse error is to be coloured by it too.
fn early_color(args: &[OsString]) -> Color {
    let mut found = Color::Auto;
    for (at, arg) in args.iter().enumerate() {
        let value = match arg.to_str() {
            Some("--color") => args.get(at + 1).and_then(|v| v.to_str()),
            Some("--") => break,
            Some(arg) => arg.strip_prefix("--color="),
            None => None,
        };
        match value {
            Some("always") => found = Color::Always,
            Some("never") => found = Color::Never,
            _ => {}
        }
    }
    found
}
