//! From a dialect's document to a canonical function.

use tidegate_core::record::Level;
use tidegate_core::rollout::Plan;
use tidegate_core::traffic::Share;
use tidegate_core::{Build, FunctionKey, FunctionRef, FunctionSpec, Name};
use tidegate_store::{Object, ObjectKey};

use crate::{ImageUse, QueueRules, Scheduled};

/// A kind of document that is a function, and how it is one. Pure: the same document always lowers to the same function.
pub trait Lower: Send + Sync {
    /// `apiVersion` and `kind` of the documents.
    fn kind(&self) -> (&'static str, &'static str);

    /// The dialect that the documents belong to, in a word.
    fn dialect(&self) -> &'static str;

    /// The document that would be the function called so; `None` where this kind has none for such a key.
    fn document(&self, key: FunctionRef<'_>) -> Option<ObjectKey>;

    /// The function that the document asks for.
    ///
    /// # Errors
    /// The document asks for something that cannot be; the message names it and what would do.
    fn lower(&self, object: &Object) -> Result<Lowered, LowerError>;
}

/// A kind of document that is no function, and names code that has to be kept all the same.
pub trait Holds: Send + Sync {
    /// `apiVersion` and `kind` of the documents.
    fn kind(&self) -> (&'static str, &'static str);

    /// Digests of the code that the document names, `sha256:<64 hex>`.
    fn code(&self, object: &Object) -> Vec<String>;
}

/// A canonical function, and when a new revision of it takes over.
#[derive(Clone, Debug)]
pub struct Lowered {
    /// Where it is called.
    pub key: FunctionKey,
    /// What it is. Its code is the source, until it was built.
    pub spec: FunctionSpec,
    /// How the source is built.
    pub build: Build,
    /// The image that it runs, in place of code. What the image says, its command and its environment, comes into `spec` once
    /// it is known.
    pub image: Option<ImageUse>,
    /// When a new revision takes over.
    pub switch: Switch,
    /// Who takes the calls; all to the newest where empty. No part of the revision.
    pub traffic: Vec<Share>,
    /// How the traffic comes to a new revision; all at once where absent. No part of the revision.
    pub rollout: Option<GradualRollout>,
    /// Which invocations leave a record, where the document says so. No part of the revision.
    pub records: Option<Level>,
    /// What becomes of calls that were accepted to be made later. No part of the revision.
    pub queue: QueueRules,
    /// When it is called by nobody. No part of the revision.
    pub schedules: Vec<Scheduled>,
}

/// How the traffic comes to a new revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GradualRollout {
    /// How fast, and what takes it back.
    pub plan: Plan,
    /// Only to this revision; to every new one where absent.
    pub only: Option<String>,
}

/// When a new revision takes over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switch {
    /// When its first instances are ready; the revision before it serves until then, and for good if they never are.
    WhenReady,
    /// At once; what does not start fails when it is called.
    AtOnce,
}

/// A document asks for something that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct LowerError {
    /// Where, as a path into the document: `spec.limits.memory`.
    pub field: String,
    /// What is wrong and what would do.
    pub message: String,
}

/// The function of no group that a document is by its own key. `fields`: what the document calls its namespace and its
/// name.
pub fn key_of(object: &Object, fields: [&str; 2]) -> Result<FunctionKey, LowerError> {
    let [namespace, name] = [object.key().namespace(), object.key().name()];
    let checked = |field: &str, text: &str| {
        Name::new(text).map_err(|e| LowerError::new(field, e.to_string()))
    };
    Ok(FunctionKey::new(
        &checked(fields[0], namespace)?,
        &checked(fields[1], name)?,
    ))
}

impl LowerError {
    /// An error at a field.
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            message: message.into(),
        }
    }
}
