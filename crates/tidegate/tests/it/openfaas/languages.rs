//! Handlers of the official templates.

use serde_json::{Value, json};

use super::{CLASSIC, FLASK, GO, GO_HTTP, NODE20, NODE22, PYTHON, server};

/// Tells everything that an event has.
const PYTHON_EVENT: &str = "import os
def handle(event, context):
    if event.path == '/fail':
        raise ValueError('no tide today')
    return {
        'statusCode': 201,
        'headers': {'X-Tide': 'high'},
        'body': {
            'body': str(event.body), 'method': event.method, 'path': event.path,
            'query': event.query.getlist('a') if hasattr(event.query, 'getlist') else dict(event.query),
            'header': event.headers.get('x-one'), 'hostname': bool(context.hostname),
            'secret': open('/var/openfaas/secrets/tide').read(), 'cwd': os.path.realpath(os.getcwd()),
            'env': os.environ.get('PLACE'), 'name': os.environ.get('OPENFAAS_NAME'),
        },
    }
";

#[test]
fn python3_http() {
    let server = server();
    let secret = json!({"name": "tide", "namespace": "openfaas-fn", "value": "six o'clock"});
    server
        .faas_json("POST", "/system/secrets", &secret)
        .status(202);
    let more = json!({"secrets": ["tide"], "envVars": {"PLACE": "Saint-Malo"}});
    server.faas_up("py-event", PYTHON, &[("handler.py", PYTHON_EVENT)], more);

    let reply = server
        .call("PUT", "/function/py-event/a/b?a=1&a=2")
        .header("x-one", "1")
        .body("caf\u{e9}")
        .send()
        .status(201);
    assert_eq!(reply.header("x-tide"), Some("high"));
    assert_eq!(reply.header("content-type"), Some("application/json"));
    let seen = reply.json();
    assert_eq!(seen["body"], "b'caf\\xc3\\xa9'");
    assert_eq!(seen["method"], "PUT");
    assert_eq!(seen["path"], "/a/b");
    assert_eq!(seen["query"], json!(["1", "2"]));
    assert_eq!(seen["header"], "1");
    assert_eq!(seen["hostname"], true);
    assert_eq!(seen["secret"], "six o'clock");
    assert_eq!(seen["env"], "Saint-Malo");
    assert_eq!(seen["name"], "py-event");

    let failed = server.faas_invoke("py-event/fail", "");
    // The namespace is part of the name, so a path comes after it.
    assert_eq!(failed.status, 404, "{failed}");
    let failed = server.post("/function/py-event/fail", "").status(500);
    assert!(failed.text().contains("Internal Server Error"), "{failed}");
    let allowed = server.call("OPTIONS", "/function/py-event").send().ok();
    assert!(allowed.header("allow").is_some(), "{allowed}");
}

#[test]
fn python3_with_packages_and_flask() {
    let server = server();
    let source = "import idna\nfrom .words import greet\ndef handle(event, context):\n    return greet(idna.__version__)\n";
    let words = "def greet(what):\n    return 'idna ' + what\n";
    let built = server.faas_up(
        "py-packages",
        PYTHON,
        &[
            ("handler.py", source),
            ("words.py", words),
            ("requirements.txt", "idna==3.4\n"),
        ],
        Value::Null,
    );
    assert!(built.log().contains("idna"), "{built:#?}");
    let reply = server.faas_invoke("py-packages", "").ok();
    assert_eq!(reply.text(), "idna 3.4");
    assert_eq!(
        reply.header("content-type"),
        Some("text/html; charset=utf-8")
    );

    let source = "from flask import request, jsonify\ndef handle(req):\n    if request.method == 'POST':\n        return jsonify(got=req, agent=request.headers['X-Agent']), 202\n    return 'plain ' + request.path\n";
    server.faas_up("py-flask", FLASK, &[("handler.py", source)], Value::Null);
    let reply = server
        .call("POST", "/function/py-flask")
        .header("x-agent", "tide")
        .body("ebb")
        .send();
    assert_eq!(
        reply.status(202).json(),
        json!({"got": "ebb", "agent": "tide"})
    );
    assert_eq!(server.get("/function/py-flask/x").ok().text(), "plain /x");
}

#[test]
fn python3_classic() {
    let server = server();
    let source = "import os\ndef handle(req):\n    return req.upper() + ' ' + os.environ.get('Http_X_Tide', '-') + ' ' + os.environ['Http_Method'] + ' ' + os.environ.get('Http_Query', '-')\n";
    server.faas_up(
        "py-classic",
        CLASSIC,
        &[("handler.py", source)],
        Value::Null,
    );
    let reply = server
        .call("POST", "/function/py-classic?a=1")
        .header("x-tide", "low")
        .header("content-type", "text/plain")
        .body("ebb")
        .send()
        .ok();
    assert_eq!(reply.text(), "EBB low POST a=1\n");
    assert_eq!(reply.header("content-type"), Some("text/plain"));
    assert!(reply.header("x-duration-seconds").is_some(), "{reply}");
}

#[test]
fn node() {
    let server = server();
    let source = "'use strict'
module.exports = async (event, context) => {
  if (event.path === '/throw') throw new Error('no tide');
  if (event.path === '/fail') return context.fail('said so');
  if (event.path === '/text') return 'words';
  return context.status(201).headers({'x-tide': 'high'}).succeed({body: event.body, query: event.query, method: event.method, path: event.path, h: event.headers['x-one']});
}
";
    for (name, template) in [("node-twenty", NODE20), ("node-twentytwo", NODE22)] {
        let image = format!("function/{name}");
        server.faas_up(name, template, &[("handler.js", source)], Value::Null);
        let reply = server
            .call("POST", &format!("/{image}/a?b[c]=1&d=2&d=3"))
            .header("content-type", "application/json")
            .header("x-one", "1")
            .body(r#"{"a":[1]}"#)
            .send()
            .status(201);
        assert_eq!(reply.header("x-tide"), Some("high"));
        let seen = reply.json();
        assert_eq!(seen["body"], json!({"a": [1]}));
        assert_eq!(seen["method"], "POST");
        assert_eq!(seen["path"], "/a");
        assert_eq!(seen["h"], "1");
        let nested = if name == "node-twenty" {
            json!({"b": {"c": "1"}, "d": ["2", "3"]})
        } else {
            json!({"b[c]": "1", "d": ["2", "3"]})
        };
        assert_eq!(seen["query"], nested, "{name}");
        let text = server.get(&format!("/{image}/text")).ok();
        assert_eq!(text.text(), "words");
        assert_eq!(
            text.header("content-type"),
            Some("text/html; charset=utf-8")
        );
        // As Express computes it for these five bytes.
        assert!(
            text.header("etag")
                .is_some_and(|tag| tag.starts_with("W/\"5-")),
            "{text}"
        );
        let failed = server.get(&format!("/{image}/fail")).status(500);
        assert_eq!(failed.text(), "said so");
        let thrown = server.get(&format!("/{image}/throw")).ok();
        assert!(thrown.text().contains("no tide"), "{thrown}");
        let bad = server
            .call("POST", &format!("/{image}"))
            .header("content-type", "application/json")
            .body("{")
            .send();
        assert_eq!(bad.status, 400, "{bad}");
    }
}

#[test]
fn node_with_packages() {
    let server = server();
    let package = r#"{"name": "f", "version": "1.0.0", "dependencies": {"is-number": "7.0.0"}}"#;
    let source = "const isNumber = require('is-number');\nmodule.exports = async (event) => String(isNumber(event.body));\n";
    server.faas_up(
        "node-packages",
        NODE22,
        &[("handler.js", source), ("package.json", package)],
        Value::Null,
    );
    assert_eq!(
        server.faas_invoke("node-packages", "17").ok().text(),
        "true"
    );
}

#[test]
fn go() {
    let server = server();
    let source = "package function

import (
	\"fmt\"
	\"io\"
	\"net/http\"
	\"os\"
)

func Handle(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	if r.URL.Path == \"/move\" {
		http.Redirect(w, r, \"https://example.com/there\", http.StatusFound)
		return
	}
	w.Header().Set(\"X-Tide\", \"high\")
	w.WriteHeader(http.StatusAccepted)
	fmt.Fprintf(w, \"%s %s %s %s\", r.Method, r.URL.RequestURI(), body, os.Getenv(\"PLACE\"))
}
";
    let module = "module handler/function\n\ngo 1.19\n";
    server.faas_up(
        "go-middleware",
        GO,
        &[("handler.go", source), ("go.mod", module)],
        json!({"envVars": {"PLACE": "Granville"}}),
    );
    let reply = server
        .post("/function/go-middleware/a/b?c=d", "ebb")
        .status(202);
    assert_eq!(reply.text(), "POST /a/b?c=d ebb Granville");
    assert_eq!(reply.header("x-tide"), Some("high"));
    // Redirects are the caller's.
    let moved = server.get("/function/go-middleware/move").status(302);
    assert_eq!(moved.header("location"), Some("https://example.com/there"));

    let source = "package function

import (
	\"net/http\"

	handler \"github.com/openfaas/templates-sdk/go-http\"
)

func Handle(req handler.Request) (handler.Response, error) {
	return handler.Response{
		Body:       append([]byte(req.Method+\" \"+req.QueryString+\" \"), req.Body...),
		StatusCode: http.StatusCreated,
		Header:     http.Header{\"X-Tide\": []string{req.Header.Get(\"X-One\")}},
	}, nil
}
";
    let module = "module handler/function\n\ngo 1.19\n\nrequire github.com/openfaas/templates-sdk/go-http v0.0.0-20220408082716-5981c545cb03\n";
    server.faas_up(
        "go-http",
        GO_HTTP,
        &[("handler.go", source), ("go.mod", module)],
        Value::Null,
    );
    let reply = server
        .call("POST", "/function/go-http?a=b")
        .header("x-one", "low")
        .body("ebb")
        .send()
        .status(201);
    assert_eq!(reply.text(), "POST a=b ebb");
    assert_eq!(reply.header("x-tide"), Some("low"));
}

#[test]
fn java() {
    let server = server();
    let source = "package com.openfaas.function;

import com.openfaas.model.IRequest;
import com.openfaas.model.IResponse;
import com.openfaas.model.Response;

public class Handler extends com.openfaas.model.AbstractHandler {
    public IResponse Handle(IRequest req) {
        Response res = new Response();
        res.setBody(req.getBody() + \" \" + req.getQuery().get(\"a\") + \" \" + req.getHeader(\"X-one\"));
        res.setHeader(\"X-Tide\", \"high\");
        res.setStatusCode(201);
        return res;
    }
}
";
    let gradle = "plugins { id 'java' }\n\nrepositories { mavenCentral() }\n\ndependencies {\n    testImplementation 'junit:junit:4.12'\n    implementation 'com.openfaas:model:0.1.1'\n}\n";
    server.faas_up(
        "java-seventeen",
        ("java17", ""),
        &[
            ("src/main/java/com/openfaas/function/Handler.java", source),
            ("build.gradle", gradle),
        ],
        json!({"envProcess": null}),
    );
    let reply = server
        .call("POST", "/function/java-seventeen?a=1")
        .header("x-one", "2")
        .body("ebb")
        .send()
        .status(201);
    assert_eq!(reply.text(), "ebb 1 2");
    assert_eq!(reply.header("x-tide"), Some("high"));
}

#[test]
fn ruby_and_php() {
    let server = server();
    server.faas_up(
        "ruby-classic",
        ("ruby", "ruby index.rb"),
        &[(
            "handler.rb",
            "class Handler\n  def run(req)\n    return req.upcase\n  end\nend\n",
        )],
        Value::Null,
    );
    assert_eq!(
        server.faas_invoke("ruby-classic", "ebb").ok().text(),
        "EBB\n"
    );
    server.faas_up(
        "php-classic",
        ("php8", "php index.php"),
        &[
            ("src/Handler.php", "<?php\nnamespace App;\nclass Handler {\n    public function handle(string $data): string {\n        return Words::up($data);\n    }\n}\n"),
            ("src/Words.php", "<?php\nnamespace App;\nclass Words {\n    public static function up(string $data): string { return strtoupper($data); }\n}\n"),
        ],
        Value::Null,
    );
    assert_eq!(server.faas_invoke("php-classic", "ebb").ok().text(), "EBB");
}

#[test]
fn a_dockerfile_with_a_plain_command() {
    let server = server();
    let dockerfile = "FROM --platform=${TARGETPLATFORM:-linux/amd64} ghcr.io/openfaas/classic-watchdog:0.3.3 as watchdog
FROM alpine:3.20
COPY --from=watchdog /fwatchdog /usr/bin/fwatchdog
WORKDIR /home/app
COPY upper.sh .
RUN chmod +x upper.sh
ENV fprocess=\"./upper.sh\"
HEALTHCHECK --interval=3s CMD [ -e /tmp/.lock ] || exit 1
CMD [\"fwatchdog\"]
";
    let built = server.faas_build(
        "docker-upper:latest",
        &[
            ("template.yml", "language: dockerfile\n"),
            ("Dockerfile", dockerfile),
            ("upper.sh", "#!/bin/sh\nexec tr a-z A-Z\n"),
        ],
    );
    built.ok();
    server
        .faas_deploy(&json!({"service": "docker-upper", "image": "docker-upper:latest"}))
        .status(202);
    server.faas_ready("docker-upper");
    assert_eq!(server.faas_invoke("docker-upper", "ebb").ok().text(), "EBB");

    let refused = server.faas_build(
        "docker-ffmpeg:latest",
        &[
            ("template.yml", "language: dockerfile\n"),
            ("Dockerfile", "FROM alpine:3.20\nWORKDIR /home/app\nRUN apk add --no-cache ffmpeg\nENV fprocess=cat\nCMD [\"fwatchdog\"]\n"),
        ],
    );
    assert_eq!(refused.status(), "failed");
    assert!(refused.error().contains("line 3"), "{refused:#?}");
    assert!(refused.error().contains("ffmpeg"), "{refused:#?}");
}
