//! `completions`.

use clap::Args;
use clap_complete::Shell;

use crate::context::Context;
use crate::error::Result;

/// Print a completion script for a shell
///
/// For bash: tidegate completions bash > ~/.local/share/bash-completion/completions/tidegate
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    pub(crate) fn run(self, context: &mut Context) -> Result {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut crate::command(), "tidegate", &mut script);
        context.bytes(&script)
    }
}
