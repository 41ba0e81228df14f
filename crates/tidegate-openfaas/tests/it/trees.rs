//! What each template makes of a handler.

use tidegate_openfaas::{BuildConfig, templates};

use crate::harness::{make, make_with};

const GO: (&str, &str) = ("handler.go", "package function\n");
const JAVA: (&str, &str) = (
    "src/main/java/com/openfaas/function/Handler.java",
    "package com.openfaas.function;\n",
);

#[test]
fn go() {
    let middleware = make(
        "golang-middleware",
        &[
            GO,
            ("go.mod", "module handler/function\n\ngo 1.24.1\n"),
            ("static/index.html", "x"),
            ("GO_REPLACE.txt", "replace a => ./function/a\n"),
        ],
    )
    .unwrap();
    insta::assert_snapshot!(middleware.shown());
    insta::assert_snapshot!(middleware.file("go.work"));
    let http = make(
        "golang-http",
        &[GO, ("go.mod", "module example.com/mine\n")],
    )
    .unwrap();
    insta::assert_snapshot!(http.shown());
    insta::assert_snapshot!(http.file("go.work"));
    assert!(
        http.file("main.go")
            .contains("function \"example.com/mine\"")
    );
    let bare = make("go", &[GO]).unwrap();
    insta::assert_snapshot!(bare.shown());
    insta::assert_snapshot!(bare.file("go.mod"));
    let inproc = make("golang-middleware-inproc", &[GO]).unwrap();
    assert_eq!(inproc.prepared.env["exec_timeout"], "10s");
    assert_eq!(inproc.prepared.env["mode"], "http");
}

#[test]
fn go_with_packages_that_came_along() {
    let made = make(
        "golang-http",
        &[
            GO,
            ("go.mod", "module handler/function\n\ngo 1.20\n"),
            ("vendor/modules.txt", "# a.b/c v1.0.0\n## explicit\na.b/c\n"),
            ("vendor/a.b/c/c.go", "package c\n"),
        ],
    )
    .unwrap();
    insta::assert_snapshot!(made.shown());
    insta::assert_snapshot!(made.file("go.work"));
    assert!(
        made.file("vendor/modules.txt")
            .starts_with("## workspace\n# a.b/c")
    );
}

#[test]
fn arguments_of_a_go_build() {
    let mut config = BuildConfig::default();
    for (name, value) in [
        ("CGO_ENABLED", "1"),
        ("GO111MODULE", "off"),
        ("ADDITIONAL_PACKAGE", ""),
    ] {
        config.build_args.insert(name.to_owned(), value.to_owned());
    }
    let made = make_with("golang-middleware", &[GO], &config).unwrap();
    assert_eq!(made.prepared.build.env["CGO_ENABLED"], "1");
    assert_eq!(
        made.prepared.notes,
        ["the build argument GO111MODULE has no effect here"]
    );
}

#[test]
fn java() {
    let gradle = "plugins { id 'java-library' }\ndependencies {\n    implementation 'com.google.guava:guava:23.0'\n    \
                  implementation 'com.openfaas:model:0.1.1'\n    implementation files('x.jar')\n}\n";
    let made = make(
        "java17",
        &[
            JAVA,
            ("build.gradle", gradle),
            ("src/test/java/HandlerTest.java", "x"),
        ],
    )
    .unwrap();
    insta::assert_snapshot!(made.shown());
    insta::assert_snapshot!(made.file("pom.xml"));
    let vertx = make("java11-vert-x", &[JAVA]).unwrap();
    insta::assert_snapshot!(vertx.shown());
    insta::assert_snapshot!(vertx.file("pom.xml"));
    let own = make("java11", &[JAVA, ("pom.xml", "<project/>")]).unwrap();
    assert_eq!(own.file("pom.xml"), "<project/>");
}

#[test]
fn ruby_and_php() {
    let ruby = make(
        "ruby",
        &[
            ("handler.rb", "x"),
            ("Gemfile", "gem 'rack'"),
            ("vendor/cache/rack.gem", "x"),
        ],
    )
    .unwrap();
    insta::assert_snapshot!(ruby.shown());
    let composer = r#"{"name": "a/b", "require": {"php": "^8.1"}, "autoload": {"psr-4": {"App\\": "src/"}, "files": ["f.php"]}}"#;
    let php = make(
        "php8",
        &[
            ("src/Handler.php", "<?php"),
            ("composer.json", composer),
            ("php-extension.sh", "#!/bin/sh\ndocker-php-ext-install gd\n"),
        ],
    )
    .unwrap();
    insta::assert_snapshot!(php.shown());
    insta::assert_snapshot!(php.file("composer.json"));
    insta::assert_snapshot!(php.file("autoload.php"));
}

#[test]
fn what_is_not_there_is_named() {
    for (language, files, expected) in [
        (
            "golang-http",
            &[("handler_test.go", "")][..],
            "there is no function/handler.go, in which template golang-http looks for the handler",
        ),
        (
            "golang-middleware",
            &[GO, ("go.mod", "go 1.20\n")],
            "function/go.mod has no line 'module handler/function'",
        ),
        (
            "golang-middleware",
            &[GO, ("vendor/a/a.go", "")],
            "function has packages in vendor and no go.mod; run 'go mod init handler/function' and 'go mod vendor' in it",
        ),
        (
            "java11",
            &[("build.gradle", "")],
            "there is no function/src/main/java/com/openfaas/function/Handler.java, in which template java11 looks for the \
             handler",
        ),
        (
            "java17",
            &[JAVA, ("build.gradle.kts", "")],
            "function/build.gradle.kts is not read; write its dependencies as function/build.gradle or as function/pom.xml",
        ),
        (
            "ruby",
            &[("index.rb", "")],
            "there is no function/handler.rb, in which template ruby looks for the handler",
        ),
        (
            "php7",
            &[("src/Handler.php", ""), ("composer.json", "[]")],
            "function/composer.json is not a JSON object",
        ),
        (
            "csharp",
            &[("FunctionHandler.cs", "")],
            "template csharp needs .NET, which functions cannot use here; install the .NET SDK where you build, make a program \
             that brings its runtime along (dotnet publish --self-contained), and deploy that with lang: dockerfile and a \
             Dockerfile of COPY lines, ENV fprocess=\"./root\" and CMD [\"fwatchdog\"]",
        ),
    ] {
        let said = make(language, files).err();
        assert_eq!(said.as_deref(), Some(expected), "{language}");
    }
    // Withdrawn long ago, or never there.
    for language in ["node10-express", "ruby-http", "cobol"] {
        let said = make(language, &[]).err().unwrap_or_default();
        assert!(
            said.starts_with(&format!(
                "template {language:?} is not one of those that are known here: "
            )),
            "{said}"
        );
        assert!(
            templates::known().all(|known| said.contains(known)),
            "{said}"
        );
    }
}
