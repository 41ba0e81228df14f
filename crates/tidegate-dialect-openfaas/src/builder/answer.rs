//! What a client hears of its build: lines as they come, or one document at the end.

use std::collections::VecDeque;
use std::convert::Infallible;

use axum::Json;
use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::header;
use tidegate_openfaas::build::{BuildResult, BuildState, MAX_LINE_BYTES, NDJSON};
use tidegate_platform::{Attended, BuildLine, BuildLineKind, BuildReader};

/// Longest text of a line in bytes. Escaped it is at most six times as long, which still fits [`MAX_LINE_BYTES`].
const MAX_TEXT: usize = 8 << 10;

/// Room in an answer's line for what is not its log: names, the image, the state.
const AROUND: usize = 4 << 10;

const _: () = assert!(MAX_TEXT * 6 + AROUND < MAX_LINE_BYTES);

/// What a build came to.
#[derive(Debug)]
pub(super) struct Outcome {
    /// The image's name, where it is known.
    pub(super) image: String,
    /// Why there is none.
    pub(super) error: Option<String>,
}

/// What an answer whose end is not known has to say where the server ends before it does. An extension of the response: an
/// answer without it would read as a success.
#[derive(Clone, Debug)]
pub struct LastWords(pub Bytes);

/// A build that failed before it began.
pub(super) fn failed(by_lines: bool, error: String) -> Response {
    let result = result(Outcome {
        image: String::new(),
        error: Some(error),
    });
    if by_lines {
        ([(header::CONTENT_TYPE, NDJSON)], line(&result)).into_response()
    } else {
        Json(result).into_response()
    }
}

/// All there is to say, when there is no more.
pub(super) async fn whole(mut reader: BuildReader, work: Attended<Outcome>) -> Response {
    let mut result = result(outcome(work).await);
    // What is kept of it, however much was said.
    let lines = reader.next().await.unwrap_or_default();
    result.log = lines.iter().map(shown).collect();
    Json(result).into_response()
}

/// Lines as they come. The work ends where nobody takes them any more.
pub(super) fn by_lines(reader: BuildReader, work: Attended<Outcome>) -> Response {
    struct State {
        reader: BuildReader,
        work: Option<Attended<Outcome>>,
        ready: VecDeque<Bytes>,
    }
    let state = State {
        reader,
        work: Some(work),
        ready: VecDeque::new(),
    };
    let lines = futures_util::stream::unfold(state, async |mut state| {
        loop {
            if let Some(line) = state.ready.pop_front() {
                return Some((Ok::<_, Infallible>(line), state));
            }
            match state.reader.next().await {
                Some(lines) => state.ready = packed(lines.iter().map(shown)),
                None => {
                    let outcome = outcome(state.work.take()?).await;
                    return Some((Ok(line(&result(outcome))), state));
                }
            }
        }
    });
    let ending = line(&result(broken_off()));
    let mut response = ([(header::CONTENT_TYPE, NDJSON)], Body::from_stream(lines)).into_response();
    response.extensions_mut().insert(LastWords(ending));
    response
}

async fn outcome(work: Attended<Outcome>) -> Outcome {
    work.result().await.unwrap_or_else(broken_off)
}

fn broken_off() -> Outcome {
    Outcome {
        image: String::new(),
        error: Some("the build was broken off, since the server is ending; build again".to_owned()),
    }
}

fn result(outcome: Outcome) -> BuildResult {
    let error = outcome.error;
    BuildResult {
        log: Vec::new(),
        image: outcome.image,
        status: if error.is_some() {
            BuildState::Failed
        } else {
            BuildState::Success
        },
        error: error.as_deref().map(cut).unwrap_or_default(),
    }
}

/// As few lines as hold these texts.
fn packed(texts: impl Iterator<Item = String>) -> VecDeque<Bytes> {
    let mut lines = VecDeque::new();
    let (mut log, mut size) = (Vec::new(), 0);
    for text in texts {
        // With its quotes and what stands between it and the next.
        let escaped = serde_json::to_string(&text).map_or(MAX_TEXT * 6, |s| s.len()) + 1;
        if size + escaped + AROUND > MAX_LINE_BYTES {
            lines.push_back(in_progress(std::mem::take(&mut log)));
            size = 0;
        }
        size += escaped;
        log.push(text);
    }
    if !log.is_empty() {
        lines.push_back(in_progress(log));
    }
    lines
}

fn in_progress(log: Vec<String>) -> Bytes {
    line(&BuildResult {
        log,
        ..BuildResult::default()
    })
}

fn line(result: &BuildResult) -> Bytes {
    let mut line = serde_json::to_vec(result).expect("texts in a list have a form");
    line.push(b'\n');
    line.into()
}

fn shown(line: &BuildLine) -> String {
    let text = cut(&line.text);
    match line.kind {
        BuildLineKind::Step => format!("> {text}"),
        BuildLineKind::Note => text,
        BuildLineKind::Stdout | BuildLineKind::Stderr => format!("  {text}"),
    }
}

/// The text, or as much of it as a line takes.
fn cut(text: &str) -> String {
    const MORE: &str = " …";
    const PREFIX: usize = 2;
    let most = MAX_TEXT - MORE.len() - PREFIX;
    if text.len() <= most {
        return text.to_owned();
    }
    text[..text.floor_char_boundary(most)].to_owned() + MORE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_is_too_long_and_none_is_lost() {
        let texts = || {
            let long = [
                "\u{1b}".repeat(MAX_TEXT * 2),
                "é".repeat(MAX_TEXT),
                "x".repeat(20_000),
            ];
            let short = (0..5_000).map(|n| format!("line {n} \"quoted\""));
            long.into_iter().chain(short).map(|text| cut(&text))
        };
        let lines = packed(texts());
        assert!(lines.iter().all(|line| line.len() <= MAX_LINE_BYTES));
        let read: Vec<String> = lines
            .iter()
            .flat_map(|line| {
                assert_eq!(line.last(), Some(&b'\n'));
                let result: BuildResult = serde_json::from_slice(line).unwrap();
                assert_eq!(result.status, BuildState::InProgress);
                result.log
            })
            .collect();
        assert_eq!(read, texts().collect::<Vec<_>>());
        assert!(lines.len() < 20, "{} lines", lines.len());
    }

    #[test]
    fn an_error_fits_a_line_too() {
        let result = result(Outcome {
            image: "x".repeat(500),
            error: Some("\u{1}".repeat(1 << 20)),
        });
        assert!(line(&result).len() <= MAX_LINE_BYTES);
        assert!(result.error.ends_with(" …"));
    }
}
