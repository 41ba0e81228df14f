//! Terms: what batches are found by.
//!
//! A term is 32 bits made of a kind and a value, and an index says which batches have which. Two values may share a
//! term: then a batch is read in vain, and nothing else, for what is read is compared with what was asked.

use std::sync::Arc;

use tidegate_core::{FunctionKey, InvocationId};

/// Stands for a value in an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Term(pub(crate) u32);

/// What batches must have to be looked at: of each group at least one term.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    pub(crate) groups: Vec<Vec<Term>>,
}

// These numbers are on disk.
const ID: u64 = 1;
const PARENT: u64 = 2;
const FUNCTION: u64 = 3;
const NAMESPACE: u64 = 4;
const OUTCOME: u64 = 5;
const NAME: u64 = 6;

const MIX: u64 = 0x9e37_79b9_7f4a_7c15;

const fn mix(state: u64, value: u64) -> u64 {
    let mixed = (state ^ value).wrapping_mul(MIX);
    mixed ^ (mixed >> 29)
}

fn text(state: u64, text: &str) -> u64 {
    // The separator keeps ("ab", "c") from being ("a", "bc").
    let bytes = text.bytes().chain([0xff]);
    bytes.fold(state, |state, byte| mix(state, byte.into()))
}

const fn finish(state: u64) -> Term {
    Term((state >> 32) as u32)
}

const fn number(kind: u64, value: u128) -> Term {
    finish(mix(
        mix(mix(kind, value as u64), (value >> 64) as u64),
        kind,
    ))
}

impl Term {
    /// An invocation's own records or lines.
    pub(crate) const fn id(id: InvocationId) -> Self {
        number(ID, id.as_u128())
    }

    /// What an invocation asked for.
    pub(crate) const fn parent(id: InvocationId) -> Self {
        number(PARENT, id.as_u128())
    }

    pub(crate) fn outcome(outcome: u8) -> Self {
        number(OUTCOME, outcome.into())
    }

    pub(crate) fn function(key: &FunctionKey) -> Self {
        let parts = [&key.namespace, &key.group, &key.name];
        let state = parts
            .into_iter()
            .fold(FUNCTION, |state, part| text(state, part));
        finish(mix(state, FUNCTION))
    }

    pub(crate) fn namespace(namespace: &str) -> Self {
        finish(mix(text(NAMESPACE, namespace), NAMESPACE))
    }

    pub(crate) fn name(name: &str) -> Self {
        finish(mix(text(NAME, name), NAME))
    }
}

impl Wanted {
    /// Those of a function, or else of a namespace, or all.
    pub(crate) fn of(function: Option<&FunctionKey>, namespace: Option<&Arc<str>>) -> Self {
        let term = function
            .map(Term::function)
            .or_else(|| namespace.map(|namespace| Term::namespace(namespace)));
        Self {
            groups: term.map(|term| vec![term]).into_iter().collect(),
        }
    }

    /// Of those, the ones that also have one of these terms.
    pub(crate) fn and(&mut self, terms: impl IntoIterator<Item = Term>) {
        let terms: Vec<_> = terms.into_iter().collect();
        if !terms.is_empty() {
            self.groups.push(terms);
        }
    }
}
