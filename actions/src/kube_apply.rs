//! Puts an object into the world by server-side apply, and finds out whether it got there.
//!
//! In: an object. Out: the object as the server keeps it. Fields that somebody else owns are never taken: a conflict
//! names them. An apply whose answer was lost is looked up by the mark that each of our writes carries. Start reading
//! at [`apply`].

use kube::Api;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};

use crate::kube_call::{CallFault, FIELD_MANAGER, OURS, get, try_write};
use crate::{Context, StepError};

/// The collection of a kind, cluster-wide or of one namespace.
pub(crate) fn collection(client: &kube::Client, resource: &ApiResource, namespace: Option<&str>) -> Api<DynamicObject> {
    match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, resource),
        None => Api::all_with(client.clone(), resource),
    }
}

/// A kind of the core group, by the plain rule: lower case and an `s`.
pub(crate) fn core_resource(kind: &str) -> ApiResource {
    ApiResource {
        group: String::new(),
        version: "v1".into(),
        api_version: "v1".into(),
        kind: kind.to_owned(),
        plural: format!("{}s", kind.to_lowercase()),
    }
}

/// Applies `object`, marked with run and epoch.
///
/// # Errors
/// [`StepError::Permanent`] if a field belongs to somebody else, [`StepError::Unknown`] if nobody knows whether it landed.
pub(crate) async fn apply(
    ctx: &Context,
    api: &Api<DynamicObject>,
    kind: &str,
    name: &str,
    object: &Value,
) -> Result<Value, StepError> {
    let marked = marked(ctx, object);
    let params = PatchParams::apply(FIELD_MANAGER);
    let what = format!("failed to apply {kind} {name}");
    match try_write(&*ctx.gate, api.patch(name, &params, &Patch::Apply(&marked))).await? {
        Ok(kept) => Ok(json!(kept)),
        // Somebody else owns a field that we want otherwise; the server's message names both.
        Err(fault) if fault.code() == Some(409) => Err(StepError::Permanent { what, source: Some(Box::new(fault)) }),
        Err(fault) => lost(ctx, api, kind, name, fault.of_write(what)).await,
    }
}

/// Looks up whether an apply landed whose answer is missing.
async fn lost(
    ctx: &Context,
    api: &Api<DynamicObject>,
    kind: &str,
    name: &str,
    error: StepError,
) -> Result<Value, StepError> {
    if !matches!(error, StepError::Unknown { .. }) {
        return Err(error);
    }
    match get(api, kind, name).await {
        Ok(Some(found)) if bears_mark(ctx, &found) => Ok(json!(found)),
        // Not there now is no proof that it will not come: the next try reads first.
        Ok(_) | Err(_) => Err(error),
    }
}

fn marked(ctx: &Context, object: &Value) -> Value {
    let mut object = object.clone();
    let annotations = &mut object["metadata"]["annotations"];
    annotations[format!("{OURS}run")] = json!(ctx.order.run);
    annotations[format!("{OURS}epoch")] = json!(ctx.order.epoch.to_string());
    object
}

/// Whether this run wrote the object in this epoch.
fn bears_mark(ctx: &Context, object: &DynamicObject) -> bool {
    let Some(annotations) = &object.metadata.annotations else { return false };
    let is = |key: &str, value: &str| annotations.get(&format!("{OURS}{key}")).is_some_and(|found| found == value);
    is("run", ctx.order.run.as_str()) && is("epoch", &ctx.order.epoch.to_string())
}

/// Changes a few fields of an object as it was read: a merge patch that fails if the object has changed since.
///
/// # Errors
/// As [`crate::kube_call::write`]; an object that changed meanwhile is transient.
pub(crate) async fn amend(
    ctx: &Context,
    api: &Api<DynamicObject>,
    what: &str,
    current: &Value,
    change: Value,
) -> Result<Value, StepError> {
    let name = current["metadata"]["name"].as_str().unwrap_or_default();
    let mut change = change;
    change["metadata"]["resourceVersion"] = current["metadata"]["resourceVersion"].clone();
    let params = PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() };
    let answer = try_write(&*ctx.gate, api.patch(name, &params, &Patch::Merge(&change))).await?;
    answer.map(|kept| json!(kept)).map_err(|fault: CallFault| fault.of_write(format!("failed to {what}")))
}
