//! The main flow, word for word as a user sees it.

use insta::assert_snapshot;

use crate::harness::Server;

/// The screen of a user who types these.
fn screen(server: &Server, lines: &[&[&str]]) -> String {
    let mut screen = String::new();
    for words in lines {
        let ran = server.cli(words);
        let shown: Vec<_> = words.iter().map(|word| format!("{word:?}")).collect();
        screen.push_str(&format!("$ tidegate {}\n{ran}\n", shown.join(" ")));
    }
    screen
        .replace(&server.url, "URL")
        .replace(server.home().to_str().expect("text"), "HOME")
}

fn check(name: &str, screen: &str) {
    insta::with_settings!({
        filters => [
            (r"\b\d+\.\d+s\b", "TIME"),
            (r"\b\d+[smh] ago", "AGE ago"),
            (r"(?m) [ \d]\ds( +)(Ready|Failed)", " AGE$1$2"),
            (r"(?m) \d+s$", " AGE"),
            (r"\b\d{4}-\d\d-\d\dT[\d:.]+Z", "WHEN"),
            (r"sha256:[0-9a-f]{64}", "sha256:DIGEST"),
            (r"\b[0-9a-f]{32}\b", "ID"),
            (r"\b[0-9a-f]{12}\b", "REVISION"),
        ],
        omit_expression => true,
        prepend_module_to_snapshot => false,
    }, {
        assert_snapshot!(name, screen);
    });
}

#[test]
fn from_a_file_to_a_url_and_away() {
    let server = Server::start();
    let greet = server.file(
        "greet.py",
        "def handler(event, context):\n    name = event.query.get('name', 'world')\n    print('greeting', name)\n    return {'hello': name}\n",
    );
    let first = screen(
        &server,
        &[
            &["list"],
            &["deploy", &greet, "--env", "COLOUR=blue"],
            &["invoke", "greet"],
            &["invoke", "greet", "--path", "?name=you"],
            &["list"],
            &["describe", "greet"],
            &["logs", "greet"],
            &["scale", "greet", "--max", "3"],
            &["deploy", &greet, "--memory", "128Mi"],
        ],
    );
    check("flow", &first);

    server.file(
        "greet.py",
        "def handler(event, context):\n    return 1 / 0\n",
    );
    let second = screen(&server, &[&["deploy", &greet, "-q"], &["invoke", "greet"]]);
    check("flow-raises", &second);

    server.file(
        "greet.py",
        "import nothing_of_this_name\n\ndef handler(event, context):\n    return 1\n",
    );
    let third = screen(
        &server,
        &[
            &["deploy", &greet, "-q"],
            &["list"],
            &["delete", "greet"],
            &["delete", "greet"],
            &["invoke", "greet"],
        ],
    );
    check("flow-fails", &third);
}
