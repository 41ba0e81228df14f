//! PHP: what `composer.json` requires goes into `/out/vendor`, whose `autoload.php` the host loads.
//!
//! Classes of the source itself are looked for beside `vendor`, so a source that has composer load them gets a bundle with
//! `vendor` in it; the packages are still installed apart and only copied.

use serde_json::{Map, Value, json as value};

use super::PlanError;
use super::context::{Context, authorities, json, manifest, path_of, program, shell};
use crate::plan::{Generated, Plan};
use crate::tools::ToolName;

const FILE: &str = "composer.json";

/// What installing packages depends on, which is what the lock is checked against as well.
const READ: &[&str] = &[
    "name",
    "version",
    "require",
    "require-dev",
    "conflict",
    "replace",
    "provide",
    "minimum-stability",
    "prefer-stable",
    "repositories",
    "extra",
    "config",
];

/// Composer's home inside a step.
const HOME_FOLDER: &str = "/home/build/.composer";

/// A classmap is made of what is there in the end.
const DUMP: &str = r#"if [ -d /layer/vendor ]; then rm -rf vendor; cp -a /layer/vendor vendor; fi
"$@"
cp -a . /out/"#;

pub(super) fn plan(context: &mut Context<'_>) -> Result<Plan, PlanError> {
    if context.has("vendor/autoload.php") {
        return Ok(Plan::default());
    }
    let Some(text) = context.read(FILE)? else {
        return Ok(Plan::default());
    };
    let Value::Object(package) = json(FILE, &text)? else {
        return Err(manifest(FILE, "is not an object"));
    };
    let requires = package
        .get("require")
        .and_then(Value::as_object)
        .is_some_and(|list| list.keys().any(|name| name.contains('/')));
    let own = package
        .get("autoload")
        .and_then(Value::as_object)
        .is_some_and(|a| !a.is_empty());
    let mut plan = Plan::default();
    if !requires && !own {
        return Ok(plan);
    }
    if package
        .get("repositories")
        .is_some_and(|r| r.to_string().contains("\"path\""))
    {
        return Err(manifest(
            FILE,
            "repositories of type \"path\" are not supported; put the files beside the handler",
        ));
    }
    let php = context.tool(ToolName::Php)?;
    let composer = context.tool(ToolName::Composer)?;
    let path = path_of(&[&php, &composer]);
    let mut env = vec![
        ("PATH", &*path),
        // Where the user's credentials are put.
        ("COMPOSER_HOME", HOME_FOLDER),
        ("COMPOSER_CACHE_DIR", "/cache/composer"),
        ("COMPOSER_ALLOW_SUPERUSER", "1"),
        ("COMPOSER_NO_AUDIT", "1"),
    ];
    env.extend(authorities("SSL_CERT_FILE"));
    let composer = program(&composer);
    let quiet = ["--no-interaction", "--no-dev", "--no-scripts", "--no-ansi"];
    if requires {
        let mut inputs = Vec::new();
        if context.has("composer.lock") {
            inputs.push("composer.lock".to_owned());
        } else {
            context.note(
                "there is no composer.lock; with one, every deploy installs the same packages",
            );
        }
        inputs.extend(artifacts(context, &package));
        let mut env = env.clone();
        env.push(("COMPOSER_VENDOR_DIR", "/out/vendor"));
        let mut install = vec![
            &*composer,
            "install",
            "--no-progress",
            "--prefer-dist",
            "--optimize-autoloader",
        ];
        install.extend(quiet);
        let step = shell("composer install", "\"$@\"", &install, &env, true);
        let reduced = Generated {
            path: FILE.into(),
            content: reduced(&package),
        };
        plan.dependencies = Some(context.dependencies(inputs, vec![reduced], false, vec![step])?);
    }
    if own {
        let mut dump = vec![&*composer, "dump-autoload", "--optimize"];
        dump.extend(quiet);
        let step = shell("composer dump-autoload", DUMP, &dump, &env, false);
        let wanted = context.wanted;
        plan.compile = Some(context.compile(
            Vec::new(),
            vec![step],
            &wanted.entry,
            wanted.handler.clone(),
        ));
    }
    Ok(plan)
}

/// Packages that came with the source, in folders that `repositories` names.
fn artifacts(context: &Context<'_>, package: &Map<String, Value>) -> Vec<String> {
    let repositories = match package.get("repositories") {
        Some(Value::Array(list)) => list.iter().collect(),
        Some(Value::Object(map)) => map.values().collect(),
        _ => Vec::new(),
    };
    repositories
        .into_iter()
        .filter(|r| r.get("type").and_then(Value::as_str) == Some("artifact"))
        .filter_map(|r| r.get("url")?.as_str())
        .map(|url| url.trim_start_matches("./").trim_end_matches('/'))
        .filter(|url| !url.starts_with('/') && !url.split('/').any(|part| part == ".."))
        .flat_map(|url| context.files_in(url, ".zip"))
        .collect()
}

/// The package as the installation sees it. The autoloader's name would else be a random one where there is no lock.
fn reduced(package: &Map<String, Value>) -> String {
    let mut kept: Map<String, Value> = package
        .iter()
        .filter(|(name, _)| READ.contains(&name.as_str()))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let config = kept.entry("config").or_insert_with(|| value!({}));
    if let Some(config) = config.as_object_mut() {
        config.insert("autoloader-suffix".into(), value!("Tidegate"));
        config.remove("vendor-dir");
    }
    Value::Object(kept).to_string() + "\n"
}
