//! Patterns of names: those of `COPY`, and those of `.dockerignore`.

/// Most patterns of a `.dockerignore`, since every file is compared with all of them.
const MAX_PATTERNS: usize = 1000;

/// Whether a path matches, part by part: `*` and `?` stay within a part, `**` is any number of parts.
pub(super) fn matches(pattern: &str, path: &str) -> bool {
    let pattern: Vec<&str> = pattern.split('/').collect();
    let path: Vec<&str> = path.split('/').collect();
    parts(&pattern, &path)
}

fn parts(pattern: &[&str], path: &[&str]) -> bool {
    // Which beginnings of the path the pattern so far can stand for: no backtracking, whatever the pattern.
    let mut reached = vec![false; path.len() + 1];
    reached[0] = true;
    for part in pattern {
        let mut next = vec![false; path.len() + 1];
        for at in 0..=path.len() {
            if !reached[at] {
                continue;
            }
            if *part == "**" {
                next[at..].fill(true);
            } else if at < path.len() && word(part, path[at]) {
                next[at + 1] = true;
            }
        }
        reached = next;
    }
    reached[path.len()]
}

/// One part against one name, in the same way.
fn word(pattern: &str, name: &str) -> bool {
    let name: Vec<char> = name.chars().collect();
    let mut reached = vec![false; name.len() + 1];
    reached[0] = true;
    let mut pattern = pattern.chars();
    while let Some(c) = pattern.next() {
        let literal = if c == '\\' { pattern.next() } else { None };
        let mut next = vec![false; name.len() + 1];
        for at in 0..=name.len() {
            if !reached[at] {
                continue;
            }
            match (literal, c) {
                (None, '*') => next[at..].fill(true),
                (None, '?') if at < name.len() => next[at + 1] = true,
                (literal, c) if name.get(at) == Some(&literal.unwrap_or(c)) => next[at + 1] = true,
                _ => {}
            }
        }
        reached = next;
    }
    reached[name.len()]
}

/// Whether a word has anything that is not a plain name.
pub(super) fn is_pattern(word: &str) -> bool {
    word.contains(['*', '?', '['])
}

/// What `.dockerignore` leaves out.
#[derive(Debug, Default)]
pub(super) struct Ignore(Vec<(bool, String)>);

impl Ignore {
    pub(super) fn parse(text: &str) -> Self {
        let mut patterns = Vec::new();
        for line in text.lines().map(str::trim) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (keeps, pattern) = match line.strip_prefix('!') {
                Some(rest) => (true, rest),
                None => (false, line),
            };
            let pattern = pattern.trim().trim_start_matches("./").trim_matches('/');
            if !pattern.is_empty() && pattern != "." && patterns.len() < MAX_PATTERNS {
                patterns.push((keeps, pattern.to_owned()));
            }
        }
        Self(patterns)
    }

    /// Whether the file stays behind: the last pattern that fits it, or a folder it is in, decides.
    pub(super) fn leaves(&self, path: &str) -> bool {
        let mut left = false;
        for (keeps, pattern) in &self.0 {
            let fits = matches(pattern, path)
                || path
                    .match_indices('/')
                    .any(|(at, _)| matches(pattern, &path[..at]));
            if fits {
                left = !keeps;
            }
        }
        left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_part_by_part() {
        for (pattern, path, expected) in [
            ("*.json", "package.json", true),
            ("*.json", "a/package.json", false),
            ("function/*.js", "function/a.js", true),
            ("**/*.js", "a/b/c.js", true),
            ("**/*.js", "c.js", true),
            ("a/**", "a/b/c", true),
            ("a?c", "abc", true),
            ("a?c", "a/c", false),
            ("\\*", "*", true),
            ("\\*", "a", false),
            ("", "a", false),
        ] {
            assert_eq!(matches(pattern, path), expected, "{pattern} {path}");
        }
        // Every star could stand for every part of the name.
        assert!(!matches(&"*a".repeat(200), &"a".repeat(199)));
    }

    #[test]
    fn what_docker_ignores() {
        let ignore = Ignore::parse("# x\nnode_modules\n*.md\n!README.md\n/build/\n**/*.log\n");
        for (path, left) in [
            ("node_modules/a/b.js", true),
            ("x/node_modules/a", false),
            ("NOTES.md", true),
            ("README.md", false),
            ("build/a", true),
            ("a/b/c.log", true),
            ("index.js", false),
        ] {
            assert_eq!(ignore.leaves(path), left, "{path}");
        }
    }
}
