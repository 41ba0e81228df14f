//! The store as its users see it.

mod blobs;
mod damage;
mod kill;
mod limits;
mod objects;
mod watch;

use std::path::Path;

use serde_json::{Value, json};
use tidegate_store::{Object, ObjectKey, Store};

/// Opens a store and expects nothing wrong with it.
fn open(path: &Path) -> Store {
    let (store, report) = tidegate_store::open(path).unwrap();
    assert!(report.is_clean(), "{report:?}");
    store
}

fn key(name: &str) -> ObjectKey {
    ObjectKey::new("tidegate.dev/v1", "Thing", "default", name).unwrap()
}

fn thing(name: &str, spec: Value) -> Object {
    Object::with_spec(&key(name), spec).unwrap()
}

fn with_metadata(name: &str, metadata: Value) -> Object {
    let Value::Object(metadata) = metadata else {
        panic!("not an object")
    };
    thing(name, json!(1))
        .edit_metadata(|own| own.extend(metadata))
        .unwrap()
}
