//! Java: the handler is compiled with Maven and served by the entry that the template itself uses.
//!
//! Handlers come with a `build.gradle`. Gradle is a program that runs a program, fetched in one of many versions; what a
//! handler's file says with it, a list of libraries, is read and said once more as a `pom.xml`. A handler that comes with
//! a `pom.xml` of its own keeps that one.

mod gradle;

use std::fmt::Write as _;
use std::path::Path;

use super::shared::{SERVED_AT_ONCE, variables, write};
use super::{Context, TemplateError};
use crate::{Prepared, WatchdogKind};
use gradle::{Dependency, Gradle};

const VERTX_MAIN: &str =
    include_str!("../../../../../runtimes/openfaas/java/dev/tidegate/openfaas/VertxMain.java");
const VERTX_FILE: &str = "src/main/java/dev/tidegate/openfaas/VertxMain.java";

/// Where the handler is.
const HANDLER: &str = "src/main/java/com/openfaas/function/Handler.java";

/// What the entry is, where a handler does not ask for another version.
const ENTRYPOINT: [(&str, &str, &str); 2] = [
    ("com.openfaas", "model", "0.1.1"),
    ("com.openfaas", "entrypoint", "0.1.0"),
];
const VERTX: [(&str, &str, &str); 1] = [("io.vertx", "vertx-web", "4.1.2")];

/// As the JVM should be for a process that starts often and lives short: see the language's own host.
const FLAGS: &str = "-XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xshare:auto -XX:-UsePerfData -Xss512k \
                     -Djava.security.egd=file:/dev/urandom";

/// Classes of the tree, then its libraries.
const CLASS_PATH: &str = "/home/app:/home/app/lib/*";

pub(super) const LANGUAGES: &[&str] = &["java11", "java17", "java11-vert-x"];

pub(super) fn prepare(context: &Context<'_>, out: &Path) -> Result<Prepared, TemplateError> {
    let language = &*context.template.language;
    let folder = context.handler_folder()?;
    let is_vertx = language.ends_with("-vert-x");
    context.demand(HANDLER)?;
    // Tests are not run here, and what they need is not fetched.
    context.copy(&format!("{folder}/src/main"), out, "src/main")?;
    let mut notes = Vec::new();
    let pom = format!("{folder}/pom.xml");
    if context.has(&pom) {
        context.copy(&pom, out, "pom.xml")?;
    } else {
        let name = format!("{folder}/build.gradle");
        let mut gradle = context
            .text(&name)?
            .map(|text| gradle::read(&text))
            .unwrap_or_default();
        if context.has(&format!("{name}.kts")) {
            return Err(TemplateError::Context(format!(
                "{name}.kts is not read; write its dependencies as {name} or as {pom}"
            )));
        }
        for (line, text) in std::mem::take(&mut gradle.unread) {
            notes.push(format!("{name} line {line} has no effect here: {text}"));
        }
        let needed: &[_] = if is_vertx { &VERTX } else { &ENTRYPOINT };
        let level = gradle.level.take().unwrap_or_else(|| {
            let digits = language.trim_start_matches("java");
            digits.split('-').next().unwrap_or(digits).to_owned()
        });
        write(out, "pom.xml", &project(&gradle, needed, &level))?;
    }
    if is_vertx {
        write(out, VERTX_FILE, VERTX_MAIN)?;
    }
    let main = if is_vertx {
        "-Dvertx.cacheDirBase=/tmp/vertx dev.tidegate.openfaas.VertxMain"
    } else {
        "com.openfaas.entrypoint.App"
    };
    Ok(Prepared {
        language: language.to_owned(),
        runtime: "java".to_owned(),
        // What tells the build which class is meant.
        entry: if is_vertx { VERTX_FILE } else { HANDLER }.to_owned(),
        handler: None,
        hosted: false,
        watchdog: WatchdogKind::OfWatchdog,
        process: context.process(&format!("java {FLAGS} {main}")),
        env: variables(&[
            ("mode", "http"),
            ("upstream_url", "http://127.0.0.1:8082"),
            ("CLASSPATH", CLASS_PATH),
        ]),
        concurrency: SERVED_AT_ONCE,
        build: tidegate_core::Build::default(),
        notes,
    })
}

/// The `pom.xml` that asks for the same.
fn project(gradle: &Gradle, needed: &[(&str, &str, &str)], level: &str) -> String {
    let mut dependencies = gradle.dependencies.clone();
    for &(group, name, version) in needed {
        let is_there = |d: &Dependency| d.group == group && d.name == name;
        if !dependencies.iter().any(is_there) {
            dependencies.push(Dependency {
                group: group.to_owned(),
                name: name.to_owned(),
                version: version.to_owned(),
                classifier: None,
                scope: "compile",
            });
        }
    }
    let mut text = format!(
        "<project xmlns=\"http://maven.apache.org/POM/4.0.0\">\n  <modelVersion>4.0.0</modelVersion>\n  \
         <groupId>com.openfaas</groupId>\n  <artifactId>function</artifactId>\n  <version>1.0</version>\n  <properties>\n    \
         <maven.compiler.source>{level}</maven.compiler.source>\n    <maven.compiler.target>{level}</maven.compiler.target>\n    \
         <project.build.sourceEncoding>UTF-8</project.build.sourceEncoding>\n  </properties>\n"
    );
    if !gradle.repositories.is_empty() {
        text.push_str("  <repositories>\n");
        for (at, url) in gradle.repositories.iter().enumerate() {
            let _ = writeln!(
                text,
                "    <repository><id>repository-{at}</id><url>{}</url></repository>",
                escaped(url)
            );
        }
        text.push_str("  </repositories>\n");
    }
    let (platforms, libraries): (Vec<_>, Vec<_>) =
        dependencies.iter().partition(|d| d.scope == "import");
    if !platforms.is_empty() {
        text.push_str("  <dependencyManagement>\n    <dependencies>\n");
        for platform in platforms {
            element(&mut text, "      ", platform);
        }
        text.push_str("    </dependencies>\n  </dependencyManagement>\n");
    }
    text.push_str("  <dependencies>\n");
    for library in libraries {
        element(&mut text, "    ", library);
    }
    text.push_str("  </dependencies>\n</project>\n");
    text
}

fn element(text: &mut String, indent: &str, of: &Dependency) {
    let _ = write!(
        text,
        "{indent}<dependency><groupId>{}</groupId><artifactId>{}</artifactId>",
        escaped(&of.group),
        escaped(&of.name)
    );
    if !of.version.is_empty() {
        let _ = write!(text, "<version>{}</version>", escaped(&of.version));
    }
    if let Some(classifier) = &of.classifier {
        let _ = write!(text, "<classifier>{}</classifier>", escaped(classifier));
    }
    if of.scope == "import" {
        text.push_str("<type>pom</type>");
    }
    if of.scope != "compile" {
        let _ = write!(text, "<scope>{}</scope>", of.scope);
    }
    text.push_str("</dependency>\n");
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
