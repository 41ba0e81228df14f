//! Ruby and PHP, with packages that come with the source: what is tested is the recipe, not a registry.

use std::fs;
use std::process::Command;

use tidegate_build::Runtime;

use crate::run::{Place, output, wanted};

const GEMSPEC: &str = "Gem::Specification.new do |s|\n  s.name = 'tide'\n  s.version = '1.2.3'\n  s.summary = 'x'\n  \
                       s.authors = ['x']\n  s.files = ['lib/tide.rb']\nend\n";

#[test]
fn gems_are_installed_apart_from_the_code() {
    let place = Place::new();
    let gem = place.source(
        "gem",
        &[
            ("tide.gemspec", GEMSPEC),
            ("lib/tide.rb", "module Tide; VERSION = '1.2.3'; end\n"),
        ],
    );
    output(
        Command::new("gem")
            .args(["build", "tide.gemspec"])
            .current_dir(&gem),
    );
    let source = place.source(
        "a",
        &[
            ("handler.rb", ""),
            (
                "Gemfile",
                "source 'https://rubygems.org'\ngem 'tide', '1.2.3'\ngroup(:test) { gem 'absent' }\n",
            ),
            ("vendor/cache/readme", ""),
        ],
    );
    fs::copy(
        gem.join("tide-1.2.3.gem"),
        source.join("vendor/cache/tide-1.2.3.gem"),
    )
    .unwrap();
    let lock = "GEM\n  remote: https://rubygems.org/\n  specs:\n    absent (1.0)\n    tide (1.2.3)\n\nPLATFORMS\n  ruby\n\n\
                DEPENDENCIES\n  absent\n  tide (= 1.2.3)\n";
    fs::write(source.join("Gemfile.lock"), lock).unwrap();
    let wanted = wanted(Runtime::Ruby, "host", "handler.rb");
    let one = place.build(&source, &wanted, "1").unwrap();
    let two = place.build(&source, &wanted, "2").unwrap();
    let layer = one.layer.unwrap();
    output(
        Command::new("diff")
            .arg("-r")
            .args([&layer, &two.layer.unwrap()]),
    );
    let version =
        output(Command::new("ruby").args(["-e", "print RbConfig::CONFIG['ruby_version']"]));
    assert_eq!(
        output(
            Command::new("ruby")
                .args(["-e", "require 'tide'; puts Tide::VERSION"])
                .env("GEM_PATH", layer.join("ruby").join(version))
        ),
        "1.2.3\n"
    );

    fs::write(
        source.join("Gemfile"),
        "source 'https://rubygems.org'\ngem 'other'\n",
    )
    .unwrap();
    let said = place.build(&source, &wanted, "3").err().unwrap();
    assert!(said.contains("other"), "{said}");
}

#[test]
fn packages_and_classes_of_php_are_loaded() {
    let place = Place::new();
    let package = place.source(
        "package",
        &[
            (
                "composer.json",
                r#"{"name": "tide/level", "version": "1.2.3", "autoload": {"psr-4": {"Tide\\": "src/"}}}"#,
            ),
            (
                "src/Level.php",
                "<?php namespace Tide; class Level { const HIGH = 'high'; }",
            ),
        ],
    );
    let source = place.source(
        "a",
        &[
            (
                "handler.php",
                "<?php require __DIR__ . '/vendor/autoload.php'; echo App\\Name::get(), Tide\\Level::HIGH;",
            ),
            (
                "src/Name.php",
                "<?php namespace App; class Name { static function get() { return 'it is '; } }",
            ),
        ],
    );
    let archive = package.join("level.tar");
    output(
        Command::new("tar")
            .arg("-cf")
            .arg(&archive)
            .args(["composer.json", "src"])
            .current_dir(&package),
    );
    let manifest = r#"{"require": {"tide/level": "1.2.3"}, "autoload": {"psr-4": {"App\\": "src/"}},
        "repositories": [{"packagist.org": false}, {"type": "package", "package": {"name": "tide/level", "version":
        "1.2.3", "autoload": {"psr-4": {"Tide\\": "src/"}}, "dist": {"type": "tar", "url": "file://ARCHIVE"}}}]}"#;
    fs::write(
        source.join("composer.json"),
        manifest.replace("ARCHIVE", &archive.to_string_lossy()),
    )
    .unwrap();
    let wanted = wanted(Runtime::Php, "host", "handler.php");
    let built = place.build(&source, &wanted, "1").unwrap();
    let again = place.build(&source, &wanted, "2").unwrap();
    let layer = built.layer.unwrap();
    assert!(layer.join("vendor/autoload.php").is_file());
    output(
        Command::new("diff")
            .arg("-r")
            .args([&layer, &again.layer.unwrap()]),
    );
    let out = built.out.unwrap();
    assert_eq!(
        output(Command::new("php").arg(out.join("handler.php"))),
        "it is high"
    );
}
