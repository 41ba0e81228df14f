//! Looks at everything that is stored while the queue is in use.

use std::path::PathBuf;

use bytes::Bytes;
use tidegate_core::queue::Seq;
use tidegate_store::sqlite;

use crate::codec;
use crate::error::Error;
use crate::queue::Queue;
use crate::table::read_id;
use crate::writer::Command;

/// Rows that are read at a time.
const PAGE: i64 = 256;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Examined {
    /// Items that were read.
    pub items: u64,
    /// Those that are not as they were written. They are among the dead letters now.
    pub damaged: u64,
    /// What is wrong with the structure of the file. The next start looks at all of it and puts right what can be.
    pub structure: Vec<String>,
}

impl Queue {
    /// Reads every item once, and has SQLite check the file. Takes seconds a gigabyte; a large file is not examined at
    /// opening, so this is to be called once after it.
    ///
    /// # Errors
    /// What keeps the file from being read, other than damage.
    pub async fn examine(&self) -> Result<Examined, Error> {
        let mut examined = Examined::default();
        let mut from = 0;
        loop {
            let page: Result<Option<Vec<(Seq, bool)>>, Error> = self
                .inner
                .readers
                .run(move |database, connection| {
                    let page = page(connection, from);
                    match page {
                        Ok(page) => Ok(Some(page)),
                        Err(error)
                            if error.sqlite_error_code()
                                == Some(rusqlite::ErrorCode::DatabaseCorrupt) =>
                        {
                            Ok(None)
                        }
                        Err(error) => Err(database.error(&error).into()),
                    }
                })
                .await;
            // A page that cannot be read shows in the structure.
            let Some(page) = page? else { break };
            let Some((last, _)) = page.last() else { break };
            from = *last;
            for (seq, sound) in page {
                examined.items += 1;
                if !sound {
                    examined.damaged += 1;
                    self.send(Command::Lose(seq)).await?;
                }
            }
        }
        let (structure, path): (Vec<String>, PathBuf) = self
            .inner
            .readers
            .run(|database, connection| {
                Ok::<_, Error>((sqlite::check(connection), database.path().to_owned()))
            })
            .await?;
        if !structure.is_empty() {
            let asked = path.with_file_name("queue.examine");
            if let Err(error) = std::fs::write(&asked, []) {
                tracing::warn!(path = %asked.display(), %error, "cannot ask the next start to examine the queue");
            }
        }
        examined.structure = structure;
        Ok(examined)
    }
}

fn page(connection: &rusqlite::Connection, from: Seq) -> rusqlite::Result<Vec<(Seq, bool)>> {
    connection
        .prepare_cached(
            "SELECT seq, id, due, state, head, body FROM items WHERE seq > ?1 ORDER BY seq LIMIT ?2",
        )?
        .query_map([from, PAGE], |row| {
            let seq = row.get(0)?;
            let blob = |column| {
                let value = row.get_ref(column)?;
                Ok::<_, rusqlite::Error>(value.as_blob().unwrap_or_default())
            };
            let sound = match read_id(row, 1)? {
                None => false,
                Some(id) => codec::decode_state(id, seq, blob(3)?).is_some_and(|state| {
                    let due = row.get::<_, Option<i64>>(2).ok().flatten();
                    let fits = due.is_none() == state.item.behind
                        && due.is_none_or(|due| due.cast_unsigned() == state.item.due_ms);
                    let body = Bytes::copy_from_slice(blob(5).unwrap_or_default());
                    let head = blob(4).unwrap_or_default();
                    fits && codec::decode_head(id, state.item.policy, head, body).is_ok()
                }),
            };
            Ok((seq, sound))
        })?
        .collect()
}
