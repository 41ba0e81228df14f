//! A segment that nothing is added to any more.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use parking_lot::Mutex;

use super::builder::{Builder, Summary};
use super::index::{self, Index};
use super::{FIRST_FRAME, Found, Name, Scanner, index_path};
use crate::encode::{Batch, Kind};
use crate::options::Damage;

/// A sealed segment. Its index is looked at when something is first asked of it, and made then if it is missing.
#[derive(Debug)]
pub(crate) struct Sealed {
    pub(crate) name: Name,
    pub(crate) path: PathBuf,
    /// Bytes of the segment.
    pub(crate) bytes: u64,
    /// Bytes of its index, as far as is known.
    pub(crate) index_bytes: AtomicU64,
    /// When it was last added to.
    pub(crate) changed: SystemTime,
    /// What is known of what is in it. Held while the index is made, so that it is made once.
    known: Mutex<Known>,
}

/// What is known of a segment without reading it.
#[derive(Clone, Copy, Debug)]
enum Known {
    /// Nobody asked yet.
    Nothing,
    /// Its index has no head that could be believed.
    NoIndex,
    /// The index's head says so, which has a checksum of its own; the rest has not been looked through.
    Head(Summary),
    /// The whole index is sound.
    All(Summary),
}

impl Sealed {
    pub(crate) fn new(
        name: Name,
        path: PathBuf,
        bytes: u64,
        index_bytes: u64,
        changed: SystemTime,
        known: Option<Summary>,
    ) -> Self {
        Self {
            name,
            path,
            bytes,
            index_bytes: AtomicU64::new(index_bytes),
            changed,
            known: Mutex::new(known.map_or(Known::Nothing, Known::All)),
        }
    }

    /// Its index, and what is in it. The index is looked through, and made anew if need be, by whoever first asks.
    /// Damage goes to `damage`.
    pub(crate) fn index(
        &self,
        kind: Kind,
        damage: &mut dyn FnMut(Damage),
    ) -> io::Result<(Index, Summary)> {
        let mut known = self.known.lock();
        let verify = !matches!(*known, Known::All(_));
        if let Some(index) = Index::open(&self.path, self.bytes, verify)? {
            let summary = index.head().summary;
            *known = Known::All(summary);
            self.index_bytes.store(index.bytes()?, Ordering::Relaxed);
            return Ok((index, summary));
        }
        let file = File::open(&self.path)?;
        let builder = build(&file, self.name, kind, &self.path, self.bytes, damage)?;
        let Ok((head, bytes)) = index::write(&self.path, self.bytes, &builder) else {
            // It cannot be kept now, but it can be used.
            return Ok((index::in_memory(self.bytes, &builder)?, builder.summary));
        };
        if !self.path.exists() {
            // It was removed meanwhile, and so must its index be.
            let _ = fs::remove_file(index_path(&self.path));
            return Err(io::ErrorKind::NotFound.into());
        }
        self.index_bytes.store(bytes, Ordering::Relaxed);
        *known = Known::All(head.summary);
        let index = Index::open(&self.path, self.bytes, false)?;
        Ok((index.ok_or(io::ErrorKind::NotFound)?, head.summary))
    }

    /// What is in it, if that can be told without reading much: most questions pass over most segments by this.
    pub(crate) fn summary(&self) -> Option<Summary> {
        let mut known = self.known.lock();
        if matches!(*known, Known::Nothing) {
            let head = Index::open(&self.path, self.bytes, false);
            let head = head.ok().flatten().map(|index| index.head().summary);
            *known = head.map_or(Known::NoIndex, Known::Head);
        }
        match *known {
            Known::Nothing | Known::NoIndex => None,
            Known::Head(summary) | Known::All(summary) => Some(summary),
        }
    }

    /// Removes it and its index.
    pub(crate) fn remove(&self) -> io::Result<()> {
        for path in [&self.path, &index_path(&self.path)] {
            match fs::remove_file(path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
        }
        Ok(())
    }
}

/// Reads a whole segment for what an index says of it.
pub(crate) fn build(
    file: &File,
    name: Name,
    kind: Kind,
    path: &Path,
    end: u64,
    damage: &mut dyn FnMut(Damage),
) -> io::Result<Builder> {
    let mut builder = Builder::new();
    let mut scanner = Scanner::new(file, name.salt, FIRST_FRAME, end);
    while let Some(found) = scanner.next()? {
        let (offset, bytes) = match found {
            Found::Frame { offset, payload } => {
                let length = super::FRAME_HEADER + payload.len();
                let added = Batch::decode(payload, kind).and_then(|batch| {
                    let (offset, length) = (offset as u32, length as u32);
                    builder.add(offset, length, &batch.entries, batch.items())
                });
                if added.is_ok() {
                    continue;
                }
                (offset, length as u64)
            }
            Found::Damaged { offset, bytes } => (offset, bytes),
        };
        damage(Damage {
            path: path.to_owned(),
            offset,
            bytes,
        });
    }
    Ok(builder)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;
    use std::time::{Duration, Instant};

    use crate::encode::{Entry, Items, Kind, encode, put_record};
    use crate::segment::{FRAME_HEADER, Series};
    use crate::tests::{function, record};
    use crate::usage::Place;

    /// A series with one sealed segment, of one record.
    fn series(folder: &std::path::Path) -> Series {
        let retention = crate::Options::default().records;
        let folder = folder.to_owned();
        let opened = Series::open(
            Kind::Records,
            folder,
            retention,
            Place::default(),
            &mut |_| {},
        );
        let series = opened.unwrap().series;
        let (mut frame, mut items) = (vec![0; FRAME_HEADER], Vec::new());
        put_record(&mut items, 5, &record(1));
        let entries = [Entry {
            number: 5,
            key: function("default", "hello"),
            hours: Vec::new(),
        }];
        encode(&mut frame, Kind::Records, &entries, &[&items]);
        series.publish(frame, &entries, Items::new(&items));
        series.write().unwrap();
        series.seal().unwrap();
        series
    }

    #[test]
    fn whoever_waits_for_an_index_does_not_hold_up_the_one_who_writes() {
        let dir = tempfile::tempdir().unwrap();
        let series = &series(dir.path());
        let number = series.numbers()[0];
        let sealed = series.state.read().sealed[&number].clone();
        thread::scope(|scope| {
            // As somebody does who makes its index.
            let making = sealed.known.lock();
            let (tell, told) = mpsc::channel();
            let asking = scope.spawn(move || {
                tell.send(()).unwrap();
                series.summary(number)
            });
            told.recv().unwrap();
            // It has begun to ask; some time later it waits for the index.
            let begun = Instant::now();
            while begun.elapsed() < Duration::from_millis(200) {
                let turn = series.state.try_write_for(Duration::from_secs(5));
                assert!(turn.is_some(), "a question has the lock");
                drop(turn);
                thread::yield_now();
            }
            drop(making);
            assert_eq!(asking.join().unwrap().unwrap().items, 1);
        });
    }
}
