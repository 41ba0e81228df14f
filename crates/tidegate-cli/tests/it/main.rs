//! The whole command line in this process, against a scripted server: what a user sees, byte by byte.

mod apply;
mod deploy;
mod errors;
mod fake;
mod functions;
mod git;
mod harness;
mod help;
mod images;
mod invoke;
mod later;
mod new;
mod openfaas;
mod others;
mod records;
mod stores;
mod top;
mod versions;
