use serde_json::json;

use crate::fake::Fake;
use crate::harness::{Home, check, error, function, list};

const WHERE: &str = "/namespaces/default/functions";

fn with_function() -> Fake {
    Fake::new().on(&format!("GET {WHERE}/wc"), 200, &function("wc", "Ready"))
}

#[test]
fn the_answer_is_data() {
    let home = Home::new();
    let input = home.file("in.csv", "a,b\n");
    let fake = with_function().raw("POST /fn/wc", 200, &[], "1 2 3").raw(
        "GET /fn/wc/sub?x=1",
        200,
        &[("x-extra", "yes")],
        "sub",
    );
    let ok = "exit 0\n--- stdout\n1 2 3--- stderr\n";
    assert_eq!(home.run(&fake, &["invoke", "wc", "-d", "{\"a\":1}"]), ok);
    assert_eq!(
        home.run(&fake, &["invoke", "wc", "-d", &format!("@{input}")]),
        ok
    );
    assert_eq!(
        home.with_input(&fake, &["invoke", "wc", "-d", "-"], "piped"),
        ok
    );
    let sent: Vec<(String, String)> = fake
        .asked()
        .into_iter()
        .filter(|a| a.line.starts_with("POST"))
        .map(|a| {
            (
                a.content_type.unwrap(),
                String::from_utf8(a.body.to_vec()).unwrap(),
            )
        })
        .collect();
    let expected = [
        ("application/json", "{\"a\":1}"),
        ("text/csv", "a,b\n"),
        ("application/octet-stream", "piped"),
    ];
    assert_eq!(sent, expected.map(|(t, b)| (t.to_owned(), b.to_owned())));
    let said = home.run(&fake, &["invoke", "wc", "--path", "/sub?x=1", "-i"]);
    assert!(
        said.starts_with("exit 0\n--- stdout\nsub--- stderr\nHTTP/1.1 200 OK\n"),
        "{said}"
    );
    assert!(said.contains("\nx-extra: yes\n"), "{said}");
}

#[test]
fn an_error_names_whose_it_is() {
    let home = Home::new();
    let id = "0192f0c12b3d7a4e8f50112233445566";
    let head = |outcome| [("x-tidegate-outcome", outcome), ("x-request-id", id)];
    let body = error("the function raised an exception", "function").to_string();
    let fake = with_function()
        .raw("GET /fn/wc", 500, &head("function"), &body)
        .raw(
            "GET /fn/wc/own",
            404,
            &head("application"),
            "no such page\n",
        )
        .raw("GET /fn/wc/bare", 502, &[], "");
    let mut said = home.run(&fake, &["invoke", "wc"]);
    said.push_str(&home.run(&fake, &["invoke", "wc", "--path", "/own"]));
    said.push_str(&home.run(&fake, &["invoke", "wc", "--path", "/bare"]));
    check("invoke-errors", &said);
}

#[test]
fn the_key_goes_to_private_functions_only() {
    let home = Home::new();
    let mut private = function("closed", "Ready");
    private["spec"]["access"] = json!("private");
    let fake = with_function()
        .on(&format!("GET {WHERE}/closed"), 200, &private)
        .raw("GET /fn/wc", 200, &[], "")
        .raw("GET /fn/closed", 200, &[], "");
    home.run(&fake, &["--token", "k", "invoke", "wc"]);
    home.run(&fake, &["--token", "k", "invoke", "closed"]);
    home.run(
        &fake,
        &[
            "--token",
            "k",
            "invoke",
            "closed",
            "-H",
            "Authorization: Basic x",
        ],
    );
    let sent: Vec<_> = fake
        .asked()
        .into_iter()
        .filter(|a| a.line.starts_with("GET /fn/"))
        .map(|a| a.authorization)
        .collect();
    let expected = [None, Some("Bearer k"), Some("Basic x")];
    assert_eq!(sent, expected.map(|a| a.map(str::to_owned)));
}

#[test]
fn a_name_that_is_not_there_brings_the_near_ones() {
    let home = Home::new();
    let mut elsewhere = function("other", "Ready");
    elsewhere["metadata"]["namespace"] = json!("team");
    let all = list(&[function("thumbnail", "Ready"), elsewhere]);
    let fake = Fake::new().on("GET /functions?limit=500", 200, &all);
    let mut said = home.run(&fake, &["invoke", "thumbnial"]);
    said.push_str(&home.run(&fake, &["invoke", "other"]));
    said.push_str(&home.run(&fake, &["invoke", "nothing-like-it"]));
    check("invoke-missing", &said);
}

#[test]
fn a_path_cannot_lead_to_the_platform() {
    let home = Home::new();
    let fake = with_function();
    let said = home.run(
        &fake,
        &["invoke", "wc", "--path", "/../../tidegate/v1/functions"],
    );
    assert!(said.starts_with("exit 2\n"), "{said}");
    assert_eq!(fake.asked().len(), 1);
}
