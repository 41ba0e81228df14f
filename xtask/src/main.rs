//! The project's chores, the same on a laptop and in continuous integration.
//!
//! Written in Rust so that a fresh clone needs nothing but a toolchain, and kept small because it is compiled before every
//! chore: it runs other programs (cargo, apt-get, curl, wrk, the built binary) and judges what they answer.
//!
//! Builds go to one target folder in the user's cache directory, which all clones on the machine share (see [`target`]);
//! only this program itself is built where plain `cargo` would put it.

// A chore's result is what it prints.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod args;
mod bench;
mod child;
mod demo;
mod http;
mod paths;
mod projects;
mod report;
mod scratch;
mod server;
mod setup;
mod signals;
mod soak;
mod suites;
mod target;
mod test;

use std::process::ExitCode;

use anyhow::{Result, bail};

const USAGE: &str = "\
usage: cargo xtask CHORE

  setup                    install what tests and the demo need and the machine lacks
        [--bench]          and what only the benchmarks need
  demo                     build, start the platform, deploy the examples, call each, run until Ctrl-C
        [--once]           end after the calls; the exit code says whether all answers were right
        [--listen ADDR]    where to listen (127.0.0.1:8080, a free port with --once)
        [--keep-data]      leave the data folder behind
  test                     everything that has to pass
        [--quick]          without the release build, the end-to-end tests and the demo
        [--examples]       nothing but the examples that are projects of their own
  bench                    measure, side by side with the bare ceilings and a peer
        [--quick]          fewer and shorter rounds
        [--json FILE]      write the figures there too
        [--only ROW,…]     some rows: hyper, proxy, tidegate, python, functions-framework, node-http, node,
                           node-functions-framework, go-http, go, openfaas-python, flask-waitress,
                           openfaas-node, express, cold, deploy, memory, enqueue, drain, idle, full, overload,
                           records

  soak queue               the queue's crash test at length: kill -9 of the server again and again, nothing accepted is lost
        [--accepted N]     until so many were accepted (100000)
        [--alone]          of a process that has the queue and nothing else

environment:
  CARGO_TARGET_DIR         build here instead of ~/.cache/tidegate/target
  TIDEGATE_BIN             use this binary instead of building one (demo, bench, soak)
";

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<ExitCode> {
    let mut words = std::env::args().skip(1);
    let chore = words.next().unwrap_or_default();
    let args = args::Args::new(words.collect());
    match chore.as_str() {
        "setup" => setup::main(args),
        "demo" => demo::main(args),
        "test" => test::main(args),
        "bench" => bench::main(args),
        "soak" => soak::main(args),
        "" | "help" | "-h" | "--help" => {
            print!("{USAGE}");
            Ok(ExitCode::SUCCESS)
        }
        other => bail!("no chore {other:?}; there are setup, demo, test, bench and soak"),
    }
}
