use std::process::Command;

use tidegate_build::Runtime;

use crate::run::{Place, output, wanted};

#[test]
fn gems_are_installed_apart_from_the_code() {
    let place = Place::new();
    let source = place.source(
        "a",
        &[
            ("handler.rb", ""),
            ("Gemfile", "source 'https://rubygems.org'\ngem 'rainbow', '3.1.1'\n"),
            (
                "Gemfile.lock",
                "GEM\n  remote: https://rubygems.org/\n  specs:\n    rainbow (3.1.1)\n\nPLATFORMS\n  ruby\n\n\
                 DEPENDENCIES\n  rainbow (= 3.1.1)\n\nBUNDLED WITH\n   2.3.15\n",
            ),
        ],
    );
    let wanted = wanted(Runtime::Ruby, "host", "handler.rb");
    let one = place.build(&source, &wanted, "1").unwrap();
    let two = place.build(&source, &wanted, "2").unwrap();
    let layer = one.layer.unwrap();
    output(
        Command::new("diff")
            .arg("-r")
            .args([&layer, &two.layer.unwrap()]),
    );
    let gems = std::fs::read_dir(layer.join("ruby"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    assert_eq!(
        output(
            Command::new("ruby")
                .args(["-e", "require 'rainbow'; puts Rainbow::VERSION"])
                .env("GEM_PATH", gems)
        ),
        "3.1.1\n"
    );
}

#[test]
fn packages_and_classes_of_php_are_loaded() {
    let place = Place::new();
    let source = place.source(
        "a",
        &[
            ("handler.php", "<?php require __DIR__ . '/vendor/autoload.php'; echo App\\Name::get(), Psr\\Log\\LogLevel::INFO;"),
            ("src/Name.php", "<?php namespace App; class Name { static function get() { return 'it is '; } }"),
            (
                "composer.json",
                r#"{"require": {"psr/log": "3.0.2"}, "autoload": {"psr-4": {"App\\": "src/"}}}"#,
            ),
        ],
    );
    let wanted = wanted(Runtime::Php, "host", "handler.php");
    let built = place.build(&source, &wanted, "1").unwrap();
    assert!(built.layer.unwrap().join("vendor/autoload.php").is_file());
    let out = built.out.unwrap();
    assert_eq!(
        output(Command::new("php").arg(out.join("handler.php"))),
        "it is info"
    );
}
