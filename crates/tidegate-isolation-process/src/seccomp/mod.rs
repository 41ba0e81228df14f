//! Which system calls a function may make.
//!
//! One program with three answers: *allow* what is known to be good, *EPERM* for what is known to be bad, and *ENOSYS*
//! for everything else, so that a libc or a runtime which tries a newer call falls back as it would on an older kernel.
//! Nothing is answered by killing: a library that probes is no attack. `clone3` is among the unknown, since its flags lie
//! in memory where a filter cannot look; every libc falls back to `clone`, whose namespace flags are checked.
//!
//! The program is a binary search over ranges of call numbers and not a list of comparisons. The kernel tries every call
//! number against a program when it is installed, to cache the plain answers: with a list of three hundred that costs
//! about as much as the rest of a sandbox, with a tree of forty leaves nothing that can be measured.

mod compile;
mod table;

use std::sync::LazyLock;

use base64::Engine;

/// The program for this machine's architecture.
static PROGRAM: LazyLock<Vec<libc::sock_filter>> =
    LazyLock::new(|| compile::compile(table::rules(false)));

/// The same where memory is watched rather than held.
static WATCHED: LazyLock<Vec<libc::sock_filter>> =
    LazyLock::new(|| compile::compile(table::rules(true)));

/// The program. `watched`: no control group counts memory, and what a watchdog cannot see is refused too.
pub(crate) fn program(watched: bool) -> &'static [libc::sock_filter] {
    if watched { &WATCHED } else { &PROGRAM }
}

/// The program as a language host's zygote takes it: the kernel's own layout, in base64.
pub(crate) fn encoded(watched: bool) -> String {
    let program = program(watched);
    let mut bytes = Vec::with_capacity(program.len() * 8);
    for step in program {
        bytes.extend_from_slice(&step.code.to_ne_bytes());
        bytes.extend_from_slice(&[step.jt, step.jf]);
        bytes.extend_from_slice(&step.k.to_ne_bytes());
    }
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// What is answered to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Allow,
    /// Fails with this number.
    Errno(i32),
    /// Depends on one argument.
    Check(&'static [Test], Otherwise),
}

/// What holds when no test matched.
type Otherwise = &'static Answer;

/// One test of an argument's low 32 bits, tried in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Test {
    /// Which argument, from 0.
    argument: u32,
    how: How,
    value: u32,
    then: Then,
}

/// How it is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    Equals,
    HasAnyOf,
}

/// What a match means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    Allow,
    Errno(i32),
    /// Go on with the next test; without a match go to the end.
    Next,
}
