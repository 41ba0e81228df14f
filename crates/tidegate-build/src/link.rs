//! Which symbolic links stay inside the tree.

use crate::limits::MAX_PATH;

/// Why a link's target is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// It is empty, too long, or has a NUL.
    #[error("is empty or too long")]
    Malformed,
    /// It begins with `/`.
    #[error("is absolute")]
    Absolute,
    /// It climbs above the root.
    #[error("leaves the folder")]
    Leaves,
    /// It has `..` after a name.
    #[error("has '..' after a name")]
    Climbs,
}

/// Checks the target of a link that stands in a real folder `depth` components below the root.
///
/// `..` may only lead, and no higher than the root. Climbing out of a *real* folder is exact, and everything after it only
/// descends: through real folders, which are inside, or through links, which obey this same rule. So no chain of links
/// leaves the root, whatever else is in the tree and in whatever order it was made; a purely textual check could be led
/// astray by `link/..`, which the kernel resolves to the parent of the link's target.
///
/// # Errors
/// It leads out, or might; the error says how.
pub fn check(target: &str, depth: usize) -> Result<(), LinkError> {
    if target.is_empty() || target.len() > MAX_PATH || target.contains('\0') {
        return Err(LinkError::Malformed);
    }
    if target.starts_with('/') {
        return Err(LinkError::Absolute);
    }
    let (mut up, mut down) = (0, false);
    for part in target.split('/').filter(|p| !p.is_empty() && *p != ".") {
        match part {
            ".." if down => return Err(LinkError::Climbs),
            ".." => up += 1,
            _ => down = true,
        }
    }
    if up > depth {
        Err(LinkError::Leaves)
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_may_climb_to_the_root_and_no_higher() {
        for (target, depth, expected) in [
            ("a", 0, Ok(())),
            ("./a//b", 0, Ok(())),
            ("..", 1, Ok(())),
            ("../../lib/x", 2, Ok(())),
            ("..", 0, Err(LinkError::Leaves)),
            ("../../x", 1, Err(LinkError::Leaves)),
            ("./../x", 0, Err(LinkError::Leaves)),
            ("/etc/passwd", 3, Err(LinkError::Absolute)),
            ("a/../b", 1, Err(LinkError::Climbs)),
            ("", 1, Err(LinkError::Malformed)),
        ] {
            assert_eq!(check(target, depth), expected, "{target} at {depth}");
        }
    }
}
