//! Which revision takes a call: what was asked for, and the choice itself.
//!
//! Shares are whole percents. A choice is made for every call by a low-discrepancy sequence rather than by chance: among
//! any hundred calls in a row a revision gets its share but for one or two, so that 1 % of a little traffic is not nothing,
//! and no random numbers are needed on the path of a call.

use std::collections::BTreeSet;

use crate::Name;

/// What all shares make together.
pub const WHOLE: u8 = 100;

/// Most shares of one function, tags without traffic included: more than anybody follows at once, and few enough to be
/// gone through for a call.
pub const MAX_SHARES: usize = 16;

/// The word that means the newest revision that is ready.
pub const LATEST: &str = "latest";

/// What stands between a tag and a function's name where a call names both. A tag does not contain it.
pub const TAG_MARK: &str = "---";

/// One share, as asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// Who gets it.
    pub to: Target,
    /// Percent of the calls that name no revision.
    pub percent: u8,
    /// A name under which the revision can be called.
    pub tag: Option<String>,
}

/// Who gets a share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// The newest revision that is ready, whichever it is by then.
    Latest,
    /// This one.
    Revision(String),
}

/// A revision's part in a function's traffic: shares with names put in, one entry a revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The revision.
    pub revision: String,
    /// Percent of the calls that name no revision.
    pub percent: u8,
    /// Names under which it can be called beside its own.
    pub tags: Vec<String>,
}

/// Why shares cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrafficError {
    /// Too many.
    #[error("has {0} entries; at most {MAX_SHARES} can be")]
    TooMany(usize),
    /// They do not make a whole.
    #[error("the percents sum to {0}, not to 100")]
    Sum(u32),
    /// A tag that breaks the rule.
    #[error(
        "tag {0:?} cannot be: a tag is 1 to 40 of a-z, 0-9 and '-', begins with a letter, ends with a letter or digit, has no '---', and is not 'latest'"
    )]
    Tag(String),
    /// A tag that stands twice.
    #[error("tag {0:?} is given to two revisions")]
    TagTwice(String),
    /// No such revision.
    #[error("there is no ready revision {wanted:?}; there are {}", .there.join(", "))]
    Unknown {
        /// What was asked for.
        wanted: String,
        /// What there is.
        there: Vec<String>,
    },
    /// Nothing was ever ready.
    #[error("no revision is ready yet, so there is no latest one")]
    NothingReady,
}

/// Checks what can be told without knowing the revisions.
///
/// # Errors
/// The first rule that is broken.
pub fn check(shares: &[Share]) -> Result<(), TrafficError> {
    if shares.len() > MAX_SHARES {
        return Err(TrafficError::TooMany(shares.len()));
    }
    let mut tags = BTreeSet::new();
    for tag in shares.iter().filter_map(|s| s.tag.as_deref()) {
        if !is_tag(tag) {
            return Err(TrafficError::Tag(tag.to_owned()));
        }
        if !tags.insert(tag) {
            return Err(TrafficError::TagTwice(tag.to_owned()));
        }
    }
    let sum = shares.iter().map(|s| u32::from(s.percent)).sum();
    // None at all means all to the newest.
    if !shares.is_empty() && sum != u32::from(WHOLE) {
        return Err(TrafficError::Sum(sum));
    }
    Ok(())
}

/// Whether a text can be a tag. Shorter than a name, so that tag and function fit into one label of a host name more often
/// than not; beginning with a letter, and so never mistaken for the number of a revision.
#[must_use]
pub fn is_tag(text: &str) -> bool {
    const MAX: usize = 40;
    text.len() <= MAX
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && !text.contains(TAG_MARK)
        && text != LATEST
        && !is_id(text)
        && Name::new(text).is_ok()
}

/// Whether a text looks like a revision's own word.
fn is_id(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Puts names in: who gets what, those with traffic first. `ready` are the revisions that can take calls.
///
/// # Errors
/// A revision that is named is not there, or the shares break a rule.
pub fn resolve(
    shares: &[Share],
    latest: Option<&str>,
    ready: &[String],
) -> Result<Vec<Part>, TrafficError> {
    check(shares)?;
    let all_latest = [Share {
        to: Target::Latest,
        percent: WHOLE,
        tag: None,
    }];
    let shares = if shares.is_empty() {
        &all_latest
    } else {
        shares
    };
    let mut parts: Vec<Part> = Vec::new();
    for share in shares {
        let revision = match &share.to {
            Target::Latest => latest.ok_or(TrafficError::NothingReady)?,
            Target::Revision(id) => {
                ready
                    .iter()
                    .find(|r| *r == id)
                    .ok_or_else(|| TrafficError::Unknown {
                        wanted: id.clone(),
                        there: ready.to_vec(),
                    })?
            }
        };
        let part = match parts.iter_mut().find(|p| p.revision == revision) {
            Some(part) => part,
            None => {
                parts.push(Part {
                    revision: revision.to_owned(),
                    percent: 0,
                    tags: Vec::new(),
                });
                parts.last_mut().expect("one was just pushed")
            }
        };
        part.percent += share.percent;
        part.tags.extend(share.tag.clone());
    }
    parts.sort_by_key(|part| std::cmp::Reverse(part.percent));
    Ok(parts)
}

/// Where the n-th call falls in `0..100`.
///
/// Multiples of the golden ratio, wrapped: the sequence whose gaps stay most even however many are taken.
#[must_use]
pub fn spread(n: u32) -> u8 {
    const GOLDEN: u32 = 0x9E37_79B9;
    let turned = u64::from(n.wrapping_mul(GOLDEN));
    ((turned * u64::from(WHOLE)) >> 32) as u8
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn share(to: &str, percent: u8, tag: Option<&str>) -> Share {
        Share {
            to: if to == LATEST {
                Target::Latest
            } else {
                Target::Revision(to.to_owned())
            },
            percent,
            tag: tag.map(str::to_owned),
        }
    }

    #[test]
    fn shares_are_resolved_and_merged() {
        let ready = ["a".to_owned(), "b".to_owned()];
        let parts = resolve(
            &[
                share("a", 10, Some("old")),
                share(LATEST, 60, None),
                share("b", 30, Some("new")),
            ],
            Some("b"),
            &ready,
        )
        .unwrap();
        assert_eq!(
            parts,
            [
                Part {
                    revision: "b".to_owned(),
                    percent: 90,
                    tags: vec!["new".to_owned()]
                },
                Part {
                    revision: "a".to_owned(),
                    percent: 10,
                    tags: vec!["old".to_owned()]
                },
            ]
        );
        assert_eq!(resolve(&[], Some("b"), &ready).unwrap()[0].percent, 100);
    }

    #[test]
    fn what_cannot_be_is_named() {
        let ready = ["a".to_owned()];
        for (shares, part) in [
            (vec![share("a", 50, None)], "sum to 50"),
            (vec![share("x", 100, None)], "no ready revision \"x\""),
            (vec![share("a", 100, Some("latest"))], "latest"),
            (vec![share("a", 100, Some("a---b"))], "a---b"),
            (vec![share("a", 100, Some("abcdefabcdef"))], "abcdefabcdef"),
            (
                vec![share("a", 50, Some("t")), share("a", 50, Some("t"))],
                "given to two",
            ),
            (vec![share("a", 5, None); 20], "20 entries"),
        ] {
            let error = resolve(&shares, None, &ready).unwrap_err().to_string();
            assert!(error.contains(part), "{error:?} lacks {part:?}");
        }
        assert_eq!(resolve(&[], None, &ready), Err(TrafficError::NothingReady));
    }

    proptest! {
        #[test]
        fn any_run_of_calls_is_split_as_asked(start: u32, percent in 0_u8..=100, calls in 1_u32..2000) {
            let taken = (0..calls)
                .filter(|n| spread(start.wrapping_add(*n)) < percent)
                .count() as f64;
            let wanted = f64::from(calls) * f64::from(percent) / 100.0;
            prop_assert!((taken - wanted).abs() <= 4.0, "{taken} of {calls}, {wanted} wanted");
        }

        #[test]
        fn parts_make_a_whole(percents in proptest::collection::vec(0_u8..=25, 1..8)) {
            let sum: u32 = percents.iter().map(|p| u32::from(*p)).sum();
            let shares: Vec<Share> = percents.iter().map(|p| share("a", *p, None)).collect();
            match resolve(&shares, None, &["a".to_owned()]) {
                Ok(parts) => prop_assert_eq!(parts.iter().map(|p| u32::from(p.percent)).sum::<u32>(), 100),
                Err(error) => prop_assert_eq!(error, TrafficError::Sum(sum)),
            }
        }
    }
}
