//! Step `bound`: waits until every claim of the bundle is Bound to its own volume.
//!
//! In: the pair's bundle. Out: every claim Bound, read back with the volume behind it. The binder misses events and then
//! sleeps up to 15 s (measured); a harmless annotation on the claim wakes it. Start reading at [`run`].

use std::time::Duration;

use k8s_openapi::api::core::v1::{Event, PersistentVolumeClaim};
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::bundle::{Bundle, Claim};
use crate::kube_apply::{collection, core_resource};
use crate::kube_call::{FIELD_MANAGER, OURS, get, read, shortened, write};
use crate::kube_watch::{LAST_LOOK, Watched};
use crate::restore::{bundle, differences, standby};
use crate::{Context, StepDone, StepError};

/// A claim that is to bind at once has done so by then: 0.05 to 0.1 s, measured on 1.36.
const FIRST_NUDGE: Duration = Duration::from_millis(300);

/// Between two nudges after the first.
const NUDGE: Duration = Duration::from_secs(1);

/// Carries the step out.
///
/// # Errors
/// [`StepError::Permanent`] with the binder's own words if a claim stays unbound or is bound to something else.
pub(crate) async fn run(ctx: &Context) -> Result<StepDone, StepError> {
    let (client, bundle) = (standby(ctx)?, bundle(ctx)?);
    let within = ctx.pair.restore.as_ref().map_or(Duration::ZERO, |restore| restore.bound_within.0);
    let deadline = Instant::now() + within;
    let claims = claims_of(client, &bundle.namespace);
    let mut nudger = Nudger { ctx, client, namespace: &bundle.namespace, next: Instant::now() + FIRST_NUDGE, sent: 0 };
    loop {
        let look = timeout_at(deadline + LAST_LOOK, look(client, &claims, &bundle)).await;
        let look = look.unwrap_or_else(|_late| Err(StepError::transient("B's API server did not answer in time")));
        let (waiting, version) = match look {
            Ok(look) if look.waiting.is_empty() => return Ok(done(&bundle, nudger.sent)),
            Ok(look) => (look.waiting, look.version),
            Err(error @ StepError::Permanent { .. }) => return Err(error),
            // Not having seen is no end: the server may be back before the deadline.
            Err(error) if Instant::now() >= deadline => return Err(error),
            Err(error) => (vec![Waiting { claim: None, why: error.to_string() }], String::new()),
        };
        if Instant::now() >= deadline {
            return Err(overdue(client, &bundle.namespace, &waiting, within).await);
        }
        ctx.gate.progress(Waiting::all(&waiting));
        tokio::select! {
            () = claims.changed(&version) => {}
            () = sleep_until(nudger.next.min(deadline)) => {}
        }
        nudger.nudge(&waiting).await;
    }
}

/// Says whether every claim of the bundle is Bound to its own volume right now.
///
/// # Errors
/// [`StepError::Permanent`] that names the first claim that is not.
pub(crate) async fn assert(client: &kube::Client, bundle: &Bundle) -> Result<(), StepError> {
    let look = look(client, &claims_of(client, &bundle.namespace), bundle).await?;
    if look.waiting.is_empty() {
        return Ok(());
    }
    Err(StepError::permanent(format!("{}: nothing that mounts it may start", Waiting::all(&look.waiting))))
}

fn claims_of(client: &kube::Client, namespace: &str) -> Watched<PersistentVolumeClaim> {
    let what = format!("the claims of namespace {namespace}");
    Watched::all(Api::namespaced(client.clone(), namespace), what)
}

fn done(bundle: &Bundle, nudges: u32) -> StepDone {
    let bound: Vec<_> = bundle.claims.iter().map(|c| format!("{} to {}", c.claim.name, c.volume.name)).collect();
    let nudged = if nudges == 0 { String::new() } else { format!(" after {nudges} nudges") };
    StepDone::saying(format!("bound {}{nudged}", bound.join(", ")))
}

/// A claim that is not Bound yet.
struct Waiting {
    /// Which; none if the look itself failed.
    claim: Option<String>,
    why: String,
}

impl Waiting {
    fn all(waiting: &[Waiting]) -> String {
        waiting.iter().map(|one| one.why.as_str()).collect::<Vec<_>>().join("; ")
    }
}

/// The claims at one moment.
struct Look {
    waiting: Vec<Waiting>,
    version: String,
}

async fn look(
    client: &kube::Client,
    claims: &Watched<PersistentVolumeClaim>,
    bundle: &Bundle,
) -> Result<Look, StepError> {
    let seen = claims.list().await?;
    let mut waiting = Vec::new();
    for pair in &bundle.claims {
        let name = &pair.claim.name;
        let found = seen.items.iter().find(|claim| claim.metadata.name.as_deref() == Some(name));
        let why = match found {
            None => Some(format!("claim {name} does not exist")),
            Some(claim) => state(client, pair, claim).await?,
        };
        waiting.extend(why.map(|why| Waiting { claim: found.map(|_| name.clone()), why }));
    }
    Ok(Look { waiting, version: seen.version })
}

/// Why the claim is not Bound yet; none if it is, and to the right volume.
async fn state(
    client: &kube::Client,
    pair: &Claim,
    claim: &PersistentVolumeClaim,
) -> Result<Option<String>, StepError> {
    let name = &pair.claim.name;
    let wrong = differences("PersistentVolumeClaim", &pair.claim.object, &json!(claim));
    if !wrong.is_empty() {
        return Err(StepError::permanent(format!("claim {name} is not ours: {}", wrong.join("; "))));
    }
    let phase = claim.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("Pending");
    if phase != "Bound" {
        return Ok(Some(format!("claim {name} is {phase}")));
    }
    // The claim says Bound; the volume must say so too, and be the one that the bundle means.
    let volumes = collection(client, &core_resource("PersistentVolume"), None);
    let Some(volume) = get(&volumes, "PersistentVolume", &pair.volume.name).await? else {
        return Ok(Some(format!("claim {name} is Bound to a volume that does not exist")));
    };
    let volume = json!(volume);
    let wrong = differences("PersistentVolume", &pair.volume.object, &volume);
    if !wrong.is_empty() {
        let volume = &pair.volume.name;
        return Err(StepError::permanent(format!("volume {volume} of claim {name} is not ours: {}", wrong.join("; "))));
    }
    Ok(volume_state(&volume, name, claim.metadata.uid.as_deref()))
}

pub(crate) fn volume_state(volume: &Value, claim: &str, uid: Option<&str>) -> Option<String> {
    let phase = volume["status"]["phase"].as_str().unwrap_or("Pending");
    let held_by = volume.pointer("/spec/claimRef/uid").and_then(Value::as_str);
    if phase != "Bound" {
        return Some(format!("volume of claim {claim} is {phase}"));
    }
    (held_by != uid).then(|| format!("volume of claim {claim} is Bound to another claim of this name"))
}

/// Wakes the binder.
struct Nudger<'a> {
    ctx: &'a Context,
    client: &'a kube::Client,
    namespace: &'a str,
    next: Instant,
    sent: u32,
}

impl Nudger<'_> {
    /// Touches each waiting claim, if it is time.
    async fn nudge(&mut self, waiting: &[Waiting]) {
        if Instant::now() < self.next {
            return;
        }
        self.next = Instant::now() + NUDGE;
        let claims: Api<PersistentVolumeClaim> = Api::namespaced(self.client.clone(), self.namespace);
        for name in waiting.iter().filter_map(|one| one.claim.as_deref()) {
            self.sent += 1;
            let patch = json!({ "metadata": { "annotations": { format!("{OURS}nudge"): self.sent.to_string() } } });
            let params = PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() };
            let patch = Patch::Merge(&patch);
            let call = claims.patch(name, &params, &patch);
            // A nudge that fails costs time and nothing else.
            if let Err(error) = write(&*self.ctx.gate, &format!("nudge claim {name}"), call).await {
                tracing::debug!(claim = name, cause = %error, "a nudge failed");
            }
        }
    }
}

async fn overdue(client: &kube::Client, namespace: &str, waiting: &[Waiting], within: Duration) -> StepError {
    let mut texts = Vec::new();
    for one in waiting {
        let event = match &one.claim {
            Some(claim) => newest_event(client, namespace, claim).await,
            None => None,
        };
        texts.push(event.map_or_else(|| one.why.clone(), |event| format!("{}: {event}", one.why)));
    }
    StepError::permanent(format!("not every claim was Bound within {within:?}: {}", texts.join("; ")))
}

/// What the binder says about a claim.
async fn newest_event(client: &kube::Client, namespace: &str, claim: &str) -> Option<String> {
    let events: Api<Event> = Api::namespaced(client.clone(), namespace);
    let about = format!("involvedObject.kind=PersistentVolumeClaim,involvedObject.name={claim}");
    let found = read("list events", events.list(&ListParams::default().fields(&about).limit(100))).await.ok()?;
    let newest = found.items.into_iter().max_by_key(|event| event.last_timestamp.as_ref().map(|time| time.0));
    newest.and_then(|event| event.message).map(|message| shortened(&message))
}

#[cfg(test)]
mod tests;
