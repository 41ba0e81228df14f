//! One attempt, from a lease to what came of it on disk.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{FutureExt as _, stream};
use tidegate_core::queue::{Ended, Lease, Settled, Verdict};
use tidegate_core::{Backoff, FunctionKey, Outcome};
use tidegate_store::BlobError;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::DispatchOptions;
use super::flow::Sign;
use super::follow::follow_ups;
use super::runner::{Attempt, Ran, Runner, Told};
use crate::error::Error;
use crate::queue::{Queue, Settlement, Work};
use crate::submission::{Body, MAX_INLINE_BYTES, Spooled, Submission, Target};
use crate::writer::Taken;

/// Between tries to write what came of an attempt: a full disk is looked at often, and not all the time.
const AGAIN: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(5));

/// What attempts have in common.
pub(super) struct Bench {
    pub(super) queue: Queue,
    pub(super) runner: Arc<dyn Runner>,
    pub(super) options: DispatchOptions,
    pub(super) events: mpsc::UnboundedSender<Event>,
}

/// What happened, for the one who decides. At most three come of an attempt and one of a fetch, and both are counted before
/// they begin: that bounds what waits here.
pub(super) enum Event {
    Took {
        lane: FunctionKey,
        taken: Result<Vec<Taken>, Error>,
    },
    /// The call is over, and its slot free.
    Ran {
        lease: Lease,
        sign: Sign,
    },
    /// It could not be written yet.
    Stuck,
    /// The attempt is over.
    Settled {
        lease: Lease,
        end: End,
    },
    Renewed(Vec<(Lease, bool)>),
}

/// Why what came of an attempt is not on disk.
#[derive(Debug, thiserror::Error)]
enum Unsettled {
    #[error(transparent)]
    Queue(#[from] Error),
    #[error("what is to be told of it: {0}")]
    Body(#[from] BlobError),
}

/// How an attempt was over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Settled(Settled),
    /// It was cut off.
    Cut,
    /// There was nothing to run, or it cannot be written any more.
    Gone,
}

impl Bench {
    pub(super) async fn take(&self, lane: FunctionKey, most: usize) {
        let taken = self.queue.take(&lane, most, self.options.hold).await;
        self.send(Event::Took { lane, taken });
    }

    /// Gives leases back, so that others may have the items at once.
    pub(super) async fn release(&self, taken: Vec<Taken>) {
        let released = taken
            .iter()
            .map(|taken| self.settle_once(release(taken.lease)));
        for end in futures_util::future::join_all(released).await {
            if let Err(error) = end {
                tracing::warn!(%error, "a lease could not be given back, and will run out");
            }
        }
    }

    pub(super) async fn renew(&self, leases: Vec<Lease>) {
        match self.queue.renew(&leases, self.options.hold).await {
            Ok(renewed) => {
                let yes = renewed
                    .iter()
                    .map(|one| *one == tidegate_core::queue::Renewed::Yes);
                self.send(Event::Renewed(leases.into_iter().zip(yes).collect()));
            }
            Err(error) => tracing::warn!(%error, "leases could not be renewed; tried again soon"),
        }
    }

    /// Runs it and writes what came of it, unless `cut` comes first.
    pub(super) async fn attempt(self: Arc<Self>, taken: Taken, cut: CancellationToken) {
        let lease = taken.lease;
        let ran = tokio::select! {
            biased;
            () = cut.cancelled() => None,
            ran = self.run(&taken) => Some(ran),
        };
        let sign = match &ran {
            Some(Ok((_, ran, _))) => Sign::of(&ran.verdict),
            Some(Err(_)) | None => Sign::None,
        };
        self.send(Event::Ran { lease, sign });
        let end = match ran {
            None => {
                // Whoever cut it off may only want it to stop here.
                drop(self.settle_once(release(lease)).await);
                End::Cut
            }
            Some(Ok((work, ran, took))) => {
                let settlement = self.settlement(&taken, &work, ran, took);
                self.settle(settlement, &cut).await
            }
            Some(Err(Error::LeaseOver | Error::Damaged { .. } | Error::Closed)) => End::Gone,
            Some(Err(error)) => {
                // It was not read, so nothing was done: it stays as it is, and its lane rests.
                tracing::warn!(id = %taken.id.hyphenated(), %error, "a queued invocation could not be read");
                let ended = platform(error.to_string());
                let settlement = Settlement {
                    verdict: ended.verdict,
                    message: ended.message,
                    ..release(lease)
                };
                self.settle(settlement, &cut).await
            }
        };
        self.send(Event::Settled { lease, end });
    }

    async fn run(&self, taken: &Taken) -> Result<(Work, Ran, Duration), Error> {
        let work = self.queue.load(taken).await?;
        let attempt = Attempt {
            number: taken.attempt,
            due_ms: taken.due_ms,
            deadline_ms: taken.deadline_ms,
        };
        let began = Instant::now();
        let call = async {
            match &work.submission.target {
                Target::Function => self.runner.run(&work, attempt).await,
                Target::Url(url) => self.runner.deliver(&work, url, attempt).await,
            }
        };
        let ran = AssertUnwindSafe(call).catch_unwind().await;
        let ran = ran.unwrap_or_else(|_| {
            tracing::error!(id = %taken.id.hyphenated(), "what runs invocations panicked");
            platform("what runs invocations panicked".to_owned())
        });
        Ok((work, ran, began.elapsed()))
    }

    fn settlement(&self, taken: &Taken, work: &Work, ran: Ran, took: Duration) -> Settlement {
        let ended = match ran.verdict {
            Verdict::Ended(ended) => Some(ended),
            Verdict::Refused | Verdict::Release => None,
        };
        // What follows is for the rules to say, when it is written; so both are at hand where both may be.
        let may_be_done = matches!(
            ended.map(|ended| ended.outcome),
            Some(Outcome::Ok | Outcome::Application)
        );
        let may_be_dead = ended.map(|ended| ended.outcome) != Some(Outcome::Ok)
            && ran.verdict != Verdict::Release;
        let told = |done| Told {
            done,
            ended,
            message: ran.message.as_deref(),
            tries: taken.attempt,
            took,
            answer: ran.answer.as_ref(),
        };
        let follow = |done| follow_ups(&*self.runner, work, &told(done), self.options.delivery);
        let on_done = if may_be_done {
            follow(true)
        } else {
            Vec::new()
        };
        let on_dead = if may_be_dead {
            follow(false)
        } else {
            Vec::new()
        };
        Settlement {
            lease: taken.lease,
            verdict: ran.verdict,
            on_done,
            on_dead,
            message: ran.message,
            answer: ran.answer,
        }
    }

    /// Writes it, however often that takes; the lease goes on meanwhile. Nothing but the end of the lease, or of the
    /// server, ends it: who is to hear of an end hears of all of it.
    async fn settle(&self, mut settlement: Settlement, cut: &CancellationToken) -> End {
        let mut failures = 0;
        let end = loop {
            match self.settle_whole(&mut settlement).await {
                Ok(settled) => break End::Settled(settled),
                Err(Unsettled::Queue(Error::Closed | Error::LeaseOver | Error::Damaged { .. })) => {
                    break End::Gone;
                }
                Err(error) => {
                    if failures == 0 {
                        tracing::warn!(%error, "what came of an invocation could not be written; tried again");
                        self.send(Event::Stuck);
                    }
                    failures += 1;
                    tokio::select! {
                        biased;
                        () = cut.cancelled() => break End::Gone,
                        () = tokio::time::sleep(AGAIN.delay(failures)) => {}
                    }
                }
            }
        };
        let spooled = |submissions: &[Submission]| -> Vec<Spooled> {
            let bodies = submissions.iter().filter_map(|one| match one.request.body {
                Body::Spooled(spooled) => Some(spooled),
                Body::Inline(_) => None,
            });
            bodies.collect()
        };
        let (done, dead) = (spooled(&settlement.on_done), spooled(&settlement.on_dead));
        let unused = match end {
            End::Settled(Settled::Done) => dead,
            End::Settled(Settled::Dead(_)) => done,
            _ => [done, dead].concat(),
        };
        for spooled in unused {
            if let Err(error) = self.queue.unspool(&spooled).await {
                tracing::warn!(%error, "a body stays on disk until the next start");
            }
        }
        end
    }

    /// Bodies that are too large for rows go to disk first; those that did stay there for the next try.
    async fn settle_whole(&self, settlement: &mut Settlement) -> Result<Settled, Unsettled> {
        let follow = settlement.on_done.iter_mut();
        for submission in follow.chain(&mut settlement.on_dead) {
            if let Body::Inline(body) = &submission.request.body
                && body.len() > MAX_INLINE_BYTES
            {
                let chunks = stream::iter([Ok::<Bytes, std::io::Error>(body.clone())]);
                let spooled = self.queue.spool(chunks, body.len() as u64).await?;
                submission.request.body = Body::Spooled(spooled);
            }
        }
        Ok(self.settle_once(settlement.clone()).await?)
    }

    async fn settle_once(&self, settlement: Settlement) -> Result<Settled, Error> {
        self.queue.settle(settlement).await
    }

    fn send(&self, event: Event) {
        // With nobody who decides, nothing is left to be decided.
        drop(self.events.send(event));
    }
}

fn release(lease: Lease) -> Settlement {
    Settlement {
        lease,
        verdict: Verdict::Release,
        message: None,
        answer: None,
        on_done: Vec::new(),
        on_dead: Vec::new(),
    }
}

/// Our own fault.
fn platform(message: String) -> Ran {
    let ended = Ended {
        outcome: Outcome::Platform,
        status: None,
        retry_after_ms: None,
    };
    Ran::ended(ended, None).because(message)
}
