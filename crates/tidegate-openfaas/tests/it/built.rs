//! The same, built with the tools of the machine and called.

use crate::harness::{make, make_dockerfile};

#[test]
fn golang_middleware_with_a_module() {
    let source = r#"package function

import (
	"fmt"
	"io"
	"net/http"
	"os"

	"github.com/google/uuid"
)

func Handle(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	page, _ := os.ReadFile("static/index.html")
	w.Header().Set("X-Page", string(page))
	w.WriteHeader(http.StatusAccepted)
	fmt.Fprintf(w, "%s %s %s %d", r.Method, r.URL, body, len(uuid.Nil.String()))
}
"#;
    let module = "module handler/function\n\ngo 1.20\n\nrequire github.com/google/uuid v1.6.0\n";
    let made = make(
        "golang-middleware",
        &[
            ("handler.go", source),
            ("go.mod", module),
            ("static/index.html", "tide"),
        ],
    )
    .unwrap();
    let built = made.build();
    assert!(built.has("handler") && built.has("static/index.html"));
    assert!(!built.has("main.go") && !built.has("go.work") && !built.has("function/go.mod"));
    let said =
        built.serve("curl -s -w ' %{http_code} %header{x-page}\\n' -d body \"$at/a%2Fb//c?q=1\"");
    assert_eq!(said, "POST /a%2Fb//c?q=1 body 36 202 tide\nended with 0\n");
}

#[test]
fn golang_http_with_types_of_both_names() {
    for (types, module) in [
        (
            "github.com/openfaas/templates-sdk/go-http",
            Some(
                "module handler/function\n\ngo 1.24\n\nrequire github.com/openfaas/templates-sdk/go-http v0.0.0-20220408082716-5981c545cb03\n",
            ),
        ),
        ("github.com/openfaas-incubator/go-function-sdk", None),
    ] {
        let source = r#"package function

import (
	"errors"
	"net/http"

	handler "TYPES"
)

func Handle(req handler.Request) (handler.Response, error) {
	if req.Context().Err() != nil {
		return handler.Response{}, req.Context().Err()
	}
	response := handler.Response{
		Body:   []byte(req.Method + " " + req.QueryString + " " + string(req.Body)),
		Header: http.Header{"X-A": {req.Header.Get("X-A"), "2"}},
	}
	if req.QueryString == "fail" {
		return response, errors.New("no tide")
	}
	return response, nil
}
"#
        .replace("TYPES", types);
        let mut files = vec![("handler.go", &*source)];
        files.extend(module.map(|module| ("go.mod", module)));
        let built = make("golang-http", &files).unwrap().build();
        let said = built.serve(
            "curl -s -i -H 'X-A: 1' -d body $at/x?a=b | tr -d '\\r' | grep -v -e ^Date -e ^Content\n\
             curl -s -w ' %{http_code}\\n' $at/?fail\ngrep 'no tide' server.log | cut -c21-",
        );
        assert_eq!(
            said,
            "HTTP/1.1 200 OK\nX-A: 1\nX-A: 2\n\nPOST a=b body\nGET fail  500\nno tide\nended with 0\n",
            "{types}"
        );
    }
}

#[test]
fn go_one_process_a_call() {
    let source =
        "package function\n\nfunc Handle(req []byte) string { return \"Hello, \" + string(req) }\n";
    let built = make("go", &[("handler.go", source)]).unwrap().build();
    assert_eq!(built.call("tide", &[]), (0, "Hello, tide\n".to_owned()));
}

#[test]
fn ruby_one_process_a_call() {
    let source = "require_relative 'greeting'\nclass Handler\n  def run(req)\n    \"#{GREETING}, #{req}\"\n  end\nend\n";
    let files = [
        ("handler.rb", source),
        ("greeting.rb", "GREETING = 'Hello'\n"),
        ("Gemfile", "source 'https://gems.example'\n# None yet.\n"),
    ];
    let built = make("ruby", &files).unwrap().build();
    assert_eq!(built.call("tide", &[]), (0, "Hello, tide\n".to_owned()));
    assert_eq!(built.call("", &[]), (0, "Hello, \n".to_owned()));
}

#[test]
fn php_one_process_a_call() {
    let source = "<?php\nnamespace App;\nclass Handler {\n  public function handle(string $data): string {\n    return greet((new Part\\Voice())->loud($data));\n  }\n}\n";
    let composer = r#"{"autoload": {"psr-4": {"App\\": "src/"}, "files": ["src/greet.php"]}, "require": {"php": ">=8.0"}}"#;
    let files = [
        ("src/Handler.php", source),
        (
            "src/Part/Voice.php",
            "<?php\nnamespace App\\Part;\nclass Voice { public function loud(string $text): string { return strtoupper($text); } }\n",
        ),
        (
            "src/greet.php",
            "<?php\nnamespace App;\nfunction greet($text) { return \"Hello, $text\"; }\n",
        ),
        ("composer.json", composer),
    ];
    let built = make("php8", &files).unwrap().build();
    assert_eq!(built.call("tide", &[]), (0, "Hello, TIDE".to_owned()));
    let broken = "<?php\nnamespace App;\nclass Handler { public function handle($d) { throw new \\Exception('no tide'); } }\n";
    let built = make("php7", &[("src/Handler.php", broken)])
        .unwrap()
        .build();
    let (code, said) = built.call("", &[]);
    assert_eq!(code, 255);
    assert!(said.contains("Uncaught Exception: no tide"), "{said}");
}

#[test]
fn java_with_its_own_entry() {
    let source = r#"package com.openfaas.function;

import com.openfaas.model.IRequest;
import com.openfaas.model.IResponse;
import com.openfaas.model.Response;
import org.apache.commons.math3.util.ArithmeticUtils;

public class Handler extends com.openfaas.model.AbstractHandler {
  public IResponse Handle(IRequest req) {
    Response response = new Response();
    response.setStatusCode(202);
    response.setContentType("text/x-tide");
    response.setBody(req.getBody() + " " + req.getQueryRaw() + " " + req.getPathRaw() + " "
        + req.getHeader("X-a") + " " + ArithmeticUtils.gcd(12, 18));
    return response;
  }
}
"#;
    let gradle = "plugins { id 'java-library' }\ndependencies {\n  implementation 'org.apache.commons:commons-math3:3.6.1'\n  \
                  implementation 'com.openfaas:model:0.1.1'\n  implementation 'com.openfaas:entrypoint:0.1.0'\n}\n";
    for language in ["java11", "java17"] {
        let files = [
            ("src/main/java/com/openfaas/function/Handler.java", source),
            ("build.gradle", gradle),
        ];
        let built = make(language, &files).unwrap().build();
        let said = built.serve(
            "curl -s -w ' %{http_code} %{content_type}\\n' -H 'X-A: y' -d body \"$at/k/v?q=1\"",
        );
        assert!(
            said.starts_with("body q=1 /k/v y 6 202 text/x-tide\n"),
            "{language}: {said}"
        );
    }
}

#[test]
fn java_with_vertx() {
    let source = r#"package com.openfaas.function;

import io.vertx.core.Handler;
import io.vertx.ext.web.RoutingContext;

public class HANDLER implements io.vertx.core.Handler<RoutingContext> {
  public void handle(RoutingContext c) {
    c.response().putHeader("X-A", "1").end(c.request().method() + " " + c.request().uri() + " " + c.getBodyAsString());
  }
}
"#
    .replace("import io.vertx.core.Handler;\n", "")
    .replace("HANDLER", "Handler");
    let files = [
        ("src/main/java/com/openfaas/function/Handler.java", &*source),
        (
            "build.gradle",
            "plugins { id 'java-library' }\ndependencies {\n  compile 'io.vertx:vertx-web:4.1.2'\n}\n",
        ),
        ("src/main/resources/webroot/index.html", "front"),
    ];
    let built = make("java11-vert-x", &files).unwrap().build();
    let requests = "curl -s -w ' %{http_code} %header{x-a}\\n' -X PATCH -d body \"$at/a?q=1\"";
    let said = built.serve(requests);
    assert!(said.starts_with("PATCH /a?q=1 body 200 1\n"), "{said}");
    let said = built.serve_at(8082, &[("FRONTAPP", "true")], "curl -s $at/; echo");
    assert!(said.starts_with("front\n"), "{said}");
}

#[test]
fn a_dockerfile_with_packages_and_a_server_of_its_own() {
    let source = r#"
import http.server, idna, os, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        said = [sys.argv[1], os.environ["GREETING"], idna.encode("caf\u00e9" + self.path[1:]).decode()]
        self.wfile.write(" ".join(said).encode())
http.server.HTTPServer(("127.0.0.1", 8080), Handler).serve_forever()
"#;
    let dockerfile = "FROM python:3.12-slim\nWORKDIR /app\nENV GREETING=\"high tide\"\nENV PYTHONPATH=/app\nCOPY requirements.txt .\n\
                      RUN pip install --no-cache-dir -r requirements.txt && rm requirements.txt\nCOPY src/ ./\n\
                      CMD [\"python\", \"main.py\", \"two words\"]\n";
    let files = [
        ("Dockerfile", dockerfile),
        ("requirements.txt", "idna==3.10\n"),
        ("src/main.py", source),
    ];
    let built = make_dockerfile(&files).unwrap().build();
    let said = built.serve_at(8080, &[], "curl -s $at/s; echo");
    assert!(
        said.starts_with("two words high tide xn--cafs-dpa\n"),
        "{said}"
    );
}
