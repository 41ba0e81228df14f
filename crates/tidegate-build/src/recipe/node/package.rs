//! What `package.json` says.

use serde_json::{Map, Value};

use super::super::PlanError;
use super::super::context::{json, manifest};

/// What installing packages depends on. Everything else may change without another installation, the scripts of the
/// package itself above all: what they would run is not there when only packages are installed.
const READ: &[&str] = &[
    "name",
    "version",
    "private",
    "dependencies",
    "devDependencies",
    "optionalDependencies",
    "peerDependencies",
    "peerDependenciesMeta",
    "dependenciesMeta",
    "bundleDependencies",
    "bundledDependencies",
    "overrides",
    "resolutions",
    "pnpm",
    "packageManager",
];

/// A package, or what a folder without one comes to.
#[derive(Debug, Default)]
pub(super) struct Package {
    value: Map<String, Value>,
    /// `scripts.build` is there.
    pub(super) build_script: bool,
    /// Some packages are folders of the source.
    pub(super) local: bool,
}

impl Package {
    pub(super) fn parse(text: &str) -> Result<Self, PlanError> {
        const FILE: &str = "package.json";
        let Value::Object(value) = json(FILE, text)? else {
            return Err(manifest(FILE, "is not an object"));
        };
        for name in [
            "dependencies",
            "devDependencies",
            "optionalDependencies",
            "scripts",
        ] {
            if value.get(name).is_some_and(|v| !v.is_object()) {
                return Err(manifest(FILE, format!("\"{name}\" is not an object")));
            }
        }
        let mut package = Self {
            build_script: value
                .get("scripts")
                .and_then(|s| s.get("build")?.as_str())
                .is_some_and(|s| !s.trim().is_empty()),
            local: value.contains_key("workspaces"),
            value,
        };
        let local = ["dependencies", "devDependencies", "optionalDependencies"]
            .iter()
            .flat_map(|name| package.versions(name))
            .any(|version| {
                ["file:", "link:", "portal:", "workspace:", ".", "/"]
                    .iter()
                    .any(|start| version.starts_with(start))
            });
        package.local |= local;
        Ok(package)
    }

    /// Something has to be installed for run time.
    pub(super) fn needs_packages(&self) -> bool {
        self.value.contains_key("workspaces")
            || ["dependencies", "optionalDependencies", "peerDependencies"]
                .iter()
                .any(|name| self.versions(name).next().is_some())
    }

    /// Something has to be installed, for the build at least.
    pub(super) fn has_any(&self) -> bool {
        self.needs_packages() || self.versions("devDependencies").next().is_some()
    }

    /// `"type"`, or else nothing.
    pub(super) fn kind(&self) -> Option<&str> {
        self.value.get("type").and_then(Value::as_str)
    }

    /// `name@version`, less a hash.
    pub(super) fn manager(&self) -> Option<&str> {
        let text = self.value.get("packageManager")?.as_str()?;
        text.split('+').next()
    }

    /// The package as the installation sees it.
    pub(super) fn reduced(&self) -> String {
        let kept: Map<String, Value> = self
            .value
            .iter()
            .filter(|(name, _)| READ.contains(&name.as_str()))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        Value::Object(kept).to_string() + "\n"
    }

    fn versions(&self, name: &str) -> impl Iterator<Item = &str> {
        self.value
            .get(name)
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
            .filter_map(|(_, v)| v.as_str())
    }
}
