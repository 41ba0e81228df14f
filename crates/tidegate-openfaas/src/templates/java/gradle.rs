//! What a `build.gradle` of a handler says, as far as it can be told without Gradle.
//!
//! The file is a program. Those of handlers hold a list of dependencies, repositories and the language's level, and those
//! are read; what is known to have no effect on the result is passed over; every other statement is told of, with its line.

use std::collections::BTreeMap;

/// What is read of a file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Gradle {
    /// In the order of the file.
    pub(super) dependencies: Vec<Dependency>,
    /// Addresses of repositories besides Maven's central one.
    pub(super) repositories: Vec<String>,
    /// `11`, where the file says which Java the source is.
    pub(super) level: Option<String>,
    /// Statements that have no effect here: their line, and their text.
    pub(super) unread: Vec<(usize, String)>,
}

/// One library.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Dependency {
    pub(super) group: String,
    pub(super) name: String,
    pub(super) version: String,
    pub(super) classifier: Option<String>,
    /// Maven's word for when it is there.
    pub(super) scope: &'static str,
}

/// Blocks and statements that change nothing of the classes that run.
const HARMLESS: &[&str] = &[
    "apply",
    "archivesBaseName",
    "artifacts",
    "buildscript",
    "compileTestJava",
    "description",
    "distributions",
    "group",
    "jacoco",
    "jacocoTestReport",
    "jar",
    "javadoc",
    "plugins",
    "publishing",
    "rootProject",
    "signing",
    "test",
    "uploadArchives",
    "version",
    "wrapper",
];

/// Plugins with the same property.
const HARMLESS_PLUGINS: &[&str] = &[
    "java",
    "java-library",
    "application",
    "distribution",
    "eclipse",
    "idea",
    "jacoco",
    "maven",
    "maven-publish",
    "signing",
    "com.github.johnrengelman.shadow",
    "com.gradleup.shadow",
];

/// Most characters of a statement that are repeated to the user.
const SHOWN: usize = 60;

/// Reads the file.
pub(super) fn read(text: &str) -> Gradle {
    let text = without_comments(text);
    let variables = variables(&text);
    let mut gradle = Gradle::default();
    let mut blocks: Vec<String> = Vec::new();
    for (at, statement) in statements(&text) {
        let closing = statement == "}";
        let opens = statement.ends_with('{');
        if closing {
            blocks.pop();
            continue;
        }
        let word: String = statement
            .chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_' || *c == '-')
            .collect();
        let outer = blocks.first().map_or("", String::as_str);
        let read = match outer {
            "dependencies" if blocks.len() == 1 => gradle.dependency(&statement, &word, &variables),
            // `exclude` and the like belong to a dependency that was read without them.
            "dependencies" => false,
            "repositories" => {
                gradle.repository(&statement, &variables);
                true
            }
            "plugins" => plugin(&statement),
            "ext" | "java" | "sourceCompatibility" | "targetCompatibility" => true,
            "" => match &*word {
                "dependencies" | "repositories" | "ext" | "java" => true,
                "apply" => plugin(&statement),
                "sourceCompatibility" | "targetCompatibility" | "def" => true,
                // The tests of a handler are not run here.
                "tasks" => statement.contains("(Test)") || statement.contains("'test'"),
                _ => HARMLESS.contains(&&*word) || is_assignment(&statement, &word),
            },
            other => HARMLESS.contains(&other) || other == "tasks",
        };
        if let Some(level) = level(&statement, &word) {
            gradle.level = Some(level);
        }
        if !read {
            let text = statement.trim_end_matches('{').trim();
            gradle.unread.push((at, text.chars().take(SHOWN).collect()));
        }
        if opens {
            // An unread block is told of once.
            blocks.push(if read || outer == "dependencies" {
                word
            } else {
                "jar".to_owned()
            });
        }
    }
    gradle
}

impl Gradle {
    /// Reads one line of `dependencies`. Whether it has been understood.
    fn dependency(&mut self, line: &str, word: &str, variables: &BTreeMap<String, String>) -> bool {
        let scope = match word {
            "implementation" | "api" | "compile" => "compile",
            "runtimeOnly" | "runtime" => "runtime",
            "compileOnly" | "annotationProcessor" | "compileOnlyApi" => "provided",
            _ if word.starts_with("test") => return true,
            _ => return false,
        };
        // The program's own modules, from the days before they were on Maven Central.
        if line.contains("project(") {
            let known = [":model", ":entrypoint"];
            return known.iter().any(|name| line.contains(name));
        }
        let scope = if line.contains("platform(") {
            "import"
        } else {
            scope
        };
        let strings = strings(line, variables);
        let has_map = line.contains("group:") || line.contains("group :");
        let found = if has_map {
            let value = |key: &str| map_value(line, key, variables);
            match (value("group"), value("name"), value("version")) {
                (Some(group), Some(name), Some(version)) => {
                    vec![(group, name, version, value("classifier"))]
                }
                _ => return false,
            }
        } else {
            let mut found = Vec::new();
            for text in strings {
                let parts: Vec<&str> = text.split('@').next().unwrap_or("").split(':').collect();
                match parts[..] {
                    [group, name, version] => {
                        found.push((group.into(), name.into(), version.into(), None));
                    }
                    [group, name, version, classifier] => {
                        found.push((
                            group.into(),
                            name.into(),
                            version.into(),
                            Some(classifier.into()),
                        ));
                    }
                    // The version is a platform's to say.
                    [group, name] => {
                        found.push((group.into(), name.into(), String::new(), None));
                    }
                    _ => return false,
                }
            }
            found
        };
        if found.is_empty() || found.iter().any(|(g, n, v, c)| !all_plain([g, n, v], c)) {
            return false;
        }
        self.dependencies
            .extend(
                found
                    .into_iter()
                    .map(|(group, name, version, classifier)| Dependency {
                        group,
                        name,
                        version,
                        classifier,
                        scope,
                    }),
            );
        // What a closure leaves out is left in.
        !line.ends_with('{') || !line.contains("exclude")
    }

    fn repository(&mut self, line: &str, variables: &BTreeMap<String, String>) {
        if line.starts_with("google()") {
            self.repositories
                .push("https://maven.google.com/".to_owned());
        } else if line.contains("url") {
            let found = strings(line, variables);
            self.repositories.extend(
                found
                    .into_iter()
                    .filter(|url| url.starts_with("https://") || url.starts_with("http://")),
            );
        }
    }
}

fn all_plain(parts: [&String; 3], classifier: &Option<String>) -> bool {
    let plain = |text: &String| {
        text.chars()
            .all(|c| c.is_ascii_alphanumeric() || "-._+[](),".contains(c))
    };
    let [group, name, _] = parts;
    !group.is_empty()
        && !name.is_empty()
        && parts.into_iter().all(plain)
        && classifier.as_ref().is_none_or(plain)
}

fn plugin(statement: &str) -> bool {
    let words = strings(statement, &BTreeMap::new());
    statement.ends_with('{')
        || words
            .first()
            .is_some_and(|name| HARMLESS_PLUGINS.contains(&name.as_str()))
}

fn is_assignment(statement: &str, word: &str) -> bool {
    // Values are read where they are used.
    let rest = statement[word.len()..].trim_start();
    rest.starts_with('=') && !rest.starts_with("==") || statement.starts_with("ext.")
}

/// The Java that a statement names.
fn level(statement: &str, word: &str) -> Option<String> {
    let names =
        matches!(word, "sourceCompatibility" | "release") || statement.contains("languageVersion");
    if !names {
        return None;
    }
    let (_, value) = statement.split_once(['=', ' ', '('])?;
    let value = value.replace("VERSION_", "").replace("1_", "1.");
    let digits: String = value
        .chars()
        .skip_while(|c| !c.is_ascii_digit())
        .take_while(|c| c.is_ascii_digit() || *c == '.')
        .collect();
    let digits = digits.trim_start_matches("1.").trim_end_matches('.');
    (!digits.is_empty() && digits.len() <= 2).then(|| digits.to_owned())
}

/// Values that are given a name: `def v = '1'`, `ext.v = "1"`, `v = '1'`.
fn variables(text: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for (_, statement) in statements(text) {
        let Some((name, value)) = statement.split_once('=') else {
            continue;
        };
        let name = name.trim();
        let name = name
            .strip_prefix("def ")
            .or_else(|| name.strip_prefix("String "))
            .or_else(|| name.strip_prefix("ext."))
            .unwrap_or(name)
            .trim();
        let value = value.trim();
        let is_word = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_');
        if is_word && let [only] = &strings(value, &BTreeMap::new())[..] {
            found.insert(name.to_owned(), only.clone());
        }
    }
    found
}

/// String literals of a line, with variables in double-quoted ones replaced.
fn strings(line: &str, variables: &BTreeMap<String, String>) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = line;
    while let Some(at) = rest.find(['\'', '"']) {
        let quote = rest[at..].chars().next().unwrap_or('"');
        let inner = &rest[at + 1..];
        let Some(end) = inner.find(quote) else { break };
        let text = &inner[..end];
        found.push(if quote == '"' {
            interpolated(text, variables)
        } else {
            text.to_owned()
        });
        rest = &inner[end + 1..];
    }
    found
}

fn interpolated(text: &str, variables: &BTreeMap<String, String>) -> String {
    let mut said = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        said.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        let (name, left) = match after.strip_prefix('{').and_then(|a| a.split_once('}')) {
            Some((name, left)) => (name.to_owned(), left),
            None => {
                let name: String = after
                    .chars()
                    .take_while(|c| c.is_alphanumeric() || *c == '_')
                    .collect();
                let left = &after[name.len()..];
                (name, left)
            }
        };
        let name = name
            .trim_start_matches("rootProject.")
            .trim_start_matches("ext.");
        match variables.get(name) {
            Some(value) => said.push_str(value),
            // Not a plain word, so that the line is told of.
            None => said.push_str(&format!("${name}")),
        }
        rest = left;
    }
    said + rest
}

/// `name: 'guava'`, or `name: v` with a variable.
fn map_value(line: &str, key: &str, variables: &BTreeMap<String, String>) -> Option<String> {
    for separator in [":", " :"] {
        let marker = format!("{key}{separator}");
        if let Some((_, rest)) = line.split_once(&marker) {
            let rest = rest.trim_start();
            if rest.starts_with(['\'', '"']) {
                return strings(rest, variables).into_iter().next();
            }
            let name: String = rest
                .chars()
                .take_while(|c| c.is_alphanumeric() || *c == '_')
                .collect();
            return variables.get(&name).cloned();
        }
    }
    None
}

/// Statements with their lines: one a line, a brace that opens a block at its end, one that closes it alone, and what
/// stands between parentheses or after a comma in one piece.
fn statements(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut statement = String::new();
    let mut begun = 1;
    let mut depth = 0_usize;
    let mut quote = None;
    let mut push = |at: usize, statement: &mut String| {
        let whole = statement.trim().to_owned();
        statement.clear();
        if !whole.is_empty() {
            found.push((at, whole));
        }
    };
    for (at, line) in text.lines().enumerate() {
        // A string never goes on on the next line.
        quote = quote.filter(|_| false);
        for c in line.chars() {
            if statement.trim().is_empty() {
                begun = at + 1;
            }
            match (quote, c) {
                (Some(open), c) => {
                    statement.push(c);
                    if c == open {
                        quote = None;
                    }
                }
                (None, '\'' | '"') => {
                    quote = Some(c);
                    statement.push(c);
                }
                (None, '(' | '[') => {
                    depth += 1;
                    statement.push(c);
                }
                (None, ')' | ']') => {
                    depth = depth.saturating_sub(1);
                    statement.push(c);
                }
                (None, '{') if depth == 0 => {
                    statement.push('{');
                    push(begun, &mut statement);
                }
                (None, '}') if depth == 0 => {
                    push(begun, &mut statement);
                    statement.push('}');
                    push(at + 1, &mut statement);
                }
                (None, ';') if depth == 0 => push(begun, &mut statement),
                (None, c) => statement.push(c),
            }
        }
        let goes_on = depth > 0 || statement.trim_end().ends_with([',', '=', '+', '\\']);
        if goes_on {
            statement.push(' ');
        } else {
            push(begun, &mut statement);
        }
    }
    push(begun, &mut statement);
    found
}

/// The text with comments blanked, lines kept.
fn without_comments(text: &str) -> String {
    let mut said = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    let mut quote = None;
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(open), c) => {
                said.push(c);
                if c == '\\' {
                    said.extend(chars.next());
                } else if c == open || c == '\n' {
                    quote = None;
                }
            }
            (None, '\'' | '"') => {
                quote = Some(c);
                said.push(c);
            }
            (None, '/') if chars.peek() == Some(&'/') => {
                while chars.next_if(|c| *c != '\n').is_some() {}
            }
            (None, '/') if chars.peek() == Some(&'*') => {
                chars.next();
                let mut last = ' ';
                for c in chars.by_ref() {
                    if c == '\n' {
                        said.push('\n');
                    }
                    if last == '*' && c == '/' {
                        break;
                    }
                    last = c;
                }
            }
            (None, c) => said.push(c),
        }
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Dependencies as `scope group:name:version`, then what was not read as `line: text`.
    fn check(text: &str, expected: &[&str]) {
        let gradle = read(text);
        let said: Vec<String> = gradle
            .dependencies
            .iter()
            .map(|d| {
                let classifier = d.classifier.as_ref().map(|c| format!(":{c}"));
                format!(
                    "{} {}:{}:{}{}",
                    d.scope,
                    d.group,
                    d.name,
                    d.version,
                    classifier.unwrap_or_default()
                )
            })
            .chain(
                gradle
                    .unread
                    .iter()
                    .map(|(at, text)| format!("{at}: {text}")),
            )
            .collect();
        assert_eq!(said, expected, "{text}");
    }

    #[test]
    fn a_file_like_those_of_the_templates() {
        check(
            "/* made\n * by init */\nplugins {\n    // library\n    id 'java-library'\n    id 'distribution'\n}\n\n\
             dependencies {\n    api 'org.apache.commons:commons-math3:3.6.1'\n    // x 'y'\n    implementation \"com.google.guava:guava:23.0\"\n\
             \n    testImplementation 'junit:junit:4.12'\n    compile 'com.openfaas:model:0.1.1'\n}\n\n\
             repositories {\n    jcenter()\n    flatDir {\n        dirs '../libs'\n    }\n}\n\n\
             jar {\n    manifest {\n        attributes 'A': 'b',\n                   'C': 'd'\n    }\n}\n\n\
             distributions {\n    main {\n        contents {\n            from jar\n            into('lib') {\n                from(project.configurations.runtime)\n            }\n        }\n    }\n}\n",
            &[
                "compile org.apache.commons:commons-math3:3.6.1",
                "compile com.google.guava:guava:23.0",
                "compile com.openfaas:model:0.1.1",
            ],
        );
    }

    #[test]
    fn dependencies_in_all_their_forms() {
        check(
            "def v = '4.1.2'\next.w = \"1.0\"\next {\n  x = '2'\n}\ndependencies {\n\
             implementation(\"a:b:$v\")\nimplementation group: 'c', name: 'd', version: '1'\n\
             runtimeOnly \"e:f:${w}\"\ncompileOnly group: 'g',\n   name: 'h',\n   version: x\n\
             implementation 'i:j:1:linux@jar', 'k:l:2'\nimplementation platform('m:n:3')\nimplementation 'o:p'\n\
             implementation project(':model')\ntestCompile 'q:r:1'\n}\n",
            &[
                "compile a:b:4.1.2",
                "compile c:d:1",
                "runtime e:f:1.0",
                "provided g:h:2",
                "compile i:j:1:linux",
                "compile k:l:2",
                "import m:n:3",
                "compile o:p:",
            ],
        );
    }

    #[test]
    fn what_has_no_effect_is_told_with_its_line() {
        check(
            "plugins {\n  id 'java'\n  id 'org.springframework.boot' version '2.7.0'\n}\ndependencies {\n\
             implementation files('libs/x.jar')\nimplementation \"a:b:$missing\"\nimplementation('c:d:1') {\n  exclude group: 'x'\n}\n}\n\
             task generate(type: Exec) {\n  commandLine 'x'\n}\nnonsense <<>> }}}\n",
            &[
                "compile c:d:1",
                "3: id 'org.springframework.boot' version '2.7.0'",
                "6: implementation files('libs/x.jar')",
                "7: implementation \"a:b:$missing\"",
                "9: exclude group: 'x'",
                "12: task generate(type: Exec)",
                "15: nonsense <<>>",
            ],
        );
    }

    #[test]
    fn levels_and_repositories() {
        for (text, level) in [
            ("sourceCompatibility = 1.8\n", Some("8")),
            ("sourceCompatibility = '11'\n", Some("11")),
            ("sourceCompatibility = JavaVersion.VERSION_17\n", Some("17")),
            (
                "java {\n sourceCompatibility JavaVersion.VERSION_1_8\n}\n",
                Some("8"),
            ),
            (
                "java {\n toolchain {\n languageVersion = JavaLanguageVersion.of(17)\n}\n}\n",
                Some("17"),
            ),
            ("version = '1.0'\n", None),
        ] {
            assert_eq!(read(text).level.as_deref(), level, "{text}");
            assert_eq!(read(text).unread, [], "{text}");
        }
        let gradle = read(
            "repositories {\n mavenCentral()\n maven {\n url \"https://repo.example/m2\"\n }\n maven { url = uri('https://other.example') }\n}\n",
        );
        assert_eq!(
            gradle.repositories,
            ["https://repo.example/m2", "https://other.example"]
        );
        assert_eq!(gradle.unread, []);
    }

    #[test]
    fn nothing_that_is_read_panics() {
        let text = "dependencies {\n implementation \"a:b:${v\"\n}\n/* x";
        for end in 0..=text.len() {
            read(&text[..end]);
        }
        read("'\n\"\n)))]]}}}\n{{{((");
    }
}
