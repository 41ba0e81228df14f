//! The long forms of tests that have a short one among the rest.

mod crash;
mod witness;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::args::Args;
use crate::target::Target;
use crate::{child, server, setup, signals};

/// Longest time for a soak, its build included.
const LIMIT: Duration = Duration::from_secs(2 * 60 * 60);
/// What the crash test accepts unless told otherwise.
const ACCEPTED: u64 = 100_000;

pub(crate) fn main(mut args: Args) -> Result<ExitCode> {
    let accepted = match args.value("--accepted")? {
        Some(count) => count
            .parse()
            .with_context(|| format!("--accepted {count:?} is not a number"))?,
        None => ACCEPTED,
    };
    let queue = args.flag("queue");
    let alone = args.flag("--alone");
    args.finish()?;
    if !queue {
        bail!("soak what? there is: queue");
    }
    signals::watch();
    let target = Target::claim()?;
    if alone {
        return queue_alone(&target, accepted);
    }
    setup::for_tests()?;
    let binary = server::binary(&target)?;
    crash::run(&binary, target.root(), accepted)
}

/// The queue's own crash test: a process that accepts and settles under load is killed again and again.
fn queue_alone(target: &Target, accepted: u64) -> Result<ExitCode> {
    let mut cargo = target.cargo(&["test", "--locked", "-p", "tidegate-queue", "--test", "it"]);
    cargo
        .args(["kill::what_was_accepted_survives_kill", "--"])
        .args(["--exact", "--nocapture", "--test-threads=1"])
        .env("TIDEGATE_SOAK_ACCEPTED", accepted.to_string());
    let status = child::show(&mut cargo, LIMIT)?;
    Ok(if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
