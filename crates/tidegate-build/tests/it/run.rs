//! Runs a plan without walls: the folders of a step stand in a temporary one, and their names in commands and environment
//! are replaced.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tidegate_build::{HOME, Plan, Runtime, Step, ToolPaths, Tools, Wanted, plan};

/// A place where plans are run.
pub(crate) struct Place {
    folder: tempfile::TempDir,
    tools: Tools,
}

/// What came of a plan.
pub(crate) struct Built {
    pub(crate) plan: Plan,
    pub(crate) layer: Option<PathBuf>,
    pub(crate) out: Option<PathBuf>,
}

impl Place {
    pub(crate) fn new() -> Self {
        let paths = ToolPaths::from_env(|name| std::env::var_os(name));
        let folder = tempfile::tempdir().unwrap();
        for name in ["cache", "home"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        Self {
            folder,
            tools: Tools::find(paths),
        }
    }

    /// Writes a source folder.
    pub(crate) fn source(&self, name: &str, files: &[(&str, &str)]) -> PathBuf {
        let root = self.folder.path().join("sources").join(name);
        for (path, content) in files {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        root
    }

    /// Plans and runs both stages; an error is the plan's, or the output of the step that failed.
    pub(crate) fn build(&self, source: &Path, wanted: &Wanted, run: &str) -> Result<Built, String> {
        let plan = plan(source, wanted, &self.tools).map_err(|e| e.to_string())?;
        let at = self.folder.path().join("runs").join(run);
        let mut built = Built {
            layer: None,
            out: None,
            plan,
        };
        if let Some(stage) = &built.plan.dependencies {
            let (work, out) = folders(&at.join("dependencies"));
            stage.fill(source, &work).unwrap();
            self.steps(&stage.steps, &work, &out, None)?;
            built.layer = Some(out);
        }
        if let Some(stage) = &built.plan.compile {
            let (work, out) = folders(&at.join("compile"));
            copy(source, &work);
            stage.write_files(&work).unwrap();
            self.steps(&stage.steps, &work, &out, built.layer.as_deref())?;
            assert!(
                out.join(&stage.entry).exists(),
                "{} was not made",
                stage.entry
            );
            built.out = Some(out);
        }
        Ok(built)
    }

    fn steps(
        &self,
        steps: &[Step],
        work: &Path,
        out: &Path,
        layer: Option<&Path>,
    ) -> Result<(), String> {
        let root = self.folder.path();
        let place = |text: &str| {
            let mut text = text.to_owned();
            for (inside, outside) in [
                (HOME, root.join("home")),
                ("/out", out.to_owned()),
                ("/cache", root.join("cache")),
                ("/stage", work.to_owned()),
                ("/layer", layer.unwrap_or(Path::new("/layer")).to_owned()),
            ] {
                text = replace(&text, inside, &outside.to_string_lossy());
            }
            text
        };
        for step in steps {
            let output = Command::new(place(&step.command[0]))
                .args(step.command[1..].iter().map(|a| place(a)))
                .env_clear()
                .env("PATH", "/usr/local/bin:/usr/bin:/bin")
                .env("LANG", "C.UTF-8")
                .envs(step.env.iter().map(|(k, v)| (k, place(v))))
                .current_dir(work)
                .output()
                .unwrap();
            if !output.status.success() {
                return Err(format!(
                    "{}\n{}{}",
                    step.title,
                    String::from_utf8_lossy(&output.stdout),
                    String::from_utf8_lossy(&output.stderr)
                ));
            }
        }
        Ok(())
    }
}

/// What a test wants of a language.
pub(crate) fn wanted(runtime: Runtime, contract: &str, entry: &str) -> Wanted {
    Wanted {
        runtime,
        contract: contract.into(),
        entry: entry.into(),
        ..Wanted::default()
    }
}

/// Runs a program to its end and gives what it wrote.
pub(crate) fn output(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

fn folders(at: &Path) -> (PathBuf, PathBuf) {
    let (work, out) = (at.join("work"), at.join("out"));
    fs::create_dir_all(&work).unwrap();
    fs::create_dir_all(&out).unwrap();
    (work, out)
}

fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp")
        .arg("-a")
        .arg(from.join("."))
        .arg(to)
        .status()
        .unwrap();
    assert!(status.success());
}

/// Replaces a path, but not the beginning of a longer word, and not the middle of another path.
fn replace(text: &str, inside: &str, outside: &str) -> String {
    let mut made = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(inside) {
        let (before, found) = rest.split_at(at);
        let after = &found[inside.len()..];
        let begins = !before.ends_with(|c: char| c.is_alphanumeric() || "._-/}".contains(c));
        let ends = !after.starts_with(|c: char| c.is_alphanumeric() || "._-".contains(c));
        made.push_str(before);
        made.push_str(if begins && ends { outside } else { inside });
        rest = after;
    }
    made + rest
}
