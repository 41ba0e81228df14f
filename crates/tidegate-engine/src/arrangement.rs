//! Which revisions of a function take its calls, and in which parts.
//!
//! One atomic snapshot a function. Where one revision takes everything, which is nearly always so, choosing costs one
//! comparison; a split costs one addition to a counter that the function's calls share. Revisions that have no traffic, no
//! tag and are not the newest are not in the snapshot: somebody who names one has its pool made there and then, and it is
//! let go when nothing of it runs any more, so that ten kept revisions of a hundred thousand functions cost nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tidegate_core::rollout::Tally;
use tidegate_core::traffic::{self, WHOLE};
use tidegate_core::{Access, Scale, scale};

use crate::functions::Function;
use crate::host::Host;
use crate::pool::{Pool, PoolCounts, Revision};

/// What a function's traffic is to look like. The first revision's `scale` bounds the function as a whole.
#[derive(Clone, Debug)]
pub struct Arrangement {
    shares: Vec<Share>,
}

/// One revision's part.
#[derive(Clone, Debug)]
pub struct Share {
    /// The revision. Its scale is that of the function as a whole; what the part makes of it is the engine's to know.
    pub revision: Revision,
    /// Percent of the calls that name no revision.
    pub percent: u8,
    /// Names under which it is called beside its own.
    pub tags: Vec<Arc<str>>,
    /// Whether it is what `latest` names.
    pub latest: bool,
}

/// A revision as it is now.
#[derive(Clone, Debug)]
pub struct Member {
    /// The revision.
    pub revision: Revision,
    /// What of instances there may be now: its part of the function's bounds.
    pub scale: Scale,
    /// See [`Share::percent`]; zero for one that is only called by name.
    pub percent: u8,
    /// See [`Share::tags`].
    pub tags: Vec<Arc<str>>,
    /// See [`Share::latest`].
    pub latest: bool,
    /// Its instances.
    pub counts: PoolCounts,
    /// Its calls since it was last put to work here.
    pub tally: Tally,
}

/// A revision that was chosen by name, for one call.
#[derive(Clone, Debug)]
pub struct Chosen(pub(crate) Arc<Pool>);

/// Nobody goes by that name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnknownRevision {
    /// What there is instead: revisions and tags.
    pub there: Vec<String>,
}

/// The snapshot. Never empty.
pub(crate) struct Live {
    members: Box<[LiveMember]>,
    /// Calls that were shared out.
    turn: AtomicU32,
    access: Access,
}

struct LiveMember {
    pool: Arc<Pool>,
    percent: u8,
    /// The percents of those before it and its own.
    until: u8,
    tags: Box<[Arc<str>]>,
    latest: bool,
}

/// Pools that are to take over, unless they are dropped first.
pub(crate) struct Candidates(Vec<Arc<Pool>>);

// === impl Arrangement ===

impl Arrangement {
    /// Those with the largest parts first. Nothing where there are none, or where the parts do not make a whole.
    #[must_use]
    pub fn new(mut shares: Vec<Share>) -> Option<Self> {
        let sum: u32 = shares.iter().map(|s| u32::from(s.percent)).sum();
        shares.sort_by_key(|share| std::cmp::Reverse(share.percent));
        (sum == u32::from(WHOLE)).then_some(Self { shares })
    }

    /// The parts.
    #[must_use]
    pub fn shares(&self) -> &[Share] {
        &self.shares
    }
}

impl From<Revision> for Arrangement {
    /// All to one.
    fn from(revision: Revision) -> Self {
        Self {
            shares: vec![Share {
                revision,
                percent: WHOLE,
                tags: Vec::new(),
                latest: true,
            }],
        }
    }
}

impl Share {
    /// The bounds of this part.
    pub(crate) fn scale(&self) -> Scale {
        scale::part(&self.revision.spec.scale, self.percent)
    }
}

// === impl Chosen ===

impl Chosen {
    /// Who may call it.
    #[must_use]
    pub fn access(&self) -> Access {
        self.0.revision.spec.access
    }
}

// === impl Live ===

impl Live {
    /// Pools for every share, in the arrangement's order.
    pub(crate) fn new(arrangement: &Arrangement, pools: Vec<Arc<Pool>>) -> Self {
        let mut until = 0;
        let members: Box<[_]> = arrangement
            .shares
            .iter()
            .zip(pools)
            .map(|(share, pool)| {
                until += share.percent;
                LiveMember {
                    pool,
                    percent: share.percent,
                    until,
                    tags: share.tags.clone().into(),
                    latest: share.latest,
                }
            })
            .collect();
        let private =
            |m: &LiveMember| m.percent > 0 && m.pool.revision.spec.access == Access::Private;
        // A caller cannot know which of them it will meet.
        let access = if members.iter().any(private) {
            Access::Private
        } else {
            Access::Public
        };
        Self {
            members,
            turn: AtomicU32::new(0),
            access,
        }
    }

    /// Who takes the next call.
    pub(crate) fn next(&self) -> &Arc<Pool> {
        let first = &self.members[0];
        if first.until == WHOLE {
            return &first.pool;
        }
        let at = traffic::spread(self.turn.fetch_add(1, Ordering::Relaxed));
        self.members
            .iter()
            .find(|member| at < member.until)
            .map_or(&first.pool, |member| &member.pool)
    }

    /// Who has the largest part.
    pub(crate) fn first(&self) -> &Arc<Pool> {
        &self.members[0].pool
    }

    pub(crate) const fn access(&self) -> Access {
        self.access
    }

    /// By the revision's own word, a tag, or `latest`.
    pub(crate) fn named(&self, word: &str) -> Option<&Arc<Pool>> {
        self.members
            .iter()
            .find(|m| {
                *m.pool.revision.id == *word
                    || m.tags.iter().any(|tag| **tag == *word)
                    || m.latest && word == traffic::LATEST
            })
            .map(|m| &m.pool)
    }

    pub(crate) fn pools(&self) -> impl Iterator<Item = &Arc<Pool>> {
        self.members.iter().map(|m| &m.pool)
    }

    pub(crate) fn has(&self, pool: &Arc<Pool>) -> bool {
        self.pools().any(|own| Arc::ptr_eq(own, pool))
    }

    /// The pool of a revision that is in it.
    pub(crate) fn of(&self, id: &str) -> Option<&Arc<Pool>> {
        self.pools().find(|pool| *pool.revision.id == *id)
    }

    /// Percent of a revision that is in it.
    pub(crate) fn percent(&self, id: &str) -> Option<u8> {
        let member = self.members.iter().find(|m| *m.pool.revision.id == *id);
        member.map(|m| m.percent)
    }

    pub(crate) fn members(&self) -> impl Iterator<Item = Member> {
        self.members.iter().map(|m| Member {
            revision: m.pool.revision.clone(),
            scale: m.pool.scale(),
            percent: m.percent,
            tags: m.tags.to_vec(),
            latest: m.latest,
            counts: m.pool.counts(),
            tally: m.pool.tally(),
        })
    }
}

// === named pools ===

/// The pool of a revision that somebody names; made where it is kept but has none.
pub(crate) async fn named(
    host: &Arc<Host>,
    function: &Function,
    word: &str,
) -> Result<Arc<Pool>, UnknownRevision> {
    if let Some(pool) = known(function, word) {
        return Ok(pool);
    }
    let revision = host.resources.revision(function.key(), word).await?;
    let mut aside = function.aside.lock();
    // Somebody else may have asked for it meanwhile, or given it traffic.
    let live = function.live.load();
    let taken = live.as_ref().and_then(|live| live.named(&revision.id));
    if let Some(pool) = taken.or_else(|| aside.iter().find(|p| p.revision.id == revision.id)) {
        return Ok(pool.clone());
    }
    aside.retain(|pool| !pool.retire_unless_working());
    let bounds = scale::part(&revision.spec.scale, 0);
    let pool = Pool::new(
        function.books().clone(),
        revision,
        bounds,
        host.clone(),
        function.log().clone(),
    );
    aside.push(pool.clone());
    Ok(pool)
}

/// The pool of a revision that has one.
pub(crate) fn known(function: &Function, word: &str) -> Option<Arc<Pool>> {
    let live = function.live.load();
    let named = live.as_ref().and_then(|live| live.named(word).cloned());
    named.or_else(|| {
        let aside = function.aside.lock();
        aside.iter().find(|p| *p.revision.id == *word).cloned()
    })
}

/// Puts an arrangement in force. Pools that are not in it take no more calls.
pub(crate) fn switch(function: &Function, live: Live) {
    let live = Arc::new(live);
    let before = {
        let mut aside = function.aside.lock();
        let before = function.live.swap(Some(live.clone()));
        aside.retain(|pool| !live.has(pool) && !pool.retire_unless_working());
        before
    };
    for pool in before.iter().flat_map(|before| before.pools()) {
        if !live.has(pool) {
            pool.retire();
        }
    }
}

/// Takes everything away.
pub(crate) fn clear(function: &Function) {
    let aside = std::mem::take(&mut *function.aside.lock());
    let live = function.live.swap(None);
    let pools = live.iter().flat_map(|live| live.pools());
    pools.chain(&aside).for_each(|pool| pool.retire());
}

// === impl Candidates ===

impl Candidates {
    pub(crate) const fn new() -> Self {
        Self(Vec::new())
    }

    pub(crate) fn add(&mut self, pool: &Arc<Pool>) {
        self.0.push(pool.clone());
    }

    pub(crate) fn chosen(mut self) {
        self.0.clear();
    }
}

impl Drop for Candidates {
    fn drop(&mut self) {
        self.0.iter().for_each(|pool| pool.retire());
    }
}
