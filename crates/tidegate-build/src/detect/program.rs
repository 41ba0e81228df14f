//! Programs that the kernel runs.

use super::{DetectError, Folder, SOURCES, UNSUPPORTED, by_ending, read_head};

/// Programs that are the entry when several lie in a folder.
const ENTRIES: &[&str] = &["handler", "main", "app", "function", "run", "bootstrap"];

pub(super) fn find<'a>(folder: &Folder<'a>) -> Option<&'a str> {
    let programs: Vec<&str> = folder
        .top
        .iter()
        .copied()
        .filter(|p| is_program(folder, p))
        .collect();
    let named: Vec<&str> = programs
        .iter()
        .copied()
        .filter(|p| ENTRIES.contains(&p.split('.').next().unwrap_or(p)))
        .collect();
    match (&programs[..], &named[..]) {
        ([only], _) | (_, [only]) => Some(only),
        _ => None,
    }
}

/// Whether the kernel would run it, or why not.
pub(super) fn check(folder: &Folder<'_>, entry: &str) -> Result<(), DetectError> {
    let head = read_head(&folder.root.join(entry))?;
    if runs(&head) {
        return Ok(());
    }
    if by_ending(SOURCES, entry).is_some() {
        return Err(DetectError::NoShebang(entry.to_owned()));
    }
    guess(folder, entry)
}

/// The same for a file of which nothing is known.
pub(super) fn guess(folder: &Folder<'_>, name: &str) -> Result<(), DetectError> {
    let head = read_head(&folder.root.join(name))?;
    if runs(&head) {
        return Ok(());
    }
    let found = || name.to_owned();
    if let Some(language) = by_ending(UNSUPPORTED, name) {
        return Err(DetectError::Language {
            language,
            found: found(),
        });
    }
    let script = by_ending(&[("sh", ()), ("bash", ()), ("pl", ())], name).is_some();
    Err(match &head[..head.len().min(4)] {
        _ if script => DetectError::NoShebang(found()),
        [b'M', b'Z', ..] => DetectError::System {
            found: found(),
            system: "Windows",
        },
        [0xcf | 0xce, 0xfa, 0xed, 0xfe] | [0xca, 0xfe, 0xba, 0xbe] => DetectError::System {
            found: found(),
            system: "macOS",
        },
        _ => DetectError::Unknown(found()),
    })
}

fn is_program(folder: &Folder<'_>, name: &str) -> bool {
    read_head(&folder.root.join(name)).is_ok_and(|head| runs(&head))
}

fn runs(head: &[u8]) -> bool {
    head.starts_with(b"\x7fELF") || head.starts_with(b"#!")
}
