//! How a layer is compressed: as its first bytes say, since media types are wrong often enough.

use std::io::{self, BufReader, Read};

use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::FrameDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};

/// Bytes that tell.
const MAGIC: usize = 4;
/// Bytes read at a time.
const CHUNK: usize = 64 << 10;

/// What was read ahead, and all after it.
type Whole<R> = io::Chain<io::Cursor<Vec<u8>>, R>;

/// A stream with its compression taken away.
pub(crate) enum Plain<R: Read> {
    /// There was none.
    Tar(BufReader<Whole<R>>),
    /// Of one member or several.
    Gzip(Box<MultiGzDecoder<BufReader<Whole<R>>>>),
    Zstd(Box<Frames<BufReader<Whole<R>>>>),
}

impl<R: Read> Plain<R> {
    pub(crate) fn new(mut from: R) -> io::Result<Self> {
        let mut magic = Vec::with_capacity(MAGIC);
        from.by_ref().take(MAGIC as u64).read_to_end(&mut magic)?;
        let kind = magic.clone();
        let whole = BufReader::with_capacity(CHUNK, io::Cursor::new(magic).chain(from));
        Ok(match kind[..] {
            [0x1f, 0x8b, ..] => Self::Gzip(Box::new(MultiGzDecoder::new(whole))),
            [0x28, 0xb5, 0x2f, 0xfd] | [0x50..=0x5f, 0x2a, 0x4d, 0x18] => {
                Self::Zstd(Box::new(Frames::new(whole)))
            }
            _ => Self::Tar(whole),
        })
    }

    /// What is left of the compressed stream.
    pub(crate) fn into_inner(self) -> impl Read {
        match self {
            Self::Tar(whole) => whole,
            Self::Gzip(gzip) => gzip.into_inner(),
            Self::Zstd(frames) => frames.from,
        }
    }
}

impl<R: Read> Read for Plain<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tar(whole) => whole.read(into),
            Self::Gzip(gzip) => gzip.read(into),
            Self::Zstd(frames) => frames.read(into),
        }
    }
}

/// The frames of a zstd stream one after another, as tools write them that let parts of a layer be fetched.
pub(crate) struct Frames<R> {
    from: R,
    decoder: FrameDecoder,
    state: State,
}

#[derive(PartialEq, Eq)]
enum State {
    Between,
    Within,
    Over,
}

impl<R: io::BufRead> Frames<R> {
    fn new(from: R) -> Self {
        Self {
            from,
            // Its own bound for the window, and so for memory, is 128 MiB; tools write 8 MiB at most unless asked for more.
            decoder: FrameDecoder::new(),
            state: State::Between,
        }
    }

    fn begin(&mut self) -> io::Result<()> {
        if self.from.fill_buf()?.is_empty() {
            self.state = State::Over;
            return Ok(());
        }
        match self.decoder.reset(&mut self.from) {
            Ok(()) => self.state = State::Within,
            Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                length,
                ..
            })) => {
                let passed = io::copy(
                    &mut self.from.by_ref().take(u64::from(length)),
                    &mut io::sink(),
                )?;
                if passed < u64::from(length) {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
            Err(e) => return Err(io::Error::new(io::ErrorKind::InvalidData, e.to_string())),
        }
        Ok(())
    }
}

impl<R: io::BufRead> Read for Frames<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        use ruzstd::decoding::BlockDecodingStrategy::UptoBytes;
        loop {
            match self.state {
                State::Over => return Ok(0),
                State::Between => self.begin()?,
                State::Within => {
                    if self.decoder.can_collect() == 0 {
                        if self.decoder.is_finished() {
                            self.state = State::Between;
                            continue;
                        }
                        self.decoder
                            .decode_blocks(&mut self.from, UptoBytes(CHUNK))
                            .map_err(|e| {
                                io::Error::new(io::ErrorKind::InvalidData, e.to_string())
                            })?;
                    }
                    match self.decoder.read(into)? {
                        0 if !into.is_empty() => {}
                        n => return Ok(n),
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    use super::*;

    fn check(compressed: &[u8], plain: &[u8]) {
        let mut out = Vec::new();
        Plain::new(compressed)
            .unwrap()
            .read_to_end(&mut out)
            .unwrap();
        assert!(out == plain, "{} bytes of {}", out.len(), plain.len());
    }

    fn text() -> Vec<u8> {
        (0..300_000_u32)
            .flat_map(|n| (n / 7).to_le_bytes())
            .collect()
    }

    fn gzip(plain: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn what_it_is_is_seen() {
        let plain = text();
        check(&plain, &plain);
        check(&gzip(&plain), &plain);
        check(
            &compress_to_vec(&plain[..], CompressionLevel::Fastest),
            &plain,
        );
        check(b"", b"");
        check(b"ab", b"ab");
    }

    #[test]
    fn members_and_frames_follow_each_other() {
        let plain = text();
        let (a, b) = plain.split_at(70_001);
        check(&[gzip(a), gzip(b)].concat(), &plain);
        let frame = |part: &[u8]| compress_to_vec(part, CompressionLevel::Fastest);
        let skipped = [&[0x51, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"abc"].concat();
        check(
            &[
                skipped.clone(),
                frame(a),
                skipped.clone(),
                frame(b),
                skipped,
            ]
            .concat(),
            &plain,
        );
    }

    #[test]
    fn what_is_cut_is_an_error() {
        for whole in [
            gzip(&text()),
            compress_to_vec(&text()[..], CompressionLevel::Fastest),
        ] {
            let cut = &whole[..whole.len() - 20];
            let mut plain = Plain::new(cut).unwrap();
            io::copy(&mut plain, &mut io::sink()).unwrap_err();
        }
    }
}
