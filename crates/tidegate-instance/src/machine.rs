//! What isolations show of the machine's own files.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

/// Copies a file or a folder of the machine's to where instances see it: what everyone may read and nothing else, since
/// private keys live beside certificates. What is not there is no error. At most so many folders deep, and `left` bytes,
/// of which it takes what it copies.
pub fn copy_readable(from: &Path, to: &Path, depth: u32, left: &mut u64) -> io::Result<()> {
    let Ok(meta) = fs::symlink_metadata(from) else {
        return Ok(());
    };
    if meta.is_symlink() {
        return symlink(fs::read_link(from)?, to);
    }
    let readable = meta.permissions().mode() & 0o004 != 0;
    if meta.is_dir() && readable && depth > 0 {
        fs::create_dir(to)?;
        mode(to, 0o755)?;
        for entry in fs::read_dir(from)?.flatten() {
            copy_readable(&entry.path(), &to.join(entry.file_name()), depth - 1, left)?;
        }
    } else if meta.is_file() && readable && meta.len() <= *left {
        *left -= meta.len();
        fs::copy(from, to)?;
        mode(to, 0o644)?;
    }
    Ok(())
}

fn mode(path: &Path, bits: u32) -> io::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(bits))
}
