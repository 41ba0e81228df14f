//! The target folder that all clones on a machine share.
//!
//! The dependencies take nearly all of the build, and they are the same for every clone, so a second clone should not pay
//! for them again. Cargo's own crates are the catch: it names their artefacts by their path *inside* the workspace and
//! judges freshness by file times, so a clone whose files are older than another clone's build would silently be handed
//! the other's program. Two things prevent that: one chore at a time holds the folder, and when the folder was last used
//! by another clone, cargo is made to forget the workspace's own crates (never the dependencies).

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::{paths, signals};

/// Longest wait for another clone's chore, which is itself held to less than this.
const LONGEST_WAIT: Duration = Duration::from_secs(45 * 60);
/// A recorded path is shorter than this.
const LONGEST_PATH: u64 = 16 * 1024;

/// The target folder, held for this clone until dropped.
pub(crate) struct Target {
    path: PathBuf,
    root: PathBuf,
    _held: File,
}

impl Target {
    /// Waits for the folder and takes it.
    pub(crate) fn claim() -> Result<Self> {
        let root = paths::root()?;
        let path = match std::env::var_os("CARGO_TARGET_DIR") {
            Some(path) => std::path::absolute(path).context("CARGO_TARGET_DIR is empty")?,
            None => paths::cache()?.join("target"),
        };
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        let name = path.join("tidegate.lock");
        let mut held = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&name)
            .with_context(|| format!("cannot open {}", name.display()))?;
        lock(&held, &name)?;

        let mut last = String::new();
        (&held).take(LONGEST_PATH).read_to_string(&mut last)?;
        let own = root.display().to_string();
        if last != own {
            forget_own_crates(&path, &root)?;
            held.set_len(0)?;
            held.rewind()?;
            held.write_all(own.as_bytes())?;
        }
        Ok(Self {
            path,
            root,
            _held: held,
        })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// A program that the release build made.
    pub(crate) fn release(&self, program: &str) -> PathBuf {
        self.path.join("release").join(program)
    }

    /// A cargo command that builds into this folder.
    pub(crate) fn cargo(&self, words: &[&str]) -> Command {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        // `cargo run` describes this program to itself by these; build scripts that look at them would run again
        // whenever a build by hand and a chore take turns.
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
                cargo.env_remove(&name);
            }
        }
        cargo
            .args(words)
            .current_dir(&self.root)
            .env("CARGO_TARGET_DIR", &self.path);
        // What makes the next build shorter is the larger part of the folder, and a machine of continuous integration
        // builds once.
        if std::env::var_os("CI").is_some() {
            cargo.env("CARGO_INCREMENTAL", "0");
        }
        cargo
    }
}

fn lock(file: &File, name: &Path) -> Result<()> {
    let until = Instant::now() + LONGEST_WAIT;
    let mut said = false;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => {
                return Err(error).context(format!("cannot lock {}", name.display()));
            }
        }
        if !said {
            eprintln!("another chore holds {}; waiting for it", name.display());
            said = true;
        }
        if signals::interrupted() || Instant::now() > until {
            bail!("another chore still holds {}", name.display());
        }
        thread::sleep(Duration::from_millis(200));
    }
}

fn forget_own_crates(target: &Path, root: &Path) -> Result<()> {
    let mut own = vec!["xtask".to_owned()];
    for entry in fs::read_dir(root.join("crates"))? {
        own.push(entry?.file_name().to_string_lossy().into_owned());
    }
    for profile in ["debug", "release"] {
        let Ok(entries) = fs::read_dir(target.join(profile).join(".fingerprint")) else {
            continue;
        };
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name();
            // `package-0123456789abcdef`
            let package = name.to_string_lossy();
            if let Some((package, _)) = package.rsplit_once('-')
                && own.iter().any(|own| own == package)
            {
                fs::remove_dir_all(entry.path())
                    .with_context(|| format!("cannot remove {}", entry.path().display()))?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::forget_own_crates;
    use crate::scratch::Scratch;
    use std::fs;

    #[test]
    fn only_own_crates_are_forgotten() {
        let scratch = Scratch::new("target-test").unwrap();
        let (root, target) = (scratch.path().join("root"), scratch.path().join("target"));
        fs::create_dir_all(root.join("crates/tidegate-core")).unwrap();
        let prints = target.join("release/.fingerprint");
        for name in [
            "tidegate-core-0011223344556677",
            "xtask-0011223344556677",
            "hyper-0011223344556677",
            "tidegate-core-extra-0011223344556677",
        ] {
            fs::create_dir_all(prints.join(name)).unwrap();
        }
        forget_own_crates(&target, &root).unwrap();
        let mut left: Vec<_> = fs::read_dir(&prints)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(
            left,
            [
                "hyper-0011223344556677",
                "tidegate-core-extra-0011223344556677"
            ]
        );
    }
}
