//! Ctrl-C and SIGTERM as a flag, so that a chore ends its servers before it ends itself.

use std::sync::atomic::{AtomicBool, Ordering};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

extern "C" fn note(_signal: libc::c_int) {
    INTERRUPTED.store(true, Ordering::Relaxed);
}

/// From here on the first SIGINT or SIGTERM sets the flag; a second one ends the process at once.
#[allow(unsafe_code)]
pub(crate) fn watch() {
    for signal in [libc::SIGINT, libc::SIGTERM] {
        // SAFETY: an all-zero `sigaction` is a valid value (no flags, empty mask), its fields are set before use, and
        // the handler only stores to an atomic, which is allowed in a signal handler.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = note as extern "C" fn(libc::c_int) as libc::sighandler_t;
            action.sa_flags = libc::SA_RESETHAND | libc::SA_RESTART;
            libc::sigaction(signal, &raw const action, std::ptr::null_mut());
        }
    }
}

/// Whether somebody asked for the end.
pub(crate) fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// Sends `signal` to process `pid`, or to a whole group when negative. One that is gone already is no error.
#[allow(unsafe_code)]
pub(crate) fn send(pid: i32, signal: libc::c_int) {
    // SAFETY: `kill` takes two integers and touches no memory of ours.
    unsafe {
        libc::kill(pid, signal);
    }
}
