use tidegate_core::Code;

use super::*;

fn spec() -> FunctionSpec {
    let code = Code {
        digest: String::new(),
        entry: String::new(),
        layer: None,
    };
    let mut spec = FunctionSpec::plain("image", "http", code);
    spec.env.insert("MODE".to_owned(), "mine".to_owned());
    spec.scale.concurrency = 100;
    spec
}

fn image(change: impl FnOnce(&mut Config)) -> Image {
    let words = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect();
    let mut config = Config {
        entrypoint: words(&["/bin/serve"]),
        cmd: words(&["--all"]),
        env: vec![
            ("MODE".to_owned(), "theirs".to_owned()),
            ("PATH".to_owned(), "/bin".to_owned()),
        ],
        workdir: "app".to_owned(),
        user: "app".to_owned(),
        ..Config::default()
    };
    change(&mut config);
    Image {
        digest: tidegate_image::ImageDigest::of(b"manifest"),
        names: Vec::new(),
        config,
        layers: Vec::new(),
        size: 0,
        created: None,
    }
}

fn furnished(
    wanted: impl FnOnce(&mut ImageUse),
    change: impl FnOnce(&mut Config),
) -> Result<FunctionSpec, String> {
    furnished_of(&spec(), wanted, change)
}

fn furnished_of(
    spec: &FunctionSpec,
    wanted: impl FnOnce(&mut ImageUse),
    change: impl FnOnce(&mut Config),
) -> Result<FunctionSpec, String> {
    let mut use_of = ImageUse {
        name: "example".to_owned(),
        ..ImageUse::default()
    };
    wanted(&mut use_of);
    let user = |text: &str| match text {
        "" => Ok((0, 0)),
        "app" => Ok((1000, 100)),
        other => Err(format!("no user {other:?}")),
    };
    furnish(spec, &use_of, &image(change), user).map_err(|e| e.to_string())
}

#[test]
fn the_document_stands_over_the_image() {
    let plain = furnished(|_| {}, |_| {}).unwrap();
    let root = plain.root.as_ref().unwrap();
    assert_eq!(plain.command, ["/bin/serve", "--all"]);
    assert_eq!(plain.env["MODE"], "mine");
    assert_eq!(plain.env["PATH"], "/bin");
    assert_eq!((root.user, root.group), (1000, 100));
    assert_eq!((&*root.workdir, root.stop_signal), ("/app", STOP_SIGNAL));
    assert!(root.image.starts_with("sha256:"));
    let told = furnished(
        |wanted| {
            wanted.user = Some(String::new());
            wanted.workdir = Some("/srv".to_owned());
            wanted.read_only = true;
        },
        |_| {},
    );
    let root = told.unwrap().root.unwrap();
    assert_eq!(
        (root.user, &*root.workdir, root.read_only),
        (0, "/srv", true)
    );
}

#[test]
fn a_command_of_ones_own_is_not_given_the_images_arguments() {
    let words = |words: &[&str]| -> Vec<String> { words.iter().map(|w| (*w).to_owned()).collect() };
    for (command, args, expected) in [
        (&[][..], &[][..], &["/bin/serve", "--all"][..]),
        (&[], &["--one"], &["/bin/serve", "--one"]),
        (&["/bin/sh"], &[], &["/bin/sh"]),
        (&["/bin/sh"], &["-c", "x"], &["/bin/sh", "-c", "x"]),
    ] {
        let got = furnished(
            |wanted| {
                wanted.command = words(command);
                wanted.args = words(args);
            },
            |_| {},
        );
        assert_eq!(got.unwrap().command, expected);
    }
    let none = furnished(
        |_| {},
        |config| {
            config.entrypoint.clear();
            config.cmd.clear();
        },
    );
    assert!(none.unwrap_err().contains("\"example\" has no command"));
}

#[test]
fn the_port_is_that_which_is_said_first() {
    let port = |spec: &FunctionSpec, wanted: Option<u16>, change: fn(&mut Config)| {
        let got = furnished_of(spec, |w| w.port = wanted, change)?;
        let port = got.root.unwrap().port.unwrap();
        assert_eq!(got.env["PORT"], port.to_string());
        Ok::<_, String>(port)
    };
    let plain = spec();
    let mut with_variable = spec();
    with_variable
        .env
        .insert("PORT".to_owned(), "3000".to_owned());
    let labelled = |config: &mut Config| {
        config.ports = vec![80];
        config
            .labels
            .insert("dev.tidegate.port".to_owned(), "5000".to_owned());
    };
    assert_eq!(port(&plain, None, |_| {}), Ok(8080));
    assert_eq!(port(&plain, None, |c| c.ports = vec![80]), Ok(80));
    assert_eq!(port(&plain, None, |c| c.ports = vec![80, 443]), Ok(8080));
    assert_eq!(port(&plain, None, labelled), Ok(5000));
    assert_eq!(port(&with_variable, None, labelled), Ok(3000));
    assert_eq!(port(&with_variable, Some(9000), labelled), Ok(9000));
    let wrong = port(&plain, None, |c| {
        c.labels
            .insert("dev.tidegate.port".to_owned(), "many".to_owned());
    });
    assert!(wrong.unwrap_err().contains("\"many\""));
}

#[test]
fn on_the_machines_network_each_instance_has_a_port_of_its_own() {
    let mut spec = spec();
    spec.network = Network::Host;
    let got = furnished_of(&spec, |_| {}, |c| c.ports = vec![80]).unwrap();
    assert_eq!(got.root.unwrap().port, None);
}

#[test]
fn a_label_says_how_an_image_is_called_unless_the_document_does() {
    let label = |word: &'static str| {
        move |config: &mut Config| {
            config
                .labels
                .insert("dev.tidegate.contract".to_owned(), word.to_owned());
        }
    };
    let stdio = furnished(|_| {}, label("stdio")).unwrap();
    assert_eq!((&*stdio.contract, stdio.scale.concurrency), ("stdio", 1));
    assert_eq!(stdio.root.unwrap().port, None);
    let told = furnished(|w| w.contract = Some("http".to_owned()), label("stdio"));
    assert_eq!(told.unwrap().contract, "http");
    let wrong = furnished(|_| {}, label("grpc")).unwrap_err();
    assert!(
        wrong.contains("\"grpc\"") && wrong.contains("stdio"),
        "{wrong}"
    );
}

#[test]
fn stop_signals_have_names_and_numbers() {
    for (text, expected) in [
        ("SIGQUIT", Some(3)),
        ("quit", Some(3)),
        ("9", Some(9)),
        ("SIGRTMIN+3", Some(37)),
        ("", Some(15)),
        ("SIGNONE", None),
        ("0", None),
        ("SIGRTMIN+99", None),
        ("SIGRTMIN+2147483647", None),
    ] {
        let got = furnished(|_| {}, |c| c.stop_signal = Some(text.to_owned()));
        assert_eq!(
            got.ok().map(|s| s.root.unwrap().stop_signal),
            expected,
            "{text}"
        );
    }
}

#[test]
fn a_user_that_the_image_lacks_is_said_to_be() {
    let wrong = furnished(|w| w.user = Some("nobody".to_owned()), |_| {});
    assert_eq!(wrong.unwrap_err(), "spec.image: no user \"nobody\"");
}

#[test]
fn what_no_program_can_be_given_is_said_at_the_deploy() {
    for change in [
        (|c| c.cmd.push("a\0b".to_owned())) as fn(&mut Config),
        |c| c.env.push(("A".to_owned(), "\0".to_owned())),
        |c| c.env.push(("\0".to_owned(), String::new())),
        |c| c.workdir = "/a\0".to_owned(),
    ] {
        let wrong = furnished(|_| {}, change).unwrap_err();
        assert!(wrong.contains("NUL character"), "{wrong}");
    }
    let own = furnished(
        |wanted| wanted.args = vec!["one".to_owned()],
        |c| c.cmd.push("\0".to_owned()),
    );
    own.unwrap();
}
