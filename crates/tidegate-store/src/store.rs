//! Opening a data folder, in the order in which nothing can be lost: lock, look at the log, let SQLite open it, read
//! everything, start the writer.

use std::path::Path;
use std::sync::Arc;

use tokio::sync::mpsc;

use crate::database::{Database, Layout};
use crate::folder::{self, Folder};
use crate::mark::Mark;
use crate::rows::{self, Counter};
use crate::scan::{self, DamagedObject, Findings};
use crate::schema::{APPLICATION_ID, Identity, MIGRATIONS};
use crate::watch::Hub;
use crate::writer::{Orphan, QUEUE, Writer};
use crate::{Blobs, Error, Keyring, Objects, OpenError, ResourceVersion, WalDamage, wal};

/// The object database may grow to this size, in bytes: a thousand times what ten thousand functions need, and a bound
/// on what a runaway client can do to the disk.
const MAX_DATABASE_BYTES: u64 = 16 * 1024 * 1024 * 1024;
/// When the last version is not known because its row is damaged, the count goes on this far ahead of what is seen, so
/// that no version is given out twice.
const VERSION_SKIP: i64 = 1 << 32;

/// Settings of a store.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// The size the object database may reach, in bytes; then writes answer [`Error::Full`].
    pub max_database_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_database_bytes: MAX_DATABASE_BYTES,
        }
    }
}

/// Everything in one data folder. Cheap to clone; what it hands out keeps the folder locked.
#[derive(Clone, Debug)]
pub struct Store {
    objects: Objects,
    blobs: Blobs,
    keyring: Keyring,
}

/// What was found at opening. An operator should be told unless [`is_clean`](Self::is_clean).
#[derive(Clone, Debug, Default)]
pub struct OpenReport {
    /// The folder had no objects yet.
    pub created: bool,
    /// The version of the data before it was migrated.
    pub migrated_from: Option<u32>,
    /// How many objects there are, damaged ones included.
    pub objects: usize,
    /// Objects that cannot be read, up to [`MAX_REPORTED`](crate::MAX_REPORTED).
    pub damaged: Vec<DamagedObject>,
    /// How many there are in all.
    pub damaged_count: usize,
    /// The write-ahead log held commits that SQLite will not read.
    pub wal: Option<WalDamage>,
    /// The last version that was acknowledged and the last one found, if that is less: commits are missing.
    pub missing: Option<(ResourceVersion, ResourceVersion)>,
    /// What SQLite found wrong with the structure of the file.
    pub structure: Vec<String>,
    /// The fault was in indexes only, and they were made anew.
    pub reindexed: bool,
    /// Unfinished blobs of an earlier run that were removed.
    pub unfinished_blobs: usize,
}

impl OpenReport {
    /// Whether no damage was found.
    pub fn is_clean(&self) -> bool {
        self.damaged_count == 0
            && self.wal.is_none()
            && self.missing.is_none()
            && self.structure.is_empty()
    }
}

impl Store {
    /// The objects.
    pub fn objects(&self) -> &Objects {
        &self.objects
    }

    /// The blobs.
    pub fn blobs(&self) -> &Blobs {
        &self.blobs
    }

    /// The keys for secrets.
    pub fn keyring(&self) -> &Keyring {
        &self.keyring
    }
}

/// Opens the data in `folder`, which is made if needed. Reads every object once; blocks the thread meanwhile.
///
/// # Errors
/// See [`OpenError`]; nothing was changed then, except that a damaged log was copied aside.
pub fn open(folder: &Path) -> Result<(Store, OpenReport), OpenError> {
    open_with(folder, &Options::default())
}

/// The same with other settings.
///
/// # Errors
/// As [`open`].
pub fn open_with(path: &Path, options: &Options) -> Result<(Store, OpenReport), OpenError> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| OpenError::Io { path, source }
    };
    let folder = Arc::new(Folder::open(path)?);
    let database = Database::new(path.join("objects.db"));
    let wal = wal::examine(database.path(), path).map_err(io(database.path()))?;
    let (connection, identity) = database.prepare(&Layout {
        application_id: APPLICATION_ID,
        migrations: MIGRATIONS,
        page_bytes: None,
        max_bytes: options.max_database_bytes,
    })?;
    // Only now is it known that the folder is ours to add to.
    let keyring = Keyring::open(&path.join("keys"))?;
    let mark_path = path.join("objects.mark");
    let (mark, noted) = Mark::open(&mark_path).map_err(io(&mark_path))?;
    folder::sync(path).map_err(io(path))?;
    let findings = scan::scan(&database, &connection)?;
    let (blobs, unfinished_blobs) = Blobs::open(&path.join("blobs"), Arc::clone(&folder))?;

    let mut report = OpenReport {
        wal,
        unfinished_blobs,
        ..OpenReport::default()
    };
    let version = last_version(&database, &connection, &findings, noted, &mut report)?;
    if version > 0 {
        // Lists take their version from the database, and it must not be behind what watches start from.
        rows::set_counter(&connection, version).map_err(|error| database.error(&error))?;
    }
    report.created = identity == Identity::Empty;
    report.migrated_from = match identity {
        Identity::Ours(version) if (version as usize) < MIGRATIONS.len() => Some(version),
        _ => None,
    };
    let damaged = findings.damaged_count > 0;
    (report.objects, report.damaged_count) = (findings.objects, findings.damaged_count);
    (report.damaged, report.reindexed) = (findings.damaged, findings.reindexed);
    report.structure.extend(findings.structure);

    // With damaged rows an owner that is not found may exist all the same, so nothing is taken for an orphan.
    let orphans = if damaged {
        Vec::new()
    } else {
        rows::orphans(&connection).map_err(|error| database.error(&error))?
    };
    let orphans = orphans
        .into_iter()
        .map(|id| Orphan {
            id,
            owner_uid: None,
        })
        .collect();
    let hub = Arc::new(Hub::new(version.cast_unsigned()));
    let (sender, requests) = mpsc::channel(QUEUE);
    let writer = Writer {
        database: database.clone(),
        connection,
        requests,
        hub: Arc::clone(&hub),
        mark,
        version,
        orphans,
        damaged,
    };
    let thread = std::thread::Builder::new()
        .name("store-writer".to_owned())
        .spawn(move || writer.run())
        .map_err(io(path))?;
    let objects = Objects::new(sender, thread, database, hub, folder);
    Ok((
        Store {
            objects,
            blobs,
            keyring,
        },
        report,
    ))
}

/// The version to go on from, and what it says about missing commits.
fn last_version(
    database: &Database,
    connection: &rusqlite::Connection,
    findings: &Findings,
    noted: Option<u64>,
    report: &mut OpenReport,
) -> Result<i64, Error> {
    let noted = noted
        .and_then(|noted| i64::try_from(noted).ok())
        .unwrap_or(0);
    let counted = match rows::counter(connection) {
        Ok(Counter::At(version)) => version.max(findings.max_version),
        Ok(Counter::Unset) => findings.max_version,
        Ok(Counter::Damaged) => {
            report
                .structure
                .push("the counter of versions is damaged; counting goes on far ahead".to_owned());
            return Ok(findings.max_version.max(noted).saturating_add(VERSION_SKIP));
        }
        Err(error) => return Err(database.error(&error)),
    };
    if noted > counted {
        let version = |number: i64| ResourceVersion::new(number.cast_unsigned());
        report.missing = Some((version(noted), version(counted)));
    }
    Ok(counted.max(noted))
}
