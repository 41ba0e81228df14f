//! Zip archives, under the same rules.
//!
//! A zip says everything twice, in a directory at its end and before each entry, and readers differ in what they believe.
//! The directory alone is believed here, as far as it is not contradicted: sizes are counted as they come out, checksums
//! compared, and names that stand twice refused.

use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use zip::ZipArchive;
use zip::result::ZipError;

use super::{UnpackError, UnpackLimits, Unpacker, name, shown, staged};
use crate::limits::MAX_PATH;
use crate::link::LinkError;

/// The record at the end of a zip, less its comment.
const END: usize = 22;

/// Longest comment behind it.
const COMMENT: usize = 65_535;

/// Kinds of files in the mode that Unix packers write.
const KIND: u32 = 0o170_000;
const FILE: u32 = 0o100_000;
const FOLDER: u32 = 0o040_000;
const LINK: u32 = 0o120_000;

/// Unpacks a zip to `dest`, as [`crate::unpack`] does a `.tar.gz`.
///
/// # Errors
/// As [`crate::unpack`]; or an entry is encrypted or compressed in an unusual way.
pub fn unpack_zip(
    mut archive: impl Read + Seek,
    dest: &Path,
    limits: &UnpackLimits,
) -> Result<(), UnpackError> {
    let entries = entries(&mut archive)?;
    if entries > limits.entries {
        return Err(UnpackError::Limit {
            limit: limits.entries as u64,
            of: "entries",
        });
    }
    let mut zip = ZipArchive::new(archive).map_err(malformed)?;
    if zip.len() != entries {
        // The directory is kept by name, so names that stand twice are missing from it.
        return Err(UnpackError::Collision("a name that stands twice".into()));
    }
    staged(dest, limits, |mut unpacker| {
        (0..entries).try_for_each(|at| entry(&mut unpacker, &mut zip, at))
    })
}

fn entry<R: Read + Seek>(
    unpacker: &mut Unpacker<'_>,
    zip: &mut ZipArchive<R>,
    at: usize,
) -> Result<(), UnpackError> {
    // Encryption and compression are looked at before the content is, which the library would refuse in its own words.
    let raw = {
        let entry = zip.by_index_raw(at).map_err(malformed)?;
        let raw = entry.name().map_err(malformed)?.into_owned();
        if entry.encrypted() {
            return Err(UnpackError::Encrypted(shown(raw.as_bytes())));
        }
        raw
    };
    let limits = unpacker.limits;
    let name = name::clean(raw.as_bytes(), limits.path, limits.depth).map_err(|why| {
        UnpackError::Name {
            name: shown(raw.as_bytes()),
            why,
        }
    })?;
    let mut entry = zip.by_index(at).map_err(|e| match e {
        ZipError::CompressionMethodNotSupported(_) | ZipError::UnsupportedArchive(_) => {
            UnpackError::Compression(shown(raw.as_bytes()))
        }
        e => malformed(e),
    })?;
    let mode = entry.unix_mode().unwrap_or(0);
    let refused = |kind| UnpackError::Kind {
        name: shown(raw.as_bytes()),
        kind,
    };
    match mode & KIND {
        _ if raw.ends_with('/') => unpacker.folder(&name),
        FOLDER => unpacker.folder(&name),
        0 | FILE => {
            let size = entry.size();
            unpacker.write(&name, &mut entry, size, mode & 0o100 != 0)?;
            // One byte more than it said is a lie, and at the end of the content the checksum is compared.
            match entry.read(&mut [0]) {
                Ok(0) => Ok(()),
                Ok(_) => Err(bad("an entry is longer than it says")),
                Err(e) => Err(UnpackError::Malformed(e)),
            }
        }
        LINK => {
            let mut target = Vec::new();
            (&mut entry)
                .take(MAX_PATH as u64 + 1)
                .read_to_end(&mut target)
                .map_err(UnpackError::Malformed)?;
            if target.len() > MAX_PATH {
                return Err(UnpackError::Link {
                    name,
                    target: shown(&target),
                    why: LinkError::Malformed,
                });
            }
            unpacker.link(&name, &target)
        }
        0o020_000 | 0o060_000 => Err(refused("a device")),
        0o010_000 => Err(refused("a pipe")),
        _ => Err(refused("of an unknown kind")),
    }
}

/// The number of entries that the record at the end says there are: known before the library reads the directory into
/// memory.
fn entries(archive: &mut (impl Read + Seek)) -> Result<usize, UnpackError> {
    let length = archive
        .seek(SeekFrom::End(0))
        .map_err(UnpackError::Malformed)?;
    let tail = length.min((END + COMMENT) as u64);
    archive
        .seek(SeekFrom::Start(length - tail))
        .map_err(UnpackError::Malformed)?;
    let mut bytes = Vec::new();
    archive
        .take(tail)
        .read_to_end(&mut bytes)
        .map_err(UnpackError::Malformed)?;
    archive.rewind().map_err(UnpackError::Malformed)?;
    let record = bytes
        .windows(END)
        .rev()
        .find(|record| record.starts_with(b"PK\x05\x06"))
        .ok_or_else(|| bad("there is no directory at the end"))?;
    // More than this field holds is more than any limit.
    Ok(usize::from(u16::from_le_bytes([record[10], record[11]])))
}

fn bad(what: &'static str) -> UnpackError {
    UnpackError::Malformed(io::Error::new(io::ErrorKind::InvalidData, what))
}

fn malformed(error: ZipError) -> UnpackError {
    UnpackError::Malformed(match error {
        ZipError::Io(error) => error,
        error => io::Error::new(io::ErrorKind::InvalidData, error),
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::{Cursor, Write as _};

    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    use super::*;

    const LIMITS: UnpackLimits = UnpackLimits {
        entries: 10,
        bytes: 100_000,
        path: 300,
        depth: 5,
    };

    enum Kind {
        File,
        Folder,
        Link,
    }
    use Kind::{File, Folder, Link};

    fn make(entries: &[(&str, Kind, &str)]) -> Vec<u8> {
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        // As it is, so that a test can find it in the bytes.
        let plain = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
        for (name, kind, content) in entries {
            match kind {
                File => {
                    zip.start_file(*name, plain.unix_permissions(0o755))
                        .unwrap();
                    zip.write_all(content.as_bytes()).unwrap();
                }
                Folder => zip.add_directory(*name, plain).unwrap(),
                Link => zip.add_symlink(*name, *content, plain).unwrap(),
            }
        }
        zip.finish().unwrap().into_inner()
    }

    /// Unpacks and says `ok` or the error; nothing may be left beside the folder, and with an error nothing at all.
    fn check(zip: &[u8], expected: &str) {
        let dir = tempfile::tempdir().unwrap();
        let dest = dir.path().join("x");
        let said = match unpack_zip(Cursor::new(zip), &dest, &LIMITS) {
            Ok(()) => "ok".to_owned(),
            Err(e) => e.to_string(),
        };
        assert!(said.starts_with(expected), "{said} is not {expected}");
        let left = fs::read_dir(dir.path()).unwrap().count();
        assert_eq!(left, usize::from(said == "ok"), "{said}");
    }

    /// The same with some bytes replaced wherever they stand, as a hostile packer would.
    fn forged(zip: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
        assert_eq!(from.len(), to.len());
        let (mut zip, mut at, mut found) = (zip.to_vec(), 0, false);
        while at + from.len() <= zip.len() {
            if zip[at..].starts_with(from) {
                zip[at..at + to.len()].copy_from_slice(to);
                found = true;
            }
            at += 1;
        }
        assert!(found, "there is something to forge");
        zip
    }

    #[test]
    fn a_bomb_is_not_unpacked_further_than_its_limit() {
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        zip.start_file("bomb", SimpleFileOptions::default())
            .unwrap();
        zip.write_all(&vec![0; 10_000_000]).unwrap();
        let zip = zip.finish().unwrap().into_inner();
        assert!(zip.len() < 20_000, "{} bytes", zip.len());
        check(&zip, "archive has more than 100000 bytes of files");
    }

    #[test]
    fn an_honest_zip_is_unpacked() {
        let dir = tempfile::tempdir().unwrap();
        let dest = dir.path().join("x");
        let zip = make(&[
            ("lib/", Folder, ""),
            ("lib/a.txt", File, "hello"),
            ("lib/deep/b.txt", File, ""),
            ("lib/link", Link, "../lib/a.txt"),
        ]);
        unpack_zip(Cursor::new(zip), &dest, &LIMITS).unwrap();
        assert_eq!(fs::read(dest.join("lib/link")).unwrap(), b"hello");
        assert!(dest.join("lib/deep/b.txt").is_file());
    }

    #[test]
    fn hostile_zips_leave_nothing() {
        let a = |name: &str| make(&[(name, File, "hello")]);
        let one = a("aaaa");
        for (zip, expected) in [
            (
                forged(&a("xx/a"), b"xx/a", b"../a"),
                "archive entry \"../a\" has '..'",
            ),
            (
                forged(&a("xaaa"), b"xaaa", b"/aaa"),
                "archive entry \"/aaa\" is absolute",
            ),
            (
                make(&[("l", Link, "/etc")]),
                "archive link \"l\" points to \"/etc\", which is absolute",
            ),
            (
                make(&[("d/l", Link, "../../x")]),
                "archive link \"d/l\" points to",
            ),
            (
                make(&[("d", Link, "."), ("d/x", File, "y")]),
                "archive entry \"d\" collides with an earlier one",
            ),
            (
                forged(
                    &make(&[("aaaa", File, "x"), ("bbbb", File, "y")]),
                    b"bbbb",
                    b"aaaa",
                ),
                "archive entry \"a name that stands twice\" collides",
            ),
            (
                make(&[("a", File, "x"), ("a/b", File, "y")]),
                "archive entry \"a\" collides with an earlier one",
            ),
            (
                make(&[
                    ("a", File, &"0".repeat(60_000)),
                    ("b", File, &"0".repeat(60_000)),
                ]),
                "archive has more than 100000 bytes of files",
            ),
            (
                make(
                    &(0..11)
                        .map(|_| ())
                        .enumerate()
                        .map(|(i, ())| (NAMES[i], File, ""))
                        .collect::<Vec<_>>(),
                ),
                "archive has more than 10 entries",
            ),
            (
                make(&[("1/2/3/4/5/6", File, "")]),
                "archive entry \"1/2/3/4/5/6\" is too long or nested too deep",
            ),
            (one[..one.len() - 10].to_vec(), "archive is damaged"),
            (
                b"PK\x03\x04 and then nothing".to_vec(),
                "archive is damaged",
            ),
            (forged(&one, b"hello", b"jello"), "archive is damaged"),
            (device(&one), "archive entry \"aaaa\" is a device"),
            (flagged(&one), "archive entry \"aaaa\" is encrypted"),
        ] {
            check(&zip, expected);
        }
    }

    const NAMES: [&str; 11] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k"];

    /// Sets the kind in the directory's attributes.
    fn device(zip: &[u8]) -> Vec<u8> {
        let mut zip = zip.to_vec();
        let at = zip.windows(4).position(|w| w == b"PK\x01\x02").unwrap();
        zip[at + 38..at + 42].copy_from_slice(&(0o020_644_u32 << 16).to_le_bytes());
        zip
    }

    /// Sets the flag of encryption in both places.
    fn flagged(zip: &[u8]) -> Vec<u8> {
        let mut zip = zip.to_vec();
        zip[6] |= 1;
        let at = zip.windows(4).position(|w| w == b"PK\x01\x02").unwrap();
        zip[at + 8] |= 1;
        zip
    }
}
