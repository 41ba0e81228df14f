//! Go: the handler is a package that a program of ours imports.
//!
//! A workspace joins the handler's own module to the program's, so that its requirements and replacements are in force as
//! they stand. The module with the types that `golang-http` handlers are written against comes with the tree, in place of
//! whatever version the handler asks for: nothing has to be fetched for them.

use std::path::Path;

use super::shared::{self, FORKED_AT_ONCE, SERVED_AT_ONCE, variables, write};
use super::{Context, TemplateError};
use crate::{Prepared, WatchdogKind};

const SERVE: &str = include_str!("../../../../runtimes/openfaas/go/serve.go");
const MIDDLEWARE: &str = include_str!("../../../../runtimes/openfaas/go/middleware/main.go");
const HTTP: &str = include_str!("../../../../runtimes/openfaas/go/http/main.go");
const CLASSIC: &str = include_str!("../../../../runtimes/openfaas/go/classic/main.go");
const SDK: &str = include_str!("../../../../runtimes/openfaas/go/sdk/handler.go");
const INCUBATOR: &str = include_str!("../../../../runtimes/openfaas/go/incubator/handler.go");

/// Modules with the types of `golang-http`: path, folder in the tree, file.
const TYPES: [(&str, &str, &str); 2] = [
    (SDK_PATH, "openfaas/templates-sdk", SDK),
    (
        "github.com/openfaas-incubator/go-function-sdk",
        "openfaas/go-function-sdk",
        INCUBATOR,
    ),
];
const SDK_PATH: &str = "github.com/openfaas/templates-sdk/go-http";

/// The oldest Go with workspaces, and the oldest whose workspaces have vendored packages.
const OLDEST: (u32, u32) = (1, 18);
const OLDEST_VENDORED: (u32, u32) = (1, 22);

/// The module that the entry imports.
const MODULE: &str = "handler/function";

/// Arguments of a build that reach Go's own environment.
const PASSED_ON: [&str; 4] = ["CGO_ENABLED", "GOPRIVATE", "GONOPROXY", "GONOSUMDB"];

pub(super) const LANGUAGES: &[&str] = &[
    "golang-middleware",
    "golang-middleware-inproc",
    "golang-http",
    "go",
];

pub(super) fn prepare(context: &Context<'_>, out: &Path) -> Result<Prepared, TemplateError> {
    let language = &*context.template.language;
    let folder = context.handler_folder()?;
    let mut notes = Vec::new();
    demand_package(context, folder)?;
    context.copy(folder, out, "function")?;
    let has_static = context.root.join(folder).join("static").is_dir();
    if has_static {
        context.copy(&format!("{folder}/static"), out, "static")?;
    }
    let (main, serves) = match language {
        "go" => (CLASSIC, false),
        "golang-http" => (HTTP, true),
        _ => (MIDDLEWARE, true),
    };
    let module = join(context, folder, out, language == "golang-http")?;
    let imported = format!("\"{MODULE}\"");
    let main = if module == MODULE {
        main.to_owned()
    } else {
        main.replace(&imported, &format!("function \"{module}\""))
    };
    write(out, "main.go", &main)?;
    if serves {
        write(out, "serve.go", SERVE)?;
    }
    let mut build = tidegate_core::Build::default();
    for (name, value) in &context.config.build_args {
        if PASSED_ON.contains(&&**name) {
            build.env.insert(name.clone(), value.clone());
        } else if name != "ADDITIONAL_PACKAGE" {
            notes.push(format!("the build argument {name} has no effect here"));
        }
    }
    let env: &[(&str, &str)] = match language {
        "go" => &[],
        "golang-middleware-inproc" => &[
            ("mode", "http"),
            ("upstream_url", "http://127.0.0.1:8082"),
            ("prefix_logs", "false"),
            ("exec_timeout", "10s"),
            ("read_timeout", "10.1s"),
            ("write_timeout", "10.1s"),
        ],
        _ => &[
            ("mode", "http"),
            ("upstream_url", "http://127.0.0.1:8082"),
            ("prefix_logs", "false"),
        ],
    };
    Ok(Prepared {
        language: language.to_owned(),
        runtime: "go".to_owned(),
        entry: "main.go".to_owned(),
        // The program's name.
        handler: Some("handler".to_owned()),
        hosted: false,
        watchdog: if serves {
            WatchdogKind::OfWatchdog
        } else {
            WatchdogKind::ClassicWatchdog
        },
        process: context.process("./handler"),
        env: variables(env),
        concurrency: if serves {
            SERVED_AT_ONCE
        } else {
            FORKED_AT_ONCE
        },
        build,
        notes,
    })
}

fn demand_package(context: &Context<'_>, folder: &str) -> Result<(), TemplateError> {
    let entries = std::fs::read_dir(context.root.join(folder)).map_err(shared::io(folder))?;
    let has_go = entries.filter_map(Result::ok).any(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        name.ends_with(".go") && !name.ends_with("_test.go")
    });
    if has_go {
        return Ok(());
    }
    context.demand("handler.go")
}

/// Writes what makes one program of the modules. Gives the handler's import path.
fn join(
    context: &Context<'_>,
    folder: &str,
    out: &Path,
    with_types: bool,
) -> Result<String, TemplateError> {
    let vendored = context.has(&format!("{folder}/vendor/modules.txt"));
    let name = format!("{folder}/go.mod");
    let Some(own) = context.text(&name)? else {
        if context.root.join(folder).join("vendor").is_dir() {
            return Err(TemplateError::Context(format!(
                "{folder} has packages in vendor and no go.mod; run 'go mod init {MODULE}' and 'go mod vendor' in it"
            )));
        }
        // The handler is a folder of the program's module. That it requires the types, which come with it, has it tidied:
        // whatever else the handler imports is found then.
        let mut module = format!("module handler\n\ngo {}\n\nrequire (\n", shown(OLDEST));
        for (path, ..) in TYPES {
            module.push_str(&format!("\t{path} v0.0.0\n"));
        }
        module.push_str(")\n\n");
        module.push_str(&replacements(&TYPES));
        types(out, &TYPES)?;
        write(out, "go.mod", &module)?;
        return Ok(MODULE.to_owned());
    };
    let module = module_path(&own)
        .ok_or_else(|| TemplateError::Context(format!("{name} has no line 'module {MODULE}'")))?;
    // Vendored types are those that the handler was compiled against.
    let vendor = context.root.join(folder).join("vendor");
    let needed: Vec<_> = TYPES
        .into_iter()
        .filter(|(path, ..)| with_types && !(vendored && *path != SDK_PATH))
        .filter(|(path, ..)| !vendor.join(path).is_dir())
        .collect();
    let mut root = format!("module handler\n\ngo {}\n", shown(OLDEST));
    let mut uses = vec![".".to_owned(), "./function".to_owned()];
    let mut replaced = String::new();
    types(out, &needed)?;
    if vendored {
        move_vendored(out, &format!("{folder}/vendor"))?;
        uses.extend(needed.iter().map(|(_, at, _)| format!("./{at}")));
    } else {
        replaced = replacements(&needed);
        if with_types {
            root.push_str(&format!("\nrequire {SDK_PATH} v0.0.0\n"));
        }
    }
    let oldest = if vendored { OLDEST_VENDORED } else { OLDEST };
    let mut work = format!("go {}\n\nuse (\n", go_version(&own, oldest));
    for folder in uses {
        work.push_str(&format!("\t{folder}\n"));
    }
    work.push_str(")\n\n");
    work.push_str(&replaced);
    // Replacements of the days when only the program's own module could have them.
    if let Some(more) = context.text(&format!("{folder}/GO_REPLACE.txt"))? {
        work.push_str(&more);
    }
    write(out, "go.mod", &root)?;
    write(out, "go.work", &work)?;
    Ok(module)
}

fn types(out: &Path, rows: &[(&str, &str, &str)]) -> Result<(), TemplateError> {
    for (path, folder, file) in rows {
        let mut module = format!("module {path}\n\ngo {}\n", shown(OLDEST));
        if *path != SDK_PATH {
            module.push_str(&format!("\nrequire {SDK_PATH} v0.0.0\n"));
        }
        write(out, &format!("{folder}/go.mod"), &module)?;
        write(out, &format!("{folder}/handler.go"), file)?;
    }
    Ok(())
}

fn replacements(rows: &[(&str, &str, &str)]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let mut text = "replace (\n".to_owned();
    for (path, folder, _) in rows {
        text.push_str(&format!("\t{path} => ./{folder}\n"));
    }
    text + ")\n"
}

/// What is vendored for the handler's module serves the workspace, once its list says so.
fn move_vendored(out: &Path, name: &str) -> Result<(), TemplateError> {
    let (from, to) = (out.join("function/vendor"), out.join("vendor"));
    std::fs::rename(from, &to).map_err(shared::io(name))?;
    let list = shared::text(&to.join("modules.txt"), &format!("{name}/modules.txt"))?;
    write(
        out,
        "vendor/modules.txt",
        &format!("## workspace\n{}", list.unwrap_or_default()),
    )
}

/// The path that a `go.mod` declares.
fn module_path(text: &str) -> Option<String> {
    text.lines()
        .find_map(|line| line.trim().strip_prefix("module "))
        .map(|rest| {
            rest.split("//")
                .next()
                .unwrap_or(rest)
                .trim()
                .trim_matches('"')
        })
        .filter(|path| {
            let fits = |c: char| c.is_ascii_alphanumeric() || "-._~/".contains(c);
            !path.is_empty() && path.chars().all(fits)
        })
        .map(ToOwned::to_owned)
}

/// The version that a workspace needs for this `go.mod`, which has to be no older than its own.
fn go_version(text: &str, oldest: (u32, u32)) -> String {
    let asked = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("go "))
        .map(|rest| rest.split("//").next().unwrap_or(rest).trim())
        .filter(|v| v.chars().all(|c| c.is_ascii_alphanumeric() || c == '.'));
    let numbers = |version: &str| {
        let mut numbers = version.split('.').map(|number| {
            let digits: String = number.chars().take_while(char::is_ascii_digit).collect();
            digits.parse::<u32>().ok()
        });
        Some((numbers.next()??, numbers.next()??))
    };
    match asked {
        Some(asked) if numbers(asked).is_some_and(|n| n >= oldest) => asked.to_owned(),
        _ => shown(oldest),
    }
}

fn shown((major, minor): (u32, u32)) -> String {
    format!("{major}.{minor}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_are_read() {
        assert_eq!(
            module_path("// x\nmodule handler/function // y\n\ngo 1.24\n").as_deref(),
            Some("handler/function")
        );
        assert_eq!(module_path("module \"a/b\"\n").as_deref(), Some("a/b"));
        assert_eq!(module_path("go 1.24\n"), None);
        assert_eq!(module_path("module a\"b\n"), None);
        for (text, expected) in [
            ("module x\ngo 1.24\n", "1.24"),
            ("go 1.25.3\n", "1.25.3"),
            ("go 1.21rc2 // x\n", "1.21rc2"),
            ("go 1.16\n", "1.18"),
            ("go 1\n", "1.18"),
            ("go x; y\n", "1.18"),
            ("", "1.18"),
        ] {
            assert_eq!(go_version(text, OLDEST), expected, "{text}");
        }
    }
}
