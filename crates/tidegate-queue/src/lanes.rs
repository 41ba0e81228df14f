//! What is queued, by function: counted in memory, so that whoever deals out work asks no disk which functions have some.
//!
//! A *lane* is the queue of one function. Counts follow commits: nothing is counted that could be undone. Memory grows with
//! functions that have something queued, never with what is queued.

use std::collections::{BTreeMap, HashMap};

use tidegate_core::FunctionKey;
use tidegate_core::queue::Seq;

use crate::submission::Target;

/// The number of a function in the file.
pub(crate) type LaneNumber = i64;

/// A function with something queued. Deliveries on its behalf are a second one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lane {
    /// What to call it by when its items are wanted; see [`of`](Self::of).
    pub function: FunctionKey,
    /// How many items it has, leased ones included.
    pub queued: u64,
    /// How many of them are leased.
    pub leased: u64,
    /// Nothing of it that is not leased is due before this, in milliseconds since the Unix epoch; `u64::MAX` for nothing.
    pub next_due_ms: u64,
}

/// Deliveries on behalf of a function have a lane of their own, so that they do not wait behind its calls. No group of
/// functions begins so.
const DELIVERIES: char = '\u{1f}';

#[derive(Debug, Default)]
pub(crate) struct Lanes {
    lanes: BTreeMap<FunctionKey, Counted>,
    names: HashMap<LaneNumber, FunctionKey>,
    queued: u64,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Counted {
    pub(crate) number: LaneNumber,
    pub(crate) queued: u64,
    pub(crate) leased: u64,
    pub(crate) next_due_ms: u64,
    /// Everything in the order of (due, number) up to here is leased.
    pub(crate) cursor: (u64, Seq),
}

/// What a commit changed.
#[derive(Clone, Debug)]
pub(crate) enum Moved {
    /// An item came, due then unless it has to wait for its turn.
    Came(LaneNumber, Seq, Option<u64>),
    /// An item left.
    Left(LaneNumber),
    /// An item is due then.
    Due(LaneNumber, Seq, u64),
    /// An item was leased.
    Leased(LaneNumber),
    /// A lease ended.
    Ended(LaneNumber),
    /// From here on was looked: everything up to there is leased, and nothing else is due before then.
    Looked(LaneNumber, (u64, Seq), (u64, Seq), u64),
}

impl Lanes {
    pub(crate) fn add(&mut self, function: &FunctionKey, number: LaneNumber) {
        self.names.insert(number, function.clone());
        let fresh = Counted {
            number,
            next_due_ms: u64::MAX,
            ..Counted::default()
        };
        self.lanes.entry(function.clone()).or_insert(fresh);
    }

    pub(crate) fn set(&mut self, number: LaneNumber, queued: u64, next_due_ms: u64) {
        if let Some(lane) = self.at(number) {
            (lane.queued, lane.next_due_ms) = (queued, next_due_ms);
            self.queued += queued;
        }
    }

    pub(crate) fn function(&self, number: LaneNumber) -> Option<&FunctionKey> {
        self.names.get(&number)
    }

    pub(crate) fn get(&self, function: &FunctionKey) -> Option<&Counted> {
        self.lanes.get(function)
    }

    pub(crate) fn queued(&self) -> u64 {
        self.queued
    }

    /// Those with something queued, from the one behind `after`.
    pub(crate) fn page(&self, after: Option<&FunctionKey>, most: usize) -> Vec<Lane> {
        use std::ops::Bound;
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.lanes
            .range::<FunctionKey, _>((from, Bound::Unbounded))
            .filter(|(_, lane)| lane.queued > 0)
            .take(most)
            .map(|(function, lane)| lane.shown(function))
            .collect()
    }

    pub(crate) fn one(&self, function: &FunctionKey) -> Option<Lane> {
        self.lanes.get(function).map(|lane| lane.shown(function))
    }

    /// All that have something due by then.
    pub(crate) fn due(&self, now_ms: u64, after: Option<&FunctionKey>, most: usize) -> Vec<Lane> {
        let mut lanes = Vec::new();
        let mut from = after.cloned();
        while lanes.len() < most {
            let page = self.page(from.as_ref(), 256);
            let Some(last) = page.last() else { break };
            from = Some(last.function.clone());
            lanes.extend(page.into_iter().filter(|lane| lane.next_due_ms <= now_ms));
        }
        lanes.truncate(most);
        lanes
    }

    pub(crate) fn next_due_ms(&self) -> u64 {
        let due = self.lanes.values().map(|lane| lane.next_due_ms);
        due.min().unwrap_or(u64::MAX)
    }

    pub(crate) fn apply(&mut self, moved: &Moved) {
        match *moved {
            Moved::Came(number, seq, due) => {
                self.queued += 1;
                if let Some(lane) = self.at(number) {
                    lane.queued += 1;
                    if let Some(due) = due {
                        lane.due(due, seq);
                    }
                }
            }
            Moved::Left(number) => {
                self.queued = self.queued.saturating_sub(1);
                if let Some(lane) = self.at(number) {
                    lane.queued = lane.queued.saturating_sub(1);
                }
            }
            Moved::Due(number, seq, due) => {
                if let Some(lane) = self.at(number) {
                    lane.due(due, seq);
                }
            }
            Moved::Leased(number) => {
                if let Some(lane) = self.at(number) {
                    lane.leased += 1;
                }
            }
            Moved::Ended(number) => {
                if let Some(lane) = self.at(number) {
                    lane.leased = lane.leased.saturating_sub(1);
                }
            }
            Moved::Looked(number, from, to, next_due_ms) => {
                let Some(lane) = self.at(number) else { return };
                if lane.cursor < from {
                    // Something came before where the look began, in the same commit: it was not seen.
                    lane.next_due_ms = lane.next_due_ms.min(next_due_ms);
                } else {
                    (lane.cursor, lane.next_due_ms) = (to, next_due_ms);
                }
            }
        }
    }

    fn at(&mut self, number: LaneNumber) -> Option<&mut Counted> {
        let function = self.names.get(&number)?;
        self.lanes.get_mut(function)
    }
}

/// The lane of items to this function with this target.
pub(crate) fn lane_of(function: &FunctionKey, target: &Target) -> FunctionKey {
    match target {
        Target::Function => function.clone(),
        Target::Url(_) => FunctionKey {
            group: format!("{DELIVERIES}{}", function.group).into(),
            ..function.clone()
        },
    }
}

/// Whose lane it is, and whether it is that of deliveries.
pub(crate) fn whose(lane: &FunctionKey) -> (FunctionKey, bool) {
    match lane.group.strip_prefix(DELIVERIES) {
        Some(group) => {
            let function = FunctionKey {
                group: group.into(),
                ..lane.clone()
            };
            (function, true)
        }
        None => (lane.clone(), false),
    }
}

impl Lane {
    /// Which function's it is, and whether it holds deliveries on its behalf.
    pub fn of(&self) -> (FunctionKey, bool) {
        whose(&self.function)
    }
}

impl Counted {
    fn shown(&self, function: &FunctionKey) -> Lane {
        Lane {
            function: function.clone(),
            queued: self.queued,
            leased: self.leased,
            next_due_ms: self.next_due_ms,
        }
    }

    fn due(&mut self, due_ms: u64, seq: Seq) {
        self.next_due_ms = self.next_due_ms.min(due_ms);
        if (due_ms, seq) <= self.cursor {
            // What lies between is leased, and is passed over.
            self.cursor = (due_ms, seq - 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_does_not_hide_what_came_back_before_it_in_the_same_commit() {
        let function = FunctionKey {
            namespace: "n".into(),
            group: "".into(),
            name: "f".into(),
        };
        let mut lanes = Lanes::default();
        lanes.add(&function, 1);
        for seq in 1..=3 {
            lanes.apply(&Moved::Came(1, seq, Some(100)));
        }
        lanes.apply(&Moved::Looked(1, (0, 0), (100, 3), u64::MAX));
        assert_eq!(lanes.next_due_ms(), u64::MAX);
        // The second comes back while the next look goes on from behind the third.
        lanes.apply(&Moved::Due(1, 2, 100));
        lanes.apply(&Moved::Looked(1, (100, 3), (100, 3), u64::MAX));
        let lane = lanes.get(&function).unwrap();
        assert_eq!((lane.cursor, lane.next_due_ms), ((100, 1), 100));
        // The next look begins before it, and sees it.
        lanes.apply(&Moved::Looked(1, (100, 1), (100, 3), u64::MAX));
        assert_eq!(lanes.next_due_ms(), u64::MAX);
    }
}
