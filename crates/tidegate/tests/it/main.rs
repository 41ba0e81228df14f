//! End-to-end tests: the built binary as its users meet it. `TIDEGATE_BIN` names another build of it to be tested.

#![cfg(target_os = "linux")]
#![allow(clippy::print_stderr, reason = "a failing test shows the server's log")]

mod harness;

mod bad_input;
mod builds;
mod commands;
mod crash;
mod develop;
mod executables;
mod faults;
mod images;
mod languages;
mod limits;
mod looking;
mod network;
mod openfaas;
#[cfg(feature = "otlp")]
mod otlp;
mod overload;
mod protocols;
mod python;
mod queue;
mod records;
mod requests;
mod robustness;
mod rollout;
mod scaling;
mod secrets;
mod security;
mod start;
mod story;
mod streaming;
mod unprivileged;
mod versions;
