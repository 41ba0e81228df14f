//! Objects as rows, each under a checksum of all its columns.
//!
//! SQLite has no checksums of its own: a flipped bit in a page comes back as data. SHA-256 costs about a microsecond
//! for a usual document, far less than the parse that follows.

use aws_lc_rs::digest::{Context, SHA256};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, ErrorCode, OptionalExtension, Row, params};
use serde_json::Value;

use crate::{Object, ObjectKey};

/// The columns that [`read`] takes, in this order.
const COLUMNS: &str = "id, api_version, kind, namespace, name, uid, version, document, checksum";

/// A row that was read.
pub(crate) enum Found {
    /// As it was written.
    Whole {
        id: i64,
        object: Object,
        /// Size of the document as JSON, in bytes.
        bytes: usize,
    },
    /// Not as it was written.
    Damaged {
        id: i64,
        key: ObjectKey,
        detail: String,
    },
}

/// Reads one row selected with [`COLUMNS`].
fn read(row: &Row<'_>) -> rusqlite::Result<Found> {
    let id = row.get(0)?;
    let mut text = [""; 6];
    let mut odd = None;
    for (slot, column) in text.iter_mut().zip([1, 2, 3, 4, 5, 7]) {
        match row.get_ref(column)? {
            ValueRef::Text(bytes) => match std::str::from_utf8(bytes) {
                Ok(found) => *slot = found,
                Err(_) => odd = Some("a column is not UTF-8"),
            },
            _ => odd = Some("a column is not text"),
        }
    }
    let [api_version, kind, namespace, name, uid, document] = text;
    let key = ObjectKey::raw(api_version, kind, namespace, name);
    let damaged = |detail: String| {
        Ok(Found::Damaged {
            id,
            key: key.clone(),
            detail,
        })
    };
    if let Some(odd) = odd {
        return damaged(odd.to_owned());
    }
    let (Ok(version), ValueRef::Blob(stored)) = (row.get::<_, i64>(6), row.get_ref(8)?) else {
        return damaged("the version or the checksum has another type".to_owned());
    };
    if checksum(&key, uid, version, document) != stored {
        return damaged("its checksum does not fit its content".to_owned());
    }
    // From here on the row is as it was written; what fails now is a bug or a foreign writer.
    match serde_json::from_str::<Value>(document).map_err(|error| error.to_string()) {
        Ok(value) => match Object::new(value) {
            Ok(object) if *object.key() == key => Ok(Found::Whole {
                id,
                object,
                bytes: document.len(),
            }),
            Ok(object) => damaged(format!("its document is that of {}", object.key())),
            Err(error) => damaged(error.to_string()),
        },
        Err(error) => damaged(error),
    }
}

/// The row of `key`. First the index, which holds the key a second time, then the row: so a row that cannot be read at
/// all still has a name.
pub(crate) fn find(connection: &Connection, key: &ObjectKey) -> rusqlite::Result<Option<Found>> {
    let id = connection
        .prepare_cached("SELECT id FROM objects WHERE api_version = ?1 AND kind = ?2 AND namespace = ?3 AND name = ?4")?
        .query_row([key.api_version(), key.kind(), key.namespace(), key.name()], |row| row.get(0))
        .optional()?;
    id.map(|id| fetch(connection, id, key)).transpose()
}

/// Reads (id, api_version, kind, namespace, name) as they stand, damaged or not.
pub(crate) fn index_entry(row: &Row<'_>) -> rusqlite::Result<(i64, ObjectKey)> {
    let text = |column| -> rusqlite::Result<String> {
        let bytes = match row.get_ref(column)? {
            ValueRef::Text(bytes) | ValueRef::Blob(bytes) => bytes,
            _ => &[],
        };
        Ok(String::from_utf8_lossy(bytes).into_owned())
    };
    Ok((
        row.get(0)?,
        ObjectKey::raw(&text(1)?, &text(2)?, &text(3)?, &text(4)?),
    ))
}

/// The row to which the index leads from `key`.
pub(crate) fn fetch(connection: &Connection, id: i64, key: &ObjectKey) -> rusqlite::Result<Found> {
    let detail = match find_by_id(connection, id) {
        Ok(Some(Found::Whole { object, .. })) if object.key() != key => {
            format!("the index leads to {}", object.key())
        }
        Ok(Some(Found::Damaged { detail, .. })) => detail,
        Ok(Some(whole)) => return Ok(whole),
        Ok(None) => "the index leads nowhere".to_owned(),
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseCorrupt) => {
            error.to_string()
        }
        Err(error) => return Err(error),
    };
    Ok(Found::Damaged {
        id,
        key: key.clone(),
        detail,
    })
}

pub(crate) fn find_by_id(connection: &Connection, id: i64) -> rusqlite::Result<Option<Found>> {
    connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM objects WHERE id = ?1"))?
        .query_row([id], read)
        .optional()
}

/// Writes a new object, whose document must carry its uid and version. Gives its row and its size as JSON.
pub(crate) fn insert(
    connection: &Connection,
    object: &Object,
    version: i64,
) -> rusqlite::Result<(i64, usize)> {
    let (key, document) = (object.key(), text(object));
    connection
        .prepare_cached(
            "INSERT INTO objects (api_version, kind, namespace, name, uid, version, document, checksum)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute(params![
            key.api_version(),
            key.kind(),
            key.namespace(),
            key.name(),
            object.uid(),
            version,
            document,
            checksum(key, object.uid(), version, &document).as_slice(),
        ])?;
    let id = connection.last_insert_rowid();
    insert_owners(connection, id, object)?;
    Ok((id, document.len()))
}

/// Writes a new state of an object and gives its size as JSON.
pub(crate) fn replace(
    connection: &Connection,
    id: i64,
    object: &Object,
    version: i64,
) -> rusqlite::Result<usize> {
    let document = text(object);
    let sum = checksum(object.key(), object.uid(), version, &document);
    connection
        .prepare_cached(
            "UPDATE objects SET version = ?2, document = ?3, checksum = ?4 WHERE id = ?1",
        )?
        .execute(params![id, version, document, sum.as_slice()])?;
    remove_owners(connection, id)?;
    insert_owners(connection, id, object)?;
    Ok(document.len())
}

pub(crate) fn remove(connection: &Connection, id: i64) -> rusqlite::Result<()> {
    connection
        .prepare_cached("DELETE FROM objects WHERE id = ?1")?
        .execute([id])?;
    remove_owners(connection, id)
}

fn insert_owners(connection: &Connection, id: i64, object: &Object) -> rusqlite::Result<()> {
    for owner in object.owner_references() {
        connection
            .prepare_cached("INSERT OR IGNORE INTO owners (owner_uid, object_id) VALUES (?1, ?2)")?
            .execute(params![owner.uid, id])?;
    }
    Ok(())
}

fn remove_owners(connection: &Connection, id: i64) -> rusqlite::Result<()> {
    connection
        .prepare_cached("DELETE FROM owners WHERE object_id = ?1")?
        .execute([id])
        .map(drop)
}

/// The objects that name this uid as an owner.
pub(crate) fn dependents(connection: &Connection, uid: &str) -> rusqlite::Result<Vec<i64>> {
    connection
        .prepare_cached("SELECT object_id FROM owners WHERE owner_uid = ?1")?
        .query_map([uid], |row| row.get(0))?
        .collect()
}

/// The objects that have owners, none of which exists.
pub(crate) fn orphans(connection: &Connection) -> rusqlite::Result<Vec<i64>> {
    connection
        .prepare(
            "SELECT object_id FROM owners LEFT JOIN objects ON objects.uid = owner_uid
             GROUP BY object_id HAVING count(objects.id) = 0",
        )?
        .query_map([], |row| row.get(0))?
        .collect()
}

pub(crate) fn uid_exists(connection: &Connection, uid: &str) -> rusqlite::Result<bool> {
    connection
        .prepare_cached("SELECT 1 FROM objects WHERE uid = ?1")?
        .exists([uid])
}

// === the version counter ===

/// The name of the counter's row.
const VERSION: &str = "version";

/// The last version given out, as noted with the last commit.
pub(crate) enum Counter {
    /// Nothing was ever committed.
    Unset,
    At(i64),
    Damaged,
}

pub(crate) fn counter(connection: &Connection) -> rusqlite::Result<Counter> {
    let row = connection
        .prepare_cached("SELECT value, checksum FROM counters WHERE name = ?1")?
        .query_row([VERSION], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?))
        })
        .optional()?;
    Ok(match row {
        None => Counter::Unset,
        Some((value, sum)) if sum == counter_checksum(value) => Counter::At(value),
        Some(_) => Counter::Damaged,
    })
}

pub(crate) fn set_counter(connection: &Connection, value: i64) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO counters (name, value, checksum) VALUES (?1, ?2, ?3)",
        )?
        .execute(params![VERSION, value, counter_checksum(value).as_slice()])
        .map(drop)
}

// === checksums ===

fn text(object: &Object) -> String {
    serde_json::to_string(object.document()).expect("a JSON tree with text keys is JSON")
}

/// The SHA-256 of these parts, which `domain` keeps apart from those of other kinds.
pub fn sum_parts(domain: &str, parts: &[&[u8]]) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    context.update(domain.as_bytes());
    for part in parts {
        // Lengths keep ("ab", "c") apart from ("a", "bc").
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    let sum = context.finish();
    sum.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

fn checksum(key: &ObjectKey, uid: &str, version: i64, document: &str) -> Vec<u8> {
    let mut context = Context::new(&SHA256);
    context.update(b"tidegate object 1\n");
    for part in [
        key.api_version(),
        key.kind(),
        key.namespace(),
        key.name(),
        uid,
        document,
    ] {
        // Lengths keep ("ab", "c") apart from ("a", "bc").
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part.as_bytes());
    }
    context.update(&version.to_be_bytes());
    context.finish().as_ref().to_vec()
}

fn counter_checksum(value: i64) -> Vec<u8> {
    let mut context = Context::new(&SHA256);
    context.update(b"tidegate version counter 1\n");
    context.update(&value.to_be_bytes());
    context.finish().as_ref().to_vec()
}
