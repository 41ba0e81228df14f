//! What can be set, and what is told about how it goes.

use std::path::PathBuf;
use std::time::Duration;

/// Settings of a [`Recorder`](crate::Recorder).
#[derive(Clone, Debug)]
pub struct Options {
    /// How records are kept.
    pub records: Retention,
    /// How lines are kept.
    pub lines: Retention,
    /// How long sums of usage are kept.
    pub keep_usage_for: Duration,
    /// Most bytes of records that wait in memory to be written; lines have as many of their own. Records of successful
    /// calls are given up beyond half of it.
    pub buffer_bytes: usize,
    /// How often what waits is written.
    pub write_every: Duration,
    /// What a billed duration is rounded up to.
    pub granularity: Duration,
}

/// How a series of segments is kept.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    /// A segment of so many bytes is sealed and the next one begun; at most [`MAX_SEGMENT_BYTES`].
    pub segment_bytes: u64,
    /// A segment of this age is sealed as well, so that it can grow too old.
    pub segment_age: Duration,
    /// Segments whose last entry is older are removed.
    pub keep_for: Duration,
    /// The oldest segments are removed while all together have more bytes, indexes included. Where there are several
    /// namespaces, one may fill half of it at once, and a quarter more a day.
    pub keep_bytes: u64,
}

/// Largest segment: places in one are told in 32 bits, and one is read whole when its index was lost.
pub const MAX_SEGMENT_BYTES: u64 = 1 << 30;

const DAY: Duration = Duration::from_secs(24 * 3600);

impl Default for Options {
    fn default() -> Self {
        Self {
            // Some sixty million records.
            records: Retention {
                segment_bytes: 32 << 20,
                segment_age: DAY / 24,
                keep_for: DAY * 30,
                keep_bytes: 4 << 30,
            },
            // What functions print is larger and is asked for sooner.
            lines: Retention {
                segment_bytes: 32 << 20,
                segment_age: DAY / 24,
                keep_for: DAY * 7,
                keep_bytes: 2 << 30,
            },
            // A year's bill, and the month in which it is looked at.
            keep_usage_for: DAY * 400,
            // A second of records at the highest rate that two cores serve, should a disk take that long.
            buffer_bytes: 16 << 20,
            // Rare enough that a write serves many calls, often enough that a crash of the server loses next to nothing.
            write_every: Duration::from_millis(50),
            granularity: Duration::from_millis(1),
        }
    }
}

/// What was found when the folder was opened.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct OpenReport {
    /// Segments that are there, of both kinds.
    pub segments: usize,
    /// Damage, at most [`MAX_REPORTED`] places; the batches there are lost, and no others.
    pub damage: Vec<Damage>,
    /// Bytes at the end of the last segments that a crash had left unfinished; they had not been acknowledged.
    pub unfinished_bytes: u64,
    /// Batches whose usage was counted anew, because they were behind the last checkpoint.
    pub replayed: u64,
    /// Whether no checkpoint of the usage could be read though there are records: it was counted anew from them, and is
    /// short of what was used by calls whose segments are gone.
    pub usage_rebuilt: bool,
}

/// Most places of damage in an [`OpenReport`].
pub const MAX_REPORTED: usize = 100;

/// Something that cannot be read any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub path: PathBuf,
    /// Bytes into it.
    pub offset: u64,
    /// Bytes lost.
    pub bytes: u64,
}

/// How it goes, since the recorder was opened.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Records written.
    pub written: u64,
    /// Lines written.
    pub lines_written: u64,
    /// Bytes written, of both.
    pub bytes_written: u64,
    /// Records of successful calls that were given up because the buffer was full.
    pub shed: u64,
    /// Records of the class that is never shed that were lost all the same: the disk took nothing for so long that the
    /// buffer was full.
    pub lost: u64,
    /// Records of calls that were turned away and left none, because many of their namespace were turned away before them
    /// in the same second.
    pub refusals: u64,
    /// Records of namespaces that had left more than their share.
    pub over_share: u64,
    /// Lines given up because the buffer was full, or their namespace had printed more than its share.
    pub lines_shed: u64,
    /// Writes that failed; they are tried again.
    pub failed_writes: u64,
    /// Segments that were removed before their time because the disk was full.
    pub freed: u64,
    /// Why nothing can be written now; absent where all is well.
    pub failing: Option<String>,
    /// Places of damage that readers came across.
    pub damaged: u64,
    /// Segments on disk, of both kinds.
    pub segments: usize,
    /// Bytes on disk, of both kinds, indexes included.
    pub bytes_on_disk: u64,
    /// Processor time of the thread that writes, in microseconds.
    pub writer_cpu_us: u64,
}
