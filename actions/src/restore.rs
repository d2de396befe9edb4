//! Step `restore`: namespace, Secrets, volumes and claims at B.
//!
//! In: the pair's bundle. Out: every object of it at B, or a list of those that are there already and are something
//! else. What exists is compared and never overwritten: a volume of the same name may hold other data. All objects are
//! tried, so that one that differs keeps no other from being there. Start reading at [`run`].

pub(crate) mod compare;

use futures::future::BoxFuture;
use futures::{StreamExt, stream};
use kube::Api;
use kube::api::DynamicObject;
use serde_json::{Value, json};

pub(crate) use self::compare::differences;
use crate::bundle::{Bundle, Claim, Item};
use crate::kube_apply::{amend, apply, collection, core_resource};
use crate::kube_call::get;
use crate::{Context, StepDone, StepError};

/// Objects written side by side.
const AT_ONCE: usize = 4;

/// Carries the step out.
///
/// # Errors
/// [`StepError::Permanent`] names each object that differs, and how.
pub(crate) async fn run(ctx: &Context) -> Result<StepDone, StepError> {
    let bundle = bundle(ctx)?;
    let desk = Desk { ctx, client: standby(ctx)?, namespace: &bundle.namespace };
    // The namespace first; the rest has no order but each claim's behind its volume.
    let (first, others) = bundle.before.split_first().expect("a bundle begins with its namespace");
    let mut outcomes = vec![desk.restore(first).await];
    // Boxed one by one: the compiler can not see through a stream of closures over references that all of it is Send.
    let mut jobs: Vec<BoxFuture<'_, Vec<Result<Outcome, StepError>>>> = Vec::new();
    for item in others {
        jobs.push(Box::pin(desk.carry_out(Job::Single(item))));
    }
    for claim in &bundle.claims {
        jobs.push(Box::pin(desk.carry_out(Job::Claim(claim))));
    }
    let jobs = stream::iter(jobs);
    let rest: Vec<_> = jobs.buffer_unordered(AT_ONCE).collect().await;
    outcomes.extend(rest.into_iter().flatten());
    account(outcomes)
}

/// B's API server.
pub(crate) fn standby(ctx: &Context) -> Result<&kube::Client, StepError> {
    ctx.standby.as_ref().ok_or_else(|| StepError::permanent("there is no clusters.standby in the settings"))
}

/// The pair's bundle. What is wrong with it does not change by trying again.
pub(crate) fn bundle(ctx: &Context) -> Result<Bundle, StepError> {
    Bundle::of(&ctx.pair).map_err(|error| {
        let source = Some(Box::from(error));
        StepError::Permanent { what: "the bundle can not be used".into(), source }
    })
}

/// What became of one object.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Created,
    Kept,
    /// Kept and made fit: it is retained now, or a stale claim was taken off it.
    Mended,
    /// Something else of this name is there.
    Differs(String),
}

/// What can be done side by side.
enum Job<'a> {
    Single(&'a Item),
    Claim(&'a Claim),
}

/// What every write here needs.
struct Desk<'a> {
    ctx: &'a Context,
    client: &'a kube::Client,
    namespace: &'a str,
}

impl Desk<'_> {
    async fn carry_out(&self, job: Job<'_>) -> Vec<Result<Outcome, StepError>> {
        match job {
            Job::Single(item) => vec![self.restore(item).await],
            Job::Claim(Claim { claim, volume }) => {
                let outcome = self.restore_volume(volume, &claim.name).await;
                // A claim would bind to whatever bears the volume's name.
                let fit = matches!(outcome, Ok(Outcome::Created | Outcome::Kept | Outcome::Mended));
                let mut outcomes = vec![outcome];
                if fit {
                    outcomes.push(self.restore(claim).await);
                }
                outcomes
            }
        }
    }

    async fn restore(&self, item: &Item) -> Result<Outcome, StepError> {
        self.create_or_compare(item).await.map(|(outcome, _)| outcome)
    }

    async fn restore_volume(&self, volume: &Item, claim: &str) -> Result<Outcome, StepError> {
        match self.create_or_compare(volume).await? {
            (Outcome::Kept, current) => self.mend(volume, current, claim).await,
            (outcome, _) => Ok(outcome),
        }
    }

    /// The object as it is now, and whether we made it.
    async fn create_or_compare(&self, item: &Item) -> Result<(Outcome, Value), StepError> {
        let api = self.collection(&item.kind);
        let (outcome, current) = match get(&api, &item.kind, &item.name).await? {
            Some(current) => (Outcome::Kept, json!(current)),
            None => {
                self.ctx.gate.progress(format!("applying {} {}", item.kind, item.name));
                (Outcome::Created, apply(self.ctx, &api, &item.kind, &item.name, &item.object).await?)
            }
        };
        let differences = differences(&item.kind, &item.object, &current);
        if differences.is_empty() {
            return Ok((outcome, current));
        }
        let text = format!("{} {} is there already and differs: {}", item.kind, item.name, differences.join("; "));
        Ok((Outcome::Differs(text), current))
    }

    /// Makes a volume that was there already fit to be claimed: kept when its claim goes, and free of a claim that is gone.
    async fn mend(&self, volume: &Item, current: Value, claim: &str) -> Result<Outcome, StepError> {
        let api = self.collection(&volume.kind);
        let (mut current, mut outcome) = (current, Outcome::Kept);
        if current["spec"]["persistentVolumeReclaimPolicy"] != "Retain" {
            let what = format!("set the reclaim policy of PersistentVolume {} to Retain", volume.name);
            let change = json!({ "spec": { "persistentVolumeReclaimPolicy": "Retain" } });
            current = amend(self.ctx, &api, &what, &current, change).await?;
            outcome = Outcome::Mended;
        }
        if self.is_stale(&current, claim).await? {
            let what = format!("take the stale claim off PersistentVolume {}", volume.name);
            // The name stays, so that the volume remains reserved for this claim and no other.
            let change = json!({ "spec": { "claimRef": { "uid": null, "resourceVersion": null } } });
            amend(self.ctx, &api, &what, &current, change).await?;
            outcome = Outcome::Mended;
        }
        Ok(outcome)
    }

    /// Whether the volume is held by a claim of this name that no longer exists. That the name is ours was compared.
    async fn is_stale(&self, volume: &Value, claim: &str) -> Result<bool, StepError> {
        let Some(held_by) = volume.pointer("/spec/claimRef/uid").and_then(Value::as_str) else { return Ok(false) };
        let claims = self.collection("PersistentVolumeClaim");
        let living = get(&claims, "PersistentVolumeClaim", claim).await?;
        Ok(living.and_then(|living| living.metadata.uid).as_deref() != Some(held_by))
    }

    fn collection(&self, kind: &str) -> Api<DynamicObject> {
        let namespace = (!matches!(kind, "Namespace" | "PersistentVolume")).then_some(self.namespace);
        collection(self.client, &core_resource(kind), namespace)
    }
}

/// Differences first: they are what a human must look at, whatever else failed.
fn account(outcomes: Vec<Result<Outcome, StepError>>) -> Result<StepDone, StepError> {
    let (mut created, mut kept, mut mended) = (0, 0, 0);
    let (mut differ, mut failed) = (Vec::new(), Vec::new());
    for outcome in outcomes {
        match outcome {
            Ok(Outcome::Created) => created += 1,
            Ok(Outcome::Kept) => kept += 1,
            Ok(Outcome::Mended) => mended += 1,
            Ok(Outcome::Differs(how)) => differ.push(how),
            Err(error) => failed.push(error),
        }
    }
    if !differ.is_empty() {
        let what = format!("{}; nothing of it was changed: make bundle and B agree, then retry", differ.join("; "));
        return Err(StepError::permanent(what));
    }
    match worst(failed) {
        Some(error) => Err(error),
        None => Ok(StepDone::saying(format!("{created} created, {kept} found as they should be, {mended} mended"))),
    }
}

/// What no new try can mend comes first, then what nobody knows.
fn worst(mut failed: Vec<StepError>) -> Option<StepError> {
    failed.sort_by_key(|error| match error {
        StepError::Permanent { .. } => 0,
        StepError::Unknown { .. } => 1,
        StepError::NoLease(_) | StepError::NotNoted(_) | StepError::NotBegun(_) | StepError::Transient { .. } => 2,
    });
    failed.into_iter().next()
}

#[cfg(test)]
mod tests;
