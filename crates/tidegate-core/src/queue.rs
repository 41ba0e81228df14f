//! The rules of the durable queue: what may happen to an accepted invocation, and when.
//!
//! A queue *shard* has one owner at a time. What must survive is in a [`Table`]: the items, in the order in which they were
//! accepted, and what each has behind it. What need not is in the [`Shard`]: which items are leased, to whom, until when.
//! Taking a lease therefore writes nothing, and after a restart nothing is leased; the new owner's *epoch* tells its leases
//! from those of before. A lease is (epoch, number): numbers are never repeated within an epoch, so an answer that comes
//! after its lease ended fits no other.
//!
//! Each rule stands once, here, written against the trait. The file that production keeps implements it, and so does the
//! small table of the explorer in the tests, which walks through every order of events that fits its bounds. The guards,
//! which are the comparisons that keep the promises, can be switched off one at a time through [`Guards`]; the explorer
//! shows that each is needed. In production [`AllGuards`] is a value without size and the questions fold away.
//!
//! The promises: what was accepted ends exactly once, done, dead or cancelled; no item has two live leases; an answer under
//! a lease that is over changes nothing; of the items of one ordering key at most one is leased, and they go in the order
//! in which they came; failures of the function are bounded by the policy, everything else by the greatest age.

mod policy;
mod retrying;
mod shard;

#[cfg(test)]
mod explorer;

pub use policy::{Answers, Ended, Next, Policy, Progress, Reason, Retried, Spread};
pub use retrying::{Retrying, RetryingError};
pub use shard::{
    Accepted, AllGuards, End, Guard, Guards, Item, Lease, NotLeased, Renewed, Seq, Settled, Shard,
    Table, Verdict,
};
