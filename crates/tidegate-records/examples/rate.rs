//! What recording costs: `cargo run --release -p tidegate-records --example rate [RECORDS]`.
//!
//! Two threads record as fast as they are asked to, first as fast as they can, then at a steady rate; then the folder
//! is opened again. Prints nanoseconds of the recording threads and of the writing thread for each record.

#![expect(clippy::print_stdout, reason = "a program whose output is its result")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_core::record::{Cause, Record, Times, Used};
use tidegate_core::{FunctionKey, InstanceId, InvocationId, Outcome};
use tidegate_records::{Options, Query, Recorder};

const THREADS: u64 = 2;
/// Records of one thread between two pauses of 5 ms.
const STEADY: u64 = 500;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let records: u64 = match std::env::args().nth(1) {
        Some(count) => count.parse()?,
        None => 1_000_000,
    };
    let folder = tempfile::tempdir()?;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let (recorder, _) = Recorder::open(folder.path(), Options::default())?;
    for (what, batch, pause) in [
        ("as fast as they can", u64::MAX, Duration::ZERO),
        ("at a steady rate", STEADY, Duration::from_millis(5)),
    ] {
        let count = if pause.is_zero() {
            records.min(1_000_000)
        } else {
            records
        };
        let before = recorder.stats();
        let begun = Instant::now();
        let threads: Vec<_> = (0..THREADS)
            .map(|n| {
                let recorder = recorder.clone();
                std::thread::spawn(move || record(&recorder, n, count / THREADS, batch, pause))
            })
            .collect();
        let mut spent = Duration::ZERO;
        for thread in threads {
            spent += thread.join().map_err(|_| "a thread panicked")?;
        }
        let took = begun.elapsed();
        runtime.block_on(recorder.flush())?;
        // The writer tells of its time when it has done what it was asked.
        runtime.block_on(recorder.flush())?;
        let after = recorder.stats();
        let written = after.written - before.written;
        println!(
            "{what}: {count} records in {took:.2?}, shed {}; {} ns each by the thread that records, {} ns by the one that writes; {} bytes",
            after.shed - before.shed,
            spent.as_nanos() / u128::from(count),
            (after.writer_cpu_us - before.writer_cpu_us) * 1000 / written.max(1),
            (after.bytes_written - before.bytes_written) / written.max(1),
        );
    }
    runtime.block_on(recorder.close())?;
    let stats = recorder.stats();
    drop(recorder);
    let begun = Instant::now();
    let (recorder, report) = Recorder::open(folder.path(), Options::default())?;
    println!(
        "opened {} records, {} MiB in {} segments, {} batches replayed, in {:.2?}",
        stats.written,
        stats.bytes_on_disk >> 20,
        report.segments,
        report.replayed,
        begun.elapsed(),
    );
    for (what, query) in [
        ("the newest 1000", Query::default()),
        (
            "1000 that failed",
            Query {
                outcomes: vec![Outcome::Function],
                ..Query::default()
            },
        ),
    ] {
        let begun = Instant::now();
        let page = runtime.block_on(recorder.query(query))?;
        println!("{what}: {} in {:.2?}", page.items.len(), begun.elapsed());
    }
    let oldest = runtime
        .block_on(recorder.query(Query::default()))?
        .items
        .pop();
    if let Some(record) = oldest {
        for what in ["one by its id", "the same again"] {
            let begun = Instant::now();
            let found = runtime.block_on(recorder.get(record.id))?;
            println!("{what}: {} in {:.2?}", found.is_some(), begun.elapsed());
        }
    }
    Ok(())
}

/// Records so many calls, `batch` of them between two pauses; returns the time spent on it.
fn record(recorder: &Recorder, thread: u64, count: u64, batch: u64, pause: Duration) -> Duration {
    let function = Arc::new(FunctionKey {
        namespace: "default".into(),
        group: "".into(),
        name: format!("hello-{thread}").into(),
    });
    let account = recorder.account(&function);
    let mut record = Record {
        id: InvocationId::from_u128(0),
        cause: Cause::default(),
        trace: None,
        function,
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
    let mut spent = Duration::ZERO;
    let mut left = count;
    while left > 0 {
        let now = left.min(batch);
        let first = uuid::Uuid::now_v7().as_u128();
        let begun = Instant::now();
        for n in 0..now {
            record.id = InvocationId::from_u128(first.wrapping_add(u128::from(n)));
            record.received_us = record.id.unix_ms() * 1000 + 321;
            // One in five thousand fails.
            let failed = n % 5000 == 4999;
            record.outcome = if failed {
                Outcome::Function
            } else {
                Outcome::Ok
            };
            account.ended(&record);
        }
        spent += begun.elapsed();
        left -= now;
        std::thread::sleep(pause);
    }
    spent
}
