//! Mode `static`.

use std::os::unix::fs::symlink;

use crate::world::{World, bundle, call};

fn world() -> (tempfile::TempDir, World) {
    let folder = bundle(&[
        ("secret.txt", "not for you"),
        ("public/index.html", "<p>home"),
        ("public/a.txt", "hello"),
        ("public/data", "\x01\x02"),
        ("public/more/b&c.css", "p {}"),
        ("public/more/z z/x", ""),
    ]);
    let inside = folder.path().join("public/inside");
    symlink("a.txt", inside).expect("a link");
    symlink("/etc", folder.path().join("public/etc")).expect("a link");
    symlink("/etc/passwd", folder.path().join("public/passwd")).expect("a link");
    let world = World::of(folder.path(), "of-watchdog", &[("mode", "static")]);
    (folder, world)
}

#[tokio::test]
async fn files_are_served_with_their_types() {
    let (_folder, world) = world();
    for (path, body, kind) in [
        ("/a.txt", "hello", "text/plain; charset=utf-8"),
        ("/a.txt?x", "hello", "text/plain; charset=utf-8"),
        ("/inside", "hello", "text/plain; charset=utf-8"),
        ("/", "<p>home", "text/html; charset=utf-8"),
        ("", "<p>home", "text/html; charset=utf-8"),
        ("/data", "\x01\x02", "application/octet-stream"),
        ("/more/b%26c.css", "p {}", "text/css; charset=utf-8"),
        ("/more/../a.txt", "hello", "text/plain; charset=utf-8"),
    ] {
        let answer = world.get(path).await;
        assert_eq!(answer.said(), (200, body), "{path}");
        assert_eq!(answer.header("content-type"), Some(kind), "{path}");
    }
    // Whatever the method.
    assert_eq!(world.post("/a.txt", "x").await.said(), (200, "hello"));
    let head = world.send(call("HEAD", "/a.txt", &[], "")).await;
    assert_eq!(
        (head.said(), head.header("content-length")),
        ((200, ""), Some("5"))
    );
    let part = world
        .send(call("GET", "/a.txt", &[("range", "bytes=1-2")], ""))
        .await;
    assert_eq!(part.said(), (206, "el"));
    let known = world.get("/a.txt").await;
    let since = known.header("last-modified").expect("a time");
    let again = call("GET", "/a.txt", &[("if-modified-since", since)], "");
    assert_eq!(world.send(again).await.said(), (304, ""));
}

#[tokio::test]
async fn folders_are_listed_and_have_one_name() {
    let (_folder, world) = world();
    let list = world.get("/more/").await;
    assert_eq!(
        list.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    assert_eq!(
        list.text(),
        "<!doctype html>\n<meta name=\"viewport\" content=\"width=device-width\">\n<pre>\n<a href=\"b&c.css\">b&amp;c.css</a>\n<a href=\"z%20z/\">z z/</a>\n</pre>\n"
    );
    for (path, place) in [
        ("/more", "more/"),
        ("/more/z%20z?q", "z%20z/?q"),
        ("/index.html", "./"),
        ("/a.txt/", "../a.txt"),
    ] {
        let moved = world.get(path).await;
        assert_eq!(moved.status, 301, "{path}");
        assert_eq!(moved.header("location"), Some(place), "{path}");
    }
}

#[tokio::test]
async fn nothing_outside_of_it_is_served() {
    let (_folder, world) = world();
    for path in [
        "/nothing",
        "/../secret.txt",
        "/%2e%2e/secret.txt",
        "/passwd",
        "/etc/passwd",
        "/etc/",
        "/a%00b",
        "/a.txt/b",
    ] {
        let answer = world.get(path).await;
        assert_eq!(answer.said(), (404, "404 page not found\n"), "{path}");
        assert_eq!(
            answer.header("content-type"),
            Some("text/plain; charset=utf-8")
        );
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    }
    assert_eq!(world.get("/_/health").await.said(), (200, "OK"));
    assert_eq!(world.get("/_/ready").await.said(), (200, ""));
}

#[tokio::test]
async fn another_folder_can_be_named() {
    let folder = bundle(&[("www/a", "here")]);
    for path in ["/home/app/www", "www/", "/function/www", "./www"] {
        let env = [("mode", "static"), ("static_path", path)];
        let world = World::of(folder.path(), "of-watchdog", &env);
        assert_eq!(world.get("/a").await.text(), "here", "{path}");
    }
    let env = [("mode", "static"), ("static_path", "/home/app/none")];
    let none = World::of(folder.path(), "of-watchdog", &env);
    assert_eq!(none.get("/").await.status, 404);
}
