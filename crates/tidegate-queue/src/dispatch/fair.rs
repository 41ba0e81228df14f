//! Whose turn it is.
//!
//! What is shared is the time of slots. A free one goes to the namespace that holds the fewest, and among equals to the one
//! that was served longest ago; within it to a function by the same rule. Both sets are ordered, so a choice costs the
//! logarithm of how many could be served.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use tidegate_core::FunctionKey;

/// How many slots it holds, and when it was served last.
type Rank = (u32, u64);

#[derive(Debug, Default)]
pub(super) struct Fair {
    namespaces: HashMap<Arc<str>, Namespace>,
    /// Namespaces with a function that could be served.
    order: BTreeSet<(Rank, Arc<str>)>,
    /// Counts what was served.
    turn: u64,
}

#[derive(Debug, Default)]
struct Namespace {
    rank: Rank,
    functions: HashMap<FunctionKey, Function>,
    /// Those that could be served.
    order: BTreeSet<(Rank, FunctionKey)>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Function {
    rank: Rank,
    willing: bool,
}

impl Fair {
    /// Whether a function could be served.
    pub(super) fn set(&mut self, function: &FunctionKey, willing: bool) {
        self.change(function, |_, state| state.willing = willing);
    }

    /// It was given a slot.
    pub(super) fn began(&mut self, function: &FunctionKey) {
        self.turn += 1;
        let turn = self.turn;
        self.change(function, |namespace, state| {
            *namespace = (namespace.0 + 1, turn);
            state.rank = (state.rank.0 + 1, turn);
        });
    }

    /// It gave a slot back.
    pub(super) fn ended(&mut self, function: &FunctionKey) {
        self.change(function, |namespace, state| {
            namespace.0 = namespace.0.saturating_sub(1);
            state.rank.0 = state.rank.0.saturating_sub(1);
        });
    }

    /// Who is next.
    pub(super) fn next(&self) -> Option<FunctionKey> {
        let (_, namespace) = self.order.first()?;
        let (_, function) = self.namespaces.get(namespace)?.order.first()?;
        Some(function.clone())
    }

    /// Who is next of those that fit: looks at all that could be served.
    pub(super) fn next_of(&self, fits: impl Fn(&FunctionKey) -> bool) -> Option<FunctionKey> {
        let namespaces = self.order.iter();
        let mut all = namespaces
            .filter_map(|(_, name)| self.namespaces.get(name))
            .flat_map(|namespace| &namespace.order);
        let (_, function) = all.find(|(_, function)| fits(function))?;
        Some(function.clone())
    }

    /// It has nothing queued any more. A namespace is forgotten with its last function.
    pub(super) fn forget(&mut self, function: &FunctionKey) {
        self.set(function, false);
        if let Some(namespace) = self.namespaces.get_mut(&function.namespace) {
            namespace.functions.remove(function);
            if namespace.functions.is_empty() {
                self.namespaces.remove(&function.namespace);
            }
        }
    }

    fn change(&mut self, function: &FunctionKey, change: impl FnOnce(&mut Rank, &mut Function)) {
        let name = &function.namespace;
        let namespace = self.namespaces.entry(Arc::clone(name)).or_default();
        if !namespace.order.is_empty() {
            self.order.remove(&(namespace.rank, Arc::clone(name)));
        }
        let turn = self.turn;
        // A newcomer is not behind those who waited.
        let state = namespace
            .functions
            .entry(function.clone())
            .or_insert(Function {
                rank: (0, turn),
                willing: false,
            });
        if state.willing {
            namespace.order.remove(&(state.rank, function.clone()));
        }
        change(&mut namespace.rank, state);
        if state.willing {
            namespace.order.insert((state.rank, function.clone()));
        }
        if !namespace.order.is_empty() {
            self.order.insert((namespace.rank, Arc::clone(name)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn function(namespace: &str, name: &str) -> FunctionKey {
        FunctionKey {
            namespace: namespace.into(),
            group: "".into(),
            name: name.into(),
        }
    }

    /// Who got how many of the slots that came free one after the other, each held for as long as its function takes.
    fn shares(all: &[(&str, &str, u64)], slots: usize, ticks: u64) -> HashMap<String, u64> {
        let mut fair = Fair::default();
        let mut held: Vec<(u64, FunctionKey)> = Vec::new();
        let mut slot_time: HashMap<String, u64> = HashMap::new();
        for (namespace, name, _) in all {
            fair.set(&function(namespace, name), true);
        }
        for now in 0..ticks {
            held.retain(|(until, function)| {
                let over = *until <= now;
                if over {
                    fair.ended(function);
                }
                !over
            });
            while held.len() < slots {
                let next = fair.next().expect("all are willing");
                fair.began(&next);
                let takes = all.iter().find(|(_, name, _)| *name == &*next.name);
                held.push((now + takes.expect("it is one of them").2, next));
            }
            for (_, function) in &held {
                *slot_time.entry(function.name.to_string()).or_default() += 1;
            }
        }
        slot_time
    }

    #[test]
    fn namespaces_share_alike_however_many_functions_they_have() {
        let all = [
            ("a", "a1", 3),
            ("a", "a2", 3),
            ("a", "a3", 3),
            ("b", "b1", 3),
        ];
        let shares = shares(&all, 8, 3000);
        for name in ["a1", "a2", "a3"] {
            assert!((3900..=4100).contains(&shares[name]), "{shares:?}");
        }
        assert!((11_900..=12_100).contains(&shares["b1"]), "{shares:?}");
    }

    #[test]
    fn who_takes_long_gets_no_more_of_the_time() {
        let shares = shares(&[("a", "short", 1), ("b", "long", 50)], 8, 5000);
        let (short, long) = (shares["short"] as f64, shares["long"] as f64);
        assert!((0.9..=1.1).contains(&(short / long)), "{shares:?}");
    }

    #[test]
    fn with_one_slot_they_take_turns() {
        let mut fair = Fair::default();
        for name in ["x", "y", "z"] {
            fair.set(&function(name, name), true);
        }
        let mut served = Vec::new();
        for _ in 0..6 {
            let next = fair.next().unwrap();
            fair.began(&next);
            fair.ended(&next);
            served.push(next.name.to_string());
        }
        assert_eq!(served, ["x", "y", "z", "x", "y", "z"]);
        let of_y = fair.next_of(|function| &*function.name == "y");
        assert_eq!(of_y, Some(function("y", "y")));
        assert_eq!(fair.next_of(|_| false), None);
    }

    #[test]
    fn what_is_forgotten_leaves_nothing() {
        let mut fair = Fair::default();
        let one = function("a", "one");
        fair.set(&one, true);
        fair.began(&one);
        fair.ended(&one);
        fair.forget(&one);
        assert_eq!(fair.next(), None);
        assert!(fair.namespaces.is_empty() && fair.order.is_empty());
    }
}
