use std::process::Command;

use tidegate_build::Runtime;

use crate::run::{Place, output, wanted};

#[test]
fn requirements_are_installed_and_the_same_each_time() {
    let place = Place::new();
    let source = place.source(
        "a",
        &[
            ("handler.py", "import six\n"),
            (
                "requirements.txt",
                "six==1.17.0 --hash=sha256:4721f391ed90541fddacab5acf947aa0d3dc7d27b2e1e8eda2be8970586c3274\n",
            ),
        ],
    );
    let wanted = wanted(Runtime::Python, "host", "handler.py");
    let one = place.build(&source, &wanted, "1").unwrap();
    let two = place.build(&source, &wanted, "2").unwrap();
    let (layer, again) = (one.layer.unwrap(), two.layer.unwrap());
    let dependencies = one.plan.dependencies.unwrap();
    assert!(dependencies.pinned);
    assert_eq!(dependencies.key, two.plan.dependencies.unwrap().key);
    output(Command::new("diff").arg("-r").args([&layer, &again]));
    let version = "import six; print(six.__version__, six.__cached__.endswith('.pyc'))";
    assert_eq!(
        output(
            Command::new("/usr/bin/python3")
                .args(["-c", version])
                .env("PYTHONPATH", layer.join("python"))
        ),
        "1.17.0 True\n"
    );
}

#[test]
fn a_package_that_does_not_exist_is_named() {
    let place = Place::new();
    let source = place.source(
        "a",
        &[("requirements.txt", "tidegate-has-no-such-package==9\n")],
    );
    let wanted = wanted(Runtime::Python, "host", "handler.py");
    let said = place.build(&source, &wanted, "1").err().unwrap();
    assert!(
        said.contains("No matching distribution found for tidegate-has-no-such-package==9"),
        "{said}"
    );
}
