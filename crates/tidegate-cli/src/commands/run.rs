//! `run`: one call, and nothing left of it.

use std::path::PathBuf;

use clap::Args;
use tidegate_document::LogLine;

use super::deploy::What;
use super::functions::path;
use super::invoke::{Invoke, Request};
use super::local::Local;
use super::stop::Stop;
use crate::context::Context;
use crate::error::{Error, Result};

/// Call code once, without a server to deploy it to
///
/// Builds the file or folder and runs it in the same sandbox that a server would, prints what it answers, and leaves
/// nothing behind. What it logs goes to standard error. Fails if the status is 400 or more.
#[derive(Args)]
pub(crate) struct Run {
    /// The file or folder
    #[arg(value_name = "PATH")]
    code: PathBuf,
    #[command(flatten)]
    request: Request,
    #[command(flatten)]
    what: What,
}

impl Run {
    pub(crate) async fn run(self, context: &mut Context) -> Result {
        let mut deploy = self.what.of(self.code);
        // What is wrong with the code or its name is known without a server.
        let packed = deploy.pack()?;
        let name = deploy.name(context)?;
        deploy.name = Some(name.clone());
        let mut stop = Stop::new()?;
        let data = tempfile::Builder::new()
            .prefix("tidegate-run-")
            .tempdir()
            .map_err(|e| Error::failed("cannot make a temporary folder").because(&e))?;
        let local = Local::start(context, data.path())?;
        "default".clone_into(&mut context.namespace);
        let quiet = std::mem::replace(&mut context.quiet, true);
        deploy.aloud = !quiet;
        let call = async {
            let client = context.client()?;
            deploy.send(context, &client, &name, packed).await?;
            let called = Invoke::of(name.clone(), self.request).run(context).await;
            // All that was written until the answer is there by now; lines after it are nobody's.
            let logs = format!("{}/logs", path(&context.namespace, name.as_str()));
            if let Ok(mut lines) = client.lines(&logs, &[]).await {
                while let Ok(Some(line)) = lines.next::<LogLine>().await {
                    if line.stream != "system" && !quiet {
                        context.aside(&line.text);
                    }
                }
            }
            called
        };
        let ended = tokio::select! {
            ended = call => ended,
            () = stop.told() => Err(Error::silent(crate::exit::FAILED)),
        };
        context.quiet = quiet;
        let stopped = local.stop();
        ended.and(stopped)
    }
}
