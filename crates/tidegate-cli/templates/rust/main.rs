//! Greets whoever the text on standard input names.
//!
//! A process a call: the request's body comes on standard input, and what is printed is the answer. An exit code other
//! than 0 is a failure.

use std::io::{self, Read, Write};

/// Longest name in bytes.
const MAX: u64 = 1024;

fn main() -> io::Result<()> {
    let mut text = String::new();
    io::stdin().take(MAX).read_to_string(&mut text)?;
    eprintln!("greeting {} bytes", text.len());
    writeln!(io::stdout(), "{}", greeting(&text))
}

fn greeting(text: &str) -> String {
    match text.trim() {
        "" => "hello, world".to_owned(),
        name => format!("hello, {name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::greeting;

    #[test]
    fn greets_by_name() {
        assert_eq!(greeting(" tide\n"), "hello, tide");
        assert_eq!(greeting(""), "hello, world");
    }
}
