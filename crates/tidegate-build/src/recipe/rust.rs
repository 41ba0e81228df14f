//! Rust: one program of a cargo project, or of a single file.
//!
//! What was compiled of the packages it uses is kept in the cache by the lock, so that another build compiles the project
//! alone. Paths are the same in every build, so they need no rewriting to be.

use toml::Value;

use super::PlanError;
use super::context::{Context, free_name, manifest, path_of, program, shell, step, toml_table};
use crate::digest::Hasher;
use crate::plan::Plan;
use crate::source;
use crate::tools::ToolName;

/// Cargo's home is the user's, for the configuration in it, but what it fetches goes to the cache.
const CARGO: &str = r#"mkdir -p "$HOME/.cargo" /cache/cargo/registry /cache/cargo/git
ln -sfn /cache/cargo/registry "$HOME/.cargo/registry"
ln -sfn /cache/cargo/git "$HOME/.cargo/git"
"$@""#;

/// What the program reads while it runs is kept beside it; its own source is not.
const KEEP: &str = r#"from=$1 to=$2
cp "$from" "$to"
rm -rf target src Cargo.toml Cargo.lock
find . -name '*.rs' -delete
find . -mindepth 1 -type d -empty -delete
cp -a . /out/"#;

pub(super) fn plan(context: &mut Context<'_>) -> Result<Plan, PlanError> {
    let wanted = context.wanted;
    let manifest_path = if wanted.entry.ends_with("Cargo.toml") {
        Some(wanted.entry.clone())
    } else if context.has("Cargo.toml") {
        Some("Cargo.toml".to_owned())
    } else if wanted.entry.ends_with(".rs") {
        None
    } else {
        // A program that was built elsewhere.
        return Ok(Plan::default());
    };
    let rustc = context.tool(ToolName::Rustc)?;
    context.tool(ToolName::Cc)?;
    let entry = free_name(context, "app");
    let out = format!("/out/{entry}");
    let Some(path) = manifest_path else {
        let steps = vec![step(
            "rustc",
            [
                &*program(&rustc),
                "--edition=2024",
                "-Copt-level=3",
                "-Cstrip=symbols",
                "-o",
                &out,
                &wanted.entry,
            ],
            &[("PATH", &path_of(&[&rustc]))],
            false,
        )];
        return Ok(Plan {
            compile: Some(context.compile(Vec::new(), steps, entry, None)),
            ..Plan::default()
        });
    };
    let cargo = context.tool(ToolName::Cargo)?;
    let binary = binary(context, &path)?;
    for file in ["rust-toolchain.toml", "rust-toolchain"] {
        if context.has(file) {
            context.note(format!(
                "{file} is not followed; the toolchain is {}",
                rustc.version
            ));
        }
    }
    let lock = context.read("Cargo.lock")?;
    if lock.is_none() {
        context.note("there is no Cargo.lock; with one, every deploy uses the same versions");
    }
    let mut key = Hasher::new();
    key.field(rustc.version.as_bytes());
    key.field(path.as_bytes());
    key.field(lock.as_deref().unwrap_or_default().as_bytes());
    let target = format!("/cache/rust/target-{}", &key.hex()[..16]);
    let path_env = path_of(&[&cargo, &rustc]);
    let rustc = program(&rustc);
    let mut env = vec![
        ("CARGO_TARGET_DIR", &*target),
        ("CARGO_TERM_COLOR", "never"),
        ("CARGO_TERM_PROGRESS_WHEN", "never"),
        ("CARGO_INCREMENTAL", "0"),
        ("RUSTC", &rustc),
        ("PATH", &path_env),
    ];
    env.extend(super::context::authorities("CARGO_HTTP_CAINFO"));
    let cargo = program(&cargo);
    let locked = lock.as_ref().map(|_| "--locked");
    let mut fetch = vec![&*cargo, "fetch", "--manifest-path", &path];
    fetch.extend(locked);
    let mut build = vec![
        &*cargo,
        "build",
        "--release",
        "--offline",
        "--manifest-path",
        &path,
        "--bin",
        &binary,
    ];
    build.extend(locked);
    let made = format!("{target}/release/{binary}");
    let steps = vec![
        shell("cargo fetch", CARGO, &fetch, &env, true),
        shell("cargo build", CARGO, &build, &env, false),
        shell("keep the result", KEEP, &[&made, &out], &[], false),
    ];
    Ok(Plan {
        compile: Some(context.compile(Vec::new(), steps, entry, None)),
        ..Plan::default()
    })
}

/// The program that is meant: the one that the user names, or the project's default, or its only one.
fn binary(context: &Context<'_>, path: &str) -> Result<String, PlanError> {
    let text = context
        .read(path)?
        .ok_or_else(|| manifest(path, "is not there"))?;
    let table = toml_table(path, &text)?;
    let Some(package) = table.get("package").and_then(Value::as_table) else {
        return Err(manifest(
            path,
            "is a workspace without a package of its own; name the member's Cargo.toml with --entry",
        ));
    };
    let name = package
        .get("name")
        .and_then(Value::as_str)
        .ok_or_else(|| manifest(path, "has no package.name"))?;
    let folder = path.strip_suffix("Cargo.toml").unwrap_or_default();
    let mut found: Vec<String> = table
        .get("bin")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|b| Some(b.get("name")?.as_str()?.to_owned()))
        .collect();
    let auto = package.get("autobins").and_then(Value::as_bool) != Some(false);
    if auto {
        let main = context.has(&format!("{folder}src/main.rs"))
            && !found.iter().any(|f| f == name)
            && !text.contains("src/main.rs");
        found.extend(main.then(|| name.to_owned()));
        let programs = context.source.join(format!("{folder}src/bin"));
        for file in source::files(&programs, ".rs") {
            let name = file.trim_end_matches(".rs").to_owned();
            if !found.contains(&name) {
                found.push(name);
            }
        }
    }
    let known = |name: &str| found.iter().any(|f| f == name);
    let listed = found.join(", ");
    if let Some(wanted) = &context.wanted.handler {
        return if known(wanted) {
            Ok(wanted.clone())
        } else {
            Err(manifest(
                path,
                format!("has no program {wanted:?}, which the handler names; it has {listed}"),
            ))
        };
    }
    if let Some(default) = package.get("default-run").and_then(Value::as_str) {
        return Ok(default.to_owned());
    }
    match &found[..] {
        [] => Err(manifest(
            path,
            "has no program; a function needs a src/main.rs that serves $PORT or reads standard input",
        )),
        [only] => Ok(only.clone()),
        _ if known(name) => Ok(name.to_owned()),
        _ => Err(manifest(
            path,
            format!(
                "has several programs, {listed}; name one as package.default-run or with --handler"
            ),
        )),
    }
}
