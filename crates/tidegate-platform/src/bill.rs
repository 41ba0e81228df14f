//! What an answer says of its own cost, where the operator wants answers to say so.
//!
//! What a call costs is known when it has ended, and the head of an answer leaves before that. So answers whose length is
//! known and small are read to their end before their head is sent: that costs the caller no more than the wait for the
//! last byte, which he has to wait for anyway. Longer ones and those that stream say nothing; their cost is in the record.
//! Trailers could say it, but HTTP/1.1 has them only in bodies of unknown length, for clients that ask for them.

use std::collections::HashMap;
use std::sync::Arc;

use http::{HeaderName, HeaderValue, Response, StatusCode};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use parking_lot::Mutex;
use tidegate_core::InvocationId;
use tidegate_core::record::Record;
use tidegate_engine::{Failure, ReplyBody};

use crate::Platform;
use crate::queue::of_fault;

/// What it costs, in the currency of the prices.
const COST: HeaderName = HeaderName::from_static("tidegate-cost");
/// The time that is billed, in milliseconds.
const BILLED: HeaderName = HeaderName::from_static("tidegate-billed-ms");
/// Memory limit times billed time, in gigabytes (2³⁰ bytes) times seconds.
const GB_SECONDS: HeaderName = HeaderName::from_static("tidegate-gb-seconds");

/// Longest answer that is read to its end before its head is sent, in bytes: most are shorter, and as many of them as there
/// are calls fit into memory.
const AHEAD: u64 = 64 * 1024;

/// Calls whose records are waited for, by their ids; as many as are under way at most.
#[derive(Clone, Default)]
pub(crate) struct Bills(Arc<Mutex<HashMap<InvocationId, Option<Box<Record>>>>>);

/// One of them, until it is dropped.
pub(crate) struct Bill {
    bills: Bills,
    id: InvocationId,
}

impl Bills {
    /// Waits for the record of a call that is about to be made.
    pub(crate) fn expect(&self, id: InvocationId) -> Bill {
        self.0.lock().insert(id, None);
        Bill {
            bills: self.clone(),
            id,
        }
    }

    /// A call has ended.
    pub(crate) fn ended(&self, record: &Record) {
        if let Some(place) = self.0.lock().get_mut(&record.id) {
            *place = Some(Box::new(record.clone()));
        }
    }
}

impl Bill {
    fn record(&self) -> Option<Box<Record>> {
        let mut all = self.bills.0.lock();
        all.get_mut(&self.id).and_then(Option::take)
    }
}

impl Drop for Bill {
    fn drop(&mut self) {
        self.bills.0.lock().remove(&self.id);
    }
}

impl Platform {
    /// Puts what a call cost into its answer, as far as that is known before the answer has to go.
    ///
    /// # Errors
    /// The answer, which was to be read to its end, broke off.
    pub(crate) async fn billed(
        &self,
        answer: Response<ReplyBody>,
        bill: Bill,
    ) -> Result<Response<ReplyBody>, Failure> {
        let length = answer.body().size_hint().exact();
        let is_short = length.is_some_and(|length| length <= AHEAD);
        if !is_short || answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            return Ok(answer);
        }
        let (mut head, body) = answer.into_parts();
        let body = body
            .collect()
            .await
            .map_err(|fault| Failure::new(of_fault(fault), fault.to_string()))?
            .to_bytes();
        if let Some(record) = bill.record() {
            for (name, text) in self.said(&record) {
                // Numbers, and a word of the operator's.
                if let Ok(value) = HeaderValue::try_from(text) {
                    head.headers.insert(name, value);
                }
            }
        }
        Ok(Response::from_parts(head, ReplyBody::full(body)))
    }

    fn said(&self, record: &Record) -> Vec<(HeaderName, String)> {
        let billed_us = self.billed_us(record);
        let gb_seconds = billed_us as f64 / 1e6 * record.memory_limit as f64 / f64::from(1 << 30);
        let mut said = vec![
            (BILLED, (billed_us as f64 / 1e3).to_string()),
            (GB_SECONDS, format!("{gb_seconds:.9}")),
        ];
        if let Some(cost) = self.cost_of_record(record) {
            let cost = format!("{} {}", cost.total(), self.prices().currency);
            said.push((COST, cost.trim_end().to_owned()));
        }
        said
    }
}
