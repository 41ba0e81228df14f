//! Templates from a context to an answer: what each makes of a handler, and that it can be built and called.

mod built;
mod harness;
mod listing;
mod trees;
