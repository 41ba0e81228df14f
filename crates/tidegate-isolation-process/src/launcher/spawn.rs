//! Starting a program from an init: a child that borrows our memory until it executes, as `posix_spawn` does, so that no
//! page table is copied and a failure to execute is simply there when we wake up.

use std::ffi::{CStr, CString, c_void};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::{fs, io};

/// The borrowed child's stack in bytes: it makes eight system calls.
const STACK: usize = 64 * 1024;

struct Start<'a> {
    path: &'a CStr,
    folder: &'a CStr,
    argv: Vec<*const libc::c_char>,
    envp: Vec<*const libc::c_char>,
    streams: Vec<libc::c_int>,
    errno: libc::c_int,
}

/// Runs `argv` with these descriptors, from standard input on, in a session of its own. Their numbers here are above those
/// that they get. The error is the one that `execve` gave.
pub(super) fn spawn(
    argv: &[&CStr],
    folder: &CStr,
    env: &[CString],
    streams: &[BorrowedFd<'_>],
) -> io::Result<i32> {
    let ends_null = |strings: &mut dyn Iterator<Item = *const libc::c_char>| {
        strings.chain([std::ptr::null()]).collect::<Vec<_>>()
    };
    let path = argv
        .first()
        .ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))?;
    let mut start = Start {
        path,
        folder,
        argv: ends_null(&mut argv.iter().map(|a| a.as_ptr())),
        envp: ends_null(&mut env.iter().map(|e| e.as_ptr())),
        streams: streams.iter().map(AsRawFd::as_raw_fd).collect(),
        errno: 0,
    };
    let mut stack = vec![0_u128; STACK / 16];
    let top = stack.as_mut_ptr_range().end;
    // SAFETY: the child runs on a stack of its own while we are suspended (CLONE_VFORK), so it may use `start`, which
    // outlives it; it makes system calls only. The stack's end is aligned to 16 bytes, as both architectures ask.
    let pid = unsafe {
        libc::clone(
            child,
            top.cast::<c_void>(),
            libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD,
            (&raw mut start).cast::<c_void>(),
        )
    };
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    // The child wrote here while we slept, which the compiler cannot know.
    // SAFETY: a plain integer of ours.
    let errno = unsafe { std::ptr::read_volatile(&raw const start.errno) };
    if errno != 0 {
        // SAFETY: our own child, which has exited; its status is of no interest.
        unsafe { libc::waitpid(pid, std::ptr::null_mut(), libc::__WALL) };
        return Err(io::Error::from_raw_os_error(errno));
    }
    Ok(pid)
}

extern "C" fn child(start: *mut c_void) -> libc::c_int {
    // SAFETY: `spawn` passes its own `Start`, waits for us, and nobody else sees it. Only system calls are made.
    unsafe {
        let start = &mut *start.cast::<Start<'_>>();
        libc::setsid();
        for (target, &stream) in (0..).zip(&start.streams) {
            if libc::dup2(stream, target) < 0 {
                return fail(start);
            }
        }
        if libc::chdir(start.folder.as_ptr()) != 0 {
            return fail(start);
        }
        crate::sys::reset_signals();
        libc::execve(
            start.path.as_ptr(),
            start.argv.as_ptr(),
            start.envp.as_ptr(),
        );
        fail(start)
    }
}

fn fail(start: &mut Start<'_>) -> libc::c_int {
    let errno = io::Error::last_os_error()
        .raw_os_error()
        .unwrap_or(libc::EIO);
    // SAFETY: a plain integer of the parent's, which is suspended.
    unsafe { std::ptr::write_volatile(&raw mut start.errno, errno) };
    crate::sys::exit_now(127)
}

/// The program's file, as a shell would find it.
pub(super) fn find(program: &str, env: &[(String, String)]) -> io::Result<PathBuf> {
    if program.contains('/') {
        return Ok(program.into());
    }
    search_path(env)
        .split(':')
        .filter(|folder| folder.starts_with('/'))
        .map(|folder| Path::new(folder).join(program))
        .find(|file| {
            fs::metadata(file).is_ok_and(|m| m.is_file())
                && rustix::fs::access(file, rustix::fs::Access::EXEC_OK).is_ok()
        })
        .ok_or_else(|| io::Error::from_raw_os_error(libc::ENOENT))
}

/// The folders that programs are looked for in, with colons between them.
pub(super) fn search_path(env: &[(String, String)]) -> &str {
    env.iter()
        .find_map(|(name, value)| (name == "PATH").then_some(value.as_str()))
        .unwrap_or_default()
}
