//! What process 1 watches of its sandbox, on machines where no control group may be made: memory, processor, processes.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::Timespec;

use super::turns::{Accounts, Do, Spent, Turns};
use crate::protocol::Word;
use crate::sys;

/// How often the watchdog looks. What grows by a gigabyte a second gets 50 MiB over its limit.
const EVERY: Duration = Duration::from_millis(50);

/// What no control group holds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Watched {
    pub(super) memory: bool,
    pub(super) cpu: bool,
    /// The kernel holds these by a resource limit, which does not tell when it was met.
    pub(super) processes: bool,
}

impl Watched {
    /// Whether process 1 has to see the others.
    pub(super) fn any(self) -> bool {
        self.memory || self.cpu || self.processes
    }
}

/// What a sandbox may have.
pub(super) struct Bounds {
    /// Bytes.
    pub(super) memory: u64,
    /// Thousandths of a core; 0 is no bound.
    pub(super) cpu_milli: u32,
    /// Processes and threads, process 1 included.
    pub(super) processes: Option<u64>,
}

/// What a look found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// At least this much memory is in use, and that is too much.
    Memory { used: u64 },
    /// It may be too much, if processes share little; so much of it is in files.
    Crowded { files: u64 },
    /// There are as many processes as there may be, which was not so at the last look.
    Full,
}

impl From<Found> for Word {
    fn from(found: Found) -> Self {
        match found {
            Found::Memory { used } => Self::Memory { used },
            Found::Crowded { files } => Self::Crowded { files },
            Found::Full => Self::Full,
        }
    }
}

/// Looks at a sandbox from its process 1.
pub(super) struct Watch {
    watched: Watched,
    bounds: Bounds,
    turns: Option<Turns>,
    accounts: Accounts,
    was_full: bool,
    due: Instant,
}

impl Watch {
    pub(super) fn new(watched: Watched, bounds: Bounds) -> Self {
        let now = Instant::now();
        let holds_cpu = watched.cpu && bounds.cpu_milli > 0;
        if watched.any() {
            sys::short_slices();
        }
        Self {
            turns: holds_cpu.then(|| Turns::new(bounds.cpu_milli, now)),
            watched,
            bounds,
            accounts: Accounts::default(),
            was_full: false,
            due: now + EVERY,
        }
    }

    /// How long to wait for something else; for ever where nothing is watched.
    pub(super) fn patience(&self) -> Option<Timespec> {
        if !self.watched.any() {
            return None;
        }
        let next = self.turns.as_ref().and_then(Turns::next);
        let until = next.map_or(self.due, |next| next.min(self.due));
        let left = until.saturating_duration_since(Instant::now());
        Some(Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(left.subsec_nanos()),
        })
    }

    /// Looks, when it is time to, and gives turns at the processor.
    pub(super) fn look(&mut self) -> Vec<Found> {
        let mut found = Vec::new();
        if !self.watched.any() {
            return found;
        }
        let now = Instant::now();
        if now >= self.due {
            self.due = now + EVERY;
            let seen = Seen::look(self.watched);
            found.extend(self.memory(&seen));
            found.extend(self.full(&seen));
            if let Some(turns) = &mut self.turns {
                let used = self.accounts.look(&seen.spent, sys::reaped_cpu());
                turns.used(used, self.accounts.eager(), now);
            }
        }
        match self.turns.as_mut().and_then(|turns| turns.step(now)) {
            Some(Do::Stop) => sys::signal_all(libc::SIGSTOP),
            Some(Do::Continue) => self.serve_next(),
            Some(Do::Free) => {
                self.accounts.free();
                sys::signal_all(libc::SIGCONT);
            }
            None => {}
        }
        found
    }

    /// Gives the next few processes their turn.
    fn serve_next(&mut self) {
        let pids = others().map(|(pid, _)| pid).collect();
        for pid in self.accounts.next(pids) {
            sys::kill(pid, libc::SIGCONT);
        }
    }

    /// Whether there were as many processes as there may be just before one of them was collected.
    pub(super) fn was_full(&self) -> bool {
        let most = self.bounds.processes.filter(|_| self.watched.processes);
        most.is_some_and(|most| Seen::look(self.watched).tasks + 1 >= most)
    }

    fn memory(&self, seen: &Seen) -> Option<Found> {
        // Files that are too much by themselves are ended with whoever comes to use them.
        if !self.watched.memory || seen.largest == 0 {
            return None;
        }
        let used = seen.largest + seen.files;
        if used > self.bounds.memory {
            return Some(Found::Memory { used });
        }
        let files = seen.files;
        (seen.sum + files > self.bounds.memory).then_some(Found::Crowded { files })
    }

    fn full(&mut self, seen: &Seen) -> Option<Found> {
        let most = self.bounds.processes.filter(|_| self.watched.processes)?;
        let was_full = std::mem::replace(&mut self.was_full, seen.tasks >= most);
        (self.was_full && !was_full).then_some(Found::Full)
    }
}

/// All processes but process 1, at one moment. From inside it cannot be told which pages forked processes share, so there
/// are two bounds of what they use.
#[derive(Debug, Default)]
struct Seen {
    /// Bytes of files in memory.
    files: u64,
    /// Bytes of the largest process, and of all as if they shared nothing.
    largest: u64,
    sum: u64,
    /// Processes and threads, process 1 included.
    tasks: u64,
    spent: Vec<Spent>,
}

impl Seen {
    fn look(watched: Watched) -> Self {
        let mut seen = Self {
            files: if watched.memory {
                used("/tmp") + used("/dev/shm")
            } else {
                0
            },
            tasks: 1,
            ..Self::default()
        };
        for (pid, folder) in others() {
            if watched.memory
                && let Ok(status) = fs::read_to_string(folder.join("status"))
            {
                let one = resident(&status);
                seen.largest = one.max(seen.largest);
                seen.sum += one;
            }
            if let Some((threads, children)) = fs::read_to_string(folder.join("stat"))
                .ok()
                .and_then(|stat| tasks(&stat))
            {
                seen.tasks += threads;
                seen.spent.push(Spent {
                    pid,
                    own: sys::cpu_of(pid).unwrap_or_default(),
                    waited: if watched.cpu {
                        waited(&folder).unwrap_or_default()
                    } else {
                        Duration::ZERO
                    },
                    children,
                });
            }
        }
        seen
    }
}

/// All processes but process 1, with their folders.
fn others() -> impl Iterator<Item = (i32, PathBuf)> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        (pid != 1).then(|| (pid, entry.path()))
    })
}

fn resident(status: &str) -> u64 {
    status
        .lines()
        .filter_map(|line| {
            let rest = line
                .strip_prefix("RssAnon:")
                .or_else(|| line.strip_prefix("RssShmem:"))?;
            rest.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()
        })
        .sum::<u64>()
        * 1024
}

/// How long a process's first thread was able to run and had no processor.
fn waited(folder: &Path) -> Option<Duration> {
    let text = fs::read_to_string(folder.join("schedstat")).ok()?;
    let nanos = text.split_whitespace().nth(1)?.parse().ok()?;
    Some(Duration::from_nanos(nanos))
}

/// Threads, and processor time of the children that were waited for.
fn tasks(stat: &str) -> Option<(u64, Duration)> {
    // The name in parentheses may hold anything, so fields are counted after its end; the first is the state.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    let ticks = number(13)? + number(14)?;
    Some((
        number(17)?,
        Duration::from_micros(ticks * crate::usage::TICK_US),
    ))
}

fn used(folder: &str) -> u64 {
    rustix::fs::statvfs(folder).map_or(0, |s| (s.f_blocks - s.f_bfree) * s.f_frsize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anonymous_and_shared_memory_count_and_mapped_files_do_not() {
        let status = "Name:\tx\nVmRSS:\t  9000 kB\nRssAnon:\t    1024 kB\nRssFile:\t  7000 kB\nRssShmem:\t       8 kB\n";
        assert_eq!(resident(status), 1032 * 1024);
        assert_eq!(resident("Name:\tkthread\n"), 0);
    }

    #[test]
    fn threads_and_children_are_found_whatever_the_name() {
        let stat =
            "42 (a) b (c) S 1 1 1 0 -1 4194560 100 0 0 0 7 3 2 1 20 0 5 0 100 1000000 25 184467";
        assert_eq!(tasks(stat), Some((5, Duration::from_millis(30))));
        assert_eq!(tasks("nonsense"), None);
    }

    fn watch() -> Watch {
        let watched = Watched {
            memory: true,
            cpu: false,
            processes: true,
        };
        let bounds = Bounds {
            memory: 100,
            cpu_milli: 0,
            processes: Some(5),
        };
        Watch::new(watched, bounds)
    }

    #[test]
    fn files_alone_end_nobody_and_are_not_told_of_again_and_again() {
        let with = |files, largest, sum| {
            let seen = Seen {
                files,
                largest,
                sum,
                ..Seen::default()
            };
            watch().memory(&seen)
        };
        assert_eq!(with(500, 0, 0), None);
        assert_eq!(with(500, 1, 1), Some(Found::Memory { used: 501 }));
        assert_eq!(with(10, 60, 95), Some(Found::Crowded { files: 10 }));
        assert_eq!(with(10, 60, 80), None);
    }

    #[test]
    fn the_process_limit_is_told_of_when_it_is_met() {
        let mut watch = watch();
        let told: Vec<_> = [4, 5, 6, 4, 5]
            .into_iter()
            .map(|tasks| {
                let seen = Seen {
                    tasks,
                    ..Seen::default()
                };
                watch.full(&seen).is_some()
            })
            .collect();
        assert_eq!(told, [false, true, false, false, true]);
    }
}
