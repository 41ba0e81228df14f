//! An instance in which nothing runs, for contracts whose calls need no process.

use std::io;

use async_trait::async_trait;
use tidegate_core::{InstanceId, InvocationId};
use tidegate_instance::{Exec, Exit, Instance, Process, Reason, StartTimes, Stream, Usage};
use tokio::sync::watch;

/// An instance that is there to be counted, scaled and ended like any other, and has no sandbox, no process and no memory.
#[derive(Debug)]
pub struct Vacant {
    id: InstanceId,
    end: watch::Sender<Option<Exit>>,
}

impl Vacant {
    /// An instance that can be called at once.
    #[must_use]
    pub fn new(id: InstanceId) -> Self {
        let end = watch::Sender::new(None);
        Self { id, end }
    }

    fn end(&self, exit: Exit) {
        self.end.send_if_modified(|end| {
            let is_first = end.is_none();
            end.get_or_insert(exit);
            is_first
        });
    }
}

fn nothing_runs() -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, "nothing runs in this instance")
}

#[async_trait]
impl Instance for Vacant {
    fn id(&self) -> InstanceId {
        self.id
    }

    async fn connect(&self) -> io::Result<Stream> {
        Err(nothing_runs())
    }

    async fn exec(&self, _: Exec) -> io::Result<Process> {
        Err(nothing_runs())
    }

    async fn cancel(&self, _: InvocationId) -> bool {
        // Nothing of a call is left once it was dropped.
        true
    }

    fn drain(&self) {
        self.end(Exit {
            code: Some(0),
            signal: None,
            reason: Reason::Exited,
        });
    }

    fn kill(&self) {
        self.end(Exit::KILLED);
    }

    async fn exited(&self) -> Exit {
        let mut end = self.end.subscribe();
        match end.wait_for(Option::is_some).await {
            Ok(exit) => exit.unwrap_or(Exit::KILLED),
            Err(_) => Exit::KILLED,
        }
    }

    fn is_gone(&self) -> bool {
        self.end.borrow().is_some()
    }

    fn usage(&self) -> Option<Usage> {
        Some(Usage::default())
    }

    fn start_times(&self) -> StartTimes {
        StartTimes::default()
    }
}
