//! Reading records as they come.
//!
//! A follower has a place in the segments and reads on from there, like any reader: nothing is kept for it in memory,
//! and the writer does no more for it than say that there is something. One that is slow reads older files; it misses
//! something only where a segment was removed before it came there, and is told how much.

use std::sync::Arc;

use tidegate_core::record::Record;
use tokio::sync::watch;

use crate::Error;
use crate::query::{MAX_PAGE, Query};
use crate::recorder::Inner;
use crate::search::{ALL, Filter, matching};
use crate::segment::Series;

/// Batches that are looked at before other tasks have a turn.
const FRAMES_A_TURN: usize = 256;

/// What has come since the last time.
#[derive(Clone, Debug, Default)]
pub struct Followed {
    /// The records that match, in the order in which they ended.
    pub records: Vec<Record>,
    /// How many records, matching or not, were removed before they could be read.
    pub missed: u64,
}

/// Reads records as they come; see [`Recorder::follow`](crate::Recorder::follow).
#[derive(Debug)]
pub struct Follow {
    inner: Arc<Inner>,
    filter: Arc<Filter>,
    news: watch::Receiver<u64>,
    at: At,
}

/// Where a follower is.
#[derive(Clone, Copy, Debug)]
struct At {
    segment: u64,
    frame: u32,
    /// Records before it, since the recorder was opened.
    records: u64,
}

impl Follow {
    pub(crate) fn new(inner: Arc<Inner>, query: &Query) -> Self {
        let news = inner.news.subscribe();
        let (segment, frame, records) = inner.records.newest();
        Self {
            inner,
            filter: Arc::new(Filter::from(query)),
            news,
            at: At {
                segment,
                frame,
                records,
            },
        }
    }

    /// Waits for records that match, or for the news that some were missed. `None` once the recorder is closed.
    ///
    /// # Errors
    /// The machine refuses to read.
    pub async fn next(&mut self) -> Result<Option<Followed>, Error> {
        loop {
            self.news.borrow_and_update();
            let (inner, filter, at) = (self.inner.clone(), self.filter.clone(), self.at);
            let read = self
                .inner
                .read(move || read(&inner.records, &filter, at))
                .await?;
            self.at = read.0;
            if !read.1.records.is_empty() || read.1.missed > 0 {
                return Ok(Some(read.1));
            }
            if read.2 {
                continue;
            }
            if self.inner.is_closed() || self.news.changed().await.is_err() {
                return Ok(None);
            }
        }
    }
}

/// Reads on; says where it came to, what it found, and whether there is more already.
fn read(series: &Series, filter: &Filter, mut at: At) -> Result<(At, Followed, bool), Error> {
    let mut followed = Followed::default();
    let mut buffer = Vec::new();
    for _ in 0..FRAMES_A_TURN {
        let Some(segment) = series.numbers().into_iter().find(|n| *n >= at.segment) else {
            return Ok((at, followed, false));
        };
        if segment != at.segment {
            // The one it was in is gone, or there never was one of that number.
            let before = series.items_before(segment);
            followed.missed += before.saturating_sub(at.records);
            at = At {
                segment,
                frame: 0,
                records: before.max(at.records),
            };
        }
        let Some(mut part) = series.part(segment)? else {
            // Its file is gone, though it is still listed.
            at.segment = segment + 1;
            at.frame = 0;
            continue;
        };
        let Some(meta) = part.frame(at.frame)? else {
            let next = series.numbers().into_iter().find(|n| *n > segment);
            let Some(next) = next else {
                return Ok((at, followed, false));
            };
            // Now that there is a next one nothing is added to this one; before, it may have grown once more.
            if part.frame(at.frame)?.is_some() {
                continue;
            }
            at.segment = next;
            at.frame = 0;
            continue;
        };
        let found = matching(&mut part, &meta, filter, ALL, &mut buffer)?;
        followed
            .records
            .extend(found.into_iter().map(|(_, record)| record));
        at.frame += 1;
        at.records += u64::from(meta.items);
        if followed.records.len() >= MAX_PAGE {
            break;
        }
    }
    Ok((at, followed, true))
}
