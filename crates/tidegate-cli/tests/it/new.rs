use std::collections::BTreeMap;
use std::path::Path;

use crate::harness::{Home, check};

const LANGUAGES: [&str; 9] = [
    "python",
    "node",
    "typescript",
    "go",
    "rust",
    "java",
    "ruby",
    "php",
    "executable",
];

/// Every file below a folder, with its text.
fn files(folder: &Path) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    let mut open = vec![folder.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap().display().to_string();
                all.insert(name, std::fs::read_to_string(&path).unwrap());
            }
        }
    }
    all
}

#[test]
fn every_language_has_a_folder_to_begin_with() {
    let home = Home::new();
    let mut said = String::new();
    for lang in LANGUAGES {
        for http in [false, true] {
            let name = if http {
                format!("{lang}-http")
            } else {
                lang.to_owned()
            };
            let path = home.path().join(&name);
            let mut args = vec!["new", path.to_str().unwrap(), "--lang", lang];
            args.extend(http.then_some("--http"));
            said.push_str(&home.plain(&args, "", Vec::new()));
            said.push('\n');
            if !path.exists() {
                continue;
            }
            let made = files(&path);
            assert!(
                made["README.md"].starts_with(&format!("# {name}\n")),
                "{name}"
            );
            assert!(made.values().all(|text| !text.contains("{{")), "{name}");
            // What is sent is the code, whatever else is in the folder.
            let ignored = &made[".tidegateignore"];
            assert!(ignored.contains("README.md\nrequest/\n"), "{name}");
        }
    }
    check("new", &said);
    let script = home.path().join("executable/handler.sh");
    use std::os::unix::fs::PermissionsExt as _;
    assert_eq!(
        std::fs::metadata(script).unwrap().permissions().mode() & 0o777,
        0o755
    );
}

#[test]
fn what_is_there_is_left_alone() {
    let home = Home::new();
    home.file("full/note.txt", "mine");
    std::fs::create_dir(home.path().join("empty")).unwrap();
    let at = |name: &str| home.path().join(name).to_str().unwrap().to_owned();
    let (full, empty, file) = (at("full"), at("empty"), home.file("file", "x"));
    let mut said = String::new();
    for args in [
        &["new", &full, "--lang", "python"][..],
        &["new", &file, "--lang", "python"],
        &["new", "Not_A_Name", "--lang", "python"],
        &["new", "x", "--lang", "cobol"],
        &["new", "x"],
        &["new", &empty, "--lang", "sh", "-q"],
    ] {
        said.push_str(&home.plain(args, "", Vec::new()));
        said.push('\n');
    }
    check("new-wrong", &said);
    assert_eq!(files(Path::new(&full)).len(), 1);
}
