//! The volumes, what of A is stopped, and what is put up at B.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Webhook, defaults};
use crate::Span;

/// The volumes: one key of these.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[expect(clippy::large_enum_variant, reason = "there are a handful, read once")]
pub enum Storage {
    /// RBD images with snapshot mirroring, by the `rbd` and `ceph` programs.
    Rbd(Rbd),
    /// Any other block storage, by commands or webhooks of yours.
    Hooks(StorageHooks),
}

impl Storage {
    /// The hook that tells how old B's copy is, where there is one.
    #[must_use]
    pub fn copy_age(&self) -> Option<&Hook> {
        match self {
            Storage::Rbd(_) => None,
            Storage::Hooks(hooks) => hooks.age.as_ref(),
        }
    }
}

settings! {
    /// RBD images with snapshot mirroring.
    pub struct Rbd {
        /// `POOL/IMAGE`, each volume of the pair.
        pub images: Vec<String>,
        /// Program and leading arguments of `rbd` at B, such as `[rbd, -c, /etc/ceph/b.conf]` or a `kubectl exec` into a toolbox.
        #[serde(default = "defaults::rbd")]
        pub rbd: Vec<String>,
        /// Program and leading arguments of `ceph` at B.
        #[serde(default = "defaults::ceph")]
        pub ceph: Vec<String>,
        /// Time-out of every call but the promote.
        #[serde(default = "defaults::call")]
        pub timeout: Span,
        /// How B's rbd-mirror is stopped, beside the blocklist.
        #[serde(default)]
        pub quiesce: Quiesce,
        /// Whether a snapshot of the promoted image is kept as an undo point.
        #[serde(default = "defaults::yes")]
        pub undo_point: bool,
        /// Schedule of mirror snapshots to add at B after the promote, such as `1m`.
        #[serde(default)]
        pub schedule: Option<String>,
    }
}

/// How B's rbd-mirror is stopped, beside the blocklist.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Quiesce {
    /// By the blocklist alone.
    #[default]
    None,
    /// By scaling a Deployment of B to 0.
    Deployment(DeploymentRef),
    /// By commands.
    Command(QuiesceCommand),
}

settings! {
    /// A Deployment of B.
    pub struct DeploymentRef {
        /// Its namespace.
        pub namespace: String,
        /// Its name.
        pub name: String,
    }
}

settings! {
    /// Commands that stop and start rbd-mirror.
    pub struct QuiesceCommand {
        /// Stops it; exit 0 = stopped, or sure to stop. It should not wait for the end, since rbd-mirror does not end while A
        /// is dead: `systemctl stop --no-block …`.
        pub stop: Vec<String>,
        /// Starts it; exit 0 = started.
        pub start: Vec<String>,
    }
}

settings! {
    /// Any other block storage.
    pub struct StorageHooks {
        /// Says the role at B: prints `primary`, `secondary` or `unknown`.
        pub status: Hook,
        /// Makes B primary. It must be safe to repeat, and must see to it by itself that B's copy is fit and held still: the
        /// plan has no consistency point and no quiesce here. A command is never killed; its time-out does not hold.
        pub promote: Hook,
        /// Prints how old B's copy is, in whole seconds: it holds all that A wrote until so long ago. Asked every 30 s, and by
        /// the plan right after the fence. Without it the loss has no bound.
        #[serde(default)]
        pub age: Option<Hook>,
    }
}

/// A command or a webhook: one key of these.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[expect(clippy::large_enum_variant, reason = "there are a handful, read once")]
pub enum Hook {
    /// Program and arguments; no shell. It is told `UNDERSTUDY_PAIR`, `_RUN`, `_STEP`, `_KEY` and `_EPOCH`.
    Command(CommandHook),
    /// An HTTP call.
    Webhook(Webhook),
}

impl Hook {
    /// The longest that it takes where it is not a promote.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        match self {
            Hook::Command(command) => command.timeout.0,
            Hook::Webhook(webhook) => webhook.timeout.0,
        }
    }
}

settings! {
    /// A program of yours.
    pub struct CommandHook {
        /// Program and arguments.
        pub command: Vec<String>,
        /// Its time-out.
        #[serde(default = "defaults::hook")]
        pub timeout: Span,
    }
}

/// What of A is stopped before the promote, in this order; each is bounded.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Fence {
    /// Delete the custom resource at A and see its pods and VolumeAttachments gone; pods that do not end are deleted by force.
    pub workload: bool,
    /// Demote A's images by A's own `rbd`, such as `[rbd, -c, /etc/ceph/a.conf]`.
    pub demote: Option<Vec<String>>,
    /// Hooks for power or network; exit 0 or 2xx = fenced.
    pub hooks: Vec<Hook>,
    /// The whole fence may take this long.
    pub within: Option<Span>,
    /// How long a polite stop may take before the stronger step.
    pub polite: Option<Span>,
    /// How long an API server of A that refuses the connection is asked again.
    pub refused_for: Option<Span>,
}

settings! {
    /// The objects to restore at B.
    pub struct Restore {
        /// A directory of manifests: Secrets, PV, PVC.
        pub bundle: PathBuf,
        /// The storage class at B.
        #[serde(default)]
        pub storage_class: Option<String>,
        /// The Ceph cluster's id at B, in volume attributes and volume handle.
        #[serde(default)]
        pub cluster_id: Option<String>,
        /// The pool at B, in the volume attributes.
        #[serde(default)]
        pub pool: Option<String>,
        /// The pool's number at B, in the volume handle.
        #[serde(default)]
        pub pool_id: Option<u64>,
        /// Every PVC must be Bound within this time.
        #[serde(default = "defaults::bound")]
        pub bound_within: Span,
    }
}

settings! {
    /// The custom resource to deploy at B.
    pub struct Deploy {
        /// The manifest: any group, version and kind.
        pub manifest: PathBuf,
        /// The resource's plural name; lower case kind plus `s` (or `es`) if left out.
        #[serde(default)]
        pub plural: Option<String>,
        /// JSON merge patches, applied to the manifest in order.
        #[serde(default)]
        #[schemars(with = "Vec<serde_json::Map<String, serde_json::Value>>")]
        pub patch: Vec<serde_json::Value>,
        /// Images of this registry prefix are taken from that one.
        #[serde(default)]
        pub image_registry: BTreeMap<String, String>,
        /// Conditions of `status` that must be true.
        #[serde(default = "defaults::conditions")]
        pub conditions: Vec<String>,
        /// It must be ready within this time.
        #[serde(default = "defaults::ready")]
        pub ready_within: Span,
    }
}
