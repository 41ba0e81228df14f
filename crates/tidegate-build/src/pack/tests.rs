use std::os::unix::fs::PermissionsExt as _;

use super::*;

fn sample(root: &Path) {
    fs::create_dir_all(root.join("lib/deep")).unwrap();
    fs::write(
        root.join("handler.py"),
        "def handler(event, context):\n    return event\n",
    )
    .unwrap();
    fs::write(root.join("lib/deep/data.txt"), "data\n").unwrap();
    fs::write(root.join("lib/tool"), "#!/bin/sh\necho\n").unwrap();
    fs::set_permissions(root.join("lib/tool"), fs::Permissions::from_mode(0o700)).unwrap();
    std::os::unix::fs::symlink("../handler.py", root.join("lib/link")).unwrap();
    fs::write(
        root.join("n".repeat(150)),
        "a name longer than a tar header has room for",
    )
    .unwrap();
}

fn plain_tar(packed: &mut Packed) -> Vec<u8> {
    let mut tar = Vec::new();
    flate2::read::GzDecoder::new(&mut packed.archive)
        .read_to_end(&mut tar)
        .unwrap();
    tar
}

#[test]
fn the_same_content_gives_the_same_digest_whenever_and_wherever() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    sample(one.path());
    sample(two.path());
    let old = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
    File::options()
        .write(true)
        .open(two.path().join("handler.py"))
        .unwrap()
        .set_modified(old)
        .unwrap();
    fs::set_permissions(
        two.path().join("handler.py"),
        fs::Permissions::from_mode(0o600),
    )
    .unwrap();
    let mut first = pack(one.path(), &PackOptions::default()).unwrap();
    let second = pack(two.path(), &PackOptions::default()).unwrap();
    assert_eq!(first.digest, second.digest);
    assert_eq!(first.size, second.size);

    let mut bytes = Vec::new();
    first.archive.read_to_end(&mut bytes).unwrap();
    assert_eq!(digest(&bytes[..]).unwrap(), first.digest);
    assert_eq!(bytes[..10], [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255]);
    first.archive.rewind().unwrap();
    // Of the tar, not of the archive: how well a compressor compresses may change with its version, the tar may not.
    assert_eq!(
        digest(&plain_tar(&mut first)[..]).unwrap(),
        "sha256:4234851d9584da6657ac752afc547309254a4bf48907b13285d64a2a9f5d13ba"
    );

    fs::write(two.path().join("lib/deep/data.txt"), "DATA\n").unwrap();
    let changed = pack(two.path(), &PackOptions::default()).unwrap();
    assert_ne!(first.digest, changed.digest);
}

#[test]
fn an_executable_gets_its_bit() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("wc.sh");
    fs::write(&path, "#!/bin/sh\nexec wc\n").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let mut packed = pack(&path, &PackOptions::default()).unwrap();
    assert_eq!(packed.detected.entry, "wc.sh");
    let tar = plain_tar(&mut packed);
    let mut archive = tar::Archive::new(&tar[..]);
    let modes: Vec<u32> = archive
        .entries()
        .unwrap()
        .map(|e| e.unwrap().header().mode().unwrap())
        .collect();
    assert_eq!(modes, [0o755]);
}

#[test]
fn what_cannot_be_packed_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let check = |path: &str, expected: &str| {
        let error = pack(Path::new(path), &PackOptions::default()).unwrap_err();
        let said = error
            .to_string()
            .replace(&*dir.path().to_string_lossy(), "DIR");
        assert_eq!(said, expected);
    };
    check("/no/such", "no file or folder /no/such");
    check(
        "https://host/repository",
        "not supported: addresses (https://host/repository); give a file, a folder, or a .zip, .tar or .tar.gz of one",
    );
    check(
        "code.tar.xz",
        "not supported: .tar.xz archives (code.tar.xz); give a file, a folder, or a .zip, .tar or .tar.gz of one",
    );
    check("code.tar.gz", "no file or folder code.tar.gz");
    check(&dir.path().to_string_lossy(), "DIR has no files");
    let missing = pack(
        {
            fs::write(dir.path().join("handler.py"), "").unwrap();
            dir.path()
        },
        &PackOptions {
            entry: Some("other.py".to_owned()),
            ..PackOptions::default()
        },
    );
    assert_eq!(
        missing.unwrap_err().to_string(),
        "entry other.py is not a file of the folder, or was left out of it"
    );
}

#[test]
fn an_archive_is_as_the_folder_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("code");
    fs::create_dir(&folder).unwrap();
    sample(&folder);
    let expected = pack(&folder, &PackOptions::default()).unwrap().digest;
    for (command, name) in [
        (&["tar", "-czf", "a.tar.gz", "code"][..], "a.tar.gz"),
        (&["tar", "-cf", "b.tar", "-C", "code", "."], "b.tar"),
        (&["tar", "-czf", "c.tgz", "./code"], "c.tgz"),
    ] {
        let made = std::process::Command::new(command[0])
            .args(&command[1..])
            .current_dir(dir.path())
            .status()
            .unwrap();
        assert!(made.success());
        let packed = pack(&dir.path().join(name), &PackOptions::default()).unwrap();
        assert_eq!(packed.digest, expected, "{name}");
    }
    fs::write(dir.path().join("d.zip"), "no zip").unwrap();
    let error = pack(&dir.path().join("d.zip"), &PackOptions::default()).unwrap_err();
    assert!(matches!(error, PackError::Unpack { .. }), "{error}");
}

#[test]
fn a_file_that_grows_or_shrinks_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("handler.py");
    fs::write(&path, "12345").unwrap();
    for announced in [4, 6] {
        let mut tree = Tree::single(&path, "handler.py").unwrap();
        tree.nodes[0].kind = Kind::File {
            size: announced,
            executable: false,
        };
        let error = write_tar(&tree, dir.path(), io::sink()).unwrap_err();
        assert!(matches!(error, PackError::Changed(_)), "{error}");
    }
}

#[test]
fn the_limit_stops_the_writer() {
    let mut limited = Limited {
        inner: Vec::new(),
        left: 3,
        passed: false,
    };
    limited.write_all(b"abc").unwrap();
    assert!(limited.write_all(b"d").is_err());
    assert!(limited.passed);
    assert_eq!(limited.inner, b"abc");
}
