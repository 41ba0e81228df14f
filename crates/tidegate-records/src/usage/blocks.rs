//! Sums of an hour, as bytes in a frame.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;

use tidegate_core::FunctionKey;

use super::{Place, Totals};
use crate::encode::{Input, Malformed, put_key, put_number};

/// The form of a block. Other numbers are refused.
const VERSION: u8 = 1;

/// What functions used in an hour.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Hour {
    /// Batches before this place have been counted.
    pub(crate) covered: Place,
    pub(crate) rows: HashMap<Arc<FunctionKey>, Totals>,
}

/// Appends an hour, with everything before `covered` counted.
pub(crate) fn put_hour(out: &mut Vec<u8>, hour: u64, covered: Place, sums: &Hour) {
    out.push(VERSION);
    put_number(out, hour);
    put_place(out, covered);
    put_number(out, sums.rows.len() as u64);
    for (key, totals) in &sums.rows {
        put_key(out, key);
        totals.put(out);
    }
}

/// Reads what [`put_hour`] wrote.
pub(crate) fn take_hour(input: &mut Input<'_>) -> Result<(u64, Hour), Malformed> {
    if input.byte()? != VERSION {
        return Err(Malformed("version of usage that is known here"));
    }
    let hour = input.number()?;
    let covered = take_place(input)?;
    let mut rows = HashMap::new();
    for _ in 0..input.count()? {
        rows.insert(Arc::new(input.key()?), Totals::take(input)?);
    }
    Ok((hour, Hour { covered, rows }))
}

pub(crate) fn put_place(out: &mut Vec<u8>, place: Place) {
    put_number(out, place.segment);
    put_number(out, place.offset);
}

pub(crate) fn take_place(input: &mut Input<'_>) -> Result<Place, Malformed> {
    Ok(Place {
        segment: input.number()?,
        offset: input.number()?,
    })
}

/// Writes a file that appears whole or not at all, and outlives a crash of the machine.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".new");
    let write = || {
        let mut file = File::create(&unfinished)?;
        file.write_all(bytes)?;
        file.sync_data()?;
        fs::rename(&unfinished, path)
    };
    let written = write();
    if written.is_err() {
        // The disk may be full: what is of no use must not take room.
        let _ = fs::remove_file(&unfinished);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_bytes_are_an_hour_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = take_hour(&mut Input::new(&bytes));
        }
    }
}
