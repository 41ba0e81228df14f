//! What every way of deploying does: pack, upload, wait, say why not.
//!
//! Nothing here touches the terminal but the bar of an upload, so that several functions can be on their way at once.

use std::path::Path;
use std::time::{Duration, Instant};

use tidegate_build::{PackOptions, Packed, Runtime};
use tidegate_core::Name;
use tidegate_document::{
    BuildLine, Code, Function, FunctionStatus, Phase, RevisionList, RevisionPhase,
};

use super::versions::is_same_code;
use crate::client::{ANSWER, Client};
use crate::commands::functions::{path, short};
use crate::error::{Error, Result};
use crate::progress;

/// How long one question for the state is held open by the server, in seconds.
const HOLD: u64 = 20;

/// How long a deploy is waited for. A start has its own, shorter limit at the server; this one ends the wait for a server
/// that does not get to it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(300);

/// Wait between two questions, for a server that answers at once that it is not ready.
const PAUSE: Duration = Duration::from_millis(50);

/// One function on its way to a server.
pub(crate) struct Ship<'a> {
    pub(crate) client: &'a Client,
    pub(crate) namespace: &'a str,
    pub(crate) name: &'a Name,
}

/// Code that a server has.
pub(crate) struct Uploaded {
    pub(crate) runtime: Runtime,
    /// How it is called, as far as the code says.
    pub(crate) contract: String,
    pub(crate) code: Code,
}

/// Makes an archive of a path; what is wrong with it is the user's mistake.
pub(crate) fn pack(path: &Path, options: &PackOptions) -> Result<Packed> {
    tidegate_build::pack(path, options).map_err(|e| {
        let told = Error::usage(&e);
        match std::error::Error::source(&e) {
            Some(source) => told.because(source),
            None => told,
        }
    })
}

/// Sends the archive, if the server does not have it, and tells what a document says of it.
pub(crate) async fn upload(draw: bool, client: &Client, packed: Packed) -> Result<Uploaded> {
    let Packed {
        archive,
        digest,
        size,
        detected,
        ..
    } = packed;
    if !client.has_blob(&digest).await? {
        let bar = progress::bytes(draw, "uploading", size);
        let counted = bar.clone();
        let sent = client
            .put_blob(&digest, archive, size, move |n| counted.inc(n))
            .await;
        bar.finish_and_clear();
        sent?;
    }
    let code = Code {
        digest,
        entry: detected.entry,
    };
    Ok(Uploaded {
        runtime: detected.runtime,
        contract: detected.contract.to_owned(),
        code,
    })
}

/// The function as it is, if it is there.
pub(super) async fn now(client: &Client, path: &str) -> Result<Option<Function>> {
    match client.get(path, &[], ANSWER).await {
        Ok(function) => Ok(Some(function)),
        Err(e) if e.status() == Some(404) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

impl Ship<'_> {
    /// Tells every line of the build of the written generation, until it ends; at once where there is nothing to build.
    pub(crate) async fn build(
        &self,
        written: &Function,
        mut said: impl FnMut(&BuildLine),
    ) -> Result {
        let target = format!("{}/build", path(self.namespace, self.name.as_str()));
        let generation = written.metadata.generation.to_string();
        let query = [("generation", generation.as_str())];
        let mut lines = self.client.lines(&target, &query).await?;
        while let Some(line) = lines.next::<BuildLine>().await? {
            said(&line);
        }
        Ok(())
    }

    /// Asks until the written generation is ready or failed, or patience ends: then what is told is still pending.
    pub(crate) async fn settled(&self, written: &Function) -> Result<Function> {
        let path = path(self.namespace, self.name.as_str());
        let generation = written.metadata.generation;
        let wanted = generation.to_string();
        let hold = HOLD.to_string();
        let query = [("waitGeneration", wanted.as_str()), ("wait", hold.as_str())];
        let began = Instant::now();
        loop {
            let function: Function = self
                .client
                .get(&path, &query, ANSWER + Duration::from_secs(HOLD))
                .await?;
            let status = function.status.clone().unwrap_or_default();
            let settled =
                status.observed_generation >= generation && status.phase != Phase::Pending;
            let newest = function.metadata.generation;
            if newest > generation
                && status.observed_generation != generation
                && !is_same_code(&function.spec, &written.spec)
            {
                return Err(Error::failed(format!(
                    "this deploy of {} was replaced by a newer deploy (generation {newest})",
                    self.name
                )));
            }
            if settled {
                return Ok(function);
            }
            if began.elapsed() > PATIENCE {
                // What was read may be ready in an older generation, which is not what was asked for.
                let mut function = function;
                function.status = Some(FunctionStatus {
                    phase: Phase::Pending,
                    ..status
                });
                return Ok(function);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Why the written generation failed: the last lines that the tool or the code wrote, and the server's line.
    pub(crate) async fn failed(
        &self,
        generation: u64,
        status: &FunctionStatus,
    ) -> (Vec<String>, Error) {
        let built = status.build.as_ref().is_none_or(|build| !build.failed);
        let written = match &status.build {
            // The code has said nothing yet.
            Some(build) if build.failed => build.log.clone(),
            _ => self.last_words(generation, &status.message).await,
        };
        let why = if status.message.is_empty() {
            "the server gives no reason"
        } else {
            &status.message
        };
        let what = if built { "started" } else { "built" };
        let why = why.strip_prefix("build failed: ").unwrap_or(why);
        let error = Error::failed(format!("{} could not be {what}: {why}", self.name));
        let error = if status.revision.is_empty() {
            error
        } else {
            error.hint(format!(
                "the earlier revision {} keeps serving",
                short(&status.revision)
            ))
        };
        (written, error)
    }

    /// What the code of a generation wrote before it failed. The revision has kept it; the function's log has what earlier
    /// ones wrote as well.
    async fn last_words(&self, generation: u64, message: &str) -> Vec<String> {
        let target = format!("{}/revisions", path(self.namespace, self.name.as_str()));
        let revisions: RevisionList = match self.client.get(&target, &[], ANSWER).await {
            Ok(revisions) => revisions,
            // The failure itself is told all the same.
            Err(_) => return Vec::new(),
        };
        let failed = revisions.items.into_iter().find(|revision| {
            revision.spec.generation == generation && revision.status.phase == RevisionPhase::Failed
        });
        let mut lines = failed.map_or_else(Vec::new, |revision| revision.status.log);
        // The server's own line comes with the error.
        lines.retain(|line| line.strip_prefix("start failed: ") != Some(message));
        lines
    }
}
