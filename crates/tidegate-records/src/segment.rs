//! Segments: files that are only appended to, a *series* of them for records and one for lines.
//!
//! A segment is a row of frames, each a batch with its length and checksums, and has a number that grows. Once it is
//! large or old enough it is sealed: it gets an index beside it, and another is begun. Nothing in it changes any more
//! until it is too old, or the series too large, and it is removed: unlinking a file is all that retention costs.

mod builder;
mod frame;
mod index;
mod read;
mod sealed;
mod series;
mod terms;

pub(crate) use builder::FrameMeta;
pub(crate) use frame::{FRAME_HEADER, Found, Scanner, check, seal};
pub(crate) use read::Part;
pub(crate) use series::Series;
pub(crate) use terms::{Term, Wanted};

use std::path::{Path, PathBuf};

use crate::encode::Kind;

/// What a segment begins with: so that `file` and people can tell, and a form that comes later can be told apart.
const MAGIC: &[u8; 8] = b"tgseg\0\0\x01";
/// Where the first frame begins.
pub(crate) const FIRST_FRAME: u64 = MAGIC.len() as u64;

/// Which segment: all that is in its file's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Name {
    /// The time at which it was begun, in milliseconds since the epoch, or one more than the number before, whatever is
    /// larger: so numbers grow though clocks jump, and no number comes twice even where the whole folder was emptied.
    pub(crate) number: u64,
    /// Enters the checksums of its frames, so that what a function prints cannot pass for a frame.
    pub(crate) salt: u64,
}

impl Name {
    fn suffix(kind: Kind) -> &'static str {
        match kind {
            Kind::Records => ".records",
            Kind::Lines => ".lines",
        }
    }

    pub(crate) fn parse(file: &str, kind: Kind) -> Option<Self> {
        let (number, salt) = file.strip_suffix(Self::suffix(kind))?.split_once('-')?;
        let hex = |text: &str| {
            (text.len() == 16)
                .then(|| u64::from_str_radix(text, 16).ok())
                .flatten()
        };
        Some(Self {
            number: hex(number)?,
            salt: hex(salt)?,
        })
    }

    pub(crate) fn path(self, folder: &Path, kind: Kind) -> PathBuf {
        let suffix = Self::suffix(kind);
        folder.join(format!("{:016x}-{:016x}{suffix}", self.number, self.salt))
    }
}

/// The index that belongs to a segment.
pub(crate) fn index_path(segment: &Path) -> PathBuf {
    let mut path = segment.as_os_str().to_owned();
    path.push(INDEX_SUFFIX);
    path.into()
}

const INDEX_SUFFIX: &str = ".index";
/// Files that are being written; left behind by a crash, they mean nothing.
pub(crate) const UNFINISHED_SUFFIX: &str = ".new";
