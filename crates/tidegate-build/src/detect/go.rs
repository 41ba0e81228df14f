//! Go.

use super::Folder;
use crate::source::{GoPackage, go_package};

/// The file with `main` or `Handle`: at the top, or of the only program below `cmd`.
pub(super) fn find(folder: &Folder<'_>) -> Option<String> {
    if let Some(package) = go_package(folder.root)
        && folder.has(&package.file)
    {
        return Some(package.file);
    }
    let mut programs = folder.files().filter(|p| {
        p.strip_prefix("cmd/")
            .is_some_and(|rest| rest.matches('/').count() == 1 && rest.ends_with("/main.go"))
    });
    match (programs.next(), programs.next()) {
        (Some(only), None) => Some(only.to_owned()),
        _ => None,
    }
}

pub(super) fn look(folder: &Folder<'_>, entry: &str) -> (&'static str, Option<String>) {
    let place = match entry.rsplit_once('/') {
        Some((place, _)) => folder.root.join(place),
        None => folder.root.to_owned(),
    };
    let GoPackage {
        name,
        main,
        handlers,
        serves,
        ..
    } = go_package(&place).unwrap_or_default();
    if name == "main" && main {
        // What does not serve is run for every call.
        return (if serves { "http" } else { "stdio" }, None);
    }
    let warning = handlers.is_empty().then(|| {
        format!(
            "{entry}: package {name} has neither 'func main()' nor 'func Handle(w http.ResponseWriter, r \
             *http.Request)' that can be seen"
        )
    });
    ("http", warning)
}
