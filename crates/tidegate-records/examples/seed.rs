//! Makes many records: `cargo run --release -p tidegate-records --example seed FOLDER RECORDS`.
//!
//! The folder is a recorder's, `records` in a server's data. All are of the kept class, so none is given up on the way.

#![expect(clippy::print_stdout, reason = "a program whose output is its result")]

use std::sync::Arc;
use std::time::Instant;

use tidegate_core::record::{Cause, CauseKind, Record, Times, Used};
use tidegate_core::{FunctionKey, InstanceId, InvocationId, Outcome};
use tidegate_records::{Options, Recorder};

/// Records between two waits for the disk.
const BATCH: u64 = 10_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut words = std::env::args_os().skip(1);
    let (Some(folder), Some(count)) = (words.next(), words.next()) else {
        return Err("expected a folder and a number of records".into());
    };
    let count: u64 = count.to_string_lossy().parse()?;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let (recorder, _) = Recorder::open(folder.as_ref(), Options::default())?;
    let function = Arc::new(FunctionKey {
        namespace: "default".into(),
        group: "".into(),
        name: "seeded".into(),
    });
    let account = recorder.account(&function);
    let begun = Instant::now();
    let mut left = count;
    while left > 0 {
        let batch = left.min(BATCH);
        let first = uuid::Uuid::now_v7().as_u128();
        for n in 0..batch {
            let id = InvocationId::from_u128(first.wrapping_add(u128::from(n)));
            account.ended(&Record {
                id,
                cause: Cause {
                    kind: CauseKind::Queue,
                    attempt: 1,
                    ..Cause::default()
                },
                trace: None,
                function: Arc::clone(&function),
                revision: "0123456789ab".into(),
                received_us: id.unix_ms() * 1000 + n % 1000,
                times: Times {
                    queue_us: 12,
                    cold: None,
                    run_us: 345 + n % 1000,
                },
                // One in a thousand fails.
                outcome: if n % 1000 == 0 {
                    Outcome::Function
                } else {
                    Outcome::Ok
                },
                message: None,
                status: Some(200),
                bytes_in: 0,
                bytes_out: 1234,
                used: Used::Shared,
                memory_limit: 128 << 20,
                instance: Some(InstanceId(12)),
            });
        }
        runtime.block_on(recorder.flush())?;
        left -= batch;
    }
    runtime.block_on(recorder.close())?;
    let stats = recorder.stats();
    if stats.written < count {
        return Err(format!("{} of {count} were written", stats.written).into());
    }
    let took = begun.elapsed().as_secs_f64();
    println!(
        "{count} records, {} MiB, in {took:.1} s",
        stats.bytes_on_disk >> 20
    );
    Ok(())
}
