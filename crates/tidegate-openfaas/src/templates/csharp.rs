//! C#: recognised, and refused.
//!
//! A sandbox here shows functions what the machine has installed, and .NET is not among the runtimes that were ever run in
//! one. What a user can do instead is said, rather than a failure left for later to explain.

use std::path::Path;

use super::{Context, TemplateError};
use crate::Prepared;

pub(super) const LANGUAGES: &[&str] = &["csharp"];

pub(super) fn prepare(context: &Context<'_>, _: &Path) -> Result<Prepared, TemplateError> {
    Err(TemplateError::Context(format!(
        "template {} needs .NET, which functions cannot use here; install the .NET SDK where you build, make a program that \
         brings its runtime along (dotnet publish --self-contained), and deploy that with lang: dockerfile and a Dockerfile \
         of COPY lines, ENV fprocess=\"./root\" and CMD [\"fwatchdog\"]",
        context.template.language
    )))
}
