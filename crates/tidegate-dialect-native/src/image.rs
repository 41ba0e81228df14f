//! What a document says of an image.

use tidegate_core::Probe;
use tidegate_platform::{ImageName, ImageUse, LowerError};

use crate::document::{Code, FunctionSpec};

/// The runtime of functions that are images.
pub(crate) const RUNTIME: &str = "image";

/// Most words of a command, and the most bytes of them together: what the kernel gives a process leaves room beside.
const MAX_WORDS: usize = 500;
const MAX_WORD_BYTES: usize = 96 * 1024;

/// Most secrets with credentials.
const MAX_PULL_SECRETS: usize = 16;

/// Longest path, user and name, in bytes: as the kernel's, and as registries'.
const MAX_TEXT: usize = 4095;

/// The image that the document names in place of code, if it names one.
pub(crate) fn image(spec: &FunctionSpec) -> Result<Option<ImageUse>, LowerError> {
    let Some(name) = &spec.image else {
        return Ok(None);
    };
    let wrong = |field: &str, why: String| LowerError::new(format!("spec.{field}"), why);
    let named: ImageName = name
        .parse()
        .map_err(|e| wrong("image", format!("{e}; expected one such as alpine:3")))?;
    if !spec.code.is_absent() {
        return Err(wrong(
            "image",
            "is given beside 'code': leave one of them out".to_owned(),
        ));
    }
    if !matches!(&*spec.runtime, "" | RUNTIME) {
        return Err(wrong(
            "runtime",
            format!(
                "{:?} runs code, and an image brings its own: leave 'runtime' out, or make a runtime of the image with 'tidegate runtime add'",
                spec.runtime
            ),
        ));
    }
    for (field, is_there) in [
        ("handler", spec.handler.is_some()),
        ("build", spec.build.is_some()),
    ] {
        if is_there {
            return Err(wrong(field, "is not for images: leave it out".to_owned()));
        }
    }
    if let Some(word) = spec.contract.as_deref()
        && !matches!(word, "http" | "stdio")
    {
        return Err(wrong(
            "contract",
            format!(
                "{word:?} is not for images: choose 'http' (a server) or 'stdio' (a process a call)"
            ),
        ));
    }
    let all = || spec.command.iter().chain(&spec.args);
    let bytes: usize = all().map(|word| word.len() + 1).sum();
    if all().count() > MAX_WORDS || bytes > MAX_WORD_BYTES {
        return Err(wrong(
            "command",
            format!(
                "has {} words of {bytes} bytes together with 'args'; at most {MAX_WORDS} of {MAX_WORD_BYTES} bytes are passed",
                all().count()
            ),
        ));
    }
    let has_nul = |text: &str| text.contains('\0');
    if spec.command.first().is_some_and(String::is_empty) || all().any(|word| has_nul(word)) {
        return Err(wrong(
            "command",
            "begins with an empty word, or has a NUL character".to_owned(),
        ));
    }
    if let Some(path) = &spec.workdir
        && (!path.starts_with('/') || path.len() > MAX_TEXT || has_nul(path))
    {
        return Err(wrong(
            "workdir",
            format!("{path:?} is not an absolute path such as /app"),
        ));
    }
    if let Some(user) = &spec.user
        && (user.is_empty() || user.len() > MAX_TEXT || user.chars().any(char::is_control))
    {
        return Err(wrong(
            "user",
            format!(
                "{user:?} is neither a name or number such as app, nor one with a group such as 1000:100"
            ),
        ));
    }
    if spec.port == Some(0) {
        return Err(wrong("port", "0 is none; expected 1 to 65535".to_owned()));
    }
    if let Some(path) = &spec.ready_path
        && (!path.starts_with('/') || path.parse::<http::Uri>().is_err())
    {
        return Err(wrong(
            "readyPath",
            format!("{path:?} is not a path such as /healthz"),
        ));
    }
    if spec.pull_secrets.len() > MAX_PULL_SECRETS {
        return Err(wrong(
            "pullSecrets",
            format!(
                "names {} secrets; at most {MAX_PULL_SECRETS} are looked at",
                spec.pull_secrets.len()
            ),
        ));
    }
    Ok(Some(ImageUse {
        name: name.clone(),
        // Written beside the name, it is the image, whatever else was known.
        digest: named
            .digest()
            .map(ToString::to_string)
            .or_else(|| spec.image_digest.clone()),
        command: spec.command.clone(),
        args: spec.args.clone(),
        workdir: spec.workdir.clone(),
        user: spec.user.clone(),
        read_only: spec.read_only_root.unwrap_or(true),
        contract: spec.contract.clone(),
        port: spec.port,
        ready: spec.ready_path.clone().map(|path| Probe {
            path,
            may_be_missing: false,
        }),
        pull_secrets: spec.pull_secrets.clone(),
    }))
}

/// Refuses what only images have, and that there is neither an image nor code.
pub(crate) fn none(spec: &FunctionSpec) -> Result<(), LowerError> {
    if spec.runtime.is_empty() {
        return Err(LowerError::new(
            "spec.runtime",
            "is missing; name who runs the code, such as python, or give an 'image' in place of code",
        ));
    }
    if spec.runtime == RUNTIME {
        return Err(LowerError::new(
            "spec.image",
            "is missing; runtime \"image\" runs one",
        ));
    }
    if spec.code == Code::default() {
        return Err(LowerError::new(
            "spec.code",
            "is missing; give 'code', or an 'image' in its place",
        ));
    }
    for (field, is_there) in [
        ("command", !spec.command.is_empty()),
        ("args", !spec.args.is_empty()),
        ("workdir", spec.workdir.is_some()),
        ("user", spec.user.is_some()),
        ("readOnlyRoot", spec.read_only_root.is_some()),
        ("port", spec.port.is_some()),
        ("readyPath", spec.ready_path.is_some()),
        ("pullSecrets", !spec.pull_secrets.is_empty()),
    ] {
        if is_there {
            return Err(LowerError::new(
                format!("spec.{field}"),
                "is for images, and this function names none in 'image'",
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde::Deserialize as _;

    use super::*;

    fn of(more: &serde_json::Value) -> Result<ImageUse, String> {
        let mut whole = serde_json::json!({ "image": "alpine:3" });
        for (key, value) in more.as_object().unwrap() {
            whole[key] = value.clone();
        }
        let spec = FunctionSpec::deserialize(&whole).map_err(|e| e.to_string())?;
        crate::lower::spec_of(&spec).map_err(|e| e.to_string())?;
        Ok(image(&spec).map_err(|e| e.to_string())?.unwrap())
    }

    #[test]
    fn an_image_stands_in_place_of_code() {
        let plain = of(&serde_json::json!({})).unwrap();
        assert_eq!((&*plain.name, plain.digest), ("alpine:3", None));
        assert!(plain.read_only);
        let digest = format!("sha256:{}", "a".repeat(64));
        let other = format!("sha256:{}", "b".repeat(64));
        let known = of(&serde_json::json!({ "imageDigest": other })).unwrap();
        assert_eq!(known.digest, Some(other.clone()));
        let written =
            serde_json::json!({ "image": format!("alpine@{digest}"), "imageDigest": other });
        assert_eq!(of(&written).unwrap().digest, Some(digest));
    }

    #[test]
    fn errors_name_the_field_the_value_and_what_would_do() {
        for (more, parts) in [
            (
                serde_json::json!({ "image": "A B" }),
                ["spec.image", "A B", "alpine:3"],
            ),
            (
                serde_json::json!({ "code": { "digest": "sha256:1", "entry": "a" } }),
                ["spec.image", "code", "leave one"],
            ),
            (
                serde_json::json!({ "runtime": "python" }),
                ["spec.runtime", "python", "runtime add"],
            ),
            (
                serde_json::json!({ "handler": "a" }),
                ["spec.handler", "images", "leave"],
            ),
            (
                serde_json::json!({ "contract": "host" }),
                ["spec.contract", "host", "http"],
            ),
            (
                serde_json::json!({ "workdir": "app" }),
                ["spec.workdir", "app", "/app"],
            ),
            (
                serde_json::json!({ "user": "" }),
                ["spec.user", "\"\"", "1000:100"],
            ),
            (
                serde_json::json!({ "port": 0 }),
                ["spec.port", "0", "65535"],
            ),
            (
                serde_json::json!({ "readyPath": "up" }),
                ["spec.readyPath", "up", "/healthz"],
            ),
            (
                serde_json::json!({ "command": [""] }),
                ["spec.command", "empty", "word"],
            ),
            (
                serde_json::json!({ "image": null }),
                ["spec.runtime", "missing", "image"],
            ),
            (
                serde_json::json!({ "image": null, "runtime": "image" }),
                ["spec.image", "missing", "image"],
            ),
            (
                serde_json::json!({ "image": null, "runtime": "python" }),
                ["spec.code", "missing", "image"],
            ),
            (
                serde_json::json!({ "image": null, "runtime": "python", "port": 1, "code": { "digest": "sha256:1", "entry": "a" } }),
                ["spec.port", "images", "image"],
            ),
        ] {
            let error = of(&more).unwrap_err();
            for part in parts {
                assert!(error.contains(part), "{more}: {error:?} lacks {part:?}");
            }
        }
    }
}
