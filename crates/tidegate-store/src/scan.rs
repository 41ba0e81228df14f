//! Reads everything once at start, so that damage is known before someone depends on what is damaged.
//!
//! SQLite's own check covers the trees and the indexes, the checksums cover the content. Keys are taken from the index,
//! which names an object even when its row cannot be read. An index can be made anew from the rows, so a fault there is
//! repaired and reported; a fault in a row is only reported, and the row is left for whoever wants to look at it.

use rusqlite::Connection;

use crate::database::Database;
use crate::rows::{self, Found};
use crate::{Error, ObjectKey};

/// Most findings of one sort that are kept and shown; beyond it the count tells enough.
pub const MAX_REPORTED: usize = 1000;

/// An object whose row is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DamagedObject {
    /// The key, as far as it can be read.
    pub key: ObjectKey,
    /// What does not fit.
    pub detail: String,
}

/// What the scan found.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) objects: usize,
    pub(crate) damaged: Vec<DamagedObject>,
    pub(crate) damaged_count: usize,
    /// What SQLite's check says about the structure.
    pub(crate) structure: Vec<String>,
    pub(crate) reindexed: bool,
    /// The highest version seen in a sound row.
    pub(crate) max_version: i64,
}

pub(crate) fn scan(database: &Database, connection: &Connection) -> Result<Findings, Error> {
    let mut findings = Findings {
        structure: check(connection),
        ..Findings::default()
    };
    if !findings.structure.is_empty() {
        findings.reindexed =
            connection.execute_batch("REINDEX").is_ok() && check(connection).is_empty();
    }
    let keys = match keys(connection, "INDEXED BY objects_by_key") {
        Ok(keys) => keys,
        // The index is beyond repair: whatever the table itself still gives.
        Err(_) => keys(connection, "NOT INDEXED").map_err(|error| database.error(&error))?,
    };
    for (id, key) in keys {
        findings.objects += 1;
        let detail = match rows::fetch(connection, id, &key) {
            Ok(Found::Whole { object, .. }) => {
                let version = object.resource_version().map_or(0, |version| version.get());
                findings.max_version = findings
                    .max_version
                    .max(i64::try_from(version).unwrap_or(0));
                continue;
            }
            Ok(Found::Damaged { detail, .. }) => detail,
            Err(error) => return Err(database.error(&error)),
        };
        findings.damaged_count += 1;
        if findings.damaged.len() < MAX_REPORTED {
            findings.damaged.push(DamagedObject { key, detail });
        }
    }
    Ok(findings)
}

/// SQLite's own check of the whole file; empty if it finds nothing, at most [`MAX_REPORTED`] lines.
pub fn check(connection: &Connection) -> Vec<String> {
    let lines = connection
        .prepare(&format!("PRAGMA integrity_check({MAX_REPORTED})"))
        .and_then(|mut statement| {
            statement
                .query_map([], |row| row.get::<_, String>(0))?
                .take(MAX_REPORTED)
                .collect::<rusqlite::Result<Vec<_>>>()
        });
    match lines {
        Ok(lines) if lines.iter().map(String::as_str).eq(["ok"]) => Vec::new(),
        Ok(lines) => lines,
        Err(error) => vec![error.to_string()],
    }
}

fn keys(connection: &Connection, how: &str) -> rusqlite::Result<Vec<(i64, ObjectKey)>> {
    // Keys are short and bounded by the size of the database; documents are read one at a time.
    let sql = format!(
        "SELECT id, api_version, kind, namespace, name FROM objects {how} ORDER BY 2, 3, 4, 5"
    );
    connection
        .prepare(&sql)?
        .query_map([], rows::index_entry)?
        .collect()
}
