//! Folders that are built: their files, and deploying them.

use std::path::{Path, PathBuf};

use super::server::Options;
use super::{Ran, Server};

/// Variables that tell tools of certificates and proxies which the machine's way to the registries may need.
const PASSED_ON: [&str; 6] = [
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
];

/// Files of a project: names and contents.
pub(crate) type Files<'a> = [(&'a str, &'a str)];

/// A file or folder of the examples.
pub(crate) fn example(path: &str) -> PathBuf {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    examples.join(path)
}

/// The content of a sample request.
#[track_caller]
pub(crate) fn sample(path: &str) -> Vec<u8> {
    std::fs::read(example(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

impl Options {
    /// With what a developer's machine has for builds, wherever it has it: the server's home is another than ours.
    pub(crate) fn builder(mut self) -> Self {
        let home = std::env::var_os("HOME").map(PathBuf::from);
        for (name, folder) in [("CARGO_HOME", ".cargo"), ("RUSTUP_HOME", ".rustup")] {
            let set = std::env::var_os(name).map(PathBuf::from);
            let path = set.or_else(|| Some(home.as_ref()?.join(folder)));
            if let Some(path) = path.filter(|path| path.is_dir()) {
                self = self.env(name, path.to_str().expect("text"));
            }
        }
        for name in PASSED_ON {
            if let Ok(value) = std::env::var(name) {
                self = self.env(name, &value);
            }
        }
        self
    }
}

impl Server {
    /// Writes files into a folder of the home and gives the folder; what was there before is gone.
    pub(crate) fn folder(&self, name: &str, files: &Files<'_>) -> String {
        let folder = self.home().join("projects").join(name);
        let _ = std::fs::remove_dir_all(&folder);
        for (file, content) in files {
            self.file(&format!("projects/{name}/{file}"), content);
        }
        folder.to_str().expect("text").to_owned()
    }

    /// Deploys files as a folder under a name.
    pub(crate) fn try_project(&self, name: &str, files: &Files<'_>, more: &[&str]) -> Ran {
        let folder = self.folder(name, files);
        self.cli(&[&["deploy", &folder, "--name", name], more].concat())
    }

    #[track_caller]
    pub(crate) fn project(&self, name: &str, files: &Files<'_>, more: &[&str]) -> Ran {
        self.try_project(name, files, more).ok()
    }

    /// What the last deploy of a function installed and built: `installed` or `cached`, `built` or `cached`, or nothing.
    #[track_caller]
    pub(crate) fn built(&self, name: &str) -> (String, String) {
        let build = &self.function(name)["status"]["build"];
        let word = |field: &str| build[field].as_str().unwrap_or_default().to_owned();
        (word("dependencies"), word("bundle"))
    }
}
