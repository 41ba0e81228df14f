//! Images as roots. The images are folders that the cases put together from the machine's own files.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, FileType, Mode, XattrFlags};
use tidegate_instance::{
    Instance, InstanceSpec, Isolation, Program, Reason, RootFs, SecretFile, StartError,
};
use tidegate_isolation_process::State;

use crate::world::{Answer, Recorder, World, call, get};

/// What of busybox the cases call by name.
const APPLETS: [&str; 18] = [
    "cat", "chmod", "chown", "dd", "env", "grep", "head", "hostname", "httpd", "id", "ls", "mkdir",
    "mount", "rm", "sh", "sleep", "sort", "stat",
];

/// A layer of an image that is being made.
struct Layer(PathBuf);

impl Layer {
    fn new(world: &World) -> Self {
        // The same numbers as bundles have: nothing else does.
        let folder = world.bundle(&[("made", "")]);
        fs::remove_file(folder.join("made")).expect("removed");
        Self(folder)
    }

    /// A shell and what goes with it.
    fn base(world: &World) -> Self {
        let layer = Self::new(world);
        fs::create_dir_all(layer.0.join("bin")).expect("a folder");
        fs::copy("/usr/bin/busybox", layer.0.join("bin/busybox")).expect("busybox is installed");
        for applet in APPLETS {
            symlink("busybox", layer.0.join("bin").join(applet)).expect("a link");
        }
        layer.file(
            "etc/passwd",
            "root:x:0:0:root:/root:/bin/sh\napp:x:100:101::/home/app:/bin/sh\n",
        )
    }

    fn path(&self, name: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().expect("it is in the layer")).expect("a folder");
        path
    }

    fn file(self, name: &str, text: &str) -> Self {
        fs::write(self.path(name), text).expect("a file");
        self
    }

    fn program(self, name: &str, text: &[u8], mode: u32) -> Self {
        let path = self.path(name);
        fs::write(&path, text).expect("a file");
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("a mode");
        self
    }

    fn folder(self, name: &str) -> Self {
        fs::create_dir_all(self.path(name)).expect("a folder");
        self
    }

    fn link(self, name: &str, to: impl AsRef<Path>) -> Self {
        symlink(to, self.path(name)).expect("a link");
        self
    }

    /// Marks what lower layers have here as deleted.
    fn gone(self, name: &str) -> Self {
        let path = self.path(name);
        rustix::fs::mknodat(CWD, path, FileType::CharacterDevice, Mode::empty(), 0)
            .expect("a mark");
        self
    }

    /// A folder that hides what lower layers have in it.
    fn opaque(self, name: &str) -> Self {
        let layer = self.folder(name);
        let path = layer.path(name);
        rustix::fs::setxattr(path, "user.overlay.opaque", b"y", XattrFlags::empty())
            .expect("a mark");
        layer
    }

    /// A program of the machine's with the libraries that it names, under another name.
    fn machines(self, program: &str, name: &str) -> Self {
        fs::copy(program, self.path(name)).expect("the program is installed");
        self.libraries(&[program.into()])
    }

    /// The libraries that these name.
    fn libraries(self, programs: &[PathBuf]) -> Self {
        let listed = Command::new("ldd")
            .args(programs)
            .output()
            .expect("ldd runs");
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        // A line with a colon names the program, not what it wants.
        let is_named = |word: &&str| word.starts_with('/') && !word.ends_with(':');
        for library in listed.split_whitespace().filter(is_named) {
            fs::copy(library, self.path(library.trim_start_matches('/'))).expect("a library");
        }
        self
    }
}

fn image(layers: &[&Layer]) -> RootFs {
    RootFs {
        layers: layers.iter().map(|layer| layer.0.clone()).collect(),
        user: (0, 0),
        workdir: "/".to_owned(),
        read_only: false,
        stop_signal: 15,
    }
}

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
        ("work/x", "x"),
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
    for (link, way) in ["etc", "tmp", "dev", "proc", "sys", "run", "var", "work"]
        .into_iter()
        .flat_map(|link| ways.iter().map(move |way| (link, way)))
    {
        let base = Layer::base(world);
        if link == "etc" {
            fs::remove_dir_all(base.0.join(link)).expect("removed");
        }
        let root = RootFs {
            workdir: "/work/deep".to_owned(),
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
                    text, "tested\nvalue/work/deep\n/proc/self/status\n",
                    "{link} to {way}"
                );
            }
            // A link that goes through itself, or through what `/proc` makes of the launcher's own processes.
            Err(error) => assert!(
                error.to_string().contains("symbolic links"),
                "{link} to {way}: {error}"
            ),
        }
        assert_eq!(listing(&victim), before, "{link} to {way}");
    }
    // Those that lead to where the image has nothing.
    assert!(started >= 14, "{started} started");
}

pub(crate) async fn a_tree_that_cannot_be_a_root_is_refused(world: &World) {
    for (what, step) in [
        ("proc", "mount /proc"),
        ("tmp", "mount /tmp"),
        ("etc", "open /etc"),
    ] {
        let base = Layer::base(world);
        if what == "etc" {
            fs::remove_dir_all(base.0.join("etc")).expect("removed");
        }
        let (spec, _) = program(world, image(&[&base.link(what, what)]), &["sh"]);
        let error = world.refused(spec).await.to_string();
        assert!(
            error.contains(step) && error.contains("symbolic links"),
            "{error}"
        );
    }
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
    let script =
        "trap 'echo told to stop; exit 0' USR2; echo on $PORT; httpd -f -p $PORT -h /srv & wait";
    for port in [None, Some(9000)] {
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
    let error = world.refused(spec).await.to_string();
    assert!(error.contains("no-such-package"), "{error}");
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
