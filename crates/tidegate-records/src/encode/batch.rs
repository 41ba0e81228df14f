//! A batch: what is written at once, and counts wholly or not at all.
//!
//! It is complete in itself: the keys of the functions that its items name by number, and what these functions have used
//! since the batch before, come first. So the loss of any batch loses that batch alone, and there is no moment at which
//! a record is on disk and its use is not.

use std::sync::Arc;

use tidegate_core::FunctionKey;

use super::{Input, Items, Malformed, put_key, put_number};
use crate::usage::Totals;

/// The form of a batch. Other numbers are refused.
const VERSION: u8 = 1;

/// What a batch's items are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    Records = 1,
    Lines = 2,
}

/// A function in a batch.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    /// What items call it by.
    pub(crate) number: u64,
    pub(crate) key: Arc<FunctionKey>,
    /// What it used, by the hour since the epoch.
    pub(crate) hours: Vec<(u64, Totals)>,
}

/// A batch that was read.
#[derive(Debug)]
pub(crate) struct Batch<'a> {
    pub(crate) entries: Vec<Entry>,
    items: &'a [u8],
}

/// Appends a batch of these entries and items.
pub(crate) fn encode(out: &mut Vec<u8>, kind: Kind, entries: &[Entry], items: &[&[u8]]) {
    out.extend_from_slice(&[VERSION, kind as u8]);
    put_number(out, entries.len() as u64);
    for entry in entries {
        put_number(out, entry.number);
        put_key(out, &entry.key);
        put_number(out, entry.hours.len() as u64);
        for (hour, totals) in &entry.hours {
            put_number(out, *hour);
            totals.put(out);
        }
    }
    for part in items {
        out.extend_from_slice(part);
    }
}

impl<'a> Batch<'a> {
    /// Reads the entries; items are read as they are asked for.
    pub(crate) fn decode(bytes: &'a [u8], kind: Kind) -> Result<Self, Malformed> {
        let mut input = Input::new(bytes);
        if input.byte()? != VERSION {
            return Err(Malformed("version of a batch that is known here"));
        }
        if input.byte()? != kind as u8 {
            return Err(Malformed("batch of this series"));
        }
        let mut entries = Vec::new();
        for _ in 0..input.count()? {
            let (number, key) = (input.number()?, Arc::new(input.key()?));
            let mut hours = Vec::new();
            for _ in 0..input.count()? {
                hours.push((input.number()?, Totals::take(&mut input)?));
            }
            entries.push(Entry { number, key, hours });
        }
        // Batches are written in the order of numbers; whoever looks one up relies on it.
        if !entries.is_sorted_by(|a, b| a.number < b.number) {
            return Err(Malformed("dictionary in order"));
        }
        Ok(Self {
            entries,
            items: input.rest(),
        })
    }

    /// The items, oldest first.
    pub(crate) const fn items(&self) -> Items<'a> {
        Items::new(self.items)
    }

    /// The function with this number.
    pub(crate) fn function(&self, number: u64) -> Result<&Arc<FunctionKey>, Malformed> {
        let at = self
            .entries
            .binary_search_by_key(&number, |entry| entry.number)
            .map_err(|_| Malformed("function of this batch"))?;
        Ok(&self.entries[at].key)
    }
}
