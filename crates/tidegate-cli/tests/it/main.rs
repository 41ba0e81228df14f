//! The whole command line in this process, against a scripted server: what a user sees, byte by byte.

mod deploy;
mod errors;
mod fake;
mod functions;
mod harness;
mod help;
mod invoke;
mod others;
mod versions;
