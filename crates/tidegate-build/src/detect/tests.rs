use super::*;

/// Writes the files into a folder and says what was found: `runtime contract entry`, or the error, then the warnings.
fn check(files: &[(&str, &str)], wanted: Option<Runtime>, expected: &str) {
    let dir = tempfile::tempdir().unwrap();
    for (name, content) in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    let mut tree = Tree::read(dir.path()).unwrap();
    let hints = Hints {
        runtime: wanted,
        ..Hints::default()
    };
    let mut said = match detect(&mut tree, dir.path(), None, hints) {
        Ok(d) => format!("{} {} {}", d.runtime, d.contract, d.entry),
        Err(e) => e.to_string().replace(&*dir.path().to_string_lossy(), "DIR"),
    };
    for warning in tree.warnings {
        said = format!("{said}\n{warning}");
    }
    assert_eq!(said, expected, "{files:?}");
}

const HANDLER: &str = "def handler(event, context):\n    return 1\n";

#[test]
fn well_known_names_win() {
    check(
        &[
            ("util.py", ""),
            ("main.py", HANDLER),
            ("package.json", "{}"),
        ],
        None,
        "python host main.py",
    );
    check(&[("anything.py", HANDLER)], None, "python host anything.py");
    check(
        &[("main.py", "#!/usr/bin/env python3\nprint(1)\n")],
        None,
        "executable stdio main.py",
    );
    check(
        &[("wc.sh", "#!/bin/sh\nwc")],
        None,
        "executable stdio wc.sh",
    );
    check(
        &[("a.sh", "#!/bin/sh\n"), ("run.sh", "#!/bin/sh\n")],
        None,
        "executable stdio run.sh",
    );
}

#[test]
fn a_missing_handler_only_warns() {
    check(
        &[("handler.py", HANDLER), ("requirements.txt", "flask\n")],
        None,
        "python host handler.py",
    );
    check(
        &[("handler.py", "x = 1")],
        None,
        "python host handler.py\nhandler.py has neither 'def handler(event, context)' nor an 'app' at its top level that \
         can be seen; unless one appears when it is loaded, the deploy will fail",
    );
    check(
        &[("index.js", "const x = 1")],
        None,
        "node host index.js\nindex.js exports nothing that can be seen; unless it exports a handler or an app when it is \
         loaded, the deploy will fail",
    );
}

const EXPORT: &str = "export default async (request) => new Response('x')\n";
const LISTEN: &str = "require('http').createServer().listen(process.env.PORT)\n";
const HANDLE: &str =
    "import \"net/http\"\nfunc Handle(w http.ResponseWriter, r *http.Request) {}\n";

#[test]
fn folders_of_every_language_are_told() {
    let go = format!("package shop\n{HANDLE}");
    for (files, expected) in [
        // Node.
        (
            &[("package.json", "{}"), ("index.js", EXPORT)][..],
            "node host index.js",
        ),
        (
            &[("package.json", "{}"), ("server.js", LISTEN)],
            "node http server.js",
        ),
        (
            &[("handler.ts", EXPORT), ("util.ts", "")],
            "node host handler.ts",
        ),
        (
            &[("src/index.ts", EXPORT), ("package.json", "{}")],
            "node host src/index.ts",
        ),
        (
            &[
                ("package.json", r#"{"main": "./lib/a.js"}"#),
                ("lib/a.js", EXPORT),
                ("index.js", ""),
            ],
            "node host lib/a.js",
        ),
        (
            &[
                (
                    "package.json",
                    r#"{"main": "dist/a.js", "scripts": {"build": "tsc"}}"#,
                ),
                ("src/a.ts", ""),
            ],
            "node host dist/a.js",
        ),
        (
            &[
                (
                    "package.json",
                    r#"{"exports": {".": {"import": "./m.mjs"}}}"#,
                ),
                ("m.mjs", EXPORT),
            ],
            "node host m.mjs",
        ),
        (
            &[("package.json", r#"{"main": "gone.js"}"#), ("a.js", "")],
            "package.json: \"main\" names gone.js, which is not there, and no script \"build\" would make it",
        ),
        (
            &[("package.json", "{\n\"main\": }")],
            "package.json: expected value at line 2 column 9",
        ),
        // Go.
        (
            &[("go.mod", "module x\n"), ("shop.go", &go)],
            "go http shop.go",
        ),
        (
            &[
                ("go.mod", "module x\n"),
                (
                    "main.go",
                    "package main\nfunc main() { http.ListenAndServe() }\n",
                ),
            ],
            "go http main.go",
        ),
        (
            &[
                ("go.mod", "module x\n"),
                ("cmd/x/main.go", "package main\nfunc main() {\n}\n"),
            ],
            "go stdio cmd/x/main.go",
        ),
        (
            &[("handler.go", &go), ("package.json", "{}")],
            "go http handler.go",
        ),
        // Rust.
        (
            &[
                (
                    "Cargo.toml",
                    "[package]\nname = 'x'\n[dependencies]\naxum = '0.8'\n",
                ),
                ("src/main.rs", ""),
            ],
            "rust http Cargo.toml",
        ),
        (
            &[
                ("Cargo.toml", "[package]\nname = 'x'\n"),
                ("src/main.rs", ""),
            ],
            "rust stdio Cargo.toml",
        ),
        (
            &[("wc.rs", "fn main() { env(\"PORT\") }")],
            "rust http wc.rs",
        ),
        // Java.
        (
            &[
                ("pom.xml", ""),
                (
                    "src/main/java/H.java",
                    "class H {\n Object handle(Object e) {}\n}",
                ),
            ],
            "java host pom.xml",
        ),
        (
            &[(
                "Main.java",
                "class Main {\n public static void main(String[] a) { HttpServer.x(); }\n}",
            )],
            "java http Main.java",
        ),
        // Ruby.
        (
            &[
                ("handler.rb", "def handler(event, context)\nend\n"),
                ("Gemfile", ""),
            ],
            "ruby host handler.rb",
        ),
        (
            &[("config.ru", "run App\n"), ("app.rb", "")],
            "ruby host config.ru",
        ),
        // PHP.
        (
            &[("index.php", "<?php echo 1;"), ("composer.json", "{}")],
            "php host index.php",
        ),
        (
            &[("public/index.php", "<?php"), ("composer.json", "{}")],
            "php host public/index.php",
        ),
        // Programs, whatever their ending.
        (
            &[("tool.js", "#!/usr/bin/env node\nconsole.log(1)\n")],
            "executable stdio tool.js",
        ),
        (
            &[("tool.rb", "#!/usr/bin/ruby\nputs 1\n")],
            "executable stdio tool.rb",
        ),
        // A web page beside a program of another language.
        (
            &[
                ("main.py", HANDLER),
                ("package.json", "{}"),
                ("index.js", EXPORT),
            ],
            "python host main.py",
        ),
    ] {
        check(files, None, expected);
    }
}

#[test]
fn the_users_word_wins() {
    check(
        &[("main.py", HANDLER), ("index.js", EXPORT)],
        Some(Runtime::Node),
        "node host index.js",
    );
    check(
        &[("main.py", HANDLER)],
        Some(Runtime::Php),
        "cannot tell which file of DIR to run; name it with --entry, or call it handler.php or index.php",
    );
}

#[test]
fn what_cannot_run_is_named() {
    let supported = SUPPORTED;
    check(
        &[("main.kt", "fun main() {}")],
        None,
        &format!("not supported: Kotlin (main.kt); {supported}"),
    );
    check(
        &[("Dockerfile", "FROM x"), ("x.txt", "")],
        None,
        &format!("not supported: container images (found Dockerfile); {supported}"),
    );
    check(
        &[("a.py", HANDLER), ("b.py", HANDLER)],
        None,
        "cannot tell which file of DIR to run (found a.py, b.py); name it with --entry, or call it handler, main, app or \
         function, with its language's ending",
    );
    check(
        &[("handler.py", HANDLER)],
        Some(Runtime::Executable),
        "cannot tell which file of DIR to run (found handler.py); name it with --entry, or call it handler, main, app or \
         function, with its language's ending",
    );
}

#[test]
fn a_built_entry_need_not_be_there() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("Makefile"), "").unwrap();
    let detected = |entry: &'static str, built| {
        let mut tree = Tree::read(dir.path()).unwrap();
        let hints = Hints {
            entry: Some(entry),
            built,
            ..Hints::default()
        };
        detect(&mut tree, dir.path(), None, hints)
            .map(|d| format!("{} {} {}", d.runtime, d.contract, d.entry))
            .map_err(|e| e.to_string())
    };
    assert_eq!(
        detected("out/app", true).unwrap(),
        "executable stdio out/app"
    );
    assert_eq!(detected("out/x.js", true).unwrap(), "node host out/x.js");
    assert_eq!(
        detected("out/app", false).unwrap_err(),
        "entry out/app is not a file of the folder, or was left out of it"
    );
}

#[test]
fn single_files_are_told_by_content() {
    let dir = tempfile::tempdir().unwrap();
    for (name, content, expected) in [
        ("run", &b"\x7fELF\x02"[..], "ok"),
        ("run.exe", b"MZ\x90\0", "Windows"),
        ("run", b"\xcf\xfa\xed\xfe", "macOS"),
        ("x.sh", b"echo", "no '#!' line"),
        ("x.kt", b"fun main", "not supported: Kotlin"),
        ("x.go", b"package main", "go ok"),
        ("x.dat", b"\0\0\0\0", "cannot tell what"),
    ] {
        fs::write(dir.path().join(name), content).unwrap();
        let mut tree = Tree::single(&dir.path().join(name), name).unwrap();
        let said = match detect(&mut tree, dir.path(), Some(name), Hints::default()) {
            Ok(d) if d.runtime == Runtime::Executable => "ok".to_owned(),
            Ok(d) => format!("{} ok", d.runtime),
            Err(e) => e.to_string(),
        };
        assert!(said.contains(expected), "{name}: {said}");
        if expected == "ok" {
            assert!(
                matches!(
                    tree.nodes[0].kind,
                    Kind::File {
                        executable: true,
                        ..
                    }
                ),
                "an executable gets its bit"
            );
        }
    }
}
