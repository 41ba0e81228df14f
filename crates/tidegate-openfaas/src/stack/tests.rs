use std::io;
use std::path::Path;

use super::*;

fn env(name: &str) -> Option<String> {
    match name {
        "REGISTRY" => Some("registry.example/team".to_owned()),
        "TOKEN" => Some("a: b: [hidden".to_owned()),
        "EMPTY" => Some(String::new()),
        _ => None,
    }
}

fn file(name: &str) -> io::Result<String> {
    match name {
        "env.yml" => Ok("environment:\n  MODE: from-env\n  PORT: 8080\n".to_owned()),
        "last.yml" => Ok("environment:\n  MODE: from-last\n".to_owned()),
        "broken.yml" => Ok("environment:\n  LIST: [1]\n".to_owned()),
        "other.yml" => Ok("MODE: x\n".to_owned()),
        _ => Err(io::Error::new(io::ErrorKind::NotFound, "no such file")),
    }
}

/// What a user is told of a file, or what was understood of it.
fn told(name: &str, text: &str) -> String {
    let around = Surroundings {
        env: &env,
        file: &file,
    };
    let read = match kind(name, text) {
        Kind::Stack => super::read(name, text, &around),
        Kind::Objects => objects(name, text),
        other => return format!("{other:?}\n"),
    };
    let stack = match read {
        Ok(stack) => stack,
        Err(mistakes) => return format!("{mistakes}\n"),
    };
    let mut told = String::new();
    for note in &stack.notes {
        told.push_str(&format!("note: {note}\n"));
    }
    if let Some(gateway) = &stack.gateway {
        told.push_str(&format!("gateway {gateway}\n"));
    }
    for template in &stack.templates {
        told.push_str(&format!("{template:?}\n"));
    }
    if !stack.copy.is_empty() {
        told.push_str(&format!("copy {:?}\n", stack.copy));
    }
    for function in &stack.functions {
        let deployment = serde_json::to_string_pretty(&function.deployment).unwrap();
        told.push_str(&format!("{}\n{deployment}\n", function.origin));
        if let Some(recipe) = &function.recipe {
            told.push_str(&format!("{recipe:#?}\n"));
        }
    }
    told
}

/// Every file of the folder `cases` has a snapshot; adding a case is adding a file.
#[test]
fn cases() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/stack/cases");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert!(files.len() >= 12);
    for path in files {
        let name = path.file_name().unwrap().to_str().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let stem = name.trim_end_matches(".yaml");
        insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false }, {
            insta::assert_snapshot!(stem, told(name, &text));
        });
    }
}

#[test]
fn values_of_variables_are_not_told() {
    let text =
        "provider: {name: openfaas}\nfunctions:\n  a:\n    image: x\n    environment: ${TOKEN}\n";
    let told = told("stack.yaml", text);
    assert!(told.contains("stack.yaml:5:"), "{told}");
    assert!(!told.contains("hidden"), "{told}");
}

#[test]
fn what_a_text_is() {
    for (text, expected) in [
        ("provider:\n  name: openfaas\nfunctions: {}\n", Kind::Stack),
        ("# ${X\nprovider:\n  name: ${P\nfunctions:\n", Kind::Stack),
        ("provider:\n  name: x: y\nfunctions:\n", Kind::Stack),
        (
            "apiVersion: openfaas.com/v1\nkind: Function\n",
            Kind::Objects,
        ),
        (
            "apiVersion: openfaas.com/v1\nkind: Function\n---\napiVersion: tidegate.dev/v1\n",
            Kind::Mixed,
        ),
        ("apiVersion: tidegate.dev/v1\nkind: Function\n", Kind::Other),
        ("functions:\n  a: {path: a.py}\n", Kind::Other),
        ("[functions.a]\npath = \"a.py\"\n", Kind::Other),
        ("", Kind::Other),
    ] {
        assert_eq!(kind("f", text), expected, "{text}");
    }
}

#[test]
fn images_have_a_tag() {
    for (image, expected) in [
        ("a", "a:latest"),
        ("a:1", "a:1"),
        ("host:5000/a", "host:5000/a:latest"),
        ("host:5000/a:1", "host:5000/a:1"),
        ("a@sha256:00", "a@sha256:00"),
        ("", ""),
    ] {
        assert_eq!(tagged(image), expected);
    }
}
