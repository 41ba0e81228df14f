//! Names of archive entries.

/// Longest single component in bytes, the limit of every file system in use.
const MAX_COMPONENT: usize = 255;

/// Why a name is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Begins with `/`.
    #[error("is absolute; names are relative to the archive's root")]
    Absolute,
    /// Has a `..`.
    #[error("has '..'; names stay inside the archive")]
    Climbs,
    /// Not UTF-8, or with a control character.
    #[error("is not clean UTF-8 text")]
    Text,
    /// Too long or too deep.
    #[error("is too long or nested too deep")]
    Size,
}

/// The name with `.` and doubled slashes taken out; empty for the root.
pub(super) fn clean(raw: &[u8], longest: usize, deepest: usize) -> Result<String, NameError> {
    let text = std::str::from_utf8(raw).map_err(|_| NameError::Text)?;
    if text.chars().any(char::is_control) {
        return Err(NameError::Text);
    }
    if text.starts_with('/') {
        return Err(NameError::Absolute);
    }
    if text.len() > longest.saturating_add(2) {
        return Err(NameError::Size);
    }
    let mut name = String::with_capacity(text.len());
    let mut depth = 0;
    for part in text.split('/').filter(|p| !p.is_empty() && *p != ".") {
        depth += 1;
        if part == ".." {
            return Err(NameError::Climbs);
        }
        if part.len() > MAX_COMPONENT || depth > deepest {
            return Err(NameError::Size);
        }
        if !name.is_empty() {
            name.push('/');
        }
        name.push_str(part);
    }
    if name.len() > longest {
        return Err(NameError::Size);
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_cleaned_or_refused() {
        for (raw, expected) in [
            (&b"a/b"[..], Ok("a/b")),
            (b"./a//b/./c/", Ok("a/b/c")),
            (b"./", Ok("")),
            (b"/etc", Err(NameError::Absolute)),
            (b"a/../b", Err(NameError::Climbs)),
            (b"..", Err(NameError::Climbs)),
            (b"a\nb", Err(NameError::Text)),
            (b"a\0b", Err(NameError::Text)),
            (b"\xff", Err(NameError::Text)),
            (b"1/2/3/4/5", Err(NameError::Size)),
            (b"0123456789012345678901", Err(NameError::Size)),
        ] {
            assert_eq!(clean(raw, 20, 4), expected.map(str::to_owned));
        }
    }

    proptest! {
        #[test]
        fn a_clean_name_never_leaves(raw in proptest::collection::vec(prop_oneof![Just(b'.'), Just(b'/'), any::<u8>()], 0..40)) {
            if let Ok(name) = clean(&raw, 30, 8) {
                prop_assert!(!name.starts_with('/') && name.len() <= 30);
                prop_assert!(name.is_empty() || name.split('/').all(|p| !p.is_empty() && p != "." && p != ".."));
                let again = clean(name.as_bytes(), 30, 8);
                prop_assert_eq!(again, Ok(name));
            }
        }
    }
}
