//! CSV on standard input, a JSON array of objects on standard output: one object for every row, named by the first line.
//!
//! A program as any other: `csv2json-rust < stations.csv`. As a function, the query comes in `QUERY_STRING`;
//! `?delimiter=` is one character, or `tab`, `semicolon` or `pipe`. Rows are written as they are read, so a file may be of
//! any size.

use std::env;
use std::io::{self, BufWriter, Read, Write};
use std::process::ExitCode;

use csv::{ReaderBuilder, StringRecord};
use serde_json::{Map, Value};

fn main() -> ExitCode {
    let query = env::var("QUERY_STRING").unwrap_or_default();
    let output = BufWriter::with_capacity(64 * 1024, io::stdout().lock());
    match delimiter(&query).and_then(|delimiter| convert(io::stdin().lock(), output, delimiter)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            // Standard error is the function's log.
            eprintln!("{problem}");
            ExitCode::FAILURE
        }
    }
}

fn delimiter(query: &str) -> Result<u8, String> {
    let given = query
        .split('&')
        .find_map(|pair| pair.strip_prefix("delimiter="));
    match given {
        None | Some("comma") => Ok(b','),
        Some("tab") => Ok(b'\t'),
        Some("semicolon") => Ok(b';'),
        Some("pipe") => Ok(b'|'),
        Some(text) => match text.as_bytes() {
            &[byte] if byte.is_ascii_punctuation() && byte != b'"' => Ok(byte),
            _ => Err(format!(
                "delimiter is {text:?}; expected one character, or comma, tab, semicolon or pipe"
            )),
        },
    }
}

fn convert(input: impl Read, mut output: impl Write, delimiter: u8) -> Result<(), String> {
    let mut reader = ReaderBuilder::new().delimiter(delimiter).from_reader(input);
    let names = reader.headers().map_err(|error| error.to_string())?.clone();
    if names.is_empty() {
        return Err("the input is empty; expected CSV with names in the first line".into());
    }
    for (place, name) in names.iter().enumerate() {
        if name.trim().is_empty() {
            return Err(format!(
                "column {} of the first line has no name",
                place + 1
            ));
        }
        if names.iter().take(place).any(|earlier| earlier == name) {
            return Err(format!("the first line names {name:?} twice"));
        }
    }
    let mut row = StringRecord::new();
    let mut begin = "[";
    // Rows of another length than the first are errors that name their line.
    while reader
        .read_record(&mut row)
        .map_err(|error| error.to_string())?
    {
        let object: Map<String, Value> = names
            .iter()
            .zip(&row)
            .map(|(name, field)| (name.to_owned(), value(field)))
            .collect();
        write!(output, "{begin}\n{}", Value::Object(object)).map_err(|error| error.to_string())?;
        begin = ",";
    }
    if begin == "[" {
        output.write_all(b"[").map_err(|error| error.to_string())?;
    }
    output
        .write_all(b"\n]\n")
        .and_then(|()| output.flush())
        .map_err(|error| error.to_string())
}

/// A field as the type it looks like. What would not come back the same, such as a number with leading zeros, stays text.
fn value(field: &str) -> Value {
    match field {
        "" => return Value::Null,
        "true" => return Value::Bool(true),
        "false" => return Value::Bool(false),
        _ => {}
    }
    if let Ok(whole) = field.parse::<i64>() {
        if whole.to_string() == field {
            return whole.into();
        }
    }
    match field.parse::<f64>() {
        Ok(number) if number.is_finite() && number.to_string() == field => number.into(),
        _ => field.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::{convert, delimiter};
    use serde_json::{json, Value};

    fn convert_text(text: &str, with: u8) -> Result<Value, String> {
        let mut output = Vec::new();
        convert(text.as_bytes(), &mut output, with)?;
        Ok(serde_json::from_slice(&output).expect("what is written is JSON"))
    }

    #[test]
    fn the_sample() {
        let rows = convert_text(include_str!("../request/stations.csv"), b',').unwrap();
        assert_eq!(rows.as_array().unwrap().len(), 4);
        assert_eq!(
            rows[1],
            json!({"station": "Saint-Malo, \"La Rance\"", "depth_m": 13.5, "opened": 1966, "post": "035400", "staffed": true})
        );
        assert_eq!(rows[3]["depth_m"], Value::Null);
        let names: Vec<&String> = rows[0].as_object().unwrap().keys().collect();
        assert_eq!(names, ["station", "depth_m", "opened", "post", "staffed"]);
    }

    #[test]
    fn only_what_comes_back_the_same_is_a_number() {
        let rows = convert_text(
            "a\n1\n-2.5\n007\n+1\n1e3\nnan\n99999999999999999999\n1.10\n",
            b',',
        )
        .unwrap();
        let values: Vec<&Value> = rows
            .as_array()
            .unwrap()
            .iter()
            .map(|row| &row["a"])
            .collect();
        assert_eq!(
            json!(values),
            json!([
                1,
                -2.5,
                "007",
                "+1",
                "1e3",
                "nan",
                "99999999999999999999",
                "1.10"
            ])
        );
    }

    #[test]
    fn no_rows_are_an_empty_array() {
        assert_eq!(convert_text("a,b\n", b',').unwrap(), json!([]));
    }

    #[test]
    fn bad_input_is_told_with_its_line() {
        let says = |text, part: &str| {
            let problem = convert_text(text, b',').unwrap_err();
            assert!(problem.contains(part), "{problem}");
        };
        says("", "empty");
        says("a,a\n", "twice");
        says("a,\n", "column 2");
        says("a,b\n1,2\n3\n", "line: 3");
    }

    #[test]
    fn delimiters() {
        assert_eq!(delimiter(""), Ok(b','));
        assert_eq!(delimiter("x=1&delimiter=semicolon"), Ok(b';'));
        assert_eq!(delimiter("delimiter=|"), Ok(b'|'));
        assert!(delimiter("delimiter=ab")
            .unwrap_err()
            .contains("expected one character"));
        assert_eq!(
            convert_text("a;b\n1;2\n", b';').unwrap(),
            json!([{"a": 1, "b": 2}])
        );
    }
}
