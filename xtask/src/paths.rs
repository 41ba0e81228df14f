//! Where things are.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Debian's interpreter by its full name: another `python3` earlier in `PATH` may lack its packages and start slowly.
pub(crate) const PYTHON: &str = "/usr/bin/python3";

/// The workspace's folder. Asked of the environment that `cargo run` sets rather than fixed at compile time, because with
/// a shared target folder this very program may have been compiled by another clone.
pub(crate) fn root() -> Result<PathBuf> {
    let here = match env::var_os("CARGO_MANIFEST_DIR") {
        Some(manifest) => PathBuf::from(manifest),
        None => env::current_dir().context("the current directory is gone")?,
    };
    here.ancestors()
        .find(|folder| folder.join("Cargo.lock").is_file() && folder.join("crates").is_dir())
        .map(Path::to_path_buf)
        .context("not inside the workspace; run it as cargo xtask")
}

/// What survives between runs and clones: `$XDG_CACHE_HOME/tidegate`, else `~/.cache/tidegate`.
pub(crate) fn cache() -> Result<PathBuf> {
    let set = |name| {
        env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let base = match set("XDG_CACHE_HOME") {
        Some(cache) => cache,
        None => set("HOME")
            .context("neither XDG_CACHE_HOME nor HOME is set, so there is nowhere to keep builds")?
            .join(".cache"),
    };
    Ok(base.join("tidegate"))
}

/// The program's full path where `PATH` has it.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

/// The same, also where its makers' own instructions put a tool without telling `PATH`.
pub(crate) fn find_tool(name: &str) -> Option<PathBuf> {
    find_program(name).or_else(|| {
        let home = env::var_os("HOME").map(PathBuf::from)?;
        [PathBuf::from("/usr/local/go/bin"), home.join(".cargo/bin")]
            .iter()
            .map(|folder| folder.join(name))
            .find(|file| file.is_file())
    })
}
