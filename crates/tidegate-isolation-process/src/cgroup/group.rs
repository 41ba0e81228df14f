//! One sandbox's groups, one in each hierarchy.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use super::{Controller, GroupLimits, Place, Version};

/// Length of the window in which processor time is shared out, in microseconds: the kernel's default. Shorter windows
/// even the pauses out but cost switches.
const CPU_PERIOD_US: u64 = 100_000;

/// Least processor time a window, in microseconds: the kernel refuses less.
const CPU_QUOTA_MIN_US: u64 = 1_000;

/// One sandbox's groups. Not removed when dropped: that has to wait until the kernel has let go of the processes.
#[derive(Debug)]
pub(crate) struct Group {
    places: Vec<Place>,
}

/// What the accounts say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) memory: Option<u64>,
    pub(crate) memory_peak: Option<u64>,
    pub(crate) cpu_us: Option<u64>,
    pub(crate) oom_kills: u64,
    pub(crate) fork_refusals: u64,
}

impl Group {
    pub(super) fn make(parents: &[Place], number: u64) -> io::Result<Self> {
        let mut group = Self { places: Vec::new() };
        for parent in parents {
            let dir = parent.dir.join(number.to_string());
            if let Err(error) = fs::create_dir(&dir) {
                group.remove();
                return Err(named(&dir, &error));
            }
            group.places.push(Place {
                dir,
                ..parent.clone()
            });
        }
        Ok(group)
    }

    /// Sets the limits. A limit that the kernel does not take is an error: a sandbox without it would be a lie.
    pub(crate) fn limit(&self, limits: GroupLimits) -> io::Result<()> {
        for Place {
            dir,
            version,
            controllers,
        } in &self.places
        {
            for controller in controllers {
                match (controller, version) {
                    (Controller::Memory, Version::V1) => {
                        set(dir, "memory.limit_in_bytes", &limits.memory.to_string())?;
                        // There where swap is accounted, and nowhere else.
                        let swap = dir.join("memory.memsw.limit_in_bytes");
                        if swap.exists() {
                            set(
                                dir,
                                "memory.memsw.limit_in_bytes",
                                &limits.memory.to_string(),
                            )?;
                        }
                    }
                    (Controller::Memory, Version::V2) => {
                        set(dir, "memory.max", &limits.memory.to_string())?;
                        set(dir, "memory.oom.group", "1")?;
                        if dir.join("memory.swap.max").exists() {
                            set(dir, "memory.swap.max", "0")?;
                        }
                    }
                    (Controller::Cpu, version) if limits.cpu_milli > 0 => {
                        let quota = (u64::from(limits.cpu_milli) * CPU_PERIOD_US / 1000)
                            .max(CPU_QUOTA_MIN_US);
                        match version {
                            Version::V1 => {
                                set(dir, "cpu.cfs_period_us", &CPU_PERIOD_US.to_string())?;
                                set(dir, "cpu.cfs_quota_us", &quota.to_string())?;
                            }
                            Version::V2 => {
                                set(dir, "cpu.max", &format!("{quota} {CPU_PERIOD_US}"))?;
                            }
                        }
                    }
                    (Controller::Cpu | Controller::CpuAccount, _) => {}
                    (Controller::Pids, _) => set(dir, "pids.max", &limits.pids.to_string())?,
                }
            }
        }
        Ok(())
    }

    /// Descriptors that a process writes `0` to in order to join.
    pub(crate) fn doors(&self) -> io::Result<Vec<OwnedFd>> {
        self.places
            .iter()
            .map(|place| {
                let path = place.dir.join("cgroup.procs");
                OpenOptions::new()
                    .write(true)
                    .open(&path)
                    .map(OwnedFd::from)
                    .map_err(|e| named(&path, &e))
            })
            .collect()
    }

    pub(crate) fn dirs(&self) -> Vec<PathBuf> {
        self.places.iter().map(|p| p.dir.clone()).collect()
    }

    /// Removes the folders. False when the kernel still holds one: try again later.
    pub(crate) fn remove(&mut self) -> bool {
        self.places
            .retain(|place| match fs::remove_dir(&place.dir) {
                Ok(()) => false,
                Err(error) => error.kind() != io::ErrorKind::NotFound,
            });
        self.places.is_empty()
    }
}

/// Reads the accounts of a group, of either version, from whichever of its folders has them.
pub(crate) fn read(dirs: &[impl AsRef<Path>]) -> Reading {
    let mut reading = Reading::default();
    let text = |dir: &Path, file: &str| fs::read_to_string(dir.join(file)).ok();
    let number = |dir: &Path, file: &str| text(dir, file)?.trim().parse::<u64>().ok();
    let field = |dir: &Path, file: &str, name: &str| {
        text(dir, file)?
            .lines()
            .find_map(|l| l.strip_prefix(name)?.trim().parse::<u64>().ok())
    };
    for dir in dirs {
        let dir = dir.as_ref();
        if let Some(kills) = field(dir, "memory.oom_control", "oom_kill ")
            .or_else(|| field(dir, "memory.events", "oom_kill "))
        {
            reading.oom_kills = kills;
            reading.memory =
                number(dir, "memory.usage_in_bytes").or_else(|| number(dir, "memory.current"));
            reading.memory_peak =
                number(dir, "memory.max_usage_in_bytes").or_else(|| number(dir, "memory.peak"));
        }
        if let Some(refusals) = field(dir, "pids.events", "max ") {
            reading.fork_refusals = refusals;
        }
        if let Some(cpu) = number(dir, "cpuacct.usage")
            .map(|ns| ns / 1000)
            .or_else(|| field(dir, "cpu.stat", "usage_usec "))
        {
            reading.cpu_us = Some(cpu);
        }
    }
    reading
}

fn set(dir: &Path, file: &str, value: &str) -> io::Result<()> {
    let path = dir.join(file);
    fs::write(&path, value).map_err(|e| named(&path, &e))
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        // The launcher tells the server a number, so it has to survive.
        Some(errno) => io::Error::from_raw_os_error(errno),
        None => io::Error::new(error.kind(), format!("{}: {error}", path.display())),
    }
}
