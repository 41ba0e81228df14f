//! The platform's handle.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use http::{Request, Response};
use tidegate_contract::Body;
use tidegate_core::record::Level;
use tidegate_core::trace::Sampling;
use tidegate_core::{FunctionRef, FunctionSpec, InstanceId};
use tidegate_egress::Outlets;
use tidegate_engine::{
    CallContext, Chosen, Engine, Failure, Function, Lineage, LogQuery, LogTail, Member, PoolCounts,
    ReplyBody, UnknownRevision,
};
use tidegate_instance::{Isolation, Runtime, Usage};
use tidegate_store::{Digest, Object, ObjectKey, Preconditions, Put, Query, Store, Watch};
use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::bill::Bill;
use crate::builds::{BuildOptions, Builds, joined};
use crate::bundles::Bundles;
use crate::controller::Controller;
use crate::egress::EgressLists;
use crate::images::{ImageOptions, ImageStore};
use crate::ledger::PlatformLedger;
use crate::queue::{QueueOptions, Queued, Rules};
use crate::records::{self, RecordOptions};
use crate::resources::PlatformResources;
use crate::rollout::Rollouts;
use crate::witness::{Nobody, Witness};
use crate::{Error, Holds, Lower, Scratch, Status};

/// Objects read at once when a list is read whole.
const PAGE: usize = 500;

/// Revisions that are kept of a function unless told otherwise: some days of work to go back to, in a few kilobytes.
pub const DEFAULT_REVISIONS: usize = 10;

/// How often code that no function names is looked for.
const SWEEP: Duration = Duration::from_secs(3600);

/// Everything a platform is made of.
pub struct Parts {
    /// Where everything is kept.
    pub store: Store,
    /// Where code runs.
    pub isolation: Arc<dyn Isolation>,
    /// Bounds of the engine.
    pub engine: tidegate_engine::Options,
    /// Where bundles are unpacked.
    pub bundles: PathBuf,
    /// What builds may use.
    pub builds: BuildOptions,
    /// Where images are kept, and what they may be.
    pub images: ImageOptions,
    /// What is kept of invocations.
    pub records: RecordOptions,
    /// What functions reach that ask for a way out; nothing where absent.
    pub outlets: Option<Outlets>,
    /// Revisions that are kept of a function.
    pub revisions: usize,
    /// The kinds of documents that are functions.
    pub kinds: Vec<Arc<dyn Lower>>,
    /// The kinds of documents that are none, and name code all the same.
    pub holders: Vec<Arc<dyn Holds>>,
    /// The queue of calls that are made later; where absent, none is accepted, and no trigger is acted on.
    pub queue: Option<QueueOptions>,
    /// Who is told of what leaves no record, if anybody.
    pub witness: Option<Arc<dyn Witness>>,
}

impl Parts {
    /// What a platform of one's own is made of, below a folder: small bounds, builds without a network, no dialect yet.
    /// A server chooses each for itself.
    #[must_use]
    pub fn below(folder: &Path, store: Store, isolation: Arc<dyn Isolation>) -> Self {
        Self {
            store,
            isolation,
            engine: tidegate_engine::Options {
                lanes: 1,
                max_instances: 20,
                max_waiting: 100,
                max_wait: Duration::from_secs(10),
                ready_within: Duration::from_secs(10),
                traces: None,
            },
            bundles: folder.join("bundles"),
            builds: BuildOptions {
                folder: folder.join("builds"),
                limits: crate::BUILD_LIMITS,
                at_once: 2,
                egress: None,
                tools: crate::ToolPaths::default(),
                env: Vec::new(),
            },
            images: ImageOptions {
                folder: folder.join("images"),
                settings: crate::ImageSettings::default(),
                registries: Some(Vec::new()),
                docker_config: None,
            },
            records: RecordOptions {
                folder: folder.join("records"),
                keep: crate::KeepOptions::default(),
                level: Level::All,
                prices: crate::Prices::default(),
                bill: false,
            },
            outlets: None,
            revisions: 3,
            kinds: Vec::new(),
            holders: Vec::new(),
            queue: None,
            witness: None,
        }
    }
}

/// Everything a dialect or a trigger may do. A cheap handle.
#[derive(Clone)]
pub struct Platform(Arc<Inner>);

pub(crate) struct WeakPlatform(Weak<Inner>);

struct Inner {
    store: Store,
    engine: Engine,
    bundles: Bundles,
    builds: Builds,
    images: ImageStore,
    ledger: Arc<PlatformLedger>,
    witness: Arc<dyn Witness>,
    /// Which calls begin a trace.
    traces: Option<Sampling>,
    records: RecordOptions,
    outlets: Option<Outlets>,
    egress_lists: EgressLists,
    kinds: Vec<Arc<dyn Lower>>,
    holders: Vec<Arc<dyn Holds>>,
    queued: OnceLock<Queued>,
    rules: Rules,
    controller: Controller,
    revisions: usize,
    rollouts: Rollouts,
    /// Held while a function's document is stored, from the look at who has its place on.
    placing: tokio::sync::Mutex<()>,
    /// Notified whenever the controller has brought something in line.
    settled: Notify,
    ending: CancellationToken,
    tasks: TaskTracker,
    /// The runtime that the platform was started on, where its tasks are whoever begins them.
    control: Handle,
}

/// A task that ends with this value.
#[derive(Debug)]
pub struct Attended<T> {
    done: oneshot::Receiver<T>,
    _end: DropGuard,
}

// === impl Platform ===

impl Platform {
    /// Starts the platform on the current runtime: every stored function can be called when this returns.
    ///
    /// # Errors
    /// What keeps the store from reading, or the bundle folder from being made.
    pub async fn start(parts: Parts) -> Result<Self, Error> {
        let bundles =
            Bundles::new(parts.bundles.clone(), parts.store.blobs().clone()).map_err(|error| {
                Error::Invalid(format!(
                    "bundle folder {}: {error}",
                    parts.bundles.display()
                ))
            })?;
        let folder = parts.builds.folder.clone();
        let builds = Builds::new(parts.builds, parts.isolation.clone()).map_err(|error| {
            Error::Invalid(format!("build folder {}: {error}", folder.display()))
        })?;
        let images = ImageStore::open(parts.images).await?;
        let recorder = records::open(&parts.records).await?;
        let witness = parts.witness.unwrap_or_else(|| Arc::new(Nobody));
        let ledger = Arc::new(PlatformLedger::new(
            recorder,
            parts.records.level,
            parts.records.bill,
            witness.clone(),
        ));
        let traces = parts.engine.traces;
        let platform = Self(Arc::new_cyclic(|weak| {
            let resources = Arc::new(PlatformResources(WeakPlatform(weak.clone())));
            Inner {
                engine: Engine::new(parts.isolation, resources, ledger.clone(), parts.engine),
                store: parts.store,
                bundles,
                builds,
                images,
                ledger,
                witness,
                traces,
                records: parts.records,
                outlets: parts.outlets,
                egress_lists: EgressLists::default(),
                kinds: parts.kinds,
                holders: parts.holders,
                queued: OnceLock::new(),
                rules: Rules::default(),
                controller: Controller::default(),
                revisions: parts.revisions.max(1),
                rollouts: Rollouts::default(),
                placing: tokio::sync::Mutex::default(),
                settled: Notify::new(),
                ending: CancellationToken::new(),
                tasks: TaskTracker::new(),
                control: Handle::current(),
            }
        }));
        platform.control().await?;
        // When functions can be called, since what is queued begins at once.
        if let Some(options) = parts.queue {
            let weak = WeakPlatform(Arc::downgrade(&platform.0));
            let queued = Queued::start(options, platform.store().blobs(), weak).await?;
            let _ = platform.0.queued.set(queued);
        }
        let rolling = platform.clone();
        platform.spawn(async move { rolling.roll_out().await });
        platform.follow_triggers();
        let sweeping = platform.clone();
        platform.spawn(async move {
            loop {
                tokio::time::sleep(SWEEP).await;
                if let Err(error) = sweeping.sweep().await {
                    tracing::warn!(%error, "unused code could not be looked for");
                }
            }
        });
        Ok(platform)
    }

    /// Stores a document, new or changed; what follows from it follows. See [`Platform::settle`].
    ///
    /// # Errors
    /// The document breaks a rule, lost a race, is a function whose place another dialect's has, or the store cannot write.
    pub async fn put(&self, object: Object) -> Result<Put, Error> {
        self.place(object, false).await
    }

    /// Stores a document that must not be there yet.
    ///
    /// # Errors
    /// It is there, breaks a rule, is a function whose place another dialect's has, or the store cannot write.
    pub async fn create(&self, object: Object) -> Result<Object, Error> {
        Ok(self.place(object, true).await?.object())
    }

    /// A document.
    ///
    /// # Errors
    /// It is not there, is damaged, or the store cannot read.
    pub async fn get(&self, key: &ObjectKey) -> Result<Object, Error> {
        Ok(self.0.store.objects().get(key).await?)
    }

    /// A page of documents.
    ///
    /// # Errors
    /// A foreign continue token, or the store cannot read.
    pub async fn list(
        &self,
        query: &Query,
        limit: Option<usize>,
        from: Option<&str>,
    ) -> Result<tidegate_store::Page, Error> {
        Ok(self.0.store.objects().list(query, limit, from).await?)
    }

    /// Removes a document.
    ///
    /// # Errors
    /// It is not there, is not the one meant, or the store cannot write.
    pub async fn delete(
        &self,
        key: &ObjectKey,
        preconditions: Preconditions,
    ) -> Result<tidegate_store::Deletion, Error> {
        Ok(self.0.store.objects().delete(key, preconditions).await?)
    }

    /// Changes of documents from a version on.
    ///
    /// # Errors
    /// The version is too old: list again.
    pub fn watch(
        &self,
        query: &Query,
        from: Option<tidegate_store::ResourceVersion>,
    ) -> Result<Watch, Error> {
        Ok(self.0.store.objects().watch(query, from)?)
    }

    /// Waits until a generation of a document has been dealt with or was overtaken by a newer one, and gives the document
    /// as it is then or when the time is over.
    ///
    /// # Errors
    /// The document is not there.
    pub async fn settle(
        &self,
        key: &ObjectKey,
        generation: u64,
        within: Duration,
    ) -> Result<Object, Error> {
        let until = tokio::time::Instant::now() + within;
        loop {
            // Registered before the look, so that a change between the two is not missed.
            let mut settled = std::pin::pin!(self.0.settled.notified());
            settled.as_mut().enable();
            let object = self.get(key).await?;
            if Status::of(&object).is_settled(generation)
                || object.generation() > generation
                || tokio::time::timeout_at(until, settled).await.is_err()
            {
                return Ok(object);
            }
        }
    }

    /// Waits until a function that was deleted takes no more calls, or the time is over.
    pub async fn settle_deletion(&self, key: FunctionRef<'_>, within: Duration) {
        let until = tokio::time::Instant::now() + within;
        loop {
            let mut settled = std::pin::pin!(self.0.settled.notified());
            settled.as_mut().enable();
            if self.function(key).is_none()
                || tokio::time::timeout_at(until, settled).await.is_err()
            {
                return;
            }
        }
    }

    /// Stores an archive of code of at most `max` bytes, whose digest must be the expected one.
    ///
    /// # Errors
    /// It is larger, it is another, or the store cannot write.
    pub async fn put_code<E>(
        &self,
        expected: Digest,
        bytes: impl Stream<Item = Result<Bytes, E>> + Send,
        max: u64,
    ) -> Result<Digest, Error>
    where
        E: std::error::Error + Send + Sync + 'static,
    {
        Ok(self
            .0
            .store
            .blobs()
            .put_stream(Some(expected), bytes, max)
            .await?)
    }

    /// Whether an archive is there.
    ///
    /// # Errors
    /// The store cannot read.
    pub async fn has_code(&self, digest: &Digest) -> Result<bool, Error> {
        self.0.bundles.wanted(digest);
        Ok(self.0.store.blobs().exists(digest).await?)
    }

    /// The function that is called by this key.
    #[must_use]
    pub fn function(&self, key: FunctionRef<'_>) -> Option<Arc<Function>> {
        self.0.engine.function(key)
    }

    /// Calls a function.
    ///
    /// # Errors
    /// There is no response from the code; the failure says why and whose fault it is.
    pub async fn call(
        &self,
        function: &Arc<Function>,
        request: Request<Body>,
        context: CallContext,
    ) -> Result<Response<ReplyBody>, Failure> {
        let bill = self.bill(&context);
        let answer = self.0.engine.call(function, request, context).await?;
        match bill {
            None => Ok(answer),
            Some(bill) => self.billed(answer, bill).await,
        }
    }

    fn bill(&self, context: &CallContext) -> Option<Bill> {
        let bills = self.0.ledger.bills.as_ref()?;
        Some(bills.expect(context.id))
    }

    /// A revision of a function by its own word, a tag, or `latest`: any that is kept.
    ///
    /// # Errors
    /// Nobody goes by that name; the error says who there is.
    pub async fn choose(&self, function: &Function, word: &str) -> Result<Chosen, UnknownRevision> {
        self.0.engine.choose(function, word).await
    }

    /// Calls a revision that was chosen by name.
    ///
    /// # Errors
    /// As [`Platform::call`].
    pub async fn call_chosen(
        &self,
        function: &Arc<Function>,
        chosen: Chosen,
        request: Request<Body>,
        context: CallContext,
    ) -> Result<Response<ReplyBody>, Failure> {
        let bill = self.bill(&context);
        let engine = &self.0.engine;
        let answer = engine
            .call_chosen(function, chosen, request, context)
            .await?;
        match bill {
            None => Ok(answer),
            Some(bill) => self.billed(answer, bill).await,
        }
    }

    /// The revisions of a function that are at work, with their parts, instances and calls.
    #[must_use]
    pub fn members(&self, function: &Function) -> Vec<Member> {
        self.0.engine.members(function)
    }

    /// A reader of what a function has written.
    #[must_use]
    pub fn logs(&self, function: &Function, query: LogQuery, tail: Option<usize>) -> LogTail {
        function.log().tail(query, tail)
    }

    /// A function's instances, by state.
    #[must_use]
    pub fn counts(&self, function: &Function) -> PoolCounts {
        self.0.engine.counts(function)
    }

    /// What each of a function's instances has used so far, where that is measured.
    #[must_use]
    pub fn usage(&self, function: &Function) -> Vec<(InstanceId, Usage)> {
        self.0.engine.usage(function)
    }

    /// What one of a function's instances is doing, or did last; `None` where there is no such instance.
    #[must_use]
    pub fn lineage(&self, function: &Function, instance: InstanceId) -> Option<Lineage> {
        self.0.engine.lineage(function, instance)
    }

    /// What a function's current revision says of who may call it.
    #[must_use]
    pub fn access(&self, function: &Function) -> Option<tidegate_core::Access> {
        self.0.engine.access(function)
    }

    /// Functions that have instances now.
    #[must_use]
    pub fn active(&self) -> Vec<(tidegate_core::FunctionKey, PoolCounts)> {
        self.0.engine.active()
    }

    /// Every function.
    pub fn for_each_function(&self, visit: impl FnMut(&Arc<Function>)) {
        self.0.engine.for_each(visit);
    }

    pub(crate) fn egress_lists(&self) -> &EgressLists {
        &self.0.egress_lists
    }

    pub(crate) fn outlets(&self) -> Option<&Outlets> {
        self.0.outlets.as_ref()
    }

    /// Stores an archive that a build made.
    pub(crate) async fn keep_code(
        &self,
        archive: tidegate_build::Archived,
    ) -> Result<Digest, Error> {
        let digest: Digest = archive.digest.parse()?;
        // Read on a thread for blocking, a part ahead of the disk that it is written to.
        let (parts, stream) = tokio::sync::mpsc::channel(2);
        let reading = tokio::task::spawn_blocking(move || {
            let mut archive = archive.archive;
            loop {
                let mut part = vec![0; tidegate_store::PUT_PART_BYTES];
                let read = match std::io::Read::read(&mut archive, &mut part) {
                    Ok(0) => break,
                    Ok(n) => {
                        part.truncate(n);
                        Ok(Bytes::from(part))
                    }
                    Err(error) => Err(error),
                };
                if parts.blocking_send(read).is_err() {
                    break;
                }
            }
        });
        let stream = futures_util::stream::unfold(stream, async |mut stream| {
            let part = stream.recv().await?;
            Some((part, stream))
        });
        let kept = self
            .put_code(digest, stream, tidegate_build::LAYER_ARCHIVE)
            .await;
        joined(reading.await);
        kept
    }

    /// Stores a folder, with all in it, as an archive of code.
    ///
    /// # Errors
    /// It holds what an archive may not, or the store cannot write.
    pub async fn keep_folder(&self, folder: &Path) -> Result<Digest, Error> {
        let folder = folder.to_owned();
        let archived = tokio::task::spawn_blocking(move || tidegate_build::archive_folder(&folder));
        let archived = joined(archived.await).map_err(|e| Error::Code(e.to_string()))?;
        self.keep_code(archived).await
    }

    /// A folder for work that is about to become code.
    ///
    /// # Errors
    /// The machine's disk.
    pub fn scratch(&self) -> std::io::Result<Scratch> {
        self.0.builds.scratch()
    }

    /// Unpacks an archive that a client sent, to say at once what is wrong with it.
    ///
    /// # Errors
    /// It is not there, or holds what is refused.
    pub async fn check_code(&self, digest: &Digest) -> Result<(), Error> {
        match self.0.bundles.source(digest).await {
            Ok(_) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The runtimes of this host.
    #[must_use]
    pub fn runtimes(&self) -> Vec<Runtime> {
        self.0.engine.runtimes()
    }

    /// The tools that builds may use, each present with its version or with how to get it. Runs those that were not looked
    /// at before.
    pub async fn tools(&self) -> Vec<Runtime> {
        let platform = self.clone();
        let looked = tokio::task::spawn_blocking(move || platform.builds().tools().toolchains());
        let tools = joined(looked.await);
        tools
            .into_iter()
            .map(|toolchain| Runtime {
                name: toolchain.name.as_str().to_owned(),
                version: toolchain.tool.as_ref().ok().map(|t| t.version.clone()),
                available: match toolchain.tool {
                    Ok(tool) => Ok(tool.program.display().to_string()),
                    Err(missing) => Err(missing.to_string()),
                },
            })
            .collect()
    }

    /// Ends the platform: calls in flight get `grace` to finish, then every instance ends. Nothing is deployed any more.
    pub async fn drain(&self, grace: Duration) {
        let began = tokio::time::Instant::now();
        self.drain_queue(grace).await;
        let grace = grace.saturating_sub(began.elapsed());
        self.0.ending.cancel();
        self.0.engine.drain(grace).await;
        self.0.tasks.close();
        self.0.tasks.wait().await;
        if let Err(error) = self.0.ledger.recorder.close().await {
            tracing::error!(%error, "the last records could not be written");
        }
    }

    /// Every object of a query.
    pub(crate) async fn list_all(&self, query: &Query) -> Result<Vec<Object>, Error> {
        let (mut all, mut from) = (Vec::new(), None);
        loop {
            let page = self.list(query, Some(PAGE), from.as_deref()).await?;
            all.extend(page.items);
            match page.next {
                Some(next) => from = Some(next),
                None => return Ok(all),
            }
        }
    }

    /// Removes code that nothing names, and nothing named at the sweep before. Done by itself once an hour.
    ///
    /// # Errors
    /// What keeps the store from reading.
    pub async fn sweep(&self) -> Result<(), Error> {
        let mut used: HashSet<Digest> = HashSet::new();
        for lower in self.kinds() {
            let (api_version, kind) = lower.kind();
            for object in self.list_all(&Query::kind(api_version, kind)).await? {
                used.extend(
                    self.lower(&object)
                        .ok()
                        .into_iter()
                        .flat_map(|l| digests(&l.spec)),
                );
            }
        }
        for holder in &self.0.holders {
            let (api_version, kind) = holder.kind();
            for object in self.list_all(&Query::kind(api_version, kind)).await? {
                let named = holder.code(&object);
                used.extend(
                    named
                        .iter()
                        .filter_map(|digest| digest.parse::<Digest>().ok()),
                );
            }
        }
        for object in self.list_all(&crate::revisions::all()).await? {
            used.extend(
                crate::revisions::spec_of(&object)
                    .into_iter()
                    .flat_map(|s| digests(&s)),
            );
        }
        match self.0.builds.sweep(&used) {
            Ok(results) => used.extend(results),
            Err(error) => {
                tracing::warn!(%error, "results of builds could not be looked through");
            }
        }
        let removed = self.0.bundles.sweep(&used).await;
        if removed > 0 {
            tracing::info!(removed, "removed code that no function uses");
        }
        Ok(())
    }

    pub(crate) fn lower(&self, object: &Object) -> Result<crate::Lowered, crate::LowerError> {
        let key = object.key();
        match self.lowerer(key) {
            Some(lower) => lower.lower(object),
            None => Err(crate::LowerError::new(
                "kind",
                format!("{} is not a function", key.kind()),
            )),
        }
    }

    pub(crate) fn lowerer(&self, key: &ObjectKey) -> Option<&Arc<dyn Lower>> {
        let kind = (key.api_version(), key.kind());
        self.0.kinds.iter().find(|lower| lower.kind() == kind)
    }

    pub(crate) fn kinds(&self) -> impl Iterator<Item = &Arc<dyn Lower>> {
        self.0.kinds.iter()
    }

    pub(crate) fn in_queue(&self) -> Option<&Queued> {
        self.0.queued.get()
    }

    pub(crate) fn rules(&self) -> &Rules {
        &self.0.rules
    }

    pub(crate) fn witness(&self) -> &dyn Witness {
        &*self.0.witness
    }

    pub(crate) fn traces(&self) -> Option<Sampling> {
        self.0.traces
    }

    pub(crate) fn store(&self) -> &Store {
        &self.0.store
    }

    pub(crate) fn ledger(&self) -> &PlatformLedger {
        &self.0.ledger
    }

    pub(crate) fn record_options(&self) -> &RecordOptions {
        &self.0.records
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.0.engine
    }

    pub(crate) fn placing(&self) -> &tokio::sync::Mutex<()> {
        &self.0.placing
    }

    pub(crate) fn bundles(&self) -> &Bundles {
        &self.0.bundles
    }

    pub(crate) fn builds(&self) -> &Builds {
        &self.0.builds
    }

    pub(crate) fn image_store(&self) -> &ImageStore {
        &self.0.images
    }

    /// Resolves when the controller has brought something in line.
    pub(crate) fn settled(&self) -> tokio::sync::futures::Notified<'_> {
        self.0.settled.notified()
    }

    pub(crate) fn revisions_kept(&self) -> usize {
        self.0.revisions
    }

    pub(crate) fn rollouts(&self) -> &Rollouts {
        &self.0.rollouts
    }

    pub(crate) fn controller(&self) -> &Controller {
        &self.0.controller
    }

    pub(crate) fn notify_settled(&self) {
        self.0.settled.notify_waiters();
    }

    /// Runs a task until it ends or the platform does.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let ending = self.0.ending.clone();
        let task = async move {
            ending.run_until_cancelled(task).await;
        };
        self.0.tasks.spawn_on(task, &self.0.control);
    }

    /// Runs a task on the platform's own threads, whoever asks for it and however slowly he takes what comes of it. It ends
    /// with the value that is given back, and with the platform.
    pub fn attend<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> Attended<T> {
        let (tell, done) = oneshot::channel();
        let end = CancellationToken::new();
        let ended = end.clone();
        self.spawn(async move {
            if let Some(made) = ended.run_until_cancelled(task).await {
                // Nobody wants it any more where it cannot be told.
                let _ = tell.send(made);
            }
        });
        Attended {
            done,
            _end: end.drop_guard(),
        }
    }
}

// === impl Attended ===

impl<T> Attended<T> {
    /// What came of it. `None` where the platform ended first.
    pub async fn result(self) -> Option<T> {
        self.done.await.ok()
    }
}

/// The archives that a specification needs.
pub(crate) fn digests(spec: &FunctionSpec) -> Vec<Digest> {
    let named = std::iter::once(&spec.code.digest).chain(&spec.code.layer);
    named.filter_map(|digest| digest.parse().ok()).collect()
}

// === impl WeakPlatform ===

impl WeakPlatform {
    pub(crate) fn upgrade(&self) -> Option<Platform> {
        self.0.upgrade().map(Platform)
    }
}
