//! What is tried, by what it reaches for.

mod calls;
mod door;
mod files;
mod network;
mod others;
mod rights;
mod write;

/// One attempt.
#[derive(Clone, Copy, Debug)]
pub struct Attempt {
    /// `group/what is tried`.
    pub name: &'static str,
    /// Python: an expression, or lines that call `say`. See [`crate::inside::PRELUDE`] for the words it has.
    pub script: &'static str,
    /// What it may answer.
    pub expect: &'static [&'static str],
    /// What else it may answer where the kernel that it talks to is not the machine's.
    pub own_kernel: &'static [&'static str],
}

impl Attempt {
    const fn new(
        name: &'static str,
        script: &'static str,
        expect: &'static [&'static str],
    ) -> Self {
        Self {
            name,
            script,
            expect,
            own_kernel: &[],
        }
    }

    /// In a kernel of its own it may also answer this, since what it changes there is its own.
    const fn own_kernel(mut self, words: &'static [&'static str]) -> Self {
        self.own_kernel = words;
        self
    }
}

/// Those that are made by a function with a way out, which no list narrows.
#[must_use]
pub fn through_the_door() -> Vec<Attempt> {
    door::ALL.to_vec()
}

/// Those that are made by one that is held to a list.
#[must_use]
pub fn past_the_list() -> Vec<Attempt> {
    door::LISTED.to_vec()
}

/// All that a function without a network can make, in the order in which they are made.
#[must_use]
pub fn all() -> Vec<Attempt> {
    [
        files::ALL,
        others::ALL,
        network::ALL,
        calls::ALL,
        write::ALL,
        rights::ALL,
    ]
    .concat()
}
