//! Who may do what: keys, foreign pages, private functions.

use crate::harness::{Server, Shared};

static SERVER: Shared = Shared::new();

const SEEN: &str = "def handler(event):\n    return event.headers.get('authorization', 'none')\n";

#[test]
fn control_routes_need_the_key() {
    let server = SERVER.get();
    for (method, route) in [
        ("GET", "/functions"),
        ("PUT", "/namespaces/default/functions/x"),
        ("DELETE", "/namespaces/default/functions/x"),
        ("GET", "/namespaces"),
        ("GET", "/namespaces/default/secrets"),
        ("PUT", "/blobs/x"),
        ("GET", "/anything"),
    ] {
        let target = format!("/tidegate/v1{route}");
        let reply = server
            .call(method, &target)
            .send()
            .status(401)
            .says(&["key"]);
        assert_eq!(
            reply.header("www-authenticate"),
            Some("Bearer realm=\"tidegate\"")
        );
        for wrong in ["Bearer wrong", "Bearer ", "Basic YTpi", "nonsense"] {
            server
                .call(method, &target)
                .header("authorization", wrong)
                .send()
                .status(401);
        }
    }
    server.control("GET", "/functions").send().ok();
    server.get("/tidegate/v1").ok();
}

#[test]
fn the_key_is_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let mut server = Server::start();
    let file = server.data().join("admin.key");
    let mode = |path: &std::path::Path| {
        std::fs::metadata(path).expect("there").permissions().mode() & 0o777
    };
    assert_eq!(mode(&file), 0o600);
    assert_eq!(mode(&server.data()) & 0o077, 0, "the data folder");
    let key = server.key();
    assert!(!server.log().contains(&key));
    server.stop();
    server.restart();
    assert_eq!(server.key(), key, "it stays");
    server.stop();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).expect("changed");
    let ran = server.refuses_restart();
    assert_eq!(ran.code, Some(1), "{ran}");
    ran.says(&["admin.key", "chmod 600"]);
}

#[test]
fn foreign_pages_and_foreign_names_are_refused() {
    let server = SERVER.get();
    let send = |name: &str, value: &str| {
        server
            .control("GET", "/functions")
            .header(name, value)
            .send()
    };
    for origin in ["https://evil.example", "http://localhost:1", "null"] {
        let reply = send("origin", origin).status(403);
        assert_eq!(reply.header("access-control-allow-origin"), None);
        assert_eq!(reply.json()["reason"], "foreign");
    }
    send("host", "evil.example")
        .status(403)
        .says(&["evil.example"]);
    send("host", "localhost.evil.example").status(403);
    send("host", "localhost").ok();
    let port = server.address.port();
    let own = format!("http://127.0.0.1:{port}");
    send("origin", &own).ok();
    server
        .call("GET", "/metrics")
        .header("host", "evil.example")
        .send()
        .status(403);
    // Without the key too: a page learns nothing of what is there.
    server
        .call("GET", "/tidegate/v1")
        .header("origin", "https://evil.example")
        .send()
        .status(403);
    // Functions are for everyone; what they answer to a page is theirs.
    server.deploy("open", SEEN, &[]);
    server
        .call("GET", "/fn/open")
        .header("origin", "https://any.example")
        .header("host", "any.example")
        .send()
        .ok();
}

#[test]
fn further_host_names_can_be_allowed() {
    let server = Server::options().set("hosts", "tidegate.example").start();
    server
        .control("GET", "/functions")
        .header("host", "tidegate.example")
        .send()
        .ok();
    server
        .control("GET", "/functions")
        .header("host", "other.example")
        .send()
        .status(403);
}

#[test]
fn a_private_function_needs_the_key_and_never_sees_it() {
    let server = SERVER.get();
    server.deploy("private", SEEN, &["--access", "private"]);
    server.deploy("public", SEEN, &[]);
    server.get("/fn/private").status(401).says(&["private"]);
    server
        .call("GET", "/fn/private")
        .bearer("wrong")
        .send()
        .status(401);
    assert_eq!(
        server
            .call("GET", "/fn/private")
            .bearer(&server.key())
            .send()
            .ok()
            .text(),
        "none"
    );
    assert_eq!(server.cli(&["invoke", "private"]).ok().text(), "none");
    // It is no other through the other door, where the key is a password as well.
    server.get("/function/private").status(401);
    for door in ["/fn/private", "/function/private"] {
        assert_eq!(server.faas("GET", door).send().ok().text(), "none");
        // A browser sends it for pages that do not know it.
        server
            .faas("POST", door)
            .header("origin", "https://elsewhere.example")
            .send()
            .status(401);
    }
    // A public one gets what its callers send, and the command sends it no key.
    assert_eq!(
        server
            .call("GET", "/fn/public")
            .bearer("mine")
            .send()
            .ok()
            .text(),
        "Bearer mine"
    );
    assert_eq!(server.cli(&["invoke", "public"]).ok().text(), "none");
    server.deploy("private", SEEN, &["--access", "public"]);
    server.get("/fn/private").ok();
}

#[test]
fn without_authentication_only_on_loopback() {
    let server = Server::options().set("auth", "none").start();
    server.get("/tidegate/v1/functions").ok();
    server
        .call("GET", "/tidegate/v1/functions")
        .header("origin", "https://evil.example")
        .send()
        .status(403);
    assert!(!server.data().join("admin.key").exists());
    drop(server);
    let open = || {
        Server::options()
            .set("auth", "none")
            .arg("--listen")
            .arg("0.0.0.0:0")
    };
    open()
        .refused()
        .code(1)
        .says(&["0.0.0.0", "auth", "allow-unauthenticated-network"]);
    let allowed = open().set("allow-unauthenticated-network", "true").start();
    allowed.get("/tidegate/v1/functions").ok();
}
