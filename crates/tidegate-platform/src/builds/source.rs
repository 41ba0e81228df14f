//! Builds that no document asks for: what is built is kept by whoever asked, under a name of its own.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidegate_core::{Build, Code, FunctionSpec};

use super::log::{BuildLine, BuildLineKind, BuildLog};
use super::{BuildStatus, run};
use crate::{Lowered, Platform};

/// Whose results and downloads builds without a document use. No namespace: no name of one begins so.
const SHARED: &str = "_shared";

/// A source that no document names.
#[derive(Clone, Debug)]
pub struct BuildSource {
    /// What it is, in the host name that its steps see: letters, digits and `-`.
    pub name: String,
    /// The runtime's name.
    pub runtime: String,
    /// How it will be called: `host`, `http` or `stdio`.
    pub contract: String,
    /// The source, and the file that it begins with.
    pub code: Code,
    /// Which attribute of it is the handler.
    pub handler: Option<String>,
    /// How it is built.
    pub build: Build,
    /// Secrets that came with it, by name; those of no namespace are looked at.
    pub secrets: BTreeMap<String, Vec<u8>>,
}

/// What a source was made into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Built {
    /// What runs.
    pub code: Code,
    /// Which attribute of it is the handler.
    pub handler: Option<String>,
}

/// Why it was not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct BuildFailure {
    /// What failed, and the line that says why if there is one.
    pub message: String,
    /// The tool's last lines.
    pub last: Vec<String>,
}

/// Where a build says what it does; its readers come to their end with this value.
#[derive(Debug)]
pub struct BuildOutput(pub(super) Arc<BuildLog>);

/// Reads what a build says, at its own pace: who is slow misses lines, and holds nobody up.
#[derive(Debug)]
pub struct BuildReader {
    log: Arc<BuildLog>,
    from: usize,
}

/// What is built, for a document or without one.
pub(super) struct Source<'a> {
    pub(super) name: &'a str,
    /// Whose secrets, results and downloads.
    pub(super) scope: &'a str,
    pub(super) runtime: &'a str,
    pub(super) contract: &'a str,
    pub(super) code: &'a Code,
    pub(super) handler: Option<&'a str>,
    pub(super) build: &'a Build,
    /// In place of those of the scope.
    pub(super) secrets: Option<&'a BTreeMap<String, Vec<u8>>>,
}

impl Platform {
    /// Builds what no document names, behind the same walls and with the same results kept as what one does. What comes out
    /// can run in every namespace; it is removed again unless somebody [holds](crate::Holds) it.
    ///
    /// Dropped, it ends.
    ///
    /// # Errors
    /// There is no such source, no tool for it, or a tool fails; the message has the line that says why.
    pub async fn build(
        &self,
        source: &BuildSource,
        output: &BuildOutput,
    ) -> Result<Built, BuildFailure> {
        let source = Source {
            name: &source.name,
            scope: SHARED,
            runtime: &source.runtime,
            contract: &source.contract,
            code: &source.code,
            handler: source.handler.as_deref(),
            build: &source.build,
            secrets: Some(&source.secrets),
        };
        let mut status = BuildStatus::default();
        let built = async {
            match run::look(self, &source).await? {
                Some(work) => run::carry_out(self, &source, work, &output.0, &mut status).await,
                None => Ok(source.as_it_is()),
            }
        };
        built.await.map_err(|error| BuildFailure {
            message: error.to_string(),
            last: error.last(),
        })
    }
}

// === impl BuildOutput ===

impl BuildOutput {
    /// A new one, and who reads it.
    #[must_use]
    pub fn new() -> (Self, BuildReader) {
        let log = Arc::<BuildLog>::default();
        (Self(log.clone()), BuildReader { log, from: 0 })
    }

    /// Says a line beside those of the build itself.
    pub fn note(&self, text: impl Into<Arc<str>>) {
        self.0.push(BuildLineKind::Note, text);
    }
}

impl Drop for BuildOutput {
    fn drop(&mut self) {
        self.0.end();
    }
}

// === impl BuildReader ===

impl BuildReader {
    /// The next lines, when there are some. `None` at the end.
    pub async fn next(&mut self) -> Option<Vec<BuildLine>> {
        self.log.read(&mut self.from).await
    }
}

// === impl Source ===

impl<'a> Source<'a> {
    /// What a document asks to be built.
    pub(super) fn of(lowered: &'a Lowered) -> Self {
        let FunctionSpec {
            runtime,
            contract,
            code,
            handler,
            ..
        } = &lowered.spec;
        Self {
            name: &lowered.key.name,
            scope: &lowered.key.namespace,
            runtime,
            contract,
            code,
            handler: handler.as_deref(),
            build: &lowered.build,
            secrets: None,
        }
    }

    /// The result where there is nothing to do.
    pub(super) fn as_it_is(&self) -> Built {
        Built {
            code: self.code.clone(),
            handler: self.handler.map(str::to_owned),
        }
    }
}
