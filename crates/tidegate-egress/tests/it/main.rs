//! The proxy between real sockets on the loopback device, which the policy of each case allows as far as it needs.

mod limits;
mod refuse;
mod relay;
mod upstream;
mod world;
