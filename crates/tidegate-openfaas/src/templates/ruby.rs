//! Ruby, classic: a process a call, which hands standard input to `Handler#run` and prints what it returns.

use std::path::Path;

use super::shared::{FORKED_AT_ONCE, write};
use super::{Context, TemplateError};
use crate::{Prepared, WatchdogKind};

const ENTRY: &str = include_str!("../../../../runtimes/openfaas/ruby/index.rb");

pub(super) const LANGUAGES: &[&str] = &["ruby"];

pub(super) fn prepare(context: &Context<'_>, out: &Path) -> Result<Prepared, TemplateError> {
    context.copy_handler(out, "handler.rb")?;
    write(out, "index.rb", ENTRY)?;
    // Gems are those of the handler, and where it names none, those that the template's own entry would have.
    let folder = context.handler_folder()?;
    let prefix = if context.has(&format!("{folder}/Gemfile")) {
        format!("{folder}/")
    } else {
        String::new()
    };
    for file in ["Gemfile", "Gemfile.lock", ".ruby-version"] {
        let from = format!("{prefix}{file}");
        if context.has(&from) {
            context.copy(&from, out, file)?;
        }
    }
    Ok(Prepared {
        language: context.template.language.clone(),
        runtime: "ruby".to_owned(),
        entry: "index.rb".to_owned(),
        handler: None,
        hosted: false,
        watchdog: WatchdogKind::ClassicWatchdog,
        process: context.process("ruby index.rb"),
        env: std::collections::BTreeMap::new(),
        concurrency: FORKED_AT_ONCE,
        build: tidegate_core::Build::default(),
        notes: Vec::new(),
    })
}
