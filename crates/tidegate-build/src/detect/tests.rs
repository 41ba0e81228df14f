use super::*;

/// Writes the files into a folder and says what was found: `runtime contract entry`, or the error, then the warnings.
fn check(files: &[(&str, &str)], wanted: Option<Runtime>, expected: &str) {
    let dir = tempfile::tempdir().unwrap();
    for (name, content) in files {
        fs::write(dir.path().join(name), content).unwrap();
    }
    let mut tree = Tree::read(dir.path()).unwrap();
    let mut said = match detect(&mut tree, dir.path(), None, None, wanted) {
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
fn dependencies_and_missing_handlers_only_warn() {
    check(
        &[("handler.py", HANDLER), ("requirements.txt", "flask\n")],
        None,
        "python host handler.py\nrequirements.txt lists dependencies, which are not installed yet; only packages of the \
         machine's own Python can be imported",
    );
    check(
        &[("handler.py", "x = 1")],
        None,
        "python host handler.py\nhandler.py has neither 'def handler(event, context)' nor an 'app' at its top level that \
         can be seen; unless one appears when it is loaded, the deploy will fail",
    );
}

#[test]
fn what_cannot_run_is_named() {
    check(
        &[("package.json", "{}"), ("index.js", "")],
        None,
        "not supported yet: JavaScript (found package.json); supported are Python files and executables (ELF programs, \
         or scripts that begin with '#!')",
    );
    check(
        &[("a.py", HANDLER), ("b.py", HANDLER)],
        None,
        "cannot tell which file of DIR to run (found a.py, b.py); name it with --entry, or call it handler.py, main.py, \
         app.py or function.py",
    );
    check(
        &[("handler.py", HANDLER)],
        Some(Runtime::Executable),
        "cannot tell which file of DIR to run (found handler.py); name it with --entry, or call it handler.py, main.py, \
         app.py or function.py",
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
        ("x.go", b"package main", "not supported yet: Go"),
        ("x.dat", b"\0\0\0\0", "cannot tell what"),
    ] {
        fs::write(dir.path().join(name), content).unwrap();
        let mut tree = Tree::single(&dir.path().join(name), name).unwrap();
        let said = match detect(&mut tree, dir.path(), Some(name), None, None) {
            Ok(_) => "ok".to_owned(),
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
