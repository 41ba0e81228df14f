//! The writer: one thread, one connection, many requests a commit.
//!
//! What queued while the last commit was being synced goes into the next one; there is no timer. Each request is a
//! savepoint of its own, so one that is refused takes nothing else with it, and each object gets its own version, as if
//! it had been committed alone. Nobody is answered before the commit is on disk. If the commit itself fails, everyone
//! in the group gets that failure and nothing has changed.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use crate::database::Database;
use crate::document::GENERATED_SUFFIX;
use crate::mark::Mark;
use crate::rows::{self, Found};
use crate::rules::{self, Next};
use crate::watch::{Change, ChangeKind, Hub};
use crate::{Error, Object, ObjectKey, Preconditions};

/// Requests that may wait. With documents of the largest size this is 64 MiB.
pub(crate) const QUEUE: usize = 256;
/// Most requests in one commit. Beyond this the sync is a small part of the work, and the first in line waits longer.
const GROUP: usize = 128;
/// Orphans deleted in one commit, so that a large family does not hold up requests.
const ORPHANS: usize = 64;
/// How often a generated name is drawn again when it is taken. With 28⁵ endings a second draw is already rare.
const DRAWS: usize = 8;
/// Consonants and digits that cannot be mistaken for one another nor spell a word.
const SUFFIX_ALPHABET: &[u8; 28] = b"bcdfghjklmnpqrstvwxz23456789";

#[derive(Debug)]
pub(crate) enum Command {
    Create(Object),
    Update(Object),
    UpdateStatus(Object),
    Put(Object),
    Delete(ObjectKey, Preconditions),
    DiscardDamaged(ObjectKey),
}

/// What a command gives back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) object: Object,
    pub(crate) outcome: Outcome,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Created,
    /// Changed, or as wanted already.
    Kept,
    Removed,
}

type Reply = oneshot::Sender<Result<Answer, Error>>;

pub(crate) struct Request {
    pub(crate) command: Command,
    pub(crate) reply: Reply,
}

pub(crate) struct Writer {
    pub(crate) database: Database,
    pub(crate) connection: Connection,
    pub(crate) requests: mpsc::Receiver<Request>,
    pub(crate) hub: Arc<Hub>,
    pub(crate) mark: Mark,
    /// The last version that was committed.
    pub(crate) version: i64,
    /// Objects that may have lost their last owner.
    pub(crate) orphans: VecDeque<Orphan>,
    /// Whether rows are damaged. A damaged row's uid cannot be trusted, so an owner that is not found may well exist.
    pub(crate) damaged: bool,
}

/// An object to look at, and which owner of it went.
#[derive(Debug)]
pub(crate) struct Orphan {
    pub(crate) id: i64,
    pub(crate) owner_uid: Option<String>,
}

/// What a group has done so far, in the order of versions.
#[derive(Default)]
struct Group {
    changes: Vec<Change>,
    orphans: Vec<Orphan>,
    answers: Vec<(Reply, Result<Answer, Error>)>,
}

impl Writer {
    /// Works until every sender is gone and what they sent is done.
    pub(crate) fn run(mut self) {
        loop {
            let mut requests = Vec::new();
            if self.orphans.is_empty() {
                match self.requests.blocking_recv() {
                    Some(request) => requests.push(request),
                    None => break,
                }
            }
            while requests.len() < GROUP
                && let Ok(request) = self.requests.try_recv()
            {
                requests.push(request);
            }
            self.commit(requests);
        }
        if let Err(error) = self.database.empty_log(&self.connection) {
            tracing::warn!(%error, "could not fold the log into the database; the next start will");
        }
    }

    fn commit(&mut self, requests: Vec<Request>) {
        let before = self.version;
        let mut group = Group::default();
        let mut requests = VecDeque::from(requests);
        let done = self.try_commit(&mut requests, &mut group);
        if let Err(error) = done {
            self.version = before;
            if !self.connection.is_autocommit()
                && let Err(rollback) = self.connection.execute_batch("ROLLBACK")
            {
                tracing::error!(error = %rollback, "could not roll back");
            }
            tracing::warn!(%error, "a commit of objects failed");
            let failed = group.answers.into_iter().map(|(reply, _)| reply);
            for reply in failed.chain(requests.into_iter().map(|request| request.reply)) {
                drop(reply.send(Err(error.clone())));
            }
            return;
        }
        if self.version > before {
            self.mark.note(self.version.cast_unsigned());
        }
        self.hub.publish(group.changes);
        self.orphans.extend(group.orphans);
        for (reply, answer) in group.answers {
            // A caller that went away does not undo what it asked for.
            drop(reply.send(answer));
        }
    }

    fn try_commit(
        &mut self,
        requests: &mut VecDeque<Request>,
        group: &mut Group,
    ) -> Result<(), Error> {
        let before = self.version;
        self.sql(|connection| connection.execute_batch("BEGIN IMMEDIATE"))?;
        while let Some(Request { command, reply }) = requests.pop_front() {
            let answer = self.savepoint(group, |writer, group| writer.apply(command, group));
            let lost = self.connection.is_autocommit();
            let failure = answer.as_ref().err().filter(|_| lost).cloned();
            group.answers.push((reply, answer));
            if let Some(error) = failure {
                // SQLite gave up the whole transaction, as it may on a full disk.
                return Err(error);
            }
        }
        for _ in 0..ORPHANS {
            let Some(orphan) = self.orphans.pop_front() else {
                break;
            };
            if let Err(error) =
                self.savepoint(group, |writer, group| writer.collect(&orphan, group))
            {
                // It stays where it is until the next start, which looks for orphans anew.
                tracing::warn!(%error, "could not delete an object without owners");
                if self.connection.is_autocommit() {
                    return Err(error);
                }
            }
        }
        if self.version > before {
            let version = self.version;
            self.sql(|connection| rows::set_counter(connection, version))?;
            self.hub.committing(version.cast_unsigned());
        }
        self.sql(|connection| connection.execute_batch("COMMIT"))
    }

    /// Runs `work`; if it fails or panics, nothing of it remains.
    fn savepoint<T>(
        &mut self,
        group: &mut Group,
        work: impl FnOnce(&mut Self, &mut Group) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let (version, changes, orphans) = (self.version, group.changes.len(), group.orphans.len());
        self.sql(|connection| connection.execute_batch("SAVEPOINT request"))?;
        let result = catch_unwind(AssertUnwindSafe(|| work(self, group))).unwrap_or_else(|_| {
            Err(Error::Internal {
                detail: "a request panicked in the writer".to_owned(),
            })
        });
        if result.is_err() {
            self.version = version;
            group.changes.truncate(changes);
            group.orphans.truncate(orphans);
            if self.connection.is_autocommit() {
                return result;
            }
            self.sql(|connection| connection.execute_batch("ROLLBACK TO request"))?;
        }
        self.sql(|connection| connection.execute_batch("RELEASE request"))?;
        result
    }

    fn apply(&mut self, command: Command, group: &mut Group) -> Result<Answer, Error> {
        match command {
            Command::Create(object) => self.create(object, group),
            Command::Update(object) => self.update(object, group),
            Command::UpdateStatus(object) => {
                let (id, current) = self.current(object.key())?;
                let next = rules::update_status(&current, &object)?;
                if let Next::Write(next) = &next {
                    rules::check_size(next)?;
                }
                self.advance(id, current, next, group)
            }
            Command::Put(object) => match self.find(object.key())? {
                // Who carries a version believes that the object exists, and is told otherwise by the update.
                None if object.resource_version().is_none() => self.create(object, group),
                _ => self.update(object, group),
            },
            Command::Delete(key, preconditions) => {
                let (id, current) = self.current(&key)?;
                let next = rules::delete(&current, &preconditions, &now())?;
                self.advance(id, current, next, group)
            }
            Command::DiscardDamaged(key) => self.discard(&key, group),
        }
    }

    fn update(&mut self, object: Object, group: &mut Group) -> Result<Answer, Error> {
        rules::check_size(&object)?;
        let (id, current) = self.current(object.key())?;
        let next = rules::update(&current, object)?;
        self.advance(id, current, next, group)
    }

    fn create(&mut self, mut object: Object, group: &mut Group) -> Result<Answer, Error> {
        rules::check_size(&object)?;
        if object.key().name().is_empty() {
            let name = self.draw_name(&object)?;
            object.set_name(&name);
        }
        match self.find(object.key())? {
            None => {}
            Some(Found::Whole { .. }) => {
                return Err(Error::AlreadyExists {
                    key: object.key().clone(),
                });
            }
            Some(Found::Damaged { key, detail, .. }) => return Err(Error::Damaged { key, detail }),
        }
        let mut object = rules::create(object, &uuid::Uuid::now_v7().to_string(), &now());
        let version = self.stamp(&mut object);
        let (id, bytes) = self.sql(|connection| rows::insert(connection, &object, version))?;
        if object.owner_references().next().is_some() {
            // Its owner may have gone before it came.
            group.orphans.push(Orphan {
                id,
                owner_uid: None,
            });
        }
        group
            .changes
            .push(change(version, ChangeKind::Created, &object, bytes));
        Ok(Answer {
            object,
            outcome: Outcome::Created,
        })
    }

    /// Brings an object into its next state.
    fn advance(
        &mut self,
        id: i64,
        current: Object,
        next: Next,
        group: &mut Group,
    ) -> Result<Answer, Error> {
        let before = current.metadata().get("labels").cloned();
        match next {
            Next::Same => Ok(Answer {
                object: current,
                outcome: Outcome::Kept,
            }),
            Next::Write(mut object) => {
                let version = self.stamp(&mut object);
                let bytes =
                    self.sql(|connection| rows::replace(connection, id, &object, version))?;
                if object.owner_references().next().is_some() {
                    group.orphans.push(Orphan {
                        id,
                        owner_uid: None,
                    });
                }
                group.changes.push(change(
                    version,
                    ChangeKind::Changed { before },
                    &object,
                    bytes,
                ));
                Ok(Answer {
                    object,
                    outcome: Outcome::Kept,
                })
            }
            Next::Remove(mut object) => {
                let version = self.stamp(&mut object);
                self.sql(|connection| rows::remove(connection, id))?;
                let uid = object.uid().to_owned();
                let dependents = self.sql(|connection| rows::dependents(connection, &uid))?;
                let orphan = |id| Orphan {
                    id,
                    owner_uid: Some(uid.clone()),
                };
                group.orphans.extend(dependents.into_iter().map(orphan));
                group.changes.push(change(
                    version,
                    ChangeKind::Removed { before },
                    &object,
                    rules::size(&object),
                ));
                Ok(Answer {
                    object,
                    outcome: Outcome::Removed,
                })
            }
        }
    }

    /// Deletes an object if it has owners and none of them exists.
    fn collect(&mut self, orphan: &Orphan, group: &mut Group) -> Result<(), Error> {
        let id = orphan.id;
        let Some(Found::Whole { object, .. }) =
            self.sql(|connection| rows::find_by_id(connection, id))?
        else {
            return Ok(());
        };
        let mut owners = 0;
        for owner in object.owner_references() {
            owners += 1;
            let known_gone = orphan.owner_uid.as_ref() == Some(&owner.uid);
            if !known_gone
                && (self.damaged
                    || self.sql(|connection| rows::uid_exists(connection, &owner.uid))?)
            {
                return Ok(());
            }
        }
        if owners == 0 {
            return Ok(());
        }
        let next = rules::delete(&object, &Preconditions::default(), &now())?;
        self.advance(id, object, next, group).map(drop)
    }

    /// Gives up a row that cannot be read.
    fn discard(&mut self, key: &ObjectKey, group: &mut Group) -> Result<Answer, Error> {
        let id = match self.find(key)? {
            Some(Found::Damaged { id, .. }) => id,
            Some(Found::Whole { .. }) => {
                return Err(Error::invalid(
                    "object",
                    &key.to_string(),
                    "a damaged object; this one is whole, delete it instead",
                ));
            }
            None => return Err(Error::NotFound { key: key.clone() }),
        };
        let mut object = Object::with_spec(key, serde_json::Value::Null)?;
        let version = self.stamp(&mut object);
        self.sql(|connection| rows::remove(connection, id))?;
        group.changes.push(change(
            version,
            ChangeKind::Discarded,
            &object,
            rules::size(&object),
        ));
        Ok(Answer {
            object,
            outcome: Outcome::Removed,
        })
    }

    fn find(&self, key: &ObjectKey) -> Result<Option<Found>, Error> {
        self.sql(|connection| rows::find(connection, key))
    }

    fn current(&mut self, key: &ObjectKey) -> Result<(i64, Object), Error> {
        match self.find(key)? {
            Some(Found::Whole { id, object, .. }) => Ok((id, object)),
            Some(Found::Damaged { key, detail, .. }) => {
                self.damaged = true;
                Err(Error::Damaged { key, detail })
            }
            None => Err(Error::NotFound { key: key.clone() }),
        }
    }

    fn draw_name(&self, object: &Object) -> Result<String, Error> {
        let prefix = object
            .metadata()
            .get("generateName")
            .and_then(serde_json::Value::as_str)
            .unwrap_or_default();
        let mut name = String::new();
        for _ in 0..DRAWS {
            let mut random = [0; GENERATED_SUFFIX];
            aws_lc_rs::rand::fill(&mut random).map_err(|_| Error::Internal {
                detail: "the system gave no random numbers".to_owned(),
            })?;
            let suffix = random
                .map(|byte| char::from(SUFFIX_ALPHABET[usize::from(byte) % SUFFIX_ALPHABET.len()]));
            name = format!("{prefix}{}", String::from_iter(suffix));
            if self.find(&object.key().named(&name))?.is_none() {
                return Ok(name);
            }
        }
        Err(Error::AlreadyExists {
            key: object.key().named(&name),
        })
    }

    /// Gives the object the next version.
    fn stamp(&mut self, object: &mut Object) -> i64 {
        self.version += 1;
        object.metadata_mut().insert(
            "resourceVersion".to_owned(),
            self.version.to_string().into(),
        );
        self.version
    }

    fn sql<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, Error> {
        work(&self.connection).map_err(|error| self.database.error(&error))
    }
}

fn change(version: i64, kind: ChangeKind, object: &Object, bytes: usize) -> Change {
    Change {
        version: version.cast_unsigned(),
        kind,
        object: object.clone(),
        bytes,
    }
}

/// The time in RFC 3339 with seconds, as Kubernetes writes it.
fn now() -> String {
    jiff::Timestamp::now()
        .strftime("%Y-%m-%dT%H:%M:%SZ")
        .to_string()
}
