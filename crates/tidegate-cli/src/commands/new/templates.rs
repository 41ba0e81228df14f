//! What the folders of `new` hold, by language.

use clap::ValueEnum;

/// A language, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Lang {
    Python,
    Node,
    Typescript,
    Go,
    Rust,
    Java,
    Ruby,
    Php,
    /// A program or script
    #[value(alias = "sh")]
    Executable,
}

/// A path in the new folder, and what stands there.
pub(super) type File = (&'static str, &'static str);

/// A folder to be.
pub(super) struct Template {
    pub(super) files: &'static [File],
    /// What it is, for its page.
    pub(super) about: &'static str,
    /// The command that runs its tests, and what it needs, if that is not plain.
    pub(super) test: Option<&'static str>,
    /// What the command line has to be told of it.
    pub(super) flags: &'static str,
    /// A request to try it with.
    pub(super) request: File,
    /// What is left out of what is sent to the server, beside what always is.
    pub(super) unsent: &'static [&'static str],
}

macro_rules! files {
    ($folder:literal: $($path:literal = $file:literal),* $(,)?) => {
        &[$(($path, include_str!(concat!("../../../templates/", $folder, "/", $file)))),*]
    };
}

const JSON: File = (
    "request/hello.json",
    include_str!("../../../templates/common/hello.json"),
);
const TEXT: File = (
    "request/hello.txt",
    include_str!("../../../templates/rust/hello.txt"),
);

const SERVER: &str = "An HTTP server on $PORT. One instance takes many calls at once.";

impl Lang {
    /// The folder for a handler or, with `http`, for a server; nothing where such a server would need packages that are not
    /// there yet.
    pub(super) const fn template(self, http: bool) -> Option<Template> {
        let template = match (self, http) {
            (Self::Python, false) => Template {
                files: files!("python": "handler.py" = "handler.py", "test_handler.py" = "test_handler.py",
                    "requirements.txt" = "requirements.txt", ".gitignore" = "gitignore"),
                about: "A Python function: `handler(event, context)` in `handler.py`.",
                test: Some("python3 -m unittest"),
                flags: "",
                request: JSON,
                unsent: &["test_*.py"],
            },
            (Self::Python, true) => Template {
                files: files!("python-http": "server.py" = "server.py", "requirements.txt" = "requirements.txt",
                    ".gitignore" = "gitignore"),
                about: SERVER,
                test: None,
                flags: " --contract http --entry server.py",
                request: JSON,
                unsent: &[],
            },
            (Self::Node, false) => Template {
                files: files!("node": "handler.js" = "handler.js", "handler.test.js" = "handler.test.js",
                    "package.json" = "package.json", "package-lock.json" = "package-lock.json",
                    ".gitignore" = "gitignore"),
                about: "A Node function: a default export in `handler.js` that takes a `Request` and gives a `Response`.",
                test: Some("npm test"),
                flags: "",
                request: JSON,
                unsent: &["*.test.js"],
            },
            (Self::Node, true) => Template {
                files: files!("node-http": "server.js" = "server.js", "package.json" = "package.json",
                    "package-lock.json" = "package-lock.json", ".gitignore" = "gitignore"),
                about: SERVER,
                test: None,
                flags: " --contract http",
                request: JSON,
                unsent: &[],
            },
            (Self::Typescript, false) => Template {
                files: files!("typescript": "handler.ts" = "handler.ts", "handler.test.mjs" = "handler.test.mjs",
                    "package.json" = "package.json", "package-lock.json" = "package-lock.json",
                    "tsconfig.json" = "tsconfig.json", ".gitignore" = "gitignore"),
                about: "A TypeScript function: a default export in `handler.ts` that takes a `Request` and gives a `Response`.",
                test: Some("npm test    # needs Node 22.18 or later"),
                flags: "",
                request: JSON,
                unsent: &["*.test.mjs"],
            },
            (Self::Typescript, true) => Template {
                files: files!("typescript-http": "server.ts" = "server.ts", "package.json" = "package.json",
                    "package-lock.json" = "package-lock.json", "tsconfig.json" = "tsconfig.json",
                    ".gitignore" = "gitignore"),
                about: SERVER,
                test: None,
                flags: " --contract http",
                request: JSON,
                unsent: &[],
            },
            (Self::Go, false) => Template {
                files: files!("go": "handler.go" = "handler.go", "handler_test.go" = "handler_test.go",
                    "go.mod" = "go.mod", ".gitignore" = "gitignore"),
                about: "A Go function: `Handle(w, r)` in `handler.go`.",
                test: Some("go test"),
                flags: "",
                request: JSON,
                unsent: &["*_test.go"],
            },
            (Self::Go, true) => Template {
                files: files!("go-http": "main.go" = "main.go", "go.mod" = "go.mod", ".gitignore" = "gitignore"),
                about: SERVER,
                test: None,
                flags: "",
                request: JSON,
                unsent: &[],
            },
            (Self::Rust, false) => Template {
                files: files!("rust": "src/main.rs" = "main.rs", "Cargo.toml" = "Cargo.toml",
                    "Cargo.lock" = "Cargo.lock", ".gitignore" = "gitignore"),
                about: "A Rust program, a process a call: the request's body on standard input, the answer on standard output.",
                test: Some("cargo test"),
                flags: "",
                request: TEXT,
                unsent: &[],
            },
            (Self::Rust, true) => Template {
                files: files!("rust-http": "src/main.rs" = "main.rs", "Cargo.toml" = "Cargo.toml",
                    "Cargo.lock" = "Cargo.lock", ".gitignore" = "gitignore"),
                about: SERVER,
                test: Some("cargo test"),
                flags: " --contract http",
                request: TEXT,
                unsent: &[],
            },
            (Self::Java, false) => Template {
                files: files!("java": "Handler.java" = "Handler.java", ".gitignore" = "gitignore"),
                about: "A Java function: `handle(event, context)` in `Handler.java`. With a `pom.xml`, Maven builds it.",
                test: None,
                flags: "",
                request: TEXT,
                unsent: &[],
            },
            (Self::Java, true) => Template {
                files: files!("java-http": "Server.java" = "Server.java", ".gitignore" = "gitignore"),
                about: SERVER,
                test: None,
                flags: " --contract http",
                request: TEXT,
                unsent: &[],
            },
            (Self::Ruby, false) => Template {
                files: files!("ruby": "handler.rb" = "handler.rb", "test_handler.rb" = "test_handler.rb",
                    ".gitignore" = "gitignore"),
                about: "A Ruby function: `handler(event, context)` in `handler.rb`. Gems go into a `Gemfile`.",
                test: Some("ruby test_handler.rb"),
                flags: "",
                request: JSON,
                unsent: &["test_*.rb"],
            },
            (Self::Php, false) => Template {
                files: files!("php": "handler.php" = "handler.php", "test_handler.php" = "test_handler.php",
                    ".gitignore" = "gitignore"),
                about: "A PHP function: `handler($event, $context)` in `handler.php`. Packages go into a `composer.json`.",
                test: Some("php test_handler.php"),
                flags: "",
                request: JSON,
                unsent: &["test_*.php"],
            },
            (Self::Executable, false) => Template {
                files: files!("executable": "handler.sh" = "handler.sh", ".gitignore" = "gitignore"),
                about: "A script, a process a call: the request's body on standard input, the answer on standard output.",
                test: Some("./handler.sh < request/hello.txt"),
                flags: "",
                request: TEXT,
                unsent: &[],
            },
            (Self::Ruby | Self::Php | Self::Executable, true) => return None,
        };
        Some(template)
    }

    /// The word for it on the command line.
    pub(super) fn word(self) -> String {
        self.to_possible_value()
            .map(|v| v.get_name().to_owned())
            .unwrap_or_default()
    }
}
