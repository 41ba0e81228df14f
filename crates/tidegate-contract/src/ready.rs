//! Whether a server is ready, by its own account.
//!
//! An instance is ready once it takes connections, unless its function names a path to ask. It is asked at once and then
//! again and again, at first without a noticeable pause, so that a server which is up in ten milliseconds is called after
//! ten; the pauses grow, so that one which takes a minute is not kept from its work by questions.

use std::time::Duration;

use http::{Request, StatusCode, header};
use tidegate_core::{Backoff, Probe};

use crate::{Body, Target, http1};

/// Pauses between two questions.
const PAUSES: Backoff = Backoff::new(Duration::from_millis(5), Duration::from_millis(250));

/// Longest time that one question may take: a server that is busy starting answers late, and another try is free.
const ANSWER: Duration = Duration::from_secs(5);

/// A server did not become ready.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotReady {
    /// The instance ended meanwhile.
    #[error("it ended before {0:?} was answered")]
    Gone(String),
    /// It answered, but never well.
    #[error("{path:?} is answered with {status}; expected a status from 200 to 399")]
    Status {
        /// What was asked.
        path: String,
        /// The last answer.
        status: StatusCode,
    },
    /// It did not answer at all.
    #[error("{0:?} is not answered")]
    Silent(String),
}

impl Target {
    /// Waits until a `GET` of the path is answered well.
    ///
    /// # Errors
    /// Not within this time, or the instance is gone.
    pub async fn ready(&self, probe: &Probe, within: Duration) -> Result<(), NotReady> {
        let path = &*probe.path;
        let until = tokio::time::Instant::now() + within;
        let mut last = NotReady::Silent(path.to_owned());
        let mut tries = 0;
        loop {
            if self.instance().is_gone() {
                return Err(NotReady::Gone(path.to_owned()));
            }
            let before = until.min(tokio::time::Instant::now() + ANSWER);
            match tokio::time::timeout_at(before, self.ask(path)).await {
                Ok(Some(status)) if status.is_success() || status.is_redirection() => return Ok(()),
                Ok(Some(StatusCode::NOT_FOUND)) if probe.may_be_missing => return Ok(()),
                Ok(Some(status)) => {
                    last = NotReady::Status {
                        path: path.to_owned(),
                        status,
                    };
                }
                Ok(None) | Err(_) => {}
            }
            let again = tokio::time::Instant::now() + PAUSES.delay(tries);
            if again >= until {
                return Err(last);
            }
            tokio::time::sleep_until(again).await;
            tries += 1;
        }
    }

    /// The status of one answer, over a connection that is not kept: nobody has called yet.
    async fn ask(&self, path: &str) -> Option<StatusCode> {
        let request = Request::get(path)
            .header(header::HOST, "localhost")
            .header(header::CONNECTION, "close")
            .body(Body::empty())
            .ok()?;
        let mut sender = http1::connect(self).await.ok()?;
        let response = sender.send_request(request).await.ok()?;
        Some(response.status())
    }
}
