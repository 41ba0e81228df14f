//! `pyproject.toml`: what a project without a lock asks for.

use toml::{Table, Value};

use super::super::PlanError;
use super::super::context::{manifest, toml_table};

const FILE: &str = "pyproject.toml";

/// The lines that pip understands for what the project needs at run time.
pub(super) fn requirements(text: &str) -> Result<Vec<String>, PlanError> {
    let table = toml_table(FILE, text)?;
    let project = table.get("project").and_then(Value::as_table);
    if let Some(list) = project.and_then(|p| p.get("dependencies")) {
        let list = list
            .as_array()
            .ok_or_else(|| manifest(FILE, "project.dependencies is not a list"))?;
        return list
            .iter()
            .map(|item| match item.as_str() {
                Some(text) if !text.contains(['\n', '\r']) && !text.trim_start().starts_with('-') => {
                    Ok(text.to_owned())
                }
                _ => Err(manifest(
                    FILE,
                    "project.dependencies has something that is not a requirement such as \"flask>=3\"",
                )),
            })
            .collect();
    }
    let poetry = table
        .get("tool")
        .and_then(|t| t.get("poetry")?.get("dependencies")?.as_table());
    match poetry {
        Some(list) => list
            .iter()
            .filter(|(name, _)| *name != "python")
            .filter_map(|(name, value)| poetry_line(name, value).transpose())
            .collect(),
        None => Ok(Vec::new()),
    }
}

/// One line of Poetry's older table, in the words of pip.
fn poetry_line(name: &str, value: &Value) -> Result<Option<String>, PlanError> {
    let empty = Table::new();
    let (version, table) = match value {
        Value::String(version) => (version.as_str(), &empty),
        Value::Table(table) => (
            table.get("version").and_then(Value::as_str).unwrap_or("*"),
            table,
        ),
        _ => {
            return Err(manifest(
                FILE,
                format!("tool.poetry.dependencies.{name} is neither a version nor a table"),
            ));
        }
    };
    if table.get("optional").and_then(Value::as_bool) == Some(true) {
        return Ok(None);
    }
    if let Some(kind) = ["git", "path", "url"]
        .iter()
        .find(|k| table.contains_key(**k))
    {
        return Err(manifest(
            FILE,
            format!(
                "tool.poetry.dependencies.{name} is a {kind} dependency; list it in requirements.txt"
            ),
        ));
    }
    let extras: Vec<&str> = table
        .get("extras")
        .and_then(Value::as_array)
        .map(|list| list.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default();
    let extras = if extras.is_empty() {
        String::new()
    } else {
        format!("[{}]", extras.join(","))
    };
    let ranges: Vec<String> = version
        .split(',')
        .map(|part| range(part.trim()))
        .collect::<Option<_>>()
        .ok_or_else(|| {
            manifest(
                FILE,
                format!(
                    "version {version:?} of {name} is not understood; list it in requirements.txt"
                ),
            )
        })?;
    let ranges: Vec<String> = ranges.into_iter().filter(|r| !r.is_empty()).collect();
    let marker = match table.get("markers").and_then(Value::as_str) {
        Some(marker) => format!(" ; {marker}"),
        None => String::new(),
    };
    Ok(Some(format!("{name}{extras}{}{marker}", ranges.join(","))))
}

/// `^1.2` is up to the next change of the first part that is not zero, `~1.2` up to the next of the second.
fn range(text: &str) -> Option<String> {
    if text == "*" || text.is_empty() {
        return Some(String::new());
    }
    if let Some(version) = text.strip_prefix('^') {
        let numbers = numbers(version)?;
        let first = numbers
            .iter()
            .position(|n| *n != 0)
            .unwrap_or(numbers.len() - 1);
        return Some(format!(">={version},<{}", bumped(&numbers, first)));
    }
    if let Some(version) = text.strip_prefix('~').filter(|v| !v.starts_with('=')) {
        let numbers = numbers(version)?;
        return Some(format!(
            ">={version},<{}",
            bumped(&numbers, 1.min(numbers.len() - 1))
        ));
    }
    if text.starts_with(['=', '<', '>', '!', '~']) {
        return Some(text.to_owned());
    }
    Some(format!("=={text}"))
}

fn numbers(version: &str) -> Option<Vec<u64>> {
    version
        .split('.')
        .map(|part| {
            let digits = part
                .find(|c: char| !c.is_ascii_digit())
                .unwrap_or(part.len());
            part[..digits].parse().ok()
        })
        .collect()
}

fn bumped(numbers: &[u64], at: usize) -> String {
    let mut numbers = numbers[..=at].to_vec();
    numbers[at] = numbers[at].saturating_add(1);
    let text: Vec<String> = numbers.iter().map(u64::to_string).collect();
    text.join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn projects_ask_in_two_ways() {
        assert_eq!(
            requirements("[project]\ndependencies = ['flask>=3', 'x[y]; z']").unwrap(),
            ["flask>=3", "x[y]; z"]
        );
        assert_eq!(
            requirements(
                "[tool.poetry.dependencies]\npython = '^3.11'\na = '^1.2.3'\nb = '^0.3'\nc = '~1.4.2'\nd = '*'\n\
                 e = {version = '>=2,<3', extras = ['z']}\nf = {version = '1.0', optional = true}\ng = '2.0'\n"
            )
            .unwrap(),
            [
                "a>=1.2.3,<2",
                "b>=0.3,<0.4",
                "c>=1.4.2,<1.5",
                "d",
                "e[z]>=2,<3",
                "g==2.0"
            ]
        );
        assert!(
            requirements("[build-system]\nrequires = []")
                .unwrap()
                .is_empty()
        );
    }

    #[test]
    fn broken_projects_say_where() {
        for (text, expected) in [
            ("[project]\nname = 'x\n", "pyproject.toml: line 2: "),
            (
                "[project]\ndependencies = 'x'",
                "pyproject.toml: project.dependencies is not a list",
            ),
            (
                "[project]\ndependencies = ['--index-url x']",
                "pyproject.toml: project.dependencies has something",
            ),
            (
                "[tool.poetry.dependencies]\na = '^x'",
                "pyproject.toml: version \"^x\" of a is not understood",
            ),
        ] {
            let said = requirements(text).unwrap_err().to_string();
            assert!(said.starts_with(expected), "{said}");
        }
    }
}
