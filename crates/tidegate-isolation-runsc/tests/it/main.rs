//! Real containers on this machine, as root and as an ordinary user, where `runsc` is installed.
//!
//! The binary runs its cases itself, since it plays two parts: the harness, and the same harness as another user. A word on
//! the command line picks the cases whose names contain it.

// The harness speaks on standard output, as the one it stands in for does.
#![allow(clippy::print_stdout)]

mod cases;
mod world;

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use world::World;

/// Says which part this process plays.
const PART: &str = "TIDEGATE_TEST_PART";

/// The ordinary user: `nobody`, which every machine has.
const NOBODY: u32 = 65534;

fn main() -> ExitCode {
    let filter = std::env::args().nth(1).unwrap_or_default();
    let path = std::env::var("PATH").unwrap_or_default();
    let Ok(runsc) = tidegate_isolation_runsc::find(&path) else {
        println!("runsc is not installed: nothing is run");
        println!("test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out");
        return ExitCode::SUCCESS;
    };
    if std::env::var_os(PART).is_some() {
        return report("ordinary user", &filter, runsc);
    }
    if !rustix::process::geteuid().is_root() {
        println!("not root: the cases run as an ordinary user only");
        return report("ordinary user", &filter, runsc);
    }
    let root = report("root", &filter, runsc);
    let user = as_ordinary_user(&filter);
    if root == ExitCode::SUCCESS && user {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn report(who: &str, filter: &str, runsc: PathBuf) -> ExitCode {
    println!("\n# as {who}");
    let world = World::new(runsc);
    let (ran, failed) = cases::run(&world, filter);
    world.end();
    // In the words of the standard harness, which tools that count tests look for.
    println!(
        "test result: {}. {} passed; {} failed; 0 ignored; 0 measured; 0 filtered out; as {who}",
        if failed.is_empty() { "ok" } else { "FAILED" },
        ran - failed.len(),
        failed.len(),
    );
    for name in &failed {
        println!("  failed: {name}");
    }
    if failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Runs this binary again as somebody else, from a folder that anyone can reach.
fn as_ordinary_user(filter: &str) -> bool {
    let folder = tempfile::Builder::new()
        .prefix("tidegate-it-")
        .permissions(std::fs::Permissions::from_mode(0o755))
        .tempdir_in("/tmp")
        .expect("a folder in /tmp");
    let copy = |from: &Path, name: &str| {
        let to = folder.path().join(name);
        std::fs::copy(from, &to).expect("the binary is copied");
        to
    };
    let me = copy(&std::env::current_exe().expect("we have a file"), "it");
    let relay = copy(&world::relay(), "relay");
    let home = folder.path().join("home");
    std::fs::create_dir(&home).expect("a home");
    std::os::unix::fs::chown(&home, Some(NOBODY), Some(NOBODY)).expect("given away");
    Command::new(me)
        .arg(filter)
        .env(PART, "user")
        .env(world::RELAY, relay)
        .env("HOME", &home)
        .env("TMPDIR", &home)
        .current_dir(&home)
        .uid(NOBODY)
        .gid(NOBODY)
        .status()
        .expect("the harness starts as another user")
        .success()
}
