//! Waiting for a condition, with a deadline that fails the test.

use std::time::{Duration, Instant};

/// Longest wait for anything: far above what it takes on a busy machine.
const DEADLINE: Duration = Duration::from_secs(30);
/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(10);

/// Looks until there is a value.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + DEADLINE;
    loop {
        if let Some(value) = look() {
            return value;
        }
        assert!(
            Instant::now() < until,
            "{what}: did not come about within {DEADLINE:?}"
        );
        std::thread::sleep(POLL);
    }
}

/// Looks until it is so.
#[track_caller]
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    eventually(what, || is_so().then_some(()));
}
