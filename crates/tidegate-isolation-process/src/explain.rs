//! Why a program could not be executed, in words that say what to change.

use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Bytes of a file's head that are looked at: of a `#!` line the kernel reads 256, and a program's headers are a little
/// longer.
const HEAD: u64 = 1024;

/// Longest explanation of an image's program, in characters: it goes in one message.
const MAX_WHY: usize = 500;

/// The kernel's number with what it means for this file, or for this word that was looked up in `PATH`.
pub(crate) fn exec_error(bundle: &Path, entry: &str, looked_up: bool, errno: i32) -> io::Error {
    let kernel = io::Error::from_raw_os_error(errno);
    let text = if looked_up && errno == libc::ENOENT {
        format!(
            "{entry:?} cannot be run: no folder in PATH has a program of this name; one in the function's own folder is \
             named with './'"
        )
    } else {
        let head = own_file(bundle, entry).and_then(|file| head(&file));
        // What is not the function's own is for the sandbox alone to look at.
        explain(entry, head.or_else(unless_foreign), errno, None)
    };
    io::Error::new(kernel.kind(), text)
}

/// The same for a program of an image, seen from inside of it: `path` is where programs are looked for, `folder` where
/// they begin.
pub(crate) fn in_image(program: &str, path: &str, folder: &Path, errno: i32) -> String {
    let why = if program.contains('/') {
        explain_in_image(program, &folder.join(program), errno)
    } else {
        let found = path
            .split(':')
            .filter(|folder| folder.starts_with('/'))
            .map(|folder| Path::new(folder).join(program))
            .find(|file| fs::metadata(file).is_ok_and(|meta| meta.is_file()));
        match found {
            // One that is executable would have been found.
            Some(file) if errno == libc::ENOENT && !is_executable(&file) => {
                explain_in_image(program, &file, libc::EACCES)
            }
            Some(file) => explain_in_image(program, &file, errno),
            None => format!(
                "{program:?} cannot be run: no folder in PATH has a program of this name in the image; PATH is {path:?}{}",
                one_word(program)
            ),
        }
    };
    why.chars().take(MAX_WHY).collect()
}

/// What to say of a program whose name is most likely several words that were not meant as one.
fn one_word(program: &str) -> &'static str {
    if program.contains(char::is_whitespace) {
        "; that is one word, the program's name: give each word of a command by itself, as in \
         '--command sh --command -c', or in a document's list"
    } else {
        ""
    }
}

fn is_executable(file: &Path) -> bool {
    rustix::fs::access(file, rustix::fs::Access::EXEC_OK).is_ok()
}

fn explain_in_image(entry: &str, file: &Path, errno: i32) -> String {
    let head = match head(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let hint = one_word(entry);
            return format!("{entry:?} cannot be run: the image has no such file{hint}");
        }
        // What may be run need not be readable.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(Vec::new()),
        head => head,
    };
    explain(entry, head, errno, Some(file))
}

/// `image`: where the file is, if it is an image's.
fn explain(entry: &str, head: io::Result<Vec<u8>>, errno: i32, image: Option<&Path>) -> String {
    let in_image = image.is_some();
    let head = match head {
        Ok(head) => head,
        Err(error) => return format!("{entry:?} cannot be run: {error}"),
    };
    match errno {
        libc::ENOENT | libc::EACCES
            if head.starts_with(b"#!") && image.is_none_or(is_executable) =>
        {
            let line = head[2..].split(|&b| b == b'\n').next().unwrap_or_default();
            let line = String::from_utf8_lossy(line);
            let interpreter = line.split_whitespace().next().unwrap_or("nothing");
            let hint = if interpreter.ends_with('\r') || line.ends_with('\r') {
                "the line ends with a carriage return, as Windows editors write it; save the file with \\n alone"
            } else if in_image {
                "the image has to have it"
            } else {
                "of the machine's folders a function sees /usr, /bin, /sbin and /lib; name an interpreter there, \
                 or one in the bundle under /function"
            };
            format!(
                "{entry:?} cannot be run: its first line names {interpreter:?}, which is not there inside: {hint}"
            )
        }
        libc::ENOENT if head.starts_with(ELF) => {
            let loader = match loader(&head) {
                Some(loader) => format!("its dynamic loader {loader:?}"),
                None => "its dynamic loader".to_owned(),
            };
            let hint = if in_image {
                "the image has to have it, or the program be linked statically"
            } else {
                "link it statically or for this machine's C library"
            };
            format!("{entry:?} cannot be run: {loader} is not there inside; {hint}")
        }
        libc::ENOEXEC => match machine(&head) {
            Some(machine) if machine != std::env::consts::ARCH => format!(
                "{entry:?} cannot be run: it is built for {machine}, and this machine is {}",
                std::env::consts::ARCH
            ),
            _ => format!(
                "{entry:?} cannot be run: it is neither a program for this machine nor a script with a `#!` line"
            ),
        },
        libc::EACCES => format!(
            "{entry:?} cannot be run: permission denied; the file has to be executable and readable by everyone"
        ),
        libc::E2BIG => format!("{entry:?} cannot be run: its environment is too long"),
        _ => format!(
            "{entry:?} cannot be run: {}",
            io::Error::from_raw_os_error(errno)
        ),
    }
}

/// The file of the bundle that an entry is, as the function knows it, whatever links and dots there are in it. One that
/// is elsewhere is denied: the same path is another file outside of the sandbox, and none of a function's business.
fn own_file(bundle: &Path, entry: &str) -> io::Result<PathBuf> {
    let inside = ["/home/app/", "/function/"]
        .iter()
        .find_map(|folder| entry.strip_prefix(folder))
        .unwrap_or(entry);
    if inside.starts_with('/') {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    let file = bundle.join(inside).canonicalize()?;
    if file.starts_with(bundle.canonicalize()?) {
        Ok(file)
    } else {
        Err(io::ErrorKind::PermissionDenied.into())
    }
}

fn unless_foreign(error: io::Error) -> io::Result<Vec<u8>> {
    match error.kind() {
        io::ErrorKind::PermissionDenied => Ok(Vec::new()),
        _ => Err(error),
    }
}

/// The first bytes of a file. It may be anything, a pipe among others, and nothing is waited for.
fn head(file: &Path) -> io::Result<Vec<u8>> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(file)?;
    let meta = file.metadata()?;
    if !meta.is_file() {
        let kind = if meta.is_dir() { "folder" } else { "device" };
        return Err(io::Error::other(format!("it is a {kind}")));
    }
    let mut head = Vec::new();
    file.take(HEAD).read_to_end(&mut head)?;
    Ok(head)
}

/// How programs of this kind begin.
const ELF: &[u8] = b"\x7fELF";

/// The machine that a program is built for, as Rust names it.
fn machine(head: &[u8]) -> Option<&'static str> {
    if !head.starts_with(ELF) {
        return None;
    }
    let little = *head.get(5)? == 1;
    let number = [*head.get(18)?, *head.get(19)?];
    let number = if little {
        u16::from_le_bytes(number)
    } else {
        u16::from_be_bytes(number)
    };
    Some(match number {
        3 => "x86",
        21 => "powerpc64",
        22 => "s390x",
        40 => "arm",
        62 => "x86_64",
        183 => "aarch64",
        243 => "riscv64",
        258 => "loongarch64",
        _ => "another machine",
    })
}

/// The dynamic loader that a program of 64 bits names, where the name is among its first bytes, as it usually is.
fn loader(head: &[u8]) -> Option<String> {
    /// What kind of piece of the program names it, and how long the description of a piece is.
    const INTERP: u32 = 3;
    const SIZE: usize = 56;
    let is_64_little = *head.get(4)? == 2 && *head.get(5)? == 1;
    if !is_64_little {
        return None;
    }
    let number = |at: usize| -> Option<usize> {
        let bytes = head.get(at..at.checked_add(8)?)?.try_into().ok()?;
        usize::try_from(u64::from_le_bytes(bytes)).ok()
    };
    let first = number(32)?;
    let count = u16::from_le_bytes([*head.get(56)?, *head.get(57)?]);
    (0..usize::from(count)).find_map(|n| {
        let at = first.checked_add(n * SIZE)?;
        let kind = head.get(at..at.checked_add(4)?)?.try_into().ok()?;
        if u32::from_le_bytes(kind) != INTERP {
            return None;
        }
        let (from, len) = (number(at + 8)?, number(at + 32)?);
        let name = head.get(from..from.checked_add(len)?)?;
        let name = name.split(|&b| b == 0).next()?;
        Some(String::from_utf8_lossy(name).into_owned())
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

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
    fn an_images_program_is_looked_at_where_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_str().unwrap();
        let put = |name: &str, content: &[u8], mode| {
            let file = folder.path().join(name);
            std::fs::write(&file, content).unwrap();
            std::fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        };
        let check = |program: &str, errno, expected: &str| {
            let text = in_image(program, path, folder.path(), errno);
            assert!(text.contains(expected), "{text}");
            assert!(text.contains(&format!("{program:?}")), "{text}");
        };
        put("plain", b"#!/bin/sh\n", 0o644);
        put("foreign", &elf(183, b"/lib/ld-linux-aarch64.so.1"), 0o755);
        put("own", &elf(62, b"/lib/ld-musl-x86_64.so.1"), 0o755);
        check("missing", libc::ENOENT, "no folder in PATH");
        check("./missing", libc::ENOENT, "the image has no such file");
        check("plain", libc::ENOENT, "has to be executable");
        check("./plain", libc::EACCES, "has to be executable");
        check("foreign", libc::ENOEXEC, "is built for aarch64");
        check("own", libc::ENOENT, "\"/lib/ld-musl-x86_64.so.1\"");
        check("/", libc::EACCES, "it is a folder");
        for words in ["serve --port 80", "./serve --port 80"] {
            check(words, libc::ENOENT, "that is one word");
        }
        let long = in_image(&"x".repeat(5000), path, folder.path(), libc::ENOENT);
        assert_eq!(long.chars().count(), MAX_WHY);
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

    /// The head of a program for this machine that names this loader.
    fn elf(machine: u16, loader: &[u8]) -> Vec<u8> {
        let mut head = vec![0; 120];
        head[..6].copy_from_slice(b"\x7fELF\x02\x01");
        head[18..20].copy_from_slice(&machine.to_le_bytes());
        head[32] = 64;
        head[56] = 1;
        head[64] = 3;
        head[72] = 120;
        head[96] = u8::try_from(loader.len() + 1).unwrap();
        head.extend_from_slice(loader);
        head.push(0);
        head
    }
}
