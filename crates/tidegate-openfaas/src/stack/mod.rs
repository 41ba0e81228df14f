//! Stack files, and `Function` objects of `openfaas.com/v1`: what is wanted of a server, as its users write it.
//!
//! Both become [`FunctionDeployment`]s, which is what a server is told; a stack file says of its functions how they are
//! built as well. Variables are put into a stack file before it is understood, as OpenFaaS's own command line does, so that
//! they can stand for anything; objects are Kubernetes', which has no variables.
//!
//! Reading is lenient where that command line is (keys that nobody knows have no effect, and are told) and stricter where
//! it would go on with something else than what was written: every value of the wrong kind is told with its place, all of
//! them at once.

mod object;
mod reader;
mod substitute;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;

use tidegate_manifest::node::{self, Node, Value};
use tidegate_manifest::{Mistakes, Origin};

use crate::FunctionDeployment;
pub use reader::DOCKERFILE;
use reader::Reader;
use substitute::Substituted;

/// The group that `Function` objects are of.
const GROUP: &str = "openfaas.com/";

/// Names of the provider that mean OpenFaaS; the short one is that of old files.
const PROVIDERS: [&str; 2] = ["openfaas", "faas"];

/// The one version of stack files.
const VERSION: &str = "1.0";

/// What a text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A stack file: it names a provider.
    Stack,
    /// `Function` objects, and nothing else.
    Objects,
    /// Objects of OpenFaaS's beside others.
    Mixed,
    /// Something else, or nothing that can be read.
    Other,
}

/// What a stack file says, or what objects say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stack {
    /// The server that the file is for.
    pub gateway: Option<String>,
    /// Its functions, in the order in which they stand.
    pub functions: Vec<StackFunction>,
    /// Where templates come from.
    pub templates: Vec<TemplateSource>,
    /// Further paths for every build context.
    pub copy: Vec<String>,
    /// What has no effect, a line each.
    pub notes: Vec<String>,
}

/// One function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StackFunction {
    /// What the server is told.
    pub deployment: FunctionDeployment,
    /// How its image comes to be; absent where the image is one that is there.
    pub recipe: Option<Recipe>,
    /// Where it stands.
    pub origin: Origin,
}

/// How an image is built.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recipe {
    /// The template: `python3-http`.
    pub lang: String,
    /// The handler's folder, as it was written.
    pub handler: String,
    /// Names of packages that the template's own list explains.
    pub options: Vec<String>,
    /// Arguments.
    pub args: BTreeMap<String, String>,
    /// Files whose content the build may see, by name.
    pub secrets: BTreeMap<String, String>,
    /// Platforms, separated by commas.
    pub platforms: Option<String>,
}

/// Where a template comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateSource {
    /// Its name; that of its folder.
    pub name: String,
    /// A repository, perhaps with `#` and a branch; the template store's where absent.
    pub source: Option<String>,
}

/// What a stack file is read with.
pub struct Surroundings<'a> {
    /// A variable of the environment.
    pub env: &'a dyn Fn(&str) -> Option<String>,
    /// The content of a file that the stack file names, by the path that it is named by.
    pub file: &'a dyn Fn(&str) -> io::Result<String>,
}

/// What a text is. Mistakes are not told here, since they are told when it is read.
#[must_use]
pub fn kind(name: &str, text: &str) -> Kind {
    let documents = node::yaml(name, text, &mut Mistakes::default());
    if documents.is_empty() {
        // Before its variables are put in, a stack file need not be YAML.
        let named = |line: &str| line.starts_with("provider:");
        let rest = text.lines().any(|line| line.starts_with("functions:"));
        return match rest && text.lines().any(named) {
            true => Kind::Stack,
            false => Kind::Other,
        };
    }
    let objects = documents.iter().filter(|d| is_object(d)).count();
    if documents.iter().any(|d| d.get("provider").is_some()) {
        Kind::Stack
    } else if objects == documents.len() {
        Kind::Objects
    } else if objects > 0 {
        Kind::Mixed
    } else {
        Kind::Other
    }
}

fn is_object(document: &Node) -> bool {
    let version = document.get("apiVersion").map(|v| &v.value);
    matches!(version, Some(Value::Text(text)) if text.starts_with(GROUP))
}

/// Reads a stack file.
///
/// # Errors
/// Every mistake that was found.
pub fn read(name: &str, text: &str, around: &Surroundings<'_>) -> Result<Stack, Mistakes> {
    let substituted = substitute::substitute(name, text, around.env)?;
    let mut stack = Stack::default();
    for variable in &substituted.unset {
        stack.notes.push(format!(
            "{name}: variable {variable} is not set; an empty text stands for it"
        ));
    }
    understand(
        name,
        text,
        &substituted,
        stack,
        |reader, documents, stack| {
            for more in documents.iter().skip(1) {
                reader.mistake(
                    &(more.at.start..more.at.start),
                    "a stack file is one document; put this one into a file of its own".to_owned(),
                );
            }
            if let Some(first) = documents.first() {
                reader.stack(first, around, stack);
            }
        },
    )
}

/// Reads `Function` objects.
///
/// # Errors
/// Every mistake that was found.
pub fn objects(name: &str, text: &str) -> Result<Stack, Mistakes> {
    let plain = Substituted::plain(text);
    understand(
        name,
        text,
        &plain,
        Stack::default(),
        |reader, documents, stack| {
            for document in documents {
                reader.object(document, stack);
            }
        },
    )
}

fn understand(
    name: &str,
    written: &str,
    substituted: &Substituted,
    mut stack: Stack,
    read: impl FnOnce(&mut Reader<'_>, &[Node], &mut Stack),
) -> Result<Stack, Mistakes> {
    let mut reader = Reader::new(name, written, substituted);
    let documents = reader.documents();
    if reader.mistakes.is_empty() {
        read(&mut reader, &documents, &mut stack);
    }
    let Reader {
        mut mistakes,
        notes,
        ..
    } = reader;
    stack.notes.extend(notes);
    if mistakes.is_empty() {
        Ok(stack)
    } else {
        mistakes
            .0
            .sort_by_key(|m| (m.file != name, m.line, m.column));
        Err(mistakes)
    }
}

/// The name of an image as it is kept: with a tag.
#[must_use]
pub fn tagged(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or(image);
    if image.is_empty() || last.contains([':', '@']) {
        image.to_owned()
    } else {
        format!("{image}:latest")
    }
}
