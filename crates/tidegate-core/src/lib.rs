//! Nouns and pure decisions.
//!
//! Everything here is a value or a function of values: no I/O, no clock, no async runtime. Time enters as an argument,
//! which is why the scaler can be put under property tests with a simulated clock, and why a cluster's operator and a
//! laptop's engine can share one set of rules. What a client's document says is lowered into these types once, at the
//! door; nothing behind the door checks it again.

#![forbid(unsafe_code)]

mod backoff;
pub mod egress;
mod function;
mod id;
mod name;
mod outcome;
mod quantity;
pub mod queue;
pub mod quota;
pub mod record;
pub mod rollout;
pub mod scale;
pub mod schedule;
pub mod trace;
pub mod traffic;

pub use backoff::Backoff;
pub use function::{
    Access, Build, BuildSecret, BuildSecretPlace, ByHand, Code, FunctionSpec, Limits, Metric,
    Network, Probe, Root, Scale, SecretUse,
};
pub use id::{InstanceId, InvocationId, ParseIdError};
pub use name::{FunctionKey, FunctionRef, Name, NameError};
pub use outcome::{Limit, Outcome};
pub use quantity::{
    QuantityError, format_bytes, format_duration, parse_bytes, parse_cpu, parse_duration,
    parse_go_duration,
};
