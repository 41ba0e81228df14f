//! A command of the user's own.

use super::context::{Context, shell};
use crate::plan::Compile;

/// Runs the command in the source. What it puts into `/out` is the result, and where it puts nothing there, the folder as
/// it left it.
const SCRIPT: &str = r#"(eval "$1")
if [ -z "$(ls -A /out)" ]; then cp -a . /out/; fi"#;

/// The stage for it. It may reach the network, since nobody but the user knows what it does.
pub(super) fn compile(context: &mut Context<'_>, command: &str) -> Compile {
    let wanted = context.wanted;
    let step = shell(
        command.lines().next().unwrap_or(command),
        SCRIPT,
        &[command],
        &[],
        true,
    );
    context.compile(
        Vec::new(),
        vec![step],
        &wanted.entry,
        wanted.handler.clone(),
    )
}
