//! Pods of a namespace: which live, what they mount, how they are.
//!
//! In: a namespace. Out: its pods, read now. Start reading at [`list`].

use k8s_openapi::api::core::v1::Pod;
use kube::Api;

use crate::StepError;
use crate::kube_call::shortened;
use crate::kube_watch::Watched;

/// Pods that are named in a text; the rest are counted.
const NAMED: usize = 5;

/// The pods of a namespace.
pub(crate) async fn list(client: &kube::Client, namespace: &str) -> Result<Vec<Pod>, StepError> {
    Ok(watched(client, namespace).list().await?.items)
}

/// The pods of a namespace, to be waited for.
pub(crate) fn watched(client: &kube::Client, namespace: &str) -> Watched<Pod> {
    Watched::all(Api::namespaced(client.clone(), namespace), format!("the pods of namespace {namespace}"))
}

/// Whether it may still run, now or later.
pub(crate) fn is_living(pod: &Pod) -> bool {
    !matches!(phase(pod), "Succeeded" | "Failed")
}

/// Whether it mounts the claim.
pub(crate) fn mounts(pod: &Pod, claim: &str) -> bool {
    let volumes = pod.spec.as_ref().and_then(|spec| spec.volumes.as_ref());
    let mut claims = volumes.into_iter().flatten().filter_map(|volume| volume.persistent_volume_claim.as_ref());
    claims.any(|source| source.claim_name == claim)
}

/// Its name.
pub(crate) fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}

fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("Pending")
}

/// How the pods are, in one line.
pub(crate) fn summary(pods: &[Pod]) -> String {
    if pods.is_empty() {
        return "no pod yet".into();
    }
    let mut texts: Vec<_> = pods.iter().take(NAMED).map(one).collect();
    if pods.len() > NAMED {
        texts.push(format!("{} more", pods.len() - NAMED));
    }
    texts.join(", ")
}

fn one(pod: &Pod) -> String {
    let state = if pod.metadata.deletion_timestamp.is_some() { "ending" } else { phase(pod) };
    match trouble(pod) {
        Some(trouble) => format!("pod {} {state} ({trouble})", name(pod)),
        None => format!("pod {} {state}", name(pod)),
    }
}

/// Why it does not run yet: what the scheduler or the kubelet says.
fn trouble(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let containers = status.init_container_statuses.iter().chain(&status.container_statuses).flatten();
    let waiting = containers.filter_map(|one| one.state.as_ref()?.waiting.as_ref()?.reason.clone()).next();
    let unmet = status.conditions.iter().flatten().find(|condition| condition.status != "True");
    waiting.or_else(|| unmet.and_then(|condition| condition.reason.clone())).map(|reason| shortened(&reason))
}

#[cfg(test)]
mod tests;
