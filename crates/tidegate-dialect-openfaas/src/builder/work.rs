//! From the archive of a context to an image.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::sync::Arc;

use tidegate_build::{UnpackError, UnpackLimits};
use tidegate_core::{Build, Code};
use tidegate_openfaas::build::{CONFIG_ENTRY, CONTEXT_ENTRY, SECRETS_ENTRY};
use tidegate_openfaas::{BuildConfig, Image, Prepared, templates};
use tidegate_platform::{BuildOutput, BuildSource, Scratch};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::answer::Outcome;
use super::{Builder, secrets};
use crate::images;

/// The archive, in the folder of work.
pub(super) const ARCHIVE: &str = "context.tar";

/// What it was unpacked to.
const UNPACKED: &str = "unpacked";

/// What the template made of it.
const TREE: &str = "tree";

/// Largest configuration in bytes: a name, and arguments that are words.
const MAX_CONFIG: u64 = 64 << 10;

/// Largest sealed secrets in bytes: some certificates and tokens, in base64.
const MAX_SEALED: u64 = 1 << 20;

/// Longest name of an image in bytes, twice what registries take.
const MAX_IMAGE: usize = 512;

/// Longest name of a build in bytes, which is part of a host name.
const MAX_BUILD_NAME: usize = 40;

/// The argument that names packages of the system.
const ADDITIONAL_PACKAGE: &str = "ADDITIONAL_PACKAGE";

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
enum WorkError {
    /// It is a trap, or damaged.
    #[error("the build context cannot be unpacked: {0}")]
    Unpack(#[from] UnpackError),
    /// It is not what it should be.
    #[error("{0}")]
    Context(String),
    /// See [`templates::TemplateError`].
    #[error(transparent)]
    Template(#[from] templates::TemplateError),
    /// See [`tidegate_openfaas::seal::SealError`].
    #[error(transparent)]
    Seal(#[from] tidegate_openfaas::seal::SealError),
    /// See [`tidegate_platform::BuildFailure`].
    #[error(transparent)]
    Build(#[from] tidegate_platform::BuildFailure),
    /// The store's answer.
    #[error(transparent)]
    Platform(#[from] tidegate_platform::Error),
    /// The machine's disk.
    #[error("the builder's folder: {0}")]
    Disk(#[from] io::Error),
}

/// What lies beside a context.
struct Described {
    config: BuildConfig,
    sealed: Option<Vec<u8>>,
    template: templates::TemplateFile,
}

/// Makes an image of the archive in the folder of work. `room` is given back when nothing of it lies on the disk any more.
pub(super) async fn run(
    builder: Arc<Builder>,
    scratch: Scratch,
    room: OwnedSemaphorePermit,
    output: BuildOutput,
) -> Outcome {
    let mut image = String::new();
    let made = make(&builder, scratch, room, &output, &mut image).await;
    Outcome {
        image,
        error: made.err().map(|error| error.to_string()),
    }
}

async fn make(
    builder: &Builder,
    scratch: Scratch,
    room: OwnedSemaphorePermit,
    output: &BuildOutput,
    image: &mut String,
) -> Result<(), WorkError> {
    let began = Instant::now();
    let platform = builder.openfaas.platform();
    let (archive, unpacked) = (scratch.path(ARCHIVE), scratch.path(UNPACKED));
    let described = blocking({
        let unpacked = unpacked.clone();
        move || unpack(&archive, &unpacked)
    });
    let Described {
        config,
        sealed,
        template,
    } = described.await?;
    check_image(&config.image)?;
    image.clone_from(&config.image);
    check_platforms(&config.platforms, &here(), output)?;
    let folder = template.handler_folder.as_deref().unwrap_or("function");
    output.note(format!(
        "template {}: handler in {}",
        template.language,
        Path::new(".").join(folder).display()
    ));
    if let Some(packages) = config.build_args.get(ADDITIONAL_PACKAGE)
        && !packages.trim().is_empty()
    {
        output.note(format!(
            "{ADDITIONAL_PACKAGE} ({}) has no effect: packages of the system are those of this machine",
            packages.trim()
        ));
    }
    let (context, tree) = (unpacked.join(CONTEXT_ENTRY), scratch.path(TREE));
    let (prepare, from) = (builder.prepare, config.clone());
    let prepared = blocking({
        let tree = tree.clone();
        move || {
            std::fs::create_dir(&tree)?;
            Ok::<_, WorkError>(prepare(&context, &from, &tree)?)
        }
    });
    let mut prepared = prepared.await?;
    for note in std::mem::take(&mut prepared.notes) {
        output.note(note);
    }
    require_runtime(builder, &prepared)?;
    let digest = platform.keep_folder(&tree).await?;
    scratch.remove().await;
    drop(room);

    let mut source = source(&config.image, &prepared, digest.to_string());
    if let Some(sealed) = sealed {
        let opened = super::key(platform).await?.open(&sealed)?;
        secrets::give(opened, &mut source, output).map_err(WorkError::Context)?;
    }
    let built = platform.build(&source, output).await?;
    prepared.entry.clone_from(&built.code.entry);
    prepared.handler = built.handler;
    prepared.build = Build {
        skip: true,
        ..Build::default()
    };
    let made = Image {
        name: config.image,
        digest: built.code.digest,
        layer: built.code.layer,
        prepared,
    };
    // A sweep in between may have taken what was stored long before.
    for digest in [Some(&made.digest), made.layer.as_ref()]
        .into_iter()
        .flatten()
    {
        let parsed = digest.parse().map_err(tidegate_platform::Error::from)?;
        if !platform.has_code(&parsed).await? {
            let gone = format!("code {digest} went while it was built; build again");
            return Err(WorkError::Context(gone));
        }
    }
    images::put(platform, &made).await?;
    let took = began.elapsed().as_secs_f64();
    output.note(format!("image {} is ready ({took:.1} s)", made.name));
    Ok(())
}

/// Unpacks the archive, and reads what lies beside the context. Blocks.
fn unpack(archive: &Path, to: &Path) -> Result<Described, WorkError> {
    let file = io::BufReader::new(File::open(archive)?);
    tidegate_build::unpack_tar(file, to, &UnpackLimits::default())?;
    let config = read(&to.join(CONFIG_ENTRY), MAX_CONFIG)?.ok_or_else(|| {
        WorkError::Context(format!(
            "the build context comes without {CONFIG_ENTRY:?}, which names the image"
        ))
    })?;
    let config = serde_json::from_slice(&config)
        .map_err(|error| WorkError::Context(format!("{CONFIG_ENTRY}: {error}")))?;
    let context = to.join(CONTEXT_ENTRY);
    if !context.is_dir() {
        return Err(WorkError::Context(format!(
            "the archive has no folder {CONTEXT_ENTRY:?} with the build context"
        )));
    }
    Ok(Described {
        config,
        sealed: read(&to.join(SECRETS_ENTRY), MAX_SEALED)?,
        template: templates::template(&context)?,
    })
}

/// A file of at most so many bytes. `None` where there is none.
fn read(path: &Path, most: u64) -> Result<Option<Vec<u8>>, WorkError> {
    let name = || path.file_name().unwrap_or_default().to_string_lossy();
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let mut bytes = Vec::new();
    file.take(most + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| WorkError::Context(format!("{}: {error}", name())))?;
    if bytes.len() as u64 > most {
        let large = format!("{} is larger than {most} bytes", name());
        return Err(WorkError::Context(large));
    }
    Ok(Some(bytes))
}

fn source(image: &str, prepared: &Prepared, digest: String) -> BuildSource {
    BuildSource {
        name: build_name(image),
        runtime: prepared.runtime.clone(),
        contract: if prepared.hosted { "host" } else { "http" }.to_owned(),
        code: Code {
            digest,
            entry: prepared.entry.clone(),
            layer: None,
        },
        handler: prepared.handler.clone(),
        build: prepared.build.clone(),
        secrets: std::collections::BTreeMap::new(),
    }
}

/// A word for a host name out of an image's.
fn build_name(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or_default();
    let name = last.split([':', '@']).next().unwrap_or_default();
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() {
            c.to_ascii_lowercase()
        } else {
            '-'
        }
    };
    let name: String = name.chars().map(plain).take(MAX_BUILD_NAME).collect();
    let name = name.trim_matches('-');
    if name.is_empty() { "image" } else { name }.to_owned()
}

fn check_image(image: &str) -> Result<(), WorkError> {
    let fits =
        (1..=MAX_IMAGE).contains(&image.len()) && image.bytes().all(|b| b.is_ascii_graphic());
    if fits {
        return Ok(());
    }
    let shown: String = image.chars().take(MAX_BUILD_NAME).collect();
    Err(WorkError::Context(format!(
        "{CONFIG_ENTRY}: {shown:?} is no name of an image; expected one such as \"hello:latest\" of at most {MAX_IMAGE} \
         characters"
    )))
}

/// What code of this machine is for, in the words of those who build images.
fn here() -> String {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    format!("linux/{arch}")
}

fn check_platforms(wanted: &[String], here: &str, output: &BuildOutput) -> Result<(), WorkError> {
    let is_here = |platform: &&String| {
        let rest = platform.strip_prefix(here);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let others: Vec<&str> = wanted
        .iter()
        .filter(|platform| !is_here(platform))
        .map(String::as_str)
        .collect();
    if others.is_empty() {
        return Ok(());
    }
    if others.len() == wanted.len() {
        return Err(WorkError::Context(format!(
            "platform {} cannot be built for here: this machine is {here}, and functions run where they are built; leave the \
             platforms out, or ask for {here}",
            others.join(", ")
        )));
    }
    output.note(format!(
        "built for {here} alone, without {}",
        others.join(", ")
    ));
    Ok(())
}

/// Says now what every call would say otherwise.
fn require_runtime(builder: &Builder, prepared: &Prepared) -> Result<(), WorkError> {
    let runtimes = builder.openfaas.platform().runtimes();
    let missing = runtimes
        .into_iter()
        .find(|runtime| runtime.name == prepared.runtime)
        .and_then(|runtime| runtime.available.err());
    match missing {
        Some(how) => Err(WorkError::Context(format!(
            "template {:?} needs {} on the server: {how}",
            prepared.language, prepared.runtime
        ))),
        None => Ok(()),
    }
}

/// Runs what waits for the disk where that holds nobody up.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, WorkError> + Send + 'static,
) -> Result<T, WorkError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_are_this_machines_or_told() {
        let check = |wanted: &[&str]| {
            let wanted: Vec<String> = wanted.iter().map(|&w| w.to_owned()).collect();
            let (output, _) = BuildOutput::new();
            check_platforms(&wanted, "linux/arm64", &output).map_err(|e| e.to_string())
        };
        for good in [
            &[][..],
            &["linux/arm64"],
            &["linux/arm64/v8", "linux/amd64"],
        ] {
            assert_eq!(check(good), Ok(()), "{good:?}");
        }
        let error = check(&["linux/amd64"]).unwrap_err();
        assert!(error.contains("linux/amd64 cannot") && error.contains("is linux/arm64"));
        assert!(check(&["linux/arm64ec"]).is_err());
    }

    #[test]
    fn a_build_is_named_after_its_image() {
        for (image, name) in [
            ("hello:latest", "hello"),
            ("ttl.sh/me/Hello_World:2h", "hello-world"),
            ("r.example:5000/x@sha256:00", "x"),
            ("_", "image"),
        ] {
            assert_eq!(build_name(image), name);
        }
    }

    #[test]
    fn names_of_images_are_checked() {
        assert!(check_image("r.example:5000/a/b:1").is_ok());
        for bad in ["", "a b", "a\nb", &"x".repeat(MAX_IMAGE + 1)] {
            assert!(check_image(bad).is_err(), "{bad:?}");
        }
    }
}
