//! One HTTP request to the API server, and its answer.
//!
//! In: method, path, query, token, body. Out: what a real one answers, in the same order of checks:
//! health, identity, does the path name anything, may this identity, is etcd there, then the change.
//! Start at [`answer`].

use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, StatusCode, header};
use hyper::body::Incoming;
use serde_json::{Value, json};

use super::access::Identity;
use super::change::{self, Manner, Outcome, PatchKind};
use super::resource::Target;
use super::select::Selector;
use super::status::Refusal;
use super::store::Key;
use super::{Server, watching};
use crate::standin::effects::Kind;
use crate::standin::web::{self, Answer};

/// When a watch ends that did not say so. Source: `--min-request-timeout`.
const WATCH_TIMEOUT: Duration = Duration::from_secs(1800);
/// The longest body taken. Source: the API server's own limit.
const LONGEST_BODY: usize = 3 << 20;

/// The parts of a request that handlers look at.
struct Call {
    method: Method,
    uri: http::Uri,
    content_type: String,
    user_agent: String,
    body: bytes::Bytes,
}

impl Call {
    fn query(&self, name: &str) -> Option<String> {
        web::query(&self.uri, name).filter(|value| !value.is_empty())
    }

    fn flag(&self, name: &str) -> bool {
        matches!(self.query(name).as_deref(), Some("true" | "1"))
    }

    fn manner(&self) -> Manner {
        let agent = self.user_agent.split('/').next().unwrap_or_default().to_owned();
        let named = self.query("fieldManager");
        let apply = PatchKind::of(&self.content_type) == Some(PatchKind::Apply);
        Manner {
            manager: named.unwrap_or(if apply { String::new() } else { agent }),
            dry_run: self.query("dryRun").as_deref() == Some("All"),
            force: self.flag("force"),
        }
    }
}

pub(super) async fn answer(server: Arc<Server>, request: Request<Incoming>) -> Answer {
    let (parts, body) = request.into_parts();
    let Ok(body) = web::collect(body).await else {
        return Refusal::bad_request("the body could not be read").answer();
    };
    if body.len() > LONGEST_BODY {
        return web::empty(StatusCode::PAYLOAD_TOO_LARGE);
    }
    let header = |name: header::HeaderName| {
        parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
    };
    let token = header(header::AUTHORIZATION);
    let call = Call {
        content_type: header(header::CONTENT_TYPE),
        user_agent: header(header::USER_AGENT),
        method: parts.method,
        uri: parts.uri,
        body,
    };
    let path = call.uri.path().to_owned();
    let identity = match identify(&server, &token) {
        Ok(identity) => identity,
        Err(refusal) => return refusal.answer(),
    };
    if let Some(answer) = booting(&server, &identity) {
        return answer;
    }
    if let Some(answer) = health(&server, &path, &call).await {
        return answer;
    }
    if identity.rules.is_empty() {
        return Refusal::forbidden(&identity.user, "get", &format!("path \"{path}\"")).answer();
    }
    resources(server, call, &path, &identity).await
}

fn identify(server: &Server, header: &str) -> Result<Identity, Refusal> {
    if header.is_empty() {
        return Ok(Identity::anonymous());
    }
    let token = header.strip_prefix("Bearer ").unwrap_or_default();
    let tokens = server.tokens.lock().expect("no panic while held");
    tokens.get(token).cloned().ok_or_else(Refusal::unauthorized)
}

/// A starting server knows no roles at first (403), then is not ready (500).
fn booting(server: &Server, identity: &Identity) -> Option<Answer> {
    let since = server.booted.lock().expect("no panic while held").elapsed();
    if since >= server.timing.boot {
        return None;
    }
    Some(if since < server.timing.boot / 2 {
        Refusal::forbidden(&identity.user, "get", "path \"/\"").answer()
    } else {
        web::typed(StatusCode::INTERNAL_SERVER_ERROR, "text/plain", "[-]poststarthook/rbac/bootstrap-roles failed\n")
    })
}

/// `/readyz`, `/livez`, `/healthz` and `/version`, open to everybody.
async fn health(server: &Server, path: &str, call: &Call) -> Option<Answer> {
    let (name, patience, both) = match path.trim_end_matches('/') {
        "/readyz" => ("readyz", server.timing.readyz, true),
        "/livez" => ("livez", server.timing.livez, false),
        "/healthz" => ("healthz", server.timing.livez, false),
        "/version" => {
            let version = json!({
                "major": "1", "minor": "36", "gitVersion": "v1.36.3", "platform": "linux/amd64",
                "gitCommit": "standin", "gitTreeState": "clean", "buildDate": "2026-01-01T00:00:00Z",
                "goVersion": "go1.25", "compiler": "gc",
            });
            return Some(web::json(StatusCode::OK, &version));
        }
        _ => return None,
    };
    let mut frozen = server.etcd_frozen.subscribe();
    let healthy = tokio::time::timeout(patience, frozen.wait_for(|frozen| !*frozen)).await.is_ok();
    let mut lines = vec!["[+]ping ok".to_owned(), "[+]log ok".to_owned()];
    for check in ["etcd", "etcd-readiness"] {
        if check == "etcd" || both {
            let line = if healthy { format!("[+]{check} ok") } else { format!("[-]{check} failed: reason withheld") };
            lines.push(line);
        }
    }
    lines.push("[+]poststarthook/rbac/bootstrap-roles ok".to_owned());
    let text = |end: &str| format!("{}\n{name} check {end}\n", lines.join("\n"));
    Some(if !healthy {
        web::typed(StatusCode::INTERNAL_SERVER_ERROR, "text/plain; charset=utf-8", text("failed"))
    } else if call.uri.query().is_some_and(|query| query.contains("verbose")) {
        web::typed(StatusCode::OK, "text/plain; charset=utf-8", text("passed"))
    } else {
        web::typed(StatusCode::OK, "text/plain; charset=utf-8", "ok")
    })
}

async fn resources(server: Arc<Server>, call: Call, path: &str, identity: &Identity) -> Answer {
    let review = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    if path == review && call.method == Method::POST {
        let body: Value = serde_json::from_slice(&call.body).unwrap_or_default();
        return web::json(StatusCode::CREATED, &identity.review(&body));
    }
    let (found, discovery) = {
        let registry = server.registry.lock().expect("no panic while held");
        (registry.find(path), registry.discovery(path))
    };
    let Some(target) = found else {
        return match discovery.filter(|_| call.method == Method::GET) {
            Some(document) => web::json(StatusCode::OK, &document),
            // Not a Status object: a client that expects one must cope.
            None => web::typed(StatusCode::NOT_FOUND, "text/plain; charset=utf-8", "404 page not found\n"),
        };
    };
    let verb = verb(&call, &target);
    if let Err(refusal) = authorize(identity, verb, &target) {
        return refusal.answer();
    }
    match verb {
        "watch" => watching::watch(server, watch_request(&call, target)),
        "get" | "list" => read(&server, &call, &target).await,
        _ => write(server, call, target, identity.user.clone()).await,
    }
}

fn verb(call: &Call, target: &Target) -> &'static str {
    let named = target.name.is_some();
    match call.method {
        Method::GET if call.flag("watch") => "watch",
        Method::GET | Method::HEAD if named => "get",
        Method::GET | Method::HEAD => "list",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE if named => "delete",
        Method::DELETE => "deletecollection",
        _ => "unknown",
    }
}

fn authorize(identity: &Identity, verb: &str, target: &Target) -> Result<(), Refusal> {
    let resource = match &target.subresource {
        Some(subresource) => format!("{}/{subresource}", target.resource.plural),
        None => target.resource.plural.clone(),
    };
    let name = target.name.as_deref().unwrap_or_default();
    let group = &target.resource.group;
    if identity.may(verb, group, &resource, name) {
        return Ok(());
    }
    let place = if target.namespace.is_empty() {
        "at the cluster scope".to_owned()
    } else {
        format!("in the namespace \"{}\"", target.namespace)
    };
    let mut refusal = Refusal::forbidden(&identity.user, verb, &resource);
    let full = if group.is_empty() { resource.clone() } else { format!("{resource}.{group}") };
    let whom = if name.is_empty() { full } else { format!("{full} \"{name}\"") };
    refusal.message = format!(
        "{whom} is forbidden: User \"{}\" cannot {verb} resource \"{resource}\" in API group \"{group}\" {place}",
        identity.user
    );
    Err(refusal)
}

fn watch_request(call: &Call, target: Target) -> watching::Request {
    let labels = call.query("labelSelector");
    let mut fields = call.query("fieldSelector");
    if let Some(name) = &target.name {
        fields = Some(format!("metadata.name={name}"));
    }
    let initial_events = call.flag("sendInitialEvents");
    let since = call.query("resourceVersion").and_then(|version| version.parse().ok());
    let seconds = call.query("timeoutSeconds").and_then(|seconds| seconds.parse().ok());
    watching::Request {
        selector: Selector::parse(labels.as_deref(), fields.as_deref()),
        target: Target { name: None, ..target },
        since: since.filter(|version| *version != 0 && !initial_events),
        bookmarks: call.flag("allowWatchBookmarks"),
        initial_events,
        timeout: seconds.map_or(WATCH_TIMEOUT, Duration::from_secs),
    }
}

/// Whether etcd answers before a request's own limit.
async fn etcd_answers(server: &Server) -> bool {
    let mut frozen = server.etcd_frozen.subscribe();
    tokio::time::timeout(server.timing.etcd, frozen.wait_for(|frozen| !*frozen)).await.is_ok()
}

async fn read(server: &Server, call: &Call, target: &Target) -> Answer {
    // Version 0 means: whatever the cache has.
    let cached = call.query("resourceVersion").as_deref() == Some("0");
    if !cached && !etcd_answers(server).await {
        return Refusal::etcd_read().answer();
    }
    let store = server.lock();
    let resource = &target.resource;
    if let Some(name) = &target.name {
        let key = Key::new(resource, &target.namespace, name);
        return match store.get(&key) {
            Some(object) if target.subresource.as_deref() == Some("scale") => web::json(StatusCode::OK, &scale(object)),
            Some(object) => web::json(StatusCode::OK, object),
            None => Refusal::not_found(&resource.group, &resource.plural, name).answer(),
        };
    }
    let (labels, fields) = (call.query("labelSelector"), call.query("fieldSelector"));
    let selector = Selector::parse(labels.as_deref(), fields.as_deref());
    let items: Vec<Value> = store
        .list(resource, &target.namespace)
        .filter(|(key, object)| selector.fits(key, object))
        .map(|(_, object)| {
            let mut item = object.clone();
            if let Some(item) = item.as_object_mut().filter(|_| !resource.custom) {
                item.remove("kind");
                item.remove("apiVersion");
            }
            item
        })
        .collect();
    let list = json!({
        "kind": format!("{}List", resource.kind), "apiVersion": resource.api_version(),
        "metadata": { "resourceVersion": store.version().to_string() }, "items": items,
    });
    web::json(StatusCode::OK, &list)
}

/// A write goes on when its client has given up: it may land after all.
async fn write(server: Arc<Server>, call: Call, target: Target, user: String) -> Answer {
    let writing = tokio::spawn(async move {
        if !etcd_answers(&server).await {
            return Refusal::etcd_write().answer();
        }
        match change(&server, &call, target, &user) {
            Ok((status, body)) => web::json(status, &body),
            Err(refusal) => refusal.answer(),
        }
    });
    writing.await.unwrap_or_else(|_| web::empty(StatusCode::INTERNAL_SERVER_ERROR))
}

fn change(server: &Server, call: &Call, mut target: Target, user: &str) -> Result<(StatusCode, Value), Refusal> {
    let mut manner = call.manner();
    if manner.manager.is_empty() && call.method != Method::PATCH {
        user.clone_into(&mut manner.manager);
    }
    let parse = || -> Result<Value, Refusal> {
        if call.body.is_empty() {
            return Ok(json!({}));
        }
        let text = std::str::from_utf8(&call.body).unwrap_or_default();
        let wrong = |why: String| Refusal::bad_request(format!("the body could not be parsed: {why}"));
        if text.trim_start().starts_with(['{', '[']) {
            serde_json::from_str(text).map_err(|error| wrong(error.to_string()))
        } else {
            serde_saphyr::from_str(text).map_err(|error| wrong(error.to_string()))
        }
    };
    let store = &mut server.lock();
    if call.method == Method::DELETE {
        let body = delete(server, store, call, &target, &parse()?, &manner)?;
        return Ok((StatusCode::OK, body));
    }
    let body = parse()?;
    if target.subresource.as_deref() == Some("scale") {
        return rescale(server, store, call, target, &body, &manner);
    }
    let outcome = match call.method {
        Method::POST => change::create(store, &target, body, &manner)?,
        Method::PUT => change::replace(store, &target, body, &manner)?,
        Method::PATCH => {
            let kind = PatchKind::of(&call.content_type).ok_or_else(|| Refusal::unsupported(&call.content_type))?;
            change::patch(store, &target, kind, &body, &manner)?
        }
        _ => return Err(Refusal::not_allowed()),
    };
    target.name = outcome.object["metadata"]["name"].as_str().map(str::to_owned);
    record(server, &target, &manner, &outcome);
    let status = if outcome.created { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, outcome.object))
}

/// Writes an effect down. Leases and events are noise: they are renewed and repeated at will.
fn record(server: &Server, target: &Target, manner: &Manner, outcome: &Outcome) {
    let noise = ["leases", "events"].contains(&target.resource.plural.as_str());
    if manner.dry_run || !outcome.effective || noise {
        return;
    }
    let detail = if outcome.created { "created" } else { "changed" };
    server.ledger.record(Kind::Apply, &server.name, &path(target), Some(&manner.manager), detail);
}

fn path(target: &Target) -> String {
    let name = target.name.as_deref().unwrap_or_default();
    format!("{}/{}/{name}", target.resource.plural, target.namespace)
}

fn delete(
    server: &Server,
    store: &mut super::store::Store,
    call: &Call,
    target: &Target,
    options: &Value,
    manner: &Manner,
) -> Result<Value, Refusal> {
    let mut manner = manner.clone();
    manner.dry_run |= options["dryRun"][0] == "All";
    let note = |target: &Target| {
        if !manner.dry_run {
            server.ledger.record(Kind::Delete, &server.name, &path(target), Some(&manner.manager), "");
        }
    };
    if target.name.is_some() {
        let body = change::delete(store, target, options, &manner)?;
        note(target);
        return Ok(body);
    }
    let (labels, fields) = (call.query("labelSelector"), call.query("fieldSelector"));
    let selector = Selector::parse(labels.as_deref(), fields.as_deref());
    let doomed: Vec<Key> = store
        .list(&target.resource, &target.namespace)
        .filter(|(key, object)| selector.fits(key, object))
        .map(|(key, _)| key.clone())
        .collect();
    for key in doomed {
        let one = Target { namespace: key.namespace, name: Some(key.name), ..target.clone() };
        change::delete(store, &one, options, &manner)?;
        note(&one);
    }
    Ok(json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success" }))
}

/// The Scale view of a workload.
fn scale(object: &Value) -> Value {
    let metadata = &object["metadata"];
    json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1",
        "metadata": {
            "name": metadata["name"], "namespace": metadata["namespace"], "uid": metadata["uid"],
            "resourceVersion": metadata["resourceVersion"],
            "creationTimestamp": metadata["creationTimestamp"],
        },
        "spec": { "replicas": object["spec"]["replicas"] },
        "status": { "replicas": object["status"]["replicas"].as_u64().unwrap_or(0) },
    })
}

fn rescale(
    server: &Server,
    store: &mut super::store::Store,
    call: &Call,
    target: Target,
    body: &Value,
    manner: &Manner,
) -> Result<(StatusCode, Value), Refusal> {
    let replicas = match (PatchKind::of(&call.content_type), body.as_array()) {
        (Some(PatchKind::Json), Some(operations)) => operations
            .iter()
            .find(|operation| operation["path"] == "/spec/replicas")
            .map(|operation| operation["value"].clone()),
        _ => Some(body["spec"]["replicas"].clone()),
    };
    let Some(replicas) = replicas.filter(|replicas| replicas.as_u64().is_some()) else {
        return Err(Refusal::bad_request("spec.replicas is missing"));
    };
    let target = Target { subresource: None, ..target };
    let version = &body["metadata"]["resourceVersion"];
    let wanted = json!({ "metadata": { "resourceVersion": version }, "spec": { "replicas": replicas } });
    let mut wanted = wanted;
    if version.is_null() {
        wanted["metadata"] = json!({});
    }
    let outcome = change::patch(store, &target, PatchKind::Merge, &wanted, manner)?;
    record(server, &target, manner, &outcome);
    Ok((StatusCode::OK, scale(&outcome.object)))
}
