//! The `tidegate` command.
//!
//! One file a command under `commands`, each a struct of arguments with a `run`. What is data goes to standard output and
//! everything else to standard error, so every command can stand in a pipe; what the exit code says is in [`exit`].
//!
//! A command sees the process only as a [`Process`] value. That is what lets the tests run the whole command line in their
//! own process, against a scripted server, and compare every byte that a user would see.
//!
//! Nothing here is for Linux alone: deploying to a server elsewhere works from wherever the command compiles.

#![forbid(unsafe_code)]

mod cli;
mod client;
mod commands;
mod context;
mod credentials;
mod doctor;
mod error;
pub mod exit;
mod money;
mod openfaas;
pub mod paths;
mod progress;
mod run;
mod safe;
mod table;
mod time;
mod units;

pub use context::{Checks, Process, Terminal};
pub use doctor::{Diagnosis, State};
pub use run::{command, main, main_with, run};
