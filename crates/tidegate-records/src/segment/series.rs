//! A series of segments: the one that is written, and the sealed ones.
//!
//! One thread writes. A batch is *published* first: from then on readers find it, in memory if it is not written yet.
//! Then it is written at its place in the file; a write that fails is tried again at the same place, so nothing is
//! written twice and readers notice nothing of a full disk.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::RwLock;
use uuid::Uuid;

use super::builder::Builder;
use super::sealed::{Sealed, build};
use super::{FIRST_FRAME, INDEX_SUFFIX, MAGIC, Name, UNFINISHED_SUFFIX, index, index_path, seal};
use crate::Error;
use crate::encode::{Entry, Items, Kind};
use crate::options::{Damage, MAX_REPORTED, MAX_SEGMENT_BYTES, Retention};
use crate::usage::Place;

/// A last segment of at most so many bytes is read at start and added to; a larger one is left as it is. Keeps a server
/// that is often restarted from leaving a file each time, at the cost of a few milliseconds.
const REOPEN_BYTES: u64 = 1 << 20;

/// One kind of segments in one folder.
#[derive(Debug)]
pub(crate) struct Series {
    pub(crate) kind: Kind,
    folder: PathBuf,
    retention: Retention,
    pub(super) state: RwLock<State>,
    /// Places of damage that were come across.
    pub(crate) damaged: AtomicU64,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) sealed: BTreeMap<u64, Arc<Sealed>>,
    pub(super) active: Option<Active>,
    /// The least number that the next segment may have.
    pub(super) next: u64,
    /// Items published since it was opened.
    pub(super) items: u64,
    /// The same when each segment of this process began.
    pub(super) before: BTreeMap<u64, u64>,
}

/// The segment that is written.
#[derive(Debug)]
pub(super) struct Active {
    pub(super) name: Name,
    pub(super) path: PathBuf,
    /// Absent until the first write.
    pub(super) file: Option<Arc<File>>,
    /// Bytes published.
    length: u64,
    pub(super) builder: Builder,
    /// Batches that are not written yet, by where they begin.
    pub(super) resident: VecDeque<(u64, Arc<[u8]>)>,
    resident_bytes: usize,
}

/// What was found at start.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) series: Series,
    /// Bytes of an unfinished write at the end of the last segment.
    pub(crate) unfinished: u64,
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}

impl Series {
    /// Opens a folder of segments and makes it if needed. `least` is a number that the next segment's must be above.
    pub(crate) fn open(
        kind: Kind,
        folder: PathBuf,
        retention: Retention,
        least: Place,
        damage: &mut dyn FnMut(Damage),
    ) -> Result<Opened, Error> {
        fs::create_dir_all(&folder).map_err(Error::io("make", &folder))?;
        let mut sealed = BTreeMap::new();
        let mut others = Vec::new();
        for entry in fs::read_dir(&folder).map_err(Error::io("read", &folder))? {
            let entry = entry.map_err(Error::io("read", &folder))?;
            let path = entry.path();
            let file = entry.file_name();
            let Some(file) = file.to_str() else { continue };
            if let Some(name) = Name::parse(file, kind) {
                let about = entry.metadata().map_err(Error::io("read", &path))?;
                let changed = about.modified().unwrap_or(UNIX_EPOCH);
                let segment = Sealed::new(name, path, about.len(), 0, changed, None);
                sealed.insert(name.number, segment);
            } else {
                others.push(path);
            }
        }
        for path in others {
            tidy(&path, kind, &sealed);
        }
        let mut series = Self {
            kind,
            folder,
            retention: Retention {
                segment_bytes: retention.segment_bytes.min(MAX_SEGMENT_BYTES),
                ..retention
            },
            state: RwLock::new(State {
                next: 0,
                active: None,
                items: 0,
                before: BTreeMap::new(),
                sealed: BTreeMap::new(),
            }),
            damaged: AtomicU64::new(0),
        };
        let mut unfinished = 0;
        let last = sealed.last_entry().map(|last| last.remove());
        if let Some(last) = last {
            let resumed = series.resume(&last, least, &mut unfinished, damage)?;
            if resumed.is_none() {
                sealed.insert(last.name.number, last);
            }
            series.state.get_mut().active = resumed;
        }
        let state = series.state.get_mut();
        state.sealed = sealed.into_iter().map(|(n, s)| (n, Arc::new(s))).collect();
        let newest = state
            .sealed
            .last_key_value()
            .map_or(0, |(number, _)| *number);
        let newest = state
            .active
            .as_ref()
            .map_or(newest, |active| active.name.number);
        state.next = newest.max(least.segment) + 1;
        if let Some(active) = &state.active {
            state.before.insert(active.name.number, 0);
        }
        Ok(Opened { series, unfinished })
    }

    /// Makes the last segment the one that is written, if it is small and sound.
    fn resume(
        &self,
        last: &Sealed,
        counted: Place,
        unfinished: &mut u64,
        damage: &mut dyn FnMut(Damage),
    ) -> Result<Option<Active>, Error> {
        let path = &last.path;
        // What was counted beyond its end must never be written a second time at the same place.
        let shortened = counted.segment == last.name.number && counted.offset > last.bytes;
        if last.bytes > REOPEN_BYTES || shortened || counted.segment > last.name.number {
            return Ok(None);
        }
        let file = OpenOptions::new().read(true).write(true).open(path);
        let file = file.map_err(Error::io("open", path))?;
        let mut found = Vec::new();
        let builder = build(
            &file,
            last.name,
            self.kind,
            path,
            last.bytes,
            &mut |place| {
                found.push(place);
            },
        );
        let builder = builder.map_err(Error::io("read", path))?;
        // Damage that reaches to the end is a write that a crash interrupted.
        let mut length = last.bytes;
        let torn = found.pop_if(|last| last.offset + last.bytes == length);
        if let Some(torn) = &torn
            && counted.segment == last.name.number
            && torn.offset < counted.offset
        {
            // It was whole once, and was counted: what would be written in its place would pass for counted as well.
            found.push(torn.clone());
            found.into_iter().for_each(damage);
            return Ok(None);
        }
        if let Some(torn) = torn {
            length = torn.offset;
            *unfinished = torn.bytes;
            file.set_len(length).map_err(Error::io("shorten", path))?;
        }
        found.into_iter().for_each(damage);
        if length < FIRST_FRAME {
            // Not even its beginning was written.
            file.write_all_at(MAGIC, 0)
                .map_err(Error::io("write", path))?;
            length = FIRST_FRAME;
        }
        let _ = fs::remove_file(index_path(path));
        Ok(Some(Active {
            name: last.name,
            path: path.clone(),
            file: Some(Arc::new(file)),
            length,
            builder,
            resident: VecDeque::new(),
            resident_bytes: 0,
        }))
    }

    /// Makes a batch known: `frame` is [`FRAME_HEADER`](super::FRAME_HEADER) bytes of anything and then the batch of these entries and items.
    /// Returns the place behind it.
    pub(crate) fn publish(&self, mut frame: Vec<u8>, entries: &[Entry], items: Items<'_>) -> Place {
        let mut state = self.state.write();
        let state = &mut *state;
        if state.active.is_none() {
            let active = Active::new(&self.folder, self.kind, state.next);
            state.next = active.name.number + 1;
            state.before.insert(active.name.number, state.items);
            state.active = Some(active);
        }
        let active = state.active.as_mut().expect("there is one since above");
        let offset = active.length;
        seal(&mut frame, offset, active.name.salt);
        let before = active.builder.summary.items;
        active
            .builder
            .add(offset as u32, frame.len() as u32, entries, items)
            .expect("what was encoded here can be read");
        state.items += active.builder.summary.items - before;
        active.length += frame.len() as u64;
        active.resident_bytes += frame.len();
        active.resident.push_back((offset, frame.into()));
        Place {
            segment: active.name.number,
            offset: active.length,
        }
    }

    /// Bytes that are published and not written.
    pub(crate) fn resident_bytes(&self) -> usize {
        let state = self.state.read();
        state
            .active
            .as_ref()
            .map_or(0, |active| active.resident_bytes)
    }

    /// Writes what is published.
    pub(crate) fn write(&self) -> Result<(), Error> {
        loop {
            let (path, file, next) = {
                let state = self.state.read();
                let Some(active) = &state.active else {
                    return Ok(());
                };
                let Some((offset, frame)) = active.resident.front() else {
                    return Ok(());
                };
                let next = (*offset, frame.clone());
                (active.path.clone(), active.file.clone(), next)
            };
            let file = match file {
                Some(file) => file,
                None => self.create(&path)?,
            };
            file.write_all_at(&next.1, next.0)
                .map_err(Error::io("write", &path))?;
            if let Some(active) = &mut self.state.write().active {
                active.resident.pop_front();
                active.resident_bytes -= next.1.len();
            }
        }
    }

    fn create(&self, path: &Path) -> Result<Arc<File>, Error> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(Error::io("make", path))?;
        file.write_all_at(MAGIC, 0)
            .map_err(Error::io("write", path))?;
        let file = Arc::new(file);
        if let Some(active) = &mut self.state.write().active {
            active.file = Some(file.clone());
        }
        Ok(file)
    }

    /// What was written outlives a crash of the machine once this has returned.
    pub(crate) fn sync(&self) -> Result<(), Error> {
        let active = {
            let state = self.state.read();
            let active = state.active.as_ref();
            active.and_then(|active| Some((active.file.clone()?, active.path.clone())))
        };
        if let Some((file, path)) = active {
            file.sync_data().map_err(Error::io("sync", &path))?;
        }
        Ok(())
    }

    /// Makes the index of the segment that was written last, where a crash left a large one without.
    pub(crate) fn index_last(&self) -> Result<(), Error> {
        let last = {
            let state = self.state.read();
            let last = state.sealed.last_key_value();
            last.filter(|_| state.active.is_none())
                .map(|(_, last)| last.clone())
        };
        let Some(last) = last.filter(|last| last.summary().is_none()) else {
            return Ok(());
        };
        let made = last.index(self.kind, &mut |place| self.came_across(&place));
        made.map(drop).map_err(Error::io("read", &last.path))
    }

    /// Whether the segment that is written should be sealed: it is all written, and large or old enough.
    pub(crate) fn is_due(&self) -> bool {
        let state = self.state.read();
        state.active.as_ref().is_some_and(|active| {
            let age = Duration::from_millis(now_ms().saturating_sub(active.name.number));
            let old = age >= self.retention.segment_age && !active.builder.frames.is_empty();
            active.resident.is_empty() && (active.length >= self.retention.segment_bytes || old)
        })
    }

    /// Seals the segment that is written, if a start would not read it and add to it. For the end.
    pub(crate) fn seal_if_large(&self) {
        let large = {
            let state = self.state.read();
            let active = state.active.as_ref();
            active.is_some_and(|active| active.length > REOPEN_BYTES)
        };
        if large && let Err(error) = self.seal() {
            tracing::error!(error = %error, "the last segment cannot be sealed; its index is made when it is read");
        }
    }

    /// Seals the segment that is written, if all of it is.
    pub(crate) fn seal(&self) -> Result<(), Error> {
        self.sync()?;
        // Only this thread changes what is active: readers may go on reading it while the index is written.
        let sealed = {
            let state = self.state.read();
            let Some(active) = &state.active else {
                return Ok(());
            };
            if !active.resident.is_empty() || active.file.is_none() {
                return Ok(());
            }
            // Without an index it is sealed all the same: whoever reads it first makes one.
            let index = index::write(&active.path, active.length, &active.builder);
            let known = index.map(|(head, bytes)| (head.summary, bytes)).ok();
            Sealed::new(
                active.name,
                active.path.clone(),
                active.length,
                known.map_or(0, |(_, bytes)| bytes),
                SystemTime::now(),
                known.map(|(summary, _)| summary),
            )
        };
        let mut state = self.state.write();
        state.sealed.insert(sealed.name.number, Arc::new(sealed));
        state.active = None;
        Ok(())
    }

    /// Removes what is too old or too much, but nothing from segment `needed` on. Returns how many segments.
    pub(crate) fn retire(&self, needed: u64) -> Result<usize, Error> {
        let mut removed = 0;
        loop {
            let oldest = {
                let state = self.state.read();
                let Some((_, oldest)) = state.sealed.first_key_value() else {
                    return Ok(removed);
                };
                let age = SystemTime::now().duration_since(oldest.changed);
                let old = age.is_ok_and(|age| age > self.retention.keep_for);
                if oldest.name.number >= needed
                    || !old && state.bytes() <= self.retention.keep_bytes
                {
                    return Ok(removed);
                }
                oldest.clone()
            };
            self.remove(&oldest)?;
            removed += 1;
        }
    }

    /// The oldest segment that could go for want of room: never one from segment `needed` on, nor the newest that is
    /// sealed.
    pub(crate) fn spare(&self, needed: u64) -> Option<Arc<Sealed>> {
        let state = self.state.read();
        let (number, oldest) = state.sealed.first_key_value()?;
        (*number < needed && state.sealed.len() > 1).then(|| oldest.clone())
    }

    /// Removes a segment.
    pub(crate) fn remove(&self, segment: &Sealed) -> Result<(), Error> {
        let number = segment.name.number;
        let removed = segment.remove();
        removed.map_err(Error::io("remove", &segment.path))?;
        let mut state = self.state.write();
        state.sealed.remove(&number);
        state.before.remove(&number);
        Ok(())
    }

    /// Segments and bytes on disk.
    pub(crate) fn size(&self) -> (usize, u64) {
        let state = self.state.read();
        let count = state.sealed.len() + usize::from(state.active.is_some());
        (count, state.bytes())
    }

    /// Numbers, names, paths and lengths of all segments, oldest first.
    pub(crate) fn files(&self) -> Vec<(Name, PathBuf, u64)> {
        let state = self.state.read();
        let sealed = state.sealed.values();
        let mut files: Vec<_> = sealed.map(|s| (s.name, s.path.clone(), s.bytes)).collect();
        let active = state.active.iter();
        files.extend(active.map(|a| (a.name, a.path.clone(), a.length)));
        files
    }

    /// Where the next batch will be: everything before it is published.
    pub(crate) fn end(&self) -> Place {
        let state = self.state.read();
        match &state.active {
            Some(active) => Place {
                segment: active.name.number,
                offset: active.length,
            },
            None => Place {
                segment: state.next,
                offset: FIRST_FRAME,
            },
        }
    }

    pub(crate) fn came_across(&self, damage: &Damage) {
        // Every question may come across it again: beyond so many the count says it.
        if self.damaged.fetch_add(1, Ordering::Relaxed) < MAX_REPORTED as u64 {
            tracing::warn!(
                path = %damage.path.display(),
                offset = damage.offset,
                bytes = damage.bytes,
                "a batch of records or lines is damaged and lost"
            );
        }
    }
}

/// Removes what a crash or a removed segment left behind, and nothing that is not ours.
fn tidy(path: &Path, kind: Kind, sealed: &BTreeMap<u64, Sealed>) {
    let Some(file) = path.file_name().and_then(|file| file.to_str()) else {
        return;
    };
    let (file, unfinished) = match file.strip_suffix(UNFINISHED_SUFFIX) {
        Some(file) => (file, true),
        None => (file, false),
    };
    let name = file.strip_suffix(INDEX_SUFFIX);
    let Some(name) = name.and_then(|name| Name::parse(name, kind)) else {
        return;
    };
    let belongs = sealed
        .get(&name.number)
        .is_some_and(|segment| segment.name == name);
    if unfinished || !belongs {
        let _ = fs::remove_file(path);
    } else if let (Some(segment), Ok(about)) = (sealed.get(&name.number), fs::metadata(path)) {
        segment.index_bytes.store(about.len(), Ordering::Relaxed);
    }
}

impl State {
    fn bytes(&self) -> u64 {
        let sealed = self.sealed.values();
        let bytes = |s: &Arc<Sealed>| s.bytes + s.index_bytes.load(Ordering::Relaxed);
        let active = self.active.as_ref().map_or(0, |active| active.length);
        sealed.map(bytes).sum::<u64>() + active
    }
}

impl Active {
    fn new(folder: &Path, kind: Kind, least: u64) -> Self {
        let name = Name {
            number: least.max(now_ms()),
            salt: Uuid::now_v7().as_u128() as u64,
        };
        Self {
            name,
            path: name.path(folder, kind),
            file: None,
            length: FIRST_FRAME,
            builder: Builder::new(),
            resident: VecDeque::new(),
            resident_bytes: 0,
        }
    }
}
