//! Why the isolation could not be set up.

use std::io;
use std::path::PathBuf;

use crate::report::Report;

/// Why the isolation could not be set up. The reports say what this machine lacks.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The folder for its own files could not be made or written.
    #[error("isolation folder {path:?}: {source}")]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The launcher did not start or did not answer.
    #[error("launcher {program:?} did not start: {source}")]
    Launcher {
        /// The program that was executed.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The machine refused something that there is no way around.
    #[error("this machine does not let a sandbox be made: {step}: {source}")]
    Refused {
        /// The step.
        step: String,
        /// The kernel's answer.
        source: io::Error,
        /// What was found up to there.
        report: Report,
    },
    /// The limits would be weaker than what the configuration asks for.
    #[error(
        "the limits are weaker here than the configured minimum, which is that the kernel holds them: {missing}"
    )]
    TooWeak {
        /// Which, and why.
        missing: String,
        /// What was found.
        report: Report,
    },
}
