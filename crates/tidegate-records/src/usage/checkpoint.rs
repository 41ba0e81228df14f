//! The checkpoint: the sums of the hours that are still added to, and up to where they count.
//!
//! Two files take turns, so that damage to one leaves the other: that is older, and more is replayed behind it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::Place;
use super::blocks::{Hour, put_hour, put_place, replace, take_hour, take_place};
use crate::encode::{Input, Malformed, put_number};
use crate::segment::{FRAME_HEADER, check, seal};

const FILES: [&str; 2] = ["checkpoint-a", "checkpoint-b"];
/// Largest checkpoint that is read, in bytes: a million functions' sums are below it.
const MAX_BYTES: u64 = 512 << 20;
/// Enters the checksum in place of a segment's salt.
const SALT: u64 = 0x7469_6465_6761_7465;

/// A checkpoint that was read.
#[derive(Debug, Default)]
pub(crate) struct Checkpoint {
    /// Grows with each.
    pub(crate) number: u64,
    /// Everything before it is counted.
    pub(crate) place: Place,
    pub(crate) hours: BTreeMap<u64, Hour>,
}

fn path(folder: &Path, number: u64) -> PathBuf {
    folder.join(FILES[(number % 2) as usize])
}

/// Writes a checkpoint. The one before stays.
pub(crate) fn write(
    folder: &Path,
    number: u64,
    place: Place,
    hours: &BTreeMap<u64, Hour>,
) -> io::Result<()> {
    let mut bytes = vec![0; FRAME_HEADER];
    put_number(&mut bytes, number);
    put_place(&mut bytes, place);
    put_number(&mut bytes, hours.len() as u64);
    for (hour, sums) in hours {
        put_hour(&mut bytes, *hour, place, sums);
    }
    seal(&mut bytes, 0, SALT);
    replace(&path(folder, number), &bytes)
}

/// The latest checkpoint that is whole.
pub(crate) fn read(folder: &Path) -> io::Result<Option<Checkpoint>> {
    let mut latest = None::<Checkpoint>;
    for file in FILES {
        let path = folder.join(file);
        let length = match fs::metadata(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            about => about?.len(),
        };
        if length > MAX_BYTES {
            continue;
        }
        let bytes = fs::read(&path)?;
        let Some(Ok(found)) = check(&bytes, 0, SALT).map(parse) else {
            tracing::warn!(path = %path.display(), "a checkpoint of the usage is damaged; the one before it is taken");
            continue;
        };
        if latest
            .as_ref()
            .is_none_or(|latest| latest.number < found.number)
        {
            latest = Some(found);
        }
    }
    Ok(latest)
}

fn parse(bytes: &[u8]) -> Result<Checkpoint, Malformed> {
    let mut input = Input::new(bytes);
    let (number, place) = (input.number()?, take_place(&mut input)?);
    let mut hours = BTreeMap::new();
    for _ in 0..input.count()? {
        let (hour, sums) = take_hour(&mut input)?;
        hours.insert(hour, sums);
    }
    Ok(Checkpoint {
        number,
        place,
        hours,
    })
}
