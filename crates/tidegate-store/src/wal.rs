//! Examines the write-ahead log before SQLite opens it.
//!
//! SQLite reads the log up to the first frame that does not fit and silently forgets the rest. After a kill that is
//! right, after a flipped bit it loses commits that were acknowledged. This module tells the two apart where that can
//! be done, following the published format: a header of 32 bytes (magic, format, page size, sequence, two salts,
//! checksum), then frames of 24 bytes (page, size of the database in pages if this frame ends a commit, the two salts,
//! checksum) and a page each. Checksums run on from frame to frame.
//!
//! What is distinguishable:
//!
//! - **Frames of an older generation** lie behind the end of the log after it was restarted. Their salts differ from
//!   the header's; they mean nothing.
//! - **A torn tail.** A process writes the frames of a commit one after another, the committing frame last, and only
//!   then syncs. Killed in between, it leaves frames with the current salts and perhaps half a frame, but *no committing
//!   frame behind the break*. Nothing of it was acknowledged; not reported.
//! - **Damage.** A committing frame with the current salts *behind* a frame that does not fit was written later than
//!   that frame, so that frame was once whole. Reported. After a power cut the disk may also have kept the end of the
//!   very last, never acknowledged commit and lost its beginning; that looks the same, hence "may be lost".
//! - **A damaged header** with frames whose checksums continue it, whichever part of it is trusted. Reported. (A header
//!   is synced before its first frame is written.)
//! - **Damage in the very last committing frame** looks like a torn tail and cannot be told from it here; the version
//!   noted beside the database (see `mark`) reveals it.
//!
//! A leftover of a failed commit could look like damage if later, shorter commits partly overwrote it; so the store
//! empties the log at each start, and no log has the remains of two processes. What was already copied into the
//! database by a checkpoint is reported too, for that cannot be seen in the log.

use std::fs::{self, File};
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

const HEADER: usize = 32;
const FRAME_HEADER: usize = 24;
/// Magic of a log whose checksums read words in little-endian order; the lowest bit set means big-endian.
const MAGIC: u32 = 0x377f_0682;
/// The only format version there is.
const FORMAT: u32 = 3_007_000;
/// Page sizes SQLite knows, which also bounds what is held in memory here.
const PAGE_SIZES: std::ops::RangeInclusive<u32> = 512..=65536;

/// A log with commits that SQLite will not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalDamage {
    /// Where the log was copied before SQLite opened it.
    pub kept: PathBuf,
    /// The first frame that does not fit, counted from 1; 0 is the header.
    pub first_bad_frame: u64,
    /// Commits behind it that may be lost.
    pub commits: u64,
}

/// What a log holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// Nothing is lost that was acknowledged, as far as the log can tell.
    Sound,
    Damaged {
        first_bad_frame: u64,
        commits: u64,
    },
}

/// Examines the log of `database`; a damaged one is copied to `folder` under a name with the time of its last change,
/// so that starts which fail again and again do not fill the disk with copies of the same log.
///
/// # Errors
/// Those of reading the log and writing the copy.
pub fn examine(database: &Path, folder: &Path) -> io::Result<Option<WalDamage>> {
    let mut log = database.as_os_str().to_owned();
    log.push("-wal");
    let file = match File::open(&log) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let changed =
        jiff::Timestamp::try_from(file.metadata()?.modified()?).map_err(io::Error::other)?;
    let Verdict::Damaged {
        first_bad_frame,
        commits,
    } = scan(BufReader::new(file))?
    else {
        return Ok(None);
    };
    let kept = folder.join(format!(
        "damaged-{}.wal",
        changed.strftime("%Y%m%dT%H%M%S%.9fZ")
    ));
    fs::copy(&log, &kept)?;
    File::open(&kept)?.sync_all()?;
    Ok(Some(WalDamage {
        kept,
        first_bad_frame,
        commits,
    }))
}

fn scan(mut input: impl io::Read) -> io::Result<Verdict> {
    let mut header = [0; HEADER];
    if read_up_to(&mut input, &mut header)? < HEADER {
        return Ok(Verdict::Sound);
    }
    let guess = Header::read(&header);
    if !PAGE_SIZES.contains(&guess.page_size) || !guess.page_size.is_power_of_two() {
        // Without a page size no frame can be found. SQLite ignores such a log; whether it held anything is unknown,
        // so it counts as damage if there is anything behind the header.
        let mut one = [0];
        let more = read_up_to(&mut input, &mut one)? > 0;
        return Ok(if more {
            Verdict::Damaged {
                first_bad_frame: 0,
                commits: 1,
            }
        } else {
            Verdict::Sound
        });
    }
    let mut frame = vec![0; FRAME_HEADER + guess.page_size as usize];
    if guess.is_sound(&header) {
        return frames(&mut input, &mut frame, &guess);
    }
    // The header is damaged. Its frames are live if the first one continues it under any reading of the checksum.
    if read_up_to(&mut input, &mut frame)? < frame.len() {
        return Ok(Verdict::Sound);
    }
    let live = [false, true].into_iter().any(|big_endian| {
        let computed = sum(big_endian, (0, 0), &header[..24]);
        [guess.checksum, computed]
            .into_iter()
            .any(|seed| frame_sum(big_endian, seed, &frame) == stored_sum(&frame))
    }) || (word(&frame, 8), word(&frame, 12)) == guess.salts;
    if !live {
        return Ok(Verdict::Sound);
    }
    let salts = (word(&frame, 8), word(&frame, 12));
    let commits = u64::from(is_commit(&frame)) + count_commits(&mut input, &mut frame, salts)?;
    Ok(if commits > 0 {
        Verdict::Damaged {
            first_bad_frame: 0,
            commits,
        }
    } else {
        Verdict::Sound
    })
}

/// Follows the frames to the first that does not fit, then looks for commits behind it.
fn frames(input: &mut impl io::Read, frame: &mut [u8], header: &Header) -> io::Result<Verdict> {
    let mut seed = header.checksum;
    let mut number = 0;
    while read_up_to(input, frame)? == frame.len() {
        number += 1;
        let salts = (word(frame, 8), word(frame, 12));
        let fits = salts == header.salts
            && word(frame, 0) != 0
            && frame_sum(header.big_endian, seed, frame) == stored_sum(frame);
        if !fits {
            let commits = count_commits(input, frame, header.salts)?;
            return Ok(match commits {
                0 => Verdict::Sound,
                commits => Verdict::Damaged {
                    first_bad_frame: number,
                    commits,
                },
            });
        }
        seed = stored_sum(frame);
    }
    Ok(Verdict::Sound)
}

fn count_commits(
    input: &mut impl io::Read,
    frame: &mut [u8],
    salts: (u32, u32),
) -> io::Result<u64> {
    let mut commits = 0;
    while read_up_to(input, frame)? == frame.len() {
        commits += u64::from((word(frame, 8), word(frame, 12)) == salts && is_commit(frame));
    }
    Ok(commits)
}

struct Header {
    big_endian: bool,
    page_size: u32,
    salts: (u32, u32),
    checksum: (u32, u32),
}

impl Header {
    fn read(bytes: &[u8; HEADER]) -> Self {
        Self {
            big_endian: word(bytes, 0) & 1 == 1,
            page_size: word(bytes, 8),
            salts: (word(bytes, 16), word(bytes, 20)),
            checksum: (word(bytes, 24), word(bytes, 28)),
        }
    }

    fn is_sound(&self, bytes: &[u8; HEADER]) -> bool {
        word(bytes, 0) & !1 == MAGIC
            && word(bytes, 4) == FORMAT
            && sum(self.big_endian, (0, 0), &bytes[..24]) == self.checksum
    }
}

fn is_commit(frame: &[u8]) -> bool {
    word(frame, 4) != 0
}

fn stored_sum(frame: &[u8]) -> (u32, u32) {
    (word(frame, 16), word(frame, 20))
}

/// A frame's checksum runs over the first eight bytes of its header and its page.
fn frame_sum(big_endian: bool, seed: (u32, u32), frame: &[u8]) -> (u32, u32) {
    sum(
        big_endian,
        sum(big_endian, seed, &frame[..8]),
        &frame[FRAME_HEADER..],
    )
}

fn sum(big_endian: bool, seed: (u32, u32), bytes: &[u8]) -> (u32, u32) {
    let (mut a, mut b) = seed;
    let read = if big_endian {
        u32::from_be_bytes
    } else {
        u32::from_le_bytes
    };
    for pair in bytes.chunks_exact(8) {
        let first = read([pair[0], pair[1], pair[2], pair[3]]);
        let second = read([pair[4], pair[5], pair[6], pair[7]]);
        a = a.wrapping_add(first).wrapping_add(b);
        b = b.wrapping_add(second).wrapping_add(a);
    }
    (a, b)
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Fills as much of `buffer` as there is.
fn read_up_to(input: &mut impl io::Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match input.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests;
