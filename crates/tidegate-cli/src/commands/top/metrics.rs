//! What is read of the page of metrics.

use std::collections::BTreeMap;

/// A function, by namespace and name.
pub(super) type Key = (String, String);

/// What the page says of functions.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Metrics {
    pub(super) functions: BTreeMap<Key, Counters>,
    /// Functions that can be called, the others included.
    pub(super) known: u64,
}

/// What it says of one: counters since the server started, and what is now.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Counters {
    pub(super) calls: u64,
    /// Those that did not end well, other than by their callers' hanging up.
    pub(super) errors: u64,
    /// Calls by time: the bucket's upper bound in seconds, and how many were no longer than that.
    pub(super) buckets: Vec<(f64, u64)>,
    pub(super) in_flight: u64,
    pub(super) waiting: u64,
    /// Ready ones.
    pub(super) instances: u64,
}

impl Metrics {
    /// Reads the page, of one namespace or of all. What is not understood is passed over: the page is for others as well.
    pub(super) fn parse(page: &str, only: Option<&str>) -> Self {
        let mut metrics = Self::default();
        for line in page.lines().filter(|line| !line.starts_with('#')) {
            let Some((name, labels, value)) = sample(line) else {
                continue;
            };
            if name == "tidegate_functions" {
                metrics.known = value as u64;
                continue;
            }
            let label = |wanted: &str| {
                let found = labels.iter().find(|(name, _)| *name == wanted);
                found.map(|(_, value)| value.clone())
            };
            let (Some(namespace), Some(function)) = (label("namespace"), label("function")) else {
                continue;
            };
            if !name.starts_with("tidegate_") || only.is_some_and(|only| only != namespace) {
                continue;
            }
            let of = metrics.functions.entry((namespace, function)).or_default();
            let count = value as u64;
            match name {
                "tidegate_invocations_total" => {
                    of.calls += count;
                    let outcome = label("outcome").unwrap_or_default();
                    if !matches!(outcome.as_str(), "ok" | "cancelled") {
                        of.errors += count;
                    }
                }
                "tidegate_invocation_duration_seconds_bucket" => {
                    let bound = label("le").and_then(|le| match le.as_str() {
                        "+Inf" => Some(f64::INFINITY),
                        le => le.parse().ok(),
                    });
                    of.buckets.extend(bound.map(|bound| (bound, count)));
                }
                "tidegate_invocations_in_flight" => of.in_flight = count,
                "tidegate_invocations_queued" => of.waiting = count,
                "tidegate_instances" => {
                    if matches!(label("state").as_deref(), Some("idle" | "busy")) {
                        of.instances += count;
                    }
                }
                _ => {}
            }
        }
        metrics
    }
}

/// A line's labels and their values.
type Labels<'a> = Vec<(&'a str, String)>;

/// `name{label="value",…} number`, taken apart.
fn sample(line: &str) -> Option<(&str, Labels<'_>, f64)> {
    let at = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(at);
    let mut labels = Vec::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        loop {
            if let Some(behind) = rest.strip_prefix('}') {
                rest = behind;
                break;
            }
            rest = rest.strip_prefix(',').unwrap_or(rest);
            let (label, quoted) = rest.split_once("=\"")?;
            let mut value = String::new();
            let mut escaped = false;
            let end = quoted.char_indices().find(|(_, c)| {
                match (escaped, c) {
                    (false, '"') => return true,
                    (false, '\\') => {
                        escaped = true;
                        return false;
                    }
                    (true, 'n') => value.push('\n'),
                    (_, c) => value.push(*c),
                }
                escaped = false;
                false
            });
            labels.push((label, value.clone()));
            rest = &quoted[end?.0 + 1..];
        }
    }
    let number = rest.split_whitespace().next()?;
    Some((name, labels, number.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_read_and_the_rest_of_it_passed_over() {
        let page = r#"# TYPE tidegate_invocations counter
tidegate_invocations_total{namespace="default",function="wc",outcome="ok"} 90
tidegate_invocations_total{namespace="default",function="wc",outcome="function"} 9
tidegate_invocations_total{namespace="default",function="wc",outcome="cancelled"} 1
tidegate_invocations_total{namespace="team",function="wc",outcome="ok"} 7
tidegate_invocation_duration_seconds_bucket{le="0.001",namespace="default",function="wc"} 50
tidegate_invocation_duration_seconds_bucket{le="+Inf",namespace="default",function="wc"} 100
tidegate_invocations_in_flight{namespace="default",function="wc"} 3
tidegate_instances{namespace="default",function="wc",state="idle"} 1
tidegate_instances{namespace="default",function="wc",state="busy"} 2
tidegate_instances{namespace="default",function="wc",state="draining"} 5
other{namespace="default",function="o\"dd\\"} 1
broken{namespace="default
tidegate_functions 12
"#;
        let metrics = Metrics::parse(page, Some("default"));
        assert_eq!(metrics.known, 12);
        assert_eq!(metrics.functions.len(), 1);
        let wc = &metrics.functions[&("default".to_owned(), "wc".to_owned())];
        assert_eq!((wc.calls, wc.errors), (100, 9));
        assert_eq!(wc.buckets, [(0.001, 50), (f64::INFINITY, 100)]);
        assert_eq!((wc.in_flight, wc.instances), (3, 3));
        assert_eq!(Metrics::parse(page, None).functions.len(), 2);
    }

    #[test]
    fn labels_may_hold_anything() {
        let (_, labels, value) = sample(r#"x{a="1,\"}",b="\\"} 2.5 17"#).unwrap();
        assert_eq!(labels, [("a", "1,\"}".to_owned()), ("b", "\\".to_owned())]);
        assert!((value - 2.5).abs() < f64::EPSILON);
    }
}
