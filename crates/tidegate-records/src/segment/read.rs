//! Reading one segment of a series, whether it is sealed or still written.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use super::builder::{FrameMeta, Summary};
use super::index::Index;
use super::series::Series;
use super::{FRAME_HEADER, Name, Wanted, frame};
use crate::Error;
use crate::options::Damage;

/// Frames whose places are looked up together.
const WINDOW: u32 = 2048;

/// One segment, open for reading. It can be read on though it is removed meanwhile.
#[derive(Debug)]
pub(crate) struct Part<'a> {
    series: &'a Series,
    name: Name,
    path: PathBuf,
    /// Absent while nothing of it is written.
    file: Option<Arc<File>>,
    /// Absent while it is the one that is written.
    index: Option<Index>,
    pub(crate) summary: Summary,
    window: (u32, Vec<FrameMeta>),
}

impl Series {
    /// The numbers of the segments, oldest first.
    pub(crate) fn numbers(&self) -> Vec<u64> {
        let state = self.state.read();
        let sealed = state.sealed.keys().copied();
        let active = state.active.iter().map(|active| active.name.number);
        sealed.chain(active).collect()
    }

    /// What is in a segment, if that is known without reading it.
    pub(crate) fn summary(&self, number: u64) -> Option<Summary> {
        let sealed = {
            let state = self.state.read();
            match state.sealed.get(&number) {
                Some(sealed) => sealed.clone(),
                None => return state.active.as_ref().map(|active| active.builder.summary),
            }
        };
        // Somebody may be making its index, for which the thread that writes must not wait.
        sealed.summary()
    }

    /// How many items were published, since it was opened, before the segment with this number and all later ones.
    pub(crate) fn items_before(&self, number: u64) -> u64 {
        let state = self.state.read();
        let later = state.before.range(number..).next();
        later.map_or(state.items, |(_, items)| *items)
    }

    /// How many frames the segment that is written has, with its number; where there is none, the number of the next.
    pub(crate) fn newest(&self) -> (u64, u32, u64) {
        let state = self.state.read();
        match &state.active {
            Some(active) => {
                let frames = active.builder.frames.len() as u32;
                (active.name.number, frames, state.items)
            }
            None => (state.next, 0, state.items),
        }
    }

    /// Opens a segment; `None` if it was removed.
    pub(crate) fn part(&self, number: u64) -> Result<Option<Part<'_>>, Error> {
        let sealed = {
            let state = self.state.read();
            match (state.sealed.get(&number), &state.active) {
                (Some(sealed), _) => sealed.clone(),
                (None, Some(active)) if active.name.number == number => {
                    return Ok(Some(Part {
                        series: self,
                        name: active.name,
                        path: active.path.clone(),
                        file: active.file.clone(),
                        index: None,
                        summary: active.builder.summary,
                        window: (0, Vec::new()),
                    }));
                }
                _ => return Ok(None),
            }
        };
        let open = || {
            let file = File::open(&sealed.path)?;
            let (index, summary) =
                sealed.index(self.kind, &mut |place| self.came_across(&place))?;
            Ok(Part {
                series: self,
                name: sealed.name,
                path: sealed.path.clone(),
                file: Some(Arc::new(file)),
                index: Some(index),
                summary,
                window: (0, Vec::new()),
            })
        };
        match open() {
            Err(e) if io::Error::kind(&e) == io::ErrorKind::NotFound => Ok(None),
            opened => opened.map(Some).map_err(Error::io("read", &sealed.path)),
        }
    }
}

impl Part<'_> {
    /// The frames that have what is wanted, oldest first.
    pub(crate) fn find(&mut self, wanted: &Wanted) -> Result<Vec<u32>, Error> {
        self.with_index(
            |index| index.find(wanted),
            |part| {
                let state = part.series.state.read();
                let active = state.active.as_ref().filter(|a| a.name == part.name);
                active.map(|active| active.builder.find(wanted))
            },
        )
    }

    /// What is known of a frame; `None` behind the last.
    pub(crate) fn frame(&mut self, ordinal: u32) -> Result<Option<FrameMeta>, Error> {
        let (first, frames) = &self.window;
        if let Some(at) = ordinal.checked_sub(*first)
            && let Some(frame) = frames.get(at as usize)
        {
            return Ok(Some(*frame));
        }
        // Whoever goes through a segment comes from either side.
        let first = ordinal.saturating_sub(WINDOW / 2);
        let range = first..first.saturating_add(WINDOW);
        let frames = self.with_index(
            |index| index.frames(range.clone()),
            |part| {
                let state = part.series.state.read();
                let active = state.active.as_ref().filter(|a| a.name == part.name)?;
                let frames = active.builder.frames.iter().skip(range.start as usize);
                Some(frames.take(WINDOW as usize).copied().collect())
            },
        )?;
        let frame = frames.get((ordinal - first) as usize).copied();
        self.window = (first, frames);
        Ok(frame)
    }

    /// Asks the index, or the series while the segment is being written; that may end between two questions.
    fn with_index<T>(
        &mut self,
        ask: impl Fn(&Index) -> io::Result<T>,
        active: impl Fn(&Self) -> Option<T>,
    ) -> Result<T, Error> {
        if self.index.is_none() {
            if let Some(answer) = active(self) {
                return Ok(answer);
            }
            let part = self.series.part(self.name.number)?;
            let part = part.ok_or(io::ErrorKind::NotFound.into());
            let part = part.map_err(Error::io("read", &self.path))?;
            (self.index, self.file) = (part.index, part.file);
        }
        let index = self.index.as_ref().ok_or(io::ErrorKind::NotFound.into());
        let answer = index.and_then(ask);
        answer.map_err(Error::io("read the index of", &self.path))
    }

    /// The batch of a frame, in `buffer`; `None` if it is damaged.
    pub(crate) fn payload<'b>(
        &mut self,
        meta: &FrameMeta,
        buffer: &'b mut Vec<u8>,
    ) -> Result<Option<&'b [u8]>, Error> {
        buffer.clear();
        if self.index.is_none() {
            let state = self.series.state.read();
            if let Some(active) = state.active.as_ref().filter(|a| a.name == self.name) {
                let resident = active.resident.iter();
                let found = resident.rev().find(|(at, _)| *at == u64::from(meta.offset));
                if let Some((_, bytes)) = found {
                    buffer.extend_from_slice(&bytes[FRAME_HEADER..]);
                    return Ok(Some(buffer));
                }
                self.file.clone_from(&active.file);
            }
        }
        if self.file.is_none() {
            let file = File::open(&self.path).map_err(Error::io("open", &self.path))?;
            self.file = Some(Arc::new(file));
        }
        let (file, offset) = (self.file.as_ref(), u64::from(meta.offset));
        buffer.resize(meta.length as usize, 0);
        let read = file.map(|file| file.read_exact_at(buffer, offset));
        match read {
            Some(Err(e)) if e.kind() == io::ErrorKind::UnexpectedEof => buffer.clear(),
            Some(Err(e)) => return Err(Error::io("read", &self.path)(e)),
            _ => {}
        }
        let payload = frame::check(buffer, offset, self.name.salt);
        if payload.is_none() {
            self.damaged(meta);
        }
        Ok(payload)
    }

    /// Says that a frame cannot be read.
    pub(crate) fn damaged(&self, meta: &FrameMeta) {
        self.series.came_across(&Damage {
            path: self.path.clone(),
            offset: meta.offset.into(),
            bytes: meta.length.into(),
        });
    }
}
