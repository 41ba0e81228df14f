//! Functions in OpenFaaS's words.

use std::collections::BTreeMap;
use std::io::Read as _;

use serde_json::{Value, json};
use tidegate_openfaas::build::sign;

use crate::fake::Fake;
use crate::harness::{Home, check};

const STACK: &str = r#"version: 1.0
provider:
  name: openfaas
  gateway: http://127.0.0.1:8080
functions:
  hello:
    lang: python3-http
    handler: ./hello
    image: ${REGISTRY:-local}/hello
    environment:
      GREETING: hi
    labels:
      com.openfaas.scale.min: 2
"#;

const HANDLER: &str = "def handle(event, context):\n    return {'statusCode': 200, 'body': 'hi'}\n";

fn stack(text: &str) -> (Home, String) {
    let mut home = Home::new();
    home.env
        .insert("TIDEGATE_TOKEN".to_owned(), "secret-key".into());
    home.file("hello/handler.py", HANDLER);
    home.file("hello/requirements.txt", "requests\n");
    home.file("hello/.env", "PASSWORD=x\n");
    home.file("hello/template/left.over", "x");
    let path = home.file("stack.yaml", text);
    (home, path)
}

fn lines(lines: &[Value]) -> String {
    lines.iter().map(|l| format!("{l}\n")).collect()
}

fn built() -> String {
    lines(&[
        json!({ "log": ["installing requests"], "image": "local/hello:latest", "status": "in_progress" }),
        json!({ "log": ["image local/hello:latest is ready"], "image": "local/hello:latest", "status": "success" }),
    ])
}

fn status(name: &str, ready: u32) -> String {
    json!({
        "name": name,
        "image": "local/hello:latest",
        "namespace": "openfaas-fn",
        "labels": { "faas_function": name, "com.openfaas.scale.min": "1" },
        "annotations": { "prometheus.io.scrape": "false" },
        "envVars": { "GREETING": "before" },
        "replicas": 1,
        "availableReplicas": ready,
        "createdAt": "2020-01-01T00:00:00Z",
    })
    .to_string()
}

/// A server that builds, and has no function yet.
fn server() -> Fake {
    Fake::new()
        .raw("POST /build", 200, &[], &built())
        .raw("PUT /system/functions", 404, &[], "")
        .raw("POST /system/functions", 202, &[], "")
        .raw("GET /system/function/hello", 200, &[], &status("hello", 0))
        .raw("GET /system/function/hello", 200, &[], &status("hello", 1))
}

/// What was sent as a build context: names, modes and texts.
fn context(fake: &Fake) -> BTreeMap<String, (u32, String)> {
    let body = fake.the("POST /build").body;
    let mut archive = tar::Archive::new(&body[..]);
    let mut files = BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        let path = entry.path().unwrap().display().to_string();
        files.insert(path, (entry.header().mode().unwrap(), text));
    }
    files
}

fn names(files: &BTreeMap<String, (u32, String)>) -> Vec<&str> {
    files.keys().map(String::as_str).collect()
}

#[test]
fn a_stack_is_built_and_deployed() {
    let (home, path) = stack(STACK);
    let fake = server();
    check("openfaas", &home.run(&fake, &["apply", "-f", &path]));

    let sent = fake.the("POST /build");
    assert_eq!(
        sent.content_type.as_deref(),
        Some("application/octet-stream")
    );
    assert_eq!(sent.authorization, None);
    assert_eq!(
        sent.signature.as_deref(),
        Some(&*sign(b"secret-key", &sent.body))
    );
    let files = context(&fake);
    assert_eq!(
        names(&files),
        [
            "com.openfaas.docker.config",
            "context/",
            "context/function/",
            "context/function/handler.py",
            "context/function/requirements.txt",
            "context/template.yml",
        ]
    );
    assert_eq!(files["context/function/handler.py"].1, HANDLER);
    assert_eq!(
        files["context/template.yml"].1,
        "{\"language\":\"python3-http\"}\n"
    );
    assert_eq!(
        files["com.openfaas.docker.config"].1,
        r#"{"image":"local/hello:latest","buildArgs":{"ADDITIONAL_PACKAGE":""}}"#
    );
    let put = fake.the("PUT /system/functions");
    let post = fake.the("POST /system/functions");
    assert_eq!(put.body, post.body);
    assert_eq!(
        put.authorization.as_deref(),
        Some("Basic YWRtaW46c2VjcmV0LWtleQ==")
    );
    let document: Value = serde_json::from_slice(&put.body).unwrap();
    assert_eq!(
        document,
        json!({
            "service": "hello",
            "image": "local/hello:latest",
            "envVars": { "GREETING": "hi" },
            "labels": { "com.openfaas.scale.min": "2" },
        })
    );
}

#[test]
fn a_template_that_is_there_is_sent_with_its_handler() {
    let text = "provider: {name: openfaas}\nfunctions:\n  hello:\n    lang: mine\n    handler: ./hello\n    image: hello:1\n    \
                build_options: [dev]\n    build_args: {A: b, ADDITIONAL_PACKAGE: 'zip curl'}\nconfiguration:\n  copy: \
                [./common, one.txt]\n";
    let (home, path) = stack(text);
    home.file(
        "template/mine/template.yml",
        "language: mine\nfprocess: ./serve it\nhandler_folder: src\nbuild_options:\n  - name: dev\n    packages: [make, curl]\n",
    );
    home.file("template/mine/Dockerfile", "FROM scratch\n");
    home.file("template/mine/src/handler.py", "the template's\n");
    home.file("template/mine/src/sample.txt", "stays\n");
    home.file("common/deep/util.py", "x = 1\n");
    home.file("one.txt", "one\n");
    let fake = server();
    let said = home.run(&fake, &["apply", "-f", &path, "--no-wait"]);
    assert!(said.starts_with("exit 0\n"), "{said}");
    let files = context(&fake);
    assert_eq!(
        names(&files),
        [
            "com.openfaas.docker.config",
            "context/",
            "context/Dockerfile",
            "context/src/",
            "context/src/common/",
            "context/src/common/deep/",
            "context/src/common/deep/util.py",
            "context/src/handler.py",
            "context/src/one.txt",
            "context/src/requirements.txt",
            "context/src/sample.txt",
            "context/template.yml",
        ]
    );
    assert_eq!(files["context/src/handler.py"].1, HANDLER);
    let config: Value = serde_json::from_str(&files["com.openfaas.docker.config"].1).unwrap();
    assert_eq!(
        config["buildArgs"],
        json!({ "A": "b", "ADDITIONAL_PACKAGE": "curl make zip" })
    );
    let put: Value = serde_json::from_slice(&fake.the("PUT /system/functions").body).unwrap();
    assert_eq!(put["envProcess"], "./serve it");
}

#[test]
fn a_dockerfile_is_at_the_root_of_its_context() {
    let text = "provider: {name: openfaas}\nfunctions:\n  hello: {lang: dockerfile, handler: ./hello, image: hello}\n";
    let (home, path) = stack(text);
    home.file("hello/Dockerfile", "FROM x\n");
    let fake = server();
    let said = home.run(&fake, &["apply", "-f", &path]);
    assert!(said.starts_with("exit 0\n"), "{said}");
    let files = context(&fake);
    assert!(
        files.contains_key("context/Dockerfile"),
        "{:?}",
        names(&files)
    );
    assert!(!files.contains_key("context/template.yml"));
}

#[test]
fn secrets_of_builds_are_sealed() {
    let text = format!("{STACK}    build_secrets: {{pip: pip.conf}}\n");
    let (home, path) = stack(&text);
    home.file("pip.conf", "index-url = https://user:hidden@host/\n");
    let keys = tidegate_openfaas::seal::KeyPair::new().unwrap();
    let public = serde_json::to_string(&keys.public()).unwrap();
    let fake = server().raw("GET /publickey", 200, &[], &public);
    let said = home.run(&fake, &["apply", "-f", &path]);
    assert!(said.starts_with("exit 0\n"), "{said}");
    let files = context(&fake);
    let sealed = &files["com.openfaas.secrets"].1;
    assert!(!sealed.contains("hidden"));
    let opened = keys.open(sealed.as_bytes()).unwrap();
    assert_eq!(opened["pip"], b"index-url = https://user:hidden@host/\n");
}

#[test]
fn failures_are_told_with_their_last_lines() {
    let (home, path) = stack(STACK);
    let failed = lines(&[
        json!({ "log": ["ERROR: no matching distribution"], "status": "in_progress" }),
        json!({ "log": null, "status": "failed", "error": "requirements.txt line 1: no such package" }),
    ]);
    let fake = Fake::new().raw("POST /build", 200, &[], &failed);
    check(
        "openfaas-build-failed",
        &home.run(&fake, &["apply", "-f", &path]),
    );
    check(
        "openfaas-build-failed-quiet",
        &home.run(&fake, &["apply", "-q", "-f", &path]),
    );

    let fake = Fake::new().raw("POST /build", 401, &[], "wrong signature\n");
    check(
        "openfaas-signature",
        &home.run(&fake, &["apply", "-f", &path]),
    );
    let fake = Fake::new().raw("POST /build", 200, &[], &lines(&[json!({ "log": ["x"] })]));
    check(
        "openfaas-build-cut",
        &home.run(&fake, &["apply", "-f", &path]),
    );

    let fake = Fake::new().raw("POST /build", 200, &[], &built()).raw(
        "PUT /system/functions",
        400,
        &[],
        "unable to fetch secrets: no secret db\n",
    );
    check(
        "openfaas-refused",
        &home.run(&fake, &["apply", "-f", &path]),
    );

    let mut trouble: Value = serde_json::from_str(&status("hello", 1)).unwrap();
    trouble["annotations"]["tidegate.dev/message"] = json!("the process ended with code 1");
    let fake = Fake::new()
        .raw("POST /build", 200, &[], &built())
        .raw("PUT /system/functions", 202, &[], "")
        .raw("GET /system/function/hello", 200, &[], &trouble.to_string())
        .raw(
            "GET /system/logs?name=hello&tail=20&follow=false",
            200,
            &[],
            &lines(&[json!({ "name": "hello", "text": "ImportError: no module" })]),
        );
    check(
        "openfaas-not-started",
        &home.run(&fake, &["apply", "-f", &path]),
    );
}

#[test]
fn an_update_is_ready_when_the_new_deployment_is() {
    let (home, path) = stack(STACK);
    let phase = |phase: &'static str| ("x-tidegate-phase", phase);
    let line = "GET /system/function/hello";
    let fake = Fake::new()
        .raw("POST /build", 200, &[], &built())
        .raw("PUT /system/functions", 202, &[], "")
        .raw(line, 200, &[phase("pending")], &status("hello", 1))
        .raw(line, 200, &[phase("ready")], &status("hello", 1));
    let said = home.run(&fake, &["apply", "-f", &path]);
    assert!(said.starts_with("exit 0\n"), "{said}");
    let asked = fake.asked();
    assert_eq!(asked.iter().filter(|a| a.line == line).count(), 2);
}

#[test]
fn what_would_be_done_is_shown() {
    let text =
        format!("{STACK}  other:\n    image: other:1\n    environment: {{API_KEY: hidden}}\n");
    let (home, path) = stack(&text);
    let fake = Fake::new()
        .raw("GET /system/function/hello", 200, &[], &status("hello", 1))
        .raw("GET /system/function/other", 404, &[], "");
    check(
        "openfaas-dry-run",
        &home.run(&fake, &["apply", "-f", &path, "--dry-run"]),
    );
    assert!(fake.asked().iter().all(|a| a.line.starts_with("GET ")));
}

#[test]
fn functions_are_chosen_by_their_names() {
    let text = "provider: {name: openfaas}\nfunctions:\n  shop-cart: {image: a}\n  shop-pay: {image: a}\n  blog: {image: a}\n";
    let (home, path) = stack(text);
    let fake = Fake::new().raw("PUT /system/functions", 202, &[], "");
    let chosen = |flags: &[&str]| {
        let said = home.run(
            &fake,
            &[&["apply", "-f", &path, "--no-wait"], flags].concat(),
        );
        let names: Vec<&str> = said
            .lines()
            .filter_map(|l| l.strip_prefix("updated "))
            .collect();
        let names: Vec<&str> = names.iter().filter_map(|l| l.split(' ').next()).collect();
        names.join(" ")
    };
    assert_eq!(chosen(&[]), "shop-cart shop-pay blog");
    assert_eq!(chosen(&["--filter", "shop-*"]), "shop-cart shop-pay");
    assert_eq!(chosen(&["--regex", "^blog$|pay"]), "shop-pay blog");
    check(
        "openfaas-filter-nothing",
        &home.run(&fake, &["apply", "-f", &path, "--filter", "x*"]),
    );
    let both = home.run(
        &fake,
        &["apply", "-f", &path, "--filter", "x", "--regex", "x"],
    );
    assert!(both.starts_with("exit 2\n"), "{both}");
}

#[test]
fn objects_are_applied_into_their_namespaces() {
    let (home, _) = stack(STACK);
    let path = home.file(
        "objects.yaml",
        "apiVersion: openfaas.com/v1\nkind: Function\nmetadata: {name: a, namespace: dev}\nspec: {name: a, image: \
         hello}\n---\napiVersion: openfaas.com/v1\nkind: Function\nmetadata: {name: b, namespace: openfaas-fn}\nspec: {name: b, \
         image: hello}\n",
    );
    let fake = Fake::new()
        .raw("GET /system/namespaces", 200, &[], "[\"openfaas-fn\"]")
        .raw("POST /system/namespace/", 201, &[], "")
        .raw("PUT /system/functions", 202, &[], "")
        .raw(
            "GET /system/function/a?namespace=dev",
            200,
            &[],
            &status("a", 1),
        )
        .raw(
            "GET /system/function/b?namespace=openfaas-fn",
            200,
            &[],
            &status("b", 1),
        );
    let args = ["apply", "-f", &path, "--create-namespaces"];
    check("openfaas-objects", &home.run(&fake, &args));
    let made: Value = serde_json::from_slice(&fake.the("POST /system/namespace/").body).unwrap();
    assert_eq!(made["labels"]["openfaas"], "1");
}

#[test]
fn keys_given_are_not_sent_where_a_file_says() {
    let (mut home, _) = stack(STACK);
    let fake = server();
    let text = STACK.replace("http://127.0.0.1:8080", &fake.url);
    let path = home.file("stack.yaml", &text);
    let said = home.plain(&["apply", "-f", &path, "--no-wait"], "", Vec::new());
    assert!(
        said.contains(&format!("the server is {}", fake.url)),
        "{said}"
    );
    assert!(fake.asked().len() > 1);
    for asked in fake.asked() {
        assert_eq!(
            (asked.authorization, asked.signature),
            (None, None),
            "{}",
            asked.line
        );
    }

    // One that the user logged in to gets the key of that login.
    home.file(
        ".openfaas/config.yml",
        &format!(
            "auths:\n- gateway: {}\n  auth: basic\n  token: YWRtaW46dGhlaXJz\n",
            fake.url
        ),
    );
    home.env.remove("TIDEGATE_TOKEN");
    home.plain(&["apply", "-f", &path, "--no-wait"], "", Vec::new());
    let last = fake.asked().pop().unwrap();
    assert_eq!(
        last.authorization.as_deref(),
        Some("Basic YWRtaW46dGhlaXJz")
    );
}

#[test]
fn mistakes_are_told_before_anything_is_done() {
    let text = "provider: {name: openfaas}\nfunctions:\n  a: {image: x, lang: go, handler: ./gone}\n  b: {image: x, enviroment: \
                {}, build_args: 3}\n";
    let (home, path) = stack(text);
    let fake = Fake::new();
    check("openfaas-wrong", &home.run(&fake, &["apply", "-f", &path]));
    let fixed = home.file("stack.yaml", &text.replace(", build_args: 3", ""));
    let fake = Fake::new().raw("PUT /system/functions", 202, &[], "");
    check(
        "openfaas-no-handler",
        &home.run(&fake, &["apply", "-f", &fixed, "--no-wait"]),
    );
    let mixed = home.file(
        "mixed.yaml",
        "apiVersion: openfaas.com/v1\nkind: Function\n---\napiVersion: tidegate.dev/v1\nkind: Function\n",
    );
    check("openfaas-mixed", &home.run(&fake, &["apply", "-f", &mixed]));
}

#[test]
fn options_need_their_template() {
    let text = format!("{STACK}    build_options: [dev]\n");
    let (home, path) = stack(&text);
    let fake = Fake::new();
    check(
        "openfaas-no-template",
        &home.run(&fake, &["apply", "-f", &path]),
    );
}

#[test]
fn a_login_writes_what_faas_cli_reads() {
    let home = Home::new();
    let fake = Fake::new().on("GET /namespaces", 200, &json!({ "items": [] }));
    let args = ["login", "--write-clients", "--token", "k"];
    check(
        "login-write-clients",
        &home
            .run(&fake, &args)
            .replace(&fake.url["http://".len()..].replace(':', "_"), "HOST"),
    );
    let config = std::fs::read_to_string(home.path().join(".openfaas/config.yml")).unwrap();
    let config = config.replace(&fake.url, "URL");
    assert_eq!(
        config,
        "auths:\n- auth: basic\n  gateway: URL\n  token: YWRtaW46aw==\n"
    );
    // Whoever is logged in need not give the key again.
    let again = home.run(&fake, &["login", "--write-clients"]);
    assert!(again.starts_with("exit 0\n"), "{again}");
    assert_eq!(
        again.lines().filter(|l| l.starts_with("export ")).count(),
        3
    );
    let out = home.run(&fake, &["logout"]);
    assert!(out.contains("'faas-cli logout' ends that"), "{out}");

    home.file(".openfaas/config.yml", "auths: nonsense\n");
    check("login-write-clients-damaged", &home.run(&fake, &args));
}

#[test]
fn a_server_without_keys_needs_no_login() {
    let home = Home::new();
    let fake = Fake::new().on("GET /namespaces", 200, &json!({ "items": [] }));
    let ran = home.run(&fake, &["login", "--write-clients"]);
    let ran = ran.replace(&fake.url["http://".len()..].replace(':', "_"), "HOST");
    check("login-write-clients-open", &ran);
    assert!(!home.path().join(".openfaas/config.yml").exists());
    // One that wants a key has it read, as ever.
    let body = json!({ "error": "the admin key is needed", "reason": "unauthorized" });
    let fake = Fake::new().on("GET /namespaces", 401, &body);
    let ran = home.run(&fake, &["login", "--write-clients"]);
    assert!(ran.contains("reading the key from standard input"), "{ran}");
}

#[test]
fn what_was_so_already_is_told() {
    let home = Home::new();
    let path = home.file(
        "f.yaml",
        "apiVersion: openfaas.com/v1\nkind: Function\nmetadata: {name: a}\nspec: {name: a, image: 'a:1'}\n",
    );
    let fake = Fake::new().raw(
        "PUT /system/functions",
        202,
        &[("x-tidegate-unchanged", "true")],
        "",
    );
    let ran = home.run(&fake, &["apply", "-f", &path, "--no-wait"]);
    assert!(ran.contains("1 unchanged"), "{ran}");
}
