//! A stack of OpenFaaS's, three functions in three of its templates, as somebody brings it who comes from there.

use anyhow::{Result, ensure};
use serde_json::json;

use super::curl::{Reply, Request};
use super::examples::{Call, error_saying};

/// What the account calls the stack as a whole.
pub(super) const NAME: &str = "openfaas";
/// Relative to the workspace.
pub(super) const STACK: &str = "examples/openfaas/stack.yaml";
/// What one of them signs with. It guards nothing but the demo.
pub(super) const SECRET: (&str, &str) = ("digest-key", "low tide");
/// The functions of the stack.
pub(super) const FUNCTIONS: [&str; 3] = ["table", "when", "digest"];

/// The calls of each.
pub(super) fn all() -> [(&'static str, Vec<Call>); 3] {
    let [table, when, digest] = FUNCTIONS;
    [(table, tables()), (when, schedules()), (digest, digests())]
}

fn tables() -> Vec<Call> {
    let ports = "examples/openfaas/request/ports.json";
    vec![
        Call {
            what: "JSON, as a table (python3-http)",
            request: Request::new("").file(ports),
            status: 200,
            check: |reply| {
                ensure!(reply.head.contains("content-type: text/plain"));
                let text = reply.text();
                let lines: Vec<&str> = text.lines().collect();
                ensure!(lines.len() == 5 && lines[3].contains("| {\"since\": 1966} |"));
                Ok("3 rows under their names".into())
            },
        },
        Call {
            what: "a format that is none",
            request: Request::new("?format=word").file(ports),
            status: 400,
            check: |reply| error_saying(reply, "format is 'word'"),
        },
    ]
}

fn schedules() -> Vec<Call> {
    vec![Call {
        what: "a schedule, as times (node22)",
        request: Request::new("?cron=30+7+*+*+1-5&from=2026-03-26T12:00:00Z&count=3"),
        status: 200,
        check: |reply| {
            let times = json!([
                "2026-03-27T06:30:00.000Z",
                "2026-03-30T05:30:00.000Z",
                "2026-03-31T05:30:00.000Z"
            ]);
            ensure!(reply.json()?["times"] == times);
            Ok("3 times, across a change of clocks".into())
        },
    }]
}

fn digests() -> Vec<Call> {
    vec![Call {
        what: "bytes, signed (golang-middleware)",
        request: Request::new("").word("-d").word("high water"),
        status: 200,
        check: signed,
    }]
}

fn signed(reply: &Reply) -> Result<String> {
    let answer = reply.json()?;
    ensure!(answer["bytes"] == json!(10));
    // What `openssl dgst -sha256 -hmac 'low tide'` says of these ten bytes.
    let expected = "sha256=93ae7a34c4a5dfd5dc796e68650476a988003a03e85641ea0bfdfcfefd575c46";
    ensure!(answer["signature"] == json!(expected));
    Ok("by the secret of the stack".into())
}
