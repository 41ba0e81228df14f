//! The languages.

use super::{Code, Language};

/// The one whose hosts are forked from a zygote.
pub(crate) const PYTHON: &str = "python";

/// The one whose hosts wait before they are anybody's.
pub(crate) const NODE: &str = "node";

const MIB: u64 = 1024 * 1024;

/// Files of `runtimes/LANGUAGE`, each with its name there.
macro_rules! sources {
    ($language:literal: $($file:literal),*) => {
        &[$((
            $file,
            include_str!(concat!("../../../../runtimes/", $language, "/", $file)),
        )),*]
    };
}

/// Every language that this isolation knows, in the order in which they are listed.
pub(crate) static ALL: &[Language] = &[
    PROGRAM,
    Language {
        name: "go",
        title: "Go",
        ..PROGRAM
    },
    Language {
        name: "java",
        title: "Java",
        programs: &["/usr/bin/java", "/usr/lib/jvm/default-java/bin/java"],
        version: &["--version"],
        oldest: (11, 0),
        package: "default-jre-headless",
        // A heap of 16 MiB beside what the machine itself needs.
        least_memory: 96 * MIB,
        sources: &[],
        host: Some(java_host),
        run: java_run,
        env: no_env,
        own_env: no_env,
    },
    Language {
        name: NODE,
        title: "Node.js",
        programs: &["/usr/bin/node", "/usr/local/bin/node", "/usr/bin/nodejs"],
        version: &["--version"],
        oldest: (18, 0),
        package: "nodejs",
        least_memory: 64 * MIB,
        sources: NODE_HOST,
        host: Some(node_host),
        run: node_run,
        env: no_env,
        own_env: node_options,
    },
    Language {
        name: "php",
        title: "PHP",
        programs: &["/usr/bin/php", "/usr/local/bin/php"],
        version: &["-n", "-r", "echo PHP_VERSION;"],
        oldest: (8, 0),
        package: "php-cli",
        least_memory: 32 * MIB,
        sources: sources!["php": "answers.php", "autoload.php", "host.php", "http1.php", "load.php", "router.php", "tidegate.php"],
        host: Some(php_host),
        run: php_run,
        env: no_env,
        own_env: no_env,
    },
    Language {
        name: PYTHON,
        title: "Python",
        // Where a Debian, Fedora, Arch or Alpine machine has it.
        programs: &["/usr/bin/python3"],
        version: &[
            "-I",
            "-S",
            "-c",
            "import sys; print('%d.%d.%d' % sys.version_info[:3])",
        ],
        oldest: (3, 9),
        package: "python3",
        least_memory: 0,
        sources: crate::python::SOURCES,
        host: Some(python_host),
        run: entry_alone,
        env: python_env,
        own_env: no_env,
    },
    Language {
        name: "ruby",
        title: "Ruby",
        programs: &["/usr/bin/ruby", "/usr/local/bin/ruby"],
        version: &["--disable=gems", "-e", "print RUBY_VERSION"],
        oldest: (2, 7),
        package: "ruby",
        least_memory: 32 * MIB,
        sources: sources!["ruby": "answers.rb", "gems.rb", "host.rb", "http1.rb", "load.rb", "rack_app.rb", "tidegate.rb"],
        host: Some(ruby_host),
        run: entry_alone,
        env: ruby_env,
        own_env: no_env,
    },
    Language {
        name: "rust",
        title: "Rust",
        ..PROGRAM
    },
];

/// A program that the kernel runs.
pub(super) const PROGRAM: Language = Language {
    name: "executable",
    title: "an executable",
    programs: &[],
    version: &[],
    oldest: (0, 0),
    package: "",
    least_memory: 0,
    sources: &[],
    host: None,
    run: entry_alone,
    env: no_env,
    own_env: no_env,
};

fn entry_alone(code: &Code<'_>) -> Vec<String> {
    vec![code.path()]
}

fn no_env(_: &Code<'_>) -> Vec<(&'static str, String)> {
    Vec::new()
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

// === Python

/// Apart from the image's own settings and packages that somebody may have put in a home, as the zygote is.
fn python_host(_: &Code<'_>) -> Vec<String> {
    words(&["-I", "-B", "/runtime/python/host_main.py"])
}

/// A program's own folder comes before it on the path, the machine's packages after.
fn python_env(code: &Code<'_>) -> Vec<(&'static str, String)> {
    let mut all = vec![("PYTHONPATH", "/layer/python".to_owned())];
    if code.stays {
        // Lines that wait in a buffer come late, and never when the process is killed.
        all.push(("PYTHONUNBUFFERED", "1".to_owned()));
    }
    all
}

// === Node.js

/// The host's files.
const NODE_HOST: &[(&str, &str)] = &[
    (
        "host.cjs",
        include_str!("../../../../runtimes/nodejs/host.cjs"),
    ),
    (
        "lib/answers.cjs",
        include_str!("../../../../runtimes/nodejs/lib/answers.cjs"),
    ),
    (
        "lib/apps.cjs",
        include_str!("../../../../runtimes/nodejs/lib/apps.cjs"),
    ),
    (
        "lib/body.cjs",
        include_str!("../../../../runtimes/nodejs/lib/body.cjs"),
    ),
    (
        "lib/control.cjs",
        include_str!("../../../../runtimes/nodejs/lib/control.cjs"),
    ),
    (
        "lib/event.cjs",
        include_str!("../../../../runtimes/nodejs/lib/event.cjs"),
    ),
    (
        "lib/http1.cjs",
        include_str!("../../../../runtimes/nodejs/lib/http1.cjs"),
    ),
    (
        "lib/load.cjs",
        include_str!("../../../../runtimes/nodejs/lib/load.cjs"),
    ),
    (
        "lib/logs.cjs",
        include_str!("../../../../runtimes/nodejs/lib/logs.cjs"),
    ),
    (
        "lib/respond.cjs",
        include_str!("../../../../runtimes/nodejs/lib/respond.cjs"),
    ),
    (
        "lib/server.cjs",
        include_str!("../../../../runtimes/nodejs/lib/server.cjs"),
    ),
    (
        "lib/warm-up.cjs",
        include_str!("../../../../runtimes/nodejs/lib/warm-up.cjs"),
    ),
    (
        "lib/warm-up.mjs",
        include_str!("../../../../runtimes/nodejs/lib/warm-up.mjs"),
    ),
    (
        "lib/warm.cjs",
        include_str!("../../../../runtimes/nodejs/lib/warm.cjs"),
    ),
    (
        "lib/web.cjs",
        include_str!("../../../../runtimes/nodejs/lib/web.cjs"),
    ),
];

fn node_host(code: &Code<'_>) -> Vec<String> {
    // One function has a core or two: more threads of the engine's than that only cost their start.
    vec![
        node_heap(code),
        "--v8-pool-size=2".to_owned(),
        "/runtime/node/host.cjs".to_owned(),
    ]
}

fn node_run(code: &Code<'_>) -> Vec<String> {
    vec![node_heap(code), code.path()]
}

fn node_options(code: &Code<'_>) -> Vec<(&'static str, String)> {
    vec![("NODE_OPTIONS", node_heap(code))]
}

/// Node takes its limits from the machine, not from the sandbox: without this its heap grows until it is killed.
fn node_heap(code: &Code<'_>) -> String {
    let heap = (code.memory / MIB * 3 / 4).max(16);
    format!("--max-old-space-size={heap}")
}

// === Ruby

fn ruby_host(_: &Code<'_>) -> Vec<String> {
    // Gems cost a third of the start; the host loads them when something asks for one.
    words(&["--disable=gems", "/runtime/ruby/host.rb"])
}

/// Bundler files gems under the version whose extensions they were built for: `3.1.0` for every 3.1.
fn ruby_env(code: &Code<'_>) -> Vec<(&'static str, String)> {
    let mut numbers = code.version.split('.');
    let (major, minor) = (numbers.next().unwrap_or("0"), numbers.next().unwrap_or("0"));
    vec![("GEM_PATH", format!("/layer/ruby/{major}.{minor}.0"))]
}

// === PHP

fn php_host(code: &Code<'_>) -> Vec<String> {
    let mut all = php_settings(code);
    all.push("/runtime/php/host.php".to_owned());
    all
}

fn php_run(code: &Code<'_>) -> Vec<String> {
    let mut all = php_settings(code);
    all.push("-dauto_prepend_file=/runtime/php/autoload.php".to_owned());
    all.push(code.path());
    all
}

/// Errors go to the log and never into an answer; the memory limit makes an error of what would else be a kill.
fn php_settings(code: &Code<'_>) -> Vec<String> {
    let mut all = words(&[
        "-ddisplay_errors=stderr",
        "-dlog_errors=0",
        "-dhtml_errors=0",
        "-dmax_execution_time=0",
    ]);
    all.push(format!("-dmemory_limit={}M", code.memory / MIB * 3 / 4));
    all
}

// === Java

/// Java reserves for a server that runs for weeks: one collector thread, the quick compiler alone and the shared archive
/// of the standard classes halve the time to the first answer.
const JAVA_FLAGS: &[&str] = &[
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Xshare:auto",
    "-XX:-UsePerfData",
    "-Xss512k",
    "-Djava.security.egd=file:/dev/urandom",
    "-Djava.awt.headless=true",
];

/// What the machine takes beside the heap: classes, compiled code, stacks.
const JAVA_BESIDE: u64 = 72 * MIB;

/// Classes of the bundle, then its jars, then those of the layer.
const CLASS_PATH: &str = "/function:/function/lib/*:/layer/lib/*";

fn java_flags(code: &Code<'_>) -> Vec<String> {
    let heap = code.memory.saturating_sub(JAVA_BESIDE);
    let heap = heap.min(code.memory / 4 * 3).max(16 * MIB) / MIB;
    let mut all = words(JAVA_FLAGS);
    all.push(format!("-Xmx{heap}m"));
    all
}

fn java_host(code: &Code<'_>) -> Vec<String> {
    let mut all = java_flags(code);
    let path = if is_jar(code.entry) {
        format!("{}:{CLASS_PATH}", code.path())
    } else {
        CLASS_PATH.to_owned()
    };
    all.extend(["-cp".to_owned(), path, "dev.tidegate.host.Main".to_owned()]);
    all
}

fn java_run(code: &Code<'_>) -> Vec<String> {
    let mut all = java_flags(code);
    if is_jar(code.entry) {
        all.extend(["-jar".to_owned(), code.path()]);
    } else {
        let class = code.entry.trim_end_matches(".class").replace('/', ".");
        all.extend(["-cp".to_owned(), CLASS_PATH.to_owned(), class]);
    }
    all
}

fn is_jar(entry: &str) -> bool {
    std::path::Path::new(entry)
        .extension()
        .is_some_and(|end| end.eq_ignore_ascii_case("jar"))
}
