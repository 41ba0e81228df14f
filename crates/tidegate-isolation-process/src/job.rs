//! Running a job: the walls, the tool, the watchers, and the folders afterwards.
//!
//! All of it happens in a task of its own that outlives whoever waits for it: a job that nobody waits for any more is
//! ended like one that took too long, and its folders are set right all the same.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Gid, Uid};
use tidegate_core::{InstanceId, InvocationId};
use tidegate_instance::{
    EGRESS_PORT, Egress, Exit, Job, JobEnd, JobOutput, LogSink, LogStream, Reason, StartError,
    Usage,
};
use tokio::net::TcpListener;
use tokio::net::unix::pipe;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use crate::cgroup::{self, GroupLimits};
use crate::disk::{self, TooMuch, Watch};
use crate::output::Output;
use crate::protocol::{JobFolder, JobPayload, LastWords, MAX_PAYLOAD, Order, Rlimits, Word};
use crate::start::{DEFAULT_ENV, host_name, open_files};
use crate::supervisor::{Ended, Sandbox, Supervisor, failed};
use crate::{usage, walk};

/// Most folders of one job.
const MAX_FOLDERS: usize = 32;

/// Longest message of a job's init in bytes: a step's name, with a path in it, and numbers.
const MAX_WORD: usize = 8192;

/// How long the rest of the output may take once every process that could write is gone.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// How long the end of a sandbox may take after it was killed, before its folders are looked at in any case: the kernel
/// frees the memory of what it ends, and gigabytes take a while.
const FAREWELL: Duration = Duration::from_secs(20);

/// How long the door rests after an error that is not one connection's: descriptors have run out.
const DOOR_REST: Duration = Duration::from_millis(50);

/// Refused forks after which a job is no build that tries once too often but one that will never stop, as a multiple of
/// the processes that it may have: a shell waits for seconds between its tries, so each of a bomb's processes has had two.
const HOPELESS: u64 = 2;

/// What of the places in [`TAKEN`] is free all the same: where an instance has its secrets, a job may have its own.
const FREE: [&str; 2] = ["run", "secrets"];

/// What an isolation shows at its root and no folder may cover.
const TAKEN: &[&str] = &[
    "usr",
    "etc",
    "dev",
    "proc",
    "sys",
    "tmp",
    "run",
    "bin",
    "sbin",
    "runtime",
    "node_modules",
];

/// Runs it. Dropping the future ends the job.
pub(crate) async fn run(supervisor: &Arc<Supervisor>, job: Job) -> Result<JobEnd, StartError> {
    let cancel = CancellationToken::new();
    let guard = cancel.clone().drop_guard();
    let running = supervisor
        .control()
        .spawn(live(supervisor.clone(), job, cancel));
    let end = running
        .await
        .unwrap_or_else(|error| Err(failed("run the job", io::Error::other(error))));
    drop(guard);
    end
}

/// How the part of a job that is watched ended.
enum Finished {
    Ended {
        ended: Ended,
        /// It had as many processes as it may, where the init tells.
        full: bool,
    },
    Over(Reason),
    /// The sandbox is gone without a word.
    Lost,
}

async fn live(
    supervisor: Arc<Supervisor>,
    job: Job,
    cancel: CancellationToken,
) -> Result<JobEnd, StartError> {
    let deadline = Instant::now() + job.limits.time;
    let folders = folders(&job)?;
    let payload = payload(&supervisor, &job, folders)?;
    let limits = GroupLimits {
        memory: job.limits.memory,
        cpu_milli: job.limits.cpu_milli,
        // The sandbox's init is a process too.
        pids: job.limits.pids.saturating_add(1),
    };
    let written: Vec<PathBuf> = job
        .folders
        .iter()
        .filter(|f| f.writable)
        .map(|f| f.outside.clone())
        .collect();
    let (sandbox, gone) = supervisor.job(limits, &payload).await?;
    let running = Running {
        output: Output::new(InstanceId(0), Arc::new(ToJob(job.output.clone()))),
        pumps: TaskTracker::new(),
        supervisor,
        sandbox,
        job,
        written,
    };
    let finished = tokio::select! {
        biased;
        () = cancel.cancelled() => Ok(Finished::Over(Reason::Killed)),
        finished = running.drive(deadline) => finished,
    };
    running.sandbox.kill();
    let last = timeout(FAREWELL, gone).await;
    running.pumps.close();
    let _ = timeout(LAST_WORDS, running.pumps.wait()).await;
    let full = running.settle().await;
    let finished = finished?;
    let Ok(last) = last.map(Result::unwrap_or_default) else {
        // Whoever reads the folders by name counts on nobody changing them meanwhile.
        let text = "its processes did not end in time";
        return Err(failed("end the job", io::Error::other(text)));
    };
    if matches!(finished, Finished::Lost) && running.supervisor.is_closed() {
        return Err(StartError::ShuttingDown);
    }
    Ok(running.end(&finished, last, full))
}

/// The folders as the launcher takes them; the error says what is wrong with one.
fn folders(job: &Job) -> Result<Vec<JobFolder>, StartError> {
    let refused = |text: String| failed("folders of the job", io::Error::other(text));
    if job.folders.len() > MAX_FOLDERS {
        return Err(refused(format!(
            "{} folders: a job takes at most {MAX_FOLDERS}",
            job.folders.len()
        )));
    }
    let mut places: Vec<PathBuf> = Vec::new();
    let mut folders = Vec::new();
    for folder in &job.folders {
        let inside = Path::new(&folder.inside);
        let names: Option<Vec<_>> = inside
            .components()
            .skip(1)
            .map(|part| match part {
                Component::Normal(name) => name.to_str(),
                _ => None,
            })
            .collect();
        let names = match names {
            Some(names) if inside.has_root() && !names.is_empty() => names,
            _ => {
                return Err(refused(format!(
                    "{:?} is no place for one: it has to be an absolute path without \"..\", such as \"/stage\"",
                    folder.inside
                )));
            }
        };
        let taken = (TAKEN.contains(&names[0]) && names != FREE)
            || names[0].starts_with("lib")
            || (names[0] == "var" && names.get(1).is_none_or(|n| ["tmp", "run"].contains(n)));
        if taken {
            return Err(refused(format!(
                "{:?} is no place for one: every sandbox has something else at /{}",
                folder.inside, names[0]
            )));
        }
        let place: PathBuf = names.iter().collect();
        if let Some(other) = places
            .iter()
            .find(|p| p.starts_with(&place) || place.starts_with(p))
        {
            return Err(refused(format!(
                "/{} and /{} lie in each other",
                place.display(),
                other.display()
            )));
        }
        places.push(place.clone());
        folders.push(JobFolder {
            outside: folder.outside.clone(),
            inside: place,
            writable: folder.writable,
        });
    }
    Ok(folders)
}

fn payload(
    supervisor: &Supervisor,
    job: &Job,
    folders: Vec<JobFolder>,
) -> Result<JobPayload, StartError> {
    if job.command.first().is_none_or(String::is_empty) {
        let text = "there is no program in it";
        return Err(failed("command of the job", io::Error::other(text)));
    }
    let words = job.command.iter().map(String::len);
    let env = job.env.iter().map(|(n, v)| n.len() + v.len());
    let size: usize = words.chain(env).sum();
    if size > MAX_PAYLOAD / 2 {
        let text = format!(
            "{size} bytes of command and environment: at most {} are taken",
            MAX_PAYLOAD / 2
        );
        return Err(failed("command of the job", io::Error::other(text)));
    }
    Ok(JobPayload {
        hostname: host_name(&job.name),
        command: job.command.clone(),
        env: environment(job),
        workdir: job.workdir.clone(),
        folders,
        door: job.egress.is_some().then_some(EGRESS_PORT),
        tmp: job.limits.tmp,
        memory: job.limits.memory,
        cpu_milli: job.limits.cpu_milli,
        rlimits: Rlimits {
            nofile: open_files(),
            fsize: job.limits.disk.max(job.limits.tmp),
            core: 0,
            nproc: supervisor
                .nproc
                .then(|| u64::from(job.limits.pids).saturating_add(1)),
        },
    })
}

fn environment(job: &Job) -> Vec<(String, String)> {
    let mut env = job.env.clone();
    let mut default = |name: &str, value: &str| {
        if !env.iter().any(|(n, _)| n == name) {
            env.push((name.to_owned(), value.to_owned()));
        }
    };
    for (name, value) in DEFAULT_ENV {
        default(name, value);
    }
    if job.egress.is_some() {
        let proxy = format!("http://127.0.0.1:{EGRESS_PORT}");
        // Tools disagree about the spelling.
        for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
            default(name, &proxy);
            default(&name.to_lowercase(), &proxy);
        }
        default("NO_PROXY", "localhost,127.0.0.1");
        default("no_proxy", "localhost,127.0.0.1");
    }
    env
}

struct Running {
    supervisor: Arc<Supervisor>,
    sandbox: Sandbox,
    job: Job,
    /// On the machine.
    written: Vec<PathBuf>,
    output: Output,
    /// Tasks that read output.
    pumps: TaskTracker,
}

impl Running {
    /// From the walls to the end of the tool, or to what ends it.
    async fn drive(&self, deadline: Instant) -> Result<Finished, StartError> {
        let too_late = tokio::time::sleep_until(deadline);
        tokio::pin!(too_late);
        let watched = self.watch();
        tokio::pin!(watched);
        let mut door = None;
        let mut buffer = vec![0; MAX_WORD];
        let mut over_memory = false;
        let mut full = false;
        loop {
            let received = tokio::select! {
                received = self.sandbox.channel.receive(&mut buffer) => received,
                () = &mut too_late => {
                    self.output.system(&format!(
                        "ended after {:?}, which is as long as it may take",
                        self.job.limits.time
                    ));
                    return Ok(Finished::Over(Reason::Time));
                }
                reason = &mut watched => return Ok(Finished::Over(reason)),
            };
            let (len, mut fds) = match received {
                Ok((len, fds)) if len > 0 => (len, fds),
                _ if over_memory => return Ok(Finished::Over(Reason::Memory)),
                _ => return Ok(Finished::Lost),
            };
            match serde_json::from_slice(&buffer[..len]) {
                Ok(Word::Ready { setup_us }) => {
                    tracing::trace!(job = self.job.name, setup_us, "sandbox");
                    if let (Some(egress), Some(socket)) = (&self.job.egress, fds.pop()) {
                        door = Some(self.open(egress.clone(), socket)?);
                    }
                    self.begin()
                        .await
                        .map_err(|e| failed("start the tool", e))?;
                }
                Ok(Word::Broken { step, errno }) => {
                    return Err(failed(step, io::Error::from_raw_os_error(errno)));
                }
                Ok(Word::Begun { errno: None, .. }) => {}
                Ok(Word::Begun {
                    errno: Some(errno), ..
                }) => return Err(self.not_begun(errno)),
                Ok(Word::Ended { code, signal, .. }) => {
                    drop(door);
                    return Ok(Finished::Ended {
                        ended: (code, signal),
                        full,
                    });
                }
                Ok(Word::Memory { used }) => {
                    self.over_memory(used);
                    over_memory = true;
                }
                Ok(Word::Crowded { files }) => {
                    let used = self.pages(files).await;
                    if used > self.job.limits.memory {
                        self.over_memory(used);
                        return Ok(Finished::Over(Reason::Memory));
                    }
                }
                Ok(Word::Full) => full = true,
                Ok(Word::Dialled { .. }) | Err(_) => {
                    let text = "an init said something unknown";
                    return Err(failed("hear the sandbox", io::Error::other(text)));
                }
            }
        }
    }

    fn over_memory(&self, used: u64) {
        self.output.system(&format!(
            "{} MiB of memory were in use, over the limit; all its processes were ended",
            used >> 20
        ));
    }

    /// Counts the pages of all processes, since the init could not tell which they share.
    async fn pages(&self, files: u64) -> u64 {
        let Ok(pidfd) = self.sandbox.pidfd.try_clone() else {
            return 0;
        };
        let counted =
            tokio::task::spawn_blocking(move || usage::proportional(pidfd.as_fd(), None) + files);
        counted.await.unwrap_or_default()
    }

    /// Takes the connections that are made to the door.
    fn open(
        &self,
        egress: Arc<dyn Egress>,
        socket: OwnedFd,
    ) -> Result<AbortOnDropHandle<()>, StartError> {
        let socket = std::net::TcpListener::from(socket);
        let listener = TcpListener::from_std(socket).map_err(|e| failed("open the door", e))?;
        let task = async move {
            loop {
                match listener.accept().await {
                    Ok((connection, _)) => egress.accept(connection),
                    Err(error) => {
                        tracing::debug!(%error, "a job's door");
                        tokio::time::sleep(DOOR_REST).await;
                    }
                }
            }
        };
        Ok(AbortOnDropHandle::new(tokio::spawn(task)))
    }

    /// Has the tool started, with nothing to read and its output going to the job's.
    async fn begin(&self) -> io::Result<()> {
        let stdin = OpenOptions::new().read(true).open("/dev/null")?;
        let stdout = self.pipe(LogStream::Stdout)?;
        let stderr = self.pipe(LogStream::Stderr)?;
        let order = serde_json::to_vec(&Order::Exec { n: 0, env: false })?;
        let fds = [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()];
        self.sandbox.channel.send(&order, &fds).await
    }

    fn pipe(&self, stream: LogStream) -> io::Result<OwnedFd> {
        let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        if let Some(id) = self.sandbox.id {
            // So that `/dev/stderr` can be opened by name.
            let (uid, gid) = (Uid::from_raw(id), Gid::from_raw(id));
            rustix::fs::fchown(&write, Some(uid), Some(gid))?;
        }
        let pipe = pipe::Receiver::from_owned_fd(read)?;
        self.pumps
            .spawn(self.output.clone().pump(pipe, stream, None));
        Ok(write)
    }

    fn not_begun(&self, errno: i32) -> StartError {
        let program = &self.job.command[0];
        let error = io::Error::from_raw_os_error(errno);
        StartError::Runtime(match errno {
            libc::ENOENT if !program.contains('/') => {
                let env = environment(&self.job);
                let path = env.iter().find(|(name, _)| name == "PATH");
                format!(
                    "{program:?} is not there inside, in none of {:?}",
                    path.map_or("", |(_, path)| path)
                )
            }
            libc::ENOTDIR => format!(
                "{program:?} cannot be run in {:?}: there is no such folder inside",
                self.job.workdir
            ),
            _ => format!("{program:?} cannot be run: {error}"),
        })
    }

    /// Resolves when the job has too much of something that no control group holds.
    async fn watch(&self) -> Reason {
        let mut watch = Watch::new(self.written.clone(), self.job.limits.disk);
        let hopeless = u64::from(self.job.limits.pids).saturating_mul(HOPELESS);
        let mut ticks = tokio::time::interval(disk::EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if cgroup::read(&self.sandbox.groups).fork_refusals > hopeless {
                self.output
                    .system("it went on starting processes after it had as many as it may");
                return Reason::Processes;
            }
            let found = match watch.is_due() {
                Ok(false) => continue,
                Ok(true) => {
                    let Ok(pidfd) = self.sandbox.pidfd.try_clone() else {
                        continue;
                    };
                    let walked = tokio::task::spawn_blocking(move || {
                        let processes = usage::processes(pidfd.as_fd(), None);
                        let found = watch.walk(&processes);
                        (watch, found)
                    });
                    let Ok((back, found)) = walked.await else {
                        return Reason::Disk;
                    };
                    watch = back;
                    found
                }
                Err(full) => Err(full),
            };
            if let Err(too_much) = found {
                self.output.system(&too_much.to_string());
                return Reason::Disk;
            }
        }
    }

    /// Makes the folders the server's again, and looks a last time at what they hold.
    async fn settle(&self) -> Option<TooMuch> {
        let (written, limit) = (self.written.clone(), self.job.limits.disk);
        let settled = tokio::task::spawn_blocking(move || {
            let untidy: Vec<String> = written
                .iter()
                .filter_map(|folder| {
                    let error = walk::tidy(folder).err()?;
                    // Who gave the job up may have removed it by now.
                    if error.kind() == io::ErrorKind::NotFound && !folder.exists() {
                        return None;
                    }
                    Some(format!("{}: {error}", folder.display()))
                })
                .collect();
            (untidy, disk::measure(&written, limit).err())
        });
        let (untidy, full) = settled.await.unwrap_or_default();
        for line in untidy {
            tracing::warn!(
                job = self.job.name,
                "a job's folder cannot be set right: {line}"
            );
        }
        full
    }

    fn end(&self, finished: &Finished, last: LastWords, full: Option<TooMuch>) -> JobEnd {
        let exit = match *finished {
            Finished::Over(reason) => Exit {
                reason,
                ..Exit::KILLED
            },
            Finished::Lost => Exit {
                reason: if last.oom_kills > 0 {
                    Reason::Memory
                } else {
                    Reason::Killed
                },
                ..Exit::KILLED
            },
            Finished::Ended {
                ended: (code, signal),
                full: crowded,
            } => {
                let failed = code != Some(0);
                let reason = if signal == Some(libc::SIGXFSZ) {
                    Reason::Disk
                } else if let Some(too_much) = full {
                    self.output.system(&too_much.to_string());
                    Reason::Disk
                } else if failed && last.oom_kills > 0 {
                    Reason::Memory
                } else if failed && (last.fork_refusals > 0 || crowded) {
                    Reason::Processes
                } else {
                    Reason::Exited
                };
                Exit {
                    code,
                    signal,
                    reason,
                }
            }
        };
        let measured = !self.sandbox.groups.is_empty();
        let usage = measured.then_some(Usage {
            cpu_us: last.cpu_us,
            memory: 0,
            memory_peak: last.memory_peak,
        });
        JobEnd { exit, usage }
    }
}

/// A job's output as a log's sink.
struct ToJob(Arc<dyn JobOutput>);

impl LogSink for ToJob {
    fn line(&self, _: InstanceId, stream: LogStream, _: Option<InvocationId>, text: &[u8]) {
        self.0.line(stream, text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nowhere;

    impl JobOutput for Nowhere {
        fn line(&self, _: LogStream, _: &[u8]) {}
    }

    fn job(places: &[&str]) -> Job {
        Job {
            name: "test".to_owned(),
            command: vec!["true".to_owned()],
            env: vec![("https_proxy".to_owned(), "mine".to_owned())],
            workdir: "/".to_owned(),
            folders: places
                .iter()
                .map(|inside| tidegate_instance::Folder {
                    outside: PathBuf::from("/nowhere"),
                    inside: (*inside).to_owned(),
                    writable: false,
                })
                .collect(),
            limits: tidegate_instance::JobLimits {
                memory: 1,
                cpu_milli: 1,
                pids: 1,
                tmp: 1,
                disk: 1,
                time: Duration::ZERO,
            },
            egress: None,
            output: Arc::new(Nowhere),
        }
    }

    #[test]
    fn a_folder_goes_where_nothing_else_is() {
        let good = [
            "/stage",
            "/out",
            "/root/.cargo",
            "/var/lib/gems",
            "/opt/x/y",
        ];
        assert_eq!(folders(&job(&good)).unwrap().len(), good.len());
        for (bad, words) in [
            ("work", "absolute path"),
            ("/", "absolute path"),
            ("/stage/../usr", "absolute path"),
            ("/usr/local/x", "at /usr"),
            ("/lib64", "at /lib64"),
            ("/tmp/x", "at /tmp"),
            ("/var/tmp/x", "at /var"),
        ] {
            let error = folders(&job(&[bad])).err().unwrap().to_string();
            assert!(error.contains(words), "{bad}: {error}");
        }
        for pair in [["/stage", "/stage/sub"], ["/a/b", "/a/b"], ["/x/y", "/x"]] {
            let error = folders(&job(&pair)).err().unwrap().to_string();
            assert!(error.contains("lie in each other"), "{error}");
        }
    }

    #[test]
    fn the_proxy_is_named_where_there_is_a_door_and_the_jobs_own_word_holds() {
        struct Door;
        impl Egress for Door {
            fn accept(&self, _: tokio::net::TcpStream) {}
        }
        let of = |job: &Job, name: &str| {
            let env = environment(job);
            let found: Vec<_> = env.into_iter().filter(|(n, _)| n == name).collect();
            assert!(found.len() < 2);
            found.into_iter().next().map(|(_, value)| value)
        };
        let mut job = job(&[]);
        assert_eq!(of(&job, "HTTPS_PROXY"), None);
        assert_eq!(of(&job, "HOME").as_deref(), Some("/tmp"));
        job.egress = Some(Arc::new(Door));
        assert_eq!(
            of(&job, "HTTPS_PROXY").as_deref(),
            Some("http://127.0.0.1:3128")
        );
        assert_eq!(of(&job, "https_proxy").as_deref(), Some("mine"));
    }
}
