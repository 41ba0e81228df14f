//! What can be told of source files without a parser of their language.
//!
//! Detection and recipes ask the same few questions: what package is this file of, does it define a `Handle`, does it
//! serve. They are answered by looking at lines, which is right for code as it is formatted by everybody, and where it is
//! wrong the compiler or the host says so a moment later.

use std::fs;
use std::io::Read as _;
use std::path::Path;

/// How much of a file is looked at. What a handler's file is stands far above that, and missing it only asks for a word
/// of the user's.
pub(crate) const LOOK: u64 = 256 << 10;

/// Most files of a folder that are looked at.
pub(crate) const MAX_FILES: usize = 500;

/// The beginning of a file as text, or nothing if it cannot be read.
pub(crate) fn head(path: &Path) -> Option<String> {
    let mut bytes = Vec::new();
    fs::File::open(path)
        .and_then(|f| f.take(LOOK).read_to_end(&mut bytes))
        .ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// Names of the files of a folder with this ending, sorted.
pub(crate) fn files(folder: &Path, ending: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut names: Vec<String> = entries
        .take(MAX_FILES * 10)
        .filter_map(|e| e.ok())
        .filter(|e| e.path().is_file())
        .filter_map(|e| e.file_name().into_string().ok())
        .filter(|n| n.ends_with(ending) && n.len() > ending.len())
        .take(MAX_FILES)
        .collect();
    names.sort_unstable();
    names
}

/// What a folder's Go files are.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct GoPackage {
    /// After `package`.
    pub(crate) name: String,
    /// `func main()` is there.
    pub(crate) main: bool,
    /// Names of functions that take a writer and a request.
    pub(crate) handlers: Vec<String>,
    /// The file with the first of those, or with `main`.
    pub(crate) file: String,
    /// A server, by what it calls.
    pub(crate) serves: bool,
    /// `import "C"`.
    pub(crate) cgo: bool,
    /// Something is imported that is not of the standard library.
    pub(crate) foreign: bool,
}

/// Looks at the Go files of a folder. Nothing where there is none.
pub(crate) fn go_package(folder: &Path) -> Option<GoPackage> {
    let mut package = GoPackage::default();
    for name in files(folder, ".go") {
        if name.ends_with("_test.go") || name.starts_with(['_', '.']) {
            continue;
        }
        let Some(text) = head(&folder.join(&name)) else {
            continue;
        };
        // A generator beside a program is a package of its own by this line.
        if text.contains("//go:build ignore") {
            continue;
        }
        let mut imports = false;
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("package ") {
                let word = rest.split_whitespace().next().unwrap_or_default();
                if package.name.is_empty() {
                    package.name = word.to_owned();
                }
            } else if line.starts_with("import") {
                imports = line.contains('(');
                package.import(line);
            } else if imports {
                imports = !line.starts_with(')');
                package.import(line);
            } else if line.starts_with("func main()") {
                package.main = true;
                if package.handlers.is_empty() {
                    package.file.clone_from(&name);
                }
            } else if let Some(rest) = line.strip_prefix("func ") {
                let function = rest.split('(').next().unwrap_or_default();
                if rest.contains("http.ResponseWriter,") && !function.is_empty() {
                    if function == "Handle" || package.handlers.is_empty() && !package.main {
                        package.file.clone_from(&name);
                    }
                    package.handlers.push(function.to_owned());
                }
            }
        }
        package.serves |= text.contains("ListenAndServe")
            || text.contains("\"PORT\"")
            || text.contains("net.Listen(");
    }
    if package.file.is_empty() {
        package.file = files(folder, ".go").into_iter().next()?;
    }
    (!package.name.is_empty()).then_some(package)
}

impl GoPackage {
    fn import(&mut self, line: &str) {
        let Some(path) = line.split('"').nth(1) else {
            return;
        };
        self.cgo |= path == "C";
        self.foreign |= path
            .split('/')
            .next()
            .is_some_and(|host| host.contains('.'));
    }
}

/// What a Java file is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct JavaFile {
    /// `com.acme`, or nothing.
    pub(crate) package: String,
    /// A method `handle` is there.
    pub(crate) handles: bool,
    /// `public static void main(` is there.
    pub(crate) main: bool,
    /// Names our package.
    pub(crate) uses_host: bool,
}

/// Looks at one Java file.
pub(crate) fn java_file(text: &str) -> JavaFile {
    let mut file = JavaFile {
        uses_host: text.contains("dev.tidegate"),
        ..JavaFile::default()
    };
    for line in text.lines().map(str::trim) {
        if line.starts_with("//") || line.starts_with('*') {
            continue;
        }
        if let Some(rest) = line.strip_prefix("package ") {
            file.package = rest.trim_end_matches(';').trim().to_owned();
        }
        file.main |= line.contains("static void main(");
        // A definition has a type before it; a call has a dot, or nothing.
        if let Some((before, _)) = line.split_once("handle(") {
            let before = before.trim_end();
            file.handles |= !before.is_empty()
                && before.ends_with(|c: char| c.is_alphanumeric() || c == '>' || c == ']')
                && !before.ends_with("return")
                && !before.contains(['=', '(', '.', '"'])
                && !before.starts_with("new ");
        }
    }
    file
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_packages_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        assert_eq!(go_package(dir.path()), None);
        write(
            "util.go",
            "package shop\n\nimport (\n\t\"net/http\"\n\tqr \"github.com/a/b\"\n)\n\nfunc helper() {}\n",
        );
        write(
            "handler.go",
            "package shop\nimport \"net/http\"\nfunc Handle(w http.ResponseWriter, r *http.Request) {}\n",
        );
        write("x_test.go", "package shop_test\nfunc main() {}\n");
        assert_eq!(
            go_package(dir.path()).unwrap(),
            GoPackage {
                name: "shop".into(),
                handlers: vec!["Handle".into()],
                file: "handler.go".into(),
                foreign: true,
                ..GoPackage::default()
            }
        );
    }

    #[test]
    fn java_files_are_told() {
        let file = java_file(
            "package com.acme;\n// handle(\npublic class H {\n  public Object handle(Map<String, Object> e) {}\n}\n",
        );
        assert_eq!(
            (&*file.package, file.handles, file.main),
            ("com.acme", true, false)
        );
        let file = java_file(
            "class M {\n public static void main(String[] a) {\n  x.handle(1); return handle(2);\n }}\n",
        );
        assert_eq!((&*file.package, file.handles, file.main), ("", false, true));
    }
}
