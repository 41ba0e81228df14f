//! How things are written: little-endian bytes and variable-length numbers, by hand.
//!
//! A record is written for every call, so what it costs to encode is paid by every call: no reflection, no field names, no
//! allocation. What reads them trusts nothing: any bytes at all become a value or a [`Malformed`], never a panic, and
//! never more memory than there are bytes.

mod batch;
mod item;
mod line;
mod record;

pub(crate) use batch::{Batch, Entry, Kind, encode};
pub(crate) use item::{Head, Items, put_item};
pub(crate) use line::{decode_line, put_line};
pub(crate) use record::{decode_record, put_record};

use std::sync::Arc;

use tidegate_core::{FunctionKey, InvocationId, Limit, Outcome};

/// All outcomes, in the order of their numbers in what is written: new ones are added at the end.
pub const OUTCOMES: [Outcome; 15] = Outcome::ALL;

/// The number of an outcome in what is written.
pub(crate) const fn outcome_number(outcome: Outcome) -> u8 {
    match outcome {
        Outcome::Ok => 0,
        Outcome::Application => 1,
        Outcome::Function => 2,
        Outcome::Platform => 3,
        Outcome::Cancelled => 4,
        Outcome::Limit(Limit::Timeout) => 5,
        Outcome::Limit(Limit::FirstByte) => 6,
        Outcome::Limit(Limit::Idle) => 7,
        Outcome::Limit(Limit::Memory) => 8,
        Outcome::Limit(Limit::Processes) => 9,
        Outcome::Limit(Limit::Disk) => 10,
        Outcome::Limit(Limit::Body) => 11,
        Outcome::Limit(Limit::Concurrency) => 12,
        Outcome::Limit(Limit::Capacity) => 13,
        Outcome::Limit(Limit::Quota) => 14,
    }
}

/// What was read is not what this program writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("bytes that are no {0}")]
pub(crate) struct Malformed(pub(crate) &'static str);

/// Appends a number in groups of seven bits, the lowest first.
pub(crate) fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// As [`put_number`], for sums that outgrow 64 bits.
pub(crate) fn put_wide(out: &mut Vec<u8>, mut number: u128) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Appends a signed number; small ones of either sign are short.
pub(crate) fn put_signed(out: &mut Vec<u8>, number: i64) {
    put_number(out, ((number << 1) ^ (number >> 63)) as u64);
}

/// Appends a text with its length.
pub(crate) fn put_text(out: &mut Vec<u8>, text: &str) {
    put_number(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

/// Appends an invocation's id.
pub(crate) fn put_id(out: &mut Vec<u8>, id: InvocationId) {
    out.extend_from_slice(&id.as_u128().to_le_bytes());
}

/// Appends a function's key.
pub(crate) fn put_key(out: &mut Vec<u8>, key: &FunctionKey) {
    put_text(out, &key.namespace);
    put_text(out, &key.group);
    put_text(out, &key.name);
}

/// Reads what the functions above wrote.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Input<'a> {
    rest: &'a [u8],
}

impl<'a> Input<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self
            .rest
            .split_at_checked(count)
            .ok_or(Malformed("whole value"))?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self
            .rest
            .split_first_chunk::<N>()
            .ok_or(Malformed("whole value"))?;
        self.rest = rest;
        Ok(*taken)
    }

    pub(crate) fn byte(&mut self) -> Result<u8, Malformed> {
        Ok(self.array::<1>()?[0])
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Malformed> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Malformed> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub(crate) fn u128(&mut self) -> Result<u128, Malformed> {
        Ok(u128::from_le_bytes(self.array()?))
    }

    pub(crate) fn id(&mut self) -> Result<InvocationId, Malformed> {
        Ok(InvocationId::from_u128(self.u128()?))
    }

    pub(crate) fn number(&mut self) -> Result<u64, Malformed> {
        u64::try_from(self.wide()?).map_err(|_| Malformed("64-bit number"))
    }

    pub(crate) fn wide(&mut self) -> Result<u128, Malformed> {
        let mut number = 0_u128;
        for shift in (0..128).step_by(7) {
            let byte = self.byte()?;
            let bits = u128::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                break;
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(Malformed("number"))
    }

    pub(crate) fn signed(&mut self) -> Result<i64, Malformed> {
        let number = self.number()?;
        Ok((number >> 1) as i64 ^ -((number & 1) as i64))
    }

    /// A number of things that follow, each at least one byte long: never more than there are bytes.
    pub(crate) fn count(&mut self) -> Result<usize, Malformed> {
        let count = usize::try_from(self.number()?).map_err(|_| Malformed("count"))?;
        if count > self.rest.len() {
            return Err(Malformed("count"));
        }
        Ok(count)
    }

    pub(crate) fn text(&mut self) -> Result<&'a str, Malformed> {
        let length = self.count()?;
        std::str::from_utf8(self.bytes(length)?).map_err(|_| Malformed("text"))
    }

    pub(crate) fn key(&mut self) -> Result<FunctionKey, Malformed> {
        Ok(FunctionKey {
            namespace: Arc::from(self.text()?),
            group: Arc::from(self.text()?),
            name: Arc::from(self.text()?),
        })
    }
}

/// The longest beginning of `text` that has at most `bytes` bytes.
pub(crate) fn cut(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_outcome_has_its_own_number() {
        for (at, outcome) in OUTCOMES.into_iter().enumerate() {
            assert_eq!(usize::from(outcome_number(outcome)), at);
        }
    }

    proptest! {
        #[test]
        fn numbers_and_texts_round_trip(number: u64, wide: u128, signed: i64, text: String) {
            let mut out = Vec::new();
            put_number(&mut out, number);
            put_wide(&mut out, wide);
            put_signed(&mut out, signed);
            put_text(&mut out, &text);
            let mut input = Input::new(&out);
            prop_assert_eq!(input.number(), Ok(number));
            prop_assert_eq!(input.wide(), Ok(wide));
            prop_assert_eq!(input.signed(), Ok(signed));
            prop_assert_eq!(input.text(), Ok(text.as_str()));
            prop_assert!(input.is_empty());
        }
    }

    #[test]
    fn a_number_that_never_ends_or_is_too_large_is_none() {
        assert!(Input::new(&[0xff; 30]).wide().is_err());
        let mut out = Vec::new();
        put_wide(&mut out, u128::from(u64::MAX) + 1);
        assert!(Input::new(&out).number().is_err());
        assert!(Input::new(&[9, 1]).text().is_err());
    }
}
