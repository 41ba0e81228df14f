//! Reading a tar of a stranger's, one entry at a time.
//!
//! Our own, because a layer needs what a general reader gets wrong or hides: extension headers must be bounded before they
//! are in memory, the size that an extension header gives must count, and names are bytes that are judged as they stand.

use std::io::{self, Read};

/// Of headers, and what content is padded to.
const BLOCK: usize = 512;
/// Largest extension header in bytes: names of 4 KiB and the extended attributes of a file, which ext4 bounds at 64 KiB.
const MAX_EXTENSION: u64 = 1 << 20;
/// Most extension headers before one entry: a name, a link's target, and one of each POSIX kind.
const MAX_EXTENSIONS: usize = 8;

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Folder,
    Symlink,
    Hardlink,
    /// A device or pipe.
    Special,
}

/// An entry without its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) name: Vec<u8>,
    pub(crate) target: Vec<u8>,
    pub(crate) kind: Kind,
    pub(crate) mode: u32,
    /// Of the content that follows, in bytes.
    pub(crate) size: u64,
    /// Seconds since 1970.
    pub(crate) modified: i64,
}

/// Why it cannot be read on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TarError {
    #[error(transparent)]
    Read(#[from] io::Error),
    #[error("{0}")]
    Malformed(&'static str),
    #[error("{0}")]
    Unsupported(&'static str),
}

/// A tar that is read from front to back. Between two calls of `next` it reads as the content of the entry.
pub(crate) struct Tar<R> {
    from: R,
    left: u64,
    padding: u64,
    position: u64,
}

/// What extension headers say of the entry after them.
#[derive(Default)]
struct Extended {
    name: Option<Vec<u8>>,
    target: Option<Vec<u8>>,
    size: Option<u64>,
    modified: Option<i64>,
}

impl<R: Read> Tar<R> {
    pub(crate) fn new(from: R) -> Self {
        Self {
            from,
            left: 0,
            padding: 0,
            position: 0,
        }
    }

    /// Where the content of the current entry begins, in bytes from the start; until some of it is read.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// What was read from, wherever that stands.
    pub(crate) fn into_inner(self) -> R {
        self.from
    }

    /// The next entry, or nothing at the end of the archive. What is left of the one before is passed over.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>, TarError> {
        let mut extended = Extended::default();
        for _ in 0..=MAX_EXTENSIONS {
            self.pass_over()?;
            let Some(header) = self.header()? else {
                return Ok(None);
            };
            let size = number(&header[124..136])
                .filter(|size| *size <= i64::MAX as u64)
                .ok_or(TarError::Malformed("it has an entry with no valid size"))?;
            match header[156] {
                b'L' => extended.name = Some(text_of(self.extension(size)?)),
                b'K' => extended.target = Some(text_of(self.extension(size)?)),
                b'x' => pax(&self.extension(size)?, &mut extended)?,
                // Notes for all entries, such as git's commit id: nothing that is kept here.
                b'g' => drop(self.extension(size)?),
                kind => return self.entry(&header, kind, size, extended).map(Some),
            }
        }
        Err(TarError::Malformed(
            "it has too many extension headers before an entry",
        ))
    }

    fn entry(
        &mut self,
        header: &[u8; BLOCK],
        kind: u8,
        size: u64,
        extended: Extended,
    ) -> Result<Entry, TarError> {
        let size = extended.size.unwrap_or(size);
        let name = extended.name.unwrap_or_else(|| {
            let name = until_nul(&header[..100]);
            let prefix = until_nul(&header[345..500]);
            // GNU's headers have other fields there.
            if header[257..263] == *b"ustar\0" && !prefix.is_empty() {
                [prefix, b"/", name].concat()
            } else {
                name.to_vec()
            }
        });
        let kind = match kind {
            b'0' | b'\0' | b'7' if name.ends_with(b"/") => Kind::Folder,
            b'0' | b'\0' | b'7' => Kind::File,
            b'1' => Kind::Hardlink,
            b'2' => Kind::Symlink,
            b'3' | b'4' | b'6' => Kind::Special,
            b'5' => Kind::Folder,
            b'S' => {
                return Err(TarError::Unsupported(
                    "it has a file with holes (GNU sparse)",
                ));
            }
            _ => return Err(TarError::Unsupported("it has an entry of an unknown kind")),
        };
        // Whatever the others claim, nothing follows them that this could be the size of.
        let content = if kind == Kind::File { size } else { 0 };
        self.left = content;
        self.padding = padding(content);
        Ok(Entry {
            name,
            target: extended
                .target
                .unwrap_or_else(|| until_nul(&header[157..257]).to_vec()),
            kind,
            mode: number(&header[100..108]).unwrap_or(0) as u32 & 0o7777,
            size: content,
            modified: extended.modified.unwrap_or_else(|| {
                number(&header[136..148]).unwrap_or(0).min(i64::MAX as u64) as i64
            }),
        })
    }

    /// A header, or nothing at the end. Archives that simply end are accepted, as all tools accept them.
    fn header(&mut self) -> Result<Option<[u8; BLOCK]>, TarError> {
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            match self.from.read(&mut block[filled..]) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(TarError::Malformed("it ends in the middle of a header")),
                Ok(n) => filled += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e.into()),
            }
        }
        self.position += BLOCK as u64;
        if block.iter().all(|b| *b == 0) {
            return Ok(None);
        }
        let sum: u64 = block
            .iter()
            .enumerate()
            .map(|(i, b)| {
                if (148..156).contains(&i) {
                    32
                } else {
                    u64::from(*b)
                }
            })
            .sum();
        if number(&block[148..156]) == Some(sum) {
            Ok(Some(block))
        } else {
            Err(TarError::Malformed("it is no tar, or has a damaged header"))
        }
    }

    fn extension(&mut self, size: u64) -> Result<Vec<u8>, TarError> {
        if size > MAX_EXTENSION {
            return Err(TarError::Malformed(
                "it has an extension header above 1 MiB",
            ));
        }
        self.left = size;
        self.padding = padding(size);
        let mut content = Vec::new();
        self.read_to_end(&mut content)?;
        Ok(content)
    }

    fn pass_over(&mut self) -> Result<(), TarError> {
        io::copy(self, &mut io::sink())?;
        let mut padding = vec![0; self.padding as usize];
        self.padding = 0;
        self.position += padding.len() as u64;
        self.from.read_exact(&mut padding)?;
        Ok(())
    }
}

impl<R: Read> Read for Tar<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let most = into
            .len()
            .min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if most == 0 {
            return Ok(0);
        }
        match self.from.read(&mut into[..most])? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            n => {
                self.left -= n as u64;
                self.position += n as u64;
                Ok(n)
            }
        }
    }
}

fn padding(size: u64) -> u64 {
    (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64
}

fn until_nul(field: &[u8]) -> &[u8] {
    let end = field.iter().position(|b| *b == 0).unwrap_or(field.len());
    &field[..end]
}

fn text_of(mut content: Vec<u8>) -> Vec<u8> {
    content.truncate(until_nul(&content).len());
    content
}

/// A number in octal digits, or, with the first bit set, in the bytes that follow; both as old tools wrote them.
fn number(field: &[u8]) -> Option<u64> {
    if field[0] & 0x80 != 0 {
        // The second bit is the sign: nothing here is negative.
        if field[0] & 0x40 != 0 {
            return None;
        }
        let first = u64::from(field[0] & 0x3f);
        return field[1..].iter().try_fold(first, |sum, b| {
            sum.checked_mul(256)?.checked_add(u64::from(*b))
        });
    }
    let text = std::str::from_utf8(until_nul(field)).ok()?.trim();
    if text.is_empty() {
        return Some(0);
    }
    if text.starts_with('+') {
        return None;
    }
    u64::from_str_radix(text, 8).ok()
}

/// Records of the form `LENGTH KEY=VALUE\n`, where the length counts all of the record.
fn pax(mut content: &[u8], extended: &mut Extended) -> Result<(), TarError> {
    const MALFORMED: TarError = TarError::Malformed("it has a malformed extension header");
    while !content.is_empty() {
        let space = content
            .iter()
            .take(20)
            .position(|b| *b == b' ')
            .ok_or(MALFORMED)?;
        let length: usize = std::str::from_utf8(&content[..space])
            .ok()
            .and_then(|digits| digits.parse().ok())
            .ok_or(MALFORMED)?;
        if length <= space + 1 || length > content.len() || content[length - 1] != b'\n' {
            return Err(MALFORMED);
        }
        let record = &content[space + 1..length - 1];
        content = &content[length..];
        let equals = record.iter().position(|b| *b == b'=').ok_or(MALFORMED)?;
        let (key, value) = (&record[..equals], &record[equals + 1..]);
        let text = || std::str::from_utf8(value).map_err(|_| MALFORMED);
        match key {
            b"path" => extended.name = Some(value.to_vec()),
            b"linkpath" => extended.target = Some(value.to_vec()),
            b"size" => {
                let size = text()?.parse().map_err(|_| MALFORMED)?;
                if size > i64::MAX as u64 {
                    return Err(MALFORMED);
                }
                extended.size = Some(size);
            }
            b"mtime" => {
                let seconds = text()?.split('.').next().unwrap_or("");
                extended.modified = Some(seconds.parse().map_err(|_| MALFORMED)?);
            }
            _ if key.starts_with(b"GNU.sparse.") => {
                return Err(TarError::Unsupported(
                    "it has a file with holes (GNU sparse)",
                ));
            }
            // Owners, extended attributes (capabilities among them), comments.
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
