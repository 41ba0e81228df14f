//! Whom an item that tells of an end goes to.
//!
//! A function that hears of an end is called like any other that is called later: under what its own document says of
//! retries, age and order, and with those who hear of its ends in turn. That holds for one that is named as a destination,
//! and for one that code inside names by the gateway's address. Circles end where a call has too many before it.

use tidegate_queue::{Submission, Target};

use super::accept::{ALL, millis};
use super::marks::Marks;
use super::runner::MAX_DEPTH;
use crate::Platform;

impl Platform {
    /// Puts an item that tells of an end under the rules of the function that it goes to, if it goes to one.
    pub(super) fn under_its_rules(&self, item: Submission) -> Submission {
        let item = self.at_home(item);
        let (Target::Function, Some(queued)) = (&item.target, self.in_queue()) else {
            return item;
        };
        let rules = self.rules().of(&item.function);
        // One beyond the bound is refused; listeners that were told of that would be refused in turn, without end.
        let tells = item.depth <= MAX_DEPTH;
        Submission {
            policy: rules.policy,
            order_key: rules.ordered.then(|| ALL.to_owned()),
            on_success: rules.on_success.clone().filter(|_| tells),
            on_failure: rules.on_failure.clone().filter(|_| tells),
            keep_result_ms: millis(rules.keep_result.unwrap_or(queued.keep_result)),
            ..item
        }
    }

    /// An address of a function's becomes the function. One that is not there or is private stays an address, which is
    /// refused when it is dialled.
    fn at_home(&self, mut item: Submission) -> Submission {
        let Target::Url(url) = &item.target else {
            return item;
        };
        let Some((function, path)) = self.inside(url) else {
            return item;
        };
        if self.function(function.borrowed()).is_none() || self.is_private(&function) {
            return item;
        }
        let marks = Marks {
            told: true,
            ..Marks::default()
        };
        marks.write(&mut item.request.headers);
        item.request.path_and_query = path;
        Submission {
            function,
            target: Target::Function,
            ..item
        }
    }
}
