//! Identifiers: one 128-bit number an invocation, one counter an instance.

use std::fmt;
use std::str::FromStr;

/// One invocation: a UUIDv7, so that ids sort by the time they were made.
///
/// The core only carries it. Each dialect writes it its own way; the native form, and the one in logs, is 32 lower-case
/// hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InvocationId(u128);

/// The text was not an invocation id.
#[derive(Debug, thiserror::Error)]
#[error("invocation id {0:?} is not 32 hexadecimal digits, with or without a UUID's dashes")]
pub struct ParseIdError(String);

/// A running copy of a revision, numbered since the server started; never persisted and never reused.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InstanceId(pub u64);

// === impl InvocationId ===

impl InvocationId {
    /// As a UUID is written, with hyphens.
    #[must_use]
    pub fn hyphenated(self) -> String {
        let digits = format!("{:032x}", self.0);
        let parts = [0..8, 8..12, 12..16, 16..20, 20..32].map(|part| &digits[part]);
        parts.join("-")
    }

    /// Length of the hexadecimal form in bytes.
    pub const HEX_LEN: usize = 32;

    /// The id with this number. Making one is the caller's work, since it needs a clock and randomness.
    #[must_use]
    pub const fn from_u128(id: u128) -> Self {
        Self(id)
    }

    /// The number.
    #[must_use]
    pub const fn as_u128(self) -> u128 {
        self.0
    }

    /// Milliseconds since the Unix epoch at which the id was made.
    #[must_use]
    pub const fn unix_ms(self) -> u64 {
        (self.0 >> 80) as u64
    }

    /// The 32 lower-case hexadecimal digits, without allocating.
    #[must_use]
    pub fn hex(self) -> [u8; Self::HEX_LEN] {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut out = [0; Self::HEX_LEN];
        for (at, byte) in self.0.to_be_bytes().into_iter().enumerate() {
            out[at * 2] = DIGITS[usize::from(byte >> 4)];
            out[at * 2 + 1] = DIGITS[usize::from(byte & 15)];
        }
        out
    }
}

impl FromStr for InvocationId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || ParseIdError(text.chars().take(64).collect());
        let (mut id, mut digits) = (0_u128, 0_usize);
        for (at, c) in text.chars().enumerate() {
            match c.to_digit(16) {
                Some(d) if digits < Self::HEX_LEN => {
                    id = (id << 4) | u128::from(d);
                    digits += 1;
                }
                None if c == '-' && matches!(at, 8 | 13 | 18 | 23) => {}
                _ => return Err(bad()),
            }
        }
        if digits == Self::HEX_LEN {
            Ok(Self(id))
        } else {
            Err(bad())
        }
    }
}

impl fmt::Display for InvocationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for InvocationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

// === impl InstanceId ===

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "i{}", self.0)
    }
}

impl fmt::Debug for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn both_forms_round_trip(n: u128) {
            let id = InvocationId::from_u128(n);
            prop_assert_eq!(id.to_string().parse::<InvocationId>().unwrap(), id);
            let hex = id.hex();
            prop_assert_eq!(std::str::from_utf8(&hex).unwrap(), id.to_string());
        }
    }

    #[test]
    fn a_uuid_with_dashes_is_accepted_and_nothing_else_is() {
        let id: InvocationId = "0192f0c1-2b3d-7a4e-8f50-112233445566".parse().unwrap();
        assert_eq!(id.to_string(), "0192f0c12b3d7a4e8f50112233445566");
        for bad in [
            "",
            "0",
            "0192f0c12b3d7a4e8f5011223344556",
            "0192f0c12b3d7a4e8f501122334455667",
            "zz92f0c12b3d7a4e8f50112233445566",
        ] {
            assert!(bad.parse::<InvocationId>().is_err(), "{bad}");
        }
    }
}
