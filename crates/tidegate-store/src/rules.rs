//! What each operation makes of an object: pure decisions, without clock, randomness or database.
//!
//! A resourceVersion is not given here, but when the writer commits.

use serde_json::Value;

use crate::document::MAX_DOCUMENT_BYTES;
use crate::{Error, Object, Preconditions};

/// What follows from an operation on an object that exists.
#[derive(Debug)]
pub(crate) enum Next {
    /// It is as wanted already: no commit, no event.
    Same,
    /// It changes to this.
    Write(Object),
    /// It goes; this is its last state.
    Remove(Object),
}

/// The object as it is first stored. Its status is dropped: a status is what was observed, not what was asked for.
pub(crate) fn create(mut object: Object, uid: &str, now: &str) -> Object {
    object.set_status(None);
    let metadata = object.metadata_mut();
    metadata.insert("uid".to_owned(), uid.into());
    metadata.insert("creationTimestamp".to_owned(), now.into());
    metadata.insert("generation".to_owned(), 1.into());
    metadata.remove("resourceVersion");
    metadata.remove("deletionTimestamp");
    object
}

/// The client's document replaces the stored one, except for the status and what the store owns.
pub(crate) fn update(current: &Object, mut incoming: Object) -> Result<Next, Error> {
    check(current, &Preconditions::of(&incoming))?;
    incoming.set_status(current.status().cloned());
    let generation = current.generation() + u64::from(!same_spec(current, &incoming));
    keep_owned(current, &mut incoming);
    if let Some(since) = current.deletion_timestamp() {
        if let Some(new) = incoming
            .finalizers()
            .find(|name| !current.finalizers().any(|old| old == *name))
        {
            return Err(Error::invalid(
                "metadata.finalizers",
                new,
                format!("no new finalizer on an object that is being deleted since {since}"),
            ));
        }
        if incoming.finalizers().next().is_none() {
            return Ok(Next::Remove(incoming));
        }
    }
    if incoming == *current {
        return Ok(Next::Same);
    }
    incoming
        .metadata_mut()
        .insert("generation".to_owned(), generation.into());
    Ok(Next::Write(incoming))
}

/// Only the status is taken from the client's document; a document without one removes it.
pub(crate) fn update_status(current: &Object, incoming: &Object) -> Result<Next, Error> {
    check(current, &Preconditions::of(incoming))?;
    if current.status() == incoming.status() {
        return Ok(Next::Same);
    }
    let mut next = current.clone();
    next.set_status(incoming.status().cloned());
    Ok(Next::Write(next))
}

/// Removes the object, or marks it if finalizers must agree first.
pub(crate) fn delete(
    current: &Object,
    preconditions: &Preconditions,
    now: &str,
) -> Result<Next, Error> {
    check(current, preconditions)?;
    if current.finalizers().next().is_none() {
        return Ok(Next::Remove(current.clone()));
    }
    if current.deletion_timestamp().is_some() {
        return Ok(Next::Same);
    }
    let mut next = current.clone();
    next.metadata_mut()
        .insert("deletionTimestamp".to_owned(), now.into());
    Ok(Next::Write(next))
}

/// Refuses documents that a client made too large; what the store adds itself is not counted against anyone.
pub(crate) fn check_size(object: &Object) -> Result<(), Error> {
    let bytes = size(object);
    if bytes <= MAX_DOCUMENT_BYTES {
        return Ok(());
    }
    Err(Error::TooLarge {
        key: object.key().clone(),
        bytes,
        max: MAX_DOCUMENT_BYTES,
    })
}

/// The size of a document as compact JSON, in bytes.
pub(crate) fn size(object: &Object) -> usize {
    serde_json::to_string(object.document()).map_or(usize::MAX, |text| text.len())
}

fn check(current: &Object, wanted: &Preconditions) -> Result<(), Error> {
    let conflict = |field, found: &str, wanted: &str| Error::Conflict {
        key: current.key().clone(),
        field,
        found: found.to_owned(),
        wanted: wanted.to_owned(),
    };
    if let Some(uid) = &wanted.uid
        && uid != current.uid()
    {
        return Err(conflict("uid", current.uid(), uid));
    }
    if let Some(version) = wanted.resource_version
        && Some(version) != current.resource_version()
    {
        let found = current
            .resource_version()
            .map(|version| version.to_string())
            .unwrap_or_default();
        return Err(conflict("resourceVersion", &found, &version.to_string()));
    }
    Ok(())
}

fn keep_owned(current: &Object, incoming: &mut Object) {
    let metadata = incoming.metadata_mut();
    for field in [
        "uid",
        "creationTimestamp",
        "generation",
        "resourceVersion",
        "deletionTimestamp",
    ] {
        match current.metadata().get(field) {
            Some(value) => metadata.insert(field.to_owned(), value.clone()),
            None => metadata.remove(field),
        };
    }
}

/// Whether everything but metadata and status is equal.
fn same_spec(a: &Object, b: &Object) -> bool {
    fn spec(object: &Object) -> impl Iterator<Item = (&String, &Value)> {
        object
            .document()
            .iter()
            .filter(|(name, _)| !matches!(name.as_str(), "metadata" | "status"))
    }
    spec(a).eq(spec(b))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(metadata: Value, spec: Value) -> Object {
        let key = crate::ObjectKey::new("v1", "A", "", "a").unwrap();
        let Value::Object(metadata) = metadata else {
            panic!("not an object")
        };
        Object::with_spec(&key, spec)
            .unwrap()
            .edit_metadata(|own| own.extend(metadata))
            .unwrap()
    }

    fn stored(metadata: Value, spec: Value) -> Object {
        let mut object = create(object(metadata, spec), "u1", "2026-01-01T00:00:00Z");
        object
            .metadata_mut()
            .insert("resourceVersion".to_owned(), "7".into());
        object
    }

    fn written(next: Result<Next, Error>) -> Object {
        match next.unwrap() {
            Next::Write(object) => object,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn generation_counts_spec_changes_only() {
        let current = stored(json!({}), json!(1));
        assert_eq!(current.generation(), 1);
        assert_eq!(
            written(update(&current, object(json!({}), json!(2)))).generation(),
            2
        );
        let labelled = written(update(
            &current,
            object(json!({"labels": {"a": "b"}}), json!(1)),
        ));
        assert_eq!(labelled.generation(), 1);
        let extra = object(json!({}), json!(1))
            .edit(|d| drop(d.insert("data".into(), json!({}))))
            .unwrap();
        assert_eq!(written(update(&current, extra)).generation(), 2);
        let status = current
            .clone()
            .replace_status(json!({"ready": true}))
            .unwrap();
        assert_eq!(written(update_status(&current, &status)).generation(), 1);
    }

    #[test]
    fn clients_cannot_write_what_the_store_owns() {
        let forged = json!({"generation": 99, "creationTimestamp": "1999-01-01T00:00:00Z", "deletionTimestamp": "x"});
        let current = stored(json!({}), json!(1));
        let next = written(update(&current, object(forged.clone(), json!(2))));
        assert_eq!((next.uid(), next.generation()), ("u1", 2));
        assert_eq!(next.creation_timestamp(), "2026-01-01T00:00:00Z");
        assert_eq!(next.deletion_timestamp(), None);
        assert!(matches!(
            update(&current, object(forged, json!(1))),
            Ok(Next::Same)
        ));
    }

    #[test]
    fn status_and_spec_do_not_mix() {
        let current = stored(json!({}), json!(1))
            .replace_status(json!("old"))
            .unwrap();
        let incoming = object(json!({}), json!(2))
            .replace_status(json!("new"))
            .unwrap();
        assert_eq!(
            written(update(&current, incoming.clone())).status(),
            Some(&json!("old"))
        );
        let next = written(update_status(&current, &incoming));
        assert_eq!(
            (next.status(), next.spec()),
            (Some(&json!("new")), Some(&json!(1)))
        );
        assert_eq!(
            written(update_status(&current, &object(json!({}), json!(1)))).status(),
            None
        );
    }

    #[test]
    fn stale_versions_and_foreign_uids_conflict() {
        let current = stored(json!({}), json!(1));
        for (metadata, conflicts) in [
            (json!({"resourceVersion": "7"}), false),
            (json!({"resourceVersion": ""}), false),
            (json!({"resourceVersion": null}), false),
            (json!({"resourceVersion": "6"}), true),
            (json!({"uid": "u1"}), false),
            (json!({"uid": "u2"}), true),
        ] {
            let incoming = object(metadata.clone(), json!(2));
            assert_eq!(
                matches!(
                    update(&current, incoming.clone()),
                    Err(Error::Conflict { .. })
                ),
                conflicts,
                "{metadata}"
            );
            let status = incoming.replace_status(json!(1)).unwrap();
            assert_eq!(
                matches!(
                    update_status(&current, &status),
                    Err(Error::Conflict { .. })
                ),
                conflicts,
                "{metadata}"
            );
        }
    }

    #[test]
    fn finalizers_hold_an_object() {
        let none = Preconditions::default();
        assert!(matches!(
            delete(&stored(json!({}), json!(1)), &none, "now"),
            Ok(Next::Remove(_))
        ));
        let held = stored(json!({"finalizers": ["a", "b"]}), json!(1));
        let marked = written(delete(&held, &none, "now"));
        assert_eq!(
            (marked.deletion_timestamp(), marked.generation()),
            (Some("now"), 1)
        );
        assert!(matches!(delete(&marked, &none, "later"), Ok(Next::Same)));
        let one = written(update(
            &marked,
            object(json!({"finalizers": ["b"]}), json!(1)),
        ));
        assert_eq!(one.deletion_timestamp(), Some("now"));
        assert!(matches!(
            update(&one, object(json!({"finalizers": ["b", "c"]}), json!(1))),
            Err(Error::Invalid { .. })
        ));
        assert!(matches!(
            update(&one, object(json!({"finalizers": []}), json!(1))),
            Ok(Next::Remove(_))
        ));
        assert!(matches!(
            update(&one, object(json!({}), json!(1))),
            Ok(Next::Remove(_))
        ));
    }
}
