//! What is seen and may be done from inside.

use std::sync::Arc;

use tidegate_instance::SecretFile;
use tidegate_isolation_process::{State, probe};

use crate::world::{World, call, options};

pub(crate) async fn the_report_says_what_this_machine_permits(world: &World) {
    println!("{}", world.report);
    for name in [
        "kernel",
        "namespaces",
        "seccomp",
        "memory limit",
        "cpu limit",
        "process limit",
        "python",
    ] {
        let capability = world.report.get(name).expect(name);
        assert!(!capability.detail.is_empty(), "{name}");
    }
    assert_eq!(
        world.report.get("namespaces").expect("it is there").state,
        State::Ok
    );
    // The same without a server, as `doctor` asks.
    let options = options(world.folder.path());
    let probed = tokio::task::spawn_blocking(move || probe(&options))
        .await
        .expect("it ends");
    let states = |report: &tidegate_isolation_process::Report| {
        report
            .capabilities
            .iter()
            .map(|c| (c.name.clone(), c.state))
            .collect::<Vec<_>>()
    };
    assert_eq!(states(&probed), states(&world.report));
}

const RIGHTS: &str = "#!/bin/sh
id -u; id -g; id -G; hostname; umask; pwd
grep -E '^(CapInh|CapPrm|CapEff|CapBnd|CapAmb|NoNewPrivs|Seccomp):' /proc/self/status | tr '\\t' ' '
ulimit -c
env | sort
ls /proc/self/fd | tr '\\n' ' '
";

pub(crate) async fn the_process_has_no_rights(world: &World) {
    let answer = world.once(RIGHTS).await;
    let text = answer.text();
    assert!(answer.exit.is_success(), "{answer:?}");
    assert!(
        text.starts_with("1000\n1000\n1000\ntested\n0022\n/function\n"),
        "{text}"
    );
    for line in [
        "CapInh: 0000000000000000",
        "CapPrm: 0000000000000000",
        "CapEff: 0000000000000000",
        "CapBnd: 0000000000000000",
        "CapAmb: 0000000000000000",
        "NoNewPrivs: 1",
        "Seccomp: 2",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    let env: Vec<_> = text.lines().filter(|l| l.contains('=')).collect();
    assert_eq!(
        env,
        [
            "GREETING=hello",
            "HOME=/tmp",
            "LANG=C.UTF-8",
            "PATH=/usr/local/bin:/usr/bin:/bin",
            "PWD=/function",
            "TMPDIR=/tmp",
        ]
    );
    // Three streams, and the one that `ls` reads the folder with.
    assert!(text.trim_end().ends_with("0 1 2 3"), "{text}");
}

pub(crate) async fn nothing_of_the_machine_is_seen(world: &World) {
    let folder = world.folder.path().display();
    let script = format!(
        "#!/bin/sh
echo top: $(ls /)
for path in /root /home /var/lib /boot /mnt /opt /etc/shadow /proc/1/root /proc/1/environ {folder}; do
  if ls $path >/dev/null 2>&1 && [ -n \"$(ls $path 2>/dev/null)\" ] && cat $path/* $path >/dev/null 2>&1; then echo \"SEEN $path\"; fi
done
echo processes: $(ls /proc | grep -c '^[0-9]')
for path in / /usr /function /etc /dev /run /run/secrets; do
  if touch $path/x 2>/dev/null; then echo \"WRITTEN $path\"; fi
done
touch /tmp/x /dev/shm/x && echo scratch works
echo mounts: $(wc -l < /proc/self/mountinfo)
mknod /tmp/disk b 254 0 2>/dev/null && echo DEVICE
head -c 4 /dev/urandom | wc -c
cat /etc/hostname
"
    );
    let text = world.once(&script).await.text();
    for bad in ["SEEN", "WRITTEN", "DEVICE"] {
        assert!(!text.contains(bad), "{text}");
    }
    assert!(text.contains("scratch works"), "{text}");
    assert!(text.contains("top: bin dev etc function"), "{text}");
    let processes: u32 = text
        .lines()
        .find_map(|l| l.strip_prefix("processes: "))
        .and_then(|n| n.parse().ok())
        .expect("a count");
    assert!(processes <= 6, "only its own: {text}");
}

pub(crate) async fn instances_do_not_see_each_other(world: &World) {
    let script =
        "#!/bin/sh\nif [ -e /tmp/mine ]; then echo again; else echo first; touch /tmp/mine; fi\n";
    let (first, _) = world.per_call(script);
    let (second, _) = world.per_call(script);
    let (first, second) = tokio::join!(world.start(first), world.start(second));
    assert_eq!(call(&*first, b"").await.expect("called").text(), "first\n");
    assert_eq!(call(&*first, b"").await.expect("called").text(), "again\n");
    assert_eq!(call(&*second, b"").await.expect("called").text(), "first\n");
}

pub(crate) async fn secrets_are_there_for_their_function_alone(world: &World) {
    let script = "#!/bin/sh
cat /run/secrets/* 2>/dev/null
stat -c '%a %u' /run/secrets/key 2>/dev/null
echo more > /run/secrets/key 2>/dev/null && echo WRITTEN
echo end
";
    let (mut spec, _) = world.per_call(script);
    spec.secrets = vec![SecretFile {
        name: "key".to_owned(),
        value: Arc::from(&b"open sesame\n"[..]),
    }];
    let instance = world.start(spec).await;
    assert_eq!(
        call(&*instance, b"").await.expect("called").text(),
        "open sesame\n400 1000\nend\n"
    );
    assert_eq!(world.once(script).await.text(), "end\n");

    let (mut spec, _) = world.per_call(script);
    spec.secrets = vec![SecretFile {
        name: "../out".to_owned(),
        value: Arc::from(&b"x"[..]),
    }];
    let error = world.refused(spec).await.to_string();
    assert!(error.contains("write secret ../out"), "{error}");
}

pub(crate) async fn the_network_is_the_loopback_device(world: &World) {
    let script = "#!/usr/bin/python3
import socket
print([name for _, name in socket.if_nameindex()])
for address in [('1.1.1.1', 80), ('169.254.169.254', 80), ('10.0.0.1', 22)]:
    s = socket.socket(); s.settimeout(2)
    try:
        s.connect(address); print('REACHED', address)
    except OSError as e:
        print(e.errno)
server = socket.create_server(('127.0.0.1', 0))
socket.create_connection(server.getsockname()).close()
print('loopback works')
";
    assert_eq!(
        world.once(script).await.text(),
        "['lo']\n101\n101\n101\nloopback works\n"
    );
}

const PROBES: &str = "#!/usr/bin/python3
import ctypes, os, errno, sys, socket
libc = ctypes.CDLL(None, use_errno=True)
def call(*args):
    ctypes.set_errno(0)
    r = libc.syscall(*args)
    return errno.errorcode.get(ctypes.get_errno(), 'ok') if r < 0 else 'ok'
machine = os.uname().machine
n = {'x86_64': dict(ptrace=101, mount=165, unshare=272, bpf=321, keyctl=250, clone3=435, io_uring=425, setns=308, perf=298, unknown=9999),
     'aarch64': dict(ptrace=117, mount=40, unshare=97, bpf=280, keyctl=219, clone3=435, io_uring=425, setns=268, perf=241, unknown=9999)}[machine]
for name, args in [('ptrace', (0, 0, 0, 0)), ('mount', (b'x', b'/tmp', b'tmpfs', 0, 0)), ('unshare', (0x10000000,)), ('bpf', (0, 0, 0)),
                   ('keyctl', (0, 0, 0)), ('clone3', (0, 0)), ('io_uring', (1, 0)), ('setns', (0, 0)), ('perf', (0, 0, 0, 0, 0)), ('unknown', ())]:
    print(name, call(n[name], *args))
for family in (17, 38, 40):
    try:
        socket.socket(family, socket.SOCK_RAW); print('MADE', family)
    except OSError as e:
        print(family, errno.errorcode[e.errno])
";

const SMOKE: &str = "#!/usr/bin/python3
import asyncio, concurrent.futures, json, multiprocessing, os, ssl, subprocess, threading, socket, tempfile, sqlite3, hashlib
print(subprocess.run(['/bin/sh', '-c', 'echo from a shell | tr a-z A-Z'], capture_output=True, text=True).stdout.strip())
t = threading.Thread(target=lambda: print('thread')); t.start(); t.join()
async def main():
    server = await asyncio.start_server(lambda r, w: w.close(), '127.0.0.1', 0)
    r, w = await asyncio.open_connection(*server.sockets[0].getsockname())
    await r.read(); w.close()
    p = await asyncio.create_subprocess_exec('/usr/bin/true'); await p.wait()
    return 'asyncio'
print(asyncio.run(main()))
ssl.create_default_context(); print('ssl')
with tempfile.NamedTemporaryFile() as f: f.write(b'x' * 100000); f.flush()
with multiprocessing.Pool(2) as pool: print(pool.map(abs, [-1, -2]))
db = sqlite3.connect('/tmp/x.db'); db.execute('create table t (a)'); print('sqlite')
print(socket.getaddrinfo('localhost', 80, type=socket.SOCK_STREAM)[0][4][1])
";

pub(crate) async fn bad_system_calls_are_refused_and_programs_still_run(world: &World) {
    assert_eq!(
        world.once(PROBES).await.text(),
        "ptrace EPERM\nmount EPERM\nunshare EPERM\nbpf EPERM\nkeyctl EPERM\nclone3 ENOSYS\nio_uring EPERM\n\
         setns EPERM\nperf EPERM\nunknown ENOSYS\n17 EAFNOSUPPORT\n38 EAFNOSUPPORT\n40 EAFNOSUPPORT\n"
    );
    let (spec, logs) = world.per_call(SMOKE);
    let instance = world.start(spec).await;
    let answer = call(&*instance, b"").await.expect("called");
    assert_eq!(
        answer.text(),
        "FROM A SHELL\nthread\nasyncio\nssl\n[1, 2]\nsqlite\n80\n",
        "{:?} {:?}",
        answer.exit,
        logs.lines()
    );
    // Compiled programs: this machine's own tools.
    let shell = "#!/bin/bash\nset -e\nsort <(seq 3 -1 1) | paste -sd,\ntar c -C /function run | tar t\nfind /function -name run | wc -l\n";
    assert_eq!(world.once(shell).await.text(), "1,2,3\nrun\n1\n");
}

pub(crate) async fn the_init_can_neither_be_killed_nor_traced(world: &World) {
    let script = "#!/usr/bin/python3
import os, signal
for s in (signal.SIGTERM, signal.SIGKILL, signal.SIGSTOP, signal.SIGSEGV):
    try: os.kill(1, s)
    except OSError: pass
for name in ('mem', 'environ', 'maps', 'fd/3'):
    try:
        open('/proc/1/' + name, 'rb').read(1); print('READ', name)
    except OSError:
        pass
print('still here')
";
    let (spec, _) = world.per_call(script);
    let instance = world.start(spec).await;
    for _ in 0..2 {
        assert_eq!(
            call(&*instance, b"").await.expect("called").text(),
            "still here\n"
        );
    }
    assert!(!instance.is_gone());
}

const FENCED: &str = "
import errno, os
def tried(f):
    try: f()
    except OSError as e: return errno.errorcode[e.errno]
    return 'DONE'
def answers():
    return ' '.join([
        tried(lambda: os.kill(1, 0)),
        tried(lambda: os.mknod('/tmp/device', 0o20666, os.makedev(1, 3))),
        tried(lambda: os.mkfifo('/tmp/pipe')),
        tried(lambda: (os.mkdir('/tmp/folder'), os.rename('/tmp/pipe', '/tmp/folder/pipe'))),
        tried(lambda: open('/dev/null', 'w').close()),
    ])
";

/// Programs, programs that are run once a call, and a zygote's children are all behind it.
pub(crate) async fn the_second_fence_stands_where_the_kernel_has_it(world: &World) {
    let detail = &world.report.get("landlock").expect("it is told").detail;
    let version: u32 = detail
        .strip_prefix("version ")
        .and_then(|rest| rest.split(',').next()?.parse().ok())
        .unwrap_or(0);
    if version < 6 {
        println!("this kernel's Landlock does not hold signals: {detail}");
        return;
    }
    let expected = "EPERM EACCES DONE DONE DONE";
    let script = format!("#!/usr/bin/python3\n{FENCED}\nprint(answers())\n");
    assert_eq!(world.once(&script).await.text().trim(), expected);

    let handler = format!("{FENCED}\ndef handler(event, context): return answers()\n");
    let (spec, _) = world.python(&handler);
    let instance = world.start(spec).await;
    let answer = crate::world::get(&*instance, "/", None)
        .await
        .expect("called");
    assert!(answer.ends_with(expected), "{answer}");

    let (spec, _) = world.node(
        "const fs = require('fs');
module.exports = () => { try { process.kill(1, 0); return 'DONE' } catch (e) { return e.code } };",
    );
    let instance = world.start(spec).await;
    let answer = crate::world::get(&*instance, "/", None)
        .await
        .expect("called");
    assert!(answer.ends_with("EPERM"), "{answer}");
}
