//! Deploys: what is sent is checked whole, stored as it was sent, and answered at once; what follows from it follows.
//!
//! A client that updates sends `PUT` first and takes a 404 as the word to create, so a `PUT` looks for the function before
//! it looks at anything else, and never makes one. An update replaces everything: what it does not name is gone, and so is
//! a number of replicas that somebody had set by hand, since the labels say how many there are to be.

use axum::extract::State;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde::Deserialize as _;
use serde_json::Value;
use tidegate_core::Name;
use tidegate_openfaas::{FunctionDeployment, Image};
use tidegate_platform::{
    Digest, Error, Lower as _, LowerError, Object, Phase, Platform, StoreError, settled_phase,
};

use super::answer::{Answer, Params, Refusal, Sent};
use super::place::{Place, namespace, no_namespace};
use crate::lower::{API_VERSION, KIND, Stored};
use crate::{Deployments, OpenFaas, images, registry, shown_namespace};

/// Tries of a change that others race with.
const TRIES: usize = 8;

/// Credentials of a registry.
const LOGIN: &str = "registryAuth";

/// Members that are never stored.
const DROPPED: [&str; 1] = [LOGIN];

/// On the answer to an update that asks for what is there already. OpenFaaS's clients do not look; a command that tells
/// what it changed does.
const UNCHANGED: HeaderName = HeaderName::from_static("x-tidegate-unchanged");

/// A deployment that reads as one and has a name.
struct Wanted {
    /// As it was sent.
    raw: Value,
    deployment: FunctionDeployment,
    place: Place,
    /// Credentials of the image's registry, for this deploy alone.
    login: Option<String>,
}

/// Makes a function that must not be there yet.
pub(super) async fn create(
    State(openfaas): State<OpenFaas>,
    params: Params,
    sent: Sent,
) -> Answer<StatusCode> {
    let platform = openfaas.platform();
    let wanted = Wanted::read(&sent, &params)?;
    let place = &wanted.place;
    let taken = || {
        Refusal::conflict(format!(
            "unable create Deployment: function {} already exists in namespace {}",
            place.name,
            shown_namespace(&place.namespace)
        ))
    };
    if place.find(platform).await?.is_some() {
        return Err(taken());
    }
    let object = wanted.object(platform, 0).await?;
    match platform.create(object).await {
        Err(Error::Store(StoreError::AlreadyExists { .. })) => Err(taken()),
        made => {
            made?;
            Ok(StatusCode::ACCEPTED)
        }
    }
}

/// Replaces a function that must be there.
pub(super) async fn replace(
    State(openfaas): State<OpenFaas>,
    params: Params,
    sent: Sent,
) -> Answer<(StatusCode, HeaderMap)> {
    let platform = openfaas.platform();
    let wanted = Wanted::read(&sent, &params)?;
    for _ in 0..TRIES {
        let before = wanted.place.own(platform).await?;
        let generation = before.generation();
        // What was asked for by hand is over, and must not be taken for what is asked for next.
        let turn = Stored::of(&before).map_or(0, |stored| stored.turn);
        let spec = wanted.object(platform, turn).await?;
        let spec = spec.spec().cloned().unwrap_or_default();
        let object = before.replace_spec(spec).map_err(Error::from)?;
        let object = match platform.put(object).await {
            // Somebody else changed or deleted it since it was looked for.
            Err(Error::Store(StoreError::Conflict { .. } | StoreError::NotFound { .. })) => {
                continue;
            }
            put => put?.object(),
        };
        let mut headers = HeaderMap::new();
        // The same once more: whoever sends it wants it tried again.
        if settled_phase(&object) == Some(Phase::Failed) {
            match platform.retry(object).await {
                // It is being dealt with already.
                Err(Error::Store(StoreError::Conflict { .. } | StoreError::NotFound { .. })) => {}
                tried => drop(tried?),
            }
        } else if object.generation() == generation {
            headers.insert(UNCHANGED, HeaderValue::from_static("true"));
        }
        return Ok((StatusCode::ACCEPTED, headers));
    }
    Err(Refusal::conflict(format!(
        "function {} kept changing while it was to be updated; try again",
        wanted.place.name
    )))
}

// === impl Wanted ===

impl Wanted {
    fn read(sent: &Sent, params: &Params) -> Answer<Self> {
        let mut raw: Value = sent.read()?;
        let deployment = FunctionDeployment::deserialize(&raw)
            .map_err(|e| Refusal::bad(format!("failed to unmarshal request: {e}")))?;
        let login = raw.get(LOGIN).and_then(Value::as_str);
        let login = login.filter(|text| !text.is_empty()).map(str::to_owned);
        if let Some(members) = raw.as_object_mut() {
            members.retain(|name, _| !DROPPED.contains(&name.as_str()));
        }
        let name = &deployment.service;
        if name.is_empty() {
            return Err(Refusal::bad("validation failed: service: is required"));
        }
        if !is_dns_entry(name) {
            return Err(Refusal::bad(format!(
                "validation failed: service: ({name}) is invalid, must be a valid DNS entry"
            )));
        }
        // As long as a label of a host name, which it is part of.
        Name::new(name).map_err(|e| Refusal::bad(format!("validation failed: service: {e}")))?;
        let place = Place {
            namespace: namespace(&[deployment.namespace.as_deref(), params.get("namespace")]),
            name: name.clone(),
        };
        Ok(Self {
            raw,
            deployment,
            place,
            login,
        })
    }

    /// What is stored of it: everything that it names is there, and what it asks for can be.
    async fn object(&self, platform: &Platform, turn: u64) -> Answer<Object> {
        let name = &self.deployment.image;
        if name.is_empty() {
            return Err(Refusal::bad("validation failed: image: is required"));
        }
        let namespace = &self.place.namespace;
        match platform.require_namespace(namespace).await {
            Err(Error::NotFound(_)) => {
                let mut refused = no_namespace(namespace).text;
                if Name::new(namespace).is_ok() {
                    refused += &format!(
                        "; make it with 'faas-cli namespace create {namespace}' or 'tidegate namespace create {namespace}'"
                    );
                }
                return Err(Refusal::bad(refused));
            }
            there => there?,
        }
        platform
            .require_own(self.place.key(), (API_VERSION, KIND))
            .await?;
        let mut stored = Stored {
            deployment: self.raw.clone(),
            image: built(platform, name).await?,
            digest: None,
            replicas: None,
            turn,
        };
        if stored.image.is_none() {
            // What can be told without the image is told before it is waited for.
            self.check(platform, &stored).await?;
            let secrets = registry::pull_secrets(&stored).map_err(invalid)?;
            stored.digest =
                registry::resolve(platform, namespace, name, &secrets, self.login.as_deref())
                    .await
                    .map_err(|gone| Refusal::bad(gone.0))?;
        }
        self.check(platform, &stored).await
    }

    /// What is stored, if what it asks for can be.
    async fn check(&self, platform: &Platform, stored: &Stored) -> Answer<Object> {
        let namespace = &self.place.namespace;
        let spec = serde_json::to_value(stored).map_err(|e| Error::Invalid(e.to_string()))?;
        let key = self
            .place
            .document()
            .ok_or_else(|| self.place.not_found())?;
        let object = Object::with_spec(&key, spec).map_err(Error::from)?;
        let lowered = Deployments.lower(&object).map_err(invalid)?;
        if stored.digest.is_some() {
            platform
                .check_image(&lowered)
                .map_err(|e| Refusal::bad(format!("validation failed: {e}")))?;
        }
        runtime(platform, &lowered.spec.runtime)?;
        let used = lowered.spec.secrets.iter().map(|used| &used.name);
        let pulling = lowered.image.iter().flat_map(|image| &image.pull_secrets);
        secrets(platform, namespace, used.chain(pulling)).await?;
        Ok(object)
    }
}

/// The image that a build of ours made under this name, with its code.
async fn built(platform: &Platform, name: &str) -> Answer<Option<Image>> {
    let Some(image) = images::find(platform, name).await? else {
        return Ok(None);
    };
    let code = image.code();
    for digest in std::iter::once(&code.digest).chain(&code.layer) {
        let digest: Digest = digest.parse().map_err(Error::from)?;
        if !platform.has_code(&digest).await? {
            return Err(Refusal::bad(format!(
                "image {name:?} was built here, but its code is gone: build it again"
            )));
        }
    }
    Ok(Some(image))
}

/// Says which of the secrets that a function names is not there.
async fn secrets(
    platform: &Platform,
    namespace: &str,
    mut names: impl Iterator<Item = &String> + Send,
) -> Answer<()> {
    let there = platform.secrets(namespace).await?;
    let is_there = |name: &str| there.iter().any(|secret| secret.name == name);
    let Some(missing) = names.find(|name| !is_there(name)) else {
        return Ok(());
    };
    let shown = shown_namespace(namespace);
    Err(Refusal::bad(format!(
        "unable to fetch secrets: secret {missing:?} does not exist in namespace {shown}; make it with \
         'faas-cli secret create' or 'tidegate secret set' and deploy again"
    )))
}

/// Says how to get a runtime that this machine does not have.
fn runtime(platform: &Platform, word: &str) -> Answer<()> {
    let name = word.split(':').next().unwrap_or(word);
    let known = platform.runtimes().into_iter().find(|r| r.name == name);
    match known.map(|runtime| runtime.available) {
        Some(Err(how)) => Err(Refusal::bad(format!(
            "validation failed: image: its runtime {name:?} is not on this machine: {how}"
        ))),
        _ => Ok(()),
    }
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn invalid(error: LowerError) -> Refusal {
    Refusal::bad(format!("validation failed: {error}"))
}

fn is_dns_entry(name: &str) -> bool {
    let edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let bytes = name.as_bytes();
    edge(bytes.first())
        && edge(bytes.last())
        && bytes
            .iter()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
}
