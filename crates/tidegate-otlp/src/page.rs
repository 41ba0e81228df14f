//! The server's page of metrics becomes OTLP's metrics.
//!
//! What there is to be told is decided in one place, where the page for scrapers is written in OpenMetrics' text format.
//! That text is read here, so that whatever the page learns to tell is exported too, under the same name and labels.
//! A scraper's suffixes (`_total`, `_info`) are its own: whoever shows our metrics to a scraper puts them back.

use std::collections::HashMap;

use crate::proto::{
    CUMULATIVE, Data, Gauge, Histogram, HistogramPoint, KeyValue, Metric, Number, NumberPoint, Sum,
};

/// Most points of one request: some 2 MB where all are histograms, below what collectors take.
const MAX_POINTS: usize = 5000;

/// What goes into one request.
#[derive(Debug, Default)]
pub(crate) struct Part {
    pub(crate) metrics: Vec<Metric>,
    pub(crate) points: u64,
}

/// The metrics of a page. Counted since `start_ns`, read at `time_ns`, both in nanoseconds since the Unix epoch. What does
/// not read is left out: the page is the server's own.
pub(crate) fn read(page: &str, start_ns: u64, time_ns: u64) -> Vec<Part> {
    let mut reader = Reader {
        start_ns,
        time_ns,
        parts: Vec::new(),
        family: Family::default(),
    };
    for line in page.lines() {
        reader.line(line);
    }
    reader.end();
    reader.parts
}

struct Reader<'a> {
    start_ns: u64,
    time_ns: u64,
    parts: Vec<Part>,
    family: Family<'a>,
}

/// The family that is being read.
#[derive(Default)]
struct Family<'a> {
    name: &'a str,
    help: String,
    kind: &'a str,
    numbers: Vec<NumberPoint>,
    histograms: Vec<HistogramPoint>,
    /// Where in `histograms` a set of labels is.
    at: HashMap<Vec<(&'a str, String)>, usize>,
}

impl<'a> Reader<'a> {
    fn line(&mut self, line: &'a str) {
        let Some(comment) = line.strip_prefix("# ") else {
            // What does not read is left out.
            let _ = self.sample(line);
            return;
        };
        let mut words = comment.splitn(3, ' ');
        let (Some(what), Some(name)) = (words.next(), words.next()) else {
            return;
        };
        if name != self.family.name {
            self.end();
            self.family.name = name;
        }
        match (what, words.next()) {
            ("HELP", Some(help)) => self.family.help = unescape(help),
            ("TYPE", Some(kind)) => self.family.kind = kind,
            _ => {}
        }
    }

    fn sample(&mut self, line: &'a str) -> Option<()> {
        let name_ends = line.find(['{', ' '])?;
        let (name, rest) = line.split_at(name_ends);
        let suffix = name.strip_prefix(self.family.name)?;
        let (mut labels, rest) = match rest.strip_prefix('{') {
            Some(rest) => labels(rest)?,
            None => (Vec::new(), rest),
        };
        let text = rest.split_whitespace().next()?;
        if self.family.kind == "histogram" {
            return self.histogram(suffix, labels, text);
        }
        self.family.numbers.push(NumberPoint {
            start_ns: self.start_ns,
            time_ns: self.time_ns,
            value: Some(number(text)?),
            attributes: attributes(&mut labels),
        });
        Some(())
    }

    fn histogram(
        &mut self,
        suffix: &str,
        mut labels: Vec<(&'a str, String)>,
        text: &str,
    ) -> Option<()> {
        let bound = labels.iter().position(|(name, _)| *name == "le");
        let bound = bound.map(|at| labels.remove(at).1);
        let family = &mut self.family;
        let at = *family.at.entry(labels.clone()).or_insert_with(|| {
            family.histograms.push(HistogramPoint {
                start_ns: self.start_ns,
                time_ns: self.time_ns,
                attributes: attributes(&mut labels),
                ..HistogramPoint::default()
            });
            family.histograms.len() - 1
        });
        let point = &mut family.histograms[at];
        match suffix {
            "_sum" => point.sum = Some(text.parse().ok()?),
            "_count" => point.count = text.parse().ok()?,
            "_bucket" => {
                // Buckets of the page hold those before them, and come in their order.
                let before: u64 = point.buckets.iter().sum();
                let count: u64 = text.parse().ok()?;
                point.buckets.push(count.saturating_sub(before));
                let bound: f64 = bound?.parse().ok()?;
                if bound.is_finite() {
                    point.bounds.push(bound);
                }
            }
            _ => return None,
        }
        Some(())
    }

    fn end(&mut self) {
        let mut family = std::mem::take(&mut self.family);
        while !family.numbers.is_empty() || !family.histograms.is_empty() {
            let room = match self.parts.last() {
                Some(part) if part.points < MAX_POINTS as u64 => MAX_POINTS - part.points as usize,
                _ => {
                    self.parts.push(Part::default());
                    MAX_POINTS
                }
            };
            let (metric, points) = family.first(room);
            if let Some(part) = self.parts.last_mut() {
                part.metrics.push(metric);
                part.points += points as u64;
            }
        }
    }
}

impl Family<'_> {
    /// Takes out as many points as there is room for.
    fn first(&mut self, room: usize) -> (Metric, usize) {
        let numbers: Vec<_> = self.numbers.drain(..room.min(self.numbers.len())).collect();
        let room = room - numbers.len();
        let histograms = self.histograms.drain(..room.min(self.histograms.len()));
        let histograms: Vec<_> = histograms.collect();
        let points = numbers.len() + histograms.len();
        let data = match self.kind {
            "counter" => Data::Sum(Sum {
                points: numbers,
                temporality: CUMULATIVE,
                is_monotonic: true,
            }),
            "histogram" => Data::Histogram(Histogram {
                points: histograms,
                temporality: CUMULATIVE,
            }),
            _ => Data::Gauge(Gauge { points: numbers }),
        };
        let unit = match self.name {
            name if name.ends_with("_seconds") => "s",
            name if name.ends_with("_bytes") => "By",
            _ => "",
        };
        let metric = Metric {
            name: self.name.to_owned(),
            description: self.help.clone(),
            unit: unit.to_owned(),
            data: Some(data),
        };
        (metric, points)
    }
}

/// Whole numbers stay whole: the page writes a series the same way each time.
fn number(text: &str) -> Option<Number> {
    match text.parse() {
        Ok(whole) => Some(Number::Int(whole)),
        Err(_) => text.parse().ok().map(Number::Double),
    }
}

fn attributes(labels: &mut Vec<(&str, String)>) -> Vec<KeyValue> {
    let labels = labels.drain(..);
    labels
        .map(|(name, value)| KeyValue::text(name, value))
        .collect()
}

/// `a="1",b="2"}` and what comes after it.
fn labels(mut rest: &str) -> Option<(Vec<(&str, String)>, &str)> {
    let mut labels = Vec::new();
    loop {
        rest = rest.trim_start_matches(',');
        if let Some(rest) = rest.strip_prefix('}') {
            return Some((labels, rest));
        }
        let (name, value) = rest.split_once("=\"")?;
        let mut escaped = false;
        let end = value.find(|c| {
            let is_end = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            is_end
        })?;
        labels.push((name, unescape(&value[..end])));
        rest = &value[end + 1..];
    }
}

fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('n') => out.push('\n'),
                Some(other) => out.push(other),
                None => out.push('\\'),
            },
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = r#"# HELP tidegate_invocations Invocations that ended.
# TYPE tidegate_invocations counter
tidegate_invocations_total{namespace="default",function="a \"b\", {c}\\"} 3
tidegate_invocations_total{namespace="default",function="d"} 4
# HELP tidegate_invocation_duration_seconds Time.
# TYPE tidegate_invocation_duration_seconds histogram
tidegate_invocation_duration_seconds_sum{function="a"} 1.5
tidegate_invocation_duration_seconds_count{function="a"} 6
tidegate_invocation_duration_seconds_bucket{le="0.001",function="a"} 1
tidegate_invocation_duration_seconds_bucket{le="0.01",function="a"} 4
tidegate_invocation_duration_seconds_bucket{le="+Inf",function="a"} 6
# HELP tidegate_records_bytes Bytes.
# TYPE tidegate_records_bytes gauge
tidegate_records_bytes 5.0
# HELP nobody Was never called.
# TYPE nobody counter
# HELP tidegate_build Version.
# TYPE tidegate_build info
tidegate_build_info{version="1"} 1
# EOF
"#;

    fn point(metric: &Metric) -> &NumberPoint {
        match metric.data.as_ref().unwrap() {
            Data::Gauge(gauge) => &gauge.points[0],
            Data::Sum(sum) => &sum.points[0],
            Data::Histogram(_) => panic!("{metric:?}"),
        }
    }

    #[test]
    fn a_page_is_read_as_it_was_meant() {
        let parts = read(PAGE, 1, 2);
        assert_eq!((parts.len(), parts[0].points), (1, 5));
        let metrics = &parts[0].metrics;
        let names: Vec<_> = metrics.iter().map(|m| (&*m.name, &*m.unit)).collect();
        assert_eq!(
            names,
            [
                ("tidegate_invocations", ""),
                ("tidegate_invocation_duration_seconds", "s"),
                ("tidegate_records_bytes", "By"),
                ("tidegate_build", ""),
            ]
        );
        let first = point(&metrics[0]);
        assert_eq!(first.value, Some(Number::Int(3)));
        assert_eq!((first.start_ns, first.time_ns), (1, 2));
        let function = KeyValue::text("function", "a \"b\", {c}\\");
        assert_eq!(first.attributes[1], function);
        assert_eq!(point(&metrics[2]).value, Some(Number::Double(5.0)));
        let Some(Data::Histogram(histogram)) = &metrics[1].data else {
            panic!("{metrics:?}");
        };
        let point = &histogram.points[0];
        assert_eq!(histogram.points.len(), 1);
        assert_eq!(
            (&*point.buckets, &*point.bounds),
            (&[1, 3, 2][..], &[0.001, 0.01][..])
        );
        assert_eq!((point.count, point.sum), (6, Some(1.5)));
    }

    #[test]
    fn nonsense_is_left_out() {
        for page in [
            "",
            "a",
            "a{",
            "# TYPE a",
            "# TYPE a counter\na{b=\"",
            "# TYPE a counter\na x",
        ] {
            assert!(read(page, 0, 0).is_empty(), "{page:?}");
        }
    }

    #[test]
    fn a_large_page_is_several_requests() {
        let mut page = "# TYPE a counter\n".to_owned();
        for n in 0..MAX_POINTS + 10 {
            page.push_str(&format!("a_total{{n=\"{n}\"}} 1\n"));
        }
        let points: Vec<_> = read(&page, 0, 0).iter().map(|p| p.points).collect();
        assert_eq!(points, [MAX_POINTS as u64, 10]);
    }
}
