//! The loop behind gradual rollouts: looks, asks the core what follows, writes that into the function's status. The
//! controller sees the status and tells the engine, so a rollout is in what is stored and survives the server.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use tidegate_core::rollout::{self, Plan, Progress, Seen, Step, Tally, percent_text};
use tidegate_core::{FunctionKey, traffic};
use tidegate_store::{Object, ObjectKey};
use tokio::time::Instant;

use crate::revisions::{RevisionPhase, Verdict};
use crate::status::{Phase, Status};
use crate::traffic::{Rollout, RolloutPhase, TrafficPart};
use crate::{Error, Platform};

/// How often a rollout is looked at: how soon a bad revision is found out, and the finest of its steps.
const LOOK: Duration = Duration::from_millis(200);

/// Rollouts that are under way.
#[derive(Default)]
pub(crate) struct Rollouts(Mutex<HashMap<ObjectKey, Under>>);

#[derive(Clone)]
struct Under {
    place: FunctionKey,
    plan: Plan,
    rollout: Rollout,
    progress: Progress,
    looked: Instant,
}

impl Rollouts {
    /// Follows the rollout that a status tells of, or none any more.
    pub(crate) fn follow(
        &self,
        document: &ObjectKey,
        place: &FunctionKey,
        plan: Option<Plan>,
        rollout: Option<&Rollout>,
    ) {
        let mut all = self.0.lock();
        let running = rollout.filter(|r| r.phase == RolloutPhase::Running);
        let (Some(plan), Some(rollout)) = (plan, running) else {
            all.remove(document);
            return;
        };
        match all.get_mut(document) {
            Some(under)
                if under.rollout.revision == rollout.revision
                    && under.rollout.from == rollout.from =>
            {
                (under.plan, under.rollout) = (plan, rollout.clone());
            }
            _ => {
                let under = Under {
                    place: place.clone(),
                    plan,
                    rollout: rollout.clone(),
                    progress: Progress {
                        elapsed: Duration::from_millis(rollout.elapsed_ms),
                        ..Progress::default()
                    },
                    looked: Instant::now(),
                };
                all.insert(document.clone(), under);
            }
        }
    }

    pub(crate) fn forget(&self, document: &ObjectKey) {
        self.0.lock().remove(document);
    }
}

impl Platform {
    /// Looks at every rollout again and again.
    pub(crate) async fn roll_out(&self) {
        loop {
            tokio::time::sleep(LOOK).await;
            let documents: Vec<ObjectKey> = self.rollouts().0.lock().keys().cloned().collect();
            for document in documents {
                if let Err(error) = self.look_at_rollout(&document).await {
                    tracing::warn!(%document, %error, "a rollout could not be carried on; it is tried again");
                }
            }
        }
    }

    async fn look_at_rollout(&self, document: &ObjectKey) -> Result<(), Error> {
        let Some(mut under) = self.rollouts().0.lock().get(document).cloned() else {
            return Ok(());
        };
        let Some(function) = self.function(under.place.borrowed()) else {
            return Ok(());
        };
        let members = self.engine().members(&function);
        let of = |id: &str| {
            let member = members.iter().find(|m| *m.revision.id == *id);
            member.map(|m| m.tally)
        };
        // Not yet told to the engine.
        let (Some(candidate), Some(stable)) =
            (of(&under.rollout.revision), of(&under.rollout.from))
        else {
            return Ok(());
        };
        let now = Instant::now();
        let seen = Seen {
            passed: now.saturating_duration_since(under.looked),
            candidate,
            stable,
        };
        under.looked = now;
        let step = rollout::step(&under.plan, &mut under.progress, &seen);
        if let Some(kept) = self.rollouts().0.lock().get_mut(document) {
            (kept.progress, kept.looked) = (under.progress, under.looked);
        }
        match step {
            Step::Go(percent) if percent == under.rollout.percent => return Ok(()),
            Step::Go(percent) => under.rollout.percent = percent,
            Step::Done => {
                under.rollout.percent = traffic::WHOLE;
                under.rollout.phase = RolloutPhase::Done;
            }
            Step::Back { candidate, stable } => {
                under.rollout.percent = 0;
                under.rollout.phase = RolloutPhase::RolledBack;
                under.rollout.message = why(&under, candidate, stable);
            }
        }
        under.rollout.elapsed_ms = under.progress.elapsed.as_millis() as u64;
        self.write_rollout(document, under.rollout).await
    }

    async fn write_rollout(&self, document: &ObjectKey, rollout: Rollout) -> Result<(), Error> {
        let object = self.get(document).await?;
        let mut status = Status::of(&object);
        let same = |r: &Rollout| {
            r.revision == rollout.revision
                && r.from == rollout.from
                && r.phase == RolloutPhase::Running
        };
        if !status.rollout.as_ref().is_some_and(same) {
            // Something newer has taken its place.
            self.rollouts().forget(document);
            return Ok(());
        }
        if rollout.phase == RolloutPhase::RolledBack {
            tracing::warn!(%document, message = rollout.message, "a rollout was taken back");
            status.revision.clone_from(&rollout.from);
            status.traffic = vec![TrafficPart {
                revision: rollout.from.clone(),
                percent: traffic::WHOLE,
                tags: Vec::new(),
            }];
            if status.is_settled(object.generation()) {
                status.phase = Phase::Failed;
                status.message.clone_from(&rollout.message);
            }
            let verdict = Verdict {
                phase: RevisionPhase::RolledBack,
                message: rollout.message.clone(),
                log: Vec::new(),
            };
            self.verdict(document, &rollout.revision, verdict).await?;
        }
        status.rollout = Some(rollout);
        match self.write_status(object, &status).await {
            // Looked at again soon, with what is there by then.
            Err(Error::Store(tidegate_store::Error::Conflict { .. })) => Ok(()),
            written => written,
        }
    }

    pub(crate) async fn write_status(&self, object: Object, status: &Status) -> Result<(), Error> {
        let status = serde_json::to_value(status).map_err(|e| Error::Invalid(e.to_string()))?;
        let object = object.replace_status(status)?;
        Ok(self
            .store()
            .objects()
            .update_status(object)
            .await
            .map(drop)?)
    }
}

fn why(under: &Under, candidate: Tally, stable: Tally) -> String {
    let rollout = &under.rollout;
    format!(
        "revision {} was rolled back: {candidate}, more than the {} % allowed; of revision {}, which has all traffic again, {stable}",
        rollout.revision,
        percent_text(u64::from(under.plan.max_errors_ppm)),
        rollout.from,
    )
}
