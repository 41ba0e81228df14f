use crate::harness::{Home, check};

#[test]
fn every_command_explains_itself() {
    let home = Home::new();
    check("help", &home.plain(&["--help"], "", Vec::new()));
    let definition = tidegate_cli::command();
    let mut pages = 0;
    for command in definition.get_subcommands() {
        let name = command.get_name();
        check(
            &format!("help-{name}"),
            &home.plain(&[name, "--help"], "", Vec::new()),
        );
        for inner in command.get_subcommands() {
            let inner = inner.get_name();
            check(
                &format!("help-{name}-{inner}"),
                &home.plain(&[name, inner, "--help"], "", Vec::new()),
            );
        }
        pages += 1;
    }
    assert_eq!(pages, 33);
}

#[test]
fn the_definition_is_sound() {
    tidegate_cli::command().debug_assert();
}

#[test]
fn completions_are_scripts() {
    let home = Home::new();
    for shell in ["bash", "zsh", "fish"] {
        let said = home.plain(&["completions", shell], "", Vec::new());
        assert!(said.starts_with("exit 0\n"), "{said}");
        assert!(
            said.contains("deploy") && said.contains("all-namespaces"),
            "{shell}"
        );
    }
}

#[test]
fn the_version_is_data() {
    let said = Home::new().plain(&["--version"], "", Vec::new());
    assert_eq!(
        said,
        format!(
            "exit 0\n--- stdout\ntidegate {}\n--- stderr\n",
            env!("CARGO_PKG_VERSION")
        )
    );
}
