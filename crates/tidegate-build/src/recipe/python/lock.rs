//! Lock files of other tools, as pinned lists for pip.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value as Json;
use toml::{Table, Value};

use super::super::PlanError;
use super::super::context::{json, manifest, toml_table};

/// A list that needs no resolving.
#[derive(Debug)]
pub(super) struct Pinned {
    /// One requirement each, sorted.
    pub(super) lines: Vec<String>,
    /// Every one has hashes.
    pub(super) hashed: bool,
    /// Some package has no wheel, and so has to be built.
    pub(super) sources: bool,
}

/// `uv.lock`: the packages that the project itself leads to, with the conditions on the way.
pub(super) fn uv(file: &str, text: &str) -> Result<Pinned, PlanError> {
    let table = toml_table(file, text)?;
    let packages = packages(&table);
    // A package may stand there twice, in versions for different systems; then the edges name the version.
    let key = |p: &Table| (string(p, "name"), string(p, "version"));
    let source = |p: &Table, kind: &str| p.get("source").and_then(|s| s.get(kind)).is_some();
    let roots: Vec<&Table> = packages
        .iter()
        .copied()
        .filter(|p| source(p, "virtual") || source(p, "editable"))
        .collect();
    if roots.is_empty() {
        return Err(manifest(file, "has no project of its own"));
    }
    // Which extras of a package are wanted, and under which markers the package is.
    let mut seen: BTreeSet<(String, String, String)> = BTreeSet::new();
    let mut wanted: BTreeMap<(String, String), Markers> = BTreeMap::new();
    for edge in roots.iter().flat_map(|root| list(root, "dependencies")) {
        follow(edge, None, &packages, &mut seen, &mut wanted);
    }
    let mut pinned = Pinned::new();
    for package in packages {
        let Some(markers) = wanted.get(&key(package)) else {
            continue;
        };
        if source(package, "virtual") || source(package, "editable") {
            continue;
        }
        if !source(package, "registry") {
            return Err(manifest(
                file,
                format!(
                    "package {} does not come from an index; list it in requirements.txt",
                    string(package, "name")
                ),
            ));
        }
        let wheels = list(package, "wheels");
        let hashes = wheels
            .iter()
            .copied()
            .chain(package.get("sdist").and_then(Value::as_table))
            .map(|t| string(t, "hash"));
        let hashes: Vec<String> = hashes.filter(|h| !h.is_empty()).collect();
        pinned.push(package, markers.text(), &hashes, wheels.is_empty());
    }
    Ok(pinned.sorted())
}

/// The ways on which a package is wanted.
#[derive(Default)]
struct Markers {
    always: bool,
    some: BTreeSet<String>,
}

impl Markers {
    fn text(&self) -> Option<String> {
        if self.always || self.some.is_empty() {
            return None;
        }
        let some: Vec<String> = self.some.iter().map(|m| format!("({m})")).collect();
        Some(some.join(" or "))
    }
}

fn follow(
    edge: &Table,
    under: Option<&str>,
    packages: &[&Table],
    seen: &mut BTreeSet<(String, String, String)>,
    wanted: &mut BTreeMap<(String, String), Markers>,
) {
    let (name, version) = (string(edge, "name"), string(edge, "version"));
    let marker = match (under, edge.get("marker").and_then(Value::as_str)) {
        (Some(under), Some(marker)) if under != marker => Some(format!("({under}) and ({marker})")),
        (_, Some(marker)) => Some(marker.to_owned()),
        (under, None) => under.map(str::to_owned),
    };
    let extras: Vec<&str> = edge
        .get("extra")
        .and_then(Value::as_array)
        .map(|l| l.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default();
    for package in packages.iter().filter(|p| {
        string(p, "name") == name && (version.is_empty() || string(p, "version") == version)
    }) {
        let key = (name.clone(), string(package, "version"));
        let markers = wanted.entry(key.clone()).or_default();
        match &marker {
            None => markers.always = true,
            Some(marker) => {
                markers.some.insert(marker.clone());
            }
        }
        // Each way is followed once a condition, so a circle ends.
        let mut below = Vec::new();
        if seen.insert((key.0.clone(), key.1.clone(), format!("{marker:?}"))) {
            below.extend(list(package, "dependencies"));
        }
        for extra in &extras {
            let more = package
                .get("optional-dependencies")
                .and_then(|o| o.get(extra)?.as_array());
            if seen.insert((
                key.0.clone(),
                key.1.clone(),
                format!("[{extra}] {marker:?}"),
            )) {
                below.extend(more.into_iter().flatten().filter_map(Value::as_table));
            }
        }
        if seen.len() > MAX_WAYS {
            continue;
        }
        for edge in below {
            follow(edge, marker.as_deref(), packages, seen, wanted);
        }
    }
}

/// Most (package, condition) pairs that are followed, which bounds the recursion as well; large projects have a few
/// hundred packages and a handful of conditions.
const MAX_WAYS: usize = 5_000;

/// `poetry.lock`: the packages of the main group.
pub(super) fn poetry(file: &str, text: &str) -> Result<Pinned, PlanError> {
    let table = toml_table(file, text)?;
    let mut pinned = Pinned::new();
    for package in packages(&table) {
        // Older files say it with `category`, those between not at all.
        let main = match (package.get("groups"), package.get("category")) {
            (Some(groups), _) => groups
                .as_array()
                .is_some_and(|l| l.iter().any(|g| g.as_str() == Some("main"))),
            (None, Some(category)) => category.as_str() == Some("main"),
            (None, None) => true,
        };
        if !main || package.get("optional").and_then(Value::as_bool) == Some(true) {
            continue;
        }
        if let Some(kind) = package
            .get("source")
            .and_then(|s| s.get("type")?.as_str())
            .filter(|kind| *kind != "legacy")
        {
            return Err(manifest(
                file,
                format!(
                    "package {} comes from a {kind}; list it in requirements.txt",
                    string(package, "name")
                ),
            ));
        }
        let mut files = list(package, "files");
        // Until 1.4 they stood at the end of the file.
        let name = string(package, "name");
        if files.is_empty() {
            files = table
                .get("metadata")
                .and_then(|m| m.get("files")?.get(&name)?.as_array())
                .map(|l| l.iter().filter_map(Value::as_table).collect())
                .unwrap_or_default();
        }
        let hashes: Vec<String> = files.iter().map(|f| string(f, "hash")).collect();
        let wheel = files.iter().any(|f| string(f, "file").ends_with(".whl"));
        let marker = match package.get("markers") {
            Some(Value::String(marker)) => Some(marker.clone()),
            Some(Value::Table(by_group)) => by_group
                .get("main")
                .and_then(Value::as_str)
                .map(str::to_owned),
            _ => None,
        };
        pinned.push(package, marker, &hashes, !wheel);
    }
    Ok(pinned.sorted())
}

/// `Pipfile.lock`: the packages of the default group.
pub(super) fn pipfile(file: &str, text: &str) -> Result<Pinned, PlanError> {
    let lock = json(file, text)?;
    let default = lock
        .get("default")
        .and_then(Json::as_object)
        .ok_or_else(|| manifest(file, "has no group \"default\""))?;
    let mut pinned = Pinned::new();
    for (name, package) in default {
        let text = |key: &str| package.get(key).and_then(Json::as_str);
        let version = text("version")
            .filter(|v| v.starts_with("==") && plain(&v[2..]))
            .filter(|_| plain(name))
            .ok_or_else(|| {
                manifest(
                    file,
                    format!(
                        "package {name} has no version from an index; list it in requirements.txt"
                    ),
                )
            })?;
        let hashes: Vec<String> = package
            .get("hashes")
            .and_then(Json::as_array)
            .map(|l| {
                l.iter()
                    .filter_map(|h| Some(h.as_str()?.to_owned()))
                    .collect()
            })
            .unwrap_or_default();
        // What kinds of files the hashes are of is not said.
        pinned.line(
            name,
            &version[2..],
            text("markers").map(str::to_owned),
            &hashes,
        );
    }
    Ok(pinned.sorted())
}

// === impl Pinned ===

impl Pinned {
    fn new() -> Self {
        Self {
            lines: Vec::new(),
            hashed: true,
            sources: false,
        }
    }

    fn push(&mut self, package: &Table, marker: Option<String>, hashes: &[String], built: bool) {
        let (name, version) = (string(package, "name"), string(package, "version"));
        if plain(&name) && plain(&version) {
            self.sources |= built;
            self.line(&name, &version, marker, hashes);
        }
    }

    fn line(&mut self, name: &str, version: &str, marker: Option<String>, hashes: &[String]) {
        let mut line = format!("{name}=={version}");
        if let Some(marker) = marker.filter(|m| !m.contains(['\n', '\r'])) {
            line.push_str(" ; ");
            line.push_str(&marker);
        }
        let mut hashes: Vec<&String> = hashes
            .iter()
            .filter(|h| {
                h.split_once(':')
                    .is_some_and(|(kind, hex)| plain(kind) && plain(hex))
            })
            .collect();
        hashes.sort_unstable();
        hashes.dedup();
        self.hashed &= !hashes.is_empty();
        for hash in hashes {
            line.push_str(" --hash=");
            line.push_str(hash);
        }
        self.lines.push(line);
    }

    fn sorted(mut self) -> Self {
        self.lines.sort_unstable();
        self.lines.dedup();
        self
    }
}

/// Letters that a name, version or hash may have; whatever else is there is not put before pip as one.
fn plain(text: &str) -> bool {
    !text.is_empty()
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_.+!".contains(c))
        && !text.starts_with('-')
}

fn packages(table: &Table) -> Vec<&Table> {
    list(table, "package")
}

fn list<'a>(table: &'a Table, key: &str) -> Vec<&'a Table> {
    table
        .get(key)
        .and_then(Value::as_array)
        .map(|l| l.iter().filter_map(Value::as_table).collect())
        .unwrap_or_default()
}

fn string(table: &Table, key: &str) -> String {
    table
        .get(key)
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uv_leads_from_the_project_to_what_it_needs() {
        let pinned = uv(
            "uv.lock",
            r#"
version = 1
[[package]]
name = "app"
version = "0.1.0"
source = { virtual = "." }
dependencies = [{ name = "click" }, { name = "web", extra = ["fast"] }]
[package.dev-dependencies]
dev = [{ name = "pytest" }]
[[package]]
name = "click"
version = "8.1.7"
source = { registry = "https://index/simple" }
dependencies = [{ name = "colorama", marker = "sys_platform == 'win32'" }]
sdist = { url = "x.tar.gz", hash = "sha256:bb" }
wheels = [{ url = "x.whl", hash = "sha256:aa" }]
[[package]]
name = "colorama"
version = "0.4.6"
source = { registry = "https://index/simple" }
wheels = [{ url = "c.whl", hash = "sha256:cc" }]
[[package]]
name = "web"
version = "2"
source = { registry = "https://index/simple" }
wheels = [{ url = "w.whl", hash = "sha256:dd" }]
[package.optional-dependencies]
fast = [{ name = "loop" }]
[[package]]
name = "loop"
version = "3"
source = { registry = "https://index/simple" }
sdist = { url = "l.tar.gz", hash = "sha256:ee" }
[[package]]
name = "pytest"
version = "8"
source = { registry = "https://index/simple" }
"#,
        )
        .unwrap();
        assert_eq!(
            pinned.lines,
            [
                "click==8.1.7 --hash=sha256:aa --hash=sha256:bb",
                "colorama==0.4.6 ; (sys_platform == 'win32') --hash=sha256:cc",
                "loop==3 --hash=sha256:ee",
                "web==2 --hash=sha256:dd",
            ]
        );
        assert!(pinned.hashed && pinned.sources);
    }

    #[test]
    fn poetry_and_pipenv_keep_their_main_group() {
        let pinned = poetry(
            "poetry.lock",
            r#"
[[package]]
name = "six"
version = "1.17.0"
optional = false
groups = ["main"]
markers = "python_version >= '3.9'"
files = [{ file = "six.whl", hash = "sha256:aa" }]
[[package]]
name = "pytest"
version = "8"
optional = false
groups = ["dev"]
files = []
"#,
        )
        .unwrap();
        assert_eq!(
            pinned.lines,
            ["six==1.17.0 ; python_version >= '3.9' --hash=sha256:aa"]
        );
        assert!(pinned.hashed && !pinned.sources);
        let pinned = pipfile(
            "Pipfile.lock",
            r#"{"default": {"six": {"version": "==1.17.0", "hashes": ["sha256:aa"]}}, "develop": {}}"#,
        )
        .unwrap();
        assert_eq!(pinned.lines, ["six==1.17.0 --hash=sha256:aa"]);
    }

    #[test]
    fn what_pip_cannot_fetch_by_version_is_named() {
        for (said, expected) in [
            (
                poetry(
                    "poetry.lock",
                    "[[package]]\nname = 'x'\nversion = '1'\n[package.source]\ntype = 'git'\n",
                ),
                "poetry.lock: package x comes from a git; list it in requirements.txt",
            ),
            (
                uv("uv.lock", "version = 1"),
                "uv.lock: has no project of its own",
            ),
            (
                pipfile("Pipfile.lock", "{\n\"default\": "),
                "Pipfile.lock: line 2, column 11: EOF while parsing a value",
            ),
            (
                pipfile("Pipfile.lock", r#"{"default": {"x": {"git": "y"}}}"#),
                "Pipfile.lock: package x has no version from an index; list it in requirements.txt",
            ),
        ] {
            assert_eq!(said.unwrap_err().to_string(), expected);
        }
    }
}
