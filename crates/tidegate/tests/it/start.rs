//! Starting a server, and why it would not.

use std::fs;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};

use crate::harness::{Server, UNPRIVILEGED, is_root};

#[test]
fn every_mistake_in_the_settings_is_told_at_once() {
    let home = tempfile::tempdir().expect("a folder");
    let file = home.path().join("settings.toml");
    fs::write(&file, "grace = \"soon\"\nthreds = 3\n[tls]\nkey = \"/k\"\n").expect("written");
    let ran = Server::options()
        .arg("--config")
        .arg(file.to_str().expect("text"))
        .set("calls.max-waiting", "none")
        .env("TIDEGATE_LOG_FORMAT", "xml")
        .refused();
    ran.code(2).says(&[
        "grace",
        "soon",
        "threds",
        "tls.certificate",
        "calls.max-waiting",
        "TIDEGATE_LOG_FORMAT",
        "xml",
    ]);
    let ran = Server::options()
        .arg("--config")
        .arg("/nowhere/at/all.toml")
        .refused();
    ran.code(2).says(&["/nowhere/at/all.toml"]);
    Server::options()
        .arg("--listen")
        .arg("openfaas=127.0.0.1:0")
        .refused()
        .code(2)
        .says(&["openfaas", "native"]);
}

#[test]
fn settings_are_layered() {
    let home = tempfile::tempdir().expect("a folder");
    let file = home.path().join("settings.toml");
    fs::write(&file, "auth = \"none\"\n[calls]\nmax-waiting = 5\n").expect("written");
    let server = Server::options()
        .env("TIDEGATE_CONFIG", file.to_str().expect("text"))
        .env("TIDEGATE_AUTH", "key")
        .start();
    server.get("/tidegate/v1/functions").status(401);
    drop(server);
    let server = Server::options()
        .env("TIDEGATE_CONFIG", file.to_str().expect("text"))
        .env("TIDEGATE_AUTH", "key")
        .set("auth", "none")
        .start();
    server.get("/tidegate/v1/functions").ok();
}

#[test]
fn a_port_in_use_is_one_clear_line() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("bound").to_string();
    let ran = Server::options()
        .set("listen", &address)
        .arg("--listen")
        .arg(&address)
        .refused()
        .code(1);
    assert!(ran.stderr.lines().count() <= 3, "{ran}");
    ran.says(&["cannot listen on", &address, "picks a free port"]);
}

#[test]
fn a_data_folder_has_one_server() {
    let first = Server::start();
    let ran = Server::options().data(&first.data()).refused().code(1);
    ran.says(&["is in use by", &first.pid().to_string()]);
    first.get("/healthz").ok();
}

#[test]
fn a_data_folder_that_cannot_be_written_is_one_clear_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("file");
    fs::write(&data, "a file").expect("written");
    Server::options()
        .data(&data)
        .refused()
        .code(1)
        .says(&[data.to_str().expect("text")]);
    if is_root() {
        let data = folder.path().join("not-theirs");
        fs::create_dir(&data).expect("made");
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("changed");
        let ran = Server::options()
            .uid(UNPRIVILEGED)
            .data(&data)
            .refused()
            .code(1);
        ran.says(&["not-theirs", "not writable"]);
    }
}

#[test]
fn data_of_a_newer_release_is_left_alone() {
    let mut server = Server::start();
    server.deploy("kept", "def handler(event):\n    return 'kept'\n", &[]);
    server.stop();
    let database = database(&server);
    let file = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(&database)
        .expect("opened");
    // Where the file format keeps `user_version`, big-endian.
    let mut version = [0; 4];
    file.read_exact_at(&mut version, 60).expect("read");
    file.write_all_at(&999_u32.to_be_bytes(), 60)
        .expect("written");
    let before = fs::read(&database).expect("read");
    let ran = server.refuses_restart().code(1);
    ran.says(&["version 999", "newer release"]);
    assert!(
        fs::read(&database).expect("read") == before,
        "it was touched"
    );
    file.write_all_at(&version, 60).expect("written");
    server.restart();
    assert_eq!(server.get("/fn/kept").ok().text(), "kept");
}

#[test]
fn flipped_bits_are_reported_and_cost_what_they_hit_alone() {
    let mut server = Server::start();
    for name in ["hit", "spared"] {
        server.deploy(
            name,
            &format!("def handler(event):\n    return '{name}'\n"),
            &["--env", &format!("MARK=mark-of-{name}")],
        );
    }
    server.stop();
    let database = database(&server);
    let mut bytes = fs::read(&database).expect("read");
    let mark = b"mark-of-hit";
    let found: Vec<_> = (0..bytes.len() - mark.len())
        .filter(|&at| &bytes[at..at + mark.len()] == mark)
        .collect();
    assert!(!found.is_empty(), "the document is in the database");
    for at in found {
        bytes[at] ^= 0x01;
    }
    fs::write(&database, bytes).expect("written");
    let _ = fs::remove_file(server.home().join("server.log"));
    server.restart();
    let log = server.log();
    assert!(log.contains("damaged") && log.contains("hit"), "{log}");
    assert_eq!(server.get("/fn/spared").ok().text(), "spared");
    server.get("/fn/hit").status(404);
    // And it can be put in order.
    server.deploy("spared", "def handler(event):\n    return 'again'\n", &[]);
    assert_eq!(server.get("/fn/spared").ok().text(), "again");
}

#[test]
fn a_full_disk_is_told_and_nothing_is_lost() {
    if !is_root() {
        eprintln!("not root: no small file system can be mounted, so a full disk is not tested");
        return;
    }
    let disk = SmallDisk::new(24 << 20);
    let mut server = Server::options().data(&disk.path().join("data")).start();
    server.deploy("kept", "def handler(event):\n    return 'kept'\n", &[]);
    let filler = disk.path().join("filler");
    let mut full = fs::File::create(&filler).expect("made");
    let block = vec![0; 64 * 1024];
    while std::io::Write::write_all(&mut full, &block).is_ok() {}
    let large: String = (0..20_000_u32)
        .map(|n| format!("# {}\n", n.wrapping_mul(2_654_435_761)))
        .collect();
    let ran = server.try_deploy(
        "too-much",
        &format!("{large}def handler(event):\n    return 1\n"),
        &[],
    );
    assert!(ran.code.is_some_and(|code| code != 0), "{ran}");
    ran.says(&["no room left"]);
    assert_eq!(server.get("/fn/kept").ok().text(), "kept");
    server.crash();
    // With what is there it starts again; a new one has no room to begin in, and says so.
    server.restart();
    assert_eq!(server.get("/fn/kept").ok().text(), "kept");
    let new = Server::options()
        .data(&disk.path().join("new"))
        .refused()
        .code(1);
    assert!(new.stderr.lines().count() <= 4, "{new}");
    assert!(
        new.stderr.contains("no room left") || new.stderr.contains("No space left"),
        "{new}"
    );
    drop(full);
    fs::remove_file(&filler).expect("removed");
    server.deploy("fits", "def handler(event):\n    return 'fits'\n", &[]);
    assert_eq!(server.get("/fn/fits").ok().text(), "fits");
}

/// The database: the largest file at the top of the data folder.
fn database(server: &Server) -> std::path::PathBuf {
    let files = fs::read_dir(server.data()).expect("a folder");
    let sized = files.filter_map(|entry| {
        let entry = entry.ok()?;
        let meta = entry.metadata().ok()?;
        meta.is_file().then(|| (meta.len(), entry.path()))
    });
    sized.max().expect("a file").1
}

/// A file system in memory of this size.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn new(bytes: u64) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "none"])
            .arg(folder.path())
            .status()
            .expect("mount can be started");
        assert!(mounted.success(), "a small file system can be mounted");
        Self(folder)
    }

    fn path(&self) -> &std::path::Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount")
            .arg("-l")
            .arg(self.0.path())
            .status();
    }
}
