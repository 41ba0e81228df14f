//! What the environment may say.

use tidegate_contract::{Contract, ContractError};
use tidegate_instance::Program;

use crate::world::{refused, spec};

const HTTP: [(&str, &str); 3] = [
    ("mode", "http"),
    ("fprocess", "python index.py"),
    ("upstream_url", "http://127.0.0.1:5000"),
];

fn with(more: &[(&'static str, &'static str)]) -> Vec<(&'static str, &'static str)> {
    let mut all = HTTP.to_vec();
    all.extend(more);
    all
}

#[test]
fn what_a_real_watchdog_would_not_start_with_is_refused() {
    let check = |contract: &str, env: &[(&str, &str)], want: &str| {
        let error = refused(contract, env);
        assert!(error.to_string().contains(want), "{env:?}: {error}");
        assert_eq!(error.field(), "spec.env");
    };
    let of = "of-watchdog";
    check(
        of,
        &[("fprocess", "cat"), ("mode", "afterburn")],
        "afterburn",
    );
    check(
        of,
        &[("fprocess", "cat"), ("mode", "inproc")],
        "called with mode 'http'",
    );
    check(of, &[], "\"fprocess\" is not set");
    check(
        of,
        &[("mode", "http"), ("fprocess", "cat")],
        "\"upstream_url\" is not set",
    );
    check(
        of,
        &[("fprocess", "cat"), ("write_timeout", "0")],
        "above zero",
    );
    check(
        of,
        &[("fprocess", "cat"), ("log_buffer_size", "64k")],
        "number of bytes",
    );
    check(
        of,
        &[("fprocess", "cat"), ("content_type", "a\nb")],
        "media type",
    );
    check(
        of,
        &[("fprocess", "cat"), ("jwt_auth", "1")],
        "open to everyone",
    );
    check(
        of,
        &[("mode", "static"), ("static_path", "/srv/www")],
        "below /home/app",
    );
    check(
        of,
        &[("mode", "static"), ("static_path", "../x")],
        "below /home/app",
    );
    for elsewhere in [
        "http://10.0.0.1:5000",
        "https://127.0.0.1:5000",
        "127.0.0.1:5000",
        "http://127.0.0.1:0",
        "http://",
    ] {
        let env = with(&[("http_upstream_url", elsewhere)]);
        check(of, &env, "http://127.0.0.1:PORT");
    }
    let classic = "classic-watchdog";
    check(classic, &[], "\"fprocess\" is not set");
    check(
        classic,
        &[("fprocess", "cat"), ("jwt_auth", "true")],
        "jwt_auth",
    );
    // Not the older one's word for true.
    Contract::of(&spec(classic, &[("fprocess", "cat"), ("jwt_auth", "1")])).expect("taken");
    let unknown = refused("afterburn", &[]);
    assert!(matches!(unknown, ContractError::Unknown(_)));
    assert_eq!(unknown.field(), "spec.contract");
}

#[test]
fn a_process_is_split_on_single_spaces_and_nothing_else() {
    let program = |contract: &str, env: &[(&str, &str)]| {
        let spec = spec(contract, env);
        Contract::of(&spec).expect("it makes sense").program(&spec)
    };
    let words = |program: Option<Program>| match program {
        Some(Program::PerCall { command, .. }) => command,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        words(program("of-watchdog", &[("fprocess", "sh -c  \"a b\"")])),
        ["sh", "-c", "", "\"a", "b\""]
    );
    // The older one knows the one name alone.
    for (contract, want) in [
        ("of-watchdog", &["wc", "-l"][..]),
        ("classic-watchdog", &["cat"]),
    ] {
        let env = [("fprocess", "cat"), ("function_process", "wc -l")];
        assert_eq!(words(program(contract, &env)), want);
    }
    assert_eq!(
        program(
            "of-watchdog",
            &with(&[("upstream_url", "http://localhost:8082/")])
        ),
        Some(Program::Server {
            runtime: "executable".to_owned(),
            entry: "handler".to_owned(),
            command: vec!["python".to_owned(), "index.py".to_owned()],
            port: Some(8082),
        })
    );
    assert_eq!(program("of-watchdog", &[("mode", "static")]), None);
}

#[test]
fn a_language_host_stands_for_the_process_of_a_template() {
    let mut spec = spec("of-watchdog", &HTTP);
    spec.runtime = "python".to_owned();
    spec.handler = Some("handle".to_owned());
    let contract = Contract::of(&spec).expect("it makes sense");
    assert_eq!(
        contract.program(&spec),
        Some(Program::Host {
            runtime: "python".to_owned(),
            entry: "handler".to_owned(),
            handler: Some("handle".to_owned()),
        })
    );
    assert_eq!(contract.default_concurrency(), 1);
    spec.command = vec!["python".to_owned(), "index.py".to_owned()];
    let contract = Contract::of(&spec).expect("it makes sense");
    assert!(matches!(
        contract.program(&spec),
        Some(Program::Server {
            port: Some(5000),
            ..
        })
    ));
    assert_eq!(contract.default_concurrency(), 100);
}

#[test]
fn times_are_read_as_the_real_ones_read_them() {
    let times = |contract: &str, more: &[(&str, &str)]| {
        let mut env = vec![("fprocess", "cat")];
        env.extend(more);
        match Contract::of(&spec(contract, &env)) {
            Ok(Contract::Watchdog(dog)) => (
                dog.exec_timeout().map(|time| time.as_millis()),
                dog.write_timeout().as_millis(),
                dog.max_inflight(),
            ),
            other => panic!("{other:?}"),
        }
    };
    for (contract, env, want) in [
        ("of-watchdog", &[][..], (Some(30_000), 30_000, None)),
        ("classic-watchdog", &[], (None, 30_000, None)),
        (
            "of-watchdog",
            &[
                ("exec_timeout", "0"),
                ("write_timeout", "1m30s"),
                ("max_inflight", "4"),
            ],
            (None, 90_000, Some(4)),
        ),
        (
            "of-watchdog",
            &[("exec_timeout", "soon"), ("max_inflight", "0")],
            (Some(30_000), 30_000, None),
        ),
        (
            "classic-watchdog",
            &[("exec_timeout", "5"), ("write_timeout", "soon")],
            (Some(5000), 30_000, None),
        ),
    ] {
        assert_eq!(times(contract, env), want, "{contract} {env:?}");
    }
}
