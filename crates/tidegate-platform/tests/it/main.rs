//! The platform on a real store, against an isolation whose instances live in this process.

// The engine's own fake: one file, so that the two cannot come to differ.
#[allow(dead_code, reason = "the engine's tests use all of it")]
#[path = "../../../tidegate-engine/tests/it/fake.rs"]
mod fake;
mod world;

mod builds;
mod by_hand;
mod documents;
mod namespaces;
mod queue;
mod restart;
mod secrets;
mod sources;
mod triggers;
mod versions;
