//! The command line as a whole: what every command takes, and the list of commands.

use clap::{Args, Parser, Subcommand};
use tidegate_core::Name;

use crate::commands::{
    Apply, Completions, Cost, DeadLetters, Delete, Deploy, Describe, Dev, Doctor, Export, Image,
    Invoke, List, Login, Logout, Logs, Namespace, New, Promote, Queue, Records, Revisions,
    Rollback, Run, Runtime, Scale, Secret, Store, Template, Top, Traffic, Trigger, Up,
};
use crate::context::{Color, Context};
use crate::error::{Error, Result};
use crate::exit;

/// Functions from a file to a URL.
#[derive(Parser)]
#[command(
    name = "tidegate",
    version,
    after_help = exit::HELP,
    max_term_width = 100,
    subcommand_required = true,
    arg_required_else_help = true,
    disable_help_subcommand = false
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes.
#[derive(Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// The server [env: TIDEGATE_URL] [default: http://127.0.0.1:8080]
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) url: Option<String>,
    /// A key for the server, instead of the one found [env: TIDEGATE_TOKEN]
    #[arg(long, global = true, value_name = "KEY")]
    pub(crate) token: Option<String>,
    /// The namespace [env: TIDEGATE_NAMESPACE] [default: default]
    #[arg(short, long, global = true, value_name = "NAME")]
    pub(crate) namespace: Option<Name>,
    /// Say nothing but data, warnings and errors
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
    /// When to use colour; auto is on a terminal, unless NO_COLOR is set
    #[arg(long, global = true, value_enum, default_value_t, value_name = "WHEN")]
    pub(crate) color: Color,
}

/// The commands, in the order in which one meets them.
#[derive(Subcommand)]
pub(crate) enum Command {
    #[command(after_long_help = crate::commands::up_settings())]
    Up(Up),
    New(New),
    Deploy(Box<Deploy>),
    Apply(Apply),
    Export(Export),
    Dev(Box<Dev>),
    Run(Box<Run>),
    Invoke(Box<Invoke>),
    List(List),
    Describe(Describe),
    Logs(Logs),
    Records(Records),
    Top(Top),
    Cost(Cost),
    Queue(Queue),
    DeadLetters(DeadLetters),
    Scale(Scale),
    Revisions(Revisions),
    Traffic(Traffic),
    Promote(Promote),
    Rollback(Rollback),
    Delete(Delete),
    Trigger(Trigger),
    Secret(Secret),
    Image(Image),
    Runtime(Runtime),
    Namespace(Namespace),
    Store(Store),
    Template(Template),
    Login(Login),
    Logout(Logout),
    Doctor(Doctor),
    Completions(Completions),
}

impl Command {
    /// Runs the command to its end. Those that talk to a server share a runtime of this one thread, which is all that a
    /// client needs and starts in no time; a command that needs another makes it itself.
    pub(crate) fn run(self, context: &mut Context) -> Result {
        match self {
            Self::New(command) => command.run(context),
            Self::Up(command) => command.run(context),
            Self::Completions(command) => command.run(context),
            Self::Apply(command) => wait(command.run(context)),
            Self::Export(command) => wait(command.run(context)),
            Self::Deploy(command) => wait(command.run(context)),
            Self::Dev(command) => wait(command.run(context)),
            Self::Run(command) => wait(command.run(context)),
            Self::Invoke(command) => wait(command.run(context)),
            Self::List(command) => wait(command.run(context)),
            Self::Describe(command) => wait(command.run(context)),
            Self::Logs(command) => wait(command.run(context)),
            Self::Records(command) => wait(command.run(context)),
            Self::Top(command) => wait(command.run(context)),
            Self::Cost(command) => wait(command.run(context)),
            Self::Queue(command) => wait(command.run(context)),
            Self::DeadLetters(command) => wait(command.run(context)),
            Self::Scale(command) => wait(command.run(context)),
            Self::Revisions(command) => wait(command.run(context)),
            Self::Traffic(command) => wait(command.run(context)),
            Self::Promote(command) => wait(command.run(context)),
            Self::Rollback(command) => wait(command.run(context)),
            Self::Delete(command) => wait(command.run(context)),
            Self::Trigger(command) => wait(command.run(context)),
            Self::Secret(command) => wait(command.run(context)),
            Self::Image(command) => wait(command.run(context)),
            Self::Runtime(command) => wait(command.run(context)),
            Self::Namespace(command) => wait(command.run(context)),
            Self::Store(command) => wait(command.run(context)),
            Self::Template(command) => wait(command.run(context)),
            Self::Login(command) => wait(command.run(context)),
            Self::Logout(command) => command.run(context),
            Self::Doctor(command) => wait(command.run(context)),
        }
    }
}

fn wait(work: impl Future<Output = Result>) -> Result {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Error::unexpected("cannot start").because(&e))?
        .block_on(work)
}
