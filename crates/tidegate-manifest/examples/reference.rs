//! Prints the rows of the reference page, `docs/manifest.md`.

#![allow(clippy::print_stdout, reason = "it is what this is for")]

fn main() {
    for line in tidegate_manifest::reference() {
        println!("| `{}` | {} | {} |", line.key, line.takes, line.about);
    }
}
