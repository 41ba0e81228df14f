//! Attempts to get out of an isolation, and to harm who lives beside it.
//!
//! An attempt is data: what is tried, as a few lines of Python that run inside with no more than a function has, and the
//! words that it may answer with, which say how the wall answers. What is not among them is a hole or a change that
//! somebody has to look at, so the words are as narrow as the kernels that this runs on allow. All of them are run against
//! every isolation, by that isolation's own tests, so that a new one has its list of walls before it has its first user.
//!
//! Around the attempts lies a [`Ground`]: the things of the machine and of another function that they reach for, each of
//! them really there, since an attempt on nothing proves nothing. When all have been made, the ground is looked at again.
//!
//! Some are made by an instance that has a way out, against the server that dials for it: with one host that may be
//! reached, and names that lie about where they lead.
//!
//! A [`strain`] is an attempt on what is shared and cannot be walled off: processor, memory, disk. There the question is
//! what a neighbour notices, so its answers are timed, quiet and under attack, in the same run.

#![forbid(unsafe_code)]

mod attempts;
mod door;
mod ground;
mod inside;
mod run;
pub mod strain;
pub mod suite;

pub use attempts::{Attempt, all, past_the_list, through_the_door};
pub use ground::{Ground, Place};
pub use run::{Tally, attempts, attempts_with_a_door};
