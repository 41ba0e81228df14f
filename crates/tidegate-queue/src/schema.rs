//! The tables of the queue's file.

/// Marks the file as ours: "TIDQ".
pub(crate) const APPLICATION_ID: u32 = 0x5449_4451;

/// A commit writes whole pages, and one of a single item touches four: so they are small.
pub(crate) const PAGE_BYTES: u32 = 4 * 1024;

/// Step `n` turns version `n` into version `n + 1`.
pub(crate) const MIGRATIONS: &[&str] = &[
    // `items` are in the order of acceptance. `due` is nothing while another of the ordering key is ahead. What is in
    // `state`, `head` and `body` is told in `codec`. `lanes` gives functions numbers, so that an index of a million
    // entries holds no names; what is due is found by lane. `words` are idempotency keys, by number. `blobs` are the
    // bodies that are not in rows. `results` and `dead` are in the order in which they came there.
    "CREATE TABLE lanes (
        lane INTEGER PRIMARY KEY,
        namespace TEXT NOT NULL,
        grp TEXT NOT NULL,
        name TEXT NOT NULL
     ) STRICT;
     CREATE UNIQUE INDEX lanes_by_name ON lanes (namespace, grp, name);
     CREATE TABLE items (
        seq INTEGER PRIMARY KEY,
        id BLOB NOT NULL,
        lane INTEGER NOT NULL,
        due INTEGER,
        okey INTEGER,
        state BLOB NOT NULL,
        head BLOB NOT NULL,
        body BLOB NOT NULL
     ) STRICT;
     CREATE UNIQUE INDEX items_by_id ON items (id);
     CREATE INDEX items_by_due ON items (lane, due);
     CREATE INDEX items_by_key ON items (okey, seq) WHERE okey IS NOT NULL;
     CREATE TABLE dead (
        number INTEGER PRIMARY KEY,
        seq INTEGER NOT NULL,
        id BLOB NOT NULL,
        lane INTEGER NOT NULL,
        died INTEGER NOT NULL,
        reason INTEGER NOT NULL,
        finished BLOB NOT NULL,
        state BLOB NOT NULL,
        head BLOB NOT NULL,
        body BLOB NOT NULL
     ) STRICT;
     CREATE INDEX dead_by_id ON dead (id);
     CREATE TABLE words (
        word BLOB PRIMARY KEY,
        id BLOB NOT NULL,
        until INTEGER NOT NULL
     ) STRICT, WITHOUT ROWID;
     CREATE INDEX words_by_until ON words (until);
     CREATE TABLE blobs (
        id BLOB PRIMARY KEY,
        digest BLOB NOT NULL
     ) STRICT, WITHOUT ROWID;
     CREATE TABLE results (
        number INTEGER PRIMARY KEY,
        id BLOB NOT NULL,
        until INTEGER NOT NULL,
        finished BLOB NOT NULL
     ) STRICT;
     CREATE INDEX results_by_id ON results (id);
     CREATE INDEX results_by_until ON results (until);
     CREATE TABLE counters (
        name TEXT PRIMARY KEY,
        value INTEGER NOT NULL
     ) STRICT, WITHOUT ROWID;",
    // The sizes of bodies, so that they count within the queue's size. What older rows have is filled in at opening.
    "ALTER TABLE blobs ADD COLUMN bytes INTEGER NOT NULL DEFAULT 0;",
];
