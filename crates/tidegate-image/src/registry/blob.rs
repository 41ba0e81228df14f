//! A blob to a file, in as many attempts as it takes.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::Instant;

use futures_util::StreamExt as _;
use reqwest::header::{CONTENT_RANGE, HeaderMap, RANGE};
use reqwest::{Response, StatusCode};
use tokio::io::AsyncWriteExt as _;

use super::{ATTEMPTS, Failure, Registry, told, with};
use crate::digest::Hasher;
use crate::error::at;
use crate::manifest::Descriptor;
use crate::{Error, Event};

/// Attempts in all, however much each of them brings: a line that breaks every few megabytes is given up on in the end.
const MOST_ATTEMPTS: u32 = 50;
/// Least that must come in the time that a connection may be quiet, in bytes: what is slower is as good as quiet.
const LEAST: u64 = 4 << 10;
/// Bytes between two reports of how far it is.
const REPORT: u64 = 256 << 10;
/// Bytes of an earlier part read at a time.
const CHUNK: usize = 256 << 10;

/// A part of a blob: the file and the digest of what is in it.
struct Part<'a> {
    path: &'a Path,
    file: tokio::fs::File,
    hasher: Hasher,
    /// Whether some of it is from an earlier pull, and may have been damaged since.
    old: bool,
}

impl Registry {
    /// Fetches a blob to the file `path`, going on with what is there. What has come stays when it fails in passing or is
    /// dropped, and does not when it is wrong.
    pub(crate) async fn blob(
        &self,
        descriptor: &Descriptor,
        layer: usize,
        path: &Path,
    ) -> Result<(), Error> {
        let mut part = Part::open(path, descriptor.size).await?;
        let (mut fruitless, mut attempts) = (0, 0);
        loop {
            let before = part.hasher.length();
            let failure = match self.attempt(descriptor, layer, &mut part).await {
                Ok(()) => {
                    let found = part.hasher.clone().finish();
                    if found == descriptor.digest {
                        return Ok(());
                    }
                    part.clear().await?;
                    if !std::mem::take(&mut part.old) {
                        part.remove().await?;
                        return Err(Error::Digest {
                            what: format!("layer {layer} of {}", self.name()),
                            expected: descriptor.digest.clone(),
                            found,
                        });
                    }
                    continue;
                }
                Err(failure) => failure,
            };
            // What the file does not have in the end must not count as there.
            if let Err(e) = part.file.flush().await {
                drop(tokio::fs::remove_file(path).await);
                return Err(at(path)(e));
            }
            attempts += 1;
            fruitless = if part.hasher.length() >= before + LEAST {
                1
            } else {
                fruitless + 1
            };
            if attempts >= MOST_ATTEMPTS {
                fruitless = ATTEMPTS;
            }
            if let Err(error) = self.after(failure, fruitless, Some(layer)).await {
                if !matches!(error, Error::Unreachable { .. }) {
                    part.remove().await?;
                }
                return Err(error);
            }
        }
    }

    async fn attempt(
        &self,
        descriptor: &Descriptor,
        layer: usize,
        part: &mut Part<'_>,
    ) -> Result<(), Failure> {
        let done = part.hasher.length();
        if done == descriptor.size {
            return Ok(());
        }
        let from = format!("blobs/{}", descriptor.digest);
        let headers = if done == 0 {
            HeaderMap::new()
        } else {
            with(RANGE, &format!("bytes={done}-"))
        };
        let what = format!("layer {}", descriptor.digest.short());
        let answer = match self.get(&from, &headers, &what).await {
            // Refused as a range: from the beginning, then.
            Err(Failure::Lasting(Error::Invalid { .. })) if done > 0 => {
                part.clear().await?;
                return Err(Failure::Passing(
                    "it cannot go on with a part".to_owned(),
                    None,
                ));
            }
            answer => answer?,
        };
        if done > 0 && !goes_on(&answer, done) {
            part.clear().await?;
            if answer.status() == StatusCode::PARTIAL_CONTENT {
                return Err(Failure::Passing(
                    "it answered with another part than was asked for".to_owned(),
                    None,
                ));
            }
        }
        self.receive(answer, descriptor, layer, part).await
    }

    async fn receive(
        &self,
        answer: Response,
        descriptor: &Descriptor,
        layer: usize,
        part: &mut Part<'_>,
    ) -> Result<(), Failure> {
        let idle = self.settings.idle;
        let mut body = answer.bytes_stream();
        let mut reported = part.hasher.length();
        let (mut since, mut brought) = (Instant::now(), 0_u64);
        let slow = || {
            let reason = format!("a layer stopped coming for {} seconds", idle.as_secs_f64());
            Failure::Passing(reason, None)
        };
        loop {
            let piece = match tokio::time::timeout(idle, body.next()).await {
                Err(_) => return Err(slow()),
                Ok(None) => break,
                Ok(Some(Err(e))) => return Err(Failure::Passing(told(&e), None)),
                Ok(Some(Ok(piece))) => piece,
            };
            if part.hasher.length() + piece.len() as u64 > descriptor.size {
                part.clear().await?;
                return Err(Error::invalid(
                    format!("layer {layer} of {}", self.name()),
                    format!(
                        "it is longer than the {} bytes of its manifest",
                        descriptor.size
                    ),
                )
                .into());
            }
            part.write(&piece).await?;
            brought += piece.len() as u64;
            if since.elapsed() > idle {
                if brought < LEAST {
                    return Err(slow());
                }
                (since, brought) = (Instant::now(), 0);
            }
            let done = part.hasher.length();
            if done - reported >= REPORT || done == descriptor.size {
                reported = done;
                self.progress.report(Event::Bytes { layer, done });
            }
        }
        part.file.flush().await.map_err(at(part.path))?;
        if part.hasher.length() < descriptor.size {
            return Err(Failure::Passing("a layer ended early".to_owned(), None));
        }
        Ok(())
    }
}

/// Whether an answer begins where the part ends.
fn goes_on(answer: &Response, done: u64) -> bool {
    answer.status() == StatusCode::PARTIAL_CONTENT
        && answer
            .headers()
            .get(CONTENT_RANGE)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.strip_prefix("bytes "))
            .and_then(|value| value.split('-').next())
            .and_then(|first| first.trim().parse::<u64>().ok())
            == Some(done)
}

impl<'a> Part<'a> {
    async fn open(path: &'a Path, size: u64) -> Result<Self, Error> {
        let owned: PathBuf = path.to_owned();
        let (file, hasher) = tokio::task::spawn_blocking(move || open(&owned, size))
            .await
            .map_err(|_| Error::Interrupted)?
            .map_err(at(path))?;
        Ok(Self {
            path,
            file: tokio::fs::File::from_std(file),
            old: hasher.length() > 0,
            hasher,
        })
    }

    async fn write(&mut self, piece: &[u8]) -> Result<(), Error> {
        // A full disk may show only at a later write, or at the flush.
        if let Err(e) = self.file.write_all(piece).await {
            drop(tokio::fs::remove_file(self.path).await);
            return Err(at(self.path)(e));
        }
        self.hasher.update(piece);
        Ok(())
    }

    /// From the beginning.
    async fn clear(&mut self) -> Result<(), Error> {
        use std::io::SeekFrom;
        use tokio::io::AsyncSeekExt as _;
        self.hasher = Hasher::new();
        self.file.set_len(0).await.map_err(at(self.path))?;
        self.file
            .seek(SeekFrom::Start(0))
            .await
            .map(drop)
            .map_err(at(self.path))
    }

    async fn remove(&self) -> Result<(), Error> {
        match tokio::fs::remove_file(self.path).await {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(at(self.path)(e)),
            _ => Ok(()),
        }
    }
}

/// The part of an earlier pull, and its digest so far. Stands at its end.
fn open(path: &Path, size: u64) -> io::Result<(File, Hasher)> {
    let mut file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)?;
    let mut hasher = Hasher::new();
    if file.metadata()?.len() > size {
        file.set_len(0)?;
    }
    let mut chunk = vec![0; CHUNK];
    loop {
        match file.read(&mut chunk)? {
            0 => return Ok((file, hasher)),
            n => hasher.update(&chunk[..n]),
        }
    }
}
