//! Ruby: what a Gemfile names goes into `/out/ruby/VERSION`, which the host has as its path of gems.

use super::PlanError;
use super::context::{Context, authorities, manifest, path_of, program, shell};
use crate::plan::Plan;
use crate::tools::ToolName;

/// Installs, and takes out what only installing needed and what differs from run to run.
const INSTALL: &str = r#"mkdir -p /cache/bundle
"$@"
rm -rf /out/ruby/*/cache /out/ruby/*/build_info /out/ruby/*/doc /out/ruby/*/bundler/gems/*/.git
find /out -name gem_make.out -delete
find /out -name mkmf.log -delete
find /out -path '*/ext/*' -name '*.o' -delete"#;

pub(super) fn plan(context: &mut Context<'_>) -> Result<Plan, PlanError> {
    let Some(text) = context.read("Gemfile")? else {
        return Ok(Plan::default());
    };
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.starts_with('#') {
            continue;
        }
        let local = line == "gemspec"
            || line.starts_with("gemspec ")
            || ["path:", ":path =>", "path \""]
                .iter()
                .any(|word| line.contains(word));
        if local {
            return Err(manifest(
                "Gemfile",
                format!(
                    "line {}: gems from a path are not supported; put the files beside the handler and require them",
                    at + 1
                ),
            ));
        }
    }
    if !text.lines().any(|l| l.trim_start().starts_with("gem")) {
        return Ok(Plan::default());
    }
    let ruby = context.tool(ToolName::Ruby)?;
    let bundle = context.tool(ToolName::Bundle)?;
    let locked = context.has("Gemfile.lock");
    let mut inputs = vec!["Gemfile".to_owned()];
    if locked {
        inputs.push("Gemfile.lock".into());
    } else {
        context.note("there is no Gemfile.lock; with one, every deploy installs the same gems");
    }
    for file in [".ruby-version", ".tool-versions"] {
        if context.has(file) {
            inputs.push(file.into());
        }
    }
    let path = path_of(&[&ruby, &bundle]);
    let mut env = vec![
        ("PATH", &*path),
        ("BUNDLE_PATH", "/out"),
        ("BUNDLE_WITHOUT", "development:test"),
        ("BUNDLE_USER_CACHE", "/cache/bundle"),
        ("BUNDLE_GLOBAL_GEM_CACHE", "true"),
        ("BUNDLE_JOBS", "2"),
        ("BUNDLE_RETRY", "2"),
        ("BUNDLE_SILENCE_ROOT_WARNING", "true"),
        ("BUNDLE_DISABLE_VERSION_CHECK", "true"),
        // Another version of Bundler than the lock's would be fetched at every build.
        ("BUNDLE_VERSION", "system"),
    ];
    if locked {
        env.push(("BUNDLE_FROZEN", "true"));
    }
    env.extend(authorities("BUNDLE_SSL_CA_CERT"));
    let bundle = program(&bundle);
    let mut install = vec![&*bundle, "install"];
    // Gems that came with the source are all there is to install.
    let cached = context.files_in("vendor/cache", ".gem");
    if !cached.is_empty() {
        install.push("--local");
        inputs.extend(cached);
    }
    let step = shell("bundle install", INSTALL, &install, &env, true);
    Ok(Plan {
        dependencies: Some(context.dependencies(inputs, Vec::new(), false, vec![step])?),
        ..Plan::default()
    })
}
