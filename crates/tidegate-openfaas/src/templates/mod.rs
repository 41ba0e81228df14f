//! What templates make of a handler.
//!
//! A build context is recognised by `language` in its `template.yml`. Each family of templates is a module with one
//! function, and a row of [`FAMILIES`]; what it writes is a source tree that Tidegate builds like any other, so packages
//! are installed, cached and reported in the one way there is.

mod csharp;
mod dockerfile;
mod go;
mod java;
mod node;
mod php;
mod python;
mod remarks;
mod ruby;
mod shared;

use std::path::Path;

use serde::Deserialize;

use crate::{BuildConfig, Prepared};

/// An unpacked build context.
#[derive(Debug)]
pub struct Context<'a> {
    /// The folder with `template.yml`, the template's entry files and the handler's folder.
    pub root: &'a Path,
    /// The template's own description.
    pub template: TemplateFile,
    /// What came with the context.
    pub config: &'a BuildConfig,
}

/// `template.yml`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct TemplateFile {
    /// `python3-http`.
    pub language: String,
    /// What the watchdog runs.
    pub fprocess: Option<String>,
    /// The handler's folder; `function` where absent.
    pub handler_folder: Option<String>,
}

/// A context that cannot be made into a function.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// Nothing here knows the template.
    #[error("template {language:?} is not one of those that are known here: {known}")]
    Unknown {
        /// The language that the context names.
        language: String,
        /// Those that are known, one after the other.
        known: String,
    },
    /// The context is not what its template demands; names the file, its line where there is one, and what would do.
    #[error("{0}")]
    Context(String),
    /// The context could not be read, or the tree not be written.
    #[error("{what}: {source}")]
    Io {
        /// The file.
        what: String,
        /// Why.
        source: std::io::Error,
    },
}

/// Templates that are alike.
struct Family {
    languages: &'static [&'static str],
    prepare: fn(&Context<'_>, &Path) -> Result<Prepared, TemplateError>,
}

const FAMILIES: &[Family] = &[
    Family {
        languages: python::LANGUAGES,
        prepare: python::prepare,
    },
    Family {
        languages: node::LANGUAGES,
        prepare: node::prepare,
    },
    Family {
        languages: go::LANGUAGES,
        prepare: go::prepare,
    },
    Family {
        languages: java::LANGUAGES,
        prepare: java::prepare,
    },
    Family {
        languages: ruby::LANGUAGES,
        prepare: ruby::prepare,
    },
    Family {
        languages: php::LANGUAGES,
        prepare: php::prepare,
    },
    Family {
        languages: csharp::LANGUAGES,
        prepare: csharp::prepare,
    },
    Family {
        languages: dockerfile::LANGUAGES,
        prepare: dockerfile::prepare,
    },
];

/// Templates that are known and cannot be served, each with what would do.
const REFUSED: &[(&str, &str)] = &[
    ("python27", NO_PYTHON2),
    ("python27-flask", NO_PYTHON2),
    (
        "bun-express",
        "needs Bun, which is not run here; template node22 calls handlers in the same way",
    ),
];
const NO_PYTHON2: &str = "needs Python 2.7, which is not run here; template python3-flask calls handlers in the same way";

/// Makes a source tree in the empty folder `out` of the context in `root`.
///
/// # Errors
/// The template is unknown, or the context is not what it demands.
pub fn prepare(root: &Path, config: &BuildConfig, out: &Path) -> Result<Prepared, TemplateError> {
    let template = template(root)?;
    if let Some((language, why)) = REFUSED.iter().find(|(name, _)| *name == template.language) {
        return Err(TemplateError::Context(format!("template {language} {why}")));
    }
    let Some(family) = FAMILIES
        .iter()
        .find(|family| family.languages.contains(&template.language.as_str()))
    else {
        return Err(TemplateError::Unknown {
            language: template.language,
            known: known().collect::<Vec<_>>().join(", "),
        });
    };
    let context = Context {
        root,
        template,
        config,
    };
    (family.prepare)(&context, out)
}

/// Every language that is known.
pub fn known() -> impl Iterator<Item = &'static str> {
    FAMILIES
        .iter()
        .flat_map(|family| family.languages.iter().copied())
}

/// What a context says of its template. One that has a `Dockerfile` and says nothing is what clients make of a function
/// without a template: its handler's folder, and nothing else.
///
/// # Errors
/// There is no `template.yml`, or it cannot be understood.
pub fn template(root: &Path) -> Result<TemplateFile, TemplateError> {
    let path = root.join("template.yml");
    let text = match std::fs::read_to_string(&path) {
        Err(error)
            if error.kind() == std::io::ErrorKind::NotFound
                && root.join(dockerfile::FILE).is_file() =>
        {
            return Ok(TemplateFile {
                language: dockerfile::LANGUAGES[0].to_owned(),
                fprocess: None,
                handler_folder: Some(".".to_owned()),
            });
        }
        read => read.map_err(|source| TemplateError::Io {
            what: "template.yml".to_owned(),
            source,
        })?,
    };
    serde_saphyr::from_str(&text).map_err(|e| TemplateError::Context(format!("template.yml: {e}")))
}

#[cfg(test)]
mod interpreted_tests;
