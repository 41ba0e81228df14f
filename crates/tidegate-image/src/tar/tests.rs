use proptest::prelude::*;

use super::*;

/// A header of the form that GNU's tar writes.
fn header(name: &str, kind: u8, size: u64) -> Vec<u8> {
    let mut block = vec![0; BLOCK];
    block[..name.len()].copy_from_slice(name.as_bytes());
    block[100..107].copy_from_slice(b"0000755");
    block[124..135].copy_from_slice(format!("{size:011o}").as_bytes());
    block[136..147].copy_from_slice(b"00000000012");
    block[156] = kind;
    block[257..265].copy_from_slice(b"ustar  \0");
    summed(block)
}

fn summed(mut block: Vec<u8>) -> Vec<u8> {
    block[148..156].fill(b' ');
    let sum: u64 = block.iter().map(|b| u64::from(*b)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

fn padded(content: &[u8]) -> Vec<u8> {
    let mut content = content.to_vec();
    content.resize(content.len().next_multiple_of(BLOCK), 0);
    content
}

fn names(bytes: &[u8]) -> Result<Vec<(String, Kind, Vec<u8>)>, TarError> {
    let mut tar = Tar::new(bytes);
    let mut all = Vec::new();
    while let Some(entry) = tar.next()? {
        let mut content = Vec::new();
        tar.read_to_end(&mut content)?;
        all.push((
            String::from_utf8_lossy(&entry.name).into_owned(),
            entry.kind,
            content,
        ));
    }
    Ok(all)
}

#[test]
fn entries_come_with_their_content() {
    let archive = [
        header("d/", b'5', 0),
        header("d/f", b'0', 3),
        padded(b"abc"),
        header("l", b'2', 0),
        vec![0; 1024],
        header("after the end", b'0', 0),
    ]
    .concat();
    let of = |name: &str, kind, content: &[u8]| (name.to_owned(), kind, content.to_vec());
    assert_eq!(
        names(&archive).unwrap(),
        [
            of("d/", Kind::Folder, b""),
            of("d/f", Kind::File, b"abc"),
            of("l", Kind::Symlink, b"")
        ]
    );
}

#[test]
fn extension_headers_count() {
    let long = "x/".repeat(100) + "f";
    let record = |key: &str, value: &str| {
        let rest = format!(" {key}={value}\n");
        let mut length = rest.len();
        while length != rest.len() + length.to_string().len() {
            length = rest.len() + length.to_string().len();
        }
        format!("{length}{rest}")
    };
    let notes = record("path", &long) + &record("size", "4") + &record("mtime", "77.5");
    let archive = [
        header("g", b'L', long.len() as u64 + 1),
        padded(format!("{long}\0").as_bytes()),
        header("short", b'0', 0),
        header("p", b'x', notes.len() as u64),
        padded(notes.as_bytes()),
        header("short", b'0', 0),
        padded(b"four"),
    ]
    .concat();
    assert_eq!(
        names(&archive).unwrap(),
        [
            (long.clone(), Kind::File, Vec::new()),
            (long, Kind::File, b"four".to_vec())
        ]
    );
}

#[test]
fn large_sizes_are_read_in_both_forms() {
    assert_eq!(number(b"00000000012\0"), Some(10));
    assert_eq!(number(b"        \0\0\0\0"), Some(0));
    assert_eq!(
        number(&[0x80, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0]),
        Some(4 << 32)
    );
    assert_eq!(number(&[0xff; 12]), None);
    assert_eq!(number(b"+7\0"), None);
    assert_eq!(number(b"9\0"), None);
}

#[test]
fn what_is_damaged_is_refused() {
    let mut wrong = header("f", b'0', 0);
    wrong[0] = b'g';
    let endless = header("L", b'L', MAX_EXTENSION + 1);
    let headers = header("g", b'g', 0).repeat(MAX_EXTENSIONS + 2);
    let cut = header("f", b'0', 10);
    let sparse = header("f", b'S', 0);
    for archive in [wrong, endless, headers, cut, sparse, vec![7; 100]] {
        names(&archive).unwrap_err();
    }
}

proptest! {
    /// Whatever follows a good header, the reader comes to an end without a panic.
    #[test]
    fn anything_ends(kind in prop::sample::select(&b"0125LKxgS7"[..]), size in 0..2000_u64, rest in prop::collection::vec(any::<u8>(), 0..3000)) {
        let archive = [header("f", kind, size), rest].concat();
        let _ = names(&archive);
    }

    #[test]
    fn any_notes_end(notes in "[0-9]{1,3} (path|size|mtime|x)=[a-z0-9.]{0,12}\n?.{0,20}") {
        let _ = pax(notes.as_bytes(), &mut Extended::default());
    }
}
