//! Images as roots.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_core::Network;
use tidegate_instance::{
    Instance, InstanceSpec, Isolation, Program, Reason, RootFs, SecretFile, StartError,
};
use tidegate_isolation_process::{ProcessIsolation, State};

use crate::image::{Layer, image};
use crate::languages::java_bundle;
use crate::network::outbound;
use crate::world::{Answer, Recorder, World, call, get, options};

/// Most layers of an image.
const MOST: usize = 127;

/// A program of an image's that is run once a call; there is no code beside it.
fn program(world: &World, root: RootFs, command: &[&str]) -> (InstanceSpec, Arc<Recorder>) {
    let empty = Layer::new(world);
    let (mut spec, logs) = world.spec(
        &empty.0,
        Program::PerCall {
            runtime: "executable".to_owned(),
            entry: String::new(),
            command: command.iter().map(|&word| word.to_owned()).collect(),
        },
    );
    spec.root = Some(root);
    (spec, logs)
}

/// Starts a script in an image and calls it once.
async fn once(world: &World, root: RootFs, script: &str) -> Answer {
    let (spec, _) = program(world, root, &["sh", "-c", script]);
    let instance = world.start(spec).await;
    call(&*instance, b"").await.expect("called")
}

pub(crate) async fn an_image_is_all_that_is_seen(world: &World) {
    let images = world.report.get("images").expect("it is noted");
    assert_eq!(images.state, State::Ok, "{}", images.detail);
    let base = Layer::base(world).file("function/own.txt", "the image's own\n");
    let answer = once(
        world,
        image(&[&base]),
        "ls /; echo; cat /function/own.txt; ls /proc | grep '^[0-9]'; echo; ls /dev /sys /etc; cat /etc/hostname /etc/hosts; echo; cat /proc/self/mountinfo",
    )
    .await;
    let text = answer.text();
    let mut parts = text.splitn(4, "\n\n");
    let root: Vec<_> = parts.next().expect("a part").lines().collect();
    assert_eq!(
        root,
        ["bin", "dev", "etc", "function", "proc", "sys", "tmp"],
        "nothing of the machine's"
    );
    assert!(text.contains("the image's own"), "{text}");
    assert!(text.contains("127.0.0.1 localhost"), "{text}");
    assert!(text.contains("127.0.0.1 tested"), "{text}");
    // Where the machine keeps its images is nobody's business.
    let folder = world.folder.path().to_str().expect("it is text");
    assert!(!text.contains(folder), "{text}");
    // What one writes another does not see.
    let (spec, _) = program(
        world,
        image(&[&base]),
        &["sh", "-c", "read name; ls /; echo x > /$name"],
    );
    let (first, second) = (world.start(spec.clone()).await, world.start(spec).await);
    call(&*first, b"first\n").await.expect("called");
    let seen = call(&*second, b"second\n").await.expect("called").text();
    assert!(!seen.contains("first"), "{seen}");
    let kept = call(&*first, b"third\n").await.expect("called").text();
    assert!(kept.contains("first") && !kept.contains("second"), "{kept}");
}

pub(crate) async fn higher_layers_cover_and_delete(world: &World) {
    let base = Layer::base(world)
        .file("data/covered", "low")
        .file("data/deleted", "low")
        .file("data/kept", "low")
        .file("gone/file", "low")
        .file("hidden/low", "low");
    let middle = Layer::new(world)
        .file("data/covered", "middle")
        .gone("data/deleted")
        .gone("gone")
        .opaque("hidden")
        .file("hidden/middle", "middle");
    let high = Layer::new(world).file("data/covered", "high");
    let answer = once(
        world,
        image(&[&base, &middle, &high]),
        "cd /data; for f in *; do echo $f $(cat $f); done; ls /gone; ls /hidden",
    )
    .await;
    assert_eq!(answer.text(), "covered high\nkept low\nmiddle\n");
    // As many as there may be, the highest of which covers all.
    let many: Vec<_> = (1..MOST)
        .map(|n| Layer::new(world).file("data/covered", &format!("{n}\n")))
        .collect();
    let layers: Vec<_> = std::iter::once(&base).chain(&many).collect();
    let text = once(world, image(&layers), "cat /data/covered")
        .await
        .text();
    assert_eq!(text, format!("{}\n", MOST - 1));
    let (spec, _) = program(
        world,
        image(&[&layers[..], &[&high, &high]].concat()),
        &["sh"],
    );
    let error = world.refused(spec).await.to_string();
    assert!(error.contains("129 layers"), "{error}");
}

pub(crate) async fn what_is_written_is_bounded_and_gone_with_the_instance(world: &World) {
    let base = Layer::base(world).file("data/file", "before\n");
    let script = "cat /data/file; echo after > /data/file; rm /bin/sleep; mkdir /new
        for at in /new /tmp; do
            dd if=/dev/zero of=$at/much bs=1M count=24 2>/dev/null && echo $at took it || echo $at is full
        done
        : > /tmp/much; rm /new/much; n=0
        while [ $n -lt 20000 ] && true > /new/$n; do n=$((n+1)); done 2>/dev/null; [ $n -lt 20000 ] && echo few files";
    for _ in 0..2 {
        let answer = once(world, image(&[&base]), script).await;
        // One bound of 32 MiB for both.
        assert_eq!(
            answer.text(),
            "before\n/new took it\n/tmp is full\nfew files\n"
        );
    }
    let on_disk = fs::read_to_string(base.0.join("data/file")).expect("it is there");
    assert_eq!(on_disk, "before\n");
    assert!(base.0.join("bin/sleep").is_symlink() && !base.0.join("new").exists());
}

pub(crate) async fn a_read_only_image_refuses_writes(world: &World) {
    let base = Layer::base(world).file("data/file", "before\n");
    let root = RootFs {
        read_only: true,
        workdir: "/made/for/it".to_owned(),
        ..image(&[&base])
    };
    let script = "pwd; for at in / /data/file /etc/hosts /dev/x /sys/x /tmp/x /dev/shm/x; do
            [ $at = / ] && at=/x
            (echo y > $at) 2>/dev/null && echo wrote $at
        done; mount -o remount,rw / 2>/dev/null && echo remounted; grep ' / / ' /proc/self/mountinfo";
    let text = once(world, root, script).await.text();
    let lines: Vec<_> = text.lines().collect();
    let [folder, tmp, shm, mount] = lines[..] else {
        panic!("{text}");
    };
    assert_eq!(
        (folder, tmp, shm),
        ("/made/for/it", "wrote /tmp/x", "wrote /dev/shm/x")
    );
    assert!(mount.contains(" ro,nosuid,nodev"), "{mount}");
}

pub(crate) async fn user_workdir_and_environment_are_the_images(world: &World) {
    let base = Layer::base(world)
        .program("home/app/private", b"its own\n", 0o600)
        .program("etc/shadow", b"root:*\n", 0o400);
    let script = "id -u; id -g; pwd; stat -c '%u %g' /home/app/private; cat private /etc/shadow; echo more >> private; cat private; env | sort";
    let root = RootFs {
        user: (100, 101),
        workdir: "/home/app".to_owned(),
        ..image(&[&base])
    };
    let text = once(world, root, script).await.text();
    assert_eq!(
        text,
        "100\n101\n/home/app\n100 101\nits own\nroot:*\nits own\nmore\nGREETING=hello\nHOME=/home/app\n\
         PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\nPWD=/home/app\nSHLVL=1\n"
    );
    // What the function or the image sets is not touched, and a user whom nobody lists is at home in `/`.
    let root = RootFs {
        user: (4242, 4242),
        ..image(&[&base])
    };
    let (mut spec, _) = program(world, root, &["sh", "-c", "echo $HOME $PATH; id -u"]);
    spec.env = vec![("PATH".to_owned(), "/nowhere:/bin".to_owned())];
    spec.secrets = vec![SecretFile {
        name: "key".to_owned(),
        value: Arc::from(*b"value"),
    }];
    let instance = world.start(spec.clone()).await;
    let text = call(&*instance, b"").await.expect("called").text();
    assert_eq!(text, "/ /nowhere:/bin\n4242\n");
    let Program::PerCall { command, .. } = &mut spec.program else {
        panic!("a program");
    };
    command[2] =
        "cat /run/secrets/key /var/openfaas/secrets/key; (echo x > /run/secrets/key) 2>/dev/null"
            .to_owned();
    let instance = world.start(spec).await;
    let answer = call(&*instance, b"").await.expect("called");
    assert_eq!(answer.text(), "valuevalue");
    assert!(!answer.exit.is_success(), "secrets are read-only");
}

pub(crate) async fn the_images_root_has_no_rights(world: &World) {
    let base = Layer::base(world);
    let script = "id -u; grep -E '^(CapPrm|CapEff|CapBnd|NoNewPrivs|Seccomp):' /proc/self/status
        mount -t tmpfs x /tmp 2>/dev/null && echo mounted
        chown 5:5 /bin/busybox 2>/dev/null && echo given away
        hostname other 2>/dev/null && echo renamed
        ls /proc/1/root 2>/dev/null && echo looked around";
    let text = once(world, image(&[&base]), script).await.text();
    assert_eq!(
        text.replace('\t', " "),
        "0\nCapPrm: 0000000000000000\nCapEff: 0000000000000000\nCapBnd: 0000000000000000\nNoNewPrivs: 1\nSeccomp: 2\n"
    );
}

pub(crate) async fn a_setuid_program_has_no_effect(world: &World) {
    let busybox = fs::read("/usr/bin/busybox").expect("busybox is installed");
    let base = Layer::base(world).program("bin/busybox-suid", &busybox, 0o6755);
    let root = RootFs {
        user: (1000, 1000),
        ..image(&[&base])
    };
    let script = "stat -c %a /bin/busybox-suid; /bin/busybox-suid id; /bin/busybox-suid grep -E '^(Uid|CapEff)' /proc/self/status
        cat /bin/busybox > /tmp/busybox-own; chmod 6755 /tmp/busybox-own; /tmp/busybox-own id; grep -v nosuid /proc/self/mounts | grep -v '^[a-z]* /dev/'; echo end";
    let text = once(world, root, script).await.text();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines[0], "6755", "{text}");
    assert_eq!(lines[1], lines[4], "{text}");
    assert!(lines[1].starts_with("uid=1000 gid=1000"), "{text}");
    assert_eq!(lines[2], "Uid:\t1000\t1000\t1000\t1000", "{text}");
    assert_eq!(lines[3], "CapEff:\t0000000000000000", "{text}");
    assert_eq!(lines[5..], ["end"], "{text}");
}

pub(crate) async fn what_cannot_be_run_is_explained(world: &World) {
    let mut foreign = fs::read("/usr/bin/busybox").expect("busybox is installed");
    // That of another architecture: 22 is s390x, wherever this runs.
    foreign[18..20].copy_from_slice(&22_u16.to_le_bytes());
    let base = Layer::base(world)
        .program("bin/foreign", &foreign, 0o755)
        .program("bin/plain", b"#!/bin/sh\n", 0o644)
        .program("bin/wants", b"#!/opt/interpreter\n", 0o755)
        .program("app/words", b"echo hello\n", 0o755);
    let base = base.machines("/usr/bin/true", "bin/dynamic");
    let listed = fs::read_dir(base.0.join("lib64")).expect("its loader");
    for loader in listed.flatten() {
        fs::remove_file(loader.path()).expect("removed");
    }
    for (word, expected) in [
        (
            "missing",
            "no folder in PATH has a program of this name in the image",
        ),
        ("/bin/missing", "the image has no such file"),
        ("plain", "has to be executable"),
        ("foreign", "it is built for s390x, and this machine is "),
        ("wants", "first line names \"/opt/interpreter\""),
        ("dynamic", "its dynamic loader \"/lib64/ld-"),
        ("./words", "`#!` line"),
        ("/app", "it is a folder"),
    ] {
        let root = RootFs {
            workdir: "/app".to_owned(),
            ..image(&[&base])
        };
        let (mut spec, _) = program(world, root, &[word]);
        let instance = world.start(spec.clone()).await;
        let error = call(&*instance, b"").await.expect_err("it cannot run");
        let error = error.to_string();
        assert!(error.contains(expected), "{error}");
        assert!(error.contains(&format!("{word:?}")), "{error}");
        spec.program = Program::Server {
            runtime: "executable".to_owned(),
            entry: String::new(),
            command: vec![word.to_owned()],
            port: None,
        };
        match world.refused(spec).await {
            StartError::Code { message } => assert_eq!(message, error),
            other => panic!("{other}"),
        }
    }
    let (spec, _) = program(world, image(&[&base]), &[]);
    let error = world.refused(spec).await.to_string();
    assert!(error.contains("give the function a command"), "{error}");
    let (spec, _) = program(world, image(&[]), &["sh"]);
    let error = world.refused(spec).await.to_string();
    assert!(error.contains("no layer"), "{error}");
}

pub(crate) async fn links_in_an_image_lead_nowhere_else(world: &World) {
    // A folder of the machine's in which a mount or a file would be noticed.
    let victim = world.bundle(&[
        ("etc/hosts", "the machine's\n"),
        ("tmp/file", "x"),
        ("dev/null", "x"),
        ("desk/x", "x"),
    ]);
    let before = listing(&victim);
    let to = victim.display();
    let ways = [
        format!("../../../../../../../../..{to}"),
        to.to_string(),
        format!("/proc/1/root{to}"),
        format!("/proc/self/cwd/../../../../../..{to}"),
    ];
    let script = "cat /etc/hostname; echo x > /tmp/mine; echo x > /dev/null; cat /run/secrets/key; pwd; ls /proc/self/status";
    let mut started = 0;
    for (link, way) in ["etc", "tmp", "dev", "proc", "sys", "run", "var", "desk"]
        .into_iter()
        .flat_map(|link| ways.iter().map(move |way| (link, way)))
    {
        let base = Layer::base(world);
        if link == "etc" {
            fs::remove_dir_all(base.0.join(link)).expect("removed");
        }
        let root = RootFs {
            workdir: "/desk/deep".to_owned(),
            ..image(&[&base.link(link, format!("{way}/{link}"))])
        };
        let (mut spec, _) = program(world, root, &["sh", "-c", script]);
        spec.secrets = vec![SecretFile {
            name: "key".to_owned(),
            value: Arc::from(*b"value"),
        }];
        match world.isolation.start(spec).await {
            Ok(instance) => {
                started += 1;
                let text = call(&*instance, b"").await.expect("called").text();
                assert_eq!(
                    text, "tested\nvalue/desk/deep\n/proc/self/status\n",
                    "{link} to {way}"
                );
            }
            // A link through what `/proc` makes of the launcher's own processes.
            Err(error) => assert!(
                !AT_THEMSELVES.contains(&link) && error.to_string().contains("symbolic links"),
                "{link} to {way}: {error}"
            ),
        }
        assert_eq!(listing(&victim), before, "{link} to {way}");
    }
    // Those that lead to where the image has nothing.
    assert!(started >= 24, "{started} started");
    // What process 1 looks at is no link that the code could replace.
    let mut base = Layer::base(world);
    for link in AT_THEMSELVES {
        base = base
            .folder(&format!("other/{link}"))
            .link(link, format!("other/{link}"));
    }
    let script = "ls -d /proc/self/status /dev/null; ls /other/*
        for at in proc dev sys tmp; do mv /$at /moved 2>/dev/null && echo moved $at; done";
    let text = once(world, image(&[&base]), script).await.text();
    assert_eq!(
        text,
        "/dev/null\n/proc/self/status\n/other/dev:\n\n/other/proc:\n\n/other/sys:\n\n/other/tmp:\n"
    );
}

/// A link of the image's leads what is hung into it to where something else has to be seen.
pub(crate) async fn nothing_covers_what_process_1_looks_at(world: &World) {
    for covered in ["/proc", "/dev", "/tmp"] {
        let base = Layer::base(world).folder("run");
        let root = image(&[&base.link("run/secrets", covered)]);
        let script = "ls -d /proc/self/status /dev/shm; echo x > /tmp/file && echo written";
        let (mut spec, _) = program(world, root, &["sh", "-c", script]);
        spec.secrets = vec![SecretFile {
            name: "key".to_owned(),
            value: Arc::from(*b"value"),
        }];
        let instance = world.isolation.start(spec).await.expect("started");
        let text = call(&*instance, b"").await.expect("called").text();
        assert_eq!(text, "/dev/shm\n/proc/self/status\nwritten\n", "{covered}");
    }
}

/// Where no link is followed.
const AT_THEMSELVES: [&str; 4] = ["dev", "proc", "sys", "tmp"];

pub(crate) async fn layers_on_a_file_system_that_maps_no_ids_are_read(world: &World) {
    if !rustix::process::geteuid().is_root() {
        println!("       an ordinary user's instances have his own id: nothing is to be mapped");
        return;
    }
    let place = world.bundle(&[("made", "")]);
    rustix::mount::mount(
        c"layers",
        &place,
        c"ramfs",
        rustix::mount::MountFlags::empty(),
        c"mode=0755",
    )
    .expect("a file system that maps no ids");
    let base = Layer::base(world).program("etc/shadow", b"", 0o600);
    let status = Command::new("cp")
        .arg("-a")
        .args([&base.0, &place.join("base")])
        .status();
    assert!(status.expect("cp runs").success());
    let root = RootFs {
        layers: vec![place.join("base")],
        ..image(&[])
    };
    // The launcher sees what was mounted before it started, and says what it makes of it.
    let (isolation, report) = ProcessIsolation::start(options(&place))
        .await
        .expect("started");
    let images = report.get("images").expect("it is noted");
    assert_eq!(images.state, State::Degraded, "{}", images.detail);
    let script = "id -u; head -n 1 /etc/passwd; cat /etc/shadow 2>/dev/null || echo not read; mkdir /new && echo made";
    let (spec, _) = program(world, root, &["sh", "-c", script]);
    let instance = isolation.start(spec).await.expect("started");
    let text = call(&*instance, b"").await.expect("called").text();
    drop(instance);
    isolation.shutdown().await;
    rustix::mount::unmount(&place, rustix::mount::UnmountFlags::DETACH).expect("unmounted");
    assert_eq!(text, "0\nroot:x:0:0:root:/root:/bin/sh\nnot read\nmade\n");
}

pub(crate) async fn a_tree_that_cannot_be_a_root_is_refused(world: &World) {
    let base = Layer::base(world);
    fs::remove_dir_all(base.0.join("etc")).expect("removed");
    let (spec, _) = program(world, image(&[&base.link("etc", "etc")]), &["sh"]);
    let error = world.refused(spec).await.to_string();
    assert!(
        error.contains("open /etc") && error.contains("symbolic links"),
        "{error}"
    );
    // A file where a folder has to be.
    let base = Layer::base(world).file("proc", "");
    let (spec, _) = program(world, image(&[&base]), &["sh"]);
    let error = world.refused(spec).await.to_string();
    assert!(error.contains("mount /proc"), "{error}");
    // A layer that is not there.
    let mut root = image(&[&base]);
    root.layers.push(world.folder.path().join("no-such-layer"));
    let (spec, _) = program(world, root, &["sh"]);
    let error = world.refused(spec).await.to_string();
    assert!(error.contains("open a layer"), "{error}");
}

pub(crate) async fn a_server_of_an_image_is_called_and_stopped_by_its_signal(world: &World) {
    let base = Layer::base(world).file("srv/page", "from the image\n");
    let script = "trap 'echo told to stop > /dev/stderr; exit 0' USR2; echo on $PORT > /dev/stdout; httpd -f -p $PORT -h /srv & wait";
    // A port that would be root's alone on the machine.
    for port in [None, Some(80)] {
        let root = RootFs {
            user: (33, 33),
            stop_signal: 12,
            ..image(&[&base])
        };
        let (mut spec, logs) = program(world, root, &[]);
        spec.program = Program::Server {
            runtime: "executable".to_owned(),
            entry: String::new(),
            command: ["sh", "-c", script].map(str::to_owned).into(),
            port,
        };
        let instance = world.start(spec).await;
        let answer = get(&*instance, "/page", None).await.expect("called");
        assert!(answer.ends_with("from the image\n"), "{answer}");
        logs.wait_for(&format!("on {}", port.unwrap_or(8080))).await;
        instance.drain();
        let exit = instance.exited().await;
        assert_eq!((exit.code, exit.reason), (Some(0), Reason::Exited));
        logs.wait_for("told to stop").await;
    }
}

pub(crate) async fn an_image_reaches_the_network_as_the_machines_files_do(world: &World) {
    let base = Layer::base(world).link("etc/resolv.conf", "../run/resolv.conf");
    let script = "echo hello | nc 1.2.3.4 80; head -n 1 /etc/resolv.conf; ls -d /run";
    let (spec, logs) = program(world, image(&[&base]), &["sh", "-c", script]);
    let (spec, _) = outbound(spec);
    let instance = world.start(spec).await;
    let answer = call(&*instance, b"").await.expect("called");
    assert_eq!(
        answer.text(),
        "hello\n to 1.2.3.4:80nameserver 192.0.0.1\n",
        "{:?}",
        logs.lines()
    );
    let (mut spec, _) = program(world, image(&[&base]), &["cat", "/etc/resolv.conf"]);
    spec.network = Network::Host;
    let instance = world.start(spec).await;
    let answer = call(&*instance, b"").await.expect("called");
    let machines = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    assert_eq!(answer.text(), machines);
}

pub(crate) async fn code_is_hung_into_an_image(world: &World) {
    let base = Layer::base(world).file("function/own.txt", "covered");
    let (mut spec, _) =
        world.per_call("#!/bin/sh\npwd; ls; cat /layer/dep; echo x > /function/y\n");
    spec.layer = Some(world.bundle(&[("dep", "a dependency\n")]));
    spec.root = Some(RootFs {
        workdir: "/bin".to_owned(),
        ..image(&[&base])
    });
    let instance = world.start(spec).await;
    let answer = call(&*instance, b"").await.expect("called");
    assert_eq!(answer.text(), "/function\nrun\na dependency\n");
    assert!(!answer.exit.is_success(), "the code is read-only");
}

pub(crate) async fn python_and_node_of_an_image_run_our_hosts(world: &World) {
    let base = Layer::base(world).machines("/usr/bin/python3", "usr/local/bin/python3");
    let version = fs::read_link("/usr/bin/python3").expect("a link to the version");
    let version = version.to_str().expect("text").to_owned();
    let library = Path::new("/usr/lib").join(&version);
    copy_tree(&library, &base.path(&format!("usr/local/lib/{version}")));
    let modules = fs::read_dir(library.join("lib-dynload")).expect("modules");
    let modules: Vec<_> = modules.flatten().map(|module| module.path()).collect();
    let base = base.libraries(&modules);
    let (mut spec, logs) = world.python(
        "import os, sys\nprint('loaded')\ndef handler(event, context):\n    print('called')\n    return '%s %s %d' % (sys.executable, os.path.exists('/usr/bin'), os.getuid())\n",
    );
    let user = (1234, 1234);
    spec.root = Some(RootFs {
        user,
        ..image(&[&base])
    });
    let instance = world.start(spec).await;
    let answer = get(&*instance, "/", None).await.expect("called");
    assert!(
        answer.ends_with("/usr/local/bin/python3 False 1234"),
        "{answer}"
    );
    logs.wait_for("loaded").await;
    logs.wait_for("called").await;
    cancelled(world, &base).await;
    drained(&*instance).await;

    let base = Layer::base(world).machines("/usr/bin/node", "usr/local/bin/node");
    let (mut spec, logs) = world.node(
        "console.log('loaded');\nexports.handler = () => { console.log('called'); return `${process.execPath} ${process.getuid()} ${process.env.GREETING} ${process.env.NODE_CHANNEL_FD}`; };\n",
    );
    spec.limits.memory = 256 << 20;
    spec.root = Some(RootFs {
        user,
        ..image(&[&base])
    });
    let instance = world.start(spec.clone()).await;
    let answer = get(&*instance, "/", None).await.expect("called");
    assert!(
        answer.ends_with("/usr/local/bin/node 1234 hello undefined"),
        "{answer}"
    );
    logs.wait_for("called").await;
    drained(&*instance).await;
    // What cannot be loaded is told as ever.
    spec.bundle = world.bundle(&[("app.cjs", "require('no-such-package')\n")]);
    // A runtime that is an image may have a version in its name.
    if let Program::Host { runtime, .. } = &mut spec.program {
        runtime.push_str(":20");
    }
    let error = world.refused(spec).await.to_string();
    assert!(error.contains("no-such-package"), "{error}");
}

pub(crate) async fn every_other_language_runs_on_the_interpreter_of_an_image(world: &World) {
    if !rustix::process::geteuid().is_root() {
        println!("       the machine's root, which is the image here, can be taken by root alone");
        return;
    }
    // Of the machine's files an image that is all of them has this one too, and a sandbox without an image has not.
    let ruby = "def handler(event) = \"#{RUBY_ENGINE} #{Process.uid} #{File.exist?('/etc/os-release')}\"\n";
    let php = "<?php function handler() { return 'php ' . fileowner('/proc/self') . ' ' . (file_exists('/etc/os-release') ? 'true' : 'false'); }\n";
    let java = "public class Handler { public String handle() { return \"java 1234 \" + new java.io.File(\"/etc/os-release\").exists(); } }\n";
    for (language, entry, source) in [
        ("ruby", "handler.rb", ruby),
        ("php", "handler.php", php),
        ("java", "Handler.class", java),
    ] {
        if world.isolation.prepare(language).await.is_err() {
            println!("       {language} is not installed");
            continue;
        }
        let bundle = if language == "java" {
            java_bundle(world, &[("Handler.java", source)])
        } else {
            world.bundle(&[(entry, source)])
        };
        let (mut spec, _) = world.spec(
            &bundle,
            Program::Host {
                runtime: format!("{language}:1"),
                entry: entry.to_owned(),
                handler: None,
            },
        );
        spec.ready_within = Duration::from_secs(30);
        spec.root = Some(RootFs {
            layers: vec!["/".into()],
            user: (1234, 1234),
            read_only: true,
            ..image(&[])
        });
        let instance = world.start(spec).await;
        let answer = get(&*instance, "/", None).await.expect("called");
        assert!(
            answer.ends_with(&format!("{language} 1234 true")),
            "{answer}"
        );
        drained(&*instance).await;
    }
}

/// A call of Python's that is busy ends, and its instance goes on.
async fn cancelled(world: &World, base: &Layer) {
    let (mut spec, logs) = world.python(
        "def handler(event, context):\n    print('begun')\n    while event.path == '/busy':\n        pass\n    return 'idle'\n",
    );
    spec.root = Some(image(&[base]));
    let instance = world.start(spec).await;
    let id = tidegate_core::InvocationId::from_u128(77);
    let busy = {
        let instance = instance.clone();
        tokio::spawn(async move { get(&*instance, "/busy", Some(id)).await })
    };
    logs.wait_for("begun").await;
    let cancelled = tokio::time::timeout(Duration::from_secs(5), instance.cancel(id)).await;
    assert!(cancelled.expect("in time"), "it says that it is idle");
    busy.abort();
    let answer = get(&*instance, "/", None).await.expect("called");
    assert!(answer.ends_with("idle"), "{answer}");
}

async fn drained(instance: &dyn Instance) {
    let began = Instant::now();
    instance.drain();
    let exit = instance.exited().await;
    assert_eq!((exit.code, exit.reason), (Some(0), Reason::Exited));
    assert!(began.elapsed() < Duration::from_secs(5));
}

pub(crate) async fn a_runtime_that_an_image_lacks_is_named(world: &World) {
    let base = Layer::base(world);
    for (mut spec, expected) in [
        (world.python("").0, "the image has to bring python3"),
        (world.node("").0, "the image has to bring node"),
    ] {
        spec.root = Some(image(&[&base]));
        match world.refused(spec).await {
            StartError::Runtime(message) => assert!(message.contains(expected), "{message}"),
            other => panic!("{other}"),
        }
    }
}

/// Every file below, with what is in it.
fn listing(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut all = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder").flatten() {
            let path = entry.path();
            if path.is_dir() {
                all.push((path.clone(), Vec::new()));
                folders.push(path);
            } else {
                let content = fs::read(&path).expect("a file");
                all.push((path, content));
            }
        }
    }
    all.sort();
    all
}

fn copy_tree(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-rL").args([from, to]).status();
    assert!(status.expect("cp runs").success());
}
