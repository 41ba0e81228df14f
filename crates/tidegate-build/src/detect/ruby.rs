//! Ruby.

use super::Folder;

const ENTRIES: &[&str] = &[
    "config.ru",
    "handler.rb",
    "app.rb",
    "function.rb",
    "main.rb",
    "index.rb",
];

pub(super) fn find<'a>(folder: &Folder<'a>) -> Option<&'a str> {
    folder.first(ENTRIES).or_else(|| folder.only(&[".rb"]))
}

pub(super) fn look(folder: &Folder<'_>, entry: &str) -> (&'static str, Option<String>) {
    let text = folder.text(entry);
    if entry.ends_with(".ru") || has_handler(&text) {
        return ("host", None);
    }
    if text.contains("PORT") && (text.contains("TCPServer") || text.contains("WEBrick")) {
        return ("http", None);
    }
    let warning = format!(
        "{entry} has neither 'def handler(event, context)' nor a Rack 'App' that can be seen; unless one appears when it \
         is loaded, the deploy will fail"
    );
    ("host", Some(warning))
}

/// Whether a handler or an app is defined.
pub(super) fn has_handler(text: &str) -> bool {
    text.lines().map(str::trim_start).any(|line| {
        [
            "def handler",
            "def self.handler",
            "def self.handle",
            "def handle",
            "def self.call",
            "def call",
            "def app",
            "class Handler",
            "module Handler",
            "Handler =",
            "HANDLER =",
            "class App",
            "App =",
            "APP =",
            "Application =",
            "handler =",
            "require \"sinatra\"",
            "require 'sinatra'",
        ]
        .iter()
        .any(|start| line.starts_with(start))
    })
}
