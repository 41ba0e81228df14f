//! Frames: bytes that are found to be whole, or not.
//!
//! The header has a checksum of its own, so a damaged length is noticed before it leads anywhere, and the search for the
//! next frame begins. Both checksums depend on the frame's place and on the file's salt: bytes inside a frame that look
//! like one do not pass for it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use crc32fast::Hasher;

/// Bytes before a frame's payload: marker, length, checksum of the payload, checksum of these.
pub(crate) const FRAME_HEADER: usize = 16;
const MARKER: [u8; 4] = [0xf7, b'T', b'g', 0x9d];
/// Largest payload that is believed. What is written at once is bounded far below, by what may wait in memory.
const MAX_PAYLOAD: u32 = 64 << 20;
/// Bytes looked at together in the search for the next frame.
const WINDOW: usize = 64 * 1024;

/// Fills in the header of a frame: `frame` is [`FRAME_HEADER`] bytes of anything, then the payload.
pub(crate) fn seal(frame: &mut [u8], offset: u64, salt: u64) {
    let (header, payload) = frame.split_at_mut(FRAME_HEADER);
    header[..4].copy_from_slice(&MARKER);
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    header[4..8].copy_from_slice(&length.to_le_bytes());
    header[8..12].copy_from_slice(&crc32fast::hash(payload).to_le_bytes());
    let checksum = header_checksum(&header[..12], offset, salt);
    header[12..].copy_from_slice(&checksum.to_le_bytes());
}

fn header_checksum(head: &[u8], offset: u64, salt: u64) -> u32 {
    let mut hasher = Hasher::new();
    hasher.update(head);
    hasher.update(&offset.to_le_bytes());
    hasher.update(&salt.to_le_bytes());
    hasher.finalize()
}

/// Length and checksum of the payload, if these are the first bytes of a frame at this place.
fn open_header(header: &[u8], offset: u64, salt: u64) -> Option<(u32, u32)> {
    let word = |at: usize| Some(u32::from_le_bytes(*header.get(at..)?.first_chunk()?));
    if header.get(..4)? != MARKER || header_checksum(&header[..12], offset, salt) != word(12)? {
        return None;
    }
    let (length, checksum) = (word(4)?, word(8)?);
    (length <= MAX_PAYLOAD).then_some((length, checksum))
}

/// The payload of a whole frame with this many bytes of payload, or nothing if it is damaged.
pub(crate) fn check(frame: &[u8], offset: u64, salt: u64) -> Option<&[u8]> {
    let (length, checksum) = open_header(frame.get(..FRAME_HEADER)?, offset, salt)?;
    let payload = &frame[FRAME_HEADER..];
    (payload.len() == length as usize && crc32fast::hash(payload) == checksum).then_some(payload)
}

/// Goes through the frames of a file.
#[derive(Debug)]
pub(crate) struct Scanner<'a> {
    file: &'a File,
    salt: u64,
    at: u64,
    end: u64,
    payload: Vec<u8>,
}

/// What a [`Scanner`] comes across.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found<'a> {
    /// A batch.
    Frame { offset: u64, payload: &'a [u8] },
    /// Bytes that are no frame, or a damaged one.
    Damaged { offset: u64, bytes: u64 },
}

impl<'a> Scanner<'a> {
    /// Goes through what lies between these two places.
    pub(crate) const fn new(file: &'a File, salt: u64, from: u64, end: u64) -> Self {
        Self {
            file,
            salt,
            at: from,
            end,
            payload: Vec::new(),
        }
    }

    /// The next thing in the file; `None` at its end.
    pub(crate) fn next(&mut self) -> io::Result<Option<Found<'_>>> {
        if self.at >= self.end {
            return Ok(None);
        }
        let offset = self.at;
        let mut header = [0; FRAME_HEADER];
        let whole = self.end - offset >= FRAME_HEADER as u64;
        if whole {
            self.file.read_exact_at(&mut header, offset)?;
        }
        let opened = open_header(&header, offset, self.salt).filter(|_| whole);
        let frame = opened.map(|(length, checksum)| {
            let end = offset + FRAME_HEADER as u64 + u64::from(length);
            (length as usize, checksum, end)
        });
        match frame {
            Some((length, checksum, end)) if end <= self.end => {
                self.at = end;
                self.payload.resize(length, 0);
                let from = offset + FRAME_HEADER as u64;
                self.file.read_exact_at(&mut self.payload, from)?;
                Ok(Some(if crc32fast::hash(&self.payload) == checksum {
                    Found::Frame {
                        offset,
                        payload: &self.payload,
                    }
                } else {
                    Found::Damaged {
                        offset,
                        bytes: end - offset,
                    }
                }))
            }
            _ => {
                self.at = self.search(offset + 1)?;
                Ok(Some(Found::Damaged {
                    offset,
                    bytes: self.at - offset,
                }))
            }
        }
    }

    /// Where the next frame's header is, or the end.
    fn search(&self, mut from: u64) -> io::Result<u64> {
        let mut window = vec![0; WINDOW];
        while from + FRAME_HEADER as u64 <= self.end {
            let length = WINDOW.min((self.end - from) as usize);
            let window = &mut window[..length];
            self.file.read_exact_at(window, from)?;
            for (at, header) in window.windows(FRAME_HEADER).enumerate() {
                let offset = from + at as u64;
                if header[0] == MARKER[0] && open_header(header, offset, self.salt).is_some() {
                    return Ok(offset);
                }
            }
            // The last bytes may be the beginning of a header.
            from += (length - FRAME_HEADER + 1) as u64;
        }
        Ok(self.end)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn file(frames: &[Vec<u8>], salt: u64) -> (Vec<u8>, Vec<u64>) {
        let (mut bytes, mut starts) = (Vec::new(), Vec::new());
        for payload in frames {
            let offset = bytes.len() as u64;
            let mut frame = [vec![0; FRAME_HEADER], payload.clone()].concat();
            seal(&mut frame, offset, salt);
            bytes.extend(frame);
            starts.push(offset);
        }
        (bytes, starts)
    }

    /// What is whole, and what is damaged, each with its place.
    type Scanned = (Vec<(u64, Vec<u8>)>, Vec<(u64, u64)>);

    fn scan(bytes: &[u8], salt: u64) -> Scanned {
        let mut file = tempfile::tempfile().unwrap();
        io::Write::write_all(&mut file, bytes).unwrap();
        let mut scanner = Scanner::new(&file, salt, 0, bytes.len() as u64);
        let (mut whole, mut damaged) = (Vec::new(), Vec::new());
        while let Some(found) = scanner.next().unwrap() {
            match found {
                Found::Frame { offset, payload } => whole.push((offset, payload.to_vec())),
                Found::Damaged { offset, bytes } => damaged.push((offset, bytes)),
            }
        }
        (whole, damaged)
    }

    fn payloads() -> impl Strategy<Value = Vec<Vec<u8>>> {
        proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 1..12)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_flipped_bit_costs_one_frame(payloads in payloads(), salt: u64, at: prop::sample::Index, bit in 0..8_u32) {
            let (mut bytes, starts) = file(&payloads, salt);
            let at = at.index(bytes.len());
            bytes[at] ^= 1_u8 << bit;
            let hit = starts.iter().rposition(|start| *start as usize <= at).unwrap();
            let (whole, damaged) = scan(&bytes, salt);
            let left = starts.iter().copied().zip(payloads).enumerate();
            let left: Vec<_> = left.filter(|(n, _)| *n != hit).map(|(_, frame)| frame).collect();
            prop_assert_eq!(whole, left);
            prop_assert_eq!(damaged.len(), 1);
            prop_assert_eq!(damaged[0].0, starts[hit]);
        }

        #[test]
        fn a_torn_end_costs_what_was_torn(payloads in payloads(), salt: u64, at: prop::sample::Index) {
            let (bytes, starts) = file(&payloads, salt);
            let length = at.index(bytes.len());
            let (whole, damaged) = scan(&bytes[..length], salt);
            let ends = starts[1..].iter().copied().chain([bytes.len() as u64]);
            let kept = ends.filter(|end| *end as usize <= length).count();
            prop_assert_eq!(whole.len(), kept);
            let lost: u64 = damaged.iter().map(|(_, bytes)| bytes).sum();
            let wanted = if kept < starts.len() { length as u64 - starts[kept] } else { 0 };
            prop_assert_eq!(lost, wanted);
        }

        #[test]
        fn any_bytes_are_scanned_to_their_end(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
            let (whole, _) = scan(&bytes, 7);
            prop_assert!(whole.is_empty());
        }
    }

    #[test]
    fn a_frame_inside_a_frame_is_not_believed() {
        let (inner, _) = file(&[b"forged".to_vec()], 1);
        let (mut bytes, _) = file(&[inner, b"next".to_vec()], 2);
        bytes[5] ^= 1;
        let (whole, damaged) = scan(&bytes, 2);
        assert_eq!(whole.len(), 1);
        assert_eq!(whole[0].1, b"next");
        assert_eq!(damaged.len(), 1);
    }

    #[test]
    fn the_search_crosses_its_windows() {
        let salt = 3;
        let large = vec![0xf7; WINDOW * 2 + 11];
        let (mut bytes, starts) = file(&[large, b"behind".to_vec()], salt);
        bytes[4] ^= 1;
        let (whole, damaged) = scan(&bytes, salt);
        assert_eq!(whole, [(starts[1], b"behind".to_vec())]);
        assert_eq!(damaged, [(0, starts[1])]);
    }
}
