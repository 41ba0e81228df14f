//! The routes of revisions and traffic.
//!
//! What a client changes is the function's document and nothing else: a rollback is a document whose traffic goes to an
//! older revision. So it is there after a restart, in an export, and in a watch.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use http::StatusCode;
use tidegate_core::traffic::LATEST;
use tidegate_core::{FunctionRef, format_bytes, format_duration};
use tidegate_platform::{KeptRevision, Member, Object, Platform, Status, TrafficPart};

use super::functions::{WaitParams, change_spec};
use super::target::{function_key, readable};
use super::{Answer, Context, parse, unreadable};
use crate::document::{
    self, ErrorBody, Function, FunctionSpec, Metadata, Promotion, Revision, RevisionList,
    RevisionPhase, RevisionSpec, RevisionStatus, Rollback, RolloutPhase, RolloutStatus, Traffic,
    TrafficChange, TrafficStatus,
};
use crate::error::ApiError;
use crate::{lower, render};

/// The revisions that are kept of a function, newest first.
#[utoipa::path(get, path = "/tidegate/v1/namespaces/{namespace}/functions/{name}/revisions", tag = "versions",
    params(("namespace" = String, Path), ("name" = String, Path)),
    responses((status = 200, body = RevisionList), (status = 404, body = ErrorBody)))]
pub(crate) async fn list_revisions(
    State(context): State<Context>,
    Path((namespace, name)): Path<(String, String)>,
) -> Answer<Json<RevisionList>> {
    let key = function_key(&namespace, &name)?;
    let object = readable(&context.platform, &key).await?;
    let view = View::of(&context.platform, &object).await?;
    let items = view.kept.iter().map(|kept| view.revision(kept)).collect();
    Ok(Json(RevisionList { items }))
}

/// A revision by its word, a tag, or `latest`.
#[utoipa::path(get, path = "/tidegate/v1/namespaces/{namespace}/functions/{name}/revisions/{revision}", tag = "versions",
    params(("namespace" = String, Path), ("name" = String, Path), ("revision" = String, Path)),
    responses((status = 200, body = Revision), (status = 404, body = ErrorBody)))]
pub(crate) async fn get_revision(
    State(context): State<Context>,
    Path((namespace, name, revision)): Path<(String, String, String)>,
) -> Answer<Json<Revision>> {
    let key = function_key(&namespace, &name)?;
    let object = readable(&context.platform, &key).await?;
    let view = View::of(&context.platform, &object).await?;
    Ok(Json(view.revision(view.find(&revision)?)))
}

/// Changes who takes a function's calls. Makes no revision.
#[utoipa::path(put, path = "/tidegate/v1/namespaces/{namespace}/functions/{name}/traffic", tag = "versions",
    params(("namespace" = String, Path), ("name" = String, Path), WaitParams), request_body = TrafficChange,
    responses((status = 200, body = Function), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody)))]
pub(crate) async fn put_traffic(
    State(context): State<Context>,
    Path((namespace, name)): Path<(String, String)>,
    Query(params): Query<WaitParams>,
    body: Bytes,
) -> Answer<Json<Function>> {
    let change: TrafficChange = parse(&body, "a TrafficChange")?;
    apply(&context, &namespace, &name, &params, |view, spec| {
        let mut traffic = change.traffic.clone();
        for part in &mut traffic {
            if let Some(word) = part.revision.take() {
                if word == LATEST {
                    part.latest = true;
                } else {
                    part.revision = Some(view.serving(&word)?.id.clone());
                }
            }
        }
        lower::traffic(&traffic)?;
        spec.traffic = traffic;
        Ok(())
    })
    .await
}

/// Gives all of the traffic to an older revision, at once. The next deploy takes it again.
#[utoipa::path(post, path = "/tidegate/v1/namespaces/{namespace}/functions/{name}/rollback", tag = "versions",
    params(("namespace" = String, Path), ("name" = String, Path), WaitParams), request_body = Rollback,
    responses((status = 200, body = Function), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody)))]
pub(crate) async fn roll_back(
    State(context): State<Context>,
    Path((namespace, name)): Path<(String, String)>,
    Query(params): Query<WaitParams>,
    body: Bytes,
) -> Answer<Json<Function>> {
    let asked: Rollback = parse(&body, "a Rollback")?;
    apply(&context, &namespace, &name, &params, |view, spec| {
        let to = match &asked.to {
            Some(word) => view.serving(word)?,
            None => view.previous()?,
        };
        spec.traffic = with_tags(&spec.traffic, whole(Some(&to.id)));
        Ok(())
    })
    .await
}

/// Gives all of the traffic to a revision, at once or little by little.
#[utoipa::path(post, path = "/tidegate/v1/namespaces/{namespace}/functions/{name}/promote", tag = "versions",
    params(("namespace" = String, Path), ("name" = String, Path), WaitParams), request_body = Promotion,
    responses((status = 200, body = Function), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody)))]
pub(crate) async fn promote(
    State(context): State<Context>,
    Path((namespace, name)): Path<(String, String)>,
    Query(params): Query<WaitParams>,
    body: Bytes,
) -> Answer<Json<Function>> {
    let asked: Promotion = parse(&body, "a Promotion")?;
    apply(&context, &namespace, &name, &params, |view, spec| {
        let to = view.serving(asked.revision.as_deref().unwrap_or(LATEST))?;
        let is_latest = to.id == view.status.revision;
        if let Some(rollout) = &asked.rollout {
            let rollout = document::Rollout {
                revision: Some(to.id.clone()),
                ..rollout.clone()
            };
            lower::rollout(&rollout)?;
            spec.rollout = Some(rollout);
        } else if spec.rollout.as_ref().is_some_and(|r| r.revision.is_some()) {
            // Was for one revision, and this one is to come at once.
            spec.rollout = None;
        }
        // Where every new revision is rolled out, only one that is named comes at once.
        let follows = is_latest && spec.rollout.is_none();
        spec.traffic = with_tags(&spec.traffic, whole((!follows).then_some(&to.id)));
        Ok(())
    })
    .await
}

async fn apply(
    context: &Context,
    namespace: &str,
    name: &str,
    params: &WaitParams,
    change: impl Fn(&View, &mut FunctionSpec) -> Answer<()> + Send,
) -> Answer<Json<Function>> {
    let key = function_key(namespace, name)?;
    let platform = &context.platform;
    let mut object = change_spec(platform, &key, "given other traffic", change).await?;
    if let Some(wait) = params.bound() {
        let generation = object.generation();
        object = platform.settle(&key, generation, wait).await?;
    }
    Ok(Json(
        render::function(platform, object).map_err(unreadable)?,
    ))
}

/// All to a revision, or to the newest.
fn whole(id: Option<&String>) -> Traffic {
    Traffic {
        revision: id.cloned(),
        latest: id.is_none(),
        percent: 100,
        tag: None,
    }
}

/// The same traffic with all of it at one place; tags stay where they are.
fn with_tags(before: &[Traffic], whole: Traffic) -> Vec<Traffic> {
    let tagged = before.iter().filter(|part| part.tag.is_some());
    let tagged: Vec<Traffic> = tagged
        .map(|part| Traffic {
            percent: 0,
            ..part.clone()
        })
        .collect();
    // All to the newest is what nothing means.
    if tagged.is_empty() && whole.latest {
        return Vec::new();
    }
    std::iter::once(whole).chain(tagged).collect()
}

// === what is there ===

/// The revisions of a function as they are now.
pub(crate) struct View {
    function: String,
    namespace: String,
    status: Status,
    kept: Vec<KeptRevision>,
    members: Vec<Member>,
}

impl View {
    pub(crate) async fn of(platform: &Platform, object: &Object) -> Answer<Self> {
        let key = object.key();
        let function = platform.function(FunctionRef {
            namespace: key.namespace(),
            group: "",
            name: key.name(),
        });
        Ok(Self {
            function: key.name().to_owned(),
            namespace: key.namespace().to_owned(),
            status: Status::of(object),
            kept: platform.revisions(object).await?,
            members: function.map(|f| platform.members(&f)).unwrap_or_default(),
        })
    }

    /// By word, by the beginning of one, by tag, or the latest.
    fn find(&self, word: &str) -> Answer<&KeptRevision> {
        let tagged = self
            .status
            .traffic
            .iter()
            .find(|part| part.tags.iter().any(|tag| tag == word));
        let id = match tagged {
            Some(part) => &part.revision,
            None if word == LATEST => &self.status.revision,
            None => word,
        };
        self.kept.iter().find(|kept| kept.id == id).ok_or_else(|| {
            let tags = self.status.traffic.iter().flat_map(|part| &part.tags);
            let ids = self.kept.iter().map(|kept| &kept.id);
            let there: Vec<&str> = tags.chain(ids).map(String::as_str).collect();
            ApiError::not_found(format!(
                "function {:?} has no revision or tag {word:?}; there are {}",
                self.function,
                if there.is_empty() {
                    "none".to_owned()
                } else {
                    there.join(", ")
                }
            ))
        })
    }

    /// The same, if it can be given traffic.
    fn serving(&self, word: &str) -> Answer<&KeptRevision> {
        let kept = self.find(word)?;
        if kept.can_serve() {
            return Ok(kept);
        }
        Err(ApiError::new(
            StatusCode::CONFLICT,
            "conflict",
            format!(
                "revision {} of {:?} was never ready: {}",
                kept.id, self.function, kept.message
            ),
        ))
    }

    /// The ready one before the one that has most of the traffic, or the rollout's own where one is under way.
    fn previous(&self) -> Answer<&KeptRevision> {
        let rollout = self.status.rollout.as_ref();
        let running = rollout.filter(|r| r.phase == tidegate_platform::RolloutPhase::Running);
        if let Some(running) = running
            && let Some(from) = self.kept.iter().find(|kept| kept.id == running.from)
        {
            return Ok(from);
        }
        let most = self
            .status
            .traffic
            .first()
            .map(|part| part.revision.as_str());
        let from = self.kept.iter().find(|kept| Some(kept.id.as_str()) == most);
        let before = |kept: &&KeptRevision| {
            kept.phase == tidegate_platform::RevisionPhase::Ready
                && from.is_none_or(|from| kept.number < from.number)
        };
        self.kept.iter().find(before).ok_or_else(|| {
            ApiError::new(
                StatusCode::CONFLICT,
                "conflict",
                format!(
                    "function {:?} has no ready revision before {}",
                    self.function,
                    most.unwrap_or("the first")
                ),
            )
        })
    }

    fn revision(&self, kept: &KeptRevision) -> Revision {
        let member = self.members.iter().find(|m| *m.revision.id == *kept.id);
        let part = self.status.traffic.iter().find(|p| p.revision == kept.id);
        Revision {
            api_version: document::API_VERSION.to_owned(),
            kind: document::REVISION.to_owned(),
            metadata: Metadata {
                name: kept.id.clone(),
                namespace: self.namespace.clone(),
                creation_timestamp: kept.created.clone(),
                ..Metadata::default()
            },
            spec: RevisionSpec {
                number: kept.number,
                generation: kept.generation,
                cause: kept.cause.clone(),
                function: spec(&kept.spec),
            },
            status: RevisionStatus {
                phase: match kept.phase {
                    tidegate_platform::RevisionPhase::Unknown => RevisionPhase::Unknown,
                    tidegate_platform::RevisionPhase::Ready => RevisionPhase::Ready,
                    tidegate_platform::RevisionPhase::Failed => RevisionPhase::Failed,
                    tidegate_platform::RevisionPhase::RolledBack => RevisionPhase::RolledBack,
                },
                message: kept.message.clone(),
                log: kept.log.clone(),
                latest: kept.id == self.status.revision,
                percent: part.map_or(0, |part| part.percent),
                tags: part.map(|part| part.tags.clone()).unwrap_or_default(),
                instances: member
                    .map(|m| render::instances(m.counts))
                    .unwrap_or_default(),
                invocations: member.map_or(0, |m| m.tally.calls),
                errors: member.map_or(0, |m| m.tally.errors),
            },
        }
    }
}

/// A part of the traffic with what it does now.
pub(crate) fn part(part: TrafficPart, members: &[Member]) -> TrafficStatus {
    let member = members.iter().find(|m| *m.revision.id == *part.revision);
    TrafficStatus {
        revision: part.revision,
        percent: part.percent,
        tags: part.tags,
        instances: member
            .map(|m| render::instances(m.counts))
            .unwrap_or_default(),
        invocations: member.map_or(0, |m| m.tally.calls),
        errors: member.map_or(0, |m| m.tally.errors),
    }
}

pub(crate) fn rollout(rollout: tidegate_platform::Rollout) -> RolloutStatus {
    use tidegate_platform::RolloutPhase as Phase;
    RolloutStatus {
        revision: rollout.revision,
        from: rollout.from,
        percent: rollout.percent,
        phase: match rollout.phase {
            Phase::Running => RolloutPhase::Running,
            Phase::Done => RolloutPhase::Done,
            Phase::RolledBack => RolloutPhase::RolledBack,
        },
        message: rollout.message,
    }
}

/// A canonical specification as a document would ask for it, with nothing left to defaults.
pub(crate) fn spec(spec: &tidegate_core::FunctionSpec) -> FunctionSpec {
    let limits = &spec.limits;
    // Not where the image is the code's runtime, as which the runtime's name stands for it.
    let image = spec.root.as_ref().filter(|_| spec.code.digest.is_empty());
    let secrets = spec.secrets.iter().map(|used| document::SecretUse {
        name: used.name.clone(),
        env: used.env.clone(),
    });
    FunctionSpec {
        runtime: spec.runtime.clone(),
        contract: Some(spec.contract.clone()),
        code: document::Code {
            digest: spec.code.digest.clone(),
            entry: spec.code.entry.clone(),
        },
        image: image.map(|root| root.image.clone()),
        command: image.map_or_else(Vec::new, |_| spec.command.clone()),
        workdir: image.map(|root| root.workdir.clone()),
        user: image.map(|root| format!("{}:{}", root.user, root.group)),
        read_only_root: image.map(|root| root.read_only),
        port: image.and_then(|root| root.port),
        ready_path: image.and_then(|root| Some(root.ready.as_ref()?.path.clone())),
        handler: spec.handler.clone(),
        env: spec.env.clone(),
        secrets: secrets.collect(),
        limits: document::Limits {
            memory: Some(format_bytes(limits.memory)),
            cpu: Some(format!("{}m", limits.cpu_milli)),
            pids: Some(limits.pids),
            tmp: Some(format_bytes(limits.tmp)),
            timeout: Some(format_duration(limits.timeout)),
            first_byte: Some(format_duration(limits.first_byte)),
            stream_idle: Some(format_duration(limits.stream_idle)),
            body: Some(format_bytes(limits.body)),
        },
        scale: document::Scale {
            concurrency: Some(spec.scale.concurrency),
            ..document::Scale::default()
        },
        network: word(&spec.network),
        access: word(&spec.access),
        ..FunctionSpec::default()
    }
}

/// An enumeration's word in documents.
fn word(value: &impl serde::Serialize) -> Option<String> {
    let value = serde_json::to_value(value).ok()?;
    value.as_str().map(str::to_owned)
}
