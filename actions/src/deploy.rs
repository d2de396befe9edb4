//! Step `deploy`: the custom resource at B, until its operator says that Nexus runs.
//!
//! In: the pair's manifest, with its patches. Out: every condition true, and a pod that mounts each claim of the bundle:
//! a chart that is told nothing about the claim starts an empty Nexus, in perfect health. Start reading at [`run`].

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::DynamicObject;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::bound;
use crate::bundle::Bundle;
use crate::custom_resource::CustomResource;
use crate::kube_apply::apply;
use crate::kube_call::{get, shortened};
use crate::kube_watch::{LAST_LOOK, Watched};
use crate::looks::Looks;
use crate::pods;
use crate::restore::{bundle, standby};
use crate::{Context, StepDone, StepError};

/// The operator may say "running" a moment before the pod's volume shows.
const MOUNT_GRACE: Duration = Duration::from_secs(15);

/// Carries the step out.
///
/// # Errors
/// [`StepError::Permanent`] if it does not become ready in time, or if no pod mounts the restored volume.
pub(crate) async fn run(ctx: &Context) -> Result<StepDone, StepError> {
    let client = standby(ctx)?;
    let resource = load(ctx)?;
    let bundle = ctx.pair.restore.as_ref().map(|_| bundle(ctx)).transpose()?;
    if let Some(bundle) = &bundle {
        bound::assert(client, bundle).await?;
    }
    let api = resource.collection(client).await?;
    put(ctx, &api, &resource).await?;
    let wait = Wait { ctx, client, resource: &resource, bundle: bundle.as_ref() };
    wait.until_ready(api).await
}

/// The pair's custom resource. What is wrong with it does not change by trying again.
pub(crate) fn load(ctx: &Context) -> Result<CustomResource, StepError> {
    CustomResource::of(&ctx.pair).map_err(|error| {
        let source = Some(Box::from(error));
        StepError::Permanent { what: "the custom resource can not be used".into(), source }
    })
}

async fn put(ctx: &Context, api: &Api<DynamicObject>, resource: &CustomResource) -> Result<(), StepError> {
    let CustomResource { kind, name, object, .. } = resource;
    if let Some(current) = get(api, kind, name).await?
        && current.metadata.deletion_timestamp.is_some()
    {
        return Err(StepError::transient(format!("{kind} {name} is being deleted at B: it must be gone first")));
    }
    ctx.gate.progress(format!("applying {kind} {name}"));
    apply(ctx, api, kind, name, object).await.map(|_| ())
}

/// What waiting needs.
struct Wait<'a> {
    ctx: &'a Context,
    client: &'a kube::Client,
    resource: &'a CustomResource,
    bundle: Option<&'a Bundle>,
}

/// How far it is.
enum Look {
    Ready(String),
    /// The operator is content, but the volume is not in use.
    Empty(String),
    NotYet(String),
}

impl Wait<'_> {
    async fn until_ready(&self, api: Api<DynamicObject>) -> Result<StepDone, StepError> {
        let within = self.ctx.pair.deploy.as_ref().map_or(Duration::ZERO, |deploy| deploy.ready_within.0);
        let CustomResource { kind, name, .. } = self.resource;
        let watched = Watched::one(api, format!("{kind} {name}"), name);
        let mut deadline = Instant::now() + within;
        // Once the operator is content: a pod that shows its volume later is no event of the resource.
        let mut empty: Option<Looks> = None;
        loop {
            let look = timeout_at(deadline + LAST_LOOK, self.look(&watched)).await;
            let look = look.unwrap_or_else(|_late| Err(StepError::transient("B's API server did not answer in time")));
            let (text, version) = match look {
                Ok((Look::Ready(how), _)) => return Ok(StepDone::saying(how)),
                Ok((Look::Empty(why), version)) => {
                    if empty.is_none() {
                        deadline = deadline.min(Instant::now() + MOUNT_GRACE);
                        empty = Some(Looks::until(deadline));
                    }
                    (why, version)
                }
                Ok((Look::NotYet(why), version)) => (why, version),
                Err(error @ StepError::Permanent { .. }) => return Err(error),
                Err(error) if Instant::now() >= deadline => return Err(error),
                Err(error) => (error.to_string(), String::new()),
            };
            if Instant::now() >= deadline {
                return Err(overdue(empty.is_some(), within, &text));
            }
            self.ctx.gate.progress(text);
            let mounted = async {
                match &mut empty {
                    Some(looks) => looks.next().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = watched.changed(&version) => {}
                true = mounted => {}
                () = sleep_until(deadline) => {}
            }
        }
    }

    async fn look(&self, watched: &Watched<DynamicObject>) -> Result<(Look, String), StepError> {
        let CustomResource { kind, name, namespace, .. } = self.resource;
        let seen = watched.list().await?;
        let Some(current) = seen.items.into_iter().next() else {
            return Ok((Look::NotYet(format!("{kind} {name} does not show yet")), seen.version));
        };
        let deploy = self.ctx.pair.deploy.as_ref();
        let wanted = deploy.map_or(&[][..], |deploy| &deploy.conditions);
        let pods = pods::list(self.client, namespace).await?;
        let look = match unmet(&json!(current), wanted) {
            Some(unmet) => Look::NotYet(format!("{unmet}; {}", pods::summary(&pods))),
            None => self.mounts(&pods),
        };
        Ok((look, seen.version))
    }

    /// Whether what runs runs on the restored volumes.
    fn mounts(&self, pods: &[Pod]) -> Look {
        let CustomResource { kind, name, .. } = self.resource;
        let claims: BTreeSet<&str> =
            self.bundle.iter().flat_map(|bundle| bundle.claims.iter().map(|pair| pair.claim.name.as_str())).collect();
        let living: Vec<_> = pods.iter().filter(|pod| pods::is_living(pod)).collect();
        let unused: Vec<_> =
            claims.iter().filter(|claim| !living.iter().any(|pod| pods::mounts(pod, claim))).copied().collect();
        if unused.is_empty() {
            return Look::Ready(format!("{kind} {name} is ready; {}", pods::summary(pods)));
        }
        if living.is_empty() {
            return Look::Ready(format!("{kind} {name} is ready; no pod shows in its namespace"));
        }
        let unused = unused.join(", ");
        Look::Empty(format!(
            "{kind} {name} says that it runs, but no pod mounts claim {unused}: {}",
            pods::summary(pods)
        ))
    }
}

/// The first condition that is not true yet; none if all are.
pub(crate) fn unmet(current: &Value, wanted: &[String]) -> Option<String> {
    let status = &current["status"];
    let number = |value: &Value| value.as_i64();
    if let (Some(seen), Some(newest)) =
        (number(&status["observedGeneration"]), number(&current["metadata"]["generation"]))
        && seen < newest
    {
        return Some("the operator has not seen this version yet".into());
    }
    let none = Vec::new();
    let conditions = status["conditions"].as_array().unwrap_or(&none);
    wanted.iter().find_map(|kind| {
        let found = conditions.iter().find(|condition| condition["type"] == kind.as_str());
        let Some(found) = found else { return Some(format!("no condition {kind} yet")) };
        let state = found["status"].as_str().unwrap_or("Unknown");
        if state.eq_ignore_ascii_case("true") {
            return None;
        }
        let text = |key: &str| found[key].as_str().unwrap_or_default();
        let why = [text("reason"), text("message")].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>();
        Some(format!("condition {kind} is {state} ({})", shortened(&why.join(": "))))
    })
}

fn overdue(is_empty: bool, within: Duration, text: &str) -> StepError {
    if is_empty {
        return StepError::permanent(format!(
            "{text}; an empty Nexus would be served: tell the chart about the claim (existingClaim, or the same instance name)"
        ));
    }
    StepError::permanent(format!("not ready within {within:?}: {text}"))
}

#[cfg(test)]
mod tests;
