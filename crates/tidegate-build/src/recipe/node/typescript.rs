//! TypeScript: types taken off by Node itself where it can, or else by esbuild.
//!
//! The source's own files are put together into one beside the entry, and packages stay packages. Taking the types off file
//! by file would leave imports that Node does not understand: without an ending, with `.ts`, or by the short names of
//! `tsconfig.json`. The source stays in the bundle as it is, for the files that it reads.

use super::super::PlanError;
use super::super::context::{Context, shell};
use super::Node;
use super::package::Package;
use crate::plan::Step;
use crate::tools::Tool;

/// The compiler's version, fetched from the registry when first needed and kept in the cache.
const ESBUILD: &str = "0.28.2";

/// Since when Node takes types off without being asked.
const STRIPS: (u32, u32) = (22, 18);

/// Fetches the compiler once for all builds that share the cache. Made under a name of its own, so that two builds at once
/// do not see half of it.
const FETCH: &str = r#"to=$1
shift
if [ ! -f "$to/node_modules/esbuild/bin/esbuild" ]; then
  mkdir -p "${to%/*}"
  new=$(mktemp -d "$to.XXXXXX")
  echo '{}' > "$new/package.json"
  cd "$new"
  "$@"
  mv -T "$new" "$to" 2>/dev/null || rm -rf "$new"
fi"#;

/// Modules that were CommonJS may call `require` in what becomes an ES module.
const REQUIRE: &str = "--banner:js=import { createRequire as tidegateRequire } from 'node:module'; const require = tidegateRequire(import.meta.url);";

pub(super) fn is(entry: &str) -> bool {
    [".ts", ".mts", ".cts", ".tsx"]
        .iter()
        .any(|e| entry.ends_with(e))
}

/// Whether this Node leaves it to us. With a `tsconfig.json` the source may use more of the language than types.
pub(super) fn needs(context: &Context<'_>, node: &Tool) -> bool {
    let mut parts = node.version.split('.').map(|p| p.parse().unwrap_or(0));
    let version = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    version < STRIPS || context.has("tsconfig.json") || context.wanted.entry.ends_with(".tsx")
}

/// The file that comes of the entry. Its ending tells Node which kind of module it is, whatever `package.json` says.
pub(super) fn made(
    context: &Context<'_>,
    package: &Package,
    entry: &str,
) -> Result<String, PlanError> {
    let stem = entry.rsplit_once('.').map_or(entry, |(stem, _)| stem);
    let text = context.read(entry)?.unwrap_or_default();
    let config = context.read("tsconfig.json")?.unwrap_or_default();
    let common = entry.ends_with(".cts")
        || !entry.ends_with(".mts")
            && package.kind() != Some("module")
            && (package.kind() == Some("commonjs")
                || module_kind(&config).is_some_and(|k| k == "commonjs")
                || exports_common(&text));
    Ok(format!("{stem}.{}", if common { "cjs" } else { "mjs" }))
}

pub(super) fn steps(context: &Context<'_>, tools: &Node, entry: &str, made: &str) -> Vec<Step> {
    let _ = context;
    let home = format!("/cache/node/esbuild-{ESBUILD}");
    let mut env = tools.env.clone();
    env.push(("PATH", &tools.path));
    let package = format!("esbuild@{ESBUILD}");
    let npm = tools.npm.as_deref().unwrap_or("npm");
    let install = [
        &*home,
        npm,
        "install",
        "--ignore-scripts",
        "--no-save",
        "--no-package-lock",
        &package,
    ];
    let esbuild = format!("{home}/node_modules/esbuild/bin/esbuild");
    let out = format!("--outfile=/out/{made}");
    let common = made.ends_with(".cjs");
    let mut compile = vec![
        &*tools.node,
        &esbuild,
        entry,
        &out,
        "--bundle",
        "--packages=external",
        "--platform=node",
        "--target=node18",
        "--charset=utf8",
        "--log-level=warning",
        "--color=false",
        "--sourcemap",
        "--sources-content=false",
    ];
    if common {
        compile.push("--format=cjs");
    } else {
        compile.extend(["--format=esm", REQUIRE]);
    }
    vec![
        shell("fetch esbuild", FETCH, &install, &env, true),
        shell(format!("esbuild {entry}"), "\"$@\"", &compile, &env, false),
    ]
}

/// `compilerOptions.module` of a file that may have comments, and so is searched rather than parsed.
fn module_kind(config: &str) -> Option<String> {
    let code: String = config
        .lines()
        .filter(|l| !l.trim_start().starts_with("//"))
        .collect();
    let rest = &code[code.find("\"module\"")? + "\"module\"".len()..];
    let rest = rest.trim_start().strip_prefix(':')?.trim_start();
    let value = rest.strip_prefix('"')?.split('"').next()?;
    Some(value.to_ascii_lowercase())
}

/// Whether the file exports as CommonJS does and not as an ES module does.
fn exports_common(text: &str) -> bool {
    let mut common = false;
    for line in text.lines() {
        if line.starts_with("export ") || line.starts_with("import ") && line.contains(" from ") {
            return false;
        }
        common |= line.starts_with("module.exports") || line.starts_with("exports.");
    }
    common
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_of_module_is_told() {
        assert_eq!(
            module_kind(
                "{\n// \"module\": \"x\"\n \"compilerOptions\": {\n\"module\" : \"CommonJS\"}}"
            )
            .as_deref(),
            Some("commonjs")
        );
        assert_eq!(module_kind("{}"), None);
        assert!(exports_common("exports.handler = async () => {}\n"));
        assert!(!exports_common("export default 1\nexports.x = 1\n"));
        assert!(!exports_common("const x = 1\n"));
    }
}
