//! The one line of a tool's output that says why it failed.
//!
//! Tools say it somewhere: before a stack of hints, between two progress lines, twice. What is frequent is known here by
//! its words and said in one line, with the file and line where there is one. What is not known is not guessed; the tool's
//! last lines are shown in any case.

use crate::plan::Step;

/// Longest line that is given, in bytes.
const LONGEST: usize = 400;

/// Words that stand in a line which says it all, the surest first.
const PLAIN: &[&str] = &[
    // pip
    "No matching distribution found for",
    "THESE PACKAGES DO NOT MATCH THE HASHES",
    "all requirements must have their versions pinned",
    "Hashes are required in --require-hashes mode",
    "Invalid requirement:",
    "Could not open requirements file",
    "ResolutionImpossible",
    // npm
    "can only install packages when your package.json and",
    "is not in this registry",
    "No matching version found for",
    "integrity checksum failed",
    "unable to resolve dependency tree",
    "Missing script:",
    "ERR_PNPM_OUTDATED_LOCKFILE",
    "Your lockfile needs to be updated",
    // Bundler, Composer
    "Could not find gem",
    "the lockfile can't be updated because frozen mode",
    "lockfile is out of date",
    "it could not be found in any version",
    "Could not find a matching version of package",
    "is not present in the lock file",
    "requires ext-",
    // Go
    "missing go.sum entry",
    "no required module provides package",
    "unknown revision",
    "requires go >=",
    // cargo
    "no matching package named",
    "failed to select a version for",
    "needs to be updated but --locked was passed",
    // Maven
    "Could not find artifact",
    "Non-parseable POM",
    "Non-readable POM",
    // Anywhere
    "No space left on device",
    "Disk quota exceeded",
    "Cannot allocate memory",
    "JavaScript heap out of memory",
    "Resource temporarily unavailable",
];

/// What a line begins with that says nothing.
const PREFIXES: &[&str] = &[
    "ERROR: ",
    "error: ",
    "Error: ",
    "npm error ",
    "npm ERR! ",
    "[ERROR] ",
    "go: ",
    "- ",
];

/// What the output of a step that failed comes to, where it is understood. Colours are taken out.
#[must_use]
pub fn explain(output: &[String], step: &Step) -> Option<String> {
    let lines: Vec<String> = output.iter().map(|line| uncoloured(line)).collect();
    let found = PLAIN
        .iter()
        .find_map(|words| lines.iter().find(|l| l.contains(words)))
        .map(|line| bare(line).to_owned())
        .or_else(|| pointed(&lines))
        .or_else(|| lines.iter().find_map(|l| placed(l)))?;
    let hint = if found.contains("No matching distribution found")
        && step.command.iter().any(|a| a == "--only-binary")
    {
        // Only what was built beforehand is taken where everything is pinned by hash.
        "; if it has no wheel, a line '--no-binary NAME' in requirements.txt lets it be built"
    } else {
        ""
    };
    let mut said = shortened(&found).to_owned() + hint;
    if said.ends_with('.') {
        said.pop();
    }
    Some(said)
}

/// A message whose place stands on a line below, as esbuild, rustc and Python write it.
fn pointed(lines: &[String]) -> Option<String> {
    for (at, line) in lines.iter().enumerate() {
        let below = &lines[at + 1..lines.len().min(at + 4)];
        if let Some((_, message)) = line.split_once("[ERROR] ")
            && let Some(place) = below.iter().find_map(|l| l.trim().strip_suffix(':'))
            && line.contains('\u{2718}')
        {
            return Some(format!("{place}: {message}"));
        }
        let rust = line.strip_prefix("error: ").or_else(|| {
            line.strip_prefix("error[")
                .and_then(|l| l.split_once("]: "))
                .map(|(_, m)| m)
        });
        if let Some(message) = rust
            && let Some(place) = below.iter().find_map(|l| l.trim().strip_prefix("--> "))
        {
            return Some(format!("{place}: {message}"));
        }
    }
    None
}

/// A line that begins with a file and a line.
fn placed(line: &str) -> Option<String> {
    let line = bare(line.trim());
    // Maven: `/stage/src/x.java:[5,10] message`.
    let line = line.strip_prefix("/stage/").unwrap_or(line);
    if let Some((file, rest)) = line.split_once(":[")
        && file.ends_with(".java")
        && let Some((place, message)) = rest.split_once("] ")
    {
        return Some(format!("{file}:{}: {message}", place.replace(',', ":")));
    }
    // TypeScript: `src/x.ts(3,5): error TS2322: message`.
    if let Some((file, rest)) = line.split_once('(')
        && is_source(file)
        && let Some((place, message)) = rest.split_once("): ")
        && message.starts_with("error")
    {
        return Some(format!("{file}:{}: {message}", place.replace(',', ":")));
    }
    // Compilers: `./main.go:4:2: message`, `Handler.java:3: error: message`.
    let (file, rest) = line.split_once(':')?;
    let number = rest.split(':').next()?;
    let placed = is_source(file)
        && !number.is_empty()
        && number.bytes().all(|b| b.is_ascii_digit())
        && rest.len() > number.len() + 2
        && !rest.contains("warning:");
    placed.then(|| line.to_owned())
}

fn is_source(file: &str) -> bool {
    const ENDINGS: &[&str] = &[
        ".go", ".java", ".ts", ".tsx", ".mts", ".cts", ".js", ".mjs", ".cjs", ".py", ".rb", ".php",
        ".rs", ".c", ".h", ".cc", ".cpp",
    ];
    !file.contains(' ') && ENDINGS.iter().any(|e| file.ends_with(e))
}

fn bare(line: &str) -> &str {
    let mut line = line.trim();
    while let Some(rest) = PREFIXES.iter().find_map(|p| line.strip_prefix(p)) {
        line = rest.trim_start();
    }
    line
}

fn shortened(line: &str) -> &str {
    let mut end = line.len().min(LONGEST);
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    &line[..end]
}

/// The line without escape sequences of terminals.
fn uncoloured(line: &str) -> String {
    let mut text = String::with_capacity(line.len());
    let mut rest = line.chars();
    while let Some(c) = rest.next() {
        if c != '\u{1b}' {
            text.push(c);
        } else if rest.clone().next() == Some('[') {
            rest.by_ref().skip(1).find(|c| c.is_ascii_alphabetic());
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(output: &str, expected: Option<&str>) {
        let step = Step {
            title: "x".into(),
            command: vec!["pip".into(), "--only-binary".into()],
            env: Vec::new(),
            network: false,
        };
        let lines: Vec<String> = output.lines().map(str::to_owned).collect();
        assert_eq!(explain(&lines, &step).as_deref(), expected, "{output}");
    }

    #[test]
    fn what_is_frequent_is_said_in_one_line() {
        check(
            "Collecting x\nERROR: Could not find a version that satisfies the requirement x==9 (from versions: none)\n\
             ERROR: No matching distribution found for x==9\n",
            Some(
                "No matching distribution found for x==9; if it has no wheel, a line '--no-binary NAME' in \
                 requirements.txt lets it be built",
            ),
        );
        check(
            "npm error code E404\nnpm error 404 Not Found - GET https://host/x\nnpm error 404\nnpm error 404  'x@1' is \
             not in this registry.\nnpm error A complete log",
            Some("404  'x@1' is not in this registry"),
        );
        check(
            "npm error code EUSAGE\nnpm error\nnpm error `npm ci` can only install packages when your package.json and \
             package-lock.json or npm-shrinkwrap.json are in sync. Please update\n",
            Some(
                "`npm ci` can only install packages when your package.json and package-lock.json or npm-shrinkwrap.json \
                 are in sync. Please update",
            ),
        );
        check(
            "\u{1b}[31m✘ [ERROR] Expected identifier but found \"=\"\u{1b}[0m\n\n    index.ts:2:6:\n      2 │ const = 2;\n",
            Some("index.ts:2:6: Expected identifier but found \"=\""),
        );
        check(
            "src/a.ts(3,5): error TS2322: Type 'string' is not assignable\n",
            Some("src/a.ts:3:5: error TS2322: Type 'string' is not assignable"),
        );
        check(
            "# example.com/shop\n./main.go:4:2: declared and not used: x\n",
            Some("./main.go:4:2: declared and not used: x"),
        );
        check(
            "error[E0308]: mismatched types\n --> src/main.rs:2:17\n  |\nerror: aborting due to 1 previous error\n",
            Some("src/main.rs:2:17: mismatched types"),
        );
        check(
            "Handler.java:3: error: cannot find symbol\n        return x;\n",
            Some("Handler.java:3: error: cannot find symbol"),
        );
        check(
            "[ERROR] COMPILATION ERROR : \n[ERROR] /stage/src/main/java/H.java:[5,10] cannot find symbol\n",
            Some("src/main/java/H.java:5:10: cannot find symbol"),
        );
        check(
            "Could not find gem 'x' in rubygems repository https://host/ or installed locally.\n",
            Some(
                "Could not find gem 'x' in rubygems repository https://host/ or installed locally",
            ),
        );
        check("something else went wrong\n", None);
    }
}
