//! The command line's part: a stack file applied, and what other clients are told.

use super::server;
use crate::harness::Server;

const STACK: &str = "version: 1.0
provider:
  name: openfaas
  gateway: http://127.0.0.1:8080
functions:
  stack-hello:
    lang: python3-http
    handler: ./stack-hello
    image: ${REGISTRY:-local}/stack-hello:latest
    environment:
      GREETING: ${GREETING:-hello}
    labels:
      com.openfaas.scale.max: \"2\"
";

#[test]
fn a_stack_file_is_applied() {
    let server = server();
    let handler = "import os\ndef handle(event, context):\n    return os.environ['GREETING'] + ' ' + event.body.decode()\n";
    let folder = server.folder(
        "stack",
        &[("stack.yaml", STACK), ("stack-hello/handler.py", handler)],
    );
    let file = format!("{folder}/stack.yaml");
    let applied = server.cli(&["apply", "-f", &file]).ok();
    assert!(applied.all().contains("/function/stack-hello"), "{applied}");
    assert_eq!(
        server.faas_invoke("stack-hello", "tide").ok().text(),
        "hello tide"
    );
    let told = server.faas_function("stack-hello");
    assert_eq!(told["image"], "local/stack-hello:latest");
    // Once more, with nothing changed.
    server.cli(&["apply", "-f", &file]).ok();
    let object = "apiVersion: openfaas.com/v1\nkind: Function\nmetadata:\n  name: object-hello\n  namespace: openfaas-fn\nspec:\n  name: object-hello\n  image: local/stack-hello:latest\n  environment:\n    GREETING: hoy\n";
    let objects = server.file("projects/objects.yaml", object);
    server.cli(&["apply", "-f", &objects]).ok();
    assert_eq!(
        server.faas_invoke("object-hello", "tide").ok().text(),
        "hoy tide"
    );
    // What one command applied, others of the same tool change.
    let described = server.cli(&["describe", "stack-hello"]).ok();
    assert!(described.all().contains("max 2"), "{described}");
    server.cli(&["scale", "stack-hello", "0"]).ok();
    assert_eq!(
        server.faas_invoke("stack-hello", "tide").ok().text(),
        "hello tide"
    );
    server.cli(&["delete", "object-hello", "stack-hello"]).ok();
    assert_eq!(server.faas_invoke("stack-hello", "tide").status, 404);
}

#[test]
fn other_clients_learn_of_the_server() {
    let server = Server::start();
    let ran = server.cli(&["login", "--write-clients"]).ok();
    let config =
        std::fs::read_to_string(server.home().join(".openfaas/config.yml")).expect("a file");
    assert!(config.contains(&server.url), "{config}");
    let all = ran.all();
    for variable in [
        "OPENFAAS_URL",
        "OPENFAAS_REMOTE_BUILDER",
        "OPENFAAS_PAYLOAD_SECRET",
    ] {
        assert!(all.contains(variable), "{variable}: {ran}");
    }
}
