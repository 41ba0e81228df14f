use std::os::unix::fs::symlink;
use std::process::Command;

use tidegate_build::{Runtime, ToolName, ToolPaths, Tools};

use crate::run::{Place, output, wanted};

fn node() -> Command {
    let tools = Tools::find(ToolPaths::from_env(|n| std::env::var_os(n)));
    Command::new(&tools.get(ToolName::Node).unwrap().program)
}

const PACKAGE: &str = r#"{"name": "x", "scripts": {"postinstall": "exit 1"}, "dependencies": {"is-number": "7.0.0"}}"#;

const LOCK: &str = r#"{"name": "x", "lockfileVersion": 3, "requires": true, "packages": {
    "": {"name": "x", "hasInstallScript": true, "dependencies": {"is-number": "7.0.0"}},
    "node_modules/is-number": {"version": "7.0.0",
        "integrity": "sha512-41Cifkg6e8TylSpdtTpeLVMqvSBEVzTttHvERD741+pnZ8ANv0004MRL43QKPDlK9cGvNp6NZWZUBlbGXYxxng=="}}}"#;

#[test]
fn a_lock_is_installed_apart_from_the_code() {
    let place = Place::new();
    let source = place.source(
        "a",
        &[
            (
                "index.mjs",
                "import isNumber from 'is-number'; console.log(isNumber(7));",
            ),
            ("package.json", PACKAGE),
            ("package-lock.json", LOCK),
        ],
    );
    let wanted = wanted(Runtime::Node, "host", "index.mjs");
    let one = place.build(&source, &wanted, "1").unwrap();
    let two = place.build(&source, &wanted, "2").unwrap();
    assert!(one.plan.compile.is_none());
    assert!(one.plan.dependencies.unwrap().pinned);
    let layer = one.layer.unwrap();
    output(
        Command::new("diff")
            .arg("-r")
            .args([&layer, &two.layer.unwrap()]),
    );
    let names: Vec<_> = std::fs::read_dir(&layer)
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert_eq!(names, ["node_modules"]);
    symlink(layer.join("node_modules"), source.join("node_modules")).unwrap();
    assert_eq!(output(node().arg(source.join("index.mjs"))), "true\n");
}

#[test]
fn typescript_becomes_a_module() {
    let place = Place::new();
    let source = place.source(
        "a",
        &[
            (
                "src/index.ts",
                "import { double } from './math';\nimport { label } from '@/label.ts';\nenum Kind { A = 'a' }\n\
                 const n: number = 21;\nconsole.log(label, double(n), Kind.A, import.meta.url.endsWith('/src/index.mjs'));\n",
            ),
            ("src/math.ts", "export const double = (n: number): number => n * 2;\n"),
            ("src/label.ts", "export const label: string = 'it is';\n"),
            (
                "tsconfig.json",
                "{ // comments are usual\n \"compilerOptions\": {\"paths\": {\"@/*\": [\"./src/*\"]}}}",
            ),
        ],
    );
    let wanted = wanted(Runtime::Node, "host", "src/index.ts");
    let built = place.build(&source, &wanted, "1").unwrap();
    let again = place.build(&source, &wanted, "2").unwrap();
    let out = built.out.unwrap();
    output(
        Command::new("diff")
            .arg("-r")
            .args([&out, &again.out.unwrap()]),
    );
    assert_eq!(
        output(node().arg(out.join("src/index.mjs"))),
        "it is 42 a true\n"
    );
}

#[test]
fn a_syntax_error_has_its_line() {
    let place = Place::new();
    let source = place.source(
        "a",
        &[
            ("index.ts", "const a: number = 1;\nconst = 2;\n"),
            ("tsconfig.json", "{}"),
        ],
    );
    let said = place
        .build(&source, &wanted(Runtime::Node, "host", "index.ts"), "1")
        .err()
        .unwrap();
    assert!(said.contains("index.ts:2:6"), "{said}");
}

#[test]
fn a_build_script_has_its_packages_and_the_result_does_not() {
    let place = Place::new();
    let source = place.source(
        "a",
        &[
            (
                "package.json",
                r#"{"main": "dist/index.js", "scripts": {"build": "node build.js"}, "devDependencies": {"is-number": "7.0.0"}}"#,
            ),
            (
                "build.js",
                "require('is-number'); require('fs').mkdirSync('dist'); require('fs').writeFileSync('dist/index.js', 'console.log(1)');",
            ),
        ],
    );
    let built = place
        .build(
            &source,
            &wanted(Runtime::Node, "host", "dist/index.js"),
            "1",
        )
        .unwrap();
    let out = built.out.unwrap();
    assert!(built.layer.is_none());
    assert!(out.join("dist/index.js").is_file());
    assert!(!out.join("node_modules").exists());

    let said = place
        .build(&source, &wanted(Runtime::Node, "host", "lib/x.js"), "2")
        .err()
        .unwrap();
    assert!(said.contains("the build did not make lib/x.js"), "{said}");
}
