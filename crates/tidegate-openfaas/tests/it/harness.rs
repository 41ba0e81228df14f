//! Contexts, what becomes of them, and a build and a call of it without a server.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;
use tidegate_build::{Step, ToolPaths, Tools, Wanted, plan};
use tidegate_openfaas::templates::prepare;
use tidegate_openfaas::{BuildConfig, Prepared};

use crate::listing;

/// A context that was made into a tree.
pub(crate) struct Made {
    dir: TempDir,
    pub(crate) prepared: Prepared,
}

/// A tree that was built.
pub(crate) struct Built {
    made: Made,
}

/// Makes a tree of a template's context; `files` are those of the handler's folder.
pub(crate) fn make(language: &str, files: &[(&str, &str)]) -> Result<Made, String> {
    make_with(language, files, &BuildConfig::default())
}

pub(crate) fn make_with(
    language: &str,
    files: &[(&str, &str)],
    config: &BuildConfig,
) -> Result<Made, String> {
    let dir = tempfile::tempdir().unwrap();
    let context = dir.path().join("context");
    write(&context, "template.yml", &format!("language: {language}\n"));
    for (name, content) in files {
        write(&context.join("function"), name, content);
    }
    made(dir, config)
}

/// Makes a tree of a folder with a Dockerfile, which comes without a description.
pub(crate) fn make_dockerfile(files: &[(&str, &str)]) -> Result<Made, String> {
    let dir = tempfile::tempdir().unwrap();
    for (name, content) in files {
        write(&dir.path().join("context"), name, content);
    }
    made(dir, &BuildConfig::default())
}

fn made(dir: TempDir, config: &BuildConfig) -> Result<Made, String> {
    let (context, tree) = (dir.path().join("context"), dir.path().join("tree"));
    fs::create_dir_all(&tree).unwrap();
    let prepared = prepare(&context, config, &tree).map_err(|error| error.to_string())?;
    Ok(Made { dir, prepared })
}

fn write(folder: &Path, name: &str, content: &str) {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

impl Made {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A file of the tree.
    pub(crate) fn file(&self, name: &str) -> String {
        fs::read_to_string(self.path("tree").join(name)).unwrap()
    }

    /// The files, then everything that is told of them.
    pub(crate) fn shown(&self) -> String {
        let mut said = listing::of(&self.path("tree"));
        let text = serde_json::to_string_pretty(&self.prepared).unwrap();
        write!(said, "{text}").unwrap();
        said
    }

    /// Does what a build of the tree would, in folders of its own.
    #[track_caller]
    pub(crate) fn build(self) -> Built {
        let wanted = Wanted {
            runtime: self.prepared.runtime.parse().unwrap(),
            contract: self.prepared.watchdog.as_str().to_owned(),
            entry: self.prepared.entry.clone(),
            handler: self.prepared.handler.clone(),
            command: self.prepared.build.command.clone(),
            env: self.prepared.build.env.clone().into_iter().collect(),
        };
        let tools = Tools::find(ToolPaths::from_env(|name| std::env::var_os(name)));
        let plan = plan(&self.path("tree"), &wanted, &tools).unwrap();
        for name in ["layer", "bundle", "home"] {
            fs::create_dir(self.path(name)).unwrap();
        }
        if let Some(stage) = plan.dependencies {
            let work = self.path("first");
            fs::create_dir(&work).unwrap();
            stage.fill(&self.path("tree"), &work).unwrap();
            self.steps(&stage.steps, &work, "layer");
        }
        if let Some(stage) = plan.compile {
            let work = self.path("second");
            copy(&self.path("tree"), &work);
            stage.write_files(&work).unwrap();
            self.steps(&stage.steps, &work, "bundle");
        } else {
            copy(&self.path("tree").join("."), &self.path("bundle"));
        }
        Built { made: self }
    }

    #[track_caller]
    fn steps(&self, steps: &[Step], work: &Path, result: &str) {
        // What was downloaded is kept for the next run.
        let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("downloads");
        fs::create_dir_all(&cache).unwrap();
        // The first is in the second's place too, and so comes before it.
        let places = [
            ("/layer", self.path("layer")),
            ("/out", self.path(result)),
            ("/home/build", self.path("home")),
            ("/cache", cache),
        ];
        let placed = |text: &str| {
            places.iter().fold(text.to_owned(), |text, (from, to)| {
                text.replace(from, to.to_str().unwrap())
            })
        };
        for step in steps {
            let words: Vec<String> = step.command.iter().map(|word| placed(word)).collect();
            let output = Command::new(&words[0])
                .args(&words[1..])
                .current_dir(work)
                .env_clear()
                .env("PATH", "/usr/local/bin:/usr/bin:/bin")
                .envs(step.env.iter().map(|(name, value)| (name, placed(value))))
                .output()
                .unwrap();
            assert!(
                output.status.success(),
                "{}: {}\n{}{}",
                step.title,
                output.status,
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            );
        }
    }
}

impl Built {
    /// A command in the bundle with the environment that the function would have. Paths are where things are here.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(self.made.path("bundle"))
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("HOME", "/tmp")
            .envs(
                self.made
                    .prepared
                    .env
                    .iter()
                    .map(|(name, value)| (name, self.placed(value))),
            );
        command
    }

    fn placed(&self, text: &str) -> String {
        text.replace("/home/app", self.made.path("bundle").to_str().unwrap())
            .replace("/layer", self.made.path("layer").to_str().unwrap())
    }

    /// Whether the bundle has this file.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.made.path("bundle").join(name).exists()
    }

    /// One process for one call: how it ended, and what it printed.
    #[track_caller]
    pub(crate) fn call(&self, body: &str, env: &[(&str, &str)]) -> (i32, String) {
        use std::io::Write as _;
        let process = self.placed(&self.made.prepared.process);
        let mut words = process.split(' ');
        let mut child = self
            .command(words.next().unwrap())
            .args(words)
            .envs(env.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(body.as_bytes()).unwrap();
        drop(stdin);
        let output = child.wait_with_output().unwrap();
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.code().unwrap_or(-1), printed)
    }

    /// Starts the server in a network of its own, waits until it listens, and gives what the shell's `requests` print.
    #[track_caller]
    pub(crate) fn serve(&self, requests: &str) -> String {
        self.serve_at(8082, &[], requests)
    }

    /// The same at another port, with variables that a deployment sets.
    #[track_caller]
    pub(crate) fn serve_at(&self, port: u16, env: &[(&str, &str)], requests: &str) -> String {
        let process = self.placed(&self.made.prepared.process);
        let script = format!(
            "ip link set lo up\n{process} >server.log 2>&1 &\nserver=$!\nwhile ! curl -s -o /dev/null $at; do\n\
             kill -0 $server || {{ cat server.log; exit 1; }}\ndone\n{requests}\nkill $server\nwait $server\necho \"ended with $?\"\n"
        );
        let output = self
            .command("unshare")
            .args(["-rn", "/bin/sh", "-c", &script])
            .envs(env.iter().copied())
            .env("at", format!("http://127.0.0.1:{port}"))
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}\n{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").args([from, to]).status();
    assert!(status.unwrap().success());
}
