//! The outer side of the doors to the network: what decides what may be reached, and dials it.
//!
//! A *function* connects as it likes; its connections come to an outlet here, a name server beside it ([`Outlets`]). A
//! *job* has a proxy. Both are judged alike.
//!
//! A build has to fetch what its project depends on, and what it fetches is code that strangers wrote. So it gets neither
//! a route nor a resolver, only a proxy, which every package manager knows how to use. What is allowed is decided here, a
//! connection at a time: by name where the operator gave a list, and always by *address*, since a name says nothing about
//! where it leads. Addresses are judged after they were resolved, and the very ones that were judged are dialled, so that
//! a name which changes its mind between the two reaches nothing.
//!
//! Encrypted connections are tunnelled (`CONNECT`) and not looked into: certificates stay the tools' own business. What
//! may be reached is the public network; loopback, link-local and this machine's own addresses never, private networks
//! when the operator says so, and whatever the operator names, wherever it is.
//!
//! An operator behind a proxy has it used as well. The far proxy then dials, so the judgement here is of the name, and of
//! the addresses as this machine resolves them.

#![forbid(unsafe_code)]

mod address;
mod dial;
mod dns;
mod event;
mod forward;
mod meter;
mod names;
mod outlet;
mod policy;
mod proxy;
mod shares;
mod target;
mod upstream;

pub use dial::{Dialer, NoWay, Resolve, Wire};
pub use event::Event;
pub use outlet::{Allowed, Inside, Lists, Nothing, Outlets};
pub use policy::{HostPattern, Limits, Network, Policy};
pub use proxy::EgressProxy;
pub use shares::Seat;
pub use target::{ParseError, Target};
pub use upstream::{NoProxy, Upstream, Upstreams};
