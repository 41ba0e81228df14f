//! The examples that are projects: a folder each, built by the platform with packages from the language's own registry.

use anyhow::{Result, ensure};
use serde_json::json;

use super::curl::{Reply, Request};
use super::examples::{Call, Example, error_saying, said};
use super::picture::png_size;

pub(super) fn all() -> Vec<Example> {
    vec![
        yaml2json(),
        markdown(),
        ical(),
        qrcode(),
        csv2json_rust(),
        sanitize(),
        ledger(),
        linkcard(),
    ]
}

/// A project that is deployed by its folder alone: what it is stands in it.
fn project(name: &'static str, folder: &'static str, calls: Vec<Call>) -> Example {
    Example {
        name,
        file: folder,
        flags: &[],
        secrets: vec![],
        calls,
        invokes: vec![],
    }
}

fn call(
    what: &'static str,
    request: Request,
    status: u16,
    check: fn(&Reply) -> Result<String>,
) -> Call {
    Call {
        what,
        request,
        status,
        check,
    }
}

fn yaml2json() -> Example {
    let gauge = "examples/yaml2json/request/gauge.yaml";
    project(
        "yaml2json",
        "examples/yaml2json",
        vec![
            call(
                "YAML, as JSON (Python, PyPI)",
                Request::new("").file(gauge),
                200,
                |reply| {
                    let answer = reply.json()?;
                    ensure!(answer["since"] == json!("1850-06-01"));
                    ensure!(
                        answer["reports"]["south"]
                            == json!({"to": ["harbour"], "every": "1h", "quiet": false})
                    );
                    Ok("anchors written out".into())
                },
            ),
            call(
                "what is no YAML",
                Request::new("").file("examples/markdown/request/tides.md"),
                422,
                |reply| {
                    ensure!(reply.json()?["line"].is_u64(), "no line");
                    Ok("refused, with its line".into())
                },
            ),
        ],
    )
}

fn markdown() -> Example {
    let text = "examples/markdown/request/tides.md";
    project(
        "markdown",
        "examples/markdown",
        vec![
            call(
                "Markdown, as HTML (Node, npm)",
                Request::new("").file(text),
                200,
                |reply| {
                    ensure!(reply.head.contains("content-type: text/html"));
                    let html = reply.text();
                    ensure!(html.starts_with("<h1>Tides at <em>Saint-Malo</em></h1>\n"));
                    ensure!(html.contains("<section class=\"footnotes\">"));
                    Ok("heading, table and footnote".into())
                },
            ),
            call(
                "a whole page",
                Request::new("?page").file(text),
                200,
                |reply| {
                    ensure!(reply.text().contains("<title>Tides at Saint-Malo</title>"));
                    Ok("with its title".into())
                },
            ),
        ],
    )
}

fn ical() -> Example {
    let calendar = "examples/ical/request/harbour.ics";
    project(
        "ical",
        "examples/ical",
        vec![
            call(
                "a calendar, as JSON (TypeScript, npm)",
                Request::new("?from=2026-10-19&to=2026-11-17").file(calendar),
                200,
                |reply| {
                    let answer = reply.json()?;
                    let starts: Vec<&str> = answer
                        .as_array()
                        .into_iter()
                        .flatten()
                        .filter_map(|event| event["start"].as_str())
                        .collect();
                    let expected = [
                        "2026-10-19T07:00:00.000Z",
                        "2026-10-24",
                        "2026-10-26T08:00:00.000Z",
                        "2026-11-09T13:00:00.000Z",
                        "2026-11-16T08:00:00.000Z",
                    ];
                    ensure!(starts == expected, "the events start at {starts:?}");
                    Ok(format!(
                        "{} events, across a change of clocks",
                        starts.len()
                    ))
                },
            ),
            call(
                "a day that is none",
                Request::new("?from=2026-02-30").file(calendar),
                400,
                |reply| error_saying(reply, "expected a day"),
            ),
        ],
    )
}

fn qrcode() -> Example {
    project(
        "qrcode",
        "examples/qrcode",
        vec![
            call(
                "a text, as a QR code (Go, its proxy)",
                Request::new("")
                    .file("examples/qrcode/request/text.txt")
                    .saved_as("code.png"),
                200,
                |reply| square_png(reply, 256),
            ),
            call(
                "larger, by GET",
                Request::new("?text=high+water+at+six&size=512").saved_as("large.png"),
                200,
                |reply| square_png(reply, 512),
            ),
            call("no text", Request::new(""), 400, |reply| {
                error_saying(reply, "there is no text")
            }),
        ],
    )
}

fn csv2json_rust() -> Example {
    project(
        "csv2json-rust",
        "examples/csv2json-rust",
        vec![call(
            "a table, typed (Rust)",
            Request::new("").file("examples/csv2json-rust/request/stations.csv"),
            200,
            |reply| {
                let rows = reply.json()?;
                ensure!(
                    rows[1]
                        == json!({"station": "Saint-Malo, \"La Rance\"", "depth_m": 13.5,
                            "opened": 1966, "post": "035400", "staffed": true})
                );
                Ok(format!("{} rows", rows.as_array().map_or(0, Vec::len)))
            },
        )],
    )
}

fn sanitize() -> Example {
    let comment = "examples/sanitize/request/comment.html";
    project(
        "sanitize",
        "examples/sanitize",
        vec![
            call(
                "a comment, made safe (Java, Maven Central)",
                Request::new("").file(comment),
                200,
                |reply| {
                    let html = reply.text();
                    ensure!(html.contains("<b>Spring tide</b> tonight"));
                    for trap in ["script", "onclick", "javascript:", "iframe", "style"] {
                        ensure!(!html.contains(trap), "{trap} is still in it");
                    }
                    Ok("words kept, traps gone".into())
                },
            ),
            call(
                "a list that is none",
                Request::new("?keep=all").file(comment),
                400,
                |reply| {
                    said(
                        reply,
                        "keep is \"all\"; expected text, formatted or pictures\n",
                    )
                },
            ),
        ],
    )
}

fn ledger() -> Example {
    let statement = "examples/ledger/request/statement.csv";
    project(
        "ledger",
        "examples/ledger",
        vec![
            call(
                "a statement, summed (Ruby, Bundler)",
                Request::new("").file(statement),
                200,
                |reply| {
                    let all = &reply.json()?["all"];
                    ensure!(
                        *all == json!({"in": "2400.00", "out": "-1068.10", "left": "1331.90",
                            "bookings": 7})
                    );
                    Ok("1331.90 left, to the cent".into())
                },
            ),
            call(
                "a table that is no statement",
                Request::new("").file("examples/csv2json/request/stations.csv"),
                422,
                |reply| error_saying(reply, "the first line lacks"),
            ),
        ],
    )
}

fn linkcard() -> Example {
    project(
        "linkcard",
        "examples/linkcard",
        vec![call(
            "a page, as a card (PHP, Composer)",
            Request::new("?url=https://harbour.example/news/2026/")
                .file("examples/linkcard/request/page.html"),
            200,
            |reply| {
                let card = reply.json()?;
                ensure!(card["title"] == json!("Spring tide tonight – 13.4 m"));
                ensure!(card["image"] == json!("https://harbour.example/news/2026/quay.jpg"));
                Ok("title, picture and icon".into())
            },
        )],
    )
}

fn square_png(reply: &Reply, side: u32) -> Result<String> {
    let size = png_size(&reply.body);
    ensure!(
        size == Some((side, side)),
        "the picture's size is {size:?}; expected {side} both ways"
    );
    Ok(format!("PNG {side}x{side}, {} bytes", reply.body.len()))
}
