//! The handle through which objects are read, written and watched.

use std::fmt;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use rusqlite::Connection;
use rusqlite::types::Value as Sql;
use tokio::sync::{mpsc, oneshot};

use crate::database::Database;
use crate::folder::Folder;
use crate::query::{Continue, MAX_PAGE_BYTES, MAX_PAGE_ITEMS};
use crate::readers::Readers;
use crate::rows::{self, Counter, Found};
use crate::watch::Hub;
use crate::writer::{Answer, Command, Outcome, Request};
use crate::{Error, Object, ObjectKey, Page, Query, ResourceVersion, Watch};

/// How long a write waits for a place in the queue before it is refused: hundreds of commits on any disk that works.
const QUEUE_WAIT: Duration = Duration::from_secs(10);

/// All objects of a store. Cheap to clone; the last clone closes the database.
///
/// Every write, once sent, is carried out whether or not the caller still waits for the answer.
#[derive(Clone)]
pub struct Objects {
    inner: Arc<Inner>,
}

/// What must be true of an object for it to be deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Preconditions {
    /// It must still be this one, not another of the same name.
    pub uid: Option<String>,
    /// It must not have changed since this version.
    pub resource_version: Option<ResourceVersion>,
}

/// How a deletion ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Deletion {
    /// It is gone; its last document.
    Removed(Object),
    /// It stays, marked with a `deletionTimestamp`, until the last finalizer is removed by an update.
    Waiting(Object),
}

/// How a put ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Put {
    /// There was none.
    Created(Object),
    /// There was one.
    Updated(Object),
}

struct Inner {
    requests: Option<mpsc::Sender<Request>>,
    writer: Mutex<Option<JoinHandle<()>>>,
    readers: Arc<Readers>,
    hub: Arc<Hub>,
    /// Held until the last handle is gone, so that no other server opens a database that is still being written.
    _folder: Arc<Folder>,
}

// === impl Objects ===

impl Objects {
    pub(crate) fn new(
        requests: mpsc::Sender<Request>,
        writer: JoinHandle<()>,
        database: Database,
        hub: Arc<Hub>,
        folder: Arc<Folder>,
    ) -> Self {
        let readers = Arc::new(Readers::new(database));
        let (requests, writer) = (Some(requests), Mutex::new(Some(writer)));
        Self {
            inner: Arc::new(Inner {
                requests,
                writer,
                readers,
                hub,
                _folder: folder,
            }),
        }
    }

    /// Stores a new object and gives it back with uid, version and, if it had only a `generateName`, its name. A status
    /// in the document is dropped.
    ///
    /// # Errors
    /// [`Error::AlreadyExists`], [`Error::TooLarge`], or what keeps the store from writing.
    pub async fn create(&self, object: Object) -> Result<Object, Error> {
        self.send(Command::Create(object))
            .await
            .map(|answer| answer.object)
    }

    /// The object with this key.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Damaged`] if what is stored is not what was written.
    pub async fn get(&self, key: &ObjectKey) -> Result<Object, Error> {
        let key = key.clone();
        self.inner
            .readers
            .run(
                move |database, connection| match rows::find(connection, &key) {
                    Ok(Some(Found::Whole { object, .. })) => Ok(object),
                    Ok(Some(Found::Damaged { key, detail, .. })) => {
                        Err(Error::Damaged { key, detail })
                    }
                    Ok(None) => Err(Error::NotFound { key }),
                    Err(error) => Err(database.error(&error)),
                },
            )
            .await
    }

    /// A page of the objects asked for, at most `limit` and never more than [`MAX_PAGE_ITEMS`] or about
    /// [`MAX_PAGE_BYTES`]; `from` is the [`Page::next`] of the page before. Damaged objects are named, not skipped in
    /// silence.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a foreign continue token, or what keeps the store from reading.
    pub async fn list(
        &self,
        query: &Query,
        limit: Option<usize>,
        from: Option<&str>,
    ) -> Result<Page, Error> {
        let (query, limit) = (
            query.clone(),
            limit.unwrap_or(MAX_PAGE_ITEMS).clamp(1, MAX_PAGE_ITEMS),
        );
        let from = from.map(Continue::decode).transpose()?;
        self.inner
            .readers
            .run(move |database, connection| {
                let snapshot = connection.unchecked_transaction();
                let page = snapshot.and_then(|snapshot| {
                    let page = read_page(connection, &query, limit, from.as_ref());
                    snapshot.finish()?;
                    page
                });
                page.map_err(|error| database.error(&error))
            })
            .await
    }

    /// Replaces a document. One that carries a resourceVersion must carry the current one, one that carries a uid must
    /// mean the same object. The status in it is ignored; the generation grows if anything but metadata changed.
    /// Nothing is committed if nothing changes. Removing the last finalizer of an object that is being deleted removes
    /// it; its last document is given back.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Conflict`], [`Error::Invalid`], [`Error::TooLarge`], [`Error::Damaged`], or what
    /// keeps the store from writing.
    pub async fn update(&self, object: Object) -> Result<Object, Error> {
        self.send(Command::Update(object))
            .await
            .map(|answer| answer.object)
    }

    /// Replaces the status and nothing else, under the same conditions as [`update`](Self::update).
    ///
    /// # Errors
    /// As [`update`](Self::update).
    pub async fn update_status(&self, object: Object) -> Result<Object, Error> {
        self.send(Command::UpdateStatus(object))
            .await
            .map(|answer| answer.object)
    }

    /// Creates the object if there is none with its key, and updates it otherwise.
    ///
    /// # Errors
    /// As [`update`](Self::update); [`Error::NotFound`] only if the document carries a resourceVersion.
    pub async fn put(&self, object: Object) -> Result<Put, Error> {
        let answer = self.send(Command::Put(object)).await?;
        Ok(match answer.outcome {
            Outcome::Created => Put::Created(answer.object),
            Outcome::Kept | Outcome::Removed => Put::Updated(answer.object),
        })
    }

    /// Deletes an object, or marks it if it has finalizers. What belonged only to it is deleted soon after, object by
    /// object.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Conflict`], [`Error::Damaged`], or what keeps the store from writing.
    pub async fn delete(
        &self,
        key: &ObjectKey,
        preconditions: Preconditions,
    ) -> Result<Deletion, Error> {
        let answer = self
            .send(Command::Delete(key.clone(), preconditions))
            .await?;
        Ok(match answer.outcome {
            Outcome::Removed => Deletion::Removed(answer.object),
            Outcome::Created | Outcome::Kept => Deletion::Waiting(answer.object),
        })
    }

    /// Gives up an object that is damaged on disk, so that its name can be used again. Its finalizers are not asked
    /// (nobody can read them) and its dependents stay.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the object is whole, [`Error::NotFound`], or what keeps the store from writing.
    pub async fn discard_damaged(&self, key: &ObjectKey) -> Result<(), Error> {
        self.send(Command::DiscardDamaged(key.clone()))
            .await
            .map(drop)
    }

    /// What happens to the objects asked for after version `from`, or from now on. See [`Watch::next`].
    ///
    /// # Errors
    /// [`Error::Expired`] if the history does not reach back that far: list, and watch from the page's version.
    pub fn watch(&self, query: &Query, from: Option<ResourceVersion>) -> Result<Watch, Error> {
        self.inner.hub.watch(query.clone(), from)
    }

    async fn send(&self, command: Command) -> Result<Answer, Error> {
        let (reply, answer) = oneshot::channel();
        let requests = self.inner.requests.as_ref().ok_or(Error::Closed)?;
        match requests.try_send(Request { command, reply }) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Closed(_)) => return Err(Error::Closed),
            Err(mpsc::error::TrySendError::Full(request)) => {
                match tokio::time::timeout(QUEUE_WAIT, requests.send(request)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) => return Err(Error::Closed),
                    Err(_) => {
                        return Err(Error::Busy {
                            what: "a place in the queue of writes",
                        });
                    }
                }
            }
        }
        answer.await.map_err(|_| Error::Closed)?
    }
}

impl fmt::Debug for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Objects").finish_non_exhaustive()
    }
}

impl Drop for Inner {
    /// Ends the writer after what it has, and waits for it: at most one commit of what is queued.
    fn drop(&mut self) {
        self.hub.close();
        self.readers.close();
        drop(self.requests.take());
        if let Some(writer) = self.writer.lock().take()
            && writer.join().is_err()
        {
            tracing::error!("the writer of the object store panicked");
        }
    }
}

// === small types ===

impl Preconditions {
    /// What a document says about the object it means.
    pub(crate) fn of(object: &Object) -> Self {
        Self {
            uid: Some(object.uid())
                .filter(|uid| !uid.is_empty())
                .map(str::to_owned),
            resource_version: object.resource_version(),
        }
    }
}

impl Deletion {
    /// The object, gone or waiting.
    pub fn object(self) -> Object {
        match self {
            Self::Removed(object) | Self::Waiting(object) => object,
        }
    }
}

impl Put {
    /// The object as stored.
    pub fn object(self) -> Object {
        match self {
            Self::Created(object) | Self::Updated(object) => object,
        }
    }
}

// === reading a page ===

fn read_page(
    connection: &Connection,
    query: &Query,
    limit: usize,
    from: Option<&Continue>,
) -> rusqlite::Result<Page> {
    let version = match (from, rows::counter(connection)?) {
        (Some(from), _) => from.version,
        (None, Counter::At(version)) => version.cast_unsigned(),
        (None, Counter::Unset | Counter::Damaged) => 0,
    };
    let mut page = Page {
        items: Vec::new(),
        damaged: Vec::new(),
        resource_version: ResourceVersion::new(version),
        next: None,
    };
    let mut conditions = vec!["1".to_owned()];
    let mut values: Vec<Sql> = Vec::new();
    for (column, wanted) in [
        ("api_version", &query.api_version),
        ("kind", &query.kind),
        ("namespace", &query.namespace),
    ] {
        if let Some(wanted) = wanted {
            values.push(Sql::Text(wanted.to_string()));
            conditions.push(format!("{column} = ?{}", values.len()));
        }
    }
    if let Some(prefix) = &query.name_prefix {
        // Names are ASCII, so nothing that begins so lies beyond the last of its characters.
        let at = values.len();
        values.push(Sql::Text(prefix.to_string()));
        values.push(Sql::Text(format!("{prefix}\u{7f}")));
        conditions.push(format!("name >= ?{} AND name < ?{}", at + 1, at + 2));
    }
    if let Some(from) = from {
        let at = values.len();
        let key = &from.after;
        values.extend(
            [key.api_version(), key.kind(), key.namespace(), key.name()]
                .map(|part| Sql::Text(part.to_owned())),
        );
        conditions.push(format!(
            "(api_version, kind, namespace, name) > (?{}, ?{}, ?{}, ?{})",
            at + 1,
            at + 2,
            at + 3,
            at + 4
        ));
    }
    // Only the index is walked here; see `rows::find` for why.
    let sql = format!(
        "SELECT id, api_version, kind, namespace, name FROM objects INDEXED BY objects_by_key WHERE {}
         ORDER BY api_version, kind, namespace, name",
        conditions.join(" AND ")
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let mut found = statement.query(rusqlite::params_from_iter(values))?;
    let mut bytes = 0;
    let mut last: Option<ObjectKey> = None;
    while let Some(row) = found.next()? {
        if page.items.len() + page.damaged.len() >= limit || bytes >= MAX_PAGE_BYTES {
            page.next = last.map(|after| Continue { version, after }.encode());
            break;
        }
        let (id, key) = rows::index_entry(row)?;
        match rows::fetch(connection, id, &key)? {
            Found::Whole {
                object,
                bytes: size,
                ..
            } => {
                if object.matches(&query.labels) {
                    bytes += size;
                    page.items.push(object);
                }
            }
            Found::Damaged { key, .. } => page.damaged.push(key),
        }
        last = Some(key);
    }
    Ok(page)
}
