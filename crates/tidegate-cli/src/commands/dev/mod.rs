//! `dev`: the code as it is now, always.
//!
//! Every change is a deploy like any other, so that what works here works there: built in the same walls, switched to when
//! it is ready, and left serving the version before when it is not.

mod target;
mod watch;

use std::path::{Path, PathBuf};

use anstyle::{AnsiColor, Style};
use clap::Args;
use tidegate_core::Name;
use tidegate_document::{LogLine, ServerInfo};

use super::deploy::What;
use super::functions::path;
use super::local::Local;
use super::stop::Stop;
use crate::client::{ANSWER, Client, Lines};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::paths;
use crate::run::DEFAULT_URL;
use target::{Shipped, Target};
use watch::Watch;

/// What Tidegate itself says of an instance, apart from what the code wrote.
const SYSTEM: Style = AnsiColor::Yellow.on_default();

/// Deploy, and again at every change, with the logs
///
/// Uses the server that answers, or runs one inside this command. Deploys the file or folder, prints its URL and what it
/// writes, and deploys it anew whenever a file changes. Code that does not work is told of, while the version before goes on
/// serving. Ctrl-C ends it, and deletes the function if it was not there before.
#[derive(Args)]
pub(crate) struct Dev {
    /// The file or folder, or a folder with a manifest
    #[arg(value_name = "PATH", default_value = ".")]
    path: PathBuf,
    /// Leave the function where it is at the end
    #[arg(long)]
    keep: bool,
    /// Where the server inside this command keeps its data, instead of a folder of its own for this path
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    #[command(flatten)]
    what: What,
}

impl Dev {
    pub(crate) async fn run(self, context: &mut Context) -> Result {
        let mut target = Target::of(context, self.what, &self.path)?;
        let mut watch = Watch::begin(target.root()).map_err(|e| {
            Error::usage(format!("cannot watch {}", target.root().display())).because(&e)
        })?;
        let mut stop = Stop::new()?;
        let local = server(context, self.data.as_deref(), &self.path).await?;
        let worked = work(context, &mut target, &mut watch, &mut stop, self.keep).await;
        let stopped = match local {
            Some(local) => local.stop(),
            None => Ok(()),
        };
        worked.and(stopped)
    }
}

/// The server to use: the one that answers or, if none was named and none answers, one inside this command.
async fn server(context: &mut Context, data: Option<&Path>, path: &Path) -> Result<Option<Local>> {
    let named = context.url != DEFAULT_URL || context.process.var("TIDEGATE_URL").is_some();
    if data.is_none() || named {
        let client = context.client()?;
        let answer: Result<ServerInfo, _> = client.get("/", &[], ANSWER).await;
        match answer {
            Ok(_) => {
                context.note(format!("using the server at {}", client.shown()));
                return Ok(None);
            }
            Err(crate::client::Error::Refused { .. }) if !named => {}
            Err(error) => return Err(error.into()),
        }
    }
    let data = match data {
        Some(data) => std::path::absolute(data)
            .map_err(|e| Error::usage(format!("--data {}", data.display())).because(&e))?,
        None => own_data(context, path)?,
    };
    std::fs::create_dir_all(&data)
        .map_err(|e| Error::failed(format!("cannot make {}", data.display())).because(&e))?;
    let local = Local::start(context, &data)?;
    context.note(format!(
        "running a server at {}, data in {}",
        local.url,
        data.display()
    ));
    Ok(Some(local))
}

/// A folder for each path, so that what was installed for it once is there the next time.
fn own_data(context: &Context, path: &Path) -> Result<PathBuf> {
    let real = path
        .canonicalize()
        .map_err(|e| Error::usage(format!("no file or folder {}", path.display())).because(&e))?;
    let digest = tidegate_build::digest(real.as_os_str().as_encoded_bytes())
        .map_err(|e| Error::unexpected("cannot tell the path's digest").because(&e))?;
    let short = &digest[tidegate_build::DIGEST_PREFIX.len()..][..12];
    let state = paths::state_dir(context.env()).ok_or_else(|| {
        Error::usage("there is no home folder to keep data in; set HOME, or use --data")
    })?;
    Ok(state.join("dev").join(short))
}

async fn work(
    context: &mut Context,
    target: &mut Target,
    watch: &mut Watch,
    stop: &mut Stop,
    keep: bool,
) -> Result {
    let client = context.client()?;
    let name = target.name().clone();
    let there = path(&context.namespace, name.as_str());
    let before: Result<serde_json::Value, _> = client.get(&there, &[], ANSWER).await;
    let existed = match before {
        Ok(_) => true,
        Err(e) if e.status() == Some(404) => false,
        Err(e) => return Err(e.into()),
    };
    let mut made = false;
    let ended = tokio::select! {
        ended = follow(context, &client, target, watch, &name, &mut made) => ended,
        () = stop.told() => Ok(()),
    };
    if keep || !made {
        return ended;
    }
    // Its triggers are not to call what is no longer worked at.
    target.take_back(context, &client).await;
    if existed {
        context.note(format!("{name} was there before, and stays as it is now"));
        return ended;
    }
    match client.delete(&there, &[]).await {
        Ok(()) => context.note(format!("deleted {name}")),
        Err(e) if e.status() == Some(404) => {}
        Err(e) => return ended.and(Err(e.into())),
    }
    ended
}

/// Deploys and tells, again and again.
async fn follow(
    context: &mut Context,
    client: &Client,
    target: &mut Target,
    watch: &mut Watch,
    name: &Name,
    made: &mut bool,
) -> Result {
    let mut logs: Option<Lines> = None;
    let mut announced = false;
    loop {
        match target.ship(context, client, made, logs.is_some()).await {
            Ok(Shipped::Same) => {}
            Ok(Shipped::New(url)) => {
                if !announced {
                    announced = true;
                    context.line(&url)?;
                    context.bytes(b"")?;
                    let how = if watch.polls {
                        " (by looking twice a second)"
                    } else {
                        ""
                    };
                    context.note(format!("watching for changes{how}; Ctrl-C ends"));
                }
                if logs.is_none() {
                    logs = open(client, context, name).await;
                }
            }
            Err(error) if error.code == crate::exit::OK => return Err(error),
            Err(error) => {
                context.report(&error);
                context.note("waiting for a change");
            }
        }
        // One wait for all of the lines that come meanwhile: begun anew for each, it would forget the change it has seen.
        let mut changed = std::pin::pin!(watch.changed());
        loop {
            tokio::select! {
                () = &mut changed => break,
                line = next(&mut logs) => match line {
                    Some(line) => show(context, &line)?,
                    None => logs = None,
                },
            }
        }
    }
}

async fn open(client: &Client, context: &Context, name: &Name) -> Option<Lines> {
    let logs = format!("{}/logs", path(&context.namespace, name.as_str()));
    // Without logs there is still a function to work at.
    client.lines(&logs, &[("follow", "true")]).await.ok()
}

/// The next line of a log, if there is one to wait for.
async fn next(logs: &mut Option<Lines>) -> Option<LogLine> {
    match logs {
        Some(lines) => lines.next().await.ok().flatten(),
        None => std::future::pending().await,
    }
}

fn show(context: &mut Context, line: &LogLine) -> Result {
    let text = if line.stream == "system" {
        context.styled_out(SYSTEM, &format!("[tidegate] {}", line.text))
    } else {
        line.text.clone()
    };
    context.text(&format!("{text}\n"))
}
