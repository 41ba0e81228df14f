//! The `tidegate` program.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use tidegate_cli::{Checks, Diagnosis};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // The launcher of sandboxes is this program executed again. It has to stay a process of one thread, so this comes
    // before everything else.
    #[cfg(target_os = "linux")]
    if tidegate_isolation_process::is_launcher() {
        // Inherited from the server, but functions may well have use for huge pages.
        huge_pages(true);
        tidegate_isolation_process::launcher_main();
    }
    #[cfg(target_os = "linux")]
    if tidegate_isolation_runsc::is_relay() {
        tidegate_isolation_runsc::relay_main();
    }
    // The allocator asks for huge pages, which nearly doubles the memory of a server that has little to do.
    #[cfg(target_os = "linux")]
    huge_pages(false);
    tidegate_cli::main_with(checks())
}

/// Without these no function runs; without others a server runs, and says what is weaker.
#[cfg(target_os = "linux")]
const NEEDED: [&str; 5] = [
    "launcher",
    "kernel",
    "user namespaces",
    "namespaces",
    "seccomp",
];

/// What `doctor` looks at on a machine that could run a server.
#[cfg(target_os = "linux")]
fn checks() -> Checks {
    use tidegate_isolation_process::{Options, State, probe};

    vec![Box::new(|| {
        let folder = std::env::temp_dir().join(format!("tidegate-doctor-{}", std::process::id()));
        let report = probe(&Options::new(&folder));
        let _ = std::fs::remove_dir_all(&folder);
        report
            .capabilities
            .into_iter()
            .map(|c| match c.state {
                State::Ok => Diagnosis::ok(c.name, c.detail),
                State::Degraded => Diagnosis::warn(c.name, c.detail),
                State::Missing if NEEDED.contains(&&*c.name) => Diagnosis::fail(c.name, c.detail),
                State::Missing => Diagnosis::warn(c.name, c.detail),
            })
            .collect()
    })]
}

#[cfg(not(target_os = "linux"))]
fn checks() -> Checks {
    Vec::new()
}

/// A kernel without this knob has no huge pages to give either.
#[cfg(target_os = "linux")]
fn huge_pages(wanted: bool) {
    let _ = rustix::thread::disable_transparent_huge_pages(!wanted);
}
