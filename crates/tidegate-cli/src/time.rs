//! Times as people read them.

use std::time::Duration;

use jiff::Timestamp;
use tidegate_core::{format_duration, parse_duration};

/// How long ago that was, in its largest unit: `5s`, `3m`, `2h`, `4d`. A dash where it cannot be told.
pub(crate) fn age(since: &str, now: Timestamp) -> String {
    let Ok(since) = since.parse::<Timestamp>() else {
        return "-".to_owned();
    };
    // Clocks of two machines differ; what was made in the future was made now.
    let seconds = (now.as_second() - since.as_second()).max(0);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// When that is, from now on: `in 5s`, `in 3m`, or `now`. A dash where it cannot be told.
pub(crate) fn until(then: &str, now: Timestamp) -> String {
    let Ok(at) = then.parse::<Timestamp>() else {
        return "-".to_owned();
    };
    if at <= now {
        return "now".to_owned();
    }
    format!("in {}", age(&now.to_string(), at))
}

/// A moment in UTC with milliseconds, all of one width; the text as it is where it is none.
pub(crate) fn moment(text: &str) -> String {
    text.parse::<Timestamp>()
        .map_or_else(|_| text.to_owned(), |at| format!("{at:.3}"))
}

/// Reads a flag's moment: a time back from now, or a time.
pub(crate) fn when(text: &str) -> Result<String, String> {
    if let Ok(duration) = parse_duration(text) {
        return Ok(format_duration(duration));
    }
    match text.parse::<Timestamp>() {
        Ok(at) => Ok(at.to_string()),
        Err(_) => {
            Err("write how long ago, such as 5m, or a time such as 2026-05-01T12:00:00Z".to_owned())
        }
    }
}

/// A duration as one reads it off a watch: `0.4s`, `12s`.
pub(crate) fn elapsed(duration: Duration) -> String {
    if duration < Duration::from_secs(10) {
        format!("{:.1}s", duration.as_secs_f64())
    } else {
        format!("{}s", duration.as_secs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages() {
        let now: Timestamp = "2026-01-10T00:00:00Z".parse().unwrap();
        for (since, expected) in [
            ("2026-01-09T23:59:55Z", "5s"),
            ("2026-01-09T23:00:00Z", "60m"),
            ("2026-01-09T12:00:00Z", "12h"),
            ("2026-01-01T00:00:00Z", "9d"),
            ("2026-01-11T00:00:00Z", "0s"),
            ("never", "-"),
        ] {
            assert_eq!(age(since, now), expected, "{since}");
        }
        assert_eq!(until("2026-01-10T00:03:00Z", now), "in 3m");
        assert_eq!(until("2026-01-09T00:03:00Z", now), "now");
        assert_eq!(until("never", now), "-");
        assert_eq!(
            moment("2026-01-10T01:00:00.1239+01:00"),
            "2026-01-10T00:00:00.123Z"
        );
        assert_eq!(elapsed(Duration::from_millis(420)), "0.4s");
        assert_eq!(elapsed(Duration::from_millis(12_400)), "12s");
    }
}
