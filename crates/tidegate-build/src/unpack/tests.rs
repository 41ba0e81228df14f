use std::io::Write as _;

use proptest::prelude::*;

use super::*;
use crate::{PackOptions, pack};

/// A tar header as a hostile packer writes it: the fields as they are, with a right checksum.
fn entry(name: &[u8], kind: u8, target: &[u8], mode: &[u8], content: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    let bytes = header.as_mut_bytes();
    bytes[..name.len()].copy_from_slice(name);
    bytes[100..100 + mode.len()].copy_from_slice(mode);
    bytes[156] = kind;
    bytes[157..157 + target.len()].copy_from_slice(target);
    header.set_size(content.len() as u64);
    header.set_cksum();
    let mut out = header.as_bytes().to_vec();
    out.extend_from_slice(content);
    out.resize(out.len().next_multiple_of(512), 0);
    out
}

fn file(name: &str, content: &str) -> Vec<u8> {
    entry(name.as_bytes(), b'0', b"", b"0000644\0", content.as_bytes())
}

fn link(name: &str, target: &str) -> Vec<u8> {
    entry(name.as_bytes(), b'2', target.as_bytes(), b"0000777\0", b"")
}

fn gzip(entries: &[Vec<u8>]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    for entry in entries {
        out.write_all(entry).unwrap();
    }
    out.write_all(&[0; 1024]).unwrap();
    out.finish().unwrap()
}

const LIMITS: UnpackLimits = UnpackLimits {
    entries: 10,
    bytes: 100_000,
    path: 300,
    depth: 5,
};

/// Unpacks and says `ok`, or the error; whatever happens, nothing else may be left beside the folder.
fn check(entries: &[Vec<u8>], expected: &str) {
    let dir = tempfile::tempdir().unwrap();
    let dest = dir.path().join("bundle");
    let said = match unpack(&gzip(entries)[..], &dest, &LIMITS) {
        Ok(()) => "ok".to_owned(),
        Err(e) => e.to_string(),
    };
    assert_eq!(said, expected);
    let left: Vec<_> = fs::read_dir(dir.path())
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert_eq!(left.is_empty(), expected != "ok", "{left:?}");
}

#[test]
fn names_that_leave_are_refused() {
    check(
        &[file("/etc/x", "")],
        "archive entry \"/etc/x\" is absolute; names are relative to the archive's root",
    );
    check(
        &[file("a/../../x", "")],
        "archive entry \"a/../../x\" has '..'; names stay inside the archive",
    );
    check(
        &[
            entry(b"././@LongLink", b'L', b"", b"0", b"../x\0"),
            file("x", ""),
        ],
        "archive entry \"../x\" has '..'; names stay inside the archive",
    );
    check(
        &[
            entry(b"x", b'x', b"", b"0", b"13 path=../x\n"),
            file("x", ""),
        ],
        "archive entry \"../x\" has '..'; names stay inside the archive",
    );
}

#[test]
fn links_that_leave_are_refused_and_none_is_followed() {
    check(
        &[link("out", "/etc")],
        "archive link \"out\" points to \"/etc\", which is absolute",
    );
    check(
        &[link("a/out", "../../x")],
        "archive link \"a/out\" points to \"../../x\", which leaves the folder",
    );
    // The kernel resolves `a/up/..` to the parent of the root, though as text it is `a`.
    check(
        &[link("a/up", ".."), link("out", "a/up/../x")],
        "archive link \"out\" points to \"a/up/../x\", which has '..' after a name",
    );
    check(
        &[
            entry(b"real/", b'5', b"", b"0000755\0", b""),
            link("d", "real"),
            file("d/x", ""),
        ],
        "archive entry \"d\" collides with an earlier one",
    );
    check(
        &[link("d", "later"), file("d", "x")],
        "archive entry \"d\" collides with an earlier one",
    );
    check(&[link("inside/l", "../x"), file("x", "")], "ok");
}

#[test]
fn kinds_other_than_files_folders_and_links_are_refused() {
    for (kind, word) in [
        (b'1', "a hard link"),
        (b'3', "a device"),
        (b'4', "a device"),
        (b'6', "a pipe"),
        (b'S', "a sparse file"),
        (b'V', "of an unknown kind"),
    ] {
        check(
            &[entry(b"x", kind, b"y", b"0000644\0", b"")],
            &format!(
                "archive entry \"x\" is {word}; only files, folders and symbolic links are accepted"
            ),
        );
    }
}

#[test]
fn limits_hold() {
    let many: Vec<_> = (0..11).map(|n| file(&format!("f{n}"), "")).collect();
    check(&many, "archive has more than 10 entries");
    check(
        &[file("a/b/c/d/e/f", "")],
        "archive entry \"a/b/c/d/e/f\" is too long or nested too deep",
    );
    check(
        &[
            file("x", &"0".repeat(60_000)),
            file("y", &"0".repeat(60_000)),
        ],
        "archive has more than 100000 bytes of files",
    );
    check(
        &[entry(b"x", b'L', b"", b"0", &vec![b'a'; 70_000])],
        "archive has more than 65536 bytes in an extension header",
    );
    let names: Vec<_> = (0..40)
        .map(|_| entry(b"x", b'L', b"", b"0", b"n"))
        .collect();
    check(&names, "archive has more than 10 entries");
    check(
        &[file("x", ""), file("x", "")],
        "archive entry \"x\" collides with an earlier one",
    );
    check(
        &[file("x", ""), file("x/y", "")],
        "archive entry \"x\" collides with an earlier one",
    );
}

#[test]
fn what_claims_a_huge_size_costs_nothing() {
    let mut huge = file("x", "");
    let mut header = tar::Header::new_gnu();
    header.as_mut_bytes().copy_from_slice(&huge[..512]);
    header.set_size(1 << 40);
    header.set_cksum();
    huge[..512].copy_from_slice(header.as_bytes());
    check(&[huge], "archive has more than 100000 bytes of files");
}

#[test]
fn damage_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let whole = gzip(&[file("x", &"content ".repeat(100))]);
    for (at, bytes) in [
        ("cut", whole[..whole.len() / 2].to_vec()),
        ("no checksum", whole[..whole.len() - 4].to_vec()),
        ("not gzip", b"plain text".to_vec()),
        ("empty", Vec::new()),
    ] {
        let result = unpack(&bytes[..], &dir.path().join("bundle"), &LIMITS);
        assert!(
            matches!(result, Err(UnpackError::Malformed(_))),
            "{at}: {result:?}"
        );
    }
    let mut flipped = whole;
    let last = flipped.len() - 6;
    flipped[last] ^= 1;
    assert!(unpack(&flipped[..], &dir.path().join("bundle"), &LIMITS).is_err());
}

#[test]
fn modes_are_two_and_special_bits_go() {
    let dir = tempfile::tempdir().unwrap();
    let dest = dir.path().join("bundle");
    let archive = gzip(&[
        entry(b"./", b'5', b"", b"0000777\0", b""),
        entry(b"closed/", b'5', b"", b"0000000\0", b""),
        entry(b"closed/root", b'0', b"", b"0006777\0", b"x"),
        entry(b"secret", b'0', b"", b"0000600\0", b"x"),
    ]);
    unpack(&archive[..], &dest, &LIMITS).unwrap();
    let mode = |p: &str| fs::metadata(dest.join(p)).unwrap().permissions().mode() & 0o7777;
    assert_eq!(
        [
            mode(""),
            mode("closed"),
            mode("closed/root"),
            mode("secret")
        ],
        [0o755, 0o755, 0o755, 0o644]
    );
    assert!(matches!(
        unpack(&archive[..], &dest, &LIMITS),
        Err(UnpackError::Exists(_))
    ));
}

#[test]
fn what_was_packed_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let from = dir.path().join("from");
    let deep = from.join("n".repeat(200)).join("m".repeat(90));
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("data"), vec![7; 200_000]).unwrap();
    fs::write(from.join("run"), "#!/bin/sh\n").unwrap();
    std::os::unix::fs::symlink("run", from.join("alias")).unwrap();
    let packed = pack(&from, &PackOptions::default()).unwrap();
    let dest = dir.path().join("to");
    unpack(packed.archive, &dest, &UnpackLimits::default()).unwrap();
    let back = dest.join("n".repeat(200)).join("m".repeat(90)).join("data");
    assert_eq!(fs::read(back).unwrap(), vec![7; 200_000]);
    assert_eq!(fs::read_link(dest.join("alias")).unwrap(), Path::new("run"));
    let again = pack(&dest, &PackOptions::default()).unwrap();
    assert_eq!(again.digest, packed.digest);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Whatever the bytes of the headers, nothing appears outside the folder and nothing panics.
    #[test]
    fn no_archive_leaves_its_folder(
        names in proptest::collection::vec("[a./]{1,12}", 1..8),
        kinds in proptest::collection::vec(prop_oneof![Just(b'0'), Just(b'5'), Just(b'2'), Just(b'L'), Just(b'x'), any::<u8>()], 8),
        targets in proptest::collection::vec("[a./]{0,12}", 8),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let outer = dir.path().join("outer");
        fs::create_dir(&outer).unwrap();
        let entries: Vec<_> = names
            .iter()
            .zip(kinds)
            .zip(targets)
            .map(|((name, kind), target)| entry(name.as_bytes(), kind, target.as_bytes(), b"0000644\0", target.as_bytes()))
            .collect();
        let dest = outer.join("bundle");
        let unpacked = unpack(&gzip(&entries)[..], &dest, &LIMITS);
        let outside = fs::read_dir(dir.path()).unwrap().count();
        let beside = fs::read_dir(&outer).unwrap().count();
        prop_assert_eq!(outside, 1);
        prop_assert_eq!(beside, usize::from(unpacked.is_ok()));
        if unpacked.is_ok() {
            let root = fs::canonicalize(&dest).unwrap();
            let mut folders = vec![root.clone()];
            while let Some(folder) = folders.pop() {
                for found in fs::read_dir(folder).unwrap() {
                    let path = found.unwrap().path();
                    if let Ok(real) = fs::canonicalize(&path) {
                        prop_assert!(real.starts_with(&root), "{} is {}", path.display(), real.display());
                    }
                    if fs::symlink_metadata(&path).unwrap().is_dir() {
                        folders.push(path);
                    }
                }
            }
        }
    }
}
