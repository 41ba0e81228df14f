//! Java: classes at the root of the bundle, the jars they need in `lib`, and the host that loads them beside them.
//!
//! The host is compiled with the function, so that it fits whichever Java there is. Where the source names the host's own
//! types, it is laid beside the source and compiled in one go.

use std::fs;
use std::path::Path;

use super::PlanError;
use super::context::{Context, manifest, path_of, program, shell};
use crate::plan::{Generated, Plan, Step};
use crate::source::{self, JavaFile};
use crate::tools::ToolName;

/// A file of the host, by path below the root of sources.
macro_rules! host {
    ($($name:literal),+ $(,)?) => {
        &[$((
            concat!("dev/tidegate/host/", $name, ".java"),
            include_str!(concat!("../../../../runtimes/java/dev/tidegate/host/", $name, ".java")),
        )),+]
    };
}

/// The host's files.
const HOST: &[(&str, &str)] = host![
    "Answers",
    "Body",
    "BodyTooLarge",
    "Config",
    "Connection",
    "Context",
    "Event",
    "Exchange",
    "Failures",
    "Function",
    "Head",
    "InvalidJson",
    "Json",
    "LoadFailed",
    "Main",
    "Response",
];

/// Where they are put when the source does not name them.
const ASIDE: &str = ".tidegate-host";

/// Most files that are searched for the handler.
const MAX_SOURCES: usize = 5_000;

/// Deepest folders that are searched.
const MAX_DEPTH: usize = 32;

/// Maven knows no proxy variables, only its settings. The user's own settings are read beside these.
const MAVEN: &str = r#"settings=/tmp/tidegate-settings.xml
proxy=${HTTPS_PROXY:-${https_proxy:-}}
if [ -n "$proxy" ]; then
  address=${proxy#*://}
  address=${address%%/*}
  port=${address##*:}
  host=${address%:*}
  for protocol in http https; do
    echo "<proxy><id>$protocol</id><active>true</active><protocol>$protocol</protocol><host>$host</host><port>$port</port><nonProxyHosts>localhost|127.*</nonProxyHosts></proxy>"
  done > "$settings.proxies"
else
  : > "$settings.proxies"
fi
{ echo '<settings><proxies>'; cat "$settings.proxies"; echo '</proxies></settings>'; } > "$settings"
mvn=$1
shift
exec "$mvn" -gs "$settings" "$@""#;

/// Takes over the classes, the resources beside them, and the jars.
const KEEP_MAVEN: &str = r#"cd "$1"
if [ -d target/classes ]; then cp -a target/classes/. /out/; fi
if [ -d target/tidegate-lib ]; then mkdir -p /out/lib; cp -a target/tidegate-lib/. /out/lib/; fi"#;

/// Compiles every file of the folder but tests.
const JAVAC: &str = r#"javac=$1
find . -name '*.java' ! -path './test/*' ! -path './src/test/*' ! -path './.tidegate-host/*' | LC_ALL=C sort > /tmp/sources
"$javac" -encoding UTF-8 -Xlint:-options -cp "/out:lib/*" -d /out @/tmp/sources
find . -name '*.java' -delete
find . -mindepth 1 -type d -empty -delete
cp -a . /out/"#;

/// Compiles the host into the bundle.
const COMPILE_HOST: &str = r#"javac=$1 from=$2
shift 2
mkdir -p /out
cd "$from"
"$javac" -encoding UTF-8 -Xlint:-options -d /out "$@"
cd ..
rm -rf "$from""#;

pub(super) fn plan(context: &mut Context<'_>) -> Result<Plan, PlanError> {
    let wanted = context.wanted;
    if wanted.entry.ends_with(".class") || wanted.entry.ends_with(".jar") {
        if wanted.contract != "host" {
            return Ok(Plan::default());
        }
        // Compiled elsewhere; only the host is missing.
        let javac = javac(context)?;
        let keep = shell(
            "keep the classes",
            "cp -a . /out/\nrm -rf \"/out/$1\"",
            &[ASIDE],
            &[],
            false,
        );
        let steps = vec![host_step(&javac), keep];
        return Ok(Plan {
            compile: Some(context.compile(
                host_files(ASIDE),
                steps,
                &wanted.entry,
                wanted.handler.clone(),
            )),
            ..Plan::default()
        });
    }
    let pom = if wanted.entry.ends_with("pom.xml") {
        Some(wanted.entry.clone())
    } else {
        context.has("pom.xml").then(|| "pom.xml".to_owned())
    };
    if pom.is_none() && (context.has("build.gradle") || context.has("build.gradle.kts")) {
        return Err(PlanError::Unsupported(
            "Gradle is not run by itself; name a command that puts the classes into /out, and the jars they need into \
             /out/lib, as the build command"
                .into(),
        ));
    }
    let (class, uses_host) = class(context, pom.as_deref())?;
    let entry = format!("{class}.class");
    let javac = javac(context)?;
    let host = wanted.contract == "host";
    let mut files = Vec::new();
    let mut steps = Vec::new();
    let folder = pom
        .as_deref()
        .and_then(|p| p.strip_suffix("pom.xml"))
        .unwrap_or_default()
        .trim_end_matches('/');
    let folder = if folder.is_empty() { "." } else { folder };
    match &pom {
        Some(pom) => {
            if host && uses_host {
                files = host_files(&format!("{folder}/src/main/java").replace("./", ""));
            } else if host {
                files = host_files(ASIDE);
                steps.push(host_step(&javac));
            }
            steps.extend(maven(context, pom, folder)?);
        }
        None => {
            if host && uses_host {
                files = host_files("");
            } else if host {
                files = host_files(ASIDE);
                steps.push(host_step(&javac));
            }
            steps.push(shell("javac", JAVAC, &[&javac], &[], false));
        }
    }
    Ok(Plan {
        compile: Some(context.compile(files, steps, entry, wanted.handler.clone())),
        ..Plan::default()
    })
}

fn javac(context: &mut Context<'_>) -> Result<String, PlanError> {
    context.tool(ToolName::Java)?;
    Ok(program(&*context.tool(ToolName::Javac)?))
}

fn maven(context: &mut Context<'_>, pom: &str, folder: &str) -> Result<Vec<Step>, PlanError> {
    let java = context.tool(ToolName::Java)?;
    let mvn = context.tool(ToolName::Maven)?;
    let home = java
        .program
        .parent()
        .and_then(Path::parent)
        .filter(|home| home.join("bin/javac").exists())
        .map(|home| home.to_string_lossy().into_owned());
    let path = path_of(&[&java, &mvn]);
    let mut env = vec![("PATH", &*path)];
    if let Some(home) = &home {
        env.push(("JAVA_HOME", home));
    }
    let mvn = program(&mvn);
    // Maven's own default is a Java that no compiler knows any more.
    let text = context.read(pom)?.unwrap_or_default();
    let says = ["maven.compiler.", "<release>", "<source>", "<parent>"];
    let defaults: Vec<String> = if says.iter().any(|word| text.contains(word)) {
        Vec::new()
    } else {
        let major = java.version.split('.').next().unwrap_or("17");
        ["source", "target"]
            .map(|what| format!("-Dmaven.compiler.{what}={major}"))
            .into()
    };
    let mut arguments = vec![
        &*mvn,
        "-B",
        "-ntp",
        "-q",
        "-f",
        pom,
        "-Dstyle.color=never",
        "-Dmaven.repo.local=/cache/m2/repository",
        "-Dproject.build.outputTimestamp=1980-01-01T00:00:02Z",
        "-DskipTests",
        "package",
        "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies",
        "-DincludeScope=runtime",
        "-DoutputDirectory=target/tidegate-lib",
    ];
    arguments.extend(defaults.iter().map(String::as_str));
    Ok(vec![
        shell("mvn package", MAVEN, &arguments, &env, true),
        shell("keep the classes", KEEP_MAVEN, &[folder], &[], false),
    ])
}

fn host_step(javac: &str) -> Step {
    let mut arguments = vec![javac, ASIDE];
    arguments.extend(HOST.iter().map(|(path, _)| *path));
    shell("javac (host)", COMPILE_HOST, &arguments, &[], false)
}

fn host_files(folder: &str) -> Vec<Generated> {
    let folder = folder.trim_matches('/');
    HOST.iter()
        .map(|(path, content)| Generated {
            path: if folder.is_empty() {
                (*path).to_owned()
            } else {
                format!("{folder}/{path}")
            },
            content: (*content).to_owned(),
        })
        .collect()
}

/// The class to load or run, as a path without an ending, and whether any file names the host's types.
fn class(context: &Context<'_>, pom: Option<&str>) -> Result<(String, bool), PlanError> {
    let wanted = context.wanted;
    let mut found = Vec::new();
    search(context.source, "", 0, &mut found);
    let uses_host = found.iter().any(|(_, f)| f.uses_host);
    let path = |(name, file): &(String, JavaFile)| {
        let stem = name
            .rsplit('/')
            .next()
            .unwrap_or(name)
            .trim_end_matches(".java");
        match &*file.package {
            "" => stem.to_owned(),
            package => format!("{}/{stem}", package.replace('.', "/")),
        }
    };
    if wanted.entry.ends_with(".java") {
        return match found.iter().find(|(name, _)| *name == wanted.entry) {
            Some(file) => Ok((path(file), uses_host)),
            None => Err(manifest(&wanted.entry, "is not there")),
        };
    }
    // `com.acme.Shop::sell` names its class itself.
    if let Some(handler) = &wanted.handler {
        let class = handler
            .split("::")
            .next()
            .unwrap_or(handler)
            .replace('.', "/");
        if let Some(file) = found.iter().find(|f| path(f) == class) {
            return Ok((path(file), uses_host));
        }
    }
    let fits = |f: &JavaFile| {
        if wanted.contract == "host" {
            f.handles
        } else {
            f.main
        }
    };
    let candidates: Vec<_> = found.iter().filter(|(_, f)| fits(f)).collect();
    let named = ["Handler", "Function", "App", "Main", "Application"]
        .iter()
        .find_map(|name| {
            candidates
                .iter()
                .find(|c| path(c).rsplit('/').next() == Some(name))
        });
    match (named, &candidates[..]) {
        (Some(file), _) | (None, [file]) => Ok((path(file), uses_host)),
        (None, []) => Err(PlanError::Unsupported(format!(
            "no class of {} has {}",
            pom.unwrap_or("the folder"),
            if wanted.contract == "host" {
                "a method 'handle(event, context)'; name one with --handler CLASS::METHOD"
            } else {
                "a 'public static void main(String[] args)'"
            }
        ))),
        (None, several) => {
            let names: Vec<String> = several.iter().take(8).map(|f| path(f)).collect();
            Err(PlanError::Unsupported(format!(
                "several classes fit: {}; name one's file with --entry",
                names.join(", ")
            )))
        }
    }
}

fn search(root: &Path, folder: &str, depth: usize, found: &mut Vec<(String, JavaFile)>) {
    let Ok(entries) = fs::read_dir(root.join(folder)) else {
        return;
    };
    let mut names: Vec<(String, bool)> = entries
        .filter_map(|e| e.ok())
        .filter_map(|e| {
            let kind = e.file_type().ok()?;
            (kind.is_dir() || kind.is_file())
                .then_some((e.file_name().into_string().ok()?, kind.is_dir()))
        })
        .collect();
    names.sort_unstable();
    for (name, is_folder) in names {
        let path = if folder.is_empty() {
            name.clone()
        } else {
            format!("{folder}/{name}")
        };
        if is_folder {
            let skipped = ["test", "target", "build"].contains(&&*name) || name.starts_with('.');
            if depth < MAX_DEPTH && !skipped {
                search(root, &path, depth + 1, found);
            }
        } else if name.ends_with(".java") && found.len() < MAX_SOURCES {
            let file = source::head(&root.join(&path)).map(|t| source::java_file(&t));
            found.extend(file.map(|f| (path, f)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_is_whole() {
        let folder =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../runtimes/java/dev/tidegate/host");
        let there: Vec<String> = source::files(&folder, ".java")
            .into_iter()
            .map(|name| format!("dev/tidegate/host/{name}"))
            .collect();
        let listed: Vec<&str> = HOST.iter().map(|(path, _)| *path).collect();
        assert_eq!(listed, there);
    }
}
