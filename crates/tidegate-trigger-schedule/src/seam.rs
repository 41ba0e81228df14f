//! What the loop asks of others.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::mpsc;

use crate::{Id, Known, State, Tick};

/// Turns ticks into invocations.
#[async_trait]
pub trait Fire: Send + Sync + 'static {
    /// Accepts a tick, durably: when this returns, it will run. A tick whose [key](Tick::key) was accepted before is
    /// accepted once more without a second run.
    async fn fire(&self, id: &Id, tick: Tick) -> Result<Fired, Refused>;
}

/// A tick that was accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fired {
    /// The invocation that comes of it.
    pub invocation: String,
}

/// Why a tick was not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It may be later: there is no room, or the store fails.
    Later {
        /// For people.
        message: String,
        /// When to try again, where that is known.
        after: Option<Duration>,
    },
    /// It never will be, as the trigger and the world are: there is no such function. The tick is given up.
    Never {
        /// For people.
        message: String,
    },
}

/// Which triggers there are, and how far each has come.
#[async_trait]
pub trait Cursors: Send + Sync + 'static {
    /// Tells all triggers, and then each change, until nobody listens. When changes were lost, all are told again: from
    /// [`Change::Listing`] to [`Change::Listed`].
    async fn follow(&self, changes: mpsc::Sender<Change>);

    /// Writes how far a trigger has come. Of a trigger that is gone, nothing is written, and that is well.
    async fn write(&self, id: &Id, state: &State) -> Result<(), Unwritten>;
}

/// Something about the triggers there are.
#[derive(Clone, Debug)]
pub enum Change {
    /// All triggers follow.
    Listing,
    /// All triggers were told; those that were not are no more.
    Listed,
    /// A trigger, new or changed or told again.
    Put(Box<Known>),
    /// A trigger is no more.
    Gone(Id),
}

/// A cursor could not be written; for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unwritten(pub String);

/// What time it is.
pub trait Clock: Send + Sync + 'static {
    /// Now.
    fn now(&self) -> Timestamp;
}

/// The machine's clock.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}
