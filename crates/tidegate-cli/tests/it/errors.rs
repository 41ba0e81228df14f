use crate::fake::Fake;
use crate::harness::{Home, check, error};

#[test]
fn each_kind_of_failure_has_its_words_and_its_code() {
    let home = Home::new();
    let fake = Fake::new()
        .on(
            "GET /namespaces",
            401,
            &error("a key is needed", "unauthorized"),
        )
        .on(
            "GET /namespaces",
            403,
            &error("the key does not cover this", "forbidden"),
        )
        .on(
            "GET /namespaces",
            403,
            &error(
                "registry r.example.org refuses access to r.example.org/api: no credentials were given",
                "registry-unauthorized",
            ),
        )
        .on(
            "GET /namespaces",
            503,
            &error("the server is shutting down", "unavailable"),
        )
        .on(
            "GET /namespaces",
            500,
            &error("a mistake inside the server", "internal"),
        )
        .raw(
            "GET /tidegate/v1/namespaces",
            502,
            &[],
            "<html>Bad Gateway</html>",
        )
        .raw(
            "GET /tidegate/v1/namespaces",
            200,
            &[],
            "<html>Welcome</html>",
        );
    let mut said = String::new();
    for _ in 0..7 {
        said.push_str(&home.run(&fake, &["namespace", "list"]));
    }
    // A port that nothing listens on: the fake's, once it is gone.
    let gone = fake.url.clone();
    drop(fake);
    said.push_str(
        &home
            .plain(&["--url", &gone, "namespace", "list"], "", Vec::new())
            .replace(&gone, "URL"),
    );
    for url in ["nonsense", "ftp://host", "http://user:password@host"] {
        said.push_str(&home.plain(&["--url", url, "namespace", "list"], "", Vec::new()));
    }
    check("errors", &said);
}

#[test]
fn a_wrong_command_line_is_told_on_standard_error() {
    let home = Home::new();
    let mut said = String::new();
    for args in [
        &[][..],
        &["lits"],
        &["list", "--colour"],
        &["describe", "Not A Name"],
    ] {
        said.push_str(&home.plain(args, "", Vec::new()));
    }
    check("usage", &said);
}

#[test]
fn output_that_nobody_reads_is_a_normal_end() {
    let home = Home::new();
    assert_eq!(
        home.unread(&["completions", "bash"]),
        tidegate_cli::exit::OK
    );
    assert_eq!(home.unread(&["--help"]), tidegate_cli::exit::OK);
}

#[test]
fn colour_is_there_when_asked_for_and_else_not() {
    let home = Home::new();
    let url = "http://127.0.0.1:1";
    let plain = home.plain(&["--url", url, "list"], "", Vec::new());
    assert!(!plain.contains('\x1b'), "{plain}");
    let colored = home.plain(&["--url", url, "--color", "always", "list"], "", Vec::new());
    assert!(colored.contains("\x1b["), "{colored}");
}
