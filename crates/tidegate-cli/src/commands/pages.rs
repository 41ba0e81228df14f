//! Lists that the server gives in pages, as far as they are wanted; and what a table shows of a long message.

use serde::de::DeserializeOwned;
use tidegate_document::queue::{DeadLetter, DeadLetterList, QueueList, Queued};
use tidegate_document::{Record, RecordList};

use crate::client::{ANSWER, Client};
use crate::error::{Error, Result};

/// Entries asked for at a time; the server's own limit.
pub(super) const PAGE: u32 = 1_000;

/// Pages read at most. A page may be empty and have more behind it, while the server looks for rare ones.
const MAX_PAGES: usize = 10_000;

/// Longest message in a row, in characters; whatever shows one entry has all of it.
const MESSAGE: usize = 60;

/// A page of a list.
pub(super) trait Listing: DeserializeOwned {
    type Item;

    /// Its entries, and where the next page begins if there is one.
    fn into_parts(self) -> (Vec<Self::Item>, Option<String>);
}

/// The first `wanted` entries of a list, and whether there are more.
pub(super) async fn pages<L: Listing>(
    client: &Client,
    path: &str,
    query: &[(&str, &str)],
    wanted: u32,
) -> Result<(Vec<L::Item>, bool)> {
    let most = wanted as usize;
    let mut all = Vec::new();
    let mut next: Option<String> = None;
    for _ in 0..MAX_PAGES {
        let limit = (most - all.len()).min(PAGE as usize).to_string();
        let mut query = query.to_vec();
        query.push(("limit", &limit));
        query.extend(next.as_deref().map(|next| ("continue", next)));
        let (items, more) = client.get::<L>(path, &query, ANSWER).await?.into_parts();
        all.extend(items);
        all.truncate(most);
        next = more.filter(|next| !next.is_empty());
        if next.is_none() || all.len() == most {
            return Ok((all, next.is_some()));
        }
    }
    Err(Error::failed(format!(
        "looked through {MAX_PAGES} pages without finding {wanted} of them"
    ))
    .hint("a narrower filter, or a shorter time, looks at less"))
}

/// One line of a message, no longer than a row has room for.
pub(super) fn cut(message: &str) -> String {
    let message = message.replace(['\n', '\r'], " ");
    if message.chars().count() <= MESSAGE {
        return message;
    }
    let head: String = message.chars().take(MESSAGE - 1).collect();
    format!("{head}…")
}

impl Listing for RecordList {
    type Item = Record;

    fn into_parts(self) -> (Vec<Record>, Option<String>) {
        (self.items, self.next)
    }
}

impl Listing for QueueList {
    type Item = Queued;

    fn into_parts(self) -> (Vec<Queued>, Option<String>) {
        (self.items, self.next)
    }
}

impl Listing for DeadLetterList {
    type Item = DeadLetter;

    fn into_parts(self) -> (Vec<DeadLetter>, Option<String>) {
        (self.items, self.next)
    }
}
