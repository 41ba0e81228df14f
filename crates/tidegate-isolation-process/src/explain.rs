//! Why a program could not be executed, in words that say what to change.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Bytes of a file's head that are looked at; the kernel reads 256 for a `#!` line.
const HEAD: usize = 256;

/// The kernel's number with what it means for this file, or for this word that was looked up in `PATH`.
pub(crate) fn exec_error(bundle: &Path, entry: &str, looked_up: bool, errno: i32) -> io::Error {
    let kernel = io::Error::from_raw_os_error(errno);
    let text = if looked_up && errno == libc::ENOENT {
        format!(
            "{entry:?} cannot be run: no folder in PATH has a program of this name; one in the function's own folder is \
             named with './'"
        )
    } else {
        explain(bundle, entry, errno, &kernel)
    };
    io::Error::new(kernel.kind(), text)
}

fn explain(bundle: &Path, entry: &str, errno: i32, kernel: &io::Error) -> String {
    let head = match own_file(bundle, entry) {
        // Not the function's own, so what there is of it is for the sandbox to say.
        None => Vec::new(),
        Some(file) => match file.and_then(|file| head_of(bundle, &file)) {
            Ok(head) => head,
            Err(error) => return format!("{entry:?} cannot be run: {error}"),
        },
    };
    match errno {
        libc::ENOENT | libc::EACCES if head.starts_with(b"#!") => {
            let line = head[2..].split(|&b| b == b'\n').next().unwrap_or_default();
            let line = String::from_utf8_lossy(line);
            let interpreter = line.split_whitespace().next().unwrap_or("nothing");
            let hint = if interpreter.ends_with('\r') || line.ends_with('\r') {
                "the line ends with a carriage return, as Windows editors write it; save the file with \\n alone"
            } else {
                "of the machine's folders a function sees /usr, /bin, /sbin and /lib; name an interpreter there, \
                 or one in the bundle under /function"
            };
            format!(
                "{entry:?} cannot be run: its first line names {interpreter:?}, which is not there inside: {hint}"
            )
        }
        libc::ENOENT if head.starts_with(b"\x7fELF") => format!(
            "{entry:?} cannot be run: its dynamic loader is not there inside; link it statically or for this \
             machine's C library"
        ),
        libc::ENOEXEC => format!(
            "{entry:?} cannot be run: it is neither a program for this machine nor a script with a `#!` line"
        ),
        libc::EACCES => format!(
            "{entry:?} cannot be run: permission denied; the file has to be executable and readable by everyone"
        ),
        libc::E2BIG => format!("{entry:?} cannot be run: its environment is too long"),
        _ => format!("{entry:?} cannot be run: {kernel}"),
    }
}

/// The file of the bundle that an entry is, as the function knows it. `None` for one that is elsewhere: the same path is
/// another file outside of the sandbox, and none of a function's business.
fn own_file(bundle: &Path, entry: &str) -> Option<io::Result<PathBuf>> {
    let inside = ["/home/app/", "/function/"]
        .iter()
        .find_map(|folder| entry.strip_prefix(folder))
        .unwrap_or(entry);
    (!inside.starts_with('/')).then(|| bundle.join(inside).canonicalize())
}

fn head_of(bundle: &Path, file: &Path) -> io::Result<Vec<u8>> {
    // Whatever links and dots there are in it; and a pipe or a device is never waited for.
    if !file.starts_with(bundle.canonicalize()?) || !file.is_file() {
        return Err(io::Error::other("it is no file of the function's"));
    }
    let mut head = Vec::new();
    File::open(file)?.take(HEAD as u64).read_to_end(&mut head)?;
    Ok(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_names_what_is_wrong_with_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let check = |content: &[u8], errno, expected: &str| {
            std::fs::write(folder.path().join("f"), content).unwrap();
            let text = exec_error(folder.path(), "f", false, errno).to_string();
            assert!(text.contains(expected), "{text}");
        };
        check(b"#!/opt/tool -x\n", libc::ENOENT, "names \"/opt/tool\"");
        check(b"#!/bin/sh\r\necho\r\n", libc::ENOENT, "carriage return");
        check(b"\x7fELF....", libc::ENOENT, "dynamic loader");
        check(b"echo hello\n", libc::ENOEXEC, "`#!` line");
        check(b"#!/bin/sh\n", libc::E2BIG, "environment is too long");
        let text = exec_error(folder.path(), "/home/app/f", false, libc::ENOEXEC).to_string();
        assert!(text.contains("`#!` line"), "{text}");
        let text = exec_error(folder.path(), "f", true, libc::ENOENT).to_string();
        assert!(text.contains("no folder in PATH"), "{text}");
        let text = exec_error(folder.path(), "./missing", false, libc::ENOENT).to_string();
        assert!(text.contains("\"./missing\""), "{text}");
    }
    #[test]
    fn no_file_of_the_machine_is_looked_at() {
        let outside = tempfile::tempdir().unwrap();
        let secret = outside.path().join("secret");
        std::fs::write(&secret, "#!/what/stands/here\n").unwrap();
        let bundle = outside.path().join("bundle");
        std::fs::create_dir(&bundle).unwrap();
        std::os::unix::fs::symlink(&secret, bundle.join("link")).unwrap();
        for entry in [
            secret.to_str().unwrap(),
            "../secret",
            "/home/app/../secret",
            "link",
        ] {
            let text = exec_error(&bundle, entry, false, libc::ENOENT).to_string();
            assert!(!text.contains("stands"), "{text}");
            assert!(text.contains("cannot be run"), "{text}");
        }
    }
}
