use serde_json::{Value, json};

use crate::fake::Fake;
use crate::harness::{Home, check, error};

/// The page of metrics after so many calls.
fn page(calls: u64) -> String {
    let of = |namespace: &str, function: &str, calls: u64, failed: u64| {
        let name = format!("namespace=\"{namespace}\",function=\"{function}\"");
        format!(
            "tidegate_invocations_total{{{name},outcome=\"ok\"}} {ok}\n\
             tidegate_invocations_total{{{name},outcome=\"function\"}} {failed}\n\
             tidegate_invocation_duration_seconds_bucket{{le=\"0.01\",{name}}} {ok}\n\
             tidegate_invocation_duration_seconds_bucket{{le=\"0.1\",{name}}} {calls}\n\
             tidegate_invocation_duration_seconds_bucket{{le=\"+Inf\",{name}}} {calls}\n\
             tidegate_invocations_in_flight{{{name}}} 4\n\
             tidegate_instances{{{name},state=\"busy\"}} 2\n\
             tidegate_invocations_queued{{{name}}} 1\n",
            ok = calls - failed
        )
    };
    let mut page = "# HELP tidegate_functions Functions that can be called\n".to_owned();
    page.push_str(&of("default", "mail", 10, 0));
    page.push_str(&of("default", "thumbnail", calls, calls / 4));
    page.push_str(&of("team", "report", calls / 2, 0));
    page.push_str("tidegate_functions 12\n");
    page
}

/// The first look is alone, and between all others as much happens.
fn server() -> Fake {
    let record = json!({
        "id": "019b76da8800700080000000000000aa", "namespace": "default", "function": "thumbnail",
        "cause": { "kind": "call" }, "received": "2026-01-01T00:00:00.000000Z",
        "times": { "totalUs": 1, "queueUs": 0, "runUs": 1 }, "outcome": "ok", "bytesIn": 0, "bytesOut": 0,
        "used": { "how": "alone", "cpuUs": 1, "memoryPeak": 33_554_432 },
        "memoryLimit": 268_435_456, "billedUs": 1,
    });
    let mut fake = Fake::new()
        .on(
            "GET /records?namespace=default&since=1m&limit=1000",
            200,
            &json!({ "items": [record] }),
        )
        .on(
            "GET /usage?*",
            403,
            &error("the key does not cover this", "forbidden"),
        );
    for calls in [100, 200, 300, 400] {
        fake = fake.raw("GET /metrics", 200, &[], &page(calls));
    }
    fake
}

#[test]
fn one_look_is_for_scripts() {
    let (home, fake) = (Home::new(), server());
    let said = home.run(
        &fake,
        &["top", "--once", "--interval", "100ms", "-o", "json"],
    );
    let told = said.split_once("--- stdout\n").unwrap().1;
    let rows: Value = serde_json::from_str(told.split_once("--- stderr").unwrap().0).unwrap();
    let busy = &rows[0];
    assert_eq!(busy["function"], "thumbnail");
    let rate = busy["callsPerSecond"].as_f64().unwrap();
    // A hundred calls in a tenth of a second, or in more where the machine is busy.
    assert!(rate > 1.0 && rate <= 1_000.0, "{rate}");
    assert_eq!(busy["errorPercent"], 25.0);
    assert_eq!(busy["p50Us"], 6_667);
    assert_eq!(busy["memoryPeak"], 33_554_432);
    assert_eq!(
        (&busy["cpuCores"], &busy["inFlight"]),
        (&Value::Null, &json!(4))
    );
    // What was not called meanwhile is there as well, and what is of another namespace is not.
    assert_eq!(rows[1]["function"], "mail");
    assert_eq!(rows[1]["errorPercent"], Value::Null);
    assert_eq!(rows.as_array().unwrap().len(), 2);
}

#[test]
fn what_cannot_be_looked_at_is_said() {
    let home = Home::new();
    let nothing = Fake::new();
    let mut said = home.run(&nothing, &["top", "--once", "--interval", "1ms"]);
    let refusing = Fake::new().raw(
        "GET /metrics",
        403,
        &[],
        &error(
            "requests for host example.org are not answered",
            "forbidden",
        )
        .to_string(),
    );
    said.push_str(&home.run(&refusing, &["top", "--once"]));
    check("top-errors", &said);
}

#[test]
fn a_terminal_is_taken_over_and_given_back() {
    let (home, fake) = (Home::new(), server());
    let said = home.on_terminal(
        &fake,
        &[
            "--color",
            "never",
            "top",
            "-A",
            "--count",
            "2",
            "--interval",
            "100ms",
            "--sort",
            "name",
        ],
    );
    assert!(
        said.starts_with("exit 0\n--- stdout\nESC[?1049hESC[?25l"),
        "{said}"
    );
    assert!(said.contains("ESC[?25hESC[?1049l--- stderr\n"), "{said}");
    assert_eq!(said.matches("ESC[H").count(), 3, "{said}");
    let last = said.rsplit("ESC[H").next().unwrap();
    let order = [
        "NAMESPACE",
        "mail",
        "thumbnail",
        "report",
        "and 9 that nobody has called",
    ];
    let places = order.map(|word| {
        last.find(word)
            .unwrap_or_else(|| panic!("{word} in {last}"))
    });
    assert!(places.is_sorted(), "{last}");
}

#[test]
fn a_server_that_goes_away_is_waited_for() {
    let home = Home::new();
    let gone = error("the server is shutting down", "unavailable").to_string();
    let fake = Fake::new()
        .raw("GET /metrics", 200, &[], &page(100))
        .raw("GET /metrics", 503, &[], &gone)
        .raw("GET /metrics", 200, &[], &page(200));
    let said = home.on_terminal(
        &fake,
        &[
            "--color",
            "never",
            "top",
            "--count",
            "2",
            "--interval",
            "100ms",
        ],
    );
    let looks: Vec<&str> = said.split("ESC[H").collect();
    assert!(looks[2].contains("the server is shutting down"), "{said}");
    assert!(
        !looks[3].contains("shutting down") && looks[3].contains("thumbnail"),
        "{said}"
    );
}
