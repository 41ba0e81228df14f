use serde_json::{Value, json};

use crate::fake::Fake;
use crate::harness::{Home, check, error, list};

/// An invocation's id, of ten seconds before the year 2026.
fn id(n: u32) -> String {
    format!("019b76da8800700080000000{n:08x}")
}

/// An invocation that came so many milliseconds after the first.
fn record(n: u32, function: &str, after_ms: u64, outcome: &str) -> Value {
    json!({
        "id": id(n),
        "namespace": "default",
        "function": function,
        "revision": "3f2a9c01d7be",
        "cause": { "kind": "call" },
        "received": format!("2026-01-01T00:00:00.{after_ms:03}000Z"),
        "times": { "totalUs": 42_000, "queueUs": 2_000, "runUs": 40_000 },
        "outcome": outcome,
        "status": 200,
        "bytesIn": 12,
        "bytesOut": 4_200,
        "used": { "how": "alone", "cpuUs": 11_500, "memoryPeak": 31_457_280 },
        "memoryLimit": 268_435_456,
        "billedUs": 42_000,
        "cost": "0.000000175",
        "instance": "i7",
    })
}

fn page(items: &[Value]) -> Value {
    json!({ "items": items })
}

#[test]
fn records_are_listed() {
    let home = Home::new();
    let mut failed = record(2, "mail", 7, "function");
    failed["cause"] = json!({ "kind": "queue", "parent": id(1), "attempt": 2 });
    failed["message"] = json!(
        "the function raised an exception:\nValueError: no such address in the list of addresses"
    );
    failed["times"]["cold"] = json!({ "sandboxUs": 300, "runtimeUs": 900, "loadUs": 700 });
    failed["used"] = json!({ "how": "shared" });
    failed["status"] = Value::Null;
    let all = page(&[failed, record(1, "thumbnail", 0, "ok")]);
    let fake = Fake::new()
        .on("GET /records?namespace=default&limit=50", 200, &all)
        .on(&format!("GET /records?parent={}&limit=50", id(1)), 200, &all)
        .on(
            "GET /records?namespace=default&function=mail&since=1h&outcome=failed&trigger=nightly&limit=50",
            200,
            &all,
        )
        .on(
            "GET /records?namespace=default&function=mial&limit=50",
            200,
            &page(&[]),
        )
        .on("GET /functions?limit=500", 200, &list(&[crate::harness::function("mail", "Ready")]))
        .on("GET /records?limit=50", 200, &page(&[]))
        .on(
            "GET /records?namespace=default&outcome=fine&limit=50",
            400,
            &error("outcome: \"fine\" is none of ok, application", "invalid"),
        );
    let mut said = home.run(&fake, &["records"]);
    let filters = [
        "records",
        "mail",
        "--since",
        "60m",
        "--outcome",
        "failed",
        "--trigger",
        "nightly",
        "-o",
        "wide",
    ];
    said.push_str(&home.run(&fake, &filters));
    said.push_str(&home.run(&fake, &["records", "--parent", &id(1)]));
    said.push_str(&home.run(&fake, &["records", "mial"]));
    said.push_str(&home.run(&fake, &["records", "-A"]));
    said.push_str(&home.run(&fake, &["records", "--outcome", "fine"]));
    said.push_str(&home.run(&fake, &["records", "--parent", "me"]));
    said.push_str(&home.run(&fake, &["records", "mail", "-A"]));
    check("records", &said);
    let said = home.run(&fake, &["records", "-o", "json"]);
    let told = said.split_once("--- stdout\n").unwrap().1;
    let told = told.split_once("--- stderr").unwrap().0;
    let told: Value = serde_json::from_str(told).unwrap();
    assert_eq!(told[1], all["items"][1]);
}

#[test]
fn a_list_goes_on_over_pages_until_there_are_enough() {
    let home = Home::new();
    let more = |items: &[Value], next: &str| json!({ "items": items, "continue": next });
    let fake = Fake::new()
        .on(
            "GET /records?namespace=default&limit=3",
            200,
            &more(&[record(1, "a", 0, "ok")], "x"),
        )
        .on(
            "GET /records?namespace=default&limit=2&continue=x",
            200,
            &more(&[], "y"),
        )
        .on(
            "GET /records?namespace=default&limit=2&continue=y",
            200,
            &more(&[record(2, "b", 1, "ok"), record(3, "c", 2, "ok")], "z"),
        );
    let said = home.run(&fake, &["records", "--limit", "3"]);
    assert_eq!(said.matches("2026-01-01T").count(), 3, "{said}");
    assert_eq!(fake.asked().len(), 3);
}

#[test]
fn an_invocation_that_asked_for_nothing_is_named() {
    let home = Home::new();
    let asked = format!("GET /records?parent={}&limit=50", id(1));
    let fake = Fake::new().on(&asked, 200, &page(&[]));
    let said = home.run(&fake, &["records", "--parent", &id(1)]);
    check("records-parent-none", &said);
}

#[test]
fn records_are_followed() {
    let home = Home::new();
    let came = [
        record(1, "thumbnail", 0, "ok"),
        json!({ "missed": 12 }),
        record(2, "mail", 3, "limit-timeout"),
    ];
    let fake = Fake::new()
        .lines("GET /records?namespace=default&follow=true", &came)
        .lines("GET /records?namespace=default&limit=5&follow=true", &came);
    // The first time the server answers still, the second time it is gone.
    let fake = fake.on("GET /", 200, &json!({ "name": "tidegate" }));
    let mut said = home.run(&fake, &["records", "--follow"]);
    said.push_str(&home.run(&fake, &["records", "-f", "--limit", "5", "-o", "json"]));
    check("records-follow", &said);
}

/// One that was called, called another, and had a third made later, which took two tries.
fn story() -> Fake {
    let mut front = record(1, "front", 0, "ok");
    front["times"] = json!({
        "totalUs": 120_000, "queueUs": 30_000, "runUs": 90_000,
        "cold": { "sandboxUs": 3_000, "runtimeUs": 8_000, "loadUs": 17_000 },
    });
    let mut thumbnail = record(2, "thumbnail", 40, "ok");
    thumbnail["cause"] = json!({ "kind": "function", "parent": id(1) });
    let mut first = record(4, "mail", 130, "function");
    first["cause"] = json!({ "kind": "queue", "parent": id(3), "attempt": 1 });
    first["message"] = json!("the function raised an exception: no route to mx.example.org");
    first["status"] = json!(500);
    first["trace"] = json!({ "id": "4bf92f3577b34da6a3ce929d0e0e4736", "span": "00f067aa0ba902b7", "parent": "00f067aa0ba902b6", "sampled": true });
    let mut second = record(5, "mail", 300, "ok");
    second["cause"] = json!({ "kind": "queue", "parent": id(3), "attempt": 2 });
    let line = |text: &str, stream: &str| json!({ "time": "2026-01-01T00:00:00.140001Z", "instance": "i7", "stream": stream, "text": text });
    let mut fake = Fake::new()
        .on(&format!("GET /records/{}", id(1)), 200, &front)
        .on(&format!("GET /records/{}", id(2)), 200, &thumbnail)
        .on(&format!("GET /records/{}", id(4)), 200, &first)
        .on(&format!("GET /records/{}", id(5)), 200, &second)
        .lines(
            &format!("GET /records/{}/logs", id(4)),
            &[
                line("connecting", "stdout"),
                line("no route to mx.example.org", "stderr"),
            ],
        )
        .lines(
            &format!("GET /records/{}/logs", id(5)),
            &[line("sent", "stdout")],
        )
        .lines(&format!("GET /records/{}/logs", id(2)), &[]);
    for (of, items) in [
        (1, vec![thumbnail]),
        (2, vec![]),
        // The last to end is told first.
        (3, vec![second, first]),
        (4, vec![]),
        (5, vec![]),
        (9, vec![]),
    ] {
        let line = format!("GET /records?parent={}&limit=200&since=*", id(of));
        fake = fake.on(&line, 200, &page(&items));
    }
    let unknown = error("no record of that invocation is kept", "not-found");
    fake.on(&format!("GET /records/{}", id(3)), 404, &unknown)
        .on(&format!("GET /records/{}", id(9)), 404, &unknown)
        .on(&format!("GET /records/{}/logs", id(9)), 404, &unknown)
}

#[test]
fn one_is_shown_with_what_led_to_it() {
    let (home, fake) = (Home::new(), story());
    let mut said = home.run(&fake, &["records", "show", &id(4)]);
    said.push_str(&home.run(&fake, &["records", "show", &id(2)]));
    // The one that was accepted has no record of its own, but its tries have.
    said.push_str(&home.run(&fake, &["records", "show", &id(3)]));
    said.push_str(&home.run(&fake, &["records", "show", &id(9)]));
    check("records-show", &said);
    let said = home.run(&fake, &["records", "show", &id(2), "-o", "json"]);
    let told = said.split_once("--- stdout\n").unwrap().1;
    let told: Value = serde_json::from_str(told.split_once("--- stderr").unwrap().0).unwrap();
    assert_eq!(told["record"]["id"], id(2));
    assert_eq!(told["related"][0]["id"], id(1));
    assert_eq!(told["logs"], json!([]));
    // Nothing older than the one that is asked for is looked at.
    let asked = fake.asked();
    let children = asked.iter().find(|a| a.line.contains("parent=")).unwrap();
    assert!(
        children
            .line
            .ends_with("since=2025-12-31T23%3A59%3A50.808Z"),
        "{}",
        children.line
    );
}

#[test]
fn on_a_terminal_its_time_is_drawn() {
    let (home, fake) = (Home::new(), story());
    let show = |args: &[&str], n| {
        let id = id(n);
        home.on_terminal(&fake, &[args, &["records", "show", &id]].concat())
    };
    let mut said = show(&["--color", "never"], 2);
    said.push_str(&show(&[], 4));
    check("records-show-terminal", &said);
}

#[test]
fn the_lines_of_one_are_read_from_disk() {
    let (home, fake) = (Home::new(), story());
    let mut said = home.run(&fake, &["logs", "--record", &id(4), "--timestamps"]);
    said.push_str(&home.run(&fake, &["logs", "--record", &id(2)]));
    said.push_str(&home.run(&fake, &["logs", "--record", &id(9)]));
    said.push_str(&home.run(&fake, &["logs", "--record", &id(4), "--follow"]));
    said.push_str(&home.run(&fake, &["logs"]));
    check("logs-record", &said);
}

fn costs(currency: &str) -> Value {
    let row = |namespace: &str, function: &str, start: &str, total: u64, money: &str| {
        json!({
            "usage": {
                "namespace": namespace, "function": function, "start": start,
                "invocations": { "total": total, "byOutcome": { "ok": total - 1, "function": 1 } },
                "gbSeconds": total as f64 / 8.0, "billedSeconds": total as f64 / 2.0,
                "cpuSeconds": total as f64 / 10.0, "bytesIn": 100, "bytesOut": total * 1_000,
                "coldStarts": 2, "queued": 0, "idleSeconds": 60.0, "idleGbSeconds": 15.0, "unrecorded": 0,
            },
            "cost": {
                "total": money, "invocations": "0", "gbSeconds": money, "cpu": "0", "out": "0",
                "coldStarts": "0", "idle": "0",
            },
        })
    };
    let rows = [
        row(
            "default",
            "thumbnail",
            "2026-01-01T00:00:00.000000Z",
            1_200,
            "0.100000001",
        ),
        row(
            "default",
            "thumbnail",
            "2026-01-02T00:00:00.000000Z",
            4_000,
            "0.400000002",
        ),
        row(
            "team",
            "mail",
            "2026-01-02T00:00:00.000000Z",
            30,
            "0.000000003",
        ),
    ];
    json!({ "currency": currency, "items": rows, "total": "0.500000006" })
}

#[test]
fn what_has_no_price_is_told_all_the_same() {
    let home = Home::new();
    let mut free = costs("");
    for row in free["items"].as_array_mut().unwrap() {
        row["cost"]["total"] = json!("0");
    }
    let fake = Fake::new().on("GET /cost?by=total&namespace=default&since=30d", 200, &free);
    let mut said = home.run(&fake, &["cost"]);
    said.push_str(&home.run(&fake, &["cost", "--chart"]));
    check("cost-free", &said);
}

#[test]
fn costs_are_added_up() {
    let home = Home::new();
    let fake = Fake::new()
        .on(
            "GET /cost?by=total&namespace=default&since=30d",
            200,
            &costs("EUR"),
        )
        .on("GET /cost?by=total&since=30d", 200, &costs("EUR"))
        .on(
            "GET /cost?by=day&namespace=default&since=48h",
            200,
            &costs("EUR"),
        )
        .on(
            "GET /cost?by=hour&namespace=default&since=30d",
            200,
            &costs(""),
        )
        .on(
            "GET /cost?by=total&namespace=default&function=gone&since=30d",
            200,
            &json!({ "currency": "EUR", "items": [], "total": "0" }),
        )
        .on("GET /functions?limit=500", 200, &list(&[]));
    let mut said = home.run(&fake, &["cost"]);
    said.push_str(&home.run(&fake, &["cost", "--by", "namespace"]));
    said.push_str(&home.run(
        &fake,
        &["cost", "--by", "day", "--since", "48h", "-o", "csv"],
    ));
    said.push_str(&home.run(&fake, &["cost", "--by", "day", "--since", "48h", "--chart"]));
    said.push_str(&home.run(&fake, &["cost", "-A", "--chart"]));
    said.push_str(&home.run(&fake, &["cost", "--by", "hour"]));
    said.push_str(&home.run(&fake, &["cost", "--by", "hour", "--chart"]));
    said.push_str(&home.run(&fake, &["cost", "--by", "namespace", "-o", "json"]));
    said.push_str(&home.run(&fake, &["cost", "--function", "gone"]));
    check("cost", &said);
}
