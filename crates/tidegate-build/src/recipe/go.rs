//! Go: one program of the module, built so that it is the same wherever and whenever it is built.
//!
//! A package with `Handle(http.ResponseWriter, *http.Request)` has no `main`, so one is written: beside it where the
//! package is `main`, which cannot be imported, and otherwise in a folder of its own that imports it. A `main` that is
//! there is built as it is, under the name that the handler gives, if any.

use super::PlanError;
use super::context::{Context, manifest, program, shell, step};
use crate::plan::{Generated, Plan, Step};
use crate::source::{self, GoPackage};
use crate::tools::{Tool, ToolName};

/// The server that a function is compiled into.
const SERVE: &str = include_str!("../../../../runtimes/go/tidegate_serve.go");
const IMPORTED: &str = include_str!("../../../../runtimes/go/imported.go.txt");
const BESIDE: &str = include_str!("../../../../runtimes/go/beside.go.txt");

/// The folder of a program that imports the function.
const MAIN: &str = "tidegate_main";

/// What the program reads while it runs is kept beside it; its own source is not.
const KEEP: &str = r#"rm -rf vendor "$1"
find . -type f \( -name '*.go' -o -name go.mod -o -name go.sum \) -delete
rm -f go.work go.work.sum
find . -mindepth 1 -type d -empty -delete
cp -a . /out/"#;

const ENV: &[(&str, &str)] = &[
    ("GOPATH", "/cache/go"),
    ("GOMODCACHE", "/cache/go/mod"),
    ("GOCACHE", "/cache/go/build"),
    // Folders that only their owner may write into could not be removed with the cache.
    ("GOFLAGS", "-modcacherw"),
];

pub(super) fn plan(context: &mut Context<'_>) -> Result<Plan, PlanError> {
    let wanted = context.wanted;
    if is_program(context) {
        return Ok(Plan::default());
    }
    let go = context.tool(ToolName::Go)?;
    // The folder of the package, and that of its module.
    let folder = match wanted.entry.rsplit_once('/') {
        Some((folder, _)) => folder.to_owned(),
        None => String::new(),
    };
    let module = module_folder(context, &folder);
    let package = source::go_package(&context.source.join(&folder)).ok_or_else(|| {
        PlanError::Unsupported(format!(
            "there is no Go file in {}; name the one with main or Handle with --entry",
            shown(&folder)
        ))
    })?;
    let is_main = package.name == "main" && package.main;
    let (mut files, target) = wrap(context, &folder, module.as_deref(), &package)?;
    let mut env: Vec<(&str, &str)> = ENV.to_vec();
    env.push(("CGO_ENABLED", if package.cgo { "1" } else { "0" }));
    if package.cgo {
        context.tool(ToolName::Cc)?;
    }
    let go = &*go;
    let at = module.clone().unwrap_or_default();
    let mut steps = Vec::new();
    match &module {
        None => {
            let version: Vec<&str> = go.version.split('.').take(2).collect();
            files.push(Generated {
                path: "go.mod".into(),
                content: format!("module function\n\ngo {}\n", version.join(".")),
            });
            if package.foreign {
                context.note(
                    "there is no go.mod; with one, every deploy uses the same versions (go mod init, go mod tidy)",
                );
                steps.push(tool(go, "go mod tidy", &["mod", "tidy"], &at, &env, true));
            }
        }
        Some(_) if context.has(&join(&at, "vendor/modules.txt")) => {}
        // Sums that the modules of a workspace lack are kept with the workspace, and none of them is tidied for it.
        Some(_) if context.has(&join(&at, "go.work")) => {
            steps.push(tool(
                go,
                "go mod download",
                &["mod", "download"],
                &at,
                &env,
                true,
            ));
        }
        Some(_) => {
            let text = context.read(&join(&at, "go.mod"))?.unwrap_or_default();
            let requires = text.lines().any(|l| l.trim_start().starts_with("require"));
            if requires && !context.has(&join(&at, "go.sum")) {
                context.note("there is no go.sum; commit it, so that what is fetched is checked");
                steps.push(tool(go, "go mod tidy", &["mod", "tidy"], &at, &env, true));
            } else {
                // Fetches a newer toolchain as well, where go.mod asks for one.
                steps.push(tool(
                    go,
                    "go mod download",
                    &["mod", "download"],
                    &at,
                    &env,
                    true,
                ));
            }
        }
    }
    let name = match &context.wanted.handler {
        Some(name) if is_main && is_word(name) => name,
        _ => "app",
    };
    let entry = super::context::free_name(context, name);
    let out = format!("/out/{entry}");
    env.push(("GOPROXY", "off"));
    steps.push(tool(
        go,
        "go build",
        &[
            "build",
            "-trimpath",
            "-buildvcs=false",
            "-ldflags=-s -w -buildid=",
            "-o",
            &out,
            &target,
        ],
        &at,
        &env,
        false,
    ));
    steps.push(shell(
        "keep the result",
        KEEP,
        &[&join(&at, MAIN)],
        &[],
        false,
    ));
    Ok(Plan {
        compile: Some(context.compile(files, steps, entry, None)),
        ..Plan::default()
    })
}

/// A program that was built elsewhere needs no compiler.
fn is_program(context: &Context<'_>) -> bool {
    use std::io::Read as _;
    let mut magic = [0; 4];
    std::fs::File::open(context.source.join(&context.wanted.entry))
        .and_then(|mut f| f.read_exact(&mut magic))
        .is_ok()
        && (&magic == b"\x7fELF" || magic.starts_with(b"#!"))
}

/// The nearest folder at or above this one with a `go.mod`.
fn module_folder(context: &Context<'_>, folder: &str) -> Option<String> {
    let mut at = folder;
    loop {
        if context.has(&join(at, "go.mod")) {
            return Some(at.to_owned());
        }
        if at.is_empty() {
            return None;
        }
        at = at.rsplit_once('/').map_or("", |(above, _)| above);
    }
}

/// The files that make a program of the package, and what `go build` is given, relative to the module.
fn wrap(
    context: &Context<'_>,
    folder: &str,
    module: Option<&str>,
    package: &GoPackage,
) -> Result<(Vec<Generated>, String), PlanError> {
    let root = module.unwrap_or_default();
    let inner = folder
        .strip_prefix(root)
        .unwrap_or(folder)
        .trim_start_matches('/');
    if package.name == "main" && package.main {
        return Ok((Vec::new(), format!("./{inner}")));
    }
    let handler = match &context.wanted.handler {
        Some(handler) => handler.clone(),
        None if package.handlers.iter().any(|h| h == "Handle") => "Handle".into(),
        None => match &package.handlers[..] {
            [only] if only.starts_with(|c: char| c.is_ascii_uppercase()) => only.clone(),
            _ => {
                return Err(PlanError::Unsupported(format!(
                    "package {} in {} has neither 'func main()' nor 'func Handle(w http.ResponseWriter, r *http.Request)'",
                    package.name,
                    shown(folder)
                )));
            }
        },
    };
    if !is_word(&handler) {
        return Err(PlanError::Unsupported(format!(
            "handler {handler:?} is not the name of a Go function"
        )));
    }
    if context.wanted.contract == "stdio" {
        return Err(PlanError::Unsupported(format!(
            "a package with {handler} answers HTTP; use the contract http, or write a main that reads standard input"
        )));
    }
    let beside = package.name == "main";
    let main = if beside {
        folder.to_owned()
    } else {
        join(root, MAIN)
    };
    let text = if beside {
        BESIDE.replace("{HANDLER}", &handler)
    } else {
        let name = match module {
            None => "function".to_owned(),
            Some(_) => module_name(context, root)?,
        };
        IMPORTED
            .replace("{PACKAGE}", &join(&name, inner))
            .replace("{HANDLER}", &handler)
    };
    let files = vec![
        Generated {
            path: join(&main, "tidegate_main.go"),
            content: text,
        },
        Generated {
            path: join(&main, "tidegate_serve.go"),
            content: SERVE.to_owned(),
        },
    ];
    let target = if beside {
        format!("./{inner}")
    } else {
        format!("./{MAIN}")
    };
    Ok((files, target))
}

fn is_word(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_')
}

fn module_name(context: &Context<'_>, root: &str) -> Result<String, PlanError> {
    let file = join(root, "go.mod");
    let text = context.read(&file)?.unwrap_or_default();
    text.lines()
        .find_map(|l| l.trim().strip_prefix("module "))
        .map(|name| {
            name.split("//")
                .next()
                .unwrap_or(name)
                .trim()
                .trim_matches('"')
                .to_owned()
        })
        .filter(|name| !name.is_empty() && !name.contains(['"', '\\', ' ']))
        .ok_or_else(|| manifest(&file, "has no line 'module NAME'"))
}

fn tool(
    go: &Tool,
    title: &str,
    arguments: &[&str],
    at: &str,
    env: &[(&str, &str)],
    network: bool,
) -> Step {
    let mut command = vec![program(go)];
    if !at.is_empty() {
        command.extend(["-C".to_owned(), at.to_owned()]);
    }
    command.extend(arguments.iter().map(|a| (*a).to_owned()));
    step(title, command, env, network)
}

fn join(folder: &str, name: &str) -> String {
    match (folder, name) {
        ("", name) => name.to_owned(),
        (folder, "") => folder.to_owned(),
        (folder, name) => format!("{folder}/{name}"),
    }
}

fn shown(folder: &str) -> &str {
    if folder.is_empty() {
        "the folder"
    } else {
        folder
    }
}
