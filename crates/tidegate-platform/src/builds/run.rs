//! One build, stage by stage.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tidegate_build::{Compile, Dependencies, HOME, Plan, Step, Wanted};
use tidegate_core::BuildSecretPlace;
use tidegate_egress::{EgressProxy, Event};
use tidegate_instance::{Egress, Folder, Job, JobLimits};
use tidegate_store::Digest;
use tokio::time::Instant;

use super::log::{BuildLineKind, BuildLog};
use super::scratch::{Scratch, joined};
use super::source::{Built, Source};
use super::{BuildError, BuildStatus, LAST_LINES};
use crate::Platform;

/// Where a step finds secrets that are files of their own.
const SECRETS: &str = "/run/secrets";

/// Bytes that a file of the download cache counts for at least: half of the files that a job's folders may hold then come
/// to about half of the bytes, and the cache is cleared before it alone makes every build fail.
const CACHED_FILE: u64 = 8 << 10;

/// Folders in folders of the download cache above which it is cleared, well below what a job may have.
const CACHED_DEPTH: u32 = 100;

/// One build's means.
struct Build<'a> {
    platform: &'a Platform,
    source: &'a Source<'a>,
    log: &'a Arc<BuildLog>,
    /// When it has to be done.
    until: Instant,
    env: Vec<(String, String)>,
    /// Files of the home folder.
    home: Vec<(String, Vec<u8>)>,
    /// Secrets that are files of their own, by name.
    mounted: Vec<(String, Vec<u8>)>,
    tools: Vec<PathBuf>,
}

/// What there is to do, and with what.
pub(super) struct Work {
    plan: Plan,
    digest: Digest,
    /// The source, unpacked.
    folder: PathBuf,
}

/// What a stage begins with.
enum Input {
    /// The files that name dependencies.
    Named(Dependencies),
    /// The whole source.
    Whole(Compile),
}

/// Tells what there is to do. `None` where the source runs as it is.
pub(super) async fn look(
    platform: &Platform,
    source: &Source<'_>,
) -> Result<Option<Work>, BuildError> {
    // Where all of the code is in an image, there is nothing to build.
    if source.build.skip || source.code.digest.is_empty() {
        return Ok(None);
    }
    let digest: Digest = source.code.digest.parse().map_err(crate::Error::from)?;
    let folder = platform.bundles().source(&digest).await?;
    let plan = plan(platform, source, &folder).await?;
    let nothing = plan.dependencies.is_none() && plan.compile.is_none();
    Ok((!nothing).then_some(Work {
        plan,
        digest,
        folder,
    }))
}

/// Does it.
pub(super) async fn carry_out(
    platform: &Platform,
    source: &Source<'_>,
    work: Work,
    log: &Arc<BuildLog>,
    status: &mut BuildStatus,
) -> Result<Built, BuildError> {
    let mut built = source.as_it_is();
    let (dependencies, compile) = (work.plan.dependencies, work.plan.compile);
    for note in work.plan.notes {
        log.push(BuildLineKind::Note, note);
    }
    let mut build = Build {
        platform,
        source,
        log,
        until: Instant::now() + platform.builds().options.limits.time,
        env: Vec::new(),
        home: Vec::new(),
        mounted: Vec::new(),
        tools: work.plan.tools,
    };
    build.read_secrets().await?;
    let mut layer = None;
    if let Some(stage) = &dependencies {
        // A secret may be a tool's configuration, with which one namespace would say what the others install.
        let is_shared = stage.pinned && source.build.secrets.is_empty();
        let scope = if is_shared { "" } else { source.scope };
        let key = super::Cache::key(&["layer", scope, &stage.key, &build.fingerprint()]);
        let input = Input::Named(stage.clone());
        let (digest, cached) = build
            .stage("dependencies", &key, &work.folder, input, None)
            .await?;
        status.dependencies = if cached { "cached" } else { "installed" }.to_owned();
        built.code.layer = Some(digest.to_string());
        layer = Some(digest);
    }
    if let Some(stage) = &compile {
        let layer_text = layer.map(|d| d.to_string()).unwrap_or_default();
        let key = super::Cache::key(&[
            "bundle",
            source.scope,
            &work.digest.to_string(),
            &layer_text,
            &stage.key,
            &build.fingerprint(),
        ]);
        let input = Input::Whole(stage.clone());
        let (digest, cached) = build
            .stage("the build", &key, &work.folder, input, layer.as_ref())
            .await?;
        status.bundle = if cached { "cached" } else { "built" }.to_owned();
        built.code.digest = digest.to_string();
        built.code.entry.clone_from(&stage.entry);
        if stage.handler.is_some() && built.handler.is_none() {
            built.handler.clone_from(&stage.handler);
        }
    }
    Ok(built)
}

async fn plan(platform: &Platform, source: &Source<'_>, folder: &Path) -> Result<Plan, BuildError> {
    let runtime = match source.runtime.parse() {
        Ok(runtime) => runtime,
        // A runtime that is the isolation's alone runs what it is given.
        Err(_) if source.build.command.is_none() => return Ok(Plan::default()),
        Err(unknown) => return Err(crate::Error::Invalid(unknown).into()),
    };
    let wanted = Wanted {
        runtime,
        contract: source.contract.to_owned(),
        entry: source.code.entry.clone(),
        handler: source.handler.map(str::to_owned),
        command: source.build.command.clone(),
        env: platform
            .builds()
            .options
            .env
            .iter()
            .cloned()
            .chain(source.build.env.clone())
            .collect(),
    };
    // The platform is not kept by a thread that nobody waits for when it ends.
    let (tools, folder) = (platform.builds().tools().clone(), folder.to_owned());
    let planned =
        tokio::task::spawn_blocking(move || tidegate_build::plan(&folder, &wanted, &tools));
    Ok(joined(planned.await)?)
}

impl Build<'_> {
    /// The environment and the files that come from secrets.
    async fn read_secrets(&mut self) -> Result<(), BuildError> {
        let source = self.source;
        for secret in &source.build.secrets {
            let value = match source.secrets {
                Some(given) => given.get(&secret.name).cloned().ok_or_else(|| {
                    let missing = format!("secret {:?} did not come with the source", secret.name);
                    crate::Error::NotFound(missing)
                })?,
                None => {
                    let secret = self.platform.secret_value(source.scope, &secret.name);
                    secret.await?
                }
            };
            match &secret.place {
                BuildSecretPlace::File(path) => self.home.push((path.clone(), value)),
                BuildSecretPlace::Mount => self.mounted.push((secret.name.clone(), value)),
                BuildSecretPlace::Env(variable) => {
                    let value = String::from_utf8(value).map_err(|_| {
                        crate::Error::Invalid(format!(
                            "secret {:?} is not text, so it cannot be in variable {variable:?} of the build",
                            secret.name
                        ))
                    })?;
                    self.env.push((variable.clone(), value));
                }
            }
        }
        let env = self.env.iter().map(|(_, value)| value.as_bytes());
        let files = self.home.iter().chain(&self.mounted);
        self.log
            .hide(env.chain(files.map(|(_, value)| value.as_slice())));
        Ok(())
    }

    /// What a result can depend on beside the plan. Secrets are known by name only: a renewed token installs the same
    /// packages.
    fn fingerprint(&self) -> String {
        serde_json::to_string(&self.source.build.secrets).unwrap_or_default()
    }

    /// The result of a stage, and whether it was there already.
    async fn stage(
        &mut self,
        title: &'static str,
        key: &Digest,
        source: &Path,
        input: Input,
        layer: Option<&Digest>,
    ) -> Result<(Digest, bool), BuildError> {
        let builds = self.platform.builds();
        if let Some(known) = self.cached(title, key).await {
            return Ok((known, true));
        }
        let asked = Instant::now();
        let _cache = builds.cache_of(self.source.scope).await;
        // Another build of the same may have been what was waited for.
        if let Some(known) = self.cached(title, key).await {
            return Ok((known, true));
        }
        let Ok(_room) = builds.room.acquire().await else {
            return Err(tidegate_instance::StartError::ShuttingDown.into());
        };
        // The time of a build is its own: what others took before it does not count.
        self.until += asked.elapsed();
        self.bound_cache().await?;
        let scratch = builds.scratch()?;
        let made = self.make(title, &scratch, source, input, layer).await;
        scratch.remove().await;
        let digest = made?;
        builds.results.put(key, &digest)?;
        Ok((digest, false))
    }

    /// Runs a stage's steps, and keeps what they leave.
    async fn make(
        &self,
        title: &'static str,
        scratch: &Scratch,
        source: &Path,
        input: Input,
        layer: Option<&Digest>,
    ) -> Result<Digest, BuildError> {
        let steps = input.steps().to_vec();
        let folders = self.folders(scratch, source, input, layer).await?;
        for step in &steps {
            self.step(step, &folders).await?;
        }
        let out = scratch.path("out");
        let archive = tokio::task::spawn_blocking(move || tidegate_build::archive_folder(&out));
        let archive =
            joined(archive.await).map_err(|source| BuildError::Result { title, source })?;
        Ok(self.platform.keep_code(archive).await?)
    }

    /// Clears what tools have downloaded for this namespace once it takes half of what a build may write: no tool bounds
    /// its own.
    async fn bound_cache(&self) -> Result<(), BuildError> {
        let (cache, limit) = (self.cache(), self.platform.builds().options.limits.disk / 2);
        let cleared = tokio::task::spawn_blocking(move || {
            let size = size_of(&cache, 0)?;
            if size > limit {
                fs::remove_dir_all(&cache)?;
            }
            Ok::<_, io::Error>((size > limit).then_some(size))
        });
        if let Some(size) = joined(cleared.await)? {
            let note = match size {
                u64::MAX => "the download cache, nested too deep, was cleared".to_owned(),
                size => format!("the download cache of {} MiB was cleared", size >> 20),
            };
            self.log.push(BuildLineKind::Note, note);
        }
        Ok(())
    }

    fn cache(&self) -> PathBuf {
        self.platform.builds().downloads(self.source.scope)
    }

    /// What an earlier build made of the same, which is said.
    async fn cached(&self, title: &str, key: &Digest) -> Option<Digest> {
        let known = self.known(key).await?;
        self.log
            .push(BuildLineKind::Note, format!("{title}: cached"));
        Some(known)
    }

    async fn known(&self, key: &Digest) -> Option<Digest> {
        let found = self.platform.builds().results.get(key)?;
        self.platform
            .has_code(&found)
            .await
            .unwrap_or(false)
            .then_some(found)
    }

    async fn folders(
        &self,
        scratch: &Scratch,
        source: &Path,
        input: Input,
        layer: Option<&Digest>,
    ) -> Result<Vec<Folder>, BuildError> {
        let cache = self.cache();
        fs::create_dir_all(&cache)?;
        for name in ["work", "out", "home"] {
            fs::create_dir(scratch.path(name))?;
        }
        for (path, value) in &self.home {
            let path = scratch.path("home").join(path);
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            fs::write(path, value)?;
        }
        if !self.mounted.is_empty() {
            fs::create_dir(scratch.path("secrets"))?;
        }
        for (name, value) in &self.mounted {
            fs::write(scratch.path("secrets").join(name), value)?;
        }
        let (work, source) = (scratch.path("work"), source.to_owned());
        let filled = tokio::task::spawn_blocking(move || match input {
            Input::Named(stage) => stage.fill(&source, &work),
            Input::Whole(stage) => {
                copy(&source, &work)?;
                stage.write_files(&work)
            }
        });
        joined(filled.await)?;
        let writable = |outside: PathBuf, inside: &str| Folder {
            outside,
            inside: inside.to_owned(),
            writable: true,
        };
        let mut folders = vec![
            writable(scratch.path("work"), "/stage"),
            writable(scratch.path("out"), "/out"),
            writable(scratch.path("home"), HOME),
            writable(cache, "/cache"),
        ];
        if let Some(layer) = layer {
            folders.push(Folder {
                outside: self.platform.bundles().built(layer).await?,
                inside: "/layer".to_owned(),
                writable: false,
            });
        }
        if !self.mounted.is_empty() {
            folders.push(Folder {
                outside: scratch.path("secrets"),
                inside: SECRETS.to_owned(),
                writable: false,
            });
        }
        folders.extend(self.tools.iter().map(|tool| Folder {
            outside: tool.clone(),
            inside: tool.to_string_lossy().into_owned(),
            writable: false,
        }));
        Ok(folders)
    }

    async fn step(&self, step: &Step, folders: &[Folder]) -> Result<(), BuildError> {
        self.log.push(BuildLineKind::Step, step.title.clone());
        let builds = self.platform.builds();
        let policy = builds.options.egress.as_ref().filter(|_| step.network);
        let egress: Option<Arc<dyn Egress>> = policy.map(|policy| {
            let log = self.log.clone();
            let proxy = EgressProxy::new(policy.clone(), move |event| match event {
                // What everybody expects is not worth a line.
                Event::Connected { .. } => {}
                told => log.push(BuildLineKind::Note, told.to_string()),
            });
            proxy as Arc<dyn Egress>
        });
        let mut env = self.env.clone();
        env.push(("HOME".to_owned(), HOME.to_owned()));
        env.extend(step.env.iter().cloned());
        let left = self.until.saturating_duration_since(Instant::now());
        let job = Job {
            name: format!("build-{}", self.source.name),
            command: step.command.clone(),
            env,
            workdir: "/stage".to_owned(),
            folders: folders.to_vec(),
            limits: JobLimits {
                time: left.max(Duration::from_millis(1)),
                ..builds.options.limits
            },
            egress,
            output: self.log.clone(),
        };
        let end = builds.isolation.run(job).await?;
        if end.exit.is_success() {
            return Ok(());
        }
        let last = self.log.last(LAST_LINES);
        let mut how = end.exit.to_string();
        if let Some(line) = tidegate_build::explain(&last, step) {
            how = format!("{how}: {line}");
        }
        if step.network && builds.options.egress.is_none() {
            how.push_str(" (builds of this server reach no network: 'build.network' is \"none\")");
        }
        Err(BuildError::Step {
            title: step.title.clone(),
            how,
            last,
        })
    }
}

impl Input {
    fn steps(&self) -> &[Step] {
        match self {
            Self::Named(stage) => &stage.steps,
            Self::Whole(stage) => &stage.steps,
        }
    }
}

/// Bytes of the files in a folder, each of which counts for something; 0 where there is none, and [`u64::MAX`] where it is
/// nested too deep.
fn size_of(folder: &Path, depth: u32) -> io::Result<u64> {
    if depth > CACHED_DEPTH {
        return Ok(u64::MAX);
    }
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        entries => entries?,
    };
    let mut size = 0_u64;
    for entry in entries {
        let entry = entry?;
        let meta = entry.metadata()?;
        size = size.saturating_add(meta.len().max(CACHED_FILE));
        if meta.is_dir() {
            size = size.saturating_add(size_of(&entry.path(), depth + 1)?);
        }
    }
    Ok(size)
}

/// Copies a file, a link or a folder with all in it.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let kind = fs::symlink_metadata(from)?.file_type();
    if kind.is_symlink() {
        std::os::unix::fs::symlink(fs::read_link(from)?, to)
    } else if kind.is_dir() {
        fs::create_dir_all(to)?;
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            copy(&entry.path(), &to.join(entry.file_name()))?;
        }
        Ok(())
    } else {
        fs::copy(from, to).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_files_and_deep_folders_are_large() {
        let folder = tempfile::tempdir().unwrap();
        let of = |path: &Path| size_of(path, 0).unwrap();
        assert_eq!(of(&folder.path().join("absent")), 0);
        for name in ["a", "b"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        assert_eq!(of(folder.path()), 2 * CACHED_FILE);
        let deep: PathBuf = (0..=CACHED_DEPTH).map(|_| "d").collect();
        fs::create_dir_all(folder.path().join(deep)).unwrap();
        assert_eq!(of(folder.path()), u64::MAX);
    }
}
