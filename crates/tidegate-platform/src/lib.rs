//! The one door: everything a dialect or a trigger may do.
//!
//! A dialect stores its clients' documents, says how one of them is lowered to a canonical function ([`Lower`]), and asks
//! for calls, logs and secrets. It never sees the store or the engine. What runs follows from what is stored and from
//! nothing else: a write only writes, and a controller that watches the store brings the engine in line, at start as after
//! every change. So a server that is killed in the middle of a deploy comes back to one of the two states, and there is
//! no second way for anything to be started.

#![forbid(unsafe_code)]

mod bill;
mod builds;
mod bundles;
mod call_body;
mod controller;
mod egress;
mod error;
mod images;
mod keys;
mod ledger;
mod lower;
mod namespaces;
mod platform;
mod queue;
mod quotas;
mod records;
mod resources;
mod revision;
mod revisions;
mod rollout;
mod secrets;
mod status;
mod traffic;
mod triggers;
mod views;
mod witness;

use tidegate_core::FunctionSpec;

pub use builds::{
    BUILD_LIMITS, BuildFailure, BuildLine, BuildLineKind, BuildOptions, BuildOutput, BuildReader,
    BuildSource, BuildStatus, BuildTail, Built, Scratch,
};
pub use call_body::CallBody;
pub use controller::settled_phase;
pub use error::Error;
pub use images::{
    AddedRuntime, ImageOptions, ImageStatus, ImageUse, Login, PrunedImages, RUNTIME_KIND,
};
pub use lower::{GradualRollout, Holds, Lower, LowerError, Lowered, Switch, key_of};
pub use namespaces::{DEFAULT_NAMESPACE, EGRESS, NamespaceChange, canonical_namespace};
pub use platform::{Attended, DEFAULT_REVISIONS, Parts, Platform};
pub use queue::{
    ATTEMPT, DOOR_HEADERS, Later, MAX_DEPTH, Named, NotAccepted, QueueDoor, QueueOptions,
    QueueRules, WHO_CALLS,
};
pub use quotas::QUOTA_ANNOTATION;
pub use records::RecordOptions;
pub use revisions::{KeptRevision, RevisionPhase};
pub use secrets::SecretInfo;
pub use status::{Phase, Status};
pub use traffic::{Rollout, RolloutPhase, TrafficPart};
pub use triggers::{FiredTrigger, MAX_TRIGGER_BODY, NotQueued, Scheduled, Trigger};
pub use views::View;
pub use witness::Witness;

pub use tidegate_build::{CONFIG_FILES, ToolPaths, Toolchain};
pub use tidegate_contract::{Body, BodyFault, Caller, Contract, ContractError, Prefix};
pub use tidegate_document::{TriggerRequest, TriggerSpec};
pub use tidegate_engine::{
    BUCKETS_SECONDS, CallContext, Chosen, Failure, Function, FunctionMetrics, Led, Lineage,
    LogLine, LogQuery, LogTail, Member, OUTCOMES, PoolCounts, ReplyBody, UnknownRevision, new_id,
};
pub use tidegate_image::{
    Config as ImageConfig, Credentials as RegistryCredentials, Error as ImageError,
    Event as ImageEvent, Image, ImageDigest, Progress as ImageProgress, Reference as ImageName,
    Settings as ImageSettings, Source as ImageSource,
};
pub use tidegate_instance::{JobLimits, Runtime, Usage};
pub use tidegate_queue::{
    Accepted, Answer, Body as KeptBody, Cancelled, DeadFilter, DeadLetter, Destination,
    DispatchOptions, DispatchStats, Ending, Entry as QueueEntry, Error as QueueError,
    Filter as QueueFilter, Finished, MAX_KEY_BYTES, MAX_PAGE as MAX_QUEUED,
    Options as QueueFileOptions, Page as QueuePage, Payload, Shown, Stats as QueueStats, Told,
    Work,
};
pub use tidegate_records::{
    Amount, Cost, Error as RecordsError, Follow, Followed, Line, MAX_PAGE as MAX_RECORDS,
    Options as KeepOptions, Page as RecordPage, Period, Price, PriceError, Prices,
    Query as RecordQuery, Retention, Stats as RecordStats, Totals, UsageQuery, UsageRow,
};
pub use tidegate_store::{
    BlobError, Deletion, Digest, DigestError, Error as StoreError, Event, LabelSelector, Object,
    ObjectKey, Page, Preconditions, Put, Query, ResourceVersion, Watch,
};
