//! Secrets, from the command to the code and nowhere else.

use crate::harness::{Shared, until};

static SERVER: Shared = Shared::new();

const READER: &str = "import os\ndef handler(event):\n    return {'env': os.environ.get('DB'), 'file': open('/run/secrets/db').read() if os.path.exists('/run/secrets/db') else None, 'started': os.environ.get('TIDEGATE_REVISION')}\n";

#[test]
fn a_secret_is_a_file_or_a_variable_of_the_function_that_names_it_only() {
    let server = SERVER.get();
    server
        .cli_with(&["secret", "set", "db", "-"], b"p\xc3\xa4ss")
        .ok();
    server.deploy("by-file", READER, &["--secret", "db"]);
    server.deploy("by-env", READER, &["--secret", "db=DB"]);
    server.deploy("without", READER, &[]);
    let seen = |name: &str| server.get(&format!("/fn/{name}")).ok().json();
    assert_eq!(
        (&seen("by-file")["file"], &seen("by-file")["env"]),
        (&"päss".into(), &().into())
    );
    assert_eq!(
        (&seen("by-env")["env"], &seen("by-env")["file"]),
        (&"päss".into(), &().into())
    );
    assert_eq!(
        (&seen("without")["env"], &seen("without")["file"]),
        (&().into(), &().into())
    );
    // No command or route shows the value, and it is not on the disk as it is.
    for words in [
        &["secret", "list", "--json"][..],
        &["describe", "by-env", "--json"],
        &["list", "--json"],
    ] {
        assert!(!server.cli(words).ok().text().contains("päss"));
    }
    let stored = std::fs::read(server.data().join("objects.db")).or_else(|_| {
        // Whatever the database is called, it is the largest file at the top of the data folder.
        let files = std::fs::read_dir(server.data()).expect("a folder");
        let largest = files
            .filter_map(|e| Some((e.as_ref().ok()?.metadata().ok()?.len(), e.ok()?.path())))
            .filter(|(_, p)| p.is_file())
            .max();
        std::fs::read(largest.expect("a file").1)
    });
    let stored = stored.expect("the database");
    assert!(!stored.windows(5).any(|bytes| bytes == "päss".as_bytes()));
}

#[test]
fn a_change_of_a_secret_reaches_the_function_without_a_failed_call() {
    let server = SERVER.get();
    server
        .cli(&["secret", "set", "turning", "--value", "old"])
        .ok();
    server.deploy(
        "turned",
        "import os\nvalue = os.environ['V']\ndef handler(event):\n    return value\n",
        &["--secret", "turning=V"],
    );
    assert_eq!(server.get("/fn/turned").ok().text(), "old");
    server
        .cli(&["secret", "set", "turning", "--value", "new"])
        .ok();
    until("the new value is seen", || {
        server.get("/fn/turned").ok().text() == "new"
    });
}

#[test]
fn a_missing_secret_is_a_400_and_a_used_one_is_not_deleted() {
    let server = SERVER.get();
    server
        .try_deploy("wants", READER, &["--secret", "not-set"])
        .code(1)
        .says(&["not-set", "tidegate secret set"]);
    server.cli(&["describe", "wants"]).code(1);
    let file = server.file("value.txt", "from a file");
    server
        .cli(&["secret", "set", "kept", "--from-file", &file])
        .ok();
    server.deploy("holds", READER, &["--secret", "kept=DB"]);
    assert_eq!(server.get("/fn/holds").ok().json()["env"], "from a file");
    server
        .cli(&["secret", "delete", "kept"])
        .code(1)
        .says(&["holds", "--force"]);
    server.cli(&["delete", "holds"]).ok();
    server.cli(&["secret", "delete", "kept"]).ok();
    server.cli(&["secret", "delete", "kept"]).code(1);
    let large = server.file("large.txt", vec![b'x'; 65 * 1024]);
    server
        .cli(&["secret", "set", "large", "--from-file", &large])
        .code(1)
        .says(&["65536"]);
    server
        .cli(&["secret", "set", "Bad_Name", "--value", "x"])
        .code(2)
        .says(&["Bad_Name"]);
}

#[test]
fn a_secret_survives_a_restart() {
    let mut server = crate::harness::Server::start();
    server
        .cli(&["secret", "set", "lasting", "--value", "still here"])
        .ok();
    server.deploy("keeper", READER, &["--secret", "lasting=DB"]);
    server.stop();
    server.restart();
    assert_eq!(server.get("/fn/keeper").ok().json()["env"], "still here");
}
