//! What the cases share.

use std::fs;
use std::future::Future;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tidegate_core::{InstanceId, InvocationId};
use tidegate_escape::suite;
use tidegate_instance::{InstanceSpec, LogSink, LogStream, Program};
use tidegate_isolation_runsc::{Options, RunscIsolation};

/// Names the relay for the harness as another user.
pub(crate) const RELAY: &str = "TIDEGATE_TEST_RELAY";

/// A case that takes longer hangs; the attempts are hundreds, and gVisor's kernel is slower than the machine's.
const CASE: Duration = Duration::from_secs(300);

pub(crate) fn relay() -> PathBuf {
    std::env::var_os(RELAY).map_or_else(
        || PathBuf::from(env!("CARGO_BIN_EXE_tidegate-relay-test")),
        PathBuf::from,
    )
}

pub(crate) struct World {
    runtime: tokio::runtime::Runtime,
    pub(crate) folder: tempfile::TempDir,
    pub(crate) isolation: RunscIsolation,
}

#[derive(Default)]
pub(crate) struct Lines(Mutex<Vec<String>>);

impl LogSink for Lines {
    fn line(&self, _: InstanceId, _: LogStream, _: Option<InvocationId>, text: &[u8]) {
        self.0
            .lock()
            .push(String::from_utf8_lossy(text).into_owned());
    }
}

impl Lines {
    pub(crate) async fn wait_for(&self, text: &str) {
        let began = Instant::now();
        while !self.0.lock().iter().any(|l| l.contains(text)) {
            let lines = self.0.lock().clone();
            assert!(
                began.elapsed() < Duration::from_secs(10),
                "no {text:?}: {lines:?}"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl World {
    pub(crate) fn new(runsc: PathBuf) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        let folder = tempfile::tempdir().expect("a folder");
        let isolation = runtime.block_on(async {
            RunscIsolation::start(Options {
                state_dir: folder.path().join("state"),
                runsc,
                relay: relay(),
            })
        });
        Self {
            runtime,
            folder,
            isolation: isolation.expect("the isolation starts"),
        }
    }

    /// Runs a case on this runtime; false when it panicked or hung.
    pub(crate) fn run(&self, name: &str, case: impl Future<Output = ()>) -> bool {
        let began = Instant::now();
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            self.runtime
                .block_on(async { tokio::time::timeout(CASE, case).await })
        }));
        let word = match result {
            Ok(Ok(())) => "ok",
            Ok(Err(_)) => "HUNG",
            Err(_) => "FAILED",
        };
        println!("{word:<6} {name} ({} ms)", began.elapsed().as_millis());
        word == "ok"
    }

    pub(crate) fn end(self) {
        use tidegate_instance::Isolation;
        self.runtime.block_on(self.isolation.shutdown());
    }

    pub(crate) fn spec(
        &self,
        name: &str,
        script: &str,
        is_server: bool,
    ) -> (InstanceSpec, Arc<Lines>) {
        let bundle = self.folder.path().join(name);
        fs::create_dir(&bundle).expect("a folder");
        fs::set_permissions(&bundle, fs::Permissions::from_mode(0o755)).expect("a mode");
        fs::write(bundle.join("run"), script).expect("a file");
        fs::set_permissions(bundle.join("run"), fs::Permissions::from_mode(0o755)).expect("a mode");
        let (runtime, entry, command) = ("executable".to_owned(), "run".to_owned(), Vec::new());
        let program = if is_server {
            Program::Server {
                runtime,
                entry,
                command,
                port: None,
            }
        } else {
            Program::PerCall {
                runtime,
                entry,
                command,
            }
        };
        let logs = Arc::<Lines>::default();
        let spec = suite::plain(1, bundle, program, logs.clone());
        (spec, logs)
    }
}
