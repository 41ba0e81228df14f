//! Logs written by SQLite itself, then cut, flipped and put together.

use rusqlite::Connection;

use super::*;

const PAGE: usize = 4096;
const FRAME: usize = FRAME_HEADER + PAGE;

/// A log with one commit for each entry of `sizes`, of about that many pages, as it stands while the database is open.
fn log(sizes: &[usize]) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let connection = Connection::open(&path).unwrap();
    connection
        .execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0; CREATE TABLE t (x)",
        )
        .unwrap();
    for size in sizes {
        connection
            .execute(
                "INSERT INTO t VALUES (randomblob(?1))",
                [i64::try_from(size * PAGE).unwrap()],
            )
            .unwrap();
    }
    fs::read(dir.path().join("db-wal")).unwrap()
}

fn verdict(log: &[u8]) -> Verdict {
    scan(log).unwrap()
}

fn frame_count(log: &[u8]) -> usize {
    (log.len() - HEADER) / FRAME
}

fn commits(log: &[u8]) -> Vec<usize> {
    (0..frame_count(log))
        .filter(|n| word(log, HEADER + n * FRAME + 4) != 0)
        .collect()
}

#[test]
fn a_whole_log_is_sound_and_so_is_every_prefix() {
    let log = log(&[1, 3, 1]);
    assert!(commits(&log).len() >= 3);
    assert_eq!(verdict(&log), Verdict::Sound);
    for end in (0..log.len()).step_by(97) {
        assert_eq!(verdict(&log[..end]), Verdict::Sound, "cut at byte {end}");
    }
}

#[test]
fn a_flip_anywhere_before_the_last_commit_is_damage() {
    let log = log(&[1, 3, 1]);
    let last = *commits(&log).last().unwrap();
    for frame in 0..last {
        let behind = commits(&log).iter().filter(|n| **n > frame).count() as u64;
        // A flip in the page, in its number, in the salts, in the checksum.
        for offset in [FRAME_HEADER + 1000, 3, 9, 17] {
            let mut damaged = log.clone();
            damaged[HEADER + frame * FRAME + offset] ^= 0x10;
            let expected = Verdict::Damaged {
                first_bad_frame: frame as u64 + 1,
                commits: behind,
            };
            assert_eq!(
                verdict(&damaged),
                expected,
                "frame {frame}, offset {offset}"
            );
        }
    }
}

#[test]
fn a_flip_anywhere_in_the_header_is_damage() {
    let log = log(&[1, 1]);
    for byte in 0..HEADER {
        for bit in [0, 4] {
            let mut damaged = log.clone();
            damaged[byte] ^= 1 << bit;
            assert!(
                matches!(
                    verdict(&damaged),
                    Verdict::Damaged {
                        first_bad_frame: 0,
                        ..
                    }
                ),
                "byte {byte} bit {bit}"
            );
        }
    }
}

#[test]
fn a_torn_tail_without_a_commit_is_sound() {
    let log = log(&[1, 6]);
    let last = *commits(&log).last().unwrap();
    let mut torn = log[..HEADER + last * FRAME].to_vec();
    // The frames before the committing one are there, one of them only half written.
    let broken = HEADER + (last - 2) * FRAME + FRAME_HEADER + 100;
    torn[broken..broken + 2000].fill(0);
    assert_eq!(verdict(&torn), Verdict::Sound);
    // The committing frame's own header is there and its page is not: it was never synced.
    let mut torn = log;
    torn.truncate(HEADER + last * FRAME + FRAME_HEADER + 200);
    assert_eq!(verdict(&torn), Verdict::Sound);
    torn.resize(HEADER + (last + 1) * FRAME, 0);
    assert_eq!(verdict(&torn), Verdict::Sound);
}

#[test]
fn frames_of_an_older_generation_mean_nothing() {
    let new = log(&[1]);
    let mut mixed = log(&[1, 3, 3]);
    mixed[..new.len()].copy_from_slice(&new);
    assert!(mixed.len() > new.len());
    assert_eq!(verdict(&mixed), Verdict::Sound);
}

#[test]
fn big_endian_checksums_are_understood() {
    let log = log(&[1, 2]);
    let mut big = log.clone();
    big[..4].copy_from_slice(&(MAGIC | 1).to_be_bytes());
    let write = |bytes: &mut [u8], (a, b): (u32, u32)| {
        bytes[..4].copy_from_slice(&a.to_be_bytes());
        bytes[4..8].copy_from_slice(&b.to_be_bytes());
    };
    let mut seed = sum(true, (0, 0), &big[..24]);
    write(&mut big[24..32], seed);
    for frame in 0..frame_count(&log) {
        let start = HEADER + frame * FRAME;
        seed = frame_sum(true, seed, &big[start..start + FRAME]);
        write(&mut big[start + 16..start + 24], seed);
    }
    assert_eq!(verdict(&big), Verdict::Sound);
    big[HEADER + FRAME_HEADER + 5] ^= 1;
    assert!(matches!(
        verdict(&big),
        Verdict::Damaged {
            first_bad_frame: 1,
            ..
        }
    ));
}

#[test]
fn a_damaged_log_is_copied_aside_once() {
    let dir = tempfile::tempdir().unwrap();
    let database = dir.path().join("db");
    assert_eq!(examine(&database, dir.path()).unwrap(), None);
    let mut log = log(&[1, 1]);
    log[HEADER + FRAME_HEADER] ^= 1;
    let path = dir.path().join("db-wal");
    fs::write(&path, &log).unwrap();
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.set_modified(std::time::UNIX_EPOCH).unwrap();
    for _ in 0..2 {
        let damage = examine(&database, dir.path()).unwrap().unwrap();
        assert_eq!(damage.first_bad_frame, 1);
        assert_eq!(
            damage.kept,
            dir.path().join("damaged-19700101T000000.000000000Z.wal")
        );
        assert_eq!(fs::read(damage.kept).unwrap(), log);
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
}
