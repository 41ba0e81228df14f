//! Instructions, as they stand.

use super::Mistake;
use super::lex::{self, Line, split};

/// One instruction, its variables not yet replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Instruction {
    /// A stage begins.
    From {
        image: String,
        name: Option<String>,
    },
    Run(Form),
    Cmd(Form),
    Entrypoint(Form),
    /// `COPY`, or `ADD` of files.
    Copy(Copy),
    Workdir(String),
    /// Pairs, in order.
    Env(Vec<(String, String)>),
    /// Names with their defaults.
    Arg(Vec<(String, Option<String>)>),
    User(String),
    Expose(String),
    Shell,
    /// Has no effect on what runs.
    Nothing,
}

/// How a command is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// A list of words, run as they are.
    Exec(Vec<String>),
    /// A line for the shell.
    Shell(String),
}

/// What is copied where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Copy {
    /// The stage or image that it is taken from, in place of the context.
    pub(super) from: Option<String>,
    pub(super) sources: Vec<String>,
    pub(super) to: String,
    /// `--chmod`.
    pub(super) mode: Option<String>,
    /// Whether it says `ADD`.
    pub(super) is_add: bool,
}

/// A file as a list of instructions with their lines.
#[derive(Debug)]
pub(super) struct Dockerfile {
    pub(super) instructions: Vec<(Line, Instruction)>,
    pub(super) escape: char,
}

/// Reads a file.
pub(super) fn parse(text: &str) -> Result<Dockerfile, Mistake> {
    let (lines, escape) = lex::lines(text);
    let mut instructions = Vec::new();
    for line in lines {
        let instruction = instruction(&line, escape)?;
        instructions.push((line, instruction));
    }
    Ok(Dockerfile {
        instructions,
        escape,
    })
}

fn instruction(line: &Line, escape: char) -> Result<Instruction, Mistake> {
    let text = &*line.text;
    let (word, rest) = text
        .split_once(char::is_whitespace)
        .map_or((text, ""), |(word, rest)| (word, rest.trim()));
    let word = word.to_ascii_uppercase();
    if matches!(&*word, "RUN" | "COPY" | "ADD") && has_heredoc(rest) {
        return Err(Mistake::new(
            line,
            "a here-document; write a file into the folder and copy it",
        ));
    }
    let needs = |what: &str| Err(Mistake::new(line, format!("{what} is missing")));
    if rest.is_empty() && !matches!(&*word, "CMD" | "ENTRYPOINT") {
        return needs("what follows the word");
    }
    Ok(match &*word {
        "FROM" => {
            let (_, rest) = flags(rest);
            match &split(rest, escape)[..] {
                [image] => Instruction::From {
                    image: image.clone(),
                    name: None,
                },
                [image, word, name] if word.eq_ignore_ascii_case("as") => Instruction::From {
                    image: image.clone(),
                    name: Some(name.to_ascii_lowercase()),
                },
                _ => return Err(Mistake::new(line, "write FROM IMAGE or FROM IMAGE AS NAME")),
            }
        }
        "RUN" => Instruction::Run(form(flags(rest).1)),
        "CMD" => Instruction::Cmd(form(rest)),
        "ENTRYPOINT" => Instruction::Entrypoint(form(rest)),
        "COPY" | "ADD" => Instruction::Copy(copy(line, rest, word == "ADD", escape)?),
        "WORKDIR" => Instruction::Workdir(rest.to_owned()),
        "ENV" => Instruction::Env(pairs(line, rest, escape)?),
        "ARG" => Instruction::Arg(
            split(rest, escape)
                .into_iter()
                .map(|word| match word.split_once('=') {
                    Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                    None => (word, None),
                })
                .collect(),
        ),
        "USER" => Instruction::User(rest.to_owned()),
        "EXPOSE" => Instruction::Expose(rest.to_owned()),
        "SHELL" => Instruction::Shell,
        "LABEL" | "HEALTHCHECK" | "VOLUME" | "STOPSIGNAL" | "MAINTAINER" | "ONBUILD" => {
            Instruction::Nothing
        }
        _ => {
            return Err(Mistake::new(
                line,
                format!("{word} is not an instruction of a Dockerfile"),
            ));
        }
    })
}

/// `<<EOF`, `<<-EOF`, `<<"EOF"`; not `<<<`, nor a shift in quotes.
fn has_heredoc(text: &str) -> bool {
    text.match_indices("<<").any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + 2..].trim_start_matches('-');
        before.is_none_or(char::is_whitespace)
            && after.starts_with(|c: char| c.is_ascii_alphabetic() || matches!(c, '_' | '"' | '\''))
    })
}

/// The flags before what an instruction is about, `--name=value`, and the rest.
fn flags(text: &str) -> (Vec<(String, String)>, &str) {
    let mut found = Vec::new();
    let mut rest = text.trim_start();
    while rest.starts_with("--") {
        let (word, left) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        let (name, value) = word.split_once('=').unwrap_or((word, ""));
        found.push((name.to_owned(), value.to_owned()));
        rest = left.trim_start();
    }
    (found, rest)
}

/// A list in JSON is a list of words; everything else is the shell's.
fn form(text: &str) -> Form {
    if text.starts_with('[')
        && let Ok(words) = serde_json::from_str(text)
    {
        return Form::Exec(words);
    }
    Form::Shell(text.to_owned())
}

fn copy(line: &Line, rest: &str, is_add: bool, escape: char) -> Result<Copy, Mistake> {
    let (flags, rest) = flags(rest);
    let mut copy = Copy {
        is_add,
        ..Copy::default()
    };
    for (name, value) in flags {
        match &*name {
            "--from" => copy.from = Some(value),
            "--chmod" => copy.mode = Some(value),
            "--chown" | "--link" => {}
            _ => {
                return Err(Mistake::new(
                    line,
                    format!("{name} is not known here; --from, --chmod, --chown and --link are"),
                ));
            }
        }
    }
    let mut words = match form(rest) {
        Form::Exec(words) => words,
        Form::Shell(_) => split(rest, escape),
    };
    copy.to = words.pop().unwrap_or_default();
    copy.sources = words;
    if copy.sources.is_empty() {
        return Err(Mistake::new(
            line,
            "where to is missing; write COPY FROM… TO",
        ));
    }
    Ok(copy)
}

/// `NAME=value …`, or the older `NAME the rest`.
fn pairs(line: &Line, rest: &str, escape: char) -> Result<Vec<(String, String)>, Mistake> {
    let words = split(rest, escape);
    let first = words.first().map_or("", String::as_str);
    if !first.contains('=') {
        let (name, value) = rest.split_once(char::is_whitespace).ok_or_else(|| {
            Mistake::new(
                line,
                format!("{first} has no value; write ENV {first}=VALUE"),
            )
        })?;
        return Ok(vec![(name.to_owned(), value.trim().to_owned())]);
    }
    words
        .into_iter()
        .map(|word| match word.split_once('=') {
            Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
            _ => Err(Mistake::new(
                line,
                format!("{word} is not of the form NAME=VALUE"),
            )),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Result<Instruction, String> {
        parse(text)
            .map(|mut file| file.instructions.remove(0).1)
            .map_err(|mistake| mistake.to_string())
    }

    fn strings(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn instructions_are_told_apart() {
        let from = |image: &str, name: Option<&str>| Instruction::From {
            image: image.to_owned(),
            name: name.map(ToOwned::to_owned),
        };
        assert_eq!(one("FROM alpine:3"), Ok(from("alpine:3", None)));
        assert_eq!(
            one("from --platform=${T:-linux/amd64} a/of-watchdog:1 As Watchdog"),
            Ok(from("a/of-watchdog:1", Some("watchdog")))
        );
        assert_eq!(
            one("CMD [\"a\", \"b c\"]"),
            Ok(Instruction::Cmd(Form::Exec(strings(&["a", "b c"]))))
        );
        assert_eq!(
            one("CMD [ -e x ]"),
            Ok(Instruction::Cmd(Form::Shell("[ -e x ]".to_owned())))
        );
        assert_eq!(
            one("RUN --mount=type=cache,target=/x a && b"),
            Ok(Instruction::Run(Form::Shell("a && b".to_owned())))
        );
        assert_eq!(
            one("COPY --from=w --chmod=755 --chown=app a b c/"),
            Ok(Instruction::Copy(Copy {
                from: Some("w".to_owned()),
                sources: strings(&["a", "b"]),
                to: "c/".to_owned(),
                mode: Some("755".to_owned()),
                is_add: false,
            }))
        );
        assert_eq!(
            one("ADD [\"a b\", \"c\"]"),
            Ok(Instruction::Copy(Copy {
                sources: strings(&["a b"]),
                to: "c".to_owned(),
                is_add: true,
                ..Copy::default()
            }))
        );
        let env = |pairs: &[(&str, &str)]| {
            let owned = |(a, b): &(&str, &str)| ((*a).to_owned(), (*b).to_owned());
            Ok(Instruction::Env(pairs.iter().map(owned).collect()))
        };
        assert_eq!(
            one("ENV a=1 b=\"2 3\""),
            env(&[("a", "1"), ("b", "\"2 3\"")])
        );
        assert_eq!(one("ENV a 1 = 2"), env(&[("a", "1 = 2")]));
        assert_eq!(
            one("ARG a b=1"),
            Ok(Instruction::Arg(vec![
                ("a".to_owned(), None),
                ("b".to_owned(), Some("1".to_owned()))
            ]))
        );
        assert_eq!(one("HEALTHCHECK CMD true"), Ok(Instruction::Nothing));
    }

    #[test]
    fn mistakes_name_the_line() {
        for (text, said) in [
            (
                "\nFRM x",
                "Dockerfile line 2: FRM x cannot be honoured here: FRM is not an instruction of a Dockerfile",
            ),
            (
                "RUN cat <<EOF > x",
                "Dockerfile line 1: RUN cat <<EOF > x cannot be honoured here: a here-document; write a file into the folder \
                 and copy it",
            ),
            (
                "COPY x",
                "Dockerfile line 1: COPY x cannot be honoured here: where to is missing; write COPY FROM… TO",
            ),
            (
                "COPY --parents a b",
                "Dockerfile line 1: COPY --parents a b cannot be honoured here: --parents is not known here; --from, --chmod, \
                 --chown and --link are",
            ),
            (
                "ENV a",
                "Dockerfile line 1: ENV a cannot be honoured here: a has no value; write ENV a=VALUE",
            ),
            (
                "ENV a=1 b",
                "Dockerfile line 1: ENV a=1 b cannot be honoured here: b is not of the form NAME=VALUE",
            ),
            (
                "WORKDIR",
                "Dockerfile line 1: WORKDIR cannot be honoured here: what follows the word is missing",
            ),
            (
                "FROM a b",
                "Dockerfile line 1: FROM a b cannot be honoured here: write FROM IMAGE or FROM IMAGE AS NAME",
            ),
        ] {
            assert_eq!(one(text).unwrap_err(), said, "{text}");
        }
        assert!(one("RUN echo $((1<<2)) \"<<x\"").is_ok());
    }
}
