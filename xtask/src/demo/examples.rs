//! The examples: how each is deployed, what it is asked, and what a right answer is.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;

use super::curl::{Reply, Request};
use super::picture::jpeg_size;
use super::projects;
use crate::{child, paths};

/// Longest time for a script that makes sample input.
const SCRIPT_LIMIT: Duration = Duration::from_secs(60);
/// The demo's webhook secret. It guards nothing but the demo.
const WEBHOOK_SECRET: &str = "low tide at noon";

pub(crate) struct Example {
    pub(crate) name: &'static str,
    /// The function, a file or a folder, relative to the workspace.
    pub(crate) file: &'static str,
    /// Flags of `tidegate deploy`.
    pub(crate) flags: &'static [&'static str],
    pub(crate) secrets: Vec<Secret>,
    pub(crate) calls: Vec<Call>,
    /// Commands to run as `tidegate …`: what it shows, its words, what it has to print.
    pub(crate) invokes: Vec<(&'static str, Vec<String>, &'static str)>,
}

pub(crate) struct Secret {
    pub(crate) name: &'static str,
    pub(crate) value: &'static str,
}

pub(crate) struct Call {
    pub(crate) what: &'static str,
    pub(crate) request: Request,
    /// The status that has to come back.
    pub(crate) status: u16,
    /// Judges the rest, and says in a few words what it was.
    pub(crate) check: fn(&Reply) -> Result<String>,
}

/// The names under which the examples are deployed.
pub(crate) fn names() -> &'static [&'static str] {
    &[
        "thumbnail",
        "csv2json",
        "webhook",
        "wc",
        "hello",
        "notes",
        "calendar",
        "yaml2json",
        "markdown",
        "ical",
        "qrcode",
        "csv2json-rust",
        "sanitize",
        "ledger",
        "linkcard",
    ]
}

/// All of them. Sample input that is made rather than kept goes to `scratch`.
pub(crate) fn all(root: &Path, scratch: &Path) -> Result<Vec<Example>> {
    let mut all = vec![
        thumbnail(root, scratch)?,
        csv2json(),
        webhook(root)?,
        wc(root),
        hello(),
        notes(),
        calendar(),
    ];
    all.extend(projects::all());
    Ok(all)
}

fn thumbnail(root: &Path, scratch: &Path) -> Result<Example> {
    let photo = scratch.join("photo.jpg");
    let mut draw = Command::new(paths::PYTHON);
    draw.arg(root.join("examples/thumbnail/request/make_photo.py"));
    let drawn = child::capture(&mut draw, SCRIPT_LIMIT)?;
    ensure!(
        drawn.status.success(),
        "make_photo.py failed: {}",
        drawn.stderr.trim()
    );
    fs::write(&photo, &drawn.stdout).context("cannot write the sample photo")?;
    Ok(Example {
        name: "thumbnail",
        file: "examples/thumbnail/thumbnail.py",
        flags: &[],
        secrets: vec![],
        calls: vec![
            Call {
                what: "a photo, made small",
                request: Request::new("").file(&photo).saved_as("small.jpg"),
                status: 200,
                check: |reply| small_jpeg(reply, 256),
            },
            Call {
                what: "smaller still",
                request: Request::new("?size=64").file(&photo).saved_as("tiny.jpg"),
                status: 200,
                check: |reply| small_jpeg(reply, 64),
            },
            Call {
                what: "what is no picture",
                request: Request::new("").file("examples/wc/request/tide.txt"),
                status: 415,
                check: |reply| error_saying(reply, "not a picture"),
            },
        ],
        invokes: vec![],
    })
}

fn csv2json() -> Example {
    Example {
        name: "csv2json",
        file: "examples/csv2json/csv2json.py",
        flags: &[],
        secrets: vec![],
        calls: vec![
            Call {
                what: "a table, types guessed",
                request: Request::new("?types=guess")
                    .file("examples/csv2json/request/stations.csv"),
                status: 200,
                check: |reply| {
                    let rows = reply.json()?;
                    ensure!(rows[4]["opened"] == json!(2011) && rows[4]["depth_m"] == json!(null));
                    ensure!(rows[3]["station"] == json!("Saint-Malo \"La Rance\""));
                    Ok(format!("{} rows", rows.as_array().map_or(0, Vec::len)))
                },
            },
            Call {
                what: "bad rows, by line",
                request: Request::new("?delimiter=semicolon")
                    .file("examples/csv2json/request/broken.csv"),
                status: 422,
                check: |reply| {
                    let answer = reply.json()?;
                    ensure!(
                        answer["rows"][0]["line"] == json!(3)
                            && answer["rows"][1]["line"] == json!(4)
                    );
                    error_saying(reply, "2 of 4 rows")
                },
            },
        ],
        invokes: vec![],
    }
}

fn webhook(root: &Path) -> Result<Example> {
    let delivery = "examples/webhook/request/push.json";
    let mut sign = Command::new(paths::PYTHON);
    sign.arg(root.join("examples/webhook/request/sign.py"))
        .env("WEBHOOK_SECRET", WEBHOOK_SECRET)
        .stdin(Stdio::from(
            fs::File::open(root.join(delivery)).context("the sample delivery is missing")?,
        ));
    let signature = child::capture_given(&mut sign, SCRIPT_LIMIT)?.success("sign.py")?;
    Ok(Example {
        name: "webhook",
        file: "examples/webhook/webhook.py",
        flags: &["--secret", "webhook-secret=WEBHOOK_SECRET"],
        secrets: vec![Secret {
            name: "webhook-secret",
            value: WEBHOOK_SECRET,
        }],
        calls: vec![
            Call {
                what: "a signed delivery",
                request: Request::new("")
                    .header(&format!("X-Hub-Signature-256: {}", signature.trim()))
                    .file(delivery),
                status: 200,
                check: |reply| {
                    ensure!(reply.json()?["event"] == json!("push"));
                    Ok("accepted".into())
                },
            },
            Call {
                what: "one signed by a stranger",
                request: Request::new("")
                    .header(&format!("X-Hub-Signature-256: sha256={}", "0".repeat(64)))
                    .file(delivery),
                status: 401,
                check: |reply| error_saying(reply, "does not fit"),
            },
        ],
        invokes: vec![],
    })
}

fn wc(root: &Path) -> Example {
    let text = "examples/wc/request/tide.txt";
    Example {
        name: "wc",
        file: "examples/wc/wc.sh",
        flags: &["--runtime", "executable", "--contract", "stdio"],
        secrets: vec![],
        calls: vec![
            Call {
                what: "a text, counted",
                request: Request::new("").file(text),
                status: 200,
                check: |reply| {
                    ensure!(reply.json()? == json!({"lines": 4, "words": 28, "bytes": 146}));
                    Ok(reply.text().trim().into())
                },
            },
            Call {
                what: "its words only",
                request: Request::new("?words").file(text),
                status: 200,
                check: |reply| {
                    ensure!(reply.json()? == json!({"words": 28}));
                    Ok(reply.text().trim().into())
                },
            },
            Call {
                what: "a count it does not know",
                request: Request::new("?chars").file(text),
                status: 500,
                check: |reply| {
                    ensure!(reply.head.contains("x-request-id:"), "no request id");
                    Ok("failed, with its request id".into())
                },
            },
        ],
        invokes: vec![(
            "tidegate invoke",
            [
                "invoke",
                "wc",
                "-d",
                &format!("@{}", root.join(text).display()),
            ]
            .map(str::to_owned)
            .to_vec(),
            r#"{"lines":4,"words":28,"bytes":146}"#,
        )],
    }
}

fn hello() -> Example {
    Example {
        name: "hello",
        file: "examples/hello-http/hello.py",
        flags: &[
            "--runtime",
            "executable",
            "--contract",
            "http",
            "--concurrency",
            "16",
        ],
        secrets: vec![],
        calls: vec![Call {
            what: "a program that serves HTTP",
            request: Request::new("/?name=tide"),
            status: 200,
            check: |reply| said(reply, "hello, tide\n"),
        }],
        invokes: vec![],
    }
}

fn notes() -> Example {
    Example {
        name: "notes",
        file: "examples/notes-asgi/notes.py",
        flags: &["--concurrency", "32", "--max", "1"],
        secrets: vec![],
        calls: vec![
            Call {
                what: "a note, added (ASGI)",
                request: Request::new("/").file("examples/notes-asgi/request/note.json"),
                status: 201,
                check: |reply| {
                    ensure!(reply.json()?["text"] == json!("high water at six"));
                    Ok("added".into())
                },
            },
            Call {
                what: "notes, as a stream of events",
                request: Request::new("/stream?count=1").word("-N"),
                status: 200,
                check: |reply| {
                    ensure!(reply.head.contains("content-type: text/event-stream"));
                    let text = reply.text();
                    ensure!(
                        text.contains("event: note\n")
                            && text.ends_with("event: end\ndata: {}\n\n")
                    );
                    Ok("1 event, then the end".into())
                },
            },
        ],
        invokes: vec![],
    }
}

fn calendar() -> Example {
    Example {
        name: "calendar",
        file: "examples/calendar-wsgi/calendar_app.py",
        flags: &[],
        secrets: vec![],
        calls: vec![
            Call {
                what: "a month (WSGI)",
                request: Request::new("/2026/11"),
                status: 200,
                check: |reply| {
                    ensure!(
                        reply
                            .text()
                            .starts_with("   November 2026\nMo Tu We Th Fr Sa Su\n")
                    );
                    Ok("November 2026".into())
                },
            },
            Call {
                what: "a month that is none",
                request: Request::new("/2026/13"),
                status: 400,
                check: |reply| said(reply, "no month 13 of the year 2026\n"),
            },
        ],
        invokes: vec![],
    }
}

fn small_jpeg(reply: &Reply, side: u16) -> Result<String> {
    match jpeg_size(&reply.body) {
        Some((width, height)) if width.max(height) == side => {
            Ok(format!("JPEG {width}x{height}, {} bytes", reply.body.len()))
        }
        Some((width, height)) => {
            bail!("a JPEG of {width}x{height}; expected {side} at most and at least once")
        }
        None => bail!("not a JPEG"),
    }
}

pub(super) fn error_saying(reply: &Reply, words: &str) -> Result<String> {
    let answer = reply.json()?;
    let error = answer["error"].as_str().context("no error in the answer")?;
    ensure!(error.contains(words), "the error does not say {words:?}");
    Ok(error.to_owned())
}

pub(super) fn said(reply: &Reply, words: &str) -> Result<String> {
    ensure!(reply.text() == words, "expected {words:?}");
    Ok(words.trim().to_owned())
}
