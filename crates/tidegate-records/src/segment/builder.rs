//! What is known of a segment's frames: kept in memory of the one that is written, and in the index of the others.

use crate::encode::{Entry, Head, Items, Malformed};
use crate::usage::made_us;

use super::{Term, Wanted};

/// One frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameMeta {
    /// Where it begins.
    pub(crate) offset: u32,
    /// Bytes, header included.
    pub(crate) length: u32,
    /// How many items it has.
    pub(crate) items: u32,
    /// The earliest time of an item, in microseconds.
    pub(crate) first_us: u64,
    /// The latest.
    pub(crate) last_us: u64,
}

/// What a whole segment holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Summary {
    /// How many items.
    pub(crate) items: u64,
    /// The earliest time of an item, in microseconds.
    pub(crate) first_us: u64,
    /// The latest.
    pub(crate) last_us: u64,
    /// The earliest moment at which an invocation's id was made, in microseconds.
    pub(crate) first_id_us: u64,
    /// The latest.
    pub(crate) last_id_us: u64,
}

/// Learns of frames as they come.
#[derive(Debug)]
pub(crate) struct Builder {
    pub(crate) frames: Vec<FrameMeta>,
    /// Which term occurs in which frame, in the order of frames.
    pub(crate) terms: Vec<(Term, u32)>,
    pub(crate) summary: Summary,
    /// Terms of the frame at hand that may come more than once.
    repeated: Vec<Term>,
}

impl Summary {
    pub(crate) const EMPTY: Self = Self {
        items: 0,
        first_us: u64::MAX,
        last_us: 0,
        first_id_us: u64::MAX,
        last_id_us: 0,
    };
}

impl Builder {
    pub(crate) const fn new() -> Self {
        Self {
            frames: Vec::new(),
            terms: Vec::new(),
            summary: Summary::EMPTY,
            repeated: Vec::new(),
        }
    }

    /// Adds a frame: where it is, and what is in it. Nothing is added where an item cannot be read.
    pub(crate) fn add(
        &mut self,
        offset: u32,
        length: u32,
        entries: &[Entry],
        items: Items<'_>,
    ) -> Result<(), Malformed> {
        let (ordinal, before, summary) = (self.frames.len() as u32, self.terms.len(), self.summary);
        let mut frame = FrameMeta {
            offset,
            length,
            items: 0,
            first_us: u64::MAX,
            last_us: 0,
        };
        self.repeated.clear();
        let mut outcomes = 0_u64;
        for item in items {
            match item {
                Ok((head, _)) => {
                    self.item(&mut frame, &mut outcomes, ordinal, &head);
                }
                Err(malformed) => {
                    self.terms.truncate(before);
                    self.summary = summary;
                    return Err(malformed);
                }
            }
        }
        if frame.items > 0 {
            for entry in entries {
                self.repeated.push(Term::function(&entry.key));
                self.repeated.push(Term::namespace(&entry.key.namespace));
            }
            let occurred = (0..64).filter(|number| outcomes & 1 << number != 0);
            self.repeated.extend(occurred.map(Term::outcome));
        }
        self.repeated.sort_unstable();
        self.repeated.dedup();
        let repeated = self.repeated.iter().map(|term| (*term, ordinal));
        self.terms.extend(repeated);
        self.frames.push(frame);
        Ok(())
    }

    fn item(&mut self, frame: &mut FrameMeta, outcomes: &mut u64, ordinal: u32, head: &Head<'_>) {
        frame.items += 1;
        frame.first_us = frame.first_us.min(head.time_us);
        frame.last_us = frame.last_us.max(head.time_us);
        *outcomes |= 1 << (head.outcome & 63);
        let summary = &mut self.summary;
        summary.items += 1;
        summary.first_us = summary.first_us.min(head.time_us);
        summary.last_us = summary.last_us.max(head.time_us);
        if let Some(id) = head.id {
            summary.first_id_us = summary.first_id_us.min(made_us(id));
            summary.last_id_us = summary.last_id_us.max(made_us(id));
            let entry = (Term::id(id), ordinal);
            // An invocation's lines mostly come together.
            if self.terms.last() != Some(&entry) {
                self.terms.push(entry);
            }
        }
        self.repeated.extend(head.parent.map(Term::parent));
        self.repeated.extend(head.name.map(Term::name));
    }

    /// The frames that have what is wanted, oldest first.
    pub(crate) fn find(&self, wanted: &Wanted) -> Vec<u32> {
        let lists = wanted.groups.iter().map(|group| {
            let matching = self.terms.iter().filter(|(term, _)| group.contains(term));
            let mut frames: Vec<u32> = matching.map(|(_, frame)| *frame).collect();
            frames.dedup();
            frames
        });
        intersect(lists).unwrap_or_else(|| (0..self.frames.len() as u32).collect())
    }
}

/// What is in all of the lists, each of which is in order; nothing if there are none.
pub(crate) fn intersect(lists: impl Iterator<Item = Vec<u32>>) -> Option<Vec<u32>> {
    lists.reduce(|mut left, right| {
        left.retain(|frame| right.binary_search(frame).is_ok());
        left
    })
}
