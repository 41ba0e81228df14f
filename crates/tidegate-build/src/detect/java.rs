//! Java.

use super::Folder;
use crate::source::java_file;

pub(super) fn find(folder: &Folder<'_>) -> Option<String> {
    if let Some(manifest) = folder.first(&["pom.xml", "build.gradle", "build.gradle.kts"]) {
        return Some(manifest.to_owned());
    }
    if let Some(known) = folder.first(&["Handler.java", "Function.java", "App.java", "Main.java"]) {
        return Some(known.to_owned());
    }
    let mut fitting = sources(folder).filter(|p| {
        let file = java_file(&folder.text(p));
        file.handles || file.main
    });
    match (fitting.next(), fitting.next()) {
        (Some(only), None) => Some(only.to_owned()),
        _ => folder.only(&[".jar"]).map(str::to_owned),
    }
}

pub(super) fn look(folder: &Folder<'_>, entry: &str) -> (&'static str, Option<String>) {
    if entry.ends_with(".jar") {
        return ("http", None);
    }
    if entry.ends_with(".class") {
        return ("host", None);
    }
    let texts: Vec<String> = if entry.ends_with(".java") {
        vec![folder.text(entry)]
    } else {
        sources(folder)
            .take(crate::source::MAX_FILES)
            .map(|p| folder.text(p))
            .collect()
    };
    let (mut handles, mut main, mut serves) = (false, false, false);
    for text in &texts {
        let file = java_file(text);
        handles |= file.handles;
        main |= file.main;
        serves |= ["\"PORT\"", "HttpServer", "SpringApplication", "server.port"]
            .iter()
            .any(|word| text.contains(word));
    }
    match (handles, main, serves) {
        (true, ..) => ("host", None),
        (false, true, true) => ("http", None),
        (false, true, false) => ("stdio", None),
        (false, false, _) => (
            "host",
            Some(format!(
                "{entry}: no class has a method 'handle(event, context)' or 'public static void main(String[] args)' \
                 that can be seen"
            )),
        ),
    }
}

fn sources<'a>(folder: &Folder<'a>) -> impl Iterator<Item = &'a str> {
    folder
        .files()
        .filter(|p| p.ends_with(".java") && !p.split('/').any(|part| part == "test"))
}
