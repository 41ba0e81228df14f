//! What namespaces let their functions reach, kept at hand: it is asked for at every start of a function with a way out.
//!
//! A list is forgotten by whoever changes it, before he is told that it is changed, so that no start after that goes by the
//! old one. News of changes that others made come through the controller's watch.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tidegate_core::egress::Rule;

/// A namespace's list, where it has one.
pub(crate) type List = Option<Arc<[Rule]>>;

/// The lists that were read, of namespaces that have functions.
#[derive(Default)]
pub(crate) struct EgressLists(Mutex<Known>);

#[derive(Default)]
struct Known {
    lists: HashMap<String, List>,
    /// How often something was forgotten: what was read before is not kept after.
    forgotten: u64,
}

/// When a list began to be read.
pub(crate) struct Moment(u64);

impl EgressLists {
    /// The list; else the moment from which it is read.
    pub(crate) fn find(&self, namespace: &str) -> Result<List, Moment> {
        let known = self.0.lock();
        let found = known.lists.get(namespace).cloned();
        found.ok_or(Moment(known.forgotten))
    }

    /// Keeps what was read from this moment on, unless something has changed since.
    pub(crate) fn keep(&self, namespace: &str, list: &List, since: &Moment) {
        let mut known = self.0.lock();
        if known.forgotten == since.0 {
            known.lists.insert(namespace.to_owned(), list.clone());
        }
    }

    /// What a namespace says has changed.
    pub(crate) fn forget(&self, namespace: &str) {
        let mut known = self.0.lock();
        known.forgotten += 1;
        known.lists.remove(namespace);
    }

    /// Anything may have changed.
    pub(crate) fn forget_all(&self) {
        let mut known = self.0.lock();
        known.forgotten += 1;
        known.lists.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_before_a_change_is_not_kept_after_it() {
        let lists = EgressLists::default();
        let rules: List = Some(["a.org".parse().unwrap()].into());
        let early = lists.find("team").err().unwrap();
        lists.forget("team");
        lists.keep("team", &None, &early);
        let now = lists.find("team").err().unwrap();
        lists.keep("team", &rules, &now);
        assert_eq!(lists.find("team").ok(), Some(rules));
        lists.forget("team");
        assert!(lists.find("team").is_err());
        lists.keep("team", &None, &lists.find("team").err().unwrap());
        assert_eq!(lists.find("team").ok(), Some(None));
        lists.forget_all();
        assert!(lists.find("team").is_err());
    }
}
