use std::path::Path;
use std::time::Duration;

use super::*;

fn language(name: &str) -> &'static Language {
    ALL.iter().find(|l| l.name == name).unwrap()
}

fn limits(memory: u64) -> Limits {
    Limits {
        memory,
        cpu_milli: 1000,
        pids: 64,
        tmp: 1 << 20,
        timeout: Duration::from_secs(2),
        first_byte: Duration::from_secs(2),
        stream_idle: Duration::from_secs(2),
        body: 1000,
    }
}

fn installed(name: &str, program: &str, version: &str) -> Languages {
    let interpreter = Interpreter {
        program: (!program.is_empty()).then(|| PathBuf::from(program)),
        version: Some(version.to_owned()),
    };
    Languages(vec![(language(name), Ok(interpreter))])
}

fn host(runtime: &str, entry: &str, handler: Option<&str>) -> Program {
    Program::Host {
        runtime: runtime.to_owned(),
        entry: entry.to_owned(),
        handler: handler.map(str::to_owned),
    }
}

fn server(runtime: &str, entry: &str) -> Program {
    Program::Server {
        runtime: runtime.to_owned(),
        entry: entry.to_owned(),
        command: Vec::new(),
        port: None,
    }
}

#[test]
fn every_source_of_every_host_is_embedded() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../runtimes");
    for name in ["ruby", "php"] {
        let mut there = Vec::new();
        for entry in std::fs::read_dir(root.join(name)).unwrap().flatten() {
            if entry.path().is_file() {
                there.push(entry.file_name().into_string().unwrap());
            }
        }
        there.sort();
        let mut embedded: Vec<_> = language(name).sources.iter().map(|(n, _)| *n).collect();
        embedded.sort_unstable();
        assert_eq!(embedded, there, "{name}");
    }
}

#[test]
fn an_interpreter_outside_of_usr_is_refused_with_the_reason() {
    let error = find(language("python"), Some(Path::new("/etc/passwd"))).unwrap_err();
    assert!(error.contains("outside of /usr"), "{error}");
    let error = find(language("python"), Some(Path::new("/usr/bin/no-python"))).unwrap_err();
    assert!(error.contains("apt install python3"), "{error}");
    assert!(error.contains("'runtimes.python'"), "{error}");
}

#[test]
fn a_program_that_says_no_version_is_refused() {
    let error = find(language("ruby"), Some(Path::new("/usr/bin/true"))).unwrap_err();
    assert!(error.contains("/usr/bin/true does not run"), "{error}");
}

#[test]
fn an_old_interpreter_is_refused_with_what_is_needed() {
    let newer = Language {
        oldest: (99, 1),
        ..*language("python")
    };
    let error = find(&newer, None).unwrap_err();
    assert!(
        error.starts_with("/usr/bin/python3 is Python 3."),
        "{error}"
    );
    assert!(error.contains("; at least 99.1 is needed"), "{error}");
}

#[test]
fn a_missing_language_says_how_to_get_it() {
    let missing = Language {
        programs: &["/usr/bin/no-such-ruby"],
        ..*language("ruby")
    };
    assert_eq!(
        find(&missing, None).unwrap_err(),
        "Ruby is not installed; in Debian: apt install ruby; or name an interpreter under /usr as 'runtimes.ruby'"
    );
}

#[test]
fn an_unknown_runtime_is_answered_with_those_there_are() {
    let error = Languages::default().interpreter("cobol").unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("\"cobol\"") && text.contains("java, node, php"),
        "{text}"
    );
}

#[test]
fn a_host_is_told_what_it_runs() {
    let languages = installed("ruby", "/usr/bin/ruby3.1", "3.1.7");
    let command = languages
        .command(
            &host("ruby", "src/handler.rb", Some("run")),
            &limits(64 << 20),
            3,
            false,
        )
        .unwrap()
        .unwrap();
    assert_eq!(command.argv[0], "/usr/bin/ruby3.1");
    assert!(command.is_host);
    let get = |name: &str| {
        let all = command.fixed.iter().chain(&command.defaults);
        all.into_iter()
            .find(|(n, _)| n == name)
            .map(|(_, v)| v.as_str())
    };
    assert_eq!(get("TIDEGATE_ENTRY"), Some("/function/src/handler.rb"));
    assert_eq!(get("TIDEGATE_HANDLER"), Some("run"));
    assert_eq!(get("TIDEGATE_CONCURRENCY"), Some("3"));
    assert_eq!(get("TIDEGATE_MAX_BODY"), Some("1000"));
    assert_eq!(get("TIDEGATE_TIMEOUT_MS"), Some("2000"));
    assert_eq!(get("GEM_PATH"), Some("/layer/ruby/3.1.0"));
}

#[test]
fn a_users_own_program_gets_the_interpreter_and_nothing_of_the_hosts() {
    let argv = |languages: &Languages, program: &Program| {
        let command = languages.command(program, &limits(256 << 20), 1, false);
        let command = command.unwrap().unwrap();
        assert!(command.fixed.is_empty() && !command.is_host);
        command.argv
    };
    let ruby = installed("ruby", "/usr/bin/ruby", "3.1.7");
    assert_eq!(
        argv(&ruby, &server("ruby", "app.rb")),
        ["/usr/bin/ruby", "/function/app.rb"]
    );
    let go = installed("go", "", "");
    assert_eq!(argv(&go, &server("go", "app")), ["/function/app"]);
    let java = installed("java", "/usr/bin/java", "17.0.1");
    let jar = argv(&java, &server("java", "app.jar"));
    assert!(
        jar.ends_with(&["-jar".to_owned(), "/function/app.jar".to_owned()]),
        "{jar:?}"
    );
    assert!(jar.contains(&"-Xmx184m".to_owned()), "{jar:?}");
    let class = argv(&java, &server("java", "shop/Server.class"));
    assert_eq!(class.last().unwrap(), "shop.Server");
}

#[test]
fn too_little_memory_is_said_before_the_kernel_says_it() {
    let java = installed("java", "/usr/bin/java", "17.0.1");
    let error = java
        .command(&server("java", "app.jar"), &limits(64 << 20), 1, false)
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "Java does not start with 64 MiB of memory; give the function at least 96 MiB"
    );
}

#[test]
fn python_has_its_zygote_and_a_program_has_no_host() {
    let python = installed("python", "/usr/bin/python3", "3.11.2");
    let none = python.command(&host("python", "app.py", None), &limits(64 << 20), 1, false);
    assert_eq!(none.unwrap(), None);
    let go = installed("go", "", "");
    let error = go
        .command(&host("go", "app", None), &limits(64 << 20), 1, false)
        .unwrap_err();
    assert!(
        error.to_string().contains("contract http or stdio"),
        "{error}"
    );
}

#[test]
fn in_an_image_the_interpreter_is_the_images() {
    let argv = |program: &Program| {
        let none = Languages::default();
        let command = none.command(program, &limits(256 << 20), 1, true);
        command.unwrap().unwrap().argv
    };
    assert_eq!(
        argv(&host("python", "app.py", None)),
        ["python3", "-I", "-B", "/runtime/python/host_main.py"]
    );
    let node = argv(&host("node", "app.mjs", None));
    assert_eq!(node.first().unwrap(), "node");
    assert_eq!(node.last().unwrap(), "/runtime/node/host.cjs");
    assert_eq!(
        argv(&server("ruby", "app.rb")),
        ["ruby", "/function/app.rb"]
    );
    assert_eq!(argv(&server("executable", "app")), ["/function/app"]);
    // A command is what the image says, in whatever language.
    let own = Program::PerCall {
        runtime: "cobol".to_owned(),
        entry: String::new(),
        command: words(&["python", "-V"]),
    };
    assert_eq!(argv(&own), ["python", "-V"]);
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}
