//! Who is told, the moment it happens, of what leaves no record: what functions print, and what is done for calls that are
//! made later. Exporters are such; without one, nobody is told.

use std::future::Future;

use tidegate_core::queue::Verdict;
use tidegate_core::record::TraceContext;
use tidegate_core::trace::{Step, StepKind};
use tidegate_core::{FunctionKey, InvocationId, Outcome};
use tidegate_egress::Target;
use tidegate_engine::place;
use tidegate_queue::{Attempt, Ran, Work};
use tidegate_records::Line;

use crate::ledger::now_us;
use crate::{Later, Platform};

/// What the code of a request is told of its place in a trace.
const TRACEPARENT: &str = "traceparent";

/// Is told. Called wherever something happens: nothing here may wait.
pub trait Witness: Send + Sync {
    /// A function printed a line, and its records are kept.
    fn line(&self, line: &Line);

    /// Something was done that belongs to a trace and leaves no record.
    fn step(&self, step: Step);
}

/// Nobody.
pub(crate) struct Nobody;

impl Witness for Nobody {
    fn line(&self, _: &Line) {}

    fn step(&self, _: Step) {}
}

impl Platform {
    /// Where a call stands that is to be made later. Its attempts are below, since its headers say so to them.
    pub(crate) fn place_later(&self, id: InvocationId, later: &mut Later) -> Option<TraceContext> {
        place(&mut later.headers, id, later.trace, self.traces())
    }

    /// Tells of a call that was accepted.
    pub(crate) fn witness_accepted(
        &self,
        id: InvocationId,
        function: &FunctionKey,
        trace: Option<TraceContext>,
        began_us: u64,
    ) {
        if let Some(trace) = trace {
            self.witness().step(Step {
                kind: StepKind::Accepted,
                id,
                function: function.clone(),
                trace,
                began_us,
                ended_us: now_us(),
                failure: None,
            });
        }
    }

    /// Has an address told by `deliver`, at a place of its own, and tells of that.
    pub(crate) async fn witness_told<F: Future<Output = Ran>>(
        &self,
        work: &Work,
        url: &str,
        attempt: Attempt,
        deliver: impl FnOnce(Work) -> F,
    ) -> Ran {
        let mut work = work.clone();
        let (id, function) = (work.submission.id, work.submission.function.clone());
        let trace = work.submission.trace.map(|t| t.child(crate::new_id()));
        if let Some(trace) = trace {
            let headers = &mut work.submission.request.headers;
            headers.retain(|(name, _)| name != TRACEPARENT);
            headers.push((TRACEPARENT.to_owned(), trace.traceparent().into_bytes()));
        }
        let began_us = now_us();
        let ran = deliver(work).await;
        if let Some(trace) = trace {
            let host = Target::of_url(url).map_or_else(|_| String::new(), |t| t.host().to_owned());
            self.witness().step(Step {
                kind: StepKind::Told {
                    host,
                    attempt: attempt.number,
                },
                id,
                function,
                trace,
                began_us,
                ended_us: now_us(),
                failure: failure(&ran),
            });
        }
        ran
    }
}

/// Why nobody was told.
fn failure(ran: &Ran) -> Option<String> {
    match &ran.verdict {
        Verdict::Ended(ended) if ended.outcome == Outcome::Ok => None,
        _ => Some(ran.message.clone().unwrap_or_default()),
    }
}
