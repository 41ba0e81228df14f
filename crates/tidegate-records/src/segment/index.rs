//! The index of a sealed segment: a file beside it.
//!
//! A head, a row of all frames, and all (term, frame) pairs in order. A look-up is a binary search with reads of a few
//! bytes, which the machine's page cache answers; nothing of an index stays in this process but its head.

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use crc32fast::Hasher;
use rustix::fs::{MemfdFlags, memfd_create};

use super::builder::{Builder, FrameMeta, Summary, intersect};
use super::{Term, UNFINISHED_SUFFIX, Wanted, index_path};
use crate::encode::Input;

const MAGIC: &[u8; 8] = b"tgidx\0\0\x01";
const HEAD: usize = 72;
const FRAME: usize = 28;
const PAIR: usize = 8;
/// Pairs read at once where a term has many.
const PAIRS: usize = 4096;

/// What the head of an index says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    /// Bytes of the segment that it is about.
    data: u64,
    frames: u32,
    pairs: u64,
    pub(crate) summary: Summary,
}

/// An index that is open.
#[derive(Debug)]
pub(crate) struct Index {
    file: File,
    head: Head,
}

/// Writes the index of a segment of `data` bytes. It appears whole or not at all, unless the machine crashes: then its
/// checksums tell, and it is made anew. So nothing waits for the disk here.
pub(crate) fn write(segment: &Path, data: u64, builder: &Builder) -> io::Result<(Head, u64)> {
    let head = Head::of(data, builder);
    let path = index_path(segment);
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(UNFINISHED_SUFFIX);
    let write = || {
        let file = write_to(File::create(&unfinished)?, &head, builder)?;
        std::fs::rename(&unfinished, &path)?;
        Ok(file.metadata()?.len())
    };
    let written: io::Result<u64> = write();
    if written.is_err() {
        // The disk may be full: what is of no use must not take room.
        let _ = std::fs::remove_file(&unfinished);
    }
    Ok((head, written?))
}

/// The same in memory, for as long as it is asked: for a disk that takes no index.
pub(crate) fn in_memory(data: u64, builder: &Builder) -> io::Result<Index> {
    let head = Head::of(data, builder);
    let file = memfd_create("index", MemfdFlags::CLOEXEC)?;
    let file = write_to(file.into(), &head, builder)?;
    Ok(Index { file, head })
}

fn write_to(file: File, head: &Head, builder: &Builder) -> io::Result<File> {
    let mut file = BufWriter::with_capacity(64 * 1024, file);
    file.write_all(&head.bytes())?;
    let mut hasher = Hasher::new();
    let mut put = |bytes: &[u8]| {
        hasher.update(bytes);
        file.write_all(bytes)
    };
    for frame in &builder.frames {
        put(&frame_bytes(frame))?;
    }
    let mut pairs: Vec<u64> = Vec::with_capacity(builder.terms.len());
    let number = |(term, frame): &(Term, u32)| (u64::from(term.0) << 32) | u64::from(*frame);
    pairs.extend(builder.terms.iter().map(number));
    pairs.sort_unstable();
    for pair in &pairs {
        // Big-endian, so that the order of bytes is the order of pairs.
        put(&pair.to_be_bytes())?;
    }
    file.write_all(&hasher.finalize().to_le_bytes())?;
    file.into_inner().map_err(io::IntoInnerError::into_error)
}

fn frame_bytes(frame: &FrameMeta) -> [u8; FRAME] {
    let mut bytes = [0; FRAME];
    bytes[..4].copy_from_slice(&frame.offset.to_le_bytes());
    bytes[4..8].copy_from_slice(&frame.length.to_le_bytes());
    bytes[8..12].copy_from_slice(&frame.items.to_le_bytes());
    bytes[12..20].copy_from_slice(&frame.first_us.to_le_bytes());
    bytes[20..].copy_from_slice(&frame.last_us.to_le_bytes());
    bytes
}

fn read_frame(bytes: &[u8]) -> Option<FrameMeta> {
    let mut input = Input::new(bytes);
    Some(FrameMeta {
        offset: input.u32().ok()?,
        length: input.u32().ok()?,
        items: input.u32().ok()?,
        first_us: input.u64().ok()?,
        last_us: input.u64().ok()?,
    })
}

// === impl Head ===

impl Head {
    fn of(data: u64, builder: &Builder) -> Self {
        Self {
            data,
            frames: builder.frames.len() as u32,
            pairs: builder.terms.len() as u64,
            summary: builder.summary,
        }
    }

    fn bytes(&self) -> [u8; HEAD] {
        let mut bytes = Vec::with_capacity(HEAD);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&self.data.to_le_bytes());
        bytes.extend_from_slice(&self.frames.to_le_bytes());
        bytes.extend_from_slice(&self.pairs.to_le_bytes());
        let summary = &self.summary;
        for number in [
            summary.items,
            summary.first_us,
            summary.last_us,
            summary.first_id_us,
            summary.last_id_us,
        ] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
        bytes.try_into().expect("the fields make the head's length")
    }

    fn parse(bytes: &[u8; HEAD]) -> Option<Self> {
        let (fields, checksum) = bytes.split_last_chunk::<4>()?;
        let mut input = Input::new(fields.strip_prefix(MAGIC)?);
        if crc32fast::hash(fields) != u32::from_le_bytes(*checksum) {
            return None;
        }
        Some(Self {
            data: input.u64().ok()?,
            frames: input.u32().ok()?,
            pairs: input.u64().ok()?,
            summary: Summary {
                items: input.u64().ok()?,
                first_us: input.u64().ok()?,
                last_us: input.u64().ok()?,
                first_id_us: input.u64().ok()?,
                last_id_us: input.u64().ok()?,
            },
        })
    }

    const fn frames_at(&self, frame: u32) -> u64 {
        HEAD as u64 + frame as u64 * FRAME as u64
    }

    const fn pairs_at(&self, pair: u64) -> u64 {
        self.frames_at(self.frames) + pair * PAIR as u64
    }
}

// === impl Index ===

impl Index {
    /// Opens the index of a segment of `data` bytes. `None` if there is none, or it is another's, or damaged; the whole
    /// file is looked through only if `verify` says so.
    pub(crate) fn open(segment: &Path, data: u64, verify: bool) -> io::Result<Option<Self>> {
        let file = match File::open(index_path(segment)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let mut bytes = [0; HEAD];
        match file.read_exact_at(&mut bytes, 0) {
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            read => read?,
        }
        let length = file.metadata()?.len();
        let fits = |head: &Head| {
            let room = length.checked_sub(HEAD as u64 + 4)?;
            let wanted = u64::from(head.frames) * FRAME as u64;
            let wanted = wanted.checked_add(head.pairs.checked_mul(PAIR as u64)?)?;
            (room == wanted && head.data == data).then_some(())
        };
        let Some(head) = Head::parse(&bytes).filter(|head| fits(head).is_some()) else {
            return Ok(None);
        };
        let index = Self { file, head };
        Ok((!verify || index.is_whole()?).then_some(index))
    }

    fn is_whole(&self) -> io::Result<bool> {
        let (mut at, end) = (HEAD as u64, self.head.pairs_at(self.head.pairs));
        let mut hasher = Hasher::new();
        let mut window = vec![0; 256 * 1024];
        while at < end {
            let length = window.len().min((end - at) as usize);
            self.file.read_exact_at(&mut window[..length], at)?;
            hasher.update(&window[..length]);
            at += length as u64;
        }
        let mut checksum = [0; 4];
        self.file.read_exact_at(&mut checksum, end)?;
        Ok(hasher.finalize() == u32::from_le_bytes(checksum))
    }

    pub(crate) const fn head(&self) -> &Head {
        &self.head
    }

    pub(crate) fn bytes(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// What is known of these frames, as far as there are so many.
    pub(crate) fn frames(&self, range: Range<u32>) -> io::Result<Vec<FrameMeta>> {
        let end = range.end.min(self.head.frames);
        let start = range.start.min(end);
        let mut bytes = vec![0; (end - start) as usize * FRAME];
        self.file
            .read_exact_at(&mut bytes, self.head.frames_at(start))?;
        Ok(bytes.chunks_exact(FRAME).filter_map(read_frame).collect())
    }

    /// The frames that have what is wanted, oldest first.
    pub(crate) fn find(&self, wanted: &Wanted) -> io::Result<Vec<u32>> {
        let mut lists = Vec::with_capacity(wanted.groups.len());
        for group in &wanted.groups {
            let mut frames = Vec::new();
            for term in group {
                self.with(*term, &mut frames)?;
            }
            frames.sort_unstable();
            frames.dedup();
            if frames.is_empty() {
                return Ok(frames);
            }
            lists.push(frames);
        }
        let all = || (0..self.head.frames).collect();
        Ok(intersect(lists.into_iter()).unwrap_or_else(all))
    }

    /// Appends the frames that have this term.
    fn with(&self, term: Term, frames: &mut Vec<u32>) -> io::Result<()> {
        let (mut low, mut high) = (0, self.head.pairs);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.pair(middle)?.0 < term {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let mut bytes = [0; PAIR * PAIRS];
        // Most terms are in one frame.
        let mut count = 4;
        while low < self.head.pairs {
            let length = count.min((self.head.pairs - low) as usize);
            let bytes = &mut bytes[..length * PAIR];
            self.file.read_exact_at(bytes, self.head.pairs_at(low))?;
            for pair in bytes.chunks_exact(PAIR) {
                let (of, frame) = read_pair(pair);
                if of != term {
                    return Ok(());
                }
                frames.push(frame);
            }
            low += length as u64;
            count = PAIRS;
        }
        Ok(())
    }

    fn pair(&self, at: u64) -> io::Result<(Term, u32)> {
        let mut bytes = [0; PAIR];
        self.file
            .read_exact_at(&mut bytes, self.head.pairs_at(at))?;
        Ok(read_pair(&bytes))
    }
}

fn read_pair(bytes: &[u8]) -> (Term, u32) {
    let number = bytes
        .iter()
        .fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    (Term((number >> 32) as u32), number as u32)
}
