//! A function's name, made from a path.

use std::path::Path;

use tidegate_core::Name;

/// The name, and the text that it was made from: a folder's name, or a file's without its ending.
pub(super) fn of_path(path: &Path) -> Option<(Name, String)> {
    let real = path.canonicalize().ok()?;
    let part = if real.is_dir() {
        real.file_name()
    } else {
        real.file_stem()
    }?;
    let part = part.to_string_lossy();
    // Of an archive's two endings one is left.
    let from = match part.strip_suffix(".tar") {
        Some(name) if real.is_file() => name.to_owned(),
        _ => part.into_owned(),
    };
    Some((label(&from)?, from))
}

/// The same, made from a text.
pub(super) fn of_text(text: &str) -> Option<(Name, String)> {
    Some((label(text)?, text.to_owned()))
}

/// The text as a DNS label: lower case, everything else a dash, no dash at either end.
fn label(text: &str) -> Option<Name> {
    let mut label = String::new();
    for c in text.chars() {
        if label.len() >= Name::MAX {
            break;
        }
        let c = c.to_ascii_lowercase();
        if c.is_ascii_lowercase() || c.is_ascii_digit() {
            label.push(c);
        } else if !label.is_empty() && !label.ends_with('-') {
            label.push('-');
        }
    }
    Name::new(label.trim_end_matches('-')).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_text_becomes_a_label_or_nothing() {
        for (text, expected) in [
            ("thumbnail", Some("thumbnail")),
            ("My_Func v2", Some("my-func-v2")),
            ("--x--", Some("x")),
            ("naïve", Some("na-ve")),
            ("___", None),
        ] {
            let name = label(text);
            assert_eq!(name.as_ref().map(Name::as_str), expected, "{text}");
        }
        assert_eq!(label(&"x".repeat(100)).unwrap().as_str().len(), Name::MAX);
        assert_eq!(
            label(&format!("{}-y", "x".repeat(62)))
                .unwrap()
                .as_str()
                .len(),
            62
        );
    }
}
