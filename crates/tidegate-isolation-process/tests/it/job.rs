//! Jobs: tools that are run once, with folders of the machine's.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tidegate_instance::{
    Egress, Folder, Isolation, Job, JobEnd, JobLimits, JobOutput, LogStream, Reason, StartError,
};
use tidegate_isolation_process::{ProcessIsolation, State};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::world::{World, exists, options, processes_with, until};

/// Collects what a job prints.
#[derive(Default)]
pub(crate) struct Printed(Mutex<Vec<(LogStream, String)>>);

impl JobOutput for Printed {
    fn line(&self, stream: LogStream, text: &[u8]) {
        let mut lines = self.0.lock();
        if lines.len() < 10_000 || stream == LogStream::System {
            lines.push((stream, String::from_utf8_lossy(text).into_owned()));
        }
    }
}

impl Printed {
    pub(crate) fn of(&self, stream: LogStream) -> String {
        let lines = self.0.lock();
        let lines = lines.iter().filter(|(s, _)| *s == stream);
        lines.map(|(_, text)| format!("{text}\n")).collect()
    }

    pub(crate) fn out(&self) -> String {
        self.of(LogStream::Stdout)
    }

    pub(crate) fn all(&self) -> String {
        format!("{:?}", self.0.lock())
    }
}

impl World {
    pub(crate) fn job(&self, command: &[&str]) -> (Job, Arc<Printed>) {
        let output = Arc::new(Printed::default());
        let job = Job {
            name: "build-tested".to_owned(),
            command: command.iter().map(|&c| c.to_owned()).collect(),
            env: Vec::new(),
            workdir: "/".to_owned(),
            folders: Vec::new(),
            limits: JobLimits {
                memory: 512 << 20,
                cpu_milli: 2000,
                pids: 256,
                tmp: 64 << 20,
                disk: 256 << 20,
                time: Duration::from_secs(50),
            },
            egress: None,
            output: output.clone(),
        };
        (job, output)
    }

    fn shell(&self, script: &str) -> (Job, Arc<Printed>) {
        self.job(&["sh", "-c", script])
    }

    /// A folder of its own on the machine, at this place inside.
    pub(crate) fn folder(&self, inside: &str, writable: bool) -> Folder {
        let outside = self.bundle(&[("there", "before\n")]);
        Folder {
            outside,
            inside: inside.to_owned(),
            writable,
        }
    }

    pub(crate) async fn runs(&self, job: Job) -> JobEnd {
        self.isolation.run(job).await.expect("the job runs")
    }
}

pub(crate) async fn it_has_the_walls_of_an_instance(world: &World) {
    let script = "id -u; pwd; hostname; umask
grep -E '^(CapPrm|CapEff|CapBnd|NoNewPrivs|Seccomp):' /proc/self/status | tr '\\t' ' '
env | sort
ls / | tr '\\n' ' '; echo
ls /proc/self/fd | tr '\\n' ' '; echo
for path in /root /home /boot /mnt /etc/shadow /function /run/secrets /proc/1/environ; do
  [ -n \"$(ls -d $path/* 2>/dev/null)\" ] && echo \"SEEN $path\"; cat $path 2>/dev/null && echo \"READ $path\"
done
for path in / /usr /etc /dev /run /var; do touch $path/x 2>/dev/null && echo \"WRITTEN $path\"; done
unshare -m true 2>/dev/null && echo UNSHARED
echo to stderr >&2
echo by name > /dev/stderr
touch /tmp/x && exit 7";
    let (mut job, output) = world.shell(script);
    job.env = vec![("GREETING".to_owned(), "hello".to_owned())];
    let end = world.runs(job).await;
    assert_eq!(
        (end.exit.code, end.exit.signal, end.exit.reason),
        (Some(7), None, Reason::Exited),
        "{}",
        output.all()
    );
    let text = output.out();
    assert!(text.starts_with("1000\n/\nbuild-tested\n0022\n"), "{text}");
    for line in [
        "CapPrm: 0000000000000000",
        "CapEff: 0000000000000000",
        "CapBnd: 0000000000000000",
        "NoNewPrivs: 1",
        "Seccomp: 2",
        "GREETING=hello\nHOME=/tmp\nLANG=C.UTF-8\nPATH=/usr/local/bin:/usr/bin:/bin\nPWD=/\nTMPDIR=/tmp\n",
        "\n0 1 2 3 \n",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    for bad in ["SEEN", "READ", "WRITTEN", "UNSHARED", "PROXY"] {
        assert!(!text.contains(bad), "{text}");
    }
    let top = text
        .lines()
        .find(|l| l.starts_with("bin "))
        .expect("a list");
    let known = [
        "bin",
        "dev",
        "etc",
        "lib",
        "lib32",
        "lib64",
        "libx32",
        "node_modules",
        "proc",
        "run",
        "runtime",
        "sbin",
        "sys",
        "tmp",
        "usr",
        "var",
    ];
    for name in top.split_whitespace() {
        assert!(known.contains(&name), "/{name} is seen inside");
    }
    assert_eq!(output.of(LogStream::Stderr), "to stderr\nby name\n");
    if world.counts_by_kernel("memory limit") {
        let usage = end.usage.expect("measured");
        assert!(usage.memory_peak > 0 && usage.cpu_us > 0, "{usage:?}");
    }
}

pub(crate) async fn secrets_of_its_own_are_where_an_instance_has_them(world: &World) {
    let script = "cat /run/secrets/there /var/run/secrets/there
echo no > /run/secrets/x 2>/dev/null && echo WRITTEN
touch /run/x 2>/dev/null && echo WRITTEN; exit 0";
    let (mut job, output) = world.shell(script);
    job.folders = vec![world.folder("/run/secrets", false)];
    let end = world.runs(job).await;
    assert!(end.exit.is_success(), "{}", output.all());
    assert_eq!(output.out(), "before\nbefore\n");
}

pub(crate) async fn folders_are_there_and_what_is_written_is_the_servers(world: &World) {
    let script = "cat there; cat /source/there; cat /root/.tool/there; /root/.tool/program
echo no > /source/x 2>/dev/null && echo WRITTEN
echo more >> there && mkdir -p sub/deep && echo new > sub/deep/file && chmod 000 sub
touch run && chmod 6755 run; ln -s /etc/passwd link; ln -s / up; mkfifo pipe
echo out > /out/result; rm /out/there
stat -c %u there . ";
    let (mut job, output) = world.shell(script);
    let tool = world.folder("/root/.tool", false);
    fs::write(tool.outside.join("program"), "#!/bin/sh\necho it runs\n").expect("written");
    let mode = fs::Permissions::from_mode(0o755);
    fs::set_permissions(tool.outside.join("program"), mode).expect("a mode");
    job.folders = vec![
        world.folder("/stage", true),
        world.folder("/out", true),
        world.folder("/source", false),
        tool,
    ];
    job.workdir = "/stage".to_owned();
    let [work, out] = [&job.folders[0], &job.folders[1]].map(|f| f.outside.clone());
    let end = world.runs(job).await;
    assert!(end.exit.is_success(), "{end:?} {}", output.all());
    assert_eq!(
        output.out(),
        "before\nbefore\nbefore\nit runs\n1000\n1000\n",
        "{}",
        output.all()
    );
    check_ours(&work, &out);
}

/// While it runs too: nothing is given away where ids can be mapped.
pub(crate) async fn what_is_written_is_the_servers_at_once(world: &World) {
    let note = world.report.get("folders of jobs").expect("reported");
    if note.state != State::Ok {
        println!("       {}", note.detail);
        return;
    }
    let (mut job, output) =
        world.shell("echo x > /stage/new; while [ ! -e /stage/enough ]; do sleep 0.01; done");
    job.folders = vec![world.folder("/stage", true)];
    let work = job.folders[0].outside.clone();
    let me = rustix::process::geteuid().as_raw();
    let looks = async {
        let new = until("file", || fs::metadata(work.join("new")).ok()).await;
        let there = fs::metadata(work.join("there")).expect("it is there");
        fs::write(work.join("enough"), "").expect("written");
        (new.uid(), there.uid())
    };
    let (end, owners) = tokio::join!(world.runs(job), looks);
    assert!(end.exit.is_success(), "{end:?} {}", output.all());
    assert_eq!(owners, (me, me));
}

/// What the script above leaves.
fn check_ours(work: &Path, out: &Path) {
    let me = rustix::process::geteuid().as_raw();
    let read = |path: PathBuf| fs::read_to_string(&path).expect("it is there and may be read");
    assert_eq!(read(work.join("there")), "before\nmore\n");
    assert_eq!(read(work.join("sub/deep/file")), "new\n");
    assert_eq!(read(out.join("result")), "out\n");
    assert!(!out.join("there").exists());
    let of = |name: &str| fs::symlink_metadata(work.join(name)).expect("it is there");
    for name in [
        "",
        "there",
        "sub",
        "sub/deep/file",
        "run",
        "link",
        "up",
        "pipe",
    ] {
        assert_eq!(of(name).uid(), me, "{name}");
    }
    assert_eq!(of("run").mode() & 0o7777, 0o755, "no rights are lent");
    let passwd = fs::metadata("/etc/passwd").expect("it is there");
    assert_eq!(passwd.uid(), 0, "links were not followed");
}

/// A file system that cannot map ids: the job gets the files, and the server takes them back.
pub(crate) async fn folders_go_back_and_forth_where_ids_cannot_be_mapped(world: &World) {
    if !rustix::process::geteuid().is_root() {
        println!("       an ordinary user's jobs have his own id: nothing is to be mapped");
        return;
    }
    let at = world.folder.path().join("plain");
    fs::create_dir(&at).expect("a folder");
    rustix::mount::mount(
        c"plain",
        &at,
        c"ramfs",
        rustix::mount::MountFlags::empty(),
        None,
    )
    .expect("mounted");
    // The launcher sees what was mounted before it started.
    let second = world.folder.path().join("mapless");
    let (isolation, _) = ProcessIsolation::start(options(&second))
        .await
        .expect("started");
    let make = |name: &str| {
        let outside = at.join(name);
        fs::create_dir(&outside).expect("a folder");
        fs::write(outside.join("there"), "before\n").expect("a file");
        symlink("/etc/passwd", outside.join("trap")).expect("a link");
        outside
    };
    let (work, out) = (make("work"), make("out"));
    let (mut job, output) = world.shell(
        "echo more >> there && mkdir -p sub/deep && echo new > sub/deep/file && chmod 000 sub
touch run && chmod 6755 run; ln -s /etc/passwd link; ln -s / up; mkfifo pipe
echo out > /out/result; rm /out/there",
    );
    job.workdir = "/stage".to_owned();
    job.folders = [(&work, "/stage"), (&out, "/out")]
        .map(|(outside, inside)| Folder {
            outside: outside.clone(),
            inside: inside.to_owned(),
            writable: true,
        })
        .into();
    let end = isolation.run(job).await;
    isolation.shutdown().await;
    let end = end.expect("the job runs");
    assert!(end.exit.is_success(), "{end:?} {}", output.all());
    check_ours(&work, &out);
    rustix::mount::unmount(&at, rustix::mount::UnmountFlags::DETACH).expect("unmounted");
}

pub(crate) async fn what_cannot_be_run_is_told(world: &World) {
    let check = async |job: Job, words: &str| {
        let error = world.isolation.run(job).await.expect_err("refused");
        assert!(error.to_string().contains(words), "{error}");
        error
    };
    let (job, _) = world.job(&["no-such-tool", "-v"]);
    let error = check(job, "\"no-such-tool\" is not there inside").await;
    assert!(matches!(error, StartError::Runtime(_)), "{error:?}");
    let (mut job, _) = world.job(&["true"]);
    job.workdir = "/nowhere".to_owned();
    let (mut at, _) = world.job(&["/bin/true"]);
    at.workdir = "/etc/passwd".to_owned();
    check(at, "there is no such folder").await;
    check(job, "in \"/nowhere\": there is no such folder").await;
    let (job, _) = world.job(&["/etc/passwd"]);
    check(job, "ermission denied").await;
    let (mut job, _) = world.job(&["true"]);
    job.folders = vec![Folder {
        outside: PathBuf::from("/no/such/folder"),
        inside: "/stage".to_owned(),
        writable: true,
    }];
    check(job, "/no/such/folder").await;
    let (mut job, _) = world.job(&["true"]);
    job.folders = vec![world.folder("/usr", true)];
    check(job, "every sandbox has something else at /usr").await;
    // A link where the server had its folder.
    let (mut job, _) = world.job(&["true"]);
    let mut folder = world.folder("/stage", true);
    let link = folder.outside.with_extension("link");
    symlink("/etc", &link).expect("a link");
    folder.outside = link;
    job.folders = vec![folder];
    check(job, "sandbox step").await;
}

/// Answers each connection itself, and counts them.
#[derive(Default)]
struct Greeter(Mutex<Vec<String>>);

struct Door(Arc<Greeter>);

impl Egress for Door {
    fn accept(&self, mut connection: tokio::net::TcpStream) {
        let greeter = self.0.clone();
        tokio::spawn(async move {
            let mut head = vec![0; 1024];
            let len = connection.read(&mut head).await.unwrap_or(0);
            let line = String::from_utf8_lossy(&head[..len]);
            let line = line.lines().next().unwrap_or_default().to_owned();
            greeter.0.lock().push(line);
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello";
            let _ = connection.write_all(answer).await;
        });
    }
}

const REACH: &str = "import os, socket, urllib.request
print(sorted(n for n in os.environ if 'proxy' in n.lower()))
for address in [('1.1.1.1', 443), ('169.254.169.254', 80), ('127.0.0.1', 8080), ('127.0.0.1', 22)]:
    s = socket.socket(); s.settimeout(2)
    try:
        s.connect(address); print('REACHED', address)
    except OSError as e:
        print(e.errno)
print([name for _, name in socket.if_nameindex()])
if 'http_proxy' in os.environ:
    print(urllib.request.urlopen('http://example.org/file', timeout=5).read())
";

pub(crate) async fn there_is_no_network_but_through_the_door(world: &World) {
    let (job, output) = world.job(&["python3", "-c", REACH]);
    assert!(world.runs(job).await.exit.is_success(), "{}", output.all());
    assert_eq!(output.out(), "[]\n101\n101\n111\n111\n['lo']\n");

    let (mut job, output) = world.job(&["python3", "-c", REACH]);
    let greeter = Arc::new(Greeter::default());
    job.egress = Some(Arc::new(Door(greeter.clone())));
    assert!(world.runs(job).await.exit.is_success(), "{}", output.all());
    assert_eq!(
        output.out(),
        "['ALL_PROXY', 'HTTPS_PROXY', 'HTTP_PROXY', 'NO_PROXY', 'all_proxy', 'http_proxy', 'https_proxy', 'no_proxy']\n\
         101\n101\n111\n111\n['lo']\nb'hello'\n"
    );
    assert_eq!(
        *greeter.0.lock(),
        ["GET http://example.org/file HTTP/1.1".to_owned()]
    );
}

pub(crate) async fn time_is_limited(world: &World) {
    let word = format!("8{}", std::process::id());
    let (mut job, output) = world.shell(&format!("(setsid sleep {word} &) ; sleep {word}"));
    job.limits.time = Duration::from_millis(700);
    let began = Instant::now();
    let end = world.runs(job).await;
    assert_eq!(end.exit.reason, Reason::Time, "{}", output.all());
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
    assert!(output.of(LogStream::System).contains("ended after 700ms"));
    assert!(processes_with(&word).is_empty());
}

pub(crate) async fn memory_is_limited(world: &World) {
    let hog = "import time
hog = []
for _ in range(200):
    hog.append(bytearray(b'x') * (4 << 20)); time.sleep(0.01)
print('NOT HELD')";
    // The tool itself, and a child of one that then fails.
    for command in [
        vec!["python3", "-c", hog],
        vec!["sh", "-c", "python3 -c \"$0\" || exit 3", hog],
    ] {
        let (mut job, output) = world.job(&command);
        job.limits.memory = 64 << 20;
        let began = Instant::now();
        let end = world.runs(job).await;
        assert_eq!(end.exit.reason, Reason::Memory, "{end:?} {}", output.all());
        assert!(!output.all().contains("NOT HELD"));
        assert!(began.elapsed() < Duration::from_secs(10));
    }
}

/// Writes to the disk in one way each; all go over 32 MiB.
const WRITERS: [(&str, &str); 4] = [
    (
        "one file",
        "exec dd if=/dev/zero of=/stage/big bs=1M count=2000 status=none",
    ),
    (
        "many files",
        "i=0; while :; do i=$((i+1)); head -c 1000000 /dev/zero > /out/$i || sleep 50; done",
    ),
    (
        "a file without a name",
        "exec 9>/stage/hidden 8>/stage/other; rm /stage/hidden /stage/other; head -c 20000000 /dev/zero >&9; head -c 20000000 /dev/zero >&8; sleep 50",
    ),
    (
        "a folder that cannot be read",
        "mkdir /stage/dark; cd /stage/dark; chmod 300 .; for i in 1 2 3 4 5 6 7 8; do head -c 5000000 /dev/zero > $i; done; sleep 50",
    ),
];

pub(crate) async fn disk_is_limited(world: &World) {
    for (name, script) in WRITERS {
        let (mut job, output) = world.shell(script);
        job.folders = vec![world.folder("/stage", true), world.folder("/out", true)];
        job.limits.disk = 32 << 20;
        let began = Instant::now();
        let folders: Vec<_> = job.folders.iter().map(|f| f.outside.clone()).collect();
        let end = world.runs(job).await;
        assert_eq!(
            end.exit.reason,
            Reason::Disk,
            "{name}: {end:?} {}",
            output.all()
        );
        assert!(
            began.elapsed() < Duration::from_secs(10),
            "{name}: {:?}",
            began.elapsed()
        );
        let held: u64 = folders
            .iter()
            .flat_map(|f| fs::read_dir(f).expect("it is there"))
            .filter_map(|e| Some(e.ok()?.metadata().ok()?.len()))
            .sum();
        println!(
            "       {name}: {} MiB of 32, after {:?}",
            held >> 20,
            began.elapsed()
        );
        assert!(held < 600 << 20, "{name}: {held} bytes were written");
    }
    // Deeper than anybody walks.
    let (mut job, output) = world.shell(
        "cd /stage; i=0; while [ $i -lt 200 ]; do mkdir d; cd d; i=$((i+1)); done; sleep 50",
    );
    job.folders = vec![world.folder("/stage", true)];
    let end = world.runs(job).await;
    assert_eq!(end.exit.reason, Reason::Disk, "{end:?} {}", output.all());
    assert!(
        output.of(LogStream::System).contains("nested deeper"),
        "{}",
        output.all()
    );
}

pub(crate) async fn processes_are_limited(world: &World) {
    let (mut job, output) = world.job(&[
        "bash",
        "-c",
        "bomb() { bomb | bomb & }; bomb 2>/dev/null; while :; do /bin/true & done 2>/dev/null",
    ]);
    job.limits.pids = 30;
    job.limits.time = Duration::from_secs(60);
    let began = Instant::now();
    let end = world.runs(job).await;
    if world.counts_by_kernel("process limit") {
        assert_eq!(
            end.exit.reason,
            Reason::Processes,
            "{end:?} {}",
            output.all()
        );
    } else {
        assert_ne!(end.exit.code, Some(0), "{end:?}");
    }
    // Long before its time is over, on a busy machine too.
    assert!(began.elapsed() < Duration::from_secs(45));
}

pub(crate) async fn what_is_left_ends_with_the_tool(world: &World) {
    let word = format!("7{}", std::process::id());
    let (job, output) = world.shell(&format!(
        "for i in 1 2 3; do (setsid sleep {word} &); done; echo done"
    ));
    let began = Instant::now();
    assert!(world.runs(job).await.exit.is_success());
    assert!(began.elapsed() < Duration::from_secs(5));
    assert_eq!(output.out(), "done\n");
    assert!(processes_with(&word).is_empty());
}

pub(crate) async fn a_dropped_job_is_ended(world: &World) {
    let word = format!("3{}", std::process::id());
    // Given up at every stage, as far as time hits them.
    for wait in [0, 1, 3, 8, 20, 50] {
        let (mut job, _) = world.shell(&format!("(setsid sleep {word} &); sleep {word}"));
        job.folders = vec![world.folder("/stage", true)];
        let running = world.isolation.run(job);
        let given_up = tokio::time::timeout(Duration::from_millis(wait), running).await;
        assert!(given_up.is_err());
    }
    until("end of all of them", || {
        processes_with(&word).is_empty().then_some(())
    })
    .await;
    let (job, _) = world.shell(&format!("sleep {word}"));
    let mut running = world.isolation.run(job);
    let pid = tokio::select! {
        _ = &mut running => panic!("it ended"),
        pid = until("sleeper", || processes_with(&word).first().copied()) => pid,
    };
    drop(running);
    until("end", || (!exists(pid)).then_some(())).await;
}

pub(crate) async fn a_flood_of_output_is_bounded(world: &World) {
    let (mut job, output) = world.job(&["yes", "the same line again and again"]);
    job.limits.time = Duration::from_secs(1);
    assert_eq!(world.runs(job).await.exit.reason, Reason::Time);
    let system = output.of(LogStream::System);
    assert!(system.contains("bytes of output were dropped"), "{system}");
}
