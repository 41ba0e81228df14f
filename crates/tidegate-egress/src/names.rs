//! Which names the addresses were asked for by: what makes a list of host names exact.
//!
//! Code connects to addresses. The only way from a name to an address is through our name server, so a connection to an
//! address that was never given out for a name is to that address and nothing else.

use std::collections::{HashMap, VecDeque};
use std::net::Ipv4Addr;
use std::sync::Arc;

/// Most addresses that are remembered of one instance; the oldest is forgotten, and has to be asked for again.
const MAX_ADDRESSES: usize = 4096;

/// Most names of one address: those of a large host's customers, of which one instance asks for a few.
const MAX_NAMES: usize = 16;

#[derive(Default)]
pub(crate) struct Names {
    of: HashMap<Ipv4Addr, VecDeque<Arc<str>>>,
    order: VecDeque<Ipv4Addr>,
}

impl Names {
    pub(crate) fn given(&mut self, name: &str, addresses: &[Ipv4Addr]) {
        let name: Arc<str> = name.into();
        for &address in addresses {
            if !self.of.contains_key(&address) {
                if self.order.len() >= MAX_ADDRESSES
                    && let Some(oldest) = self.order.pop_front()
                {
                    self.of.remove(&oldest);
                }
                self.order.push_back(address);
            }
            let names = self.of.entry(address).or_default();
            names.retain(|known| *known != name);
            names.push_front(name.clone());
            names.truncate(MAX_NAMES);
        }
    }

    /// The one that was asked for last comes first.
    pub(crate) fn of(&self, address: Ipv4Addr) -> Vec<Arc<str>> {
        let names = self.of.get(&address);
        names
            .map(|n| n.iter().cloned().collect())
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_name_of_an_address_comes_first_and_the_oldest_address_goes() {
        let mut names = Names::default();
        let one = Ipv4Addr::new(1, 1, 1, 1);
        for name in ["a", "b", "a"] {
            names.given(name, &[one]);
        }
        let of: Vec<_> = names.of(one).iter().map(ToString::to_string).collect();
        assert_eq!(of, ["a", "b"]);
        for n in 0..MAX_ADDRESSES as u32 {
            names.given("many", &[Ipv4Addr::from_bits(0x0a00_0000 + n)]);
        }
        assert!(names.of(one).is_empty());
        assert_eq!(
            (names.of.len(), names.order.len()),
            (MAX_ADDRESSES, MAX_ADDRESSES)
        );
        for n in 0..99 {
            names.given(&format!("n{n}"), &[one]);
        }
        assert_eq!(names.of(one).len(), MAX_NAMES);
    }
}
