//! Real containers on this machine, as root and as an ordinary user, where `runsc` is installed.
//!
//! The binary runs its cases itself, since it plays two parts: the harness, and the same harness as another user. A word on
//! the command line picks the cases whose names contain it.

// The harness speaks on standard output, as the one it stands in for does.
#![allow(clippy::print_stdout)]

mod cases;
mod world;

use std::process::ExitCode;

use tidegate_escape::suite;
use world::World;

fn main() -> ExitCode {
    let path = std::env::var("PATH").unwrap_or_default();
    let Ok(runsc) = tidegate_isolation_runsc::find(&path) else {
        println!("runsc is not installed: nothing is run");
        println!("test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out");
        return ExitCode::SUCCESS;
    };
    let filter = std::env::args().nth(1).unwrap_or_default();
    let cases = |filter: &str| {
        let world = World::new(runsc.clone());
        let told = cases::run(&world, filter);
        world.end();
        told
    };
    suite::as_both_users(&filter, cases, |folder| {
        vec![(
            world::RELAY,
            suite::copied(&world::relay(), folder, "relay"),
        )]
    })
}
