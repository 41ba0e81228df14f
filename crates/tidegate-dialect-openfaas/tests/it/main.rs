//! The control routes on a real platform with a real store, against an isolation whose instances live in this process.
//!
//! Each test is a conversation, and its transcript the snapshot: what a client sent, and all of what it got.

// The engine's own fake: one file, so that the two cannot come to differ.
#[allow(dead_code, reason = "the engine's tests use all of it")]
#[path = "../../../tidegate-engine/tests/it/fake.rs"]
mod fake;
mod world;

mod deploy;
mod functions;
mod logs;
mod namespaces;
mod pages;
mod scale;
mod secrets;
