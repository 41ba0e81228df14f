//! Hours that are over: a file a day, to which each is appended.
//!
//! An hour that was added to once more is appended once more; the last one counts.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use super::Place;
use super::blocks::{Hour, put_hour, take_hour};
use crate::encode::Input;
use crate::options::Damage;
use crate::segment::{FRAME_HEADER, Found, Scanner, seal};

const SUFFIX: &str = ".hours";

fn path(folder: &Path, day: u64) -> PathBuf {
    folder.join(format!("{day:08}{SUFFIX}"))
}

/// Appends an hour to its day.
pub(crate) fn append(folder: &Path, hour: u64, covered: Place, sums: &Hour) -> io::Result<()> {
    let day = hour / 24;
    let mut options = OpenOptions::new();
    let options = options.read(true).write(true).create(true).truncate(false);
    let file = options.open(path(folder, day))?;
    let end = file.metadata()?.len();
    let mut frame = vec![0; FRAME_HEADER];
    put_hour(&mut frame, hour, covered, sums);
    seal(&mut frame, end, day);
    let written = file
        .write_all_at(&frame, end)
        .and_then(|()| file.sync_data());
    if written.is_err() {
        // Half a frame is passed over by readers, but the disk may be full.
        let _ = file.set_len(end);
    }
    written
}

/// The hours of a day that are in its file.
pub(crate) fn read(
    folder: &Path,
    day: u64,
    damage: &mut dyn FnMut(Damage),
) -> io::Result<BTreeMap<u64, Hour>> {
    let path = path(folder, day);
    let file = match File::open(&path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        file => file?,
    };
    let mut hours = BTreeMap::new();
    let mut scanner = Scanner::new(&file, day, 0, file.metadata()?.len());
    while let Some(found) = scanner.next()? {
        let (offset, bytes) = match found {
            Found::Frame { offset, payload } => {
                if let Ok((hour, sums)) = take_hour(&mut Input::new(payload)) {
                    hours.insert(hour, sums);
                    continue;
                }
                (offset, payload.len() as u64)
            }
            Found::Damaged { offset, bytes } => (offset, bytes),
        };
        damage(Damage {
            path: path.clone(),
            offset,
            bytes,
        });
    }
    Ok(hours)
}

/// The days that have a file, oldest first.
pub(crate) fn list(folder: &Path) -> io::Result<Vec<u64>> {
    let mut days = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let day = name.to_str().and_then(|name| name.strip_suffix(SUFFIX));
        days.extend(day.and_then(|day| day.parse::<u64>().ok()));
    }
    days.sort_unstable();
    Ok(days)
}

/// Removes a day.
pub(crate) fn remove(folder: &Path, day: u64) -> io::Result<()> {
    fs::remove_file(path(folder, day))
}
