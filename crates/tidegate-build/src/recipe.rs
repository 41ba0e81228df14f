//! From a folder's content to the [`Plan`] that makes it runnable: one recipe a language.
//!
//! A recipe chooses what people of its language would type, and then takes out what differs from run to run: time stamps,
//! absolute paths, whatever a cache remembers. The same input gives the same bytes as far as the tool allows, since the
//! digest of the result is what names a bundle.
//!
//! What makes a dependency's stage is kept as narrow as can be: the lock and the manifest, reduced to what the tool reads
//! of it, so that a change of anything else finds the earlier result.

mod context;
mod custom;
mod go;
mod java;
mod node;
mod php;
mod python;
mod ruby;
mod rust;

use std::io;
use std::path::{Path, PathBuf};

use crate::Runtime;
use crate::plan::Plan;
use crate::tools::{Missing, Tools};
use context::Context;

/// What is known of the function whose source it is.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Who runs the result.
    pub runtime: Runtime,
    /// How it is called: `host`, `http` or `stdio`.
    pub contract: String,
    /// The file that the source begins with, relative to its root.
    pub entry: String,
    /// Which attribute, class or program of it is meant.
    pub handler: Option<String>,
    /// Run by a shell in place of what the content asks for.
    pub command: Option<String>,
    /// Environment of every step.
    pub env: Vec<(String, String)>,
}

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// This machine lacks what the source needs.
    #[error("cannot build for {runtime}: {missing}")]
    ToolMissing {
        /// For whom.
        runtime: Runtime,
        /// What is missing and how to get it.
        #[source]
        missing: Missing,
    },
    /// A manifest or lock file is not what it should be.
    #[error("{file}: {why}")]
    Manifest {
        /// Which.
        file: String,
        /// What is wrong, with the line where that is known.
        why: String,
    },
    /// Something that is understood and cannot be done.
    #[error("{0}")]
    Unsupported(String),
    /// A file could not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// Decides what has to be run for the source. Reads manifests, and asks tools for their versions; runs nothing else.
///
/// # Errors
/// A tool is missing, or a manifest is broken or asks for what is not supported.
pub fn plan(source: &Path, wanted: &Wanted, tools: &Tools) -> Result<Plan, PlanError> {
    let mut context = Context::new(source, wanted, tools);
    let mut plan = match wanted.runtime {
        Runtime::Python => python::plan(&mut context)?,
        Runtime::Node => node::plan(&mut context)?,
        Runtime::Go => go::plan(&mut context)?,
        Runtime::Rust => rust::plan(&mut context)?,
        Runtime::Ruby => ruby::plan(&mut context)?,
        Runtime::Php => php::plan(&mut context)?,
        Runtime::Java => java::plan(&mut context)?,
        Runtime::Executable => Plan::default(),
    };
    if let Some(command) = &wanted.command {
        plan.compile = Some(custom::compile(&mut context, command));
    }
    Ok(context.finish(plan))
}

#[cfg(test)]
mod tests;
