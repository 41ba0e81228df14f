//! Quantities as people write them: `256Mi`, `0.5`, `90s`.

use std::time::Duration;

/// A quantity that does not read as one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is not {kind}; write {accepted}")]
pub struct QuantityError {
    value: String,
    kind: &'static str,
    accepted: &'static str,
}

const SIZES: [(&str, u64); 13] = [
    ("Ki", 1 << 10),
    ("Mi", 1 << 20),
    ("Gi", 1 << 30),
    ("Ti", 1 << 40),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("K", 1_000),
    ("k", 1_000),
    ("M", 1_000_000),
    ("G", 1_000_000_000),
    ("T", 1_000_000_000_000),
    ("", 1),
];

const TIMES: [(&str, u64); 5] = [
    ("ms", 1),
    ("s", 1_000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
];

/// Nanoseconds of each unit of a Go duration. Both signs for micro, since both are in use.
const GO_TIMES: [(&str, u64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("\u{b5}s", 1_000),
    ("\u{3bc}s", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Bytes: `256Mi`, `1Gi`, `64M`, `1048576`.
///
/// # Errors
/// The text is no such quantity, or overflows.
pub fn parse_bytes(text: &str) -> Result<u64, QuantityError> {
    let bad = || {
        error(
            text,
            "a size",
            "bytes or a number with Ki, Mi, Gi, K, M or G, such as 256Mi",
        )
    };
    let (number, unit) = split(text);
    let factor = SIZES
        .iter()
        .find(|(name, _)| *name == unit)
        .ok_or_else(bad)?
        .1;
    scaled(number, factor).ok_or_else(bad)
}

/// Thousandths of a core: `0.5` and `500m` are 500, `2` is 2000.
///
/// # Errors
/// The text is no such quantity, or zero.
pub fn parse_cpu(text: &str) -> Result<u32, QuantityError> {
    let bad = || {
        error(
            text,
            "an amount of CPU",
            "cores such as 0.5 or 2, or thousandths such as 500m",
        )
    };
    let (number, unit) = split(text);
    let milli = match unit {
        "" => scaled(number, 1_000),
        "m" => scaled(number, 1),
        _ => None,
    };
    milli
        .and_then(|m| u32::try_from(m).ok())
        .filter(|&m| m > 0)
        .ok_or_else(bad)
}

/// A duration: `300ms`, `90s`, `5m`, `1h30m`, and plain seconds such as `90`.
///
/// # Errors
/// The text is no such duration, or overflows.
pub fn parse_duration(text: &str) -> Result<Duration, QuantityError> {
    let bad = || {
        error(
            text,
            "a duration",
            "a number with ms, s, m, h or d, such as 90s or 1h30m",
        )
    };
    if let (number, "") = split(text) {
        return scaled(number, 1_000)
            .map(Duration::from_millis)
            .ok_or_else(bad);
    }
    let (mut rest, mut total) = (text, 0_u64);
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .ok_or_else(bad)?;
        let tail = &rest[digits..];
        let unit_len = tail
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(tail.len());
        let factor = TIMES
            .iter()
            .find(|(name, _)| *name == &tail[..unit_len])
            .ok_or_else(bad)?
            .1;
        let part = scaled(&rest[..digits], factor).ok_or_else(bad)?;
        total = total.checked_add(part).ok_or_else(bad)?;
        rest = &tail[unit_len..];
    }
    if text.is_empty() {
        Err(bad())
    } else {
        Ok(Duration::from_millis(total))
    }
}

/// A duration as programs written in Go read it from their settings: a whole number is seconds, else `300ms`, `1m30s`,
/// `1.5h`. Unlike [`parse_duration`] it knows `ns` and `us`, takes `.5s` and `1.s`, and has no days.
///
/// # Errors
/// The text is no such duration, is below zero, or is more than Go can hold (292 years).
pub fn parse_go_duration(text: &str) -> Result<Duration, QuantityError> {
    let bad = || {
        error(
            text,
            "a duration",
            "whole seconds, or a number with ns, us, ms, s, m or h, such as 90s or 1h30m",
        )
    };
    go_nanoseconds(text)
        .filter(|&ns| ns <= i64::MAX as u64)
        .map(Duration::from_nanos)
        .ok_or_else(bad)
}

fn go_nanoseconds(text: &str) -> Option<u64> {
    let text = text.strip_prefix('+').unwrap_or(text);
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return text.parse::<u64>().ok()?.checked_mul(1_000_000_000);
    }
    let (mut rest, mut total) = (text, 0_u64);
    while !rest.is_empty() {
        let (number, tail) = split(rest);
        let unit_len = tail
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(tail.len());
        let (unit, after) = tail.split_at(unit_len);
        let factor = GO_TIMES.iter().find(|(name, _)| *name == unit)?.1;
        total = total.checked_add(go_part(number, factor)?)?;
        rest = after;
    }
    (!text.is_empty()).then_some(total)
}

/// `number × factor`, cut to whole nanoseconds. Digits after the point may be missing, or before it, but not both; and there
/// may be any number of them, of which those below a nanosecond say nothing.
fn go_part(number: &str, factor: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
        return None;
    }
    let whole = if whole.is_empty() {
        0
    } else {
        whole.parse::<u64>().ok()?.checked_mul(factor)?
    };
    // The largest unit has thirteen digits, so further ones cannot make a nanosecond.
    let fraction = &fraction[..fraction.len().min(18)];
    let part = if fraction.is_empty() {
        0
    } else {
        let scale = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
        u128::from(fraction.parse::<u64>().ok()?) * u128::from(factor) / scale
    };
    whole.checked_add(u64::try_from(part).ok()?)
}

/// Bytes in the largest binary unit that loses nothing: `256Mi`. Parses back to the same number.
#[must_use]
pub fn format_bytes(bytes: u64) -> String {
    for (unit, factor) in [("Gi", 1_u64 << 30), ("Mi", 1 << 20), ("Ki", 1 << 10)] {
        if bytes >= factor && bytes.is_multiple_of(factor) {
            return format!("{}{unit}", bytes / factor);
        }
    }
    bytes.to_string()
}

/// A duration in the largest unit that loses nothing: `90s`, `1500ms`. Parses back to the same whole milliseconds.
#[must_use]
pub fn format_duration(duration: Duration) -> String {
    let ms = duration.as_millis();
    for (unit, factor) in [("h", 3_600_000), ("m", 60_000), ("s", 1_000)] {
        if ms >= factor && ms.is_multiple_of(factor) {
            return format!("{}{unit}", ms / factor);
        }
    }
    if ms == 0 {
        "0s".to_owned()
    } else {
        format!("{ms}ms")
    }
}

fn split(text: &str) -> (&str, &str) {
    let at = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    text.split_at(at)
}

/// `number × factor` exactly, for a decimal number with at most nine digits after the point; a fraction of one is cut.
fn scaled(number: &str, factor: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || fraction.len() > 9 || number.ends_with('.') {
        return None;
    }
    let whole = whole.parse::<u64>().ok()?.checked_mul(factor)?;
    let part = if fraction.is_empty() {
        0
    } else {
        fraction.parse::<u64>().ok()?
    };
    let part =
        u128::from(part) * u128::from(factor) / 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    whole.checked_add(u64::try_from(part).ok()?)
}

fn error(value: &str, kind: &'static str, accepted: &'static str) -> QuantityError {
    QuantityError {
        value: value.chars().take(40).collect(),
        kind,
        accepted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_what_people_write() {
        for (text, bytes) in [
            ("0", 0),
            ("1024", 1024),
            ("256Mi", 256 << 20),
            ("1.5Gi", 3 << 29),
            ("64M", 64_000_000),
            ("1GiB", 1 << 30),
        ] {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
        for (text, milli) in [("1", 1000), ("0.5", 500), ("250m", 250), ("2.25", 2250)] {
            assert_eq!(parse_cpu(text), Ok(milli), "{text}");
        }
        for (text, ms) in [
            ("90", 90_000),
            ("90s", 90_000),
            ("300ms", 300),
            ("1h30m", 5_400_000),
            ("1.5s", 1500),
            ("0", 0),
        ] {
            assert_eq!(
                parse_duration(text),
                Ok(Duration::from_millis(ms)),
                "{text}"
            );
        }
    }

    #[test]
    fn refuses_the_rest_and_says_what_would_do() {
        for bad in [
            "",
            "x",
            "1Qi",
            "-1",
            "1..2",
            "99999999999999999999",
            "20000000Ti",
            "1.",
            ".5",
        ] {
            assert!(parse_bytes(bad).is_err(), "{bad}");
        }
        assert!(
            parse_bytes("12Q")
                .unwrap_err()
                .to_string()
                .contains("256Mi")
        );
        for bad in ["", "0", "1c", "m"] {
            assert!(parse_cpu(bad).is_err(), "{bad}");
        }
        for bad in ["", "s", "1y", "1m2", "-1s", "9999999999999999999h"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn reads_durations_as_go_does() {
        for (text, ns) in [
            ("0", 0),
            ("30", 30_000_000_000),
            ("+30", 30_000_000_000),
            ("0s", 0),
            ("1m30s", 90_000_000_000),
            ("1.5h", 5_400_000_000_000),
            ("100ms", 100_000_000),
            (".5s", 500_000_000),
            ("1.s", 1_000_000_000),
            ("5us", 5_000),
            ("5\u{b5}s", 5_000),
            ("5\u{3bc}s", 5_000),
            ("1ns", 1),
            ("1.9ns", 1),
            ("0.3333333333333333333333h", 1_200_000_000_000 - 1),
            ("2m1s500ms", 121_500_000_000),
        ] {
            assert_eq!(
                parse_go_duration(text),
                Ok(Duration::from_nanos(ns)),
                "{text}"
            );
        }
        for bad in [
            "",
            "+",
            "-1",
            "-1s",
            "1d",
            " 1s",
            "1s ",
            ".s",
            "s",
            "1.5",
            "1..5s",
            "1.2.3s",
            "++1s",
            "3000000h",
            "99999999999999999999",
            "1s1",
            "1m-1s",
        ] {
            assert!(parse_go_duration(bad).is_err(), "{bad}");
        }
        let said = parse_go_duration("soon").unwrap_err().to_string();
        assert!(
            said.contains("\"soon\"") && said.contains("1h30m"),
            "{said}"
        );
    }

    proptest! {
        #[test]
        fn a_go_duration_never_panics(text in "[-+.0-9a-z\u{b5}\u{3bc}]{0,24}") {
            let _ = parse_go_duration(&text);
        }

        #[test]
        fn a_go_duration_is_the_sum_of_its_parts(h in 0..1_000_u64, m in 0..10_000_u64, ms: u32) {
            let text = format!("{h}h{m}m{ms}ms");
            let want = Duration::from_secs(h * 3600 + m * 60) + Duration::from_millis(u64::from(ms));
            prop_assert_eq!(parse_go_duration(&text), Ok(want));
        }

        #[test]
        fn formatting_round_trips(bytes: u64, ms in 0..u64::MAX / 8_640_000_000) {
            prop_assert_eq!(parse_bytes(&format_bytes(bytes)), Ok(bytes));
            let duration = Duration::from_millis(ms);
            prop_assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
        }
    }
}
