//! Python: what is listed is installed by pip into `/out/python`, which the host puts on the path behind the code.
//!
//! The code itself runs as it was sent. A lock file of another tool (uv, Poetry, Pipenv) is turned into a pinned list for
//! pip, which needs none of those tools and gives the same packages; so there is one way of installing.

mod lock;
mod project;
mod requirements;

use super::PlanError;
use super::context::{Context, authorities, manifest, program, shell, step};
use crate::plan::{Generated, Plan};
use crate::tools::ToolName;

/// Where packages go, and so where the host looks for them below `/layer`.
const TARGET: &str = "/out/python";

/// The list for pip where it is made of another file.
const LIST: &str = "tidegate-requirements.txt";

/// Lists that pip reads, and lock files of other tools, first come first.
const LOCKS: &[(&str, fn(&str, &str) -> Result<lock::Pinned, PlanError>)] = &[
    ("uv.lock", lock::uv),
    ("poetry.lock", lock::poetry),
    ("Pipfile.lock", lock::pipfile),
];

/// Compiles what was installed. By digest of the source rather than by its time, since the files of an archive have none,
/// and with the paths that there will be. Files that are no valid Python, such as templates, are left as they are.
const COMPILE: &str = r#""$1" -m compileall -q -j 1 --invalidation-mode unchecked-hash -s /out -p /layer "$2" >/dev/null 2>&1 || :"#;

/// What pip is to install.
struct List {
    /// Files of the source that it is read from.
    inputs: Vec<String>,
    /// The list itself where it is none of those.
    made: Option<String>,
    /// Which of them pip is given.
    file: String,
    hashed: bool,
    /// Says which packages may be built from source, so that this recipe does not.
    formats: bool,
    /// The list is complete, and what it leaves out was left out on purpose.
    complete: bool,
}

pub(super) fn plan(context: &mut Context<'_>) -> Result<Plan, PlanError> {
    let Some(list) = find(context)? else {
        return Ok(Plan::default());
    };
    let python = program(&*context.tool(ToolName::Python)?);
    context.tool(ToolName::Pip)?;
    let mut env = vec![
        ("XDG_CACHE_HOME", "/cache"),
        ("PIP_CACHE_DIR", "/cache/pip"),
        ("PIP_ROOT_USER_ACTION", "ignore"),
        ("PYTHONNOUSERSITE", "1"),
        ("PYTHONHASHSEED", "0"),
    ];
    env.extend(authorities("PIP_CERT"));
    let mut install: Vec<&str> = vec![
        &python,
        "-m",
        "pip",
        "install",
        "--target",
        TARGET,
        "--no-input",
        "--disable-pip-version-check",
        "--no-compile",
        "--no-warn-script-location",
        "--progress-bar",
        "off",
    ];
    // Hashes say what is fetched; only of packages that are built do they not say what is run. Who needs one of those
    // says so in the list with `--no-binary`.
    let pinned = list.hashed && !list.formats;
    if pinned {
        install.extend(["--require-hashes", "--only-binary", ":all:"]);
    }
    if list.complete {
        install.push("--no-deps");
    }
    install.extend(["-r", &list.file]);
    let steps = vec![
        step("pip install", install, &env, true),
        shell("compile packages", COMPILE, &[&python, TARGET], &env, false),
    ];
    if !list.hashed && !list.complete {
        context.note(format!(
            "{} does not pin by hash; the same folder may get newer packages later",
            list.inputs[0]
        ));
    }
    let files = list.made.map(|content| Generated {
        path: LIST.into(),
        content,
    });
    Ok(Plan {
        dependencies: Some(context.dependencies(
            // What a list was made of does not matter beside the list.
            if files.is_some() {
                Vec::new()
            } else {
                list.inputs
            },
            files.into_iter().collect(),
            pinned,
            steps,
        )?),
        ..Plan::default()
    })
}

fn find(context: &mut Context<'_>) -> Result<Option<List>, PlanError> {
    for file in ["requirements.lock", "requirements.txt"] {
        if let Some(text) = context.read(file)? {
            let read = requirements::read(context, file, &text)?;
            return Ok((!read.empty).then_some(List {
                inputs: read.inputs,
                made: None,
                file: file.into(),
                hashed: read.hashed,
                formats: read.formats,
                complete: false,
            }));
        }
    }
    for (file, parse) in LOCKS {
        let Some(text) = context.read(file)? else {
            continue;
        };
        let pinned = parse(file, &text)?;
        return Ok((!pinned.lines.is_empty()).then(|| List {
            inputs: vec![(*file).to_owned()],
            made: Some(pinned.lines.join("\n") + "\n"),
            file: LIST.into(),
            hashed: pinned.hashed,
            formats: pinned.sources,
            complete: true,
        }));
    }
    if context.has("pylock.toml") {
        return Err(manifest(
            "pylock.toml",
            "is not supported; export it as requirements.txt (uv: uv pip compile pylock.toml -o requirements.txt)",
        ));
    }
    if let Some(text) = context.read("pyproject.toml")? {
        let lines = project::requirements(&text)?;
        return Ok((!lines.is_empty()).then(|| List {
            inputs: vec!["pyproject.toml".into()],
            made: Some(lines.join("\n") + "\n"),
            file: LIST.into(),
            hashed: false,
            formats: false,
            complete: false,
        }));
    }
    for file in ["Pipfile", "setup.py", "setup.cfg"] {
        if context.has(file) {
            context.note(format!(
                "{file} is not read; list what has to be installed in requirements.txt"
            ));
        }
    }
    Ok(None)
}
