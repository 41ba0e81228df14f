//! Which package manager the source was locked with.

use serde_json::Value;

use super::super::PlanError;
use super::super::context::{Context, json, manifest};
use super::Node;
use super::package::Package;

/// The managers' versions where the source names none: pnpm by the version of its lock, Yarn by the two kinds of lock.
const PNPM: &[(&str, &str)] = &[("5", "pnpm@7"), ("6", "pnpm@8"), ("9", "pnpm@9")];
const YARN_CLASSIC: &str = "yarn@1.22.22";
const YARN: &str = "@yarnpkg/cli-dist@4";

/// How packages are installed.
pub(super) struct Manager {
    kind: Kind,
    /// The command, for a progress line.
    pub(super) title: &'static str,
    /// Lock files.
    pub(super) files: Vec<String>,
    /// Every package has a hash and none runs code when it is installed.
    pub(super) pinned: bool,
    /// Beside what npm reads.
    pub(super) env: &'static [(&'static str, &'static str)],
}

enum Kind {
    NpmCi,
    NpmInstall,
    Pnpm(String),
    YarnClassic(String),
    Yarn(String),
}

impl Manager {
    pub(super) fn find(
        context: &mut Context<'_>,
        package: &Package,
        tools: &mut Node,
    ) -> Result<Self, PlanError> {
        let named = |name: &str| {
            package
                .manager()
                .and_then(|m| m.strip_prefix(name)?.strip_prefix('@'))
                .filter(|v| {
                    v.chars()
                        .all(|c| c.is_ascii_alphanumeric() || ".-".contains(c))
                })
                .map(str::to_owned)
        };
        for file in ["npm-shrinkwrap.json", "package-lock.json"] {
            if let Some(text) = context.read(file)? {
                return Ok(Self {
                    kind: Kind::NpmCi,
                    title: "npm ci",
                    files: vec![file.into()],
                    pinned: is_pinned(file, &text)?,
                    env: &[],
                });
            }
        }
        if let Some(text) = context.read("pnpm-lock.yaml")? {
            let version = text
                .lines()
                .find_map(|l| l.strip_prefix("lockfileVersion:"))
                .map(|v| v.trim().trim_matches(['\'', '"']))
                .ok_or_else(|| manifest("pnpm-lock.yaml", "has no lockfileVersion"))?;
            let package = match named("pnpm") {
                Some(version) => format!("pnpm@{version}"),
                None => PNPM
                    .iter()
                    .find(|(lock, _)| version.split('.').next() == Some(*lock))
                    .map(|(_, package)| (*package).to_owned())
                    .ok_or_else(|| {
                        manifest(
                            "pnpm-lock.yaml",
                            format!(
                                "lockfileVersion {version} is not known; name the version of pnpm as \"packageManager\" in package.json"
                            ),
                        )
                    })?,
            };
            return Ok(Self {
                kind: Kind::Pnpm(package),
                title: "pnpm install",
                files: vec!["pnpm-lock.yaml".into()],
                pinned: false,
                env: &[
                    // Plain files: a tree of links into a store elsewhere would not be whole.
                    ("npm_config_node_linker", "hoisted"),
                    ("npm_config_package_import_method", "copy"),
                    ("npm_config_store_dir", "/cache/pnpm"),
                ],
            });
        }
        if let Some(text) = context.read("yarn.lock")? {
            let berry = text.contains("\n__metadata:");
            let version = named("yarn");
            let kind = if berry {
                Kind::Yarn(version.map_or(YARN.into(), |v| format!("@yarnpkg/cli-dist@{v}")))
            } else {
                Kind::YarnClassic(version.map_or(YARN_CLASSIC.into(), |v| format!("yarn@{v}")))
            };
            return Ok(Self {
                kind,
                title: "yarn install",
                files: vec!["yarn.lock".into()],
                pinned: false,
                env: &[
                    ("YARN_CACHE_FOLDER", "/cache/yarn"),
                    ("YARN_NODE_LINKER", "node-modules"),
                    ("YARN_ENABLE_GLOBAL_CACHE", "false"),
                    ("YARN_ENABLE_TELEMETRY", "0"),
                    ("YARN_ENABLE_PROGRESS_BARS", "0"),
                ],
            });
        }
        debug_assert!(tools.npm.is_some(), "packages are only installed with npm");
        Ok(Self {
            kind: Kind::NpmInstall,
            title: "npm install",
            files: Vec::new(),
            pinned: false,
            env: &[],
        })
    }

    /// The command that installs, with or without what only the build needs.
    pub(super) fn install(&self, tools: &Node, dev: bool) -> Vec<String> {
        let npm = tools.npm.as_deref().unwrap_or("npm");
        let mut command: Vec<&str> = match &self.kind {
            Kind::NpmCi => vec![npm, "ci"],
            Kind::NpmInstall => vec![npm, "install", "--no-package-lock"],
            Kind::Pnpm(package) => {
                vec![
                    npm,
                    "exec",
                    "--yes",
                    package,
                    "--",
                    "install",
                    "--frozen-lockfile",
                ]
            }
            Kind::YarnClassic(package) => vec![
                npm,
                "exec",
                "--yes",
                package,
                "--",
                "install",
                "--frozen-lockfile",
                "--non-interactive",
                "--no-progress",
            ],
            Kind::Yarn(package) if dev => {
                vec![
                    npm,
                    "exec",
                    "--yes",
                    "--package",
                    package,
                    "--",
                    "yarn",
                    "install",
                    "--immutable",
                ]
            }
            Kind::Yarn(package) => vec![
                npm,
                "exec",
                "--yes",
                "--package",
                package,
                "--",
                "yarn",
                "workspaces",
                "focus",
                "--production",
            ],
        };
        if !dev {
            match &self.kind {
                Kind::NpmCi | Kind::NpmInstall => command.push("--omit=dev"),
                Kind::Pnpm(_) => command.push("--prod"),
                Kind::YarnClassic(_) => command.push("--production"),
                Kind::Yarn(_) => {}
            }
        }
        command.into_iter().map(str::to_owned).collect()
    }

    /// The command that takes out what only the build needed.
    pub(super) fn prune(&self, tools: &Node) -> Vec<String> {
        let npm = tools.npm.as_deref().unwrap_or("npm");
        match &self.kind {
            Kind::NpmCi | Kind::NpmInstall => {
                [npm, "prune", "--omit=dev"].map(str::to_owned).into()
            }
            Kind::Pnpm(package) => [npm, "exec", "--yes", package, "--", "prune", "--prod"]
                .map(str::to_owned)
                .into(),
            Kind::YarnClassic(_) | Kind::Yarn(_) => self.install(tools, false),
        }
    }
}

/// Whether npm's lock tells all that will be fetched by hash, and no package runs code when installed.
fn is_pinned(file: &str, text: &str) -> Result<bool, PlanError> {
    let lock = json(file, text)?;
    // The first version of the format does not tell who runs code.
    let Some(packages) = lock.get("packages").and_then(Value::as_object) else {
        return Ok(false);
    };
    let has =
        |package: &Value, name: &str| package.get(name).is_some_and(|v| v != &Value::Bool(false));
    Ok(packages
        .iter()
        .filter(|(name, _)| !name.is_empty())
        .all(|(_, p)| {
            !has(p, "link")
                && !has(p, "hasInstallScript")
                && (has(p, "integrity") || has(p, "inBundle"))
        }))
}
