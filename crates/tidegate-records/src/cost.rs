//! What usage costs, by a table of prices.
//!
//! Money is counted in whole numbers: a [`Price`] in attos (10⁻¹⁸) of the unit, since clouds' prices of a gigabyte-second
//! have ten and more decimals, and an [`Amount`] in nanos (10⁻⁹). Each part of a row is rounded once, to the nearest
//! nano, halves up, and a sum adds what was rounded: so the rows of a report add up to its last line.

use std::fmt;
use std::iter::Sum;
use std::ops::Add;
use std::str::FromStr;

use crate::usage::{GB_SECOND, Totals};

/// A price for one of something, in attos (10⁻¹⁸) of the currency's unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Price(u128);

/// An amount of money, in nanos (10⁻⁹) of the currency's unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Amount(pub i128);

/// What things cost. A gigabyte is 2³⁰ bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prices {
    /// Shown with amounts: `EUR`.
    pub currency: String,
    /// An invocation, however it ended.
    pub invocation: Price,
    /// A gigabyte of memory limit for a second of billed time.
    pub gb_second: Price,
    /// A second of processor time.
    pub cpu_second: Price,
    /// A gigabyte of answers.
    pub gb_out: Price,
    /// An invocation that waited for a start.
    pub cold_start: Price,
    /// A gigabyte of memory limit for a second without a call.
    pub idle_gb_second: Price,
}

/// What some usage costs, part by part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// For invocations.
    pub invocations: Amount,
    /// For memory limit times billed time.
    pub gb_seconds: Amount,
    /// For processor time.
    pub cpu: Amount,
    /// For answers' bytes.
    pub out: Amount,
    /// For waiting for starts.
    pub cold_starts: Amount,
    /// For instances without a call.
    pub idle: Amount,
}

/// The text is no price.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "price {text:?} {why}; a price is a decimal number from 0 to {max} with at most 18 decimals, such as 0.0000166667",
    max = MAX_PRICE
)]
pub struct PriceError {
    text: String,
    why: &'static str,
}

/// Largest price, in whole units: leaves room for any usage that fits its counters.
const MAX_PRICE: u128 = 1_000_000;
const DECIMALS: usize = 18;
const ATTO: u128 = 10_u128.pow(DECIMALS as u32);
const ATTOS_A_NANO: u128 = 1_000_000_000;

impl Prices {
    /// What this usage costs.
    #[must_use]
    pub fn of(&self, used: &Totals) -> Cost {
        Cost {
            invocations: self.invocation.times(used.invocations().into(), 1),
            gb_seconds: self.gb_second.times(used.billed_byte_us, GB_SECOND),
            cpu: self.cpu_second.times(used.cpu_us.into(), 1_000_000),
            out: self.gb_out.times(used.bytes_out.into(), 1 << 30),
            cold_starts: self.cold_start.times(used.cold_starts.into(), 1),
            idle: self.idle_gb_second.times(used.idle_byte_us, GB_SECOND),
        }
    }
}

impl Cost {
    /// All parts together.
    #[must_use]
    pub fn total(&self) -> Amount {
        [
            self.invocations,
            self.gb_seconds,
            self.cpu,
            self.out,
            self.cold_starts,
            self.idle,
        ]
        .into_iter()
        .sum()
    }
}

impl Price {
    /// The price in attos.
    #[must_use]
    pub const fn attos(self) -> u128 {
        self.0
    }

    /// The price times `count` of `parts`-ths, to the nearest nano. What is beyond any money there is stays at the most.
    fn times(self, count: u128, parts: u128) -> Amount {
        let (whole, rest) = (count / parts, count % parts);
        // A price has up to 80 bits and the rest up to 50: too many for one product, so the price is taken in two.
        let (high, low) = (self.0 / ATTOS_A_NANO, self.0 % ATTOS_A_NANO);
        let exact = high.saturating_mul(whole);
        // In attos from here on, each term with its fraction of a part.
        let fine = low.saturating_mul(whole);
        let high_rest = high * rest;
        let nanos = exact
            .saturating_add(fine / ATTOS_A_NANO)
            .saturating_add(high_rest / parts);
        // What is left: attos of `fine`, of the fraction of `high_rest`, and of `low` times the rest; over `parts`.
        let left = (fine % ATTOS_A_NANO) * parts + (high_rest % parts) * ATTOS_A_NANO + low * rest;
        let unit = parts * ATTOS_A_NANO;
        let nanos = nanos.saturating_add((left + unit / 2) / unit);
        Amount(i128::try_from(nanos).unwrap_or(i128::MAX))
    }
}

impl FromStr for Price {
    type Err = PriceError;

    fn from_str(text: &str) -> Result<Self, PriceError> {
        let bad = |why| PriceError {
            text: text.chars().take(64).collect(),
            why,
        };
        let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        if !digits(whole) || !digits(decimals) {
            return Err(bad("is no decimal number"));
        }
        let decimals = decimals.trim_end_matches('0');
        if decimals.len() > DECIMALS {
            return Err(bad("has too many decimals"));
        }
        let whole: u128 = whole.parse().map_err(|_| bad("is too large"))?;
        let attos: u128 = format!("{decimals:0<DECIMALS$}")
            .parse()
            .expect("eighteen digits are a number");
        if whole > MAX_PRICE || whole == MAX_PRICE && attos > 0 {
            return Err(bad("is too large"));
        }
        Ok(Self(whole * ATTO + attos))
    }
}

impl Add for Amount {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Sum for Amount {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self(0), Add::add)
    }
}

impl fmt::Display for Amount {
    /// All nine decimals, or as many as a precision asks for; what is cut is rounded to the nearest, halves away from
    /// zero.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let decimals = f.precision().unwrap_or(9).min(9);
        let cut = 10_u128.pow(9 - decimals as u32);
        let rounded = (self.0.unsigned_abs() + cut / 2) / cut;
        let sign = if self.0 < 0 && rounded > 0 { "-" } else { "" };
        let unit = 10_u128.pow(decimals as u32);
        write!(f, "{sign}{}", rounded / unit)?;
        if decimals > 0 {
            write!(f, ".{:0decimals$}", rounded % unit)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
