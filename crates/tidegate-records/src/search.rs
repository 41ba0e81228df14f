//! Looking for records and lines on disk.
//!
//! Newest first means: what was written last comes first, and records are written when they end. So a page is read
//! from the end of the last segment backwards, whatever the times of its entries, and a place in the files is a place
//! in the answer. How much is read for one page is bounded; a page may be short and say where to go on.

use std::collections::VecDeque;
use std::sync::Arc;

use tidegate_core::record::Record;
use tidegate_core::{FunctionKey, InvocationId};

use crate::encode::{
    Batch, Head, Input, Kind, Malformed, decode_line, decode_record, outcome_number,
};
use crate::line::Line;
use crate::query::{LineQuery, MAX_PAGE, Page, Query, Token};
use crate::segment::{FrameMeta, Part, Series, Term, Wanted};
use crate::{Error, usage};

/// Bytes of batches that are read for one page: some tenths of a second.
const PAGE_BYTES: u64 = 64 << 20;
/// Batches that are read for one page.
const PAGE_FRAMES: u32 = 50_000;

/// All of a batch.
pub(crate) const ALL: (u32, usize) = (u32::MAX, usize::MAX);

/// What an entry must be like.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    namespace: Option<Arc<str>>,
    function: Option<FunctionKey>,
    since_us: Option<u64>,
    until_us: Option<u64>,
    /// A bit for each outcome that will do; none for any.
    outcomes: u64,
    parent: Option<InvocationId>,
    trigger: Option<Arc<str>>,
    id: Option<InvocationId>,
}

/// What can be decoded from a batch.
pub(crate) trait Decode: Sized {
    const KIND: Kind;
    fn decode(
        head: &Head<'_>,
        body: Input<'_>,
        function: &Arc<FunctionKey>,
    ) -> Result<Self, Malformed>;
}

impl Decode for Record {
    const KIND: Kind = Kind::Records;

    fn decode(
        head: &Head<'_>,
        body: Input<'_>,
        function: &Arc<FunctionKey>,
    ) -> Result<Self, Malformed> {
        decode_record(head, body, function)
    }
}

impl Decode for Line {
    const KIND: Kind = Kind::Lines;

    fn decode(
        head: &Head<'_>,
        body: Input<'_>,
        function: &Arc<FunctionKey>,
    ) -> Result<Self, Malformed> {
        decode_line(head, body, function)
    }
}

impl From<&Query> for Filter {
    fn from(query: &Query) -> Self {
        let bits = query.outcomes.iter().map(|o| 1 << outcome_number(*o));
        Self {
            namespace: query.namespace.clone(),
            function: query.function.clone(),
            since_us: query.since_us,
            until_us: query.until_us,
            outcomes: bits.fold(0, |all, bit: u64| all | bit),
            parent: query.parent,
            trigger: query.trigger.clone(),
            id: None,
        }
    }
}

impl From<&LineQuery> for Filter {
    fn from(query: &LineQuery) -> Self {
        Self {
            namespace: query.namespace.clone(),
            function: query.function.clone(),
            since_us: query.since_us,
            until_us: query.until_us,
            ..Self::default()
        }
    }
}

impl Filter {
    pub(crate) fn of_id(id: InvocationId) -> Self {
        Self {
            id: Some(id),
            ..Self::default()
        }
    }

    /// The same, only of this function.
    pub(crate) fn of(mut self, function: Option<FunctionKey>) -> Self {
        self.function = function;
        self
    }

    pub(crate) fn of_parent(id: InvocationId) -> Self {
        Self {
            parent: Some(id),
            ..Self::default()
        }
    }

    /// What to ask an index for.
    fn wanted(&self) -> Wanted {
        let mut wanted = Wanted::of(self.function.as_ref(), self.namespace.as_ref());
        wanted.and(self.id.map(Term::id));
        wanted.and(self.parent.map(Term::parent));
        wanted.and(self.trigger.as_deref().map(Term::name));
        let outcomes = (0..64).filter(|number| self.outcomes & 1 << number != 0);
        wanted.and(outcomes.map(Term::outcome));
        wanted
    }

    /// Whether what lies between these times may match.
    fn overlaps(&self, first_us: u64, last_us: u64) -> bool {
        self.since_us.is_none_or(|since| last_us >= since)
            && self.until_us.is_none_or(|until| first_us < until)
    }

    /// Whether an entry matches, but for its function.
    fn takes(&self, head: &Head<'_>) -> bool {
        self.overlaps(head.time_us, head.time_us)
            && (self.outcomes == 0 || self.outcomes & 1 << (head.outcome & 63) != 0)
            && (self.id.is_none() || self.id == head.id)
            && (self.parent.is_none() || self.parent == head.parent)
            && (self.trigger.is_none() || self.trigger.as_deref() == head.name)
    }

    fn takes_function(&self, key: &FunctionKey) -> bool {
        self.namespace.as_ref().is_none_or(|n| *n == key.namespace)
            && self.function.as_ref().is_none_or(|f| f == key)
    }
}

/// Entries of one batch that match, oldest first, each with its place among the batch's items: of the first `left` items
/// the last `most` that do.
pub(crate) fn matching<T: Decode>(
    part: &mut Part<'_>,
    meta: &FrameMeta,
    filter: &Filter,
    (left, most): (u32, usize),
    buffer: &mut Vec<u8>,
) -> Result<Vec<(u32, T)>, Error> {
    let Some(payload) = part.payload(meta, buffer)? else {
        return Ok(Vec::new());
    };
    let read = || -> Result<Vec<(u32, T)>, Malformed> {
        let batch = Batch::decode(payload, T::KIND)?;
        let mut found = VecDeque::new();
        for (at, item) in (0..left).zip(batch.items()) {
            let (head, body) = item?;
            if filter.takes(&head) {
                let function = batch.function(head.function)?;
                if filter.takes_function(function) {
                    if found.len() == most {
                        found.pop_front();
                    }
                    found.push_back((at, head, body, function));
                }
            }
        }
        let decode = |(at, head, body, function)| Ok((at, T::decode(&head, body, function)?));
        found.into_iter().map(decode).collect()
    };
    Ok(read().unwrap_or_else(|_| {
        part.damaged(meta);
        Vec::new()
    }))
}

/// A page of what matches, newest first. Blocks.
pub(crate) fn page<T: Decode>(
    series: &Series,
    filter: &Filter,
    limit: usize,
    after: Option<Token>,
) -> Result<Page<T>, Error> {
    let limit = if limit == 0 {
        MAX_PAGE
    } else {
        limit.min(MAX_PAGE)
    };
    let wanted = filter.wanted();
    let mut items = Vec::new();
    let (mut bytes, mut frames) = (0, 0);
    let mut buffer = Vec::new();
    for number in series.numbers().into_iter().rev() {
        if after.is_some_and(|after| number > after.segment) {
            continue;
        }
        let known = series.summary(number);
        if known.is_some_and(|s| !filter.overlaps(s.first_us, s.last_us)) {
            continue;
        }
        let Some(mut part) = series.part(number)? else {
            continue;
        };
        if !filter.overlaps(part.summary.first_us, part.summary.last_us) {
            continue;
        }
        for ordinal in part.find(&wanted)?.into_iter().rev() {
            let Some(meta) = part.frame(ordinal)? else {
                continue;
            };
            let mut left = meta.items;
            if let Some(after) = after.filter(|after| after.segment == number) {
                if meta.offset > after.offset {
                    continue;
                }
                if meta.offset == after.offset {
                    left = left.min(after.items);
                }
            }
            if left == 0 || !filter.overlaps(meta.first_us, meta.last_us) {
                continue;
            }
            let token = |items| Token {
                segment: number,
                offset: meta.offset,
                items,
            };
            if bytes >= PAGE_BYTES || frames >= PAGE_FRAMES {
                let next = Some(token(left));
                return Ok(Page { items, next });
            }
            bytes += u64::from(meta.length);
            frames += 1;
            let wanted = (left, limit - items.len());
            let found = matching(&mut part, &meta, filter, wanted, &mut buffer)?;
            for (at, item) in found.into_iter().rev() {
                items.push(item);
                if items.len() == limit {
                    let next = Some(token(at));
                    return Ok(Page { items, next });
                }
            }
        }
    }
    Ok(Page { items, next: None })
}

/// At most `limit` of what an invocation led to, oldest first: nothing of it was written before the invocation's id was
/// made. Blocks.
pub(crate) fn since_id<T: Decode>(
    series: &Series,
    filter: &Filter,
    id: InvocationId,
    limit: usize,
) -> Result<Vec<T>, Error> {
    let wanted = filter.wanted();
    let made_us = usage::made_us(id);
    let mut found = Vec::new();
    let mut buffer = Vec::new();
    for number in series.numbers() {
        // An id of this kind is made when its invocation arrives, and what it led to comes later; but clocks differ.
        let late = |last_us: u64| last_us.saturating_add(CLOCKS_US) < made_us;
        if series.summary(number).is_some_and(|s| late(s.last_us)) {
            continue;
        }
        let Some(mut part) = series.part(number)? else {
            continue;
        };
        if late(part.summary.last_us) {
            continue;
        }
        for ordinal in part.find(&wanted)? {
            let Some(meta) = part.frame(ordinal)? else {
                continue;
            };
            for (_, item) in matching(&mut part, &meta, filter, ALL, &mut buffer)? {
                found.push(item);
                if found.len() == limit {
                    return Ok(found);
                }
            }
        }
    }
    Ok(found)
}

/// The record of an invocation. Blocks.
pub(crate) fn record(series: &Series, id: InvocationId) -> Result<Option<Record>, Error> {
    let filter = Filter::of_id(id);
    let wanted = filter.wanted();
    let made_us = usage::made_us(id);
    let mut buffer = Vec::new();
    for number in series.numbers() {
        // What is known of most segments passes them over without a look at the disk.
        let holds = |first: u64, last: u64| first <= made_us && made_us <= last;
        let known = series.summary(number);
        if known.is_some_and(|s| !holds(s.first_id_us, s.last_id_us)) {
            continue;
        }
        let Some(mut part) = series.part(number)? else {
            continue;
        };
        if !holds(part.summary.first_id_us, part.summary.last_id_us) {
            continue;
        }
        for ordinal in part.find(&wanted)? {
            let Some(meta) = part.frame(ordinal)? else {
                continue;
            };
            let found = matching(&mut part, &meta, &filter, ALL, &mut buffer)?;
            if let Some((_, record)) = found.into_iter().next_back() {
                return Ok(Some(record));
            }
        }
    }
    Ok(None)
}

/// By how much two clocks that make ids and times may differ, in microseconds.
const CLOCKS_US: u64 = 60 * 1_000_000;
