//! The dispatcher: takes what is due to whoever runs it, and back what came of it.
//!
//! One task decides (`director`), and each attempt is a task of its own (`attempt`). What is decided from is small and in
//! memory: for each function with something queued, how many of its items run, how many it may run, and when it was
//! served last (`flow`, `fair`). The items stay in the file until they are about to run; a few of each function are leased
//! ahead, so that a slot which comes free is filled without a question.
//!
//! A free slot goes to the namespace with the fewest attempts running, among equals to the one that was served longest ago,
//! and within it to the function by the same rule. So a function with a million items queued takes what others leave, and
//! one whose calls are long pays for them. A function that is throttled, or whose starts fail for reasons of the platform,
//! is asked less: half as many at once, after a pause that doubles, and one more for each success.
//!
//! Who hears of an end is told by an item of its own, accepted in the commit that settles the first; so what is to be sent
//! is as durable as what was asked.

mod attempt;
mod courier;
mod director;
mod fair;
mod flow;
mod follow;
mod runner;

use std::sync::Arc;
use std::time::Duration;

use tidegate_core::FunctionKey;
use tidegate_core::queue::Policy;
use tokio::sync::{mpsc, oneshot};

use crate::queue::Queue;
pub use courier::{Courier, CourierOptions, Forbidden, Signing, SigningKey};
use director::{Counters, Director, Order};
pub use follow::plain;
pub use runner::{Allowance, Attempt, Listener, Ran, Rate, Runner, Told};

/// Orders that wait; they are few, and each is done at once.
const ORDERS: usize = 64;

/// Settings of the dispatcher.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DispatchOptions {
    /// Attempts at once, of all functions together.
    pub attempts: u32,
    /// Deliveries at once on behalf of one function.
    pub deliveries: u32,
    /// How long a lease goes on without being renewed. It is renewed after a third of it.
    pub hold: Duration,
    /// What becomes of a delivery that does not succeed.
    pub delivery: Policy,
}

/// Counts, from memory. See [`Queue::stats`] for those of the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DispatchStats {
    /// Attempts that run.
    pub running: u64,
    /// Items that are leased and wait for a slot, in memory without their requests.
    pub ready: u64,
    /// Attempts that ended and are not yet on disk.
    pub settling: u64,
    /// Functions with something queued that are known.
    pub functions: u64,
    /// Attempts begun.
    pub started: u64,
    /// Items that are done.
    pub done: u64,
    /// Attempts that were followed by another.
    pub retried: u64,
    /// Items that were given up.
    pub dead: u64,
    /// Attempts whose lease was over when they ended: they changed nothing.
    pub stale: u64,
    /// Attempts that were cut off because their item was cancelled or their lease was over.
    pub cut: u64,
    /// Settlements that could not be written at once.
    pub stuck: u64,
    /// For how long the oldest item that is due has waited, in milliseconds.
    pub oldest_ms: u64,
}

/// What became of the attempts that ran when the dispatcher was ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Those that were cut off. Their items are queued.
    pub cut: usize,
}

/// The dispatcher. Cheap to clone; it goes on until it is drained or the last clone is gone.
#[derive(Clone, Debug)]
pub struct Dispatcher {
    orders: mpsc::Sender<Order>,
    queue: Queue,
    counters: Arc<Counters>,
}

impl Default for DispatchOptions {
    fn default() -> Self {
        Self {
            // More than the instances of one machine can do at once, few enough to hold their requests in memory.
            attempts: 256,
            // A receiver that is slow holds no more connections than that.
            deliveries: 8,
            // A server that lives renews many times within it, and one that hung is not waited for longer.
            hold: Duration::from_secs(30),
            delivery: Policy {
                // With delays spread by chance that is most of an hour: a receiver's restart, and its operator's lunch.
                retries: 24,
                retried: tidegate_core::queue::Retried {
                    answers: tidegate_core::queue::Answers::All,
                    ..Default::default()
                },
                ..Policy::default()
            },
        }
    }
}

impl Dispatcher {
    /// Begins to work on a queue, on the runtime that this is called on. A queue has one dispatcher at a time.
    pub fn start(queue: Queue, runner: Arc<dyn Runner>, options: DispatchOptions) -> Self {
        let (orders, inbox) = mpsc::channel(ORDERS);
        let counters = Arc::new(Counters::default());
        let director = Director::new(queue.clone(), runner, options, Arc::clone(&counters));
        tokio::spawn(director.run(inbox));
        Self {
            orders,
            queue,
            counters,
        }
    }

    /// What [`Runner::lane`] says may have changed, of this function or of all.
    pub async fn changed(&self, function: Option<&FunctionKey>) {
        // One that is ended asks nothing any more.
        drop(self.orders.send(Order::Changed(function.cloned())).await);
    }

    /// Counts.
    pub fn stats(&self) -> DispatchStats {
        let due = self.queue.next_due_ms();
        DispatchStats {
            oldest_ms: self.queue.now_ms().saturating_sub(due),
            ..self.counters.read()
        }
    }

    /// Starts nothing more, gives what runs so long to end, and cuts off what is left. Returns when everything that ended
    /// is on disk, or the time is over; what was not settled stays queued.
    pub async fn drain(&self, grace: Duration) -> Drained {
        let (reply, done) = oneshot::channel();
        drop(self.orders.send(Order::Drain { grace, reply }).await);
        done.await.unwrap_or(Drained { cut: 0 })
    }
}
