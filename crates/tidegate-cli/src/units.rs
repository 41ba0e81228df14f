//! Quantities as people read them: three digits are enough to compare by, and a unit says the rest.

/// A time in microseconds: `85µs`, `1.24ms`, `312ms`, `4.2s`, `3m05s`, `2h10m`.
pub(crate) fn span(us: u64) -> String {
    let seconds = us / 1_000_000;
    match us {
        0..1_000 => format!("{us}µs"),
        1_000..10_000 => format!("{:.2}ms", us as f64 / 1e3),
        10_000..100_000 => format!("{:.1}ms", us as f64 / 1e3),
        100_000..1_000_000 => format!("{}ms", us / 1_000),
        1_000_000..60_000_000 => format!("{:.1}s", us as f64 / 1e6),
        60_000_000..3_600_000_000 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", seconds / 3_600, seconds / 60 % 60),
    }
}

/// A number of bytes: `812B`, `1.2KiB`, `340MiB`.
pub(crate) fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if n < 1024 {
        return format!("{n}B");
    }
    let mut value = n as f64 / 1024.0;
    let mut unit = UNITS[0];
    for larger in &UNITS[1..] {
        // What would be written as 1024 is one of the next unit.
        if value < 1023.5 {
            break;
        }
        value /= 1024.0;
        unit = larger;
    }
    format!("{}{unit}", short(value))
}

/// A number of things that need not be whole: `0`, `0.42`, `12.5`, `310`, `1.2k`, `48k`.
pub(crate) fn amount(value: f64) -> String {
    match value {
        v if v < 0.005 => "0".to_owned(),
        v if v < 1.0 => format!("{v:.2}"),
        v if v < 999.5 => short(v),
        v if v < 999_500.0 => format!("{}k", short(v / 1e3)),
        v => format!("{}M", short(v / 1e6)),
    }
}

/// A digit behind the point where it says something: not of what has three before it, and no zero.
fn short(value: f64) -> String {
    let tenths = (value * 10.0).round();
    if tenths < 1000.0 && tenths % 10.0 >= 1.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.0}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits_and_a_unit() {
        for (us, expected) in [
            (0, "0µs"),
            (999, "999µs"),
            (1_240, "1.24ms"),
            (31_240, "31.2ms"),
            (312_400, "312ms"),
            (4_200_000, "4.2s"),
            (185_000_000, "3m05s"),
            (7_800_000_000, "2h10m"),
        ] {
            assert_eq!(span(us), expected);
        }
        for (n, expected) in [
            (0, "0B"),
            (1023, "1023B"),
            (1024, "1KiB"),
            (1_300, "1.3KiB"),
            (1_048_575, "1MiB"),
            (356_515_840, "340MiB"),
            (u64::MAX, "16384PiB"),
        ] {
            assert_eq!(bytes(n), expected);
        }
        for (value, expected) in [
            (0.0, "0"),
            (0.42, "0.42"),
            (12.5, "12.5"),
            (310.4, "310"),
            (1_200.0, "1.2k"),
            (48_000.0, "48k"),
            (2_500_000.0, "2.5M"),
        ] {
            assert_eq!(amount(value), expected);
        }
    }
}
