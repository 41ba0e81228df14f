use serde_json::{Value, json};

use crate::fake::Fake;
use crate::harness::{Home, check, error, function};

const ID: &str = "019b76da880070008000000000000001";
const OTHER: &str = "019b76da880070008000000000000002";
const WHERE: &str = "/namespaces/default/functions";

const ACCEPTED: [(&str, &str); 3] = [
    ("x-request-id", ID),
    ("preference-applied", "respond-async"),
    (
        "location",
        "/tidegate/v1/queue/019b76da880070008000000000000001",
    ),
];

fn with_function() -> Fake {
    Fake::new().on(&format!("GET {WHERE}/wc"), 200, &function("wc", "Ready"))
}

fn queued(id: &str, state: &str) -> Value {
    json!({
        "id": id, "namespace": "default", "function": "wc", "state": state,
        "accepted": "2020-01-01T00:00:00.000Z", "due": "2020-01-01T00:10:00.000Z",
        "deadline": "2020-01-01T06:00:00.000Z", "tries": 1, "failures": 1,
        "outcome": "function", "message": "the function raised an exception",
    })
}

#[test]
fn a_call_is_made_later() {
    let home = Home::new();
    let fake = with_function().raw("POST /fn/wc", 202, &ACCEPTED, "").raw(
        "POST /fn/wc/again",
        202,
        &[&ACCEPTED[..], &[("x-tidegate-duplicate", "true")]].concat(),
        "",
    );
    let mut said = home.run(&fake, &["invoke", "wc", "-d", "{}", "--async"]);
    let all = [
        "invoke",
        "wc",
        "-d",
        "{}",
        "--path",
        "/again",
        "--async",
        "--delay",
        "10m",
        "--max-age",
        "1h",
        "--idempotency-key",
        "order-17",
        "--order-key",
        "customer-4",
        "--callback",
        "https://example.org/done",
    ];
    said.push_str(&home.run(&fake, &all));
    check("invoke-async", &said);
    assert_eq!(
        fake.the("POST /fn/wc/again").later,
        [
            "prefer: respond-async",
            "x-tidegate-delay: 10m",
            "x-tidegate-max-age: 1h",
            "idempotency-key: order-17",
            "x-tidegate-order-key: customer-4",
            "x-callback-url: https://example.org/done",
        ]
    );
    let asked = fake.asked();
    let first = asked.iter().find(|a| a.line == "POST /fn/wc").unwrap();
    assert_eq!(first.later, ["prefer: respond-async"]);
}

#[test]
fn what_is_not_accepted_is_said() {
    let home = Home::new();
    let head = |outcome| {
        [
            ("x-tidegate-outcome", outcome),
            ("x-request-id", ID),
            ("retry-after", "5"),
        ]
    };
    let full = error("the queue's disk is full", "full").to_string();
    let large = error("the body is larger than 64 MiB", "too-large").to_string();
    let fake = with_function()
        .raw("POST /fn/wc", 503, &head("limit-capacity"), &full)
        .raw("POST /fn/wc/large", 413, &head("limit-body")[..2], &large)
        .raw(
            "POST /fn/wc/at-once",
            202,
            &[("x-request-id", ID)],
            "its own",
        );
    let mut said = home.run(&fake, &["invoke", "wc", "-d", "x", "--async"]);
    for path in ["/large", "/callback", "/at-once"] {
        said.push_str(&home.run(
            &fake,
            &["invoke", "wc", "-d", "x", "--path", path, "--async"],
        ));
    }
    said.push_str(&home.run(&fake, &["invoke", "wc", "--delay", "5m"]));
    said.push_str(&home.run(&fake, &["invoke", "wc", "--async", "--delay", "soon"]));
    said.push_str(&home.run(
        &fake,
        &["invoke", "wc", "--async", "--callback", "example.org"],
    ));
    check("invoke-async-errors", &said);
}

#[test]
fn an_answer_is_waited_for() {
    let home = Home::new();
    let result = format!("GET /tidegate/v1/queue/{ID}/result");
    let still = queued(ID, "waiting").to_string();
    let fake = with_function()
        .raw("POST /fn/wc", 202, &ACCEPTED, "")
        .raw(&result, 202, &[], &still)
        .raw(&result, 202, &[], &still)
        .raw(&result, 200, &[("x-tidegate-status", "200")], "1 2 3");
    let said = home.run(&fake, &["invoke", "wc", "-d", "x", "--async", "--wait"]);
    assert_eq!(
        said,
        format!("exit 0\n--- stdout\n1 2 3--- stderr\naccepted {ID}\n")
    );
    assert_eq!(fake.asked().iter().filter(|a| a.line == result).count(), 3);
    let never =
        with_function()
            .raw("POST /fn/wc", 202, &ACCEPTED, "")
            .raw(&result, 202, &[], &still);
    let mut said = home.run(
        &never,
        &[
            "invoke",
            "wc",
            "-d",
            "x",
            "--async",
            "--wait",
            "--timeout",
            "200ms",
        ],
    );
    said.push_str(&home.run(&never, &["queue", "result", ID]));
    let failed = Fake::new().raw(
        &result,
        200,
        &[("x-tidegate-status", "500"), ("x-tidegate-cut", "16")],
        "no such mailbox\n",
    );
    said.push_str(&home.run(&failed, &["queue", "result", ID]));
    let dead = Fake::new().on(
        &format!("GET /queue/{ID}/result"),
        410,
        &error(
            "019b76da880070008000000000000001 was given up without an answer: too-old",
            "no-answer",
        ),
    );
    said.push_str(&home.run(&dead, &["queue", "result", ID, "--wait"]));
    check("queue-result", &said);
}

#[test]
fn what_is_queued() {
    let home = Home::new();
    let mut behind = queued(OTHER, "waiting");
    behind["behind"] = json!(true);
    behind["namespace"] = json!("team");
    let mut done = queued(OTHER, "done");
    done["ended"] = json!("2020-01-01T00:00:01.000Z");
    done["status"] = json!(200);
    let both = json!({ "items": [queued(ID, "running"), behind] });
    let more = json!({ "items": [queued(ID, "waiting")], "continue": "41" });
    let fake = Fake::new()
        .on("GET /queue?limit=50", 200, &both)
        .on(
            "GET /queue?namespace=default&function=wc&limit=50",
            200,
            &json!({ "items": [] }),
        )
        .on("GET /queue?namespace=default&limit=1", 200, &more)
        .on(&format!("GET /queue/{ID}"), 200, &queued(ID, "waiting"))
        .on(&format!("GET /queue/{OTHER}"), 200, &done)
        .on(&format!("DELETE /queue/{ID}"), 200, &json!({}))
        .on(
            &format!("DELETE /queue/{OTHER}"),
            404,
            &error(
                "nothing is queued under 019b76da880070008000000000000002",
                "not-found",
            ),
        );
    let mut said = home.run(&fake, &["queue", "list", "-A"]);
    said.push_str(&home.run(&fake, &["queue", "list", "--limit", "1"]));
    said.push_str(&home.run(&fake, &["queue", "list", "wc"]));
    said.push_str(&home.run(&fake, &["queue", "list", "--limit", "1", "--json"]));
    said.push_str(&home.run(&fake, &["queue", "show", ID]));
    said.push_str(&home.run(&fake, &["queue", "show", OTHER]));
    said.push_str(&home.run(&fake, &["queue", "cancel", OTHER, ID]));
    said.push_str(&home.run(&fake, &["queue", "cancel", OTHER]));
    said.push_str(&home.run(&fake, &["queue", "cancel", "the-first"]));
    check("queue", &said);
}

#[test]
fn dead_letters() {
    let home = Home::new();
    let letter = json!({
        "id": ID, "namespace": "default", "function": "mail", "reason": "failed", "outcome": "application",
        "status": 502, "message": "mx.example.org did not answer", "accepted": "2020-01-01T00:00:00.000Z",
        "died": "2020-01-01T00:03:00.000Z", "tries": 3, "failures": 3, "bodyBytes": 27,
    });
    let mut whole = letter.clone();
    whole["request"] = json!({
        "method": "POST", "path": "/send?now=1", "body": "{\"to\":\"a@example.org\"}",
        "headers": [["content-type", "application/json"], ["x-order", "17"]],
    });
    whole["answer"] = json!({ "status": 502, "body": "upstream is down\n" });
    let fake = Fake::new()
        .on(
            "GET /dead-letters?namespace=default&limit=50",
            200,
            &json!({ "items": [letter] }),
        )
        .on(
            "GET /dead-letters?function=mail&reason=too-old&limit=50*",
            200,
            &json!({ "items": [] }),
        )
        .on(
            "GET /dead-letters?namespace=default&function=mail&reason=too-old&since=24h&limit=50",
            200,
            &json!({ "items": [] }),
        )
        .on(&format!("GET /dead-letters/{ID}"), 200, &whole)
        .on(
            &format!("GET /dead-letters/{OTHER}"),
            404,
            &error(
                "there is no dead letter 019b76da880070008000000000000002",
                "not-found",
            ),
        )
        // How far it is, and in the end how many it were.
        .lines(
            "POST /dead-letters/redrive",
            &[json!({ "count": 1 }), json!({ "count": 12 })],
        )
        .on(
            "DELETE /dead-letters?namespace=default&function=mail&until=168h",
            200,
            &json!({ "count": 3 }),
        )
        .on("DELETE /dead-letters", 200, &json!({ "count": 0 }))
        .on(&format!("DELETE /dead-letters/{ID}"), 200, &json!({}));
    let mut said = String::new();
    for args in [
        &["list"][..],
        &[
            "list",
            "--function",
            "mail",
            "--reason",
            "too-old",
            "--since",
            "24h",
        ],
        &["list", "--reason", "tired"],
        &["show", ID],
        &["show", OTHER],
        &["redrive", ID],
        &["redrive", "--function", "mail", "--rate", "5"],
        &["redrive", "--all", "-A"],
        &["redrive"],
        &["redrive", ID, "--all"],
        &["purge", "--function", "mail", "--until", "168h"],
        &["purge", "--all", "-A"],
        &["purge", ID],
        &["purge"],
    ] {
        said.push_str(&home.run(&fake, &[&["dead-letters"], args].concat()));
    }
    check("dead-letters", &said);
    let sent: Vec<Value> = fake
        .asked()
        .iter()
        .filter(|a| a.line.starts_with("POST"))
        .map(|a| serde_json::from_slice(&a.body).unwrap())
        .collect();
    assert_eq!(
        sent,
        [
            json!({ "id": ID }),
            json!({ "namespace": "default", "function": "mail", "rate": 5 }),
            json!({}),
        ]
    );
}
