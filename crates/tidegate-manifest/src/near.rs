//! Names that somebody may have meant.

/// Names shown at most.
const SHOWN: usize = 3;

/// The names closest to what was written, closest first; none that is more than a third different.
pub fn near<'a>(wanted: &str, names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let most = (wanted.len() / 3).max(1);
    let mut found: Vec<(usize, &str)> = names
        .map(|name| {
            // Whoever writes a beginning means the rest.
            let prefix = wanted.len() >= 3 && name.starts_with(wanted);
            (if prefix { 1 } else { distance(wanted, name) }, name)
        })
        .filter(|(d, _)| *d <= most)
        .collect();
    found.sort();
    found.truncate(SHOWN);
    found.into_iter().map(|(_, name)| name).collect()
}

/// Letters to insert, delete, replace or swap with their neighbour to get from one to the other.
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut rows = [
        vec![0; b.len() + 1],
        (0..=b.len()).collect(),
        vec![0; b.len() + 1],
    ];
    for i in 1..=a.len() {
        rows[2][0] = i;
        for j in 1..=b.len() {
            let differs = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (rows[1][j] + 1)
                .min(rows[2][j - 1] + 1)
                .min(rows[1][j - 1] + differs);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[0][j - 2] + 1);
            }
            rows[2][j] = best;
        }
        rows.rotate_left(1);
    }
    rows[1][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_recognised_and_other_names_are_not() {
        let names = ["thumbnail", "thumbnails", "webhook", "wc"];
        for (wanted, expected) in [
            ("thumbnial", &["thumbnail", "thumbnails"][..]),
            ("thumb", &["thumbnail", "thumbnails"]),
            ("webhok", &["webhook"]),
            ("cw", &["wc"]),
            ("invoice", &[]),
            ("", &[]),
        ] {
            assert_eq!(near(wanted, names.into_iter()), expected, "{wanted}");
        }
    }
}
