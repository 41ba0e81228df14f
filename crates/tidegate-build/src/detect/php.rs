//! PHP. Any file is a script, so there is nothing that could be missing.

use super::Folder;

const ENTRIES: &[&str] = &[
    "handler.php",
    "index.php",
    "app.php",
    "function.php",
    "main.php",
    "public/index.php",
];

pub(super) fn find<'a>(folder: &Folder<'a>) -> Option<&'a str> {
    folder.first(ENTRIES).or_else(|| folder.only(&[".php"]))
}
