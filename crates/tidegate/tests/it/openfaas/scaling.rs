//! How many replicas labels make of a load.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use super::{PYTHON, server};
use crate::harness::{Server, until};

const HELLO: &str = "def handle(event, context):\n    return 'hello'\n";

/// What clients give a load to show, and a load that is gone to be forgotten.
const MINUTE: Duration = Duration::from_secs(60);

fn up(server: &Server, name: &str, labels: serde_json::Value) {
    let more = [("labels".to_owned(), labels)].into_iter().collect();
    server.faas_up(name, PYTHON, &[("handler.py", HELLO)], more);
}

/// Replicas that are desired, and those that can be called.
fn replicas(server: &Server, name: &str) -> (u64, u64) {
    let route = format!("/system/function/{name}");
    let told = server.faas("GET", &route).send().ok().json();
    let number = |key: &str| told[key].as_u64().unwrap_or(0);
    (number("replicas"), number("availableReplicas"))
}

#[test]
fn ten_calls_a_second_make_two_of_one_and_one_again_within_a_minute_and_fixed_numbers_stay() {
    let server = server();
    up(
        &server,
        "scale-load",
        json!({"com.openfaas.scale.max": "2"}),
    );
    let fixed = json!({"com.openfaas.scale.min": "1", "com.openfaas.scale.max": "1"});
    up(&server, "scale-fixed", fixed);
    assert_eq!(replicas(&server, "scale-load"), (1, 1));
    let began = Instant::now();
    let shows = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for name in ["scale-load", "scale-fixed"] {
            let (server, shows) = (&server, &shows);
            scope.spawn(move || {
                let mut next = Instant::now();
                while !shows.load(Ordering::Relaxed) && began.elapsed() < MINUTE {
                    assert_eq!(server.faas_invoke(name, "").ok().text(), "hello");
                    // The pace is the test's subject.
                    next += Duration::from_millis(100);
                    std::thread::sleep(next.saturating_duration_since(Instant::now()));
                }
            });
        }
        while replicas(&server, "scale-load") != (2, 2) && began.elapsed() < MINUTE {
            std::thread::sleep(Duration::from_millis(200));
        }
        shows.store(true, Ordering::Relaxed);
    });
    assert!(began.elapsed() < MINUTE, "the load shows");
    assert_eq!(replicas(&server, "scale-fixed"), (1, 1));
    let gone = Instant::now();
    while replicas(&server, "scale-load") != (1, 1) {
        assert!(gone.elapsed() < MINUTE, "the load is forgotten");
        std::thread::sleep(Duration::from_millis(200));
    }
    assert_eq!(replicas(&server, "scale-fixed"), (1, 1));
}

#[test]
fn who_opts_in_goes_to_zero_and_a_call_brings_the_minimum_back() {
    let server = server();
    let labels = json!({
        "com.openfaas.scale.zero": "true",
        "com.openfaas.scale.zero-duration": "5s",
        "com.openfaas.scale.min": "2",
    });
    up(&server, "scale-zero", labels);
    until("it is at rest", || {
        replicas(&server, "scale-zero") == (0, 0)
    });
    assert_eq!(server.faas_invoke("scale-zero", "").ok().text(), "hello");
    until("two are back", || replicas(&server, "scale-zero") == (2, 2));
    until("it is at rest", || {
        replicas(&server, "scale-zero") == (0, 0)
    });
}
