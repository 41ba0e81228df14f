//! The tools that jobs are for: those of them that this machine has.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tidegate_egress::{EgressProxy, Policy};
use tidegate_instance::{Folder, Job};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::job::Printed;
use crate::world::World;

/// Asks for the case that leaves the machine.
const NETWORK: &str = "TIDEGATE_TEST_NETWORK";

/// The certificates that this machine trusts, for tools that bring their own list.
const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// A tool where it usually is, if it is there.
fn tool(paths: &[&str]) -> Option<String> {
    let found = paths.iter().find(|p| Path::new(p).exists());
    found.map(|&p| p.to_owned())
}

/// The Rust toolchain's own folder, which rustup keeps in its user's home; none where that user is somebody else.
fn rust() -> Option<PathBuf> {
    let home = std::env::var_os("RUSTUP_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(Path::new(&std::env::var_os("HOME")?).join(".rustup")))?;
    let toolchains = fs::read_dir(home.join("toolchains")).ok()?;
    toolchains
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.join("bin/cargo").exists())
}

fn read_only(path: &Path) -> Folder {
    Folder {
        outside: path.to_owned(),
        inside: path.to_string_lossy().into_owned(),
        writable: false,
    }
}

impl World {
    /// A job with room for a compiler, and `/stage` to write into.
    fn tool_job(&self, command: &[&str], files: &[(&str, &str)]) -> (Job, Arc<Printed>) {
        let (mut job, output) = self.job(command);
        let work = self.bundle(if files.is_empty() {
            &[("empty", "")]
        } else {
            files
        });
        job.folders = vec![
            Folder {
                outside: work,
                inside: "/stage".to_owned(),
                writable: true,
            },
            Folder {
                outside: self.bundle(&[("empty", "")]),
                inside: "/cache".to_owned(),
                writable: true,
            },
        ];
        let mut path = "/usr/local/bin:/usr/bin:/bin:/usr/local/go/bin".to_owned();
        if let Some(rust) = rust() {
            path = format!("{}/bin:{path}", rust.display());
            job.folders.push(read_only(&rust));
        }
        job.env = [
            ("PATH", path.as_str()),
            ("HOME", "/tmp"),
            ("GOPATH", "/cache/go"),
            ("GOCACHE", "/cache/go-build"),
            ("GOTOOLCHAIN", "local"),
            ("CARGO_HOME", "/cache/cargo"),
            ("npm_config_cache", "/cache/npm"),
            ("NODE_EXTRA_CA_CERTS", CERTIFICATES),
            ("PIP_CACHE_DIR", "/cache/pip"),
        ]
        .map(|(n, v)| (n.to_owned(), v.to_owned()))
        .into();
        job.workdir = "/stage".to_owned();
        job.limits.memory = 2 << 30;
        job.limits.disk = 4 << 30;
        job.limits.tmp = 512 << 20;
        (job, output)
    }
}

pub(crate) async fn the_tools_of_every_language_run(world: &World) {
    let tools: [(&str, &[&str], &str); 12] = [
        ("python3", &["-m", "pip", "--version"], "pip "),
        ("node", &["-v"], "v"),
        ("npm", &["-v"], ""),
        ("go", &["version"], "go version go"),
        ("java", &["-version"], "version"),
        ("javac", &["-version"], "javac"),
        ("mvn", &["-v"], "Apache Maven"),
        ("ruby", &["--version"], "ruby "),
        ("php", &["--version"], "PHP "),
        ("git", &["--version"], "git version"),
        ("gcc", &["--version"], "gcc"),
        ("cargo", &["--version"], "cargo "),
    ];
    let mut ran = 0;
    for (name, arguments, expected) in tools {
        let places = ["/usr/bin", "/usr/local/bin", "/usr/local/go/bin"];
        let places: Vec<_> = places.iter().map(|p| format!("{p}/{name}")).collect();
        let places: Vec<_> = places.iter().map(String::as_str).collect();
        if tool(&places).is_none() && !(name == "cargo" && rust().is_some()) {
            println!("       {name} is not on this machine, or not for this user");
            continue;
        }
        let command: Vec<_> = std::iter::once(name)
            .chain(arguments.iter().copied())
            .collect();
        let (job, output) = world.tool_job(&command, &[]);
        let end = world.runs(job).await;
        let all = output.all();
        assert!(end.exit.is_success(), "{name}: {end:?} {all}");
        assert!(all.contains(expected), "{name}: {all}");
        ran += 1;
    }
    assert!(ran > 0, "there is not a single tool");
}

/// Has a tool of this machine's make a program and runs it; what it prints has to be "it runs".
async fn makes(world: &World, name: &str, file: &str, source: &str, script: &str) {
    let (mut job, output) = world.tool_job(&["sh", "-ec", ""], &[(file, source)]);
    job.command[2] =
        format!("command -v {name} >/dev/null || {{ echo absent; exit 0; }}; {{ {script}; }} 2>&1");
    let end = world.runs(job).await;
    assert!(end.exit.is_success(), "{name}: {end:?} {}", output.all());
    match output.out().as_str() {
        "it runs\n" => {}
        "absent\n" => println!("       {name} is not on this machine, or not for this user"),
        other => panic!("{name}: {other}"),
    }
}

pub(crate) async fn go_compiles(world: &World) {
    // A package and not a program: the standard library would have to be compiled first, for half a minute.
    let source = "package x\n\nfunc Add(a, b int) int { return a + b }\n";
    let script = "go mod init x >/dev/null 2>&1 && go list ./... >/dev/null && \
                  go tool compile -p x -o x.a x.go && test -s x.a && echo it runs";
    makes(world, "go", "x.go", source, script).await;
}

pub(crate) async fn java_compiles(world: &World) {
    let source = "public class Main { public static void main(String[] a) { System.out.println(\"it runs\"); } }\n";
    let script = "javac -d /stage Main.java && java -cp /stage Main";
    makes(world, "javac", "Main.java", source, script).await;
}

pub(crate) async fn c_and_rust_compile(world: &World) {
    let source = "#include <stdio.h>\nint main() { puts(\"it runs\"); }\n";
    makes(world, "gcc", "main.c", source, "gcc main.c && ./a.out").await;
    let source = "fn main() { println!(\"it runs\"); }\n";
    makes(world, "cargo", "main.rs", source, "rustc main.rs && ./main").await;
}

pub(crate) async fn git_commits_and_clones(world: &World) {
    let script = "git init -q one && cd one && cp ../main.sh . && git add . && \
                  git -c user.name=x -c user.email=x@x commit -qm x && git clone -q . ../two && sh ../two/main.sh";
    makes(world, "git", "main.sh", "echo it runs\n", script).await;
}

pub(crate) async fn a_tool_fetches_through_the_proxy_what_it_may(world: &World) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let at = listener.local_addr().expect("an address");
    let registry = tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            let mut head = [0; 4096];
            let _ = connection.read(&mut head).await;
            let page = b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\nConnection: close\r\n\r\na parcel";
            let _ = connection.write_all(page).await;
        }
    });
    let script = format!(
        "import urllib.request, urllib.error
print(urllib.request.urlopen('http://{at}/x').read())
for bad in ('http://127.0.0.1:1/', 'http://169.254.169.254/latest/meta-data/', 'https://localhost:8443/'):
    try:
        urllib.request.urlopen(bad, timeout=5); print('REACHED', bad)
    except (urllib.error.URLError, OSError) as e:
        print('403' if '403' in str(e) or getattr(e, 'code', 0) == 403 else e)
"
    );
    let (mut job, output) = world.tool_job(&["python3", "-c", &script], &[]);
    // By default what is on the loopback device is not the proxy's, but the sandbox's own.
    job.env.push(("no_proxy".to_owned(), String::new()));
    let policy = Policy {
        named: vec![at.to_string().parse().expect("a target")],
        ..Policy::default()
    };
    let events: Arc<Mutex<Vec<String>>> = Arc::default();
    let kept = events.clone();
    job.egress = Some(EgressProxy::new(policy, move |event| {
        kept.lock().push(event.to_string());
    }));
    let end = world.runs(job).await;
    registry.abort();
    assert!(end.exit.is_success(), "{end:?} {}", output.all());
    assert_eq!(
        output.out(),
        "b'a parcel'\n403\n403\n403\n",
        "{}",
        output.all()
    );
    let events = events.lock().join("\n");
    assert!(
        events.starts_with(&format!("connected {at}\nrefused 127.0.0.1:1: ")),
        "{events}"
    );
}

/// Names and contents.
type Files = &'static [(&'static str, &'static str)];

/// What is fetched from where everybody fetches it.
const FETCHES: [(&str, &str, Files); 7] = [
    (
        "python3",
        "python3 -m pip download -q --no-deps -d /stage six==1.16.0 && ls six*",
        &[],
    ),
    (
        "npm",
        "npm view is-number@7.0.0 version && npm install --no-audit --no-fund is-number@7.0.0 && ls node_modules/is-number",
        &[("package.json", "{}")],
    ),
    (
        "go",
        "go mod download && ls /cache/go/pkg/mod/github.com/google",
        &[(
            "go.mod",
            "module x\n\ngo 1.20\n\nrequire github.com/google/uuid v1.6.0\n",
        )],
    ),
    (
        "cargo",
        "cargo fetch && ls /cache/cargo/registry/src/*",
        &[
            (
                "Cargo.toml",
                "[package]\nname = \"x\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[dependencies]\nitoa = \"=1.0.11\"\n",
            ),
            ("src/main.rs", "fn main() {}\n"),
        ],
    ),
    (
        "mvn",
        "mvn -q -B -Dmaven.repo.local=/cache/m2 -Dhttps.proxyHost=127.0.0.1 -Dhttps.proxyPort=3128 dependency:get -Dartifact=org.slf4j:slf4j-api:2.0.13 && ls /cache/m2/org/slf4j/slf4j-api",
        &[],
    ),
    (
        "ruby",
        "gem install -q --no-document -i /stage/gems rainbow -v 3.1.1 && ls gems/gems",
        &[],
    ),
    ("git", "git ls-remote https://github.com/git/git HEAD", &[]),
];

/// Only where it is asked for: everything else is tested without leaving the machine.
pub(crate) async fn real_registries_are_reached_when_asked_for(world: &World) {
    if std::env::var_os(NETWORK).is_none() {
        println!("       set {NETWORK}=1 to fetch from real registries");
        return;
    }
    let only = std::env::var(NETWORK).unwrap_or_default();
    let mut failed = Vec::new();
    for (name, script, files) in FETCHES {
        if only != "1" && only != name {
            continue;
        }
        let (mut job, output) = world.tool_job(&["sh", "-ec", ""], files);
        job.command[2] =
            format!("command -v {name} >/dev/null || {{ echo absent; exit 0; }}; {script}");
        job.limits.time = Duration::from_secs(55);
        let events: Arc<Mutex<Vec<String>>> = Arc::default();
        let kept = events.clone();
        job.egress = Some(EgressProxy::new(Policy::default(), move |event| {
            kept.lock().push(event.to_string());
        }));
        let began = std::time::Instant::now();
        let end = world.runs(job).await;
        let result = if end.exit.is_success() {
            "ok"
        } else {
            "FAILED"
        };
        println!(
            "       {name}: {result} after {:?}: {}",
            began.elapsed(),
            events.lock().join(", ")
        );
        if output.all().contains("its name leads nowhere") {
            println!("       (which this machine knows no address of)");
        } else if !end.exit.is_success() {
            println!("{}", output.all());
            failed.push(name);
        }
    }
    assert!(failed.is_empty(), "{failed:?}");
}
