//! What of a context's Dockerfile has an effect here, and remarks on what has none.
//!
//! No Dockerfile is run. That of a template is known, so its lines need no remark; but people change their copy. What they
//! set by `ENV` holds, since it is the function's environment. What they install, copy or start is named with its line, so
//! that nobody looks for it in vain. Lines are told apart by what they do rather than compared with any version of a
//! template's file.

use std::cell::Cell;
use std::collections::BTreeMap;

use super::dockerfile::lex::{self, Line};
use super::{Context, TemplateError};

/// Remarks at most: who has more has another image in mind.
const MAX_REMARKS: usize = 20;

/// Characters of a line that a remark shows.
const MAX_SHOWN: usize = 80;

/// Files that the template itself copies, and the handler's folder with what is below it.
const COPIED: &[&str] = &[
    "index.py",
    "index.js",
    "requirements.txt",
    "package.json",
    "package*.json",
    "*.json",
    "function",
];

/// What the templates install themselves; compilers serve the installing of packages, which sees this machine's.
const PACKAGES: &[&str] = &[
    "curl",
    "ca-certificates",
    "openssl",
    "openssl-dev",
    "libffi-dev",
    "gcc",
    "g++",
    "make",
    "musl-dev",
    "build-base",
    "python3",
    "python3-dev",
    "git",
    "bash",
];

/// What pip is told to install by the templates themselves.
const PIP: &[&str] = &["pip", "setuptools", "wheel", "tox", "flask", "waitress"];

/// Programs whose effect is within the image alone, or which the build here does in its own way.
const HARMLESS: &[&str] = &[
    "", ":", "[", "adduser", "addgroup", "useradd", "groupadd", "chmod", "chown", "mkdir", "touch",
    "rm", "echo", "true", "tox", "eval", "cd", "ls", "if", "then", "else", "fi", "test", "set",
];

/// What a Dockerfile says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Said {
    /// Its `ENV`, but for what only the image itself needs.
    pub(super) env: BTreeMap<String, String>,
    /// What has no effect here, one sentence each.
    pub(super) notes: Vec<String>,
}

/// Reads a context's Dockerfile, if it has one, and its build's arguments.
pub(super) fn read(context: &Context<'_>) -> Result<Said, TemplateError> {
    let mut said = Said::default();
    for (name, value) in &context.config.build_args {
        match &**name {
            "ADDITIONAL_PACKAGE" if value.trim().is_empty() => {}
            "ADDITIONAL_PACKAGE" => said.notes.push(format!(
                "the packages {} are not installed; the function sees those of this machine",
                value.trim()
            )),
            "TEST_ENABLED" | "TEST_COMMAND" => {}
            _ => said
                .notes
                .push(format!("the build argument {name} has no effect here")),
        }
    }
    if let Some(text) = context.text("Dockerfile")? {
        Reader::new(&mut said, &context.config.build_args).read(&text);
    }
    if said.notes.len() > MAX_REMARKS {
        let left = said.notes.len() - MAX_REMARKS;
        said.notes.truncate(MAX_REMARKS);
        said.notes.push(format!(
            "{left} more lines of the Dockerfile have no effect here"
        ));
    }
    Ok(said)
}

/// Goes through a Dockerfile from its first line to its last. Stages are not told apart: those of the templates follow on
/// each other.
struct Reader<'a> {
    said: &'a mut Said,
    given: &'a BTreeMap<String, String>,
    arguments: BTreeMap<String, String>,
    escape: char,
}

impl<'a> Reader<'a> {
    fn new(said: &'a mut Said, given: &'a BTreeMap<String, String>) -> Self {
        Self {
            said,
            given,
            arguments: BTreeMap::new(),
            escape: '\\',
        }
    }

    fn read(&mut self, text: &str) {
        let (lines, escape) = lex::lines(text);
        self.escape = escape;
        for line in &lines {
            self.instruction(line);
        }
    }

    fn instruction(&mut self, line: &Line) {
        let (word, rest) = line
            .text
            .split_once(char::is_whitespace)
            .unwrap_or((&line.text, ""));
        let rest = rest.trim();
        let without_effect = match word.to_ascii_uppercase().as_str() {
            "ENV" => {
                self.variables(line.number, rest);
                false
            }
            "ARG" => {
                self.argument(rest);
                false
            }
            "RUN" => !self.is_known_run(rest),
            "COPY" | "ADD" => !is_known_copy(rest),
            "CMD" | "ENTRYPOINT" => !rest.contains("fwatchdog"),
            "VOLUME" | "ONBUILD" => true,
            _ => false,
        };
        if without_effect {
            let mut shown: String = line.text.chars().take(MAX_SHOWN).collect();
            if shown.len() < line.text.len() {
                shown.push('…');
            }
            self.said.notes.push(format!(
                "Dockerfile line {} has no effect here: {shown}",
                line.number
            ));
        }
    }

    /// `a=b c="d e"`, or the old `a b`.
    fn variables(&mut self, number: usize, text: &str) {
        let words = lex::split(text, self.escape);
        let first = words.first().map_or("", String::as_str);
        let pairs: Vec<(&str, &str)> = if first.contains('=') {
            words
                .iter()
                .filter_map(|word| word.split_once('='))
                .collect()
        } else {
            vec![(first, text[first.len()..].trim())]
        };
        for (name, value) in pairs {
            if name == "PATH" {
                continue;
            }
            match self.expand(value) {
                Some(value) => {
                    self.said.env.insert(name.to_owned(), value);
                }
                None => self.said.notes.push(format!(
                    "Dockerfile line {number}: {name} is not set, since its value has a variable that is not known here"
                )),
            }
        }
    }

    fn argument(&mut self, text: &str) {
        for word in lex::split(text, self.escape) {
            let (name, default) = word.split_once('=').unwrap_or((&word, ""));
            let value = match self.given.get(name) {
                Some(given) => Some(given.clone()),
                None => self.expand(default),
            };
            if let Some(value) = value {
                self.arguments.insert(name.to_owned(), value);
            }
        }
    }

    /// A word without its quotes, its variables replaced; `None` where one is not known.
    fn expand(&self, word: &str) -> Option<String> {
        let unknown = Cell::new(false);
        let value = |name: &str| {
            let found = self.said.env.get(name).or_else(|| self.arguments.get(name));
            unknown.set(unknown.get() || found.is_none());
            found.map(String::as_str)
        };
        let expanded = lex::expand(word, self.escape, &value).ok()?;
        (!unknown.get()).then_some(expanded)
    }

    fn is_known_run(&self, rest: &str) -> bool {
        let rest = match rest.strip_prefix("--") {
            // Mounts and the like.
            Some(flag) => flag.split_once(char::is_whitespace).map_or("", |(_, r)| r),
            None => rest,
        };
        !rest.starts_with("<<")
            && rest
                .split([';', '&', '|'])
                .all(|command| is_known_command(&lex::split(command, self.escape)))
    }
}

fn is_known_copy(rest: &str) -> bool {
    let words: Vec<&str> = rest.split_whitespace().collect();
    if words.iter().any(|word| word.starts_with("--from=")) {
        return words.iter().any(|word| word.contains("fwatchdog"));
    }
    let mut paths: Vec<&str> = words
        .into_iter()
        .filter(|word| !word.starts_with("--"))
        .collect();
    paths.pop();
    paths.iter().all(|path| {
        let path = path.trim_start_matches("./").trim_end_matches('/');
        path == "." || COPIED.contains(&path.split('/').next().unwrap_or(path))
    })
}

fn is_known_command(words: &[String]) -> bool {
    let program = words.first().map_or("", String::as_str);
    let rest: Vec<&str> = words.iter().skip(1).map(String::as_str).collect();
    match program {
        "apk" | "apt-get" | "apt" => installs(&rest, |name| {
            PACKAGES.contains(&name) || name.contains("ADDITIONAL_PACKAGE")
        }),
        "pip" | "pip3" => is_known_pip(&rest),
        "python" | "python3" if rest.first() == Some(&"-m") => match rest.get(1) {
            Some(&"pip") => is_known_pip(&rest[2..]),
            Some(&"tox") => true,
            _ => false,
        },
        "npm" => match rest.first() {
            Some(&("i" | "install" | "ci" | "test" | "t")) => {
                rest[1..].iter().all(|word| word.starts_with('-'))
                    && !rest.iter().any(|word| matches!(*word, "-g" | "--global"))
            }
            Some(&"run") => rest.get(1) == Some(&"test"),
            _ => false,
        },
        "curl" | "wget" => words.iter().any(|word| word.contains("fwatchdog")),
        _ => HARMLESS.contains(&program),
    }
}

/// Whether a package manager is told to install only what is known.
fn installs(words: &[&str], known: impl Fn(&str) -> bool) -> bool {
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match *word {
            "-t" | "--virtual" => {
                words.next();
            }
            "add" | "install" => {}
            // Nothing is taken away that was there.
            "del" | "update" | "upgrade" | "remove" | "purge" | "clean" | "autoremove" => {
                return true;
            }
            flag if flag.starts_with('-') => {}
            name if known(name) => {}
            _ => return false,
        }
    }
    true
}

fn is_known_pip(words: &[&str]) -> bool {
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match *word {
            "-r" | "--requirement" | "-t" | "--target" => {
                words.next();
            }
            "install" => {}
            flag if flag.starts_with('-') => {}
            name => {
                let end = name
                    .find(|c: char| !c.is_ascii_alphanumeric() && !"-_.".contains(c))
                    .unwrap_or(name.len());
                if !PIP.contains(&name[..end].to_ascii_lowercase().as_str()) {
                    return false;
                }
            }
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> Said {
        let mut said = Said::default();
        let given = BTreeMap::from([("VERSION".to_owned(), "7".to_owned())]);
        Reader::new(&mut said, &given).read(text);
        said
    }

    #[test]
    fn the_lines_of_templates_need_no_remark() {
        let text = r#"
FROM --platform=${TARGETPLATFORM:-linux/amd64} ghcr.io/openfaas/of-watchdog:0.10.1 as watchdog
FROM python:3.12-alpine as build
COPY --from=watchdog /fwatchdog /usr/bin/fwatchdog
RUN chmod +x /usr/bin/fwatchdog
ARG ADDITIONAL_PACKAGE
RUN apk --no-cache add ca-certificates ${ADDITIONAL_PACKAGE} && addgroup -S app && adduser app -S -G app
RUN apt-get -qy update \
    # which reads lists
    && apt-get -qy install ${ADDITIONAL_PACKAGE} \
    && rm -rf /var/lib/apt/lists/*
COPY --chown=app:app index.py           .
COPY --chown=app:app function/*.json ./
COPY function/   .
RUN pip install --no-cache-dir --user -r requirements.txt
RUN npm i --production || :
RUN npm test
ARG TEST_ENABLED=true
RUN [ "$TEST_ENABLED" = "false" ] && echo "skipping tests" || eval "$TEST_COMMAND"
HEALTHCHECK --interval=5s CMD [ -e /tmp/.lock ] || exit 1
CMD ["fwatchdog"]
"#;
        assert_eq!(said(text), Said::default());
    }

    #[test]
    fn what_people_add_is_named_with_its_line() {
        let text = "FROM x\n\nRUN apk add \\\n  imagemagick && true\nCOPY fonts /usr/share/fonts\nRUN npm run build\nRUN pip install numpy==1\n\
                    RUN npm i -g typescript\nCOPY --from=other /a /b\nCMD [\"python\", \"x.py\"]\nRUN <<EOF\n";
        let notes = said(text).notes;
        let lines: Vec<&str> = notes
            .iter()
            .map(|note| {
                note.strip_prefix("Dockerfile line ")
                    .and_then(|rest| rest.split(' ').next())
                    .unwrap_or(note)
            })
            .collect();
        assert_eq!(lines, ["3", "5", "6", "7", "8", "9", "10", "11"]);
        assert_eq!(
            notes[0],
            "Dockerfile line 3 has no effect here: RUN apk add   imagemagick && true"
        );
    }

    #[test]
    fn variables_hold() {
        let text = "ENV exec_timeout=\"30s\" b='c d' e=f\\ g\nENV fprocess \"node index.js\"\nENV old form\nENV PATH=$PATH:/x\nENV H=$HOME/x\nARG VERSION=1\nARG NAME=n\nENV v=$NAME-${VERSION}\n";
        let said = said(text);
        let env: Vec<(&str, &str)> = said
            .env
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        assert_eq!(
            env,
            [
                ("b", "c d"),
                ("e", "f g"),
                ("exec_timeout", "30s"),
                ("fprocess", "node index.js"),
                ("old", "form"),
                ("v", "n-7"),
            ]
        );
        assert_eq!(
            said.notes,
            [
                "Dockerfile line 5: H is not set, since its value has a variable that is not known here"
            ]
        );
    }
}
