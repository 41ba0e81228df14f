//! `requirements.txt`, as far as it has to be understood to run pip elsewhere than beside it.

use std::collections::VecDeque;
use std::fs;
use std::path::Path;

use super::super::PlanError;
use super::super::context::{Context, manifest};

/// Most files that a list may draw in, by `-r` and by path.
const MAX_INPUTS: usize = 10_000;

/// Deepest folders in a package that is named by its path, which bounds the recursion.
const MAX_DEPTH: usize = 32;

/// What a list and the lists it includes say.
pub(super) struct Requirements {
    /// Every file that pip will read, the list itself first.
    pub(super) inputs: Vec<String>,
    /// Every requirement has a hash.
    pub(super) hashed: bool,
    /// `--only-binary` or `--no-binary` is there.
    pub(super) formats: bool,
    /// Nothing is required.
    pub(super) empty: bool,
}

/// Reads a list and what it includes.
pub(super) fn read(
    context: &Context<'_>,
    file: &str,
    text: &str,
) -> Result<Requirements, PlanError> {
    let mut read = Requirements {
        inputs: vec![file.to_owned()],
        hashed: false,
        formats: false,
        empty: true,
    };
    let mut unhashed = false;
    let mut queue = VecDeque::from([(file.to_owned(), text.to_owned())]);
    while let Some((file, text)) = queue.pop_front() {
        for (number, line) in logical(&text) {
            let fail = |why: String| manifest(&file, format!("line {number}: {why}"));
            match classify(&line) {
                Line::Include(name) => {
                    let path = relative(&file, name)
                        .ok_or_else(|| fail(format!("{name:?} does not stay inside the folder")))?;
                    if read.inputs.contains(&path) {
                        continue;
                    }
                    let text = context
                        .read(&path)?
                        .ok_or_else(|| fail(format!("there is no file {path}")))?;
                    if read.inputs.len() >= MAX_INPUTS {
                        return Err(fail(format!("more than {MAX_INPUTS} files are included")));
                    }
                    read.inputs.push(path.clone());
                    queue.push_back((path, text));
                }
                Line::Editable => {
                    return Err(fail(
                        "'-e' cannot be installed apart from the source; write the path without it"
                            .into(),
                    ));
                }
                Line::Path(name) => {
                    read.empty = false;
                    unhashed = true;
                    // Paths are relative to where pip is run, not to the file.
                    let path = relative("", name)
                        .ok_or_else(|| fail(format!("{name:?} does not stay inside the folder")))?;
                    collect(context.source, &path, 0, &mut read.inputs)
                        .map_err(|why| fail(format!("{name}: {why}")))?;
                }
                Line::Formats => read.formats = true,
                Line::Option => {}
                Line::Requirement { hashed: true } => {
                    read.empty = false;
                    read.hashed = true;
                }
                Line::Requirement { hashed: false } => {
                    read.empty = false;
                    unhashed = true;
                }
            }
        }
    }
    // pip refuses a list with some hashes; let it say so in its own words.
    read.hashed &= !unhashed;
    Ok(read)
}

enum Line<'a> {
    Include(&'a str),
    Editable,
    Path(&'a str),
    Formats,
    Option,
    Requirement { hashed: bool },
}

fn classify(line: &str) -> Line<'_> {
    let option = |names: &[&str]| {
        names.iter().find_map(|name| {
            let rest = line.strip_prefix(name)?;
            let value = rest.trim_start_matches([' ', '=', '\t']);
            (name.len() == 2 || rest.len() > value.len()).then_some(value)
        })
    };
    if let Some(name) = option(&["-r", "--requirement", "-c", "--constraint"]) {
        return Line::Include(name);
    }
    if option(&["-e", "--editable"]).is_some() {
        return Line::Editable;
    }
    if option(&["--only-binary", "--no-binary", "--prefer-binary"]).is_some() {
        return Line::Formats;
    }
    if line.starts_with('-') {
        return Line::Option;
    }
    // `name @ file:./lib` and `./lib[extra] ; marker`.
    let target = line
        .split_once(" @ ")
        .map_or(line, |(_, target)| target)
        .split([';', '['])
        .next()
        .unwrap_or(line)
        .split_whitespace()
        .next()
        .unwrap_or(line);
    let local = target.strip_prefix("file:").unwrap_or(target);
    let path = target.starts_with("file:")
        || target.starts_with('.')
        || target.starts_with('/')
        || (target.contains('/') && !target.contains("://"))
        || [".whl", ".tar.gz", ".zip"]
            .iter()
            .any(|e| target.ends_with(e) && !target.contains("://"));
    if path {
        return Line::Path(local);
    }
    Line::Requirement {
        hashed: line.contains("--hash"),
    }
}

/// Lines without comments, continued ones joined, with the number of their first.
fn logical(text: &str) -> Vec<(usize, String)> {
    let mut lines = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (at, line) in text.lines().enumerate() {
        let line = if line.trim_start().starts_with('#') {
            ""
        } else {
            line.split(" #").next().unwrap_or(line)
        };
        let (number, mut joined) = open.take().unwrap_or((at + 1, String::new()));
        match line.trim_end().strip_suffix('\\') {
            Some(more) => {
                joined.push_str(more);
                open = Some((number, joined));
            }
            None => {
                joined.push_str(line);
                lines.push((number, joined));
            }
        }
    }
    lines.extend(open);
    lines
        .into_iter()
        .map(|(number, line)| (number, line.trim().to_owned()))
        .filter(|(_, line)| !line.is_empty())
        .collect()
}

/// A path named in a file, relative to the root.
fn relative(file: &str, name: &str) -> Option<String> {
    if name.starts_with('/') || name.contains("://") {
        return None;
    }
    let mut parts: Vec<&str> = file.split('/').collect();
    parts.pop();
    for part in name.split('/').filter(|p| !p.is_empty() && *p != ".") {
        match part {
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// All files of a local package.
fn collect(root: &Path, path: &str, depth: usize, inputs: &mut Vec<String>) -> Result<(), String> {
    let full = root.join(path);
    let meta = fs::metadata(&full).map_err(|_| "there is no such file or folder".to_owned())?;
    if meta.is_file() {
        if inputs.len() >= MAX_INPUTS {
            return Err(format!("more than {MAX_INPUTS} files"));
        }
        if !inputs.iter().any(|i| i == path) {
            inputs.push(path.to_owned());
        }
        return Ok(());
    }
    if depth >= MAX_DEPTH {
        return Err(format!("more than {MAX_DEPTH} folders deep"));
    }
    let mut names: Vec<String> = fs::read_dir(&full)
        .map_err(|e| e.to_string())?
        .filter_map(|e| e.ok()?.file_name().into_string().ok())
        .collect();
    names.sort_unstable();
    for name in names {
        let path = if path.is_empty() {
            name
        } else {
            format!("{path}/{name}")
        };
        // A link may lead around in a circle.
        if fs::symlink_metadata(root.join(&path)).is_ok_and(|m| !m.is_symlink()) {
            collect(root, &path, depth + 1, inputs)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_told_apart() {
        for (line, expected) in [
            ("-r base.txt", "include base.txt"),
            ("--constraint=c.txt", "include c.txt"),
            ("-rbase.txt", "include base.txt"),
            ("-e .", "editable"),
            ("./lib[fast]", "path ./lib"),
            ("mine @ file:./lib", "path ./lib"),
            (
                "wheels/x-1-py3-none-any.whl",
                "path wheels/x-1-py3-none-any.whl",
            ),
            ("x @ https://host/x.whl", "requirement false"),
            ("flask==3.0 ; python_version > '3'", "requirement false"),
            ("flask==3.0 --hash=sha256:ab", "requirement true"),
            ("--index-url https://host/simple", "option"),
            ("--no-binary :all:", "formats"),
            ("--requirements-x y", "option"),
        ] {
            let said = match classify(line) {
                Line::Include(name) => format!("include {name}"),
                Line::Editable => "editable".into(),
                Line::Path(name) => format!("path {name}"),
                Line::Formats => "formats".into(),
                Line::Option => "option".into(),
                Line::Requirement { hashed } => format!("requirement {hashed}"),
            };
            assert_eq!(said, expected, "{line}");
        }
    }

    #[test]
    fn continued_lines_are_one() {
        assert_eq!(
            logical("a==1 \\\n  --hash=x \\\n  --hash=y\n\n# c\nb # why\n"),
            [
                (1, "a==1   --hash=x   --hash=y".to_owned()),
                (6, "b".to_owned())
            ]
        );
        assert_eq!(relative("a/b.txt", "../c.txt").as_deref(), Some("c.txt"));
        assert_eq!(relative("b.txt", "../c.txt"), None);
    }
}
