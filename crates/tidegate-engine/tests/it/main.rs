//! The engine against an isolation whose instances live in this process.
//!
//! Time is paused: it jumps to the next timer whenever nothing else can happen, so a test of a thirty-second limit takes
//! no longer than the rest, and what is waited for is always a condition.

mod fake;
mod world;

mod bodies;
mod by_hand;
mod calls;
mod cancel;
mod death;
mod deploy;
mod host;
mod ledger;
mod load;
mod scale;
mod starts;
mod versions;
