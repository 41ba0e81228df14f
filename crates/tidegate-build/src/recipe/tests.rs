//! Golden plans: a folder, and the plan of it as text. Tools are scripts that say a version, so that the plan is the same
//! on every machine.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::tools::ToolPaths;

/// Every tool, as a script in a folder.
fn tools(folder: &Path, without: &[&str]) -> Tools {
    for (name, says) in [
        ("python3", "Python 3.11.2"),
        ("node", "v20.1.0"),
        ("npm", "10.1.0"),
        ("go", "go version go1.26.1 linux/amd64"),
        ("rustc", "rustc 1.95.0"),
        ("cargo", "cargo 1.95.0"),
        ("cc", "cc 12.2.0"),
        ("java", "openjdk 17.0.1"),
        ("javac", "javac 17.0.1"),
        ("mvn", "Apache Maven 3.8.7"),
        ("ruby", "ruby 3.1.2"),
        ("bundle", "Bundler version 2.3.15"),
        ("php", "PHP 8.2.1"),
        ("composer", "Composer version 2.5.5"),
    ] {
        if !without.contains(&name) {
            let path = folder.join("opt/bin").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, format!("#!/bin/sh\necho {says}\n")).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
    }
    Tools::find(ToolPaths {
        folders: vec![folder.join("opt/bin")],
        ..ToolPaths::default()
    })
}

fn wanted(runtime: Runtime, entry: &str) -> Wanted {
    Wanted {
        runtime,
        contract: runtime.contract().into(),
        entry: entry.into(),
        ..Wanted::default()
    }
}

/// Plans a folder of these files.
fn make(files: &[(&str, &str)], wanted: &Wanted, without: &[&str]) -> Result<Plan, String> {
    let dir = tempfile::tempdir().unwrap();
    make_at(&dir.path().canonicalize().unwrap(), files, wanted, without)
}

/// The same in a folder that is made anew; tools, whose paths are part of a plan, stay where they are.
fn make_at(
    root: &Path,
    files: &[(&str, &str)],
    wanted: &Wanted,
    without: &[&str],
) -> Result<Plan, String> {
    let source = root.join("source");
    let _ = fs::remove_dir_all(&source);
    for (name, content) in files {
        let path = source.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    fs::create_dir_all(&source).unwrap();
    plan(&source, wanted, &tools(root, without)).map_err(|e| e.to_string())
}

/// The plan in a few lines: stages, inputs, made files, step titles (`+` where the network is open), entry, notes.
fn check(files: &[(&str, &str)], wanted: &Wanted, expected: &str) {
    let said = match make(files, wanted, &[]) {
        Err(error) => error,
        Ok(plan) => {
            let mut said = String::new();
            if let Some(stage) = &plan.dependencies {
                let pinned = if stage.pinned { " pinned" } else { "" };
                let made: Vec<&str> = stage.files.iter().map(|f| &*f.path).collect();
                write!(said, "layer{pinned} of {:?} {made:?}: ", stage.inputs).unwrap();
                titles(&mut said, &stage.steps);
            }
            if let Some(stage) = &plan.compile {
                said.push_str("bundle: ");
                titles(&mut said, &stage.steps);
                writeln!(said, "entry {}", stage.entry).unwrap();
            }
            for note in &plan.notes {
                writeln!(said, "note: {note}").unwrap();
            }
            said
        }
    };
    assert_eq!(said.trim_end(), expected, "{files:?}");
}

fn titles(said: &mut String, steps: &[crate::Step]) {
    for step in steps {
        let network = if step.network { "+" } else { "" };
        write!(said, "{}{network}, ", step.title).unwrap();
    }
    said.truncate(said.len() - 2);
    said.push('\n');
}

#[test]
fn python_plans() {
    let python = wanted(Runtime::Python, "handler.py");
    check(&[("handler.py", "")], &python, "");
    check(&[("requirements.txt", "# none\n")], &python, "");
    check(
        &[
            ("requirements.txt", "flask==3\n-r more.txt\n"),
            ("more.txt", "six\n"),
            ("other.txt", ""),
        ],
        &python,
        "layer of [\"requirements.txt\", \"more.txt\"] []: pip install+, compile packages\n\
         note: requirements.txt does not pin by hash; the same folder may get newer packages later",
    );
    check(
        &[("requirements.txt", "six==1 --hash=sha256:aa\n")],
        &python,
        "layer pinned of [\"requirements.txt\"] []: pip install+, compile packages",
    );
    check(
        &[("pyproject.toml", "[project]\ndependencies = ['six']\n")],
        &python,
        "layer of [] [\"tidegate-requirements.txt\"]: pip install+, compile packages\n\
         note: pyproject.toml does not pin by hash; the same folder may get newer packages later",
    );
    check(
        &[("requirements.txt", "six\n-r gone.txt\n")],
        &python,
        "requirements.txt: line 2: there is no file gone.txt",
    );
    check(
        &[("requirements.txt", "-r ../../etc/passwd\n")],
        &python,
        "requirements.txt: line 1: \"../../etc/passwd\" does not stay inside the folder",
    );
}

#[test]
fn node_plans() {
    let node = wanted(Runtime::Node, "index.js");
    let package = ("package.json", r#"{"dependencies": {"x": "1"}}"#);
    check(&[("index.js", ""), ("package.json", "{}")], &node, "");
    check(
        &[package],
        &node,
        "layer of [] [\"package.json\"]: npm install+\n\
         note: there is no lock file; a package-lock.json beside package.json makes every deploy install the same packages",
    );
    check(
        &[
            package,
            (
                "package-lock.json",
                r#"{"packages": {"": {}, "node_modules/x": {"integrity": "sha512-a"}}}"#,
            ),
        ],
        &node,
        "layer pinned of [\"package-lock.json\"] [\"package.json\"]: npm ci+",
    );
    check(
        &[
            package,
            (
                "package-lock.json",
                r#"{"packages": {"node_modules/x": {"integrity": "a", "hasInstallScript": true}}}"#,
            ),
        ],
        &node,
        "layer of [\"package-lock.json\"] [\"package.json\"]: npm ci+",
    );
    check(
        &[package, ("pnpm-lock.yaml", "lockfileVersion: '9.0'\n")],
        &node,
        "layer of [\"pnpm-lock.yaml\"] [\"package.json\"]: pnpm install+",
    );
    check(
        &[package, ("pnpm-lock.yaml", "lockfileVersion: '99.0'\n")],
        &node,
        "pnpm-lock.yaml: lockfileVersion 99.0 is not known; name the version of pnpm as \"packageManager\" in package.json",
    );
    check(
        &[package, ("package-lock.json", "{\n  broken\n")],
        &node,
        "package-lock.json: line 2, column 3: key must be a string",
    );
    check(
        &[
            ("src/a.ts", "export default 1"),
            (
                "package.json",
                r#"{"scripts": {"build": "tsc"}, "devDependencies": {"t": "1"}}"#,
            ),
        ],
        &wanted(Runtime::Node, "dist/a.js"),
        "bundle: npm install (with what the build needs)+, npm run build, keep the result, check the result\nentry dist/a.js",
    );
    check(
        &[("a.ts", "export default 1")],
        &wanted(Runtime::Node, "a.ts"),
        "bundle: keep the result, fetch esbuild+, esbuild a.ts, check the result\nentry a.mjs",
    );
}

#[test]
fn compiled_plans() {
    check(
        &[
            ("go.mod", "module x\n"),
            (
                "a.go",
                "package a\nfunc Handle(w http.ResponseWriter, r *http.Request) {}\n",
            ),
        ],
        &wanted(Runtime::Go, "a.go"),
        "bundle: go mod download+, go build, keep the result\nentry app",
    );
    let mut named = wanted(Runtime::Go, "main.go");
    named.handler = Some("serve".into());
    let main = ("main.go", "package main\nfunc main() {}\n");
    check(
        &[
            ("go.mod", "module x\nrequire y v1.0.0\n"),
            ("go.work", ""),
            main,
        ],
        &named,
        "bundle: go mod download+, go build, keep the result\nentry serve",
    );
    check(
        &[
            ("go.mod", "module x\n"),
            ("go.work", ""),
            ("vendor/modules.txt", ""),
            main,
        ],
        &named,
        "bundle: go build, keep the result\nentry serve",
    );
    check(
        &[("go.mod", "module x\n"), ("a.go", "package a\n")],
        &wanted(Runtime::Go, "a.go"),
        "package a in the folder has neither 'func main()' nor 'func Handle(w http.ResponseWriter, r *http.Request)'",
    );
    check(
        &[
            (
                "Cargo.toml",
                "[package]\nname = 'x'\n[[bin]]\nname = 'a'\n[[bin]]\nname = 'b'\n",
            ),
            ("Cargo.lock", ""),
        ],
        &wanted(Runtime::Rust, "Cargo.toml"),
        "Cargo.toml: has several programs, a, b; name one as package.default-run or with --handler",
    );
    check(
        &[
            ("Cargo.toml", "[package]\nname = 'x'\n"),
            ("src/main.rs", ""),
            ("Cargo.lock", ""),
            ("app", ""),
        ],
        &wanted(Runtime::Rust, "Cargo.toml"),
        "bundle: cargo fetch+, cargo build, keep the result\nentry app-program",
    );
    check(
        &[
            ("pom.xml", ""),
            (
                "src/main/java/a/H.java",
                "package a;\nclass H {\n Object handle(Object e) {}\n}\n",
            ),
        ],
        &wanted(Runtime::Java, "pom.xml"),
        "bundle: javac (host), mvn package+, keep the classes\nentry a/H.class",
    );
    check(
        &[("build.gradle", "")],
        &wanted(Runtime::Java, "build.gradle"),
        "Gradle is not run by itself; name a command that puts the classes into /out, and the jars they need into \
         /out/lib, as the build command",
    );
}

#[test]
fn ruby_php_and_command_plans() {
    check(
        &[("Gemfile", "gem 'x'\n"), ("Gemfile.lock", "")],
        &wanted(Runtime::Ruby, "handler.rb"),
        "layer of [\"Gemfile\", \"Gemfile.lock\"] []: bundle install+",
    );
    check(
        &[
            (
                "composer.json",
                r#"{"require": {"a/b": "1"}, "autoload": {"files": ["x.php"]}}"#,
            ),
            ("composer.lock", ""),
        ],
        &wanted(Runtime::Php, "handler.php"),
        "layer of [\"composer.lock\"] [\"composer.json\"]: composer install+\nbundle: composer dump-autoload\nentry handler.php",
    );
    let mut command = wanted(Runtime::Executable, "out/app");
    command.command = Some("make".into());
    check(
        &[("Makefile", "")],
        &command,
        "bundle: make+\nentry out/app",
    );
}

#[test]
fn a_missing_tool_says_how_to_get_it() {
    for (runtime, file, entry, without, expected) in [
        (
            Runtime::Ruby,
            ("Gemfile", "gem 'x'"),
            "handler.rb",
            "bundle",
            "cannot build for ruby: bundle is not installed; in Debian and Ubuntu: apt install ruby-bundler",
        ),
        (
            Runtime::Rust,
            ("main.rs", "fn main() {}"),
            "main.rs",
            "rustc",
            "cannot build for rust: rustc is not installed; in Debian and Ubuntu: apt install rustc, or install rustup for \
             the user that the server runs as",
        ),
    ] {
        let said = make(&[file], &wanted(runtime, entry), &[without]).unwrap_err();
        assert_eq!(said, expected);
    }
}

#[test]
fn the_key_follows_what_matters_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().canonicalize().unwrap();
    let key = |files: &[(&str, &str)], env: &[(&str, &str)]| {
        let mut wanted = wanted(Runtime::Node, "index.js");
        wanted.env = env
            .iter()
            .map(|(k, v)| ((*k).into(), (*v).into()))
            .collect();
        make_at(&root, files, &wanted, &[])
            .unwrap()
            .dependencies
            .unwrap()
            .key
    };
    let package = |text| ("package.json", text);
    let base = package(r#"{"dependencies": {"x": "1"}, "scripts": {"test": "a"}}"#);
    let first = key(&[base, ("index.js", "1")], &[]);
    assert_eq!(first.len(), 64);
    assert_eq!(first, key(&[base, ("index.js", "2")], &[]));
    let scripts = package(r#"{"scripts": {"test": "b"}, "dependencies": {"x": "1"}}"#);
    assert_eq!(first, key(&[scripts], &[]));
    assert_ne!(
        first,
        key(&[package(r#"{"dependencies": {"x": "2"}}"#)], &[])
    );
    assert_ne!(first, key(&[base, (".npmrc", "save-exact=true")], &[]));
    assert_ne!(first, key(&[base], &[("NODE_ENV", "x")]));
}
