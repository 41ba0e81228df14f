use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

/// Most appends that wait; further ones wait for a place.
const WAITING: usize = 4096;

/// A file that is appended to in groups: what came while the last group was being synced goes into the next one. The
/// least that anything can do which answers only when a request is on disk.
#[derive(Clone, Debug)]
pub struct Appender {
    to: mpsc::Sender<(Bytes, oneshot::Sender<()>)>,
}

impl Appender {
    /// Opens the file and starts the thread that writes it. The thread ends with the last clone, and panics where the file
    /// cannot be written: a floor that refuses is no floor.
    ///
    /// # Errors
    ///
    /// When the file cannot be opened.
    pub fn open(path: &Path) -> Result<Self> {
        let mut file = OpenOptions::new()
            .append(true)
            .create(true)
            .open(path)
            .with_context(|| format!("cannot open {}", path.display()))?;
        let (to, mut from) = mpsc::channel::<(Bytes, oneshot::Sender<()>)>(WAITING);
        std::thread::spawn(move || {
            let (mut bytes, mut replies) = (Vec::new(), Vec::new());
            while let Some((body, reply)) = from.blocking_recv() {
                bytes.extend_from_slice(&body);
                replies.push(reply);
                while let Ok((body, reply)) = from.try_recv() {
                    bytes.extend_from_slice(&body);
                    replies.push(reply);
                }
                file.write_all(&bytes).expect("the disk has room");
                file.sync_data().expect("the disk works");
                bytes.clear();
                for reply in replies.drain(..) {
                    // Whoever asked may have gone.
                    let _ = reply.send(());
                }
            }
        });
        Ok(Self { to })
    }

    /// Appends, and returns when it is on disk.
    ///
    /// # Errors
    ///
    /// When the writing thread is gone.
    pub async fn append(&self, body: Bytes) -> Result<()> {
        let (reply, done) = oneshot::channel();
        self.to.send((body, reply)).await?;
        Ok(done.await?)
    }
}

#[cfg(test)]
mod tests {
    use super::Appender;
    use bytes::Bytes;

    #[test]
    fn what_was_appended_is_in_the_file() {
        let path = std::env::temp_dir().join(format!("tidegate-append-{}", std::process::id()));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(async {
            let appender = Appender::open(&path).unwrap();
            appender.append(Bytes::from_static(b"one")).await.unwrap();
            appender.append(Bytes::from_static(b"two")).await.unwrap();
        });
        let kept = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(kept, b"onetwo");
    }
}
