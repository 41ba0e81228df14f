//! Node: packages into `/out/node_modules`, which Node finds by its ordinary walk upwards from the code, and TypeScript or
//! a `build` script into another bundle.
//!
//! Packages may run code when they are installed, as npm has it by default: many do not work otherwise, and the walls are
//! there for it. Where the lock says that none does, scripts are switched off and the result may be shared.

mod manager;
mod package;
mod typescript;

use super::PlanError;
use super::context::{Context, authorities, path_of, program, shell};
use crate::plan::{Compile, Generated, Plan};
use crate::tools::{Tool, ToolName};
use manager::Manager;
use package::Package;

/// Installs into `/out` and leaves nothing but the packages. The hidden lock beside them is npm's own note.
const INSTALL: &str = r#"cp -R . /out
cd /out
"$@"
mkdir -p node_modules
find . -mindepth 1 -maxdepth 1 ! -name node_modules -exec rm -rf {} +
rm -rf node_modules/.package-lock.json node_modules/.yarn-integrity node_modules/.yarn-state.yml node_modules/.modules.yaml node_modules/.cache
rm -f node_modules/.pnpm-workspace-state*.json"#;

/// Takes over what the build script left, without the packages that only it needed.
const KEEP: &str = r#"rm -rf node_modules
cp -a . /out/"#;

/// The same with the packages that run time needs.
const KEEP_PACKAGES: &str = r#""$@"
rm -rf node_modules/.cache node_modules/.package-lock.json
cp -a . /out/"#;

/// Says it here, where the reason is near, rather than when the function starts.
const CHECK: &str = r#"[ -e "/out/$1" ] || { echo "the build did not make $1; name what it makes as \"main\" in package.json, or with --entry" >&2; exit 1; }"#;

/// What the steps share.
struct Node {
    node: String,
    npm: Option<String>,
    path: String,
    env: Vec<(&'static str, &'static str)>,
}

pub(super) fn plan(context: &mut Context<'_>) -> Result<Plan, PlanError> {
    let package = match context.read("package.json")? {
        Some(text) => Package::parse(&text)?,
        None => Package::default(),
    };
    let node = context.tool(ToolName::Node)?;
    let entry = context.wanted.entry.clone();
    let transpiled = typescript::is(&entry) && typescript::needs(context, &node);
    let build = package.build_script && context.wanted.command.is_none();
    let installs = package.needs_packages();
    let mut plan = Plan::default();
    if !installs && !build && !transpiled {
        return Ok(plan);
    }
    let mut tools = Node::new(context, &node, installs || build || transpiled)?;
    let manager = Manager::find(context, &package, &mut tools)?;
    if installs && !package.local {
        plan.dependencies = Some(install(context, &package, &manager, &tools)?);
    }
    if build || transpiled || (package.local && installs) {
        plan.compile = Some(compile(
            context, &package, &manager, &tools, build, transpiled,
        )?);
    }
    Ok(plan)
}

fn install(
    context: &mut Context<'_>,
    package: &Package,
    manager: &Manager,
    tools: &Node,
) -> Result<crate::plan::Dependencies, PlanError> {
    let mut inputs: Vec<String> = manager.files.clone();
    for file in [".npmrc", ".yarnrc.yml", "pnpm-workspace.yaml"] {
        if context.has(file) {
            inputs.push(file.into());
        }
    }
    if manager.files.is_empty() {
        context.note(
            "there is no lock file; a package-lock.json beside package.json makes every deploy install the same packages",
        );
    }
    let command = manager.install(tools, false);
    let mut arguments: Vec<&str> = command.iter().map(String::as_str).collect();
    if manager.pinned {
        arguments.push("--ignore-scripts");
    }
    let step = shell(
        manager.title,
        INSTALL,
        &arguments,
        &tools.env_with(manager),
        true,
    );
    let manifest = Generated {
        path: "package.json".into(),
        content: package.reduced(),
    };
    context.dependencies(inputs, vec![manifest], manager.pinned, vec![step])
}

fn compile(
    context: &mut Context<'_>,
    package: &Package,
    manager: &Manager,
    tools: &Node,
    build: bool,
    transpiled: bool,
) -> Result<Compile, PlanError> {
    let entry = context.wanted.entry.clone();
    let mut steps = Vec::new();
    let env = tools.env_with(manager);
    if (build && package.has_any()) || package.local {
        let command = manager.install(tools, true);
        let arguments: Vec<&str> = command.iter().map(String::as_str).collect();
        steps.push(shell(
            format!("{} (with what the build needs)", manager.title),
            "\"$@\"",
            &arguments,
            &env,
            true,
        ));
    }
    if build {
        let npm = tools.npm.as_deref().unwrap_or("npm");
        steps.push(shell(
            "npm run build",
            "\"$@\"",
            &[npm, "run", "build"],
            &env,
            false,
        ));
    }
    if package.local {
        let prune = manager.prune(tools);
        let arguments: Vec<&str> = prune.iter().map(String::as_str).collect();
        steps.push(shell(
            "keep the result",
            KEEP_PACKAGES,
            &arguments,
            &env,
            true,
        ));
    } else {
        steps.push(shell("keep the result", KEEP, &[], &env, false));
    }
    let made = if transpiled {
        let made = typescript::made(context, package, &entry)?;
        steps.extend(typescript::steps(context, tools, &entry, &made));
        made
    } else {
        entry
    };
    steps.push(shell("check the result", CHECK, &[&made], &env, false));
    Ok(context.compile(Vec::new(), steps, made, context.wanted.handler.clone()))
}

// === impl Node ===

impl Node {
    fn new(context: &mut Context<'_>, node: &Tool, npm: bool) -> Result<Self, PlanError> {
        let npm = if npm {
            Some(context.tool(ToolName::Npm)?)
        } else {
            None
        };
        let mut env = vec![
            ("npm_config_cache", "/cache/npm"),
            ("npm_config_update_notifier", "false"),
            ("npm_config_audit", "false"),
            ("npm_config_fund", "false"),
            ("npm_config_progress", "false"),
            ("XDG_CACHE_HOME", "/cache"),
            ("COREPACK_HOME", "/cache/corepack"),
            ("CI", "1"),
        ];
        env.extend(authorities("NODE_EXTRA_CA_CERTS"));
        let mut tools: Vec<&Tool> = vec![node];
        tools.extend(npm.as_deref());
        Ok(Self {
            node: program(node),
            path: path_of(&tools),
            npm: npm.as_deref().map(program),
            env,
        })
    }

    fn env_with<'a>(&'a self, manager: &Manager) -> Vec<(&'a str, &'a str)> {
        let mut env = self.env.clone();
        env.extend(manager.env);
        env.push(("PATH", &self.path));
        env
    }
}
