//! The root that all sandboxes start from, built once in the launcher's own mount namespace.
//!
//! A tmpfs with the machine's `/usr` bound read-only and a little more: what a C library, TLS and an interpreter look for
//! in `/etc`, and six devices. The files of `/etc` are copied rather than bound: each mount is copied with every sandbox,
//! so nine fewer is time on the path of a call; the price is that a new certificate is seen after the next start.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode};
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, mount_bind_recursive, unmount};
use tidegate_instance::{RESOLVER, copy_readable};

use super::enter::c_path;
use super::{StepError, is_dir, masks, step};
use crate::report::{Report, State};
use crate::sys;

/// Bytes of the base root: the copies below, and room for folders.
const SIZE: &str = "size=24m,nr_inodes=16384,mode=0755";

/// Most bytes copied into `/etc`: certificates are half a megabyte, the linker's cache a tenth.
const MAX_COPY: u64 = 16 * 1024 * 1024;

/// In `/etc`: what stands in the place of `resolv.conf` where the network is the machine's own.
pub(super) const MACHINE_RESOLVER: &str = "resolv.machine";

/// Most bytes of it; the C library reads three servers and a few names.
const MAX_RESOLVER: usize = 16 * 1024;

/// Seconds until code gives a question for a name up: a little more than the server takes to give it up itself.
const PATIENCE: u32 = 12;

/// Deepest folder copied from `/etc`.
const MAX_DEPTH: u32 = 6;

/// What a function sees of the machine's `/etc`, besides every folder whose name begins as in [`ETC_VERSIONED`].
const ETC: &[&str] = &[
    "ssl",
    "pki",
    "ca-certificates",
    "ca-certificates.conf",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "alternatives",
    "localtime",
    "timezone",
    "mime.types",
    "protocols",
    "services",
];

/// What a tool cannot start without, of a folder in `/etc` whose other files may hold passwords.
const ETC_OF: &[(&str, &[&str])] = &[("maven", &["m2.conf", "logging"])];

/// Interpreters' own settings, in folders named by version: `python3.11`, `java-17-openjdk`.
const ETC_VERSIONED: &[&str] = &["python3", "java-", "php"];

const FOLDERS: &[&str] = &[
    "usr",
    "etc",
    "dev",
    "dev/shm",
    "proc",
    "sys",
    "tmp",
    "run",
    "run/secrets",
    "var",
    "var/openfaas",
    "home",
    "function",
    "layer",
    "runtime",
];

const DEVICES: &[(&str, u32, u32)] = &[
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
];

const LINKS: &[(&str, &str)] = &[
    ("dev/fd", "/proc/self/fd"),
    ("dev/stdin", "/proc/self/fd/0"),
    ("dev/stdout", "/proc/self/fd/1"),
    ("dev/stderr", "/proc/self/fd/2"),
    ("var/tmp", "/tmp"),
    ("var/run", "/run"),
    // Where functions made for OpenFaaS look for their secrets, and where their code lies.
    ("var/openfaas/secrets", "/run/secrets"),
    ("home/app", "/function"),
    // Node looks for packages beside each folder above the file that asks, and this is the last of them.
    ("node_modules", "layer/node_modules"),
];

/// Where it stands, and what of it works.
pub(super) struct Base {
    pub(super) root: PathBuf,
    /// Whether the kernel lets a sandbox mount `/proc`.
    pub(super) has_proc: bool,
}

pub(super) fn build(root: &Path, report: &mut Report) -> Result<Base, StepError> {
    step(
        "folder for roots",
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(root),
    )?;
    step(
        "mount the base root",
        mount(c"tidegate", root, c"tmpfs", MountFlags::NOSUID, &*sized()),
    )?;
    for folder in FOLDERS {
        step(*folder, fs::create_dir(root.join(folder)))?;
        step(*folder, mode(&root.join(folder), 0o755))?;
    }
    step("bind /usr", bind_tree(Path::new("/usr"), &root.join("usr")))?;
    for name in ["bin", "sbin", "lib", "lib32", "lib64", "libx32"] {
        step(
            format!("show /{name}"),
            show(&Path::new("/").join(name), &root.join(name)),
        )?;
    }
    step("files of /etc", etc(&root.join("etc")))?;
    step("files of language hosts", runtimes(&root.join("runtime")))?;
    for &(name, major, minor) in DEVICES {
        step(format!("device {name}"), device(root, name, major, minor))?;
    }
    for (at, to) in LINKS {
        step(*at, symlink(to, root.join(at)))?;
    }
    step(
        "base root read-only",
        c_path(root).and_then(|path| sys::mount_set(&path, false, libc::MOUNT_ATTR_RDONLY)),
    )?;
    let has_proc = match try_proc(root) {
        Ok(()) => {
            report.note("/proc", State::Ok, "a sandbox sees its own processes only");
            true
        }
        Err(error) => {
            report.note(
                "/proc",
                State::Missing,
                format!(
                    "the kernel does not let a sandbox mount it ({error}); functions go without"
                ),
            );
            false
        }
    };
    Ok(Base {
        root: root.to_owned(),
        has_proc,
    })
}

fn sized() -> std::ffi::CString {
    std::ffi::CString::new(SIZE).unwrap_or_default()
}

fn mode(path: &Path, bits: u32) -> io::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(bits))
}

fn bind_tree(from: &Path, to: &Path) -> io::Result<()> {
    mount_bind_recursive(from, to)?;
    sys::mount_set(
        &c_path(to)?,
        true,
        libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV,
    )
}

/// A link as a link (most of today's systems keep everything in `/usr`), a folder as a mount, nothing as nothing.
fn show(from: &Path, to: &Path) -> io::Result<()> {
    match fs::symlink_metadata(from) {
        Ok(meta) if meta.is_symlink() => symlink(fs::read_link(from)?, to),
        Ok(meta) if meta.is_dir() => {
            fs::create_dir(to)?;
            bind_tree(from, to)
        }
        _ => Ok(()),
    }
}

fn etc(to: &Path) -> io::Result<()> {
    let generated = [
        (
            "passwd",
            "root:x:0:0:root:/:/usr/sbin/nologin\nfunction:x:1000:1000:function:/tmp:/bin/sh\n\
             nobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n",
        ),
        ("group", "root:x:0:\nfunction:x:1000:\nnogroup:x:65534:\n"),
        (
            "hosts",
            "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n",
        ),
        ("hostname", "function\n"),
        (
            "nsswitch.conf",
            "passwd: files\ngroup: files\nhosts: files dns\nservices: files\nprotocols: files\n",
        ),
        (
            "resolv.conf",
            // Where nobody answers, the question is refused at once.
            &*format!("nameserver {RESOLVER}\noptions timeout:{PATIENCE} attempts:1\n"),
        ),
        // What is covered in `/proc` is covered with it.
        ("machine-id", ""),
    ];
    for (name, text) in generated {
        fs::write(to.join(name), text)?;
        mode(&to.join(name), 0o644)?;
    }
    let mut left = MAX_COPY;
    // Whom the machine itself asks, for functions that share its network.
    let asked = fs::read("/etc/resolv.conf").unwrap_or_default();
    let asked_here = to.join(MACHINE_RESOLVER);
    fs::write(&asked_here, &asked[..asked.len().min(MAX_RESOLVER)])?;
    mode(&asked_here, 0o644)?;
    for name in ETC {
        copy_readable(
            &Path::new("/etc").join(name),
            &to.join(name),
            MAX_DEPTH,
            &mut left,
        )?;
    }
    for (folder, names) in ETC_OF {
        let from = Path::new("/etc").join(folder);
        if !is_dir(&from) {
            continue;
        }
        fs::create_dir(to.join(folder))?;
        mode(&to.join(folder), 0o755)?;
        for name in *names {
            let to = to.join(folder).join(name);
            copy_readable(&from.join(name), &to, MAX_DEPTH, &mut left)?;
        }
    }
    for entry in fs::read_dir("/etc")?.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if ETC_VERSIONED.iter().any(|begin| name.starts_with(begin)) {
            copy_readable(
                &entry.path(),
                &to.join(entry.file_name()),
                MAX_DEPTH,
                &mut left,
            )?;
        }
    }
    Ok(())
}

/// The language hosts that are run inside, a folder each.
fn runtimes(to: &Path) -> io::Result<()> {
    for language in crate::language::ALL {
        for (name, text) in language.sources {
            let path = to.join(language.name).join(name);
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
                for folder in parent.ancestors().take_while(|folder| *folder != to) {
                    mode(folder, 0o755)?;
                }
            }
            fs::write(&path, text)?;
            mode(&path, 0o644)?;
        }
    }
    Ok(())
}

/// Made where that is allowed, else bound from the machine's.
fn device(root: &Path, name: &str, major: u32, minor: u32) -> io::Result<()> {
    let path = root.join("dev").join(name);
    let made = rustix::fs::mknodat(
        CWD,
        &path,
        FileType::CharacterDevice,
        Mode::from_raw_mode(0o666),
        rustix::fs::makedev(major, minor),
    );
    match made {
        Ok(()) => {
            mode(&path, 0o666)?;
            // In a user namespace the node may exist and still not open.
            if fs::File::open(&path).is_ok() {
                return Ok(());
            }
        }
        Err(_) => {
            fs::File::create(&path)?;
        }
    }
    Ok(mount_bind(Path::new("/dev").join(name), &path)?)
}

/// Tries the mount that every sandbox makes, in a process of its own: it needs a pid namespace.
fn try_proc(root: &Path) -> io::Result<()> {
    let at = root.join("proc");
    if !is_dir(&at) {
        return Err(io::ErrorKind::NotFound.into());
    }
    sys::attempt(libc::CLONE_NEWPID | libc::CLONE_NEWNS, || {
        let done = mount_proc(&at, true);
        let _ = unmount(&at, UnmountFlags::DETACH);
        done
    })
}

/// A `/proc` of this pid namespace. `hide`: processes of which one is not the owner do not show, the init among them.
pub(super) fn mount_proc(at: &Path, hide: bool) -> io::Result<()> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let options = if hide { c"hidepid=2" } else { c"" };
    mount(c"proc", at, c"proc", flags, options)?;
    masks::cover(at)
}
