//! `RUN`, as far as it can be honoured without running it.
//!
//! What prepares an image (users, owners, folders, system packages) has no counterpart and no effect; what installs
//! packages from a manifest is what a build here does as well. Everything else would make files that are then not there,
//! so it is a mistake that names its line.

use super::install::{self, Install};
use super::lex::{Line, split};
use super::parse::Form;
use super::stage::{Origin, Placed, Stage, absolute, last};
use crate::WatchdogKind;

/// System packages whose programs are those of the machine, or that only an installation needs.
const PACKAGES: &[&str] = &[
    "apt-transport-https",
    "bash",
    "bison",
    "build-base",
    "build-essential",
    "ca-certificates",
    "cargo",
    "composer",
    "coreutils",
    "curl",
    "default-jre",
    "default-jre-headless",
    "dumb-init",
    "findutils",
    "flex",
    "g++",
    "gcc",
    "git",
    "gnupg",
    "libc-dev",
    "libc6-dev",
    "libffi-dev",
    "libressl-dev",
    "libssl-dev",
    "linux-headers",
    "linux-headers-generic",
    "lsb-release",
    "make",
    "musl-dev",
    "nodejs",
    "npm",
    "openssh-client",
    "openssl",
    "openssl-dev",
    "perl",
    "php",
    "php-cli",
    "pkg-config",
    "pkgconfig",
    "py-pip",
    "py3-pip",
    "python",
    "python-dev",
    "python3",
    "python3-dev",
    "python3-pip",
    "python3-setuptools",
    "python3-venv",
    "py3-setuptools",
    "py3-wheel",
    "ruby",
    "ruby-bundler",
    "ruby-dev",
    "rust",
    "shadow",
    "tar",
    "tzdata",
    "unzip",
    "wget",
    "zlib-dev",
    "zlib1g-dev",
];

/// Honours one `RUN`.
///
/// # Errors
/// Why it cannot be.
pub(super) fn run(stage: &mut Stage, line: &Line, form: &Form) -> Result<(), String> {
    let mut folder = stage.workdir.clone();
    match form {
        Form::Exec(words) => command(stage, line, &mut folder, words.clone()),
        Form::Shell(text) => {
            for (operator, text) in commands(text)? {
                match operator {
                    Operator::Pipe => {
                        return Err("what is piped into a command is not made".to_owned());
                    }
                    // Only runs where the one before it has failed.
                    Operator::Or => continue,
                    Operator::Then => {}
                }
                let mut words = Vec::new();
                for word in split(&text, '\\') {
                    if word.contains("$(") || word.contains('`') {
                        return Err("what another command prints is not known".to_owned());
                    }
                    words.push(stage.expand(&word, '\\')?);
                }
                command(stage, line, &mut folder, words)?;
            }
            Ok(())
        }
    }
}

/// Whether a mode of `chmod` makes a file executable.
pub(super) fn makes_executable(mode: &str) -> bool {
    if mode.chars().all(|c| c.is_ascii_digit()) && mode.len() >= 3 {
        let owner = mode.chars().rev().nth(2).and_then(|c| c.to_digit(8));
        return owner.is_some_and(|bits| bits & 1 == 1);
    }
    mode.split(',').any(|part| {
        part.split_once(['+', '='])
            .is_some_and(|(_, bits)| bits.contains(['x', 'X']))
    })
}

/// How a command follows the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Then,
    Or,
    Pipe,
}

/// Splits a line for the shell into its commands.
fn commands(text: &str) -> Result<Vec<(Operator, String)>, String> {
    let mut found = Vec::new();
    let mut operator = Operator::Then;
    let mut command = String::new();
    let mut quote = None;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let next = match (quote, c) {
            (Some(open), c) => {
                if c == open {
                    quote = None;
                }
                None
            }
            (None, '\'' | '"') => {
                quote = Some(c);
                None
            }
            (None, '\\') => {
                command.push(c);
                command.extend(chars.next());
                continue;
            }
            (None, '&') if chars.next_if_eq(&'&').is_some() => Some(Operator::Then),
            // `2>&1` and `&>` are redirections.
            (None, '&') if command.ends_with('>') || chars.peek() == Some(&'>') => None,
            (None, '&') => return Err("nothing runs in the background of a build".to_owned()),
            (None, ';') => Some(Operator::Then),
            (None, '|') if chars.next_if_eq(&'|').is_some() => Some(Operator::Or),
            (None, '|') => Some(Operator::Pipe),
            (None, '(' | ')') if !command.ends_with('$') && !command.contains("$(") => {
                return Err("a group of commands is not taken apart".to_owned());
            }
            _ => None,
        };
        match next {
            None => command.push(c),
            Some(next) => {
                found.push((operator, std::mem::take(&mut command)));
                operator = next;
            }
        }
    }
    found.push((operator, command));
    found.retain(|(_, command)| !command.trim().is_empty());
    Ok(found)
}

fn command(
    stage: &mut Stage,
    line: &Line,
    folder: &mut String,
    words: Vec<String>,
) -> Result<(), String> {
    let (mut words, output) = redirected(words)?;
    // Variables for one command.
    let own = words
        .iter()
        .take_while(|word| {
            word.split_once('=').is_some_and(|(name, _)| {
                !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
            })
        })
        .count();
    words.drain(..own);
    if words
        .first()
        .is_some_and(|word| word == "sudo" || word == "exec")
    {
        words.remove(0);
    }
    let Some(program) = words.first().map(|word| last(word).to_owned()) else {
        return Ok(());
    };
    let arguments = &words[1..];
    if output.is_some() && !matches!(&*program, "curl" | "wget") {
        return Err("the file that its output goes into is not made".to_owned());
    }
    let plain = || arguments.iter().filter(|word| !word.starts_with('-'));
    let install = match &*program {
        "true" | ":" | "echo" | "printf" | "set" | "ls" | "test" | "[" | "exit" | "sync"
        | "date" | "whoami" | "id" | "export" | "unset" => None,
        // Only leaves less behind.
        "find" if !arguments.iter().any(|word| word.starts_with("-exec")) => None,
        "update-ca-certificates"
        | "ldconfig"
        | "addgroup"
        | "adduser"
        | "groupadd"
        | "useradd"
        | "usermod"
        | "groupmod"
        | "deluser"
        | "delgroup"
        | "passwd"
        | "chown"
        | "chgrp"
        | "setcap" => {
            stage.ignored.insert(line.number);
            None
        }
        "cd" => {
            *folder = absolute(folder, plain().next().map_or("/", String::as_str));
            None
        }
        "mkdir" => {
            for path in plain() {
                stage.folders.insert(absolute(folder, path));
            }
            None
        }
        "chmod" => {
            let mut paths = plain();
            let makes = paths.next().is_some_and(|mode| makes_executable(mode));
            for path in paths {
                let path = absolute(folder, path);
                let inside = format!("{path}/");
                for (name, file) in &mut stage.files {
                    if makes && (*name == path || name.starts_with(&inside)) {
                        file.executable = true;
                    }
                }
            }
            None
        }
        "rm" => {
            for path in plain() {
                let path = absolute(folder, path);
                let inside = format!("{path}/");
                stage.files.retain(|name, _| {
                    *name != path
                        && !name.starts_with(&inside)
                        && !super::glob::matches(&path, name)
                });
            }
            None
        }
        "apk" | "apt-get" | "apt" | "yum" | "dnf" | "microdnf" => {
            packages(stage, line, arguments)?;
            None
        }
        "curl" | "wget" => {
            download(stage, line, folder, arguments, output)?;
            None
        }
        "pip" | "pip3" => pip(stage, folder, arguments)?,
        "python" | "python3" if words.get(1..3).is_some_and(|w| w == ["-m", "pip"]) => {
            pip(stage, folder, &words[3..])?
        }
        "npm" | "yarn" | "pnpm" => install::node(stage, folder, &program, arguments)?,
        "bundle" => install::bundle(stage, folder, arguments)?,
        "composer" => install::composer(stage, folder, arguments)?,
        _ if arguments
            .iter()
            .all(|w| matches!(&**w, "--version" | "-v" | "-version" | "version"))
            && !arguments.is_empty() =>
        {
            None
        }
        program => {
            return Err(format!(
                "nothing of an image is run, so {program} makes nothing; put what it makes into the folder"
            ));
        }
    };
    if let Some(install) = install {
        stage.installs.push((line.clone(), install));
    }
    Ok(())
}

fn pip(stage: &Stage, folder: &str, words: &[String]) -> Result<Option<Install>, String> {
    match words.first().map(String::as_str) {
        Some("install") => install::pip(stage, folder, &words[1..]),
        Some("cache" | "config" | "--version" | "check" | "list" | "freeze") => Ok(None),
        _ => Err("of pip only install is done".to_owned()),
    }
}

/// The command without its redirections, and the file that standard output goes into.
fn redirected(words: Vec<String>) -> Result<(Vec<String>, Option<String>), String> {
    let mut kept = Vec::new();
    let mut output = None;
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let bare = word.trim_start_matches(['1', '2', '&']);
        let Some(file) = bare
            .strip_prefix('>')
            .map(|file| file.trim_start_matches('>'))
        else {
            if word.starts_with('<') {
                return Err("what goes into a command from a file is not read".to_owned());
            }
            kept.push(word);
            continue;
        };
        let is_error = word.starts_with('2');
        let file = match file {
            "" => words.next().unwrap_or_default(),
            file => file.to_owned(),
        };
        if !is_error && !file.starts_with('&') && file != "/dev/null" {
            output = Some(file);
        }
    }
    Ok((kept, output))
}

fn packages(stage: &mut Stage, line: &Line, words: &[String]) -> Result<(), String> {
    let mut words = words.iter();
    let mut verb = None;
    let mut named = Vec::new();
    while let Some(word) = words.next() {
        match &**word {
            "-t" | "--virtual" | "--repository" | "-X" | "-o" => {
                words.next();
            }
            word if word.starts_with('-') => {}
            word if verb.is_none() => verb = Some(word),
            word => {
                let end = word.find(['=', '~', '<', '>', '@']).unwrap_or(word.len());
                named.push(&word[..end]);
            }
        }
    }
    if !matches!(verb, Some("add" | "install")) {
        return Ok(());
    }
    let known = |name: &&&str| {
        PACKAGES.contains(name)
            || name.starts_with('.')
            || name.starts_with("openjdk")
            || name.starts_with("php8")
            || name.starts_with("php7")
    };
    if let Some(other) = named.iter().find(|name| !known(name)) {
        return Err(format!(
            "system packages are those of this machine, and what {other} brings may not be there; install it here and leave \
             the line out, or put its files into the folder"
        ));
    }
    stage.notes.push(format!(
        "Dockerfile line {}: system packages are those of this machine; not installed: {}",
        line.number,
        named.join(", ")
    ));
    Ok(())
}

/// A watchdog that is fetched is known by its address; nothing else is fetched.
fn download(
    stage: &mut Stage,
    line: &Line,
    folder: &str,
    words: &[String],
    output: Option<String>,
) -> Result<(), String> {
    let address = words.iter().find(|word| word.contains("://"));
    let Some(address) = address.filter(|a| a.contains("openfaas") && a.contains("watchdog")) else {
        return Err("nothing is fetched for it; put the file into the folder".to_owned());
    };
    let kind = if address.contains("of-watchdog") {
        WatchdogKind::OfWatchdog
    } else {
        WatchdogKind::ClassicWatchdog
    };
    let after = |flag: &str| {
        let at = words.iter().position(|word| word == flag)?;
        words.get(at + 1).cloned()
    };
    let to = output
        .or_else(|| after("-o"))
        .or_else(|| after("--output"))
        .or_else(|| after("-O").filter(|to| !to.contains("://")))
        .unwrap_or_else(|| last(address).to_owned());
    let placed = Placed {
        origin: Origin::Watchdog(kind),
        executable: true,
        line: line.clone(),
    };
    stage.files.insert(absolute(folder, &to), placed);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_taken_apart() {
        let found = commands("a 'x && y' && b; c || d\\;e").unwrap();
        let expected = [
            (Operator::Then, "a 'x && y' "),
            (Operator::Then, " b"),
            (Operator::Then, " c "),
            (Operator::Or, " d\\;e"),
        ];
        assert_eq!(found, expected.map(|(o, c)| (o, c.to_owned())));
        assert_eq!(commands("a | b").unwrap()[1].0, Operator::Pipe);
        assert_eq!(commands("a > b 2>&1").unwrap().len(), 1);
        assert!(commands("a & b").is_err());
        assert!(commands("(a; b)").is_err());
    }

    #[test]
    fn modes() {
        for mode in ["+x", "a+x", "u=rwx", "755", "0755", "777", "u+rw,g+x"] {
            assert!(makes_executable(mode), "{mode}");
        }
        for mode in ["644", "-x", "u-x", "+r", "a=rw", "", "0"] {
            assert!(!makes_executable(mode), "{mode}");
        }
    }
}
