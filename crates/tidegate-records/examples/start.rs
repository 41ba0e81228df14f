//! What a start and the first questions cost beside many records: `cargo run --release -p tidegate-records --example
//! start [RECORDS]`.
//!
//! A child fills a folder with ten million records and is killed while it writes. Then the folder is opened, and asked
//! what somebody asks who has just restarted a server. Every question is the first that the opened folder is asked.

#![expect(clippy::print_stdout, reason = "a program whose output is its result")]

use std::error::Error;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tidegate_core::record::{Cause, Record, Times, Used};
use tidegate_core::{FunctionKey, InstanceId, InvocationId, Outcome};
use tidegate_records::{Fate, Options, Query, Recorder};

const FOLDER: &str = "TIDEGATE_RECORDS_START_FOLDER";
const FUNCTIONS: u64 = 20;
/// The time over which the records are spread.
const SPAN_US: u64 = 24 * 3600 * 1_000_000;

fn main() -> Result<(), Box<dyn Error>> {
    let records: u64 = match std::env::args().nth(1) {
        Some(count) => count.parse()?,
        None => 10_000_000,
    };
    if let Some(folder) = std::env::var_os(FOLDER) {
        return fill(Path::new(&folder), records);
    }
    let folder = tempfile::tempdir()?;
    let mut child = Command::new(std::env::current_exe()?)
        .arg(records.to_string())
        .env(FOLDER, folder.path())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut said = String::new();
    let out = child.stdout.take().ok_or("the child has no output")?;
    BufReader::new(out).read_line(&mut said)?;
    child.kill()?;
    child.wait()?;
    let newest = InvocationId::from_u128(said.trim().parse()?);

    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let now_us = SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros() as u64;
    let short = |query| Query { limit: 50, ..query };
    let questions = [
        ("the newest 50", short(Query::default())),
        (
            "the newest 50 of one function",
            short(Query {
                function: Some((*function(7)).clone()),
                ..Query::default()
            }),
        ),
        (
            "50 that failed in the first hour or so",
            short(Query {
                until_us: Some(now_us - SPAN_US + SPAN_US / 20),
                outcomes: vec![Outcome::Function],
                ..Query::default()
            }),
        ),
        (
            "what nothing fits",
            short(Query {
                trigger: Some("none".into()),
                ..Query::default()
            }),
        ),
    ];
    for (what, mut query) in questions {
        let begun = Instant::now();
        let (recorder, report) = Recorder::open(folder.path(), Options::default())?;
        let opened = begun.elapsed();
        // The index of the segment that was being written is made behind this.
        let begun = Instant::now();
        runtime.block_on(recorder.flush())?;
        let ready = begun.elapsed();
        let begun = Instant::now();
        let mut pages = 0;
        let mut found = 0;
        loop {
            let page = runtime.block_on(recorder.query(query.clone()))?;
            (pages, found) = (pages + 1, found + page.items.len());
            query.after = page.next;
            if query.after.is_none() || found >= query.limit {
                break;
            }
        }
        let took = begun.elapsed();
        let stats = recorder.stats();
        println!(
            "{} segments of {} MiB, {} batches replayed, {} bytes unfinished: opened in {opened:.2?}, indexed after {ready:.2?}; {what}: {found} in {took:.2?}, {pages} pages",
            report.segments,
            stats.bytes_on_disk >> 20,
            report.replayed,
            report.unfinished_bytes,
        );
    }
    let (recorder, _) = Recorder::open(folder.path(), Options::default())?;
    let begun = Instant::now();
    let found = runtime.block_on(recorder.get(newest))?;
    println!(
        "one by its id: {} in {:.2?}",
        found.is_some(),
        begun.elapsed()
    );
    Ok(())
}

fn function(number: u64) -> Arc<FunctionKey> {
    Arc::new(FunctionKey {
        namespace: "default".into(),
        group: "".into(),
        name: format!("hello-{number}").into(),
    })
}

/// Records so many calls and says the id of the last one that is on disk; goes on until it is killed.
fn fill(folder: &Path, records: u64) -> Result<(), Box<dyn Error>> {
    let (recorder, _) = Recorder::open(folder, Options::default())?;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let accounts: Vec<_> = (0..FUNCTIONS)
        .map(|number| recorder.account(&function(number)))
        .collect();
    let now_us = SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros() as u64;
    let step = SPAN_US / records.max(1);
    let mut record = Record {
        id: InvocationId::from_u128(0),
        cause: Cause::default(),
        trace: None,
        function: accounts[0].function().clone(),
        revision: "hello-0123456789".into(),
        received_us: 0,
        times: Times {
            queue_us: 12,
            cold: None,
            run_us: 345,
        },
        outcome: Outcome::Ok,
        message: None,
        status: Some(200),
        bytes_in: 0,
        bytes_out: 1234,
        used: Used::Shared,
        memory_limit: 128 << 20,
        instance: Some(InstanceId(12)),
    };
    for n in 0.. {
        let account = &accounts[(n % FUNCTIONS) as usize];
        record.received_us = now_us - SPAN_US + n * step;
        let random = u128::from(n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        record.id = InvocationId::from_u128(u128::from(record.received_us / 1000) << 80 | random);
        // One in five thousand fails.
        let failed = n % 5000 == 4999;
        record.outcome = if failed {
            Outcome::Function
        } else {
            Outcome::Ok
        };
        while account.ended(&record) != Fate::Recorded {
            std::thread::sleep(Duration::from_millis(1));
        }
        if n + 1 == records {
            runtime.block_on(recorder.flush())?;
            println!("{}", record.id.as_u128());
        }
    }
    Ok(())
}
