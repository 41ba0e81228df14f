//! A process that works at one call: its input, its output, its end.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::Frame;
use tidegate_instance::{Exec, Exit, Process};
use tokio::io::{AsyncRead as _, AsyncWriteExt as _, ReadBuf};
use tokio::net::unix::pipe;
use tokio::time::{Instant, Sleep};

use crate::body::{Body, BodyFault};
use crate::{CallError, Target};

/// One read from the pipe; a pipe holds this much by default.
const CHUNK: usize = 64 * 1024;

/// Room for a first piece of output, which most answers do not pass.
const FIRST: usize = 4096;

/// How long output may still come after the process has ended. All of it is in the pipe by then; only a process that it
/// left behind, in a session of its own, can keep the pipe open while other calls run beside this one.
const REST: Duration = Duration::from_millis(100);

/// How long the kernel may take to end a process that was killed.
const DYING: Duration = Duration::from_secs(2);

/// A process at work. Dropping it kills the process.
pub(crate) struct Running {
    stdout: pipe::Receiver,
    exit: tokio::sync::oneshot::Receiver<Exit>,
    /// How it ended, once that is known; `None` inside when the instance died.
    ended: Option<Option<Exit>>,
    rest: Option<Pin<Box<Sleep>>>,
    guard: tidegate_instance::KillOnDrop,
    feeder: Option<Feeder>,
}

/// The task that writes the request body; ended with the call. On a fault it gives standard input back unclosed, so that
/// the process cannot take a broken body for a whole one.
struct Feeder(tokio::task::JoinHandle<Option<(BodyFault, pipe::Sender)>>);

/// What is read of a process's output at once, before anything is answered.
pub(crate) struct Output {
    pub(crate) bytes: BytesMut,
    /// Whether that was all.
    pub(crate) whole: bool,
}

/// Output of a process, streamed.
pub struct ProcessBody {
    first: Option<Bytes>,
    chunk: Box<[u8]>,
    running: Running,
    /// The output has ended.
    silent: bool,
    /// However the process ends, the body ends well; it is killed at this moment, if at all.
    lenient: Option<Option<Pin<Box<Sleep>>>>,
}

// === impl Running ===

impl Running {
    /// Starts the instance's program and gives it the body.
    pub(crate) async fn start(target: &Arc<Target>, exec: Exec, body: Body) -> io::Result<Self> {
        let Process {
            stdin,
            stdout,
            exit,
            guard,
        } = target.instance().exec(exec).await?;
        let feeder = (!body.is_empty()).then(|| Feeder(tokio::spawn(feed(body, stdin))));
        Ok(Self {
            stdout,
            exit,
            ended: None,
            rest: None,
            guard,
            feeder,
        })
    }

    /// Reads all of the output, or somewhat more than `most` bytes of it.
    pub(crate) async fn read(&mut self, most: usize) -> Result<Output, CallError> {
        let mut bytes = BytesMut::with_capacity(FIRST);
        loop {
            let read = std::future::poll_fn(|cx| {
                if let Poll::Ready(fault) = self.poll_fault(cx) {
                    return Poll::Ready(Err(CallError::Request(fault)));
                }
                // Into what is initialised anyway: the bytes are few and the calls not many.
                let mut chunk = [0; 8192];
                let mut buffer = ReadBuf::new(&mut chunk);
                ready!(self.poll_output(cx, &mut buffer)).map_err(CallError::Exec)?;
                bytes.extend_from_slice(buffer.filled());
                Poll::Ready(Ok(buffer.filled().len()))
            })
            .await?;
            if read == 0 || bytes.len() > most {
                let whole = read == 0;
                return Ok(Output { bytes, whole });
            }
        }
    }

    /// How the process ended, once it has; `None` when the instance died.
    pub(crate) async fn exit(&mut self) -> Option<Exit> {
        std::future::poll_fn(|cx| self.poll_exit(cx)).await
    }

    /// Ends the process, and waits until it has.
    pub(crate) async fn kill(&mut self) {
        self.guard.kill();
        // An instance that does not get to the end of it is ended by the next call that finds it so.
        let _ = tokio::time::timeout(DYING, self.exit()).await;
    }

    /// More output; none at its end.
    fn poll_output(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Poll::Ready(read) = Pin::new(&mut self.stdout).poll_read(cx, into) {
            return Poll::Ready(read);
        }
        ready!(self.poll_exit(cx));
        self.rest
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(REST)))
            .as_mut()
            .poll(cx)
            .map(Ok)
    }

    /// Ready with how the process ended; it need not be killed then.
    fn poll_exit(&mut self, cx: &mut Context<'_>) -> Poll<Option<Exit>> {
        if let Some(ended) = self.ended {
            return Poll::Ready(ended);
        }
        let exit = ready!(Pin::new(&mut self.exit).poll(cx)).ok();
        self.guard.0 = None;
        self.ended = Some(exit);
        Poll::Ready(exit)
    }

    /// Ready when the request body failed, never otherwise.
    fn poll_fault(&mut self, cx: &mut Context<'_>) -> Poll<BodyFault> {
        let Some(feeder) = &mut self.feeder else {
            return Poll::Pending;
        };
        match ready!(Pin::new(&mut feeder.0).poll(cx)) {
            Ok(Some((fault, stdin))) => {
                // Closed only after the process was told to end.
                self.guard.kill();
                drop(stdin);
                self.feeder = None;
                Poll::Ready(fault)
            }
            Ok(None) | Err(_) => {
                self.feeder = None;
                Poll::Pending
            }
        }
    }
}

/// Writes the body to the process. A process that does not read its input, or ends before it has, is no fault.
async fn feed(mut body: Body, mut stdin: pipe::Sender) -> Option<(BodyFault, pipe::Sender)> {
    use http_body::Body as _;
    loop {
        match std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
            None => return None,
            Some(Err(fault)) => return Some((fault, stdin)),
            Some(Ok(frame)) => {
                if let Ok(mut data) = frame.into_data()
                    && stdin.write_all_buf(&mut data).await.is_err()
                {
                    return None;
                }
            }
        }
    }
}

impl Drop for Feeder {
    fn drop(&mut self) {
        self.0.abort();
    }
}

// === impl ProcessBody ===

impl ProcessBody {
    /// Goes on where `first` ends. A process that fails breaks the body off.
    pub(crate) fn new(first: Bytes, running: Running) -> Box<Self> {
        Box::new(Self {
            first: Some(first),
            chunk: vec![0; CHUNK].into(),
            running,
            silent: false,
            lenient: None,
        })
    }

    /// All of the output, which ends well even when the process fails, or is killed because the time is over.
    pub(crate) fn lenient(running: Running, until: Option<Instant>) -> Box<Self> {
        let timer = until.map(|until| Box::pin(tokio::time::sleep_until(until)));
        Box::new(Self {
            first: None,
            chunk: vec![0; CHUNK].into(),
            running,
            silent: false,
            lenient: Some(timer),
        })
    }

    /// Whether the process has had its time.
    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.lenient {
            Some(Some(timer)) => timer.as_mut().poll(cx),
            _ => Poll::Pending,
        }
    }
}

impl http_body::Body for ProcessBody {
    type Data = Bytes;
    type Error = BodyFault;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        let this = self.get_mut();
        if let Some(first) = this.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        if let Poll::Ready(fault) = this.running.poll_fault(cx) {
            return Poll::Ready(Some(Err(fault)));
        }
        if this.poll_late(cx).is_ready() {
            // What the process has said by now is all.
            this.lenient = Some(None);
            this.running.guard.kill();
        }
        if !this.silent {
            let mut chunk = ReadBuf::new(&mut this.chunk);
            let read = ready!(this.running.poll_output(cx, &mut chunk));
            if read.is_ok() && !chunk.filled().is_empty() {
                let data = Bytes::copy_from_slice(chunk.filled());
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
            this.silent = true;
        }
        let exit = ready!(this.running.poll_exit(cx));
        Poll::Ready(match exit {
            Some(exit) if exit.is_success() || this.lenient.is_some() => None,
            _ => Some(Err(BodyFault::InstanceGone)),
        })
    }
}
