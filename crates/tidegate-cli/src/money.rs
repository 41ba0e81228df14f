//! Sums of money that servers write as decimal numbers, added up without rounding.

use std::fmt;
use std::iter::Sum;

/// Decimals that are kept: a server writes nine.
const DECIMALS: usize = 12;

/// Decimals shown: a hundredth of a cent, below which nobody compares two functions.
const SHOWN: usize = 6;

/// An amount of money, in whole units of 10⁻¹².
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Money(i128);

impl Money {
    /// Reads `12.000340000`; `None` for what is no such number.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (sign, digits) = match text.strip_prefix('-') {
            Some(digits) => (-1, digits),
            None => (1, text),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let plain = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
        if whole.is_empty() || !plain(whole) || !plain(fraction) || fraction.len() > DECIMALS {
            return None;
        }
        let whole: i128 = whole.parse().ok()?;
        let fraction: i128 = format!("{fraction:0<DECIMALS$}").parse().ok()?;
        let unit = 10_i128.pow(DECIMALS as u32);
        let value = whole.checked_mul(unit)?.checked_add(fraction)?;
        Some(Self(sign * value))
    }

    /// For comparing by, as on a chart.
    pub(crate) fn as_f64(self) -> f64 {
        self.0 as f64 / 10_f64.powi(DECIMALS as i32)
    }

    /// All decimals that are not zero.
    pub(crate) fn exact(self) -> String {
        let unit = 10_u128.pow(DECIMALS as u32);
        let (sign, value) = (if self.0 < 0 { "-" } else { "" }, self.0.unsigned_abs());
        let fraction = format!("{:0DECIMALS$}", value % unit);
        match fraction.trim_end_matches('0') {
            "" => format!("{sign}{}", value / unit),
            fraction => format!("{sign}{}.{fraction}", value / unit),
        }
    }
}

impl Sum for Money {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        Self(amounts.fold(0, |sum, amount| sum.saturating_add(amount.0)))
    }
}

impl fmt::Display for Money {
    /// To six decimals, or `<0.000001` for what is less and not nothing.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cut = 10_u128.pow((DECIMALS - SHOWN) as u32);
        let rounded = (self.0.unsigned_abs() + cut / 2) / cut;
        if rounded == 0 {
            return f.write_str(if self.0 > 0 { "<0.000001" } else { "0" });
        }
        let unit = 10_u128.pow(SHOWN as u32);
        let sign = if self.0 < 0 { "-" } else { "" };
        write!(f, "{sign}{}.{:0SHOWN$}", rounded / unit, rounded % unit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_added_exactly() {
        let of = |text| Money::parse(text).unwrap();
        let tenth = of("0.1");
        assert_eq!((0..10).map(|_| tenth).sum::<Money>(), of("1"));
        assert_eq!(of("0.000000001").exact(), "0.000000001");
        assert_eq!(of("-12.50").exact(), "-12.5");
        assert_eq!(of("3").exact(), "3");
        for (text, shown) in [
            ("0", "0"),
            ("0.0000001", "<0.000001"),
            ("12.3456789", "12.345679"),
            ("-1.5", "-1.500000"),
        ] {
            assert_eq!(of(text).to_string(), shown);
        }
        for bad in ["", ".5", "1e3", "1,5", "--1", "0.1234567890123"] {
            assert_eq!(Money::parse(bad), None, "{bad}");
        }
    }
}
