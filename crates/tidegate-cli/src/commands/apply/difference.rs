//! What would change, as a difference of two texts.

use serde_json::{Value as Json, json};
use similar::TextDiff;

use super::one::tidied;

/// Lines shown around each change.
const AROUND: usize = 2;

/// Parts of a variable's name that say that its value is nobody's business.
const TELLING: [&str; 9] = [
    "SECRET",
    "TOKEN",
    "PASSWORD",
    "PASSWD",
    "PASSPHRASE",
    "CREDENTIAL",
    "KEY",
    "AUTH",
    "DSN",
];

/// The difference from what is there to what is wanted, as the lines of a unified diff without its head.
pub(super) fn difference(there: Option<&Json>, wanted: &Json) -> String {
    let before = there.map(shown);
    let mut after = shown(wanted);
    hide(before.as_ref(), &mut after);
    let before = before.map_or_else(String::new, |mut b| {
        hide(None, &mut b);
        yaml(&b)
    });
    let after = yaml(&after);
    let diff = TextDiff::from_lines(&before, &after);
    let mut unified = diff.unified_diff();
    unified.context_radius(AROUND);
    unified
        .iter_hunks()
        .map(|hunk| hunk.to_string())
        .collect::<String>()
        .replace("\\ No newline at end of file\n", "")
}

/// What people wrote of a document.
fn shown(document: &Json) -> Json {
    tidied(&json!({
        "labels": document.pointer("/metadata/labels"),
        "annotations": document.pointer("/metadata/annotations"),
        "spec": document.get("spec"),
    }))
}

/// Puts a remark in the place of values that should not be read over a shoulder or in a build's log.
fn hide(before: Option<&Json>, document: &mut Json) {
    for at in ["/spec/env", "/spec/build/env"] {
        let Some(Json::Object(variables)) = document.pointer_mut(at) else {
            continue;
        };
        for (name, value) in variables {
            let upper = name.to_ascii_uppercase();
            if !TELLING.iter().any(|t| upper.contains(t)) {
                continue;
            }
            let earlier = before.and_then(|b| b.pointer(at)?.get(name));
            let other = earlier.is_some_and(|e| e != value);
            *value = json!(if other {
                "(not shown, and another)"
            } else {
                "(not shown)"
            });
        }
    }
}

fn yaml(value: &Json) -> String {
    // Every JSON value is a YAML value, so that what is left to go wrong is a bug of the writer.
    serde_saphyr::to_string(value).unwrap_or_else(|_| format!("{value:#}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_speak_of_secrets_are_not_shown() {
        let there =
            json!({ "spec": { "env": { "API_KEY": "old", "MODE": "a", "DB_PASSWORD": "same" } } });
        let wanted =
            json!({ "spec": { "env": { "API_KEY": "new", "MODE": "b", "DB_PASSWORD": "same" } } });
        let told = difference(Some(&there), &wanted);
        for secret in ["old", "new", "same"] {
            assert!(!told.contains(secret), "{told}");
        }
        assert!(told.contains("-    MODE: a\n+    MODE: b\n"), "{told}");
        assert!(
            told.contains("+    API_KEY: (not shown, and another)"),
            "{told}"
        );
    }
}
