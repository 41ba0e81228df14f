//! Lists, by pages that take bounded time whatever the filter: a page may be short, or empty, and still have one behind it.

use rusqlite::{Connection, params};
use tidegate_core::{FunctionKey, InvocationId};

use crate::codec;
use crate::dead::{self, DeadFilter, DeadLetter};
use crate::lanes::{LaneNumber, Lanes};
use crate::table::read_id;

/// Most entries of a page.
pub const MAX_PAGE: usize = 1000;
/// Rows that are looked at for a page.
const LOOKED: usize = 20_000;

/// Of which functions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Filter {
    /// Of all.
    #[default]
    All,
    /// Of this namespace's.
    Namespace(String),
    /// Of this one.
    Function(FunctionKey),
}

/// An item that is not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Which one.
    pub id: InvocationId,
    /// What is to be called.
    pub function: FunctionKey,
    /// When it was accepted, in milliseconds since the Unix epoch.
    pub accepted_ms: u64,
    /// When it is due next.
    pub due_ms: u64,
    /// When it is given up.
    pub deadline_ms: u64,
    /// Whether another of its ordering key is ahead.
    pub behind: bool,
    /// Whether it is being worked on, or about to be.
    pub leased: bool,
    /// Attempts that ended.
    pub tries: u32,
    /// Those that count.
    pub failures: u32,
}

/// A part of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// What was found.
    pub items: Vec<T>,
    /// From where to go on; absent at the end.
    pub next: Option<i64>,
}

impl Filter {
    pub(crate) fn fits(&self, function: &FunctionKey) -> bool {
        match self {
            Self::All => true,
            Self::Namespace(namespace) => *function.namespace == **namespace,
            Self::Function(wanted) => wanted == function,
        }
    }
}

/// The lanes that a filter lets through, by number.
pub(crate) fn names(lanes: &Lanes, number: LaneNumber, filter: &Filter) -> Option<FunctionKey> {
    let (function, _) = crate::lanes::whose(lanes.function(number)?);
    filter.fits(&function).then_some(function)
}

/// Items in the order of acceptance.
pub(crate) fn items(
    connection: &Connection,
    name: impl Fn(LaneNumber) -> Option<FunctionKey>,
    leased: impl Fn(i64) -> bool,
    from: i64,
    limit: usize,
) -> rusqlite::Result<Page<Entry>> {
    let limit = limit.clamp(1, MAX_PAGE);
    let mut statement = connection.prepare_cached(
        "SELECT seq, id, lane, state FROM items WHERE seq > ?1 ORDER BY seq LIMIT ?2",
    )?;
    let mut rows = statement.query(params![from, i64::try_from(LOOKED).unwrap_or(i64::MAX)])?;
    let (mut items, mut looked, mut last) = (Vec::new(), 0, from);
    while let Some(row) = rows.next()? {
        looked += 1;
        last = row.get(0)?;
        if let (Some(function), Some(id)) = (name(row.get(2)?), read_id(row, 1)?)
            && let Some(state) =
                codec::decode_state(id, last, row.get_ref(3)?.as_blob().unwrap_or_default())
        {
            items.push(Entry {
                id,
                function,
                accepted_ms: state.accepted_ms,
                due_ms: state.item.due_ms,
                deadline_ms: state.item.deadline_ms,
                behind: state.item.behind,
                leased: leased(last),
                tries: state.item.progress.tries,
                failures: state.item.progress.failures,
            });
        }
        if items.len() == limit {
            break;
        }
    }
    let next = (items.len() == limit || looked == LOOKED).then_some(last);
    Ok(Page { items, next })
}

/// Dead letters, the latest first.
pub(crate) fn dead(
    connection: &Connection,
    filter: &DeadFilter,
    from: Option<i64>,
    limit: usize,
) -> rusqlite::Result<Page<DeadLetter>> {
    let limit = limit.clamp(1, MAX_PAGE);
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {} FROM dead WHERE number < ?1 ORDER BY number DESC LIMIT ?2",
        dead::COLUMNS
    ))?;
    let from = from.unwrap_or(i64::MAX);
    let mut rows = statement.query(params![from, i64::try_from(LOOKED).unwrap_or(i64::MAX)])?;
    let (mut items, mut looked, mut last) = (Vec::new(), 0, from);
    while let Some(row) = rows.next()? {
        looked += 1;
        last = row.get(0)?;
        if let Some(letter) = dead::read(row)?
            && filter.fits(&letter)
        {
            items.push(letter);
        }
        if items.len() == limit {
            break;
        }
    }
    let next = (items.len() == limit || looked == LOOKED).then_some(last);
    Ok(Page { items, next })
}
