//! From what a document asks of its traffic to what the engine is told.

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tidegate_core::traffic::{self, Part, TrafficError, WHOLE};
use tidegate_core::{rollout, scale};
use tidegate_engine::{Arrangement, Member, Revision, Share};

use crate::lower::Lowered;
use crate::status::Status;

/// A revision's part in the traffic, as a status tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TrafficPart {
    /// The revision.
    pub revision: String,
    /// Percent of the calls that name no revision.
    pub percent: u8,
    /// Names under which it is called beside its own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
}

/// A rollout, as a status keeps it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Rollout {
    /// The revision that takes over.
    pub revision: String,
    /// The one that had the traffic.
    pub from: String,
    /// What the new one has of it.
    pub percent: u8,
    /// Milliseconds that were spent on it.
    pub elapsed_ms: u64,
    /// Where it stands.
    pub phase: RolloutPhase,
    /// One line of why, where it was taken back.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// Where a rollout stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RolloutPhase {
    /// Under way.
    #[default]
    Running,
    /// The new revision has everything.
    Done,
    /// The old one has everything again.
    RolledBack,
}

/// What the traffic is to be.
#[derive(Debug, PartialEq)]
pub(crate) struct Wanted {
    pub(crate) parts: Vec<Part>,
    pub(crate) rollout: Option<Rollout>,
}

/// What the traffic is to be, with `latest` as the newest ready revision, from what it was.
pub(crate) fn wanted(
    lowered: &Lowered,
    latest: &str,
    ready: &[String],
    before: &Status,
) -> Result<Wanted, TrafficError> {
    let mut parts = traffic::resolve(&lowered.traffic, Some(latest), ready)?;
    let target = parts.first().filter(|part| part.percent == WHOLE).cloned();
    let rollout = target.and_then(|target| rollout_to(lowered, &target.revision, ready, before));
    if let Some(under_way) = &rollout
        && under_way.phase == RolloutPhase::Running
    {
        split(&mut parts, under_way);
    }
    Ok(Wanted { parts, rollout })
}

/// The rollout that leads to a revision: the one under way, a new one, or none.
fn rollout_to(
    lowered: &Lowered,
    target: &str,
    ready: &[String],
    before: &Status,
) -> Option<Rollout> {
    let plan = lowered.rollout.as_ref()?;
    // Traffic that is pinned to a revision goes there at once, unless a rollout to just this one was asked for.
    let wanted = match &plan.only {
        Some(only) => only == target,
        None => lowered
            .traffic
            .iter()
            .all(|share| share.percent == 0 || share.to == traffic::Target::Latest),
    };
    if !wanted {
        return None;
    }
    let last = before.rollout.as_ref();
    if let Some(last) = last.filter(|r| r.revision == target && r.phase != RolloutPhase::RolledBack)
    {
        // Without what it came from, nothing is left to share with.
        let goes_on = last.phase == RolloutPhase::Done || ready.contains(&last.from);
        return goes_on.then(|| last.clone());
    }
    // From a rollout that is overtaken by the next, the one before both stays.
    let stable = last
        .filter(|r| r.phase == RolloutPhase::Running)
        .map(|r| r.from.as_str())
        .or_else(|| before.traffic.first().map(|part| part.revision.as_str()))?;
    let comes_from_elsewhere = stable != target && ready.iter().any(|id| id == stable);
    comes_from_elsewhere.then(|| Rollout {
        revision: target.to_owned(),
        from: stable.to_owned(),
        percent: rollout::percent(&plan.plan, std::time::Duration::ZERO),
        ..Rollout::default()
    })
}

/// Divides the whole between the two of a rollout.
fn split(parts: &mut Vec<Part>, rollout: &Rollout) {
    for part in parts.iter_mut().filter(|p| p.revision == rollout.revision) {
        part.percent = rollout.percent;
    }
    let rest = WHOLE - rollout.percent.min(WHOLE);
    match parts.iter_mut().find(|p| p.revision == rollout.from) {
        Some(part) => part.percent += rest,
        None => parts.push(Part {
            revision: rollout.from.clone(),
            percent: rest,
            tags: Vec::new(),
        }),
    }
    parts.sort_by_key(|part| std::cmp::Reverse(part.percent));
}

/// The arrangement of these parts; nothing where a revision of them is not among the given.
pub(crate) fn arrangement(
    parts: &[Part],
    latest: &str,
    revisions: &HashMap<String, Revision>,
) -> Option<Arrangement> {
    let share = |id: &str, percent, tags: &[String]| {
        Some(Share {
            revision: revisions.get(id)?.clone(),
            percent,
            tags: tags.iter().map(|tag| Arc::from(tag.as_str())).collect(),
            latest: id == latest,
        })
    };
    let mut shares: Vec<Share> = parts
        .iter()
        .map(|part| share(&part.revision, part.percent, &part.tags))
        .collect::<Option<_>>()?;
    if !shares.iter().any(|share| share.latest)
        && let Some(aside) = share(latest, 0, &[])
    {
        shares.push(aside);
    }
    Arrangement::new(shares)
}

/// Whether the engine has it so already.
pub(crate) fn is_in_force(arrangement: &Arrangement, members: &[Member]) -> bool {
    let shares = arrangement.shares();
    let arranged = members
        .iter()
        .filter(|m| m.percent > 0 || m.latest || !m.tags.is_empty());
    arranged.count() == shares.len()
        && shares.iter().all(|share| {
            members.iter().any(|member| {
                member.revision.id == share.revision.id
                    && member.scale == scale::part(&share.revision.spec.scale, share.percent)
                    && member.percent == share.percent
                    && member.tags == share.tags
                    && member.latest == share.latest
            })
        })
}

impl From<Part> for TrafficPart {
    fn from(part: Part) -> Self {
        Self {
            revision: part.revision,
            percent: part.percent,
            tags: part.tags,
        }
    }
}

impl From<&TrafficPart> for Part {
    fn from(part: &TrafficPart) -> Self {
        Self {
            revision: part.revision.clone(),
            percent: part.percent,
            tags: part.tags.clone(),
        }
    }
}
