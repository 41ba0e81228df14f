//! The commands that look at what was called and what will be: records, cost, the queue, dead letters, triggers.

use std::io::BufRead as _;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::harness::{Ran, Server, Shared, eventually, until};

static SERVER: Shared = Shared::new();

/// With prices, so that calls cost something.
fn start() -> Server {
    Server::options()
        .set("prices.currency", "EUR")
        .set("prices.invocation", "0.25")
        .start()
}

const WORK: &str = "
def handler(event):
    if event.body == b'fail':
        raise ValueError('as it \\x1b[2Jwas told')
    print('working at', event.query.get('n', '-'))
    return 'worked'
";

const FRONT: &str = "
import urllib.request
def handler(event):
    for n in range(2):
        urllib.request.urlopen('http://looked-at/?n=%d' % n, timeout=20).read()
    return 'both'
";

/// The rows of a command's JSON.
#[track_caller]
fn rows(ran: Ran) -> Vec<Value> {
    let rows = ran.ok().json();
    rows.as_array().expect("a list").clone()
}

/// The first words of the lines below the headings.
fn first_words(text: &str) -> Vec<&str> {
    let lines = text.lines().skip(1);
    lines.filter_map(|l| l.split_whitespace().next()).collect()
}

fn id_of(ran: &Ran) -> String {
    ran.text().trim().to_owned()
}

#[test]
fn records_are_listed_and_shown_with_what_they_led_to() {
    let server = SERVER.get_or(start);
    server.deploy("looked-at", WORK, &[]);
    server.deploy("front", FRONT, &[]);
    server.cli(&["invoke", "front"]).ok();
    let front = rows(server.cli(&["records", "front", "-o", "json"]));
    let [front] = &front[..] else {
        panic!("one record: {front:?}");
    };
    let id = front["id"].as_str().expect("an id");
    let listed = server.cli(&["records", "front"]).ok();
    assert!(listed.text().starts_with("TIME"), "{listed}");
    assert!(listed.text().contains(id), "{listed}");

    let children = rows(server.cli(&["records", "--parent", id, "-o", "json"]));
    assert_eq!(children.len(), 2, "{children:?}");
    let child = children[0]["id"].as_str().expect("an id");
    // The last one first.
    let printed = server.cli(&["logs", "--record", child]);
    assert_eq!(printed.ok().text(), "working at 1\n");

    // From anywhere in the tree, all of it.
    let shown = server.cli(&["records", "show", child]).ok();
    for part in ["Cause", "front", "looked-at", id, child, "working at 1"] {
        assert!(shown.text().contains(part), "{part}: {shown}");
    }
    let shown = server.cli(&["records", "show", id, "-o", "json"]).ok();
    let shown = shown.json();
    assert_eq!(shown["record"]["id"], id);
    assert_eq!(shown["related"].as_array().expect("a list").len(), 3);

    let nobody = "01900000000070008000000000000000";
    let nothing = server.cli(&["records", "--parent", nobody]).ok();
    assert_eq!(nothing.text(), "");
    nothing.says(&[&format!("no records of what invocation {nobody}")]);
    server
        .cli(&["records", "show", nobody])
        .code(1)
        .says(&[nobody, "queue show"]);
    server
        .cli(&["records", "--outcome", "lucky"])
        .code(1)
        .says(&["lucky", "application"]);
}

#[test]
fn what_was_used_is_told_and_costs_what_the_prices_say() {
    let server = SERVER.get_or(start);
    server.deploy("billed", WORK, &[]);
    for _ in 0..4 {
        server.cli(&["invoke", "billed"]).ok();
    }
    let cost = ["cost", "--function", "billed"];
    let told = eventually("all calls are counted", || {
        let told = server.cli(&[&cost[..], &["-o", "json"]].concat()).ok();
        let told = told.json();
        (told["items"][0]["invocations"] == 4).then_some(told)
    });
    assert_eq!(
        (&told["currency"], &told["total"]),
        (&json!("EUR"), &json!("1"))
    );
    let table = server.cli(&cost).ok();
    assert!(
        table
            .text()
            .lines()
            .next()
            .expect("headings")
            .ends_with("EUR"),
        "{table}"
    );
    assert!(table.text().contains("1.000000"), "{table}");
    let csv = server
        .cli(&[&cost[..], &["--by", "day", "-o", "csv"]].concat())
        .ok();
    let lines: Vec<&str> = csv.text().lines().collect();
    assert!(
        lines[0].starts_with("start,namespace,function,invocations"),
        "{csv}"
    );
    assert!(lines[1].ends_with(",1,EUR"), "{csv}");
    let chart = server.cli(&[&cost[..], &["--chart"]].concat()).ok();
    assert!(
        chart.text().starts_with("billed  1.000000 EUR  ███"),
        "{chart}"
    );
    server
        .cli(&["cost", "--function", "nobody-at-all"])
        .code(1)
        .says(&["no function nobody-at-all"]);
}

#[test]
fn top_takes_one_look() {
    let server = SERVER.get_or(start);
    server.deploy("topped", WORK, &[]);
    server.cli(&["invoke", "topped"]).ok();
    let once = ["top", "--once", "--interval", "100ms"];
    let ran = server.cli(&once).ok();
    assert!(ran.text().starts_with("FUNCTION"), "{ran}");
    assert!(first_words(ran.text()).contains(&"topped"), "{ran}");
    let rows = rows(server.cli(&[&once[..], &["-o", "json"]].concat()));
    let row = rows.iter().find(|row| row["function"] == "topped");
    assert!(row.is_some(), "{rows:?}");
}

#[test]
fn calls_for_later_are_listed_cancelled_and_waited_for() {
    let server = SERVER.get_or(start);
    server.deploy("later", WORK, &[]);
    let call = ["invoke", "later", "--async"];
    let told = server.cli(&[&call[..], &["--wait"]].concat()).ok();
    assert_eq!(told.text(), "worked");
    let failed = server.cli(&[&call[..], &["-d", "fail", "--wait", "--max-age", "1s"]].concat());
    failed.code(1);

    let id = id_of(&server.cli(&[&call[..], &["--delay", "1h"]].concat()).ok());
    let list = server.cli(&["queue", "list", "later"]).ok();
    assert!(first_words(list.text()).contains(&&*id), "{list}");
    let shown = server.cli(&["queue", "show", &id, "--json"]).ok().json();
    assert_eq!(
        (&shown["state"], &shown["tries"]),
        (&json!("waiting"), &json!(0))
    );
    server.cli(&["queue", "show", &id]).ok();
    server
        .cli(&["queue", "cancel", &id])
        .ok()
        .says(&["cancelled"]);
    let left = rows(server.cli(&["queue", "list", "later", "--json"]));
    assert!(
        left.iter().all(|queued| queued["id"] != id.as_str()),
        "{left:?}"
    );
    server
        .cli(&["queue", "result", &id])
        .code(1)
        .says(&["cancelled"]);
}

#[test]
fn dead_letters_are_shown_sent_again_and_thrown_away() {
    let server = SERVER.get_or(start);
    server.deploy("fails", WORK, &[]);
    server
        .change("fails", |spec| spec["async"] = json!({ "retries": 0 }))
        .ok();
    let id = id_of(
        &server
            .cli(&["invoke", "fails", "-d", "fail", "--async"])
            .ok(),
    );
    let listed = |what: &str| {
        eventually(what, || {
            let all = rows(server.cli(&["dead-letters", "list", "--function", "fails", "--json"]));
            all.into_iter().find(|letter| letter["id"] == id.as_str())
        })
    };
    let letter = listed("it is given up");
    assert_eq!(
        (&letter["reason"], &letter["outcome"]),
        (&json!("failed"), &json!("function"))
    );
    let table = server
        .cli(&["dead-letters", "list", "--function", "fails"])
        .ok();
    assert!(table.text().contains(&id), "{table}");
    let shown = server.cli(&["dead-letters", "show", &id]).ok();
    for part in ["function (500)", "failed as often", "POST /", "fail\n"] {
        assert!(shown.text().contains(part), "{part}: {shown}");
    }

    server
        .cli(&["dead-letters", "redrive"])
        .code(2)
        .says(&["--all"]);
    server
        .cli(&["dead-letters", "redrive", &id])
        .ok()
        .says(&["1 dead letter sent again"]);
    let again = listed("it is given up again");
    assert_eq!(again["reason"], "failed");
    server
        .cli(&[
            "dead-letters",
            "redrive",
            "--function",
            "fails",
            "--rate",
            "50",
        ])
        .ok()
        .says(&["1 dead letter sent again"]);
    listed("it is given up once more");
    server
        .cli(&["dead-letters", "purge", "--function", "fails"])
        .ok()
        .says(&["1 dead letter thrown away"]);
    server
        .cli(&["dead-letters", "show", &id])
        .code(1)
        .says(&["dead-letters list"]);
}

#[test]
fn a_trigger_is_made_paused_resumed_fired_and_deleted() {
    let server = SERVER.get_or(start);
    server.deploy("ticked", WORK, &[]);
    let create = [
        "trigger",
        "create",
        "tick",
        "--function",
        "ticked",
        "--schedule",
    ];
    let retrying = ["--retries", "4", "--max-age", "1h", "--data", "{}"];
    let made = server
        .cli(&[&create[..], &["0 3 * * *"], &retrying].concat())
        .ok();
    assert_eq!(made.text().lines().count(), 5, "{made}");
    server
        .cli(&[&create[..], &["0 3 * * *"]].concat())
        .code(1)
        .says(&["--replace"]);
    server
        .cli(&[&create[..], &["0 25 * * *"]].concat())
        .code(2)
        .says(&["hour \"25\""]);
    let shown = server
        .cli(&["trigger", "show", "tick", "--json"])
        .ok()
        .json();
    assert_eq!(
        shown["spec"]["async"],
        json!({ "retries": 4, "maxAge": "1h" })
    );
    let list = server.cli(&["trigger", "list"]).ok();
    assert!(first_words(list.text()).contains(&"tick"), "{list}");
    server.cli(&["trigger", "pause", "tick"]).ok();
    assert!(
        server
            .cli(&["trigger", "list"])
            .ok()
            .text()
            .contains("paused")
    );
    server
        .cli(&["trigger", "resume", "tick"])
        .ok()
        .says(&["next at"]);
    let fired = id_of(&server.cli(&["trigger", "fire", "tick"]).ok());
    let waited = server.cli(&["queue", "result", &fired, "--wait"]).ok();
    assert_eq!(waited.text(), "worked");
    let came = rows(server.cli(&["records", "--trigger", "tick", "-o", "json"]));
    assert_eq!(came[0]["cause"]["kind"], "schedule");
    server.cli(&["trigger", "delete", "tick"]).ok();
    server
        .cli(&["trigger", "show", "tick"])
        .code(1)
        .says(&["no trigger tick"]);
}

#[test]
fn a_manifests_triggers_come_and_go_with_it() {
    let server = SERVER.get_or(start);
    server.file("shop/report.py", WORK);
    let manifest = |triggers: &str| {
        let text = format!("[functions.report]\npath = \"report.py\"\n{triggers}");
        server.file("shop/tidegate.toml", &text)
    };
    let file = manifest(
        "[triggers.often]\nfunction = \"report\"\nschedule = \"@every 1s\"\nasync = { retries = 1 }\n\
         [triggers.nightly]\nfunction = \"report\"\nschedule = \"30 2 * * *\"\nbody = \"{}\"\n",
    );
    let ran = server.cli(&["apply", "-f", &file]).ok();
    for part in [
        "created report",
        "created trigger often",
        "created trigger nightly",
    ] {
        assert!(ran.text().contains(part), "{ran}");
    }
    until("it fires", || {
        let shown = server
            .cli(&["trigger", "show", "often", "--json"])
            .ok()
            .json();
        shown["status"]["fired"]
            .as_u64()
            .is_some_and(|fired| fired > 0)
    });
    let ran = server.cli(&["apply", "-f", &file]).ok();
    assert!(ran.text().contains("unchanged trigger often"), "{ran}");

    let exported = server.cli(&["export", "report", "-o", "toml"]).ok();
    assert!(exported.text().contains("[triggers.nightly]"), "{exported}");
    let again = server.file("again.toml", exported.text());
    let ran = server.cli(&["apply", "-f", &again, "--dry-run"]).ok();
    assert!(ran.stderr.contains("leave 3"), "{ran}");

    let file = manifest("[triggers.nightly]\nfunction = \"report\"\nschedule = \"30 2 * * *\"\n");
    let ran = server.cli(&["apply", "-f", &file, "--prune"]).ok();
    for part in ["updated trigger nightly", "deleted trigger often"] {
        assert!(ran.text().contains(part), "{ran}");
    }
    let file = manifest("[triggers.nightly]\nfunction = \"report\"\nschedule = \"30 2 * *\"\n");
    server.cli(&["apply", "-f", &file]).code(2).says(&[
        "triggers.nightly.schedule",
        "4 fields",
        "tidegate.toml:5",
    ]);
}

#[test]
fn whoever_follows_is_told_that_the_server_ended() {
    let mut server = Server::start();
    server.deploy("followed", WORK, &[]);
    let follow = |words: &[&str], begun: &str| {
        let mut child = server
            .command(words)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let stdout = child.stdout.take().expect("a pipe");
        let mut lines = std::io::BufReader::new(stdout).lines();
        // There is something to read, so it follows.
        let line = eventually("a line", || {
            server.cli(&["invoke", "followed"]).ok();
            lines.next()
        });
        let line = line.expect("text");
        assert!(line.starts_with(begun), "{line}");
        (child, lines)
    };
    let all = [
        follow(&["records", "--follow"], "TIME"),
        follow(&["logs", "followed", "--follow"], "working"),
    ];
    server.stop();
    for (child, lines) in all {
        lines.for_each(drop);
        let ran = Ran::from(child.wait_with_output().expect("it ends"));
        assert!(matches!(ran.code, Some(1 | 3)), "{ran}");
        assert!(ran.stderr.contains("error: "), "{ran}");
    }
}
