//! An object: the client's JSON document, kept whole, with typed views on its metadata.
//!
//! The document is held as a JSON tree instead of typed fields, because a dialect's client must get back what it sent:
//! unknown fields, the order of arrays, `null` where it wrote `null` and nothing where it wrote nothing. The order of
//! members in a JSON object is not kept, and a number too large for 64 bits becomes the nearest double.
//!
//! The store owns `uid`, `creationTimestamp`, `generation`, `resourceVersion` and `deletionTimestamp` in the metadata;
//! what a client writes there is a precondition or is ignored. Everything else belongs to the client.

use std::fmt;
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::key::{ObjectKey, check_name};
use crate::selector::{is_label_key, is_label_value};
use crate::{Error, LabelSelector, ResourceVersion};

/// Largest document that is stored, in bytes of compact JSON. Objects are read whole and kept in the history of
/// watches; what is larger (code, big parameters) goes to a blob.
pub const MAX_DOCUMENT_BYTES: usize = 256 * 1024;
/// Deepest nesting that is stored. JSON is read back with a limit of 128; this leaves room for a wrapping document.
pub const MAX_DEPTH: usize = 120;
/// Most finalizers and most owners of one object; each owner is a row of an index.
const MAX_REFERENCES: usize = 64;
/// Length of the random end that `generateName` gets, in characters.
pub(crate) const GENERATED_SUFFIX: usize = 5;

/// An object and its key. Cheap to clone.
#[derive(Clone, PartialEq)]
pub struct Object {
    key: ObjectKey,
    document: Arc<Map<String, Value>>,
}

/// An object this one belongs to: when all its owners are gone, it is deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnerReference {
    /// The owner's apiVersion.
    pub api_version: String,
    /// The owner's kind.
    pub kind: String,
    /// The owner's name, in the same namespace or in none.
    pub name: String,
    /// The owner's uid, which decides.
    pub uid: String,
    /// Whether this owner is the one that manages the object.
    pub controller: bool,
}

// === impl Object ===

impl Object {
    /// Takes a document with `apiVersion`, `kind` and `metadata` with a `name` or, to be created, a `generateName`.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the field that is missing or of the wrong shape.
    pub fn new(document: Value) -> Result<Self, Error> {
        let Value::Object(document) = document else {
            return Err(Error::invalid(
                "document",
                &brief(&document),
                "a JSON object",
            ));
        };
        Self::from_map(document)
    }

    /// A fresh document with nothing but a key and a `spec`.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the spec is nested deeper than [`MAX_DEPTH`].
    pub fn with_spec(key: &ObjectKey, spec: Value) -> Result<Self, Error> {
        let mut metadata = Map::new();
        metadata.insert("name".to_owned(), key.name().into());
        if !key.namespace().is_empty() {
            metadata.insert("namespace".to_owned(), key.namespace().into());
        }
        let mut document = Map::new();
        document.insert("apiVersion".to_owned(), key.api_version().into());
        document.insert("kind".to_owned(), key.kind().into());
        document.insert("metadata".to_owned(), metadata.into());
        document.insert("spec".to_owned(), spec);
        Self::from_map(document)
    }

    fn from_map(document: Map<String, Value>) -> Result<Self, Error> {
        let key = read_key(&document)?;
        check_metadata(
            document
                .get("metadata")
                .and_then(Value::as_object)
                .expect("read_key found the metadata"),
        )?;
        if !document
            .values()
            .all(|value| shallower(value, MAX_DEPTH - 1))
        {
            return Err(Error::invalid(
                "document",
                "nested deeper",
                format!("at most {MAX_DEPTH} levels of nesting"),
            ));
        }
        Ok(Self {
            key,
            document: Arc::new(document),
        })
    }

    /// Which object this is.
    pub fn key(&self) -> &ObjectKey {
        &self.key
    }

    /// The whole document.
    pub fn document(&self) -> &Map<String, Value> {
        &self.document
    }

    /// The whole document as a value, copied only if other clones exist.
    pub fn into_value(self) -> Value {
        Value::Object(Arc::unwrap_or_clone(self.document))
    }

    /// The metadata.
    pub fn metadata(&self) -> &Map<String, Value> {
        self.document
            .get("metadata")
            .and_then(Value::as_object)
            .expect("checked when the object was made")
    }

    /// The uid given at creation; empty before.
    pub fn uid(&self) -> &str {
        self.text("uid")
    }

    /// The commit that last changed this object; none in a document that does not carry one.
    pub fn resource_version(&self) -> Option<ResourceVersion> {
        self.text("resourceVersion").parse().ok()
    }

    /// Counts the changes to everything but metadata and status, from 1; 0 before creation.
    pub fn generation(&self) -> u64 {
        self.metadata()
            .get("generation")
            .and_then(Value::as_u64)
            .unwrap_or(0)
    }

    /// When it was created, RFC 3339 with seconds; empty before.
    pub fn creation_timestamp(&self) -> &str {
        self.text("creationTimestamp")
    }

    /// Since when it waits for its finalizers to be removed, RFC 3339; none while it is not being deleted.
    pub fn deletion_timestamp(&self) -> Option<&str> {
        Some(self.text("deletionTimestamp")).filter(|text| !text.is_empty())
    }

    /// The value of a label.
    pub fn label(&self, name: &str) -> Option<&str> {
        self.metadata().get("labels")?.get(name)?.as_str()
    }

    /// The labels, in the order of their names.
    pub fn labels(&self) -> impl Iterator<Item = (&str, &str)> {
        let labels = self.metadata().get("labels").and_then(Value::as_object);
        labels
            .into_iter()
            .flatten()
            .filter_map(|(name, value)| Some((name.as_str(), value.as_str()?)))
    }

    /// The value of an annotation.
    pub fn annotation(&self, name: &str) -> Option<&str> {
        self.metadata().get("annotations")?.get(name)?.as_str()
    }

    /// The names of those who must agree before it is removed.
    pub fn finalizers(&self) -> impl Iterator<Item = &str> {
        let finalizers = self.metadata().get("finalizers").and_then(Value::as_array);
        finalizers.into_iter().flatten().filter_map(Value::as_str)
    }

    /// The objects it belongs to.
    pub fn owner_references(&self) -> impl Iterator<Item = OwnerReference> {
        let owners = self
            .metadata()
            .get("ownerReferences")
            .and_then(Value::as_array);
        owners.into_iter().flatten().map(|owner| {
            let text = |name| {
                owner
                    .get(name)
                    .and_then(Value::as_str)
                    .unwrap_or_default()
                    .to_owned()
            };
            OwnerReference {
                api_version: text("apiVersion"),
                kind: text("kind"),
                name: text("name"),
                uid: text("uid"),
                controller: owner
                    .get("controller")
                    .and_then(Value::as_bool)
                    .unwrap_or(false),
            }
        })
    }

    /// A reference that makes another object belong to this one.
    pub fn owner_reference(&self) -> OwnerReference {
        OwnerReference {
            api_version: self.key.api_version().to_owned(),
            kind: self.key.kind().to_owned(),
            name: self.key.name().to_owned(),
            uid: self.uid().to_owned(),
            controller: true,
        }
    }

    /// The `spec`, if the document has one.
    pub fn spec(&self) -> Option<&Value> {
        self.document.get("spec")
    }

    /// The `status`, if the document has one.
    pub fn status(&self) -> Option<&Value> {
        self.document.get("status")
    }

    /// Changes the document by hand, then checks it again.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the result is no object any more.
    pub fn edit(self, change: impl FnOnce(&mut Map<String, Value>)) -> Result<Self, Error> {
        let mut document = Arc::unwrap_or_clone(self.document);
        change(&mut document);
        Self::from_map(document)
    }

    /// Changes the metadata by hand, then checks it again.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the result is no object any more.
    pub fn edit_metadata(
        self,
        change: impl FnOnce(&mut Map<String, Value>),
    ) -> Result<Self, Error> {
        self.edit(|document| {
            if let Some(metadata) = document.get_mut("metadata").and_then(Value::as_object_mut) {
                change(metadata);
            }
        })
    }

    /// The same object with another spec.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the spec is nested too deep.
    pub fn replace_spec(self, spec: Value) -> Result<Self, Error> {
        self.edit(|document| drop(document.insert("spec".to_owned(), spec)))
    }

    /// The same object with another status, for [`update_status`](crate::Objects::update_status).
    ///
    /// # Errors
    /// [`Error::Invalid`] if the status is nested too deep.
    pub fn replace_status(self, status: Value) -> Result<Self, Error> {
        self.edit(|document| drop(document.insert("status".to_owned(), status)))
    }

    /// The same object without its resourceVersion, so that writing it overwrites whatever is there.
    pub fn unconditional(mut self) -> Self {
        self.metadata_mut().remove("resourceVersion");
        self
    }

    /// The same object belonging to `owner`.
    ///
    /// # Errors
    /// [`Error::Invalid`] if there are too many owners or the reference has an empty part.
    pub fn owned_by(self, owner: &OwnerReference) -> Result<Self, Error> {
        let reference = serde_json::json!({
            "apiVersion": owner.api_version, "kind": owner.kind, "name": owner.name, "uid": owner.uid,
            "controller": owner.controller,
        });
        self.edit_metadata(|metadata| {
            match metadata
                .get_mut("ownerReferences")
                .and_then(Value::as_array_mut)
            {
                Some(owners) => owners.push(reference),
                None => drop(
                    metadata.insert("ownerReferences".to_owned(), Value::Array(vec![reference])),
                ),
            }
        })
    }

    pub(crate) fn matches(&self, selector: &LabelSelector) -> bool {
        selector.matches(|name| self.label(name))
    }

    pub(crate) fn metadata_mut(&mut self) -> &mut Map<String, Value> {
        let document = Arc::make_mut(&mut self.document);
        document
            .get_mut("metadata")
            .and_then(Value::as_object_mut)
            .expect("checked when the object was made")
    }

    pub(crate) fn set_status(&mut self, status: Option<Value>) {
        let document = Arc::make_mut(&mut self.document);
        match status {
            Some(status) => document.insert("status".to_owned(), status),
            None => document.remove("status"),
        };
    }

    pub(crate) fn set_name(&mut self, name: &str) {
        self.metadata_mut().insert("name".to_owned(), name.into());
        self.key = self.key.named(name);
    }

    fn text(&self, field: &str) -> &str {
        self.metadata()
            .get(field)
            .and_then(Value::as_str)
            .unwrap_or_default()
    }
}

impl fmt::Debug for Object {
    /// The key and version only: documents hold environments, and logs are read by others.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Object({} at {:?})",
            self.key,
            self.text("resourceVersion")
        )
    }
}

// === checks ===

fn read_key(document: &Map<String, Value>) -> Result<ObjectKey, Error> {
    let text = |map: &Map<String, Value>, name: &str, path: &str| match map.get(name) {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(other) => Err(Error::invalid(path, &brief(other), "a string")),
        None => Err(Error::missing(path, "a string")),
    };
    let optional = |map: &Map<String, Value>, name: &str, path: &str| match map.get(name) {
        None | Some(Value::Null) => Ok(String::new()),
        Some(_) => text(map, name, path),
    };
    let api_version = text(document, "apiVersion", "apiVersion")?;
    let kind = text(document, "kind", "kind")?;
    let metadata = match document.get("metadata") {
        Some(Value::Object(metadata)) => metadata,
        Some(other) => return Err(Error::invalid("metadata", &brief(other), "an object")),
        None => return Err(Error::missing("metadata", "an object with a name")),
    };
    let namespace = optional(metadata, "namespace", "metadata.namespace")?;
    let name = optional(metadata, "name", "metadata.name")?;
    if name.is_empty() {
        let prefix = optional(metadata, "generateName", "metadata.generateName")?;
        if prefix.is_empty() {
            return Err(Error::missing(
                "metadata.name",
                "a name, or a generateName to make one from",
            ));
        }
        check_name(
            "metadata.generateName",
            &format!("{prefix}{}", "x".repeat(GENERATED_SUFFIX)),
        )?;
        return ObjectKey::unnamed(&api_version, &kind, &namespace);
    }
    ObjectKey::new(&api_version, &kind, &namespace, &name)
}

fn check_metadata(metadata: &Map<String, Value>) -> Result<(), Error> {
    for field in [
        "uid",
        "resourceVersion",
        "creationTimestamp",
        "deletionTimestamp",
    ] {
        match metadata.get(field) {
            None | Some(Value::Null | Value::String(_)) => {}
            Some(other) => {
                return Err(Error::invalid(
                    format!("metadata.{field}"),
                    &brief(other),
                    "a string",
                ));
            }
        }
    }
    if let Some(Value::String(version)) = metadata.get("resourceVersion")
        && !version.is_empty()
    {
        version.parse::<ResourceVersion>()?;
    }
    for field in ["labels", "annotations"] {
        let entries = match metadata.get(field) {
            None | Some(Value::Null) => continue,
            Some(Value::Object(entries)) => entries,
            Some(other) => {
                return Err(Error::invalid(
                    format!("metadata.{field}"),
                    &brief(other),
                    "an object of strings",
                ));
            }
        };
        for (name, value) in entries {
            let path = || format!("metadata.{field}[{name:?}]");
            let Value::String(value) = value else {
                return Err(Error::invalid(path(), &brief(value), "a string"));
            };
            if field == "labels" && !is_label_key(name) {
                return Err(Error::invalid(
                    path(),
                    name,
                    "a label name: [prefix/]name, the name up to 63 letters, digits, '-', '_', '.'",
                ));
            }
            if field == "labels" && !is_label_value(value) {
                return Err(Error::invalid(
                    path(),
                    value,
                    "a label value: up to 63 letters, digits, '-', '_', '.', or nothing",
                ));
            }
        }
    }
    for finalizer in list(metadata, "finalizers")? {
        if finalizer.as_str().is_none_or(str::is_empty) {
            return Err(Error::invalid(
                "metadata.finalizers",
                &brief(finalizer),
                "strings that are not empty",
            ));
        }
    }
    for owner in list(metadata, "ownerReferences")? {
        for field in ["apiVersion", "kind", "name", "uid"] {
            if owner
                .get(field)
                .and_then(Value::as_str)
                .is_none_or(str::is_empty)
            {
                return Err(Error::missing(
                    format!("metadata.ownerReferences[].{field}"),
                    "a string that is not empty",
                ));
            }
        }
    }
    Ok(())
}

fn list<'a>(metadata: &'a Map<String, Value>, field: &str) -> Result<&'a [Value], Error> {
    match metadata.get(field) {
        None | Some(Value::Null) => Ok(&[]),
        Some(Value::Array(items)) if items.len() <= MAX_REFERENCES => Ok(items),
        Some(other) => Err(Error::invalid(
            format!("metadata.{field}"),
            &brief(other),
            format!("an array of at most {MAX_REFERENCES}"),
        )),
    }
}

/// Whether nesting stays within `levels`. Recursion is bounded by `levels` itself.
fn shallower(value: &Value, levels: usize) -> bool {
    match value {
        Value::Array(items) => levels > 0 && items.iter().all(|item| shallower(item, levels - 1)),
        Value::Object(map) => levels > 0 && map.values().all(|item| shallower(item, levels - 1)),
        _ => true,
    }
}

/// A value for a message: its kind if it is large.
fn brief(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("an array of {}", items.len()),
        Value::Object(_) => "an object".to_owned(),
        small => small.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_no_object_is_refused_by_field() {
        let meta = |metadata: Value| json!({"apiVersion": "v1", "kind": "A", "metadata": metadata});
        for (document, message) in [
            (
                json!([1]),
                "document is \"an array of 1\"; expected a JSON object",
            ),
            (json!({"kind": "A"}), "apiVersion is missing"),
            (
                json!({"apiVersion": 1}),
                "apiVersion is \"1\"; expected a string",
            ),
            (json!({"apiVersion": "v1"}), "kind is missing"),
            (
                json!({"apiVersion": "v1", "kind": "A"}),
                "metadata is missing",
            ),
            (
                json!({"apiVersion": "v1", "kind": "A", "metadata": 3}),
                "metadata is \"3\"",
            ),
            (meta(json!({})), "metadata.name is missing"),
            (meta(json!({"name": "A"})), "metadata.name is \"A\""),
            (
                meta(json!({"generateName": "A-"})),
                "metadata.generateName is \"A-xxxxx\"",
            ),
            (
                meta(json!({"name": "a", "namespace": "A"})),
                "metadata.namespace is \"A\"",
            ),
            (
                meta(json!({"name": "a", "uid": 3})),
                "metadata.uid is \"3\"",
            ),
            (
                meta(json!({"name": "a", "resourceVersion": "x"})),
                "resourceVersion is \"x\"",
            ),
            (
                meta(json!({"name": "a", "labels": ["b"]})),
                "metadata.labels is \"an array of 1\"",
            ),
            (
                meta(json!({"name": "a", "labels": {"b": 1}})),
                "metadata.labels[\"b\"] is \"1\"",
            ),
            (
                meta(json!({"name": "a", "labels": {"b c": "1"}})),
                "metadata.labels[\"b c\"] is \"b c\"",
            ),
            (
                meta(json!({"name": "a", "labels": {"b": "ä"}})),
                "metadata.labels[\"b\"] is \"ä\"",
            ),
            (
                meta(json!({"name": "a", "finalizers": [""]})),
                "metadata.finalizers is",
            ),
            (
                meta(json!({"name": "a", "ownerReferences": [{}]})),
                "metadata.ownerReferences[].apiVersion is missing",
            ),
        ] {
            let error = Object::new(document.clone()).unwrap_err().to_string();
            assert!(error.starts_with(message), "{document}: {error}");
        }
    }

    #[test]
    fn nesting_is_bounded() {
        let nested = |levels| (0..levels).fold(json!(1), |inner, _| json!([inner]));
        let document = |levels| json!({"apiVersion": "v1", "kind": "A", "metadata": {"name": "a"}, "spec": nested(levels)});
        assert!(Object::new(document(MAX_DEPTH - 1)).is_ok());
        assert!(
            Object::new(document(MAX_DEPTH))
                .unwrap_err()
                .to_string()
                .contains("at most 120 levels")
        );
    }

    #[test]
    fn nothing_is_lost_and_nothing_added() {
        let document = json!({
            "apiVersion": "x.dev/v1", "kind": "A", "extra": [3, 1, 2], "none": null,
            "metadata": {"name": "a", "labels": null, "unknown": {"b": [null]}}, "spec": null,
        });
        let object = Object::new(document.clone()).unwrap();
        assert_eq!(object.labels().count(), 0);
        assert_eq!(object.into_value(), document);
    }
}
