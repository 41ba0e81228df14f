//! The files of a folder as text.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// A line a file, with a star where it can be run.
pub(crate) fn of(root: &Path) -> String {
    let mut said = String::new();
    list(root, "", &mut said);
    said
}

fn list(root: &Path, folder: &str, said: &mut String) {
    let mut names: Vec<_> = fs::read_dir(root.join(folder))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    for name in names {
        let path = if folder.is_empty() {
            name
        } else {
            format!("{folder}/{name}")
        };
        let meta = fs::symlink_metadata(root.join(&path)).unwrap();
        if meta.is_dir() {
            list(root, &path, said);
        } else {
            let mark = if meta.permissions().mode() & 0o100 == 0 {
                ""
            } else {
                " *"
            };
            writeln!(said, "{path}{mark}").unwrap();
        }
    }
}
