//! An instance as an OCI bundle.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::{Value, json};
use tidegate_instance::{InstanceSpec, copy_readable};

use crate::protocol::{FOLDER, RELAY};

/// What gVisor's kernel and its stubs need beside the function's own memory, in bytes. Measured at about 40 MiB.
const KERNEL_MEMORY: u64 = 96 << 20;

/// The threads of gVisor's kernel and of what serves it files. A function's own each have one of the machine's as well.
const KERNEL_THREADS: u32 = 512;

/// Open files of one process.
const OPEN_FILES: u64 = 16 * 1024;

/// Files may be as large as `/tmp` is, and a little more, so that a full disk and not a signal is what code meets.
const FILE_SLACK: u64 = 1024 * 1024;

/// Length of the window in which processor time is shared out, in microseconds.
const CPU_PERIOD_US: u64 = 100_000;

/// Most bytes copied into `/etc`, and the deepest folder: certificates are half a megabyte.
const MAX_COPY: u64 = 16 * 1024 * 1024;
const MAX_DEPTH: u32 = 6;

/// What a function sees of the machine's `/etc`.
const ETC: &[&str] = &[
    "ssl",
    "ca-certificates",
    "ld.so.cache",
    "alternatives",
    "localtime",
    "mime.types",
    "protocols",
    "services",
];

/// Makes the root that all containers share, of folders, links and small files; `/usr` is mounted into it.
pub(crate) fn root(at: &Path) -> io::Result<()> {
    match fs::remove_dir_all(at) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    for folder in [
        "usr",
        "etc",
        "dev",
        "proc",
        "sys",
        "tmp",
        "run/secrets",
        "run/tidegate",
        "var",
        "home",
        "function",
        "layer",
        "runtime",
    ] {
        fs::create_dir_all(at.join(folder))?;
    }
    fs::write(at.join(RELAY.trim_start_matches('/')), "")?;
    for name in ["bin", "sbin", "lib", "lib32", "lib64", "libx32"] {
        if let Ok(to) = fs::read_link(Path::new("/").join(name)) {
            symlink(to, at.join(name))?;
        }
    }
    for (name, text) in [
        (
            "passwd",
            "root:x:0:0:root:/:/usr/sbin/nologin\nfunction:x:1000:1000:function:/tmp:/bin/sh\n",
        ),
        ("group", "root:x:0:\nfunction:x:1000:\n"),
        ("hosts", "127.0.0.1 localhost\n::1 localhost\n"),
        (
            "nsswitch.conf",
            "passwd: files\ngroup: files\nhosts: files\n",
        ),
        ("resolv.conf", "options timeout:1 attempts:1\n"),
    ] {
        fs::write(at.join("etc").join(name), text)?;
    }
    let mut left = MAX_COPY;
    for name in ETC {
        copy_readable(
            &Path::new("/etc").join(name),
            &at.join("etc").join(name),
            MAX_DEPTH,
            &mut left,
        )?;
    }
    Ok(())
}

/// What one container needs of the machine.
pub(crate) struct Parts<'a> {
    pub(crate) root: &'a Path,
    /// Holds the socket and nothing else.
    pub(crate) door: &'a Path,
    pub(crate) relay: &'a Path,
    /// Name of its control group, where one can be made.
    pub(crate) group: Option<String>,
    pub(crate) hostname: String,
}

/// The bundle's `config.json`.
pub(crate) fn config(parts: &Parts<'_>, spec: &InstanceSpec) -> Value {
    let limits = &spec.limits;
    let bind = |from: &Path, at: &str| json!({ "destination": at, "type": "bind", "source": from, "options": ["rbind", "ro", "nosuid", "nodev"] });
    let memory = |at: &str, options: String| json!({ "destination": at, "type": "tmpfs", "source": "tmpfs", "options": options.split(',').collect::<Vec<_>>() });
    let mut mounts = vec![
        json!({ "destination": "/proc", "type": "proc", "source": "proc" }),
        memory(
            "/tmp",
            format!("size={},mode=1777,nosuid,nodev", limits.tmp),
        ),
        memory(
            "/dev/shm",
            format!("size={},mode=1777,nosuid,nodev", limits.tmp),
        ),
        memory(
            "/run/secrets",
            "size=8388608,mode=0755,nosuid,nodev,noexec".to_owned(),
        ),
        bind(Path::new("/usr"), "/usr"),
        bind(&spec.bundle, "/function"),
        bind(parts.door, FOLDER),
        bind(parts.relay, RELAY),
    ];
    if let Some(layer) = &spec.layer {
        mounts.push(bind(layer, "/layer"));
    }
    let rlimit = |kind: &str, value: u64| json!({ "type": kind, "hard": value, "soft": value });
    // What the relay needs to become nobody on the way to a program, and to end one.
    let rights = ["CAP_SETUID", "CAP_SETGID", "CAP_KILL"];
    let mut linux = json!({
        "namespaces": [
            { "type": "pid" }, { "type": "network" }, { "type": "ipc" }, { "type": "uts" }, { "type": "mount" },
        ],
    });
    if let Some(group) = &parts.group {
        let quota = u64::from(limits.cpu_milli) * CPU_PERIOD_US / 1000;
        let mut resources = json!({
            "memory": { "limit": limits.memory.saturating_add(KERNEL_MEMORY) },
            "pids": { "limit": limits.pids.saturating_add(KERNEL_THREADS) },
        });
        if quota > 0 {
            resources["cpu"] = json!({ "quota": quota.max(1000), "period": CPU_PERIOD_US });
        }
        linux["cgroupsPath"] = json!(group);
        linux["resources"] = resources;
    }
    json!({
        "ociVersion": "1.0.2",
        "hostname": parts.hostname,
        "root": { "path": parts.root, "readonly": true },
        "mounts": mounts,
        "linux": linux,
        "process": {
            "terminal": false,
            "cwd": "/",
            "user": { "uid": 0, "gid": 0 },
            "args": [RELAY],
            "env": [],
            "noNewPrivileges": true,
            "capabilities": { "bounding": rights, "effective": rights, "permitted": rights },
            "rlimits": [
                rlimit("RLIMIT_NOFILE", OPEN_FILES),
                rlimit("RLIMIT_CORE", 0),
                rlimit("RLIMIT_FSIZE", limits.tmp.saturating_add(FILE_SLACK)),
            ],
        },
    })
}
