//! Every way to change an object, with the checks that stand before it.
//!
//! In: the store, a target and a body. Out: the object as stored (or as it would be, in a dry run), or
//! a refusal. Clients and controllers both come through here. Start at [`create`].

use http::StatusCode;
use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use super::fields;
use super::patch::{self, Misfit};
use super::resource::{Resource, Target};
use super::status::{Refusal, deleted};
use super::store::{Key, Store, now};

/// How a client wants its change made.
#[derive(Debug, Clone, Default)]
pub struct Manner {
    pub manager: String,
    pub dry_run: bool,
    /// Server-side apply takes fields over.
    pub force: bool,
}

impl Manner {
    /// A controller's own way.
    pub fn of(manager: &str) -> Self {
        Self { manager: manager.to_owned(), ..Self::default() }
    }
}

/// The four kinds of PATCH.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PatchKind {
    Json,
    Merge,
    Strategic,
    Apply,
}

impl PatchKind {
    pub fn of(content_type: &str) -> Option<Self> {
        match content_type.split(';').next()?.trim() {
            "application/json-patch+json" => Some(Self::Json),
            "application/merge-patch+json" => Some(Self::Merge),
            "application/strategic-merge-patch+json" => Some(Self::Strategic),
            "application/apply-patch+yaml" | "application/apply-patch+json" => Some(Self::Apply),
            _ => None,
        }
    }
}

/// What a change led to.
#[derive(Debug, Clone)]
pub struct Outcome {
    pub object: Value,
    pub created: bool,
    /// Something other than metadata and status is different now.
    pub effective: bool,
}

/// Creates an object.
pub fn create(store: &mut Store, target: &Target, mut object: Value, manner: &Manner) -> Result<Outcome, Refusal> {
    let resource = &target.resource;
    shape(target, &mut object)?;
    if object["metadata"]["resourceVersion"].as_str().is_some_and(|version| !version.is_empty()) {
        let message = "resourceVersion should not be set on objects to be created";
        return Err(Refusal::bad_request(message));
    }
    let name = name(target, &mut object)?;
    let key = Key::new(resource, &target.namespace, &name);
    if store.get(&key).is_some() {
        return Err(Refusal::already_exists(&resource.group, &resource.plural, &name));
    }
    namespace_exists(store, target)?;
    scrub(&mut object);
    defaults(resource, &mut object);
    validate(resource, &name, None, &object)?;
    fields::updated(None, &mut object, &manner.manager);
    let object = finish(store, &key, resource, object, manner);
    Ok(Outcome { object, created: true, effective: true })
}

/// Replaces an object, or its status.
pub fn replace(store: &mut Store, target: &Target, mut object: Value, manner: &Manner) -> Result<Outcome, Refusal> {
    shape(target, &mut object)?;
    let (key, old) = existing(store, target)?;
    update(store, target, &key, &old, object, manner)
}

/// Patches an object, its status, or creates it by apply.
pub fn patch(
    store: &mut Store,
    target: &Target,
    kind: PatchKind,
    body: &Value,
    manner: &Manner,
) -> Result<Outcome, Refusal> {
    if kind == PatchKind::Apply {
        return apply(store, target, body, manner);
    }
    let (key, old) = existing(store, target)?;
    let mut object = old.clone();
    match kind {
        PatchKind::Merge => patch::merge(&mut object, body),
        PatchKind::Strategic => patch::strategic(&mut object, body),
        PatchKind::Json | PatchKind::Apply => {
            patch::json(&mut object, body).map_err(|misfit| match misfit {
                Misfit::Malformed(why) => Refusal::bad_request(why),
                Misfit::Test(why) => Refusal {
                    code: StatusCode::UNPROCESSABLE_ENTITY,
                    reason: "Invalid",
                    message: format!("the server rejected our request due to an error in our request: {why}"),
                    details: json!({}),
                },
            })?;
        }
    }
    shape(target, &mut object)?;
    update(store, target, &key, &old, object, manner)
}

fn apply(store: &mut Store, target: &Target, body: &Value, manner: &Manner) -> Result<Outcome, Refusal> {
    if manner.manager.is_empty() {
        return Err(Refusal::bad_request(
            "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch",
        ));
    }
    let mut wanted = body.clone();
    if wanted["metadata"].get("managedFields").is_some_and(|fields| !fields.is_null()) {
        return Err(Refusal::bad_request("metadata.managedFields must be nil"));
    }
    shape(target, &mut wanted)?;
    let resource = &target.resource;
    let name = name(target, &mut wanted)?;
    let key = Key::new(resource, &target.namespace, &name);
    let old = store.get(&key).cloned();
    check_preconditions(resource, &name, old.as_ref(), &wanted)?;
    scrub(&mut wanted);
    if resource.status && target.subresource.is_none() {
        wanted.as_object_mut().map(|wanted| wanted.remove("status"));
    }
    let mut merged = fields::apply(old.as_ref(), &wanted, &manner.manager, manner.force)
        .map_err(|conflicts| Refusal::manager_conflict(&conflicts))?;
    encode_string_data(&mut merged);
    let Some(old) = old else {
        namespace_exists(store, target)?;
        let mut object = merged;
        defaults(resource, &mut object);
        validate(resource, &name, None, &object)?;
        let object = finish(store, &key, resource, object, manner);
        return Ok(Outcome { object, created: true, effective: true });
    };
    validate(resource, &name, Some(&old), &merged)?;
    let effective = content(&old) != content(&merged);
    let object = finish(store, &key, resource, merged, manner);
    Ok(Outcome { object, created: false, effective })
}

fn update(
    store: &mut Store,
    target: &Target,
    key: &Key,
    old: &Value,
    wanted: Value,
    manner: &Manner,
) -> Result<Outcome, Refusal> {
    let resource = &target.resource;
    check_preconditions(resource, &key.name, Some(old), &wanted)?;
    let mut object = match target.subresource.as_deref() {
        Some("status") => {
            let mut object = old.clone();
            object["status"] = wanted["status"].clone();
            object
        }
        _ => {
            let mut object = wanted;
            if resource.status {
                object["status"] = old["status"].clone();
            }
            object
        }
    };
    for kept in ["uid", "creationTimestamp", "generation", "deletionTimestamp", "managedFields"] {
        object["metadata"][kept] = old["metadata"][kept].clone();
    }
    drop_nulls(&mut object);
    encode_string_data(&mut object);
    validate(resource, &key.name, Some(old), &object)?;
    fields::updated(Some(old), &mut object, &manner.manager);
    let effective = content(old) != content(&object);
    let object = finish(store, key, resource, object, manner);
    Ok(Outcome { object, created: false, effective })
}

/// Deletes an object, or marks it as to be deleted while finalizers hold it.
pub fn delete(store: &mut Store, target: &Target, options: &Value, manner: &Manner) -> Result<Value, Refusal> {
    let resource = &target.resource;
    let (key, old) = existing(store, target)?;
    let preconditions = &options["preconditions"];
    for (wanted, field, word, perhaps) in [
        (&preconditions["uid"], "uid", "UID", "deleted and then recreated"),
        (&preconditions["resourceVersion"], "resourceVersion", "ResourceVersion", "modified"),
    ] {
        let actual = &old["metadata"][field];
        if !wanted.is_null() && wanted != actual {
            let why = format!(
                "the {word} in the precondition ({}) does not match the {word} in record ({}). \
                 The object might have been {perhaps}",
                wanted.as_str().unwrap_or_default(),
                actual.as_str().unwrap_or_default()
            );
            return Err(Refusal::conflict(&resource.group, &resource.kind, &key.name, &why));
        }
    }
    let done = deleted(&resource.group, &resource.plural, &key.name, &old["metadata"]["uid"]);
    if manner.dry_run {
        return Ok(done);
    }
    let held = old["metadata"]["finalizers"].as_array().is_some_and(|list| !list.is_empty());
    let drains = resource.plural == "pods" && !old["spec"]["nodeName"].is_null();
    if !held && (!drains || options["gracePeriodSeconds"] == 0) {
        store.remove(&key);
        return Ok(done);
    }
    let mut object = old;
    if object["metadata"]["deletionTimestamp"].is_null() {
        object["metadata"]["deletionTimestamp"] = json!(now());
        object["metadata"]["deletionGracePeriodSeconds"] = json!(if drains { 30 } else { 0 });
    }
    Ok(store.put(&key, resource, object))
}

fn existing(store: &Store, target: &Target) -> Result<(Key, Value), Refusal> {
    let resource = &target.resource;
    let name = target.name.clone().unwrap_or_default();
    let key = Key::new(resource, &target.namespace, &name);
    match store.get(&key) {
        Some(object) => Ok((key, object.clone())),
        None => Err(Refusal::not_found(&resource.group, &resource.plural, &name)),
    }
}

fn finish(store: &mut Store, key: &Key, resource: &Resource, object: Value, manner: &Manner) -> Value {
    if manner.dry_run {
        return object;
    }
    let object = store.put(key, resource, object);
    let doomed = !object["metadata"]["deletionTimestamp"].is_null();
    let held = object["metadata"]["finalizers"].as_array().is_some_and(|list| !list.is_empty());
    if doomed && !held && resource.plural != "pods" {
        store.remove(key);
    }
    object
}

/// The body is an object of the target's type and place.
fn shape(target: &Target, object: &mut Value) -> Result<(), Refusal> {
    if !object.is_object() {
        return Err(Refusal::bad_request("the body of the request is no object"));
    }
    let resource = &target.resource;
    let scale = target.subresource.as_deref() == Some("scale");
    for (field, wanted) in [("kind", resource.kind.clone()), ("apiVersion", resource.api_version())] {
        match object[field].as_str() {
            Some(given) if given != wanted && !scale => {
                let message = format!("{field} in the data ({given}) does not match the expected {field} ({wanted})");
                return Err(Refusal::bad_request(message));
            }
            _ => object[field] = json!(wanted),
        }
    }
    if !object["metadata"].is_object() {
        object["metadata"] = json!({});
    }
    if resource.namespaced {
        match object["metadata"]["namespace"].as_str() {
            Some(given) if given != target.namespace => {
                return Err(Refusal::bad_request(
                    "the namespace of the provided object does not match the namespace sent on the request",
                ));
            }
            _ => object["metadata"]["namespace"] = json!(target.namespace),
        }
    }
    Ok(())
}

fn name(target: &Target, object: &mut Value) -> Result<String, Refusal> {
    let metadata = &mut object["metadata"];
    if let Some(wanted) = &target.name {
        if metadata["name"].as_str().is_some_and(|given| given != wanted) {
            let message = "the name of the object does not match the name on the URL";
            return Err(Refusal::bad_request(message));
        }
        metadata["name"] = json!(wanted);
    }
    if metadata["name"].is_null()
        && let Some(prefix) = metadata["generateName"].as_str()
    {
        let suffix: String = Uuid::new_v4().simple().to_string().chars().take(5).collect();
        metadata["name"] = json!(format!("{prefix}{suffix}"));
    }
    match metadata["name"].as_str() {
        Some(name) if !name.is_empty() => Ok(name.to_owned()),
        _ => {
            let (kind, group) = (&target.resource.kind, &target.resource.group);
            let why = "Required value: name or generateName is required";
            Err(Refusal::invalid(kind, group, "", "metadata.name", why))
        }
    }
}

fn namespace_exists(store: &Store, target: &Target) -> Result<(), Refusal> {
    if target.namespace.is_empty() {
        return Ok(());
    }
    let key = Key {
        group: String::new(),
        plural: "namespaces".to_owned(),
        namespace: String::new(),
        name: target.namespace.clone(),
    };
    match store.get(&key) {
        Some(_) => Ok(()),
        None => Err(Refusal::not_found("", "namespaces", &target.namespace)),
    }
}

fn check_preconditions(resource: &Resource, name: &str, old: Option<&Value>, wanted: &Value) -> Result<(), Refusal> {
    let Some(old) = old else { return Ok(()) };
    let conflict = |why: &str| Refusal::conflict(&resource.group, &resource.plural, name, why);
    let (given, actual) = (&wanted["metadata"], &old["metadata"]);
    let differs = |field: &str| given[field].as_str().is_some_and(|given| !given.is_empty() && actual[field] != given);
    if differs("uid") {
        return Err(conflict("Precondition failed: UID in precondition does not match"));
    }
    if differs("resourceVersion") {
        return Err(conflict(
            "the object has been modified; please apply your changes to the latest version and try again",
        ));
    }
    Ok(())
}

/// What an apply may carry along from a copy and the server sets itself.
fn scrub(object: &mut Value) {
    if let Some(metadata) = object["metadata"].as_object_mut() {
        for field in ["uid", "resourceVersion", "creationTimestamp", "generation", "managedFields"] {
            metadata.remove(field);
        }
    }
}

fn drop_nulls(object: &mut Value) {
    for place in ["/metadata", ""] {
        if let Some(fields) = object.pointer_mut(place).and_then(Value::as_object_mut) {
            fields.retain(|_, value| !value.is_null());
        }
    }
}

/// Everything but metadata and status.
fn content(object: &Value) -> Value {
    let mut rest = object.clone();
    if let Some(rest) = rest.as_object_mut() {
        rest.remove("metadata");
        rest.remove("status");
    }
    rest
}

fn defaults(resource: &Resource, object: &mut Value) {
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.remove("deletionTimestamp");
    }
    if resource.status {
        object.as_object_mut().map(|object| object.remove("status"));
    }
    let set = |object: &mut Value, path: &[&str], value: Value| {
        let place = path.iter().fold(object, |place, name| &mut place[*name]);
        if place.is_null() {
            *place = value;
        }
    };
    match resource.kind.as_str() {
        "Namespace" => set(object, &["status", "phase"], json!("Active")),
        "Secret" => {
            set(object, &["type"], json!("Opaque"));
            encode_string_data(object);
        }
        "PersistentVolume" => {
            set(object, &["spec", "volumeMode"], json!("Filesystem"));
            set(object, &["spec", "persistentVolumeReclaimPolicy"], json!("Retain"));
            set(object, &["status", "phase"], json!("Pending"));
            protect(object, "kubernetes.io/pv-protection");
        }
        "PersistentVolumeClaim" => {
            set(object, &["spec", "volumeMode"], json!("Filesystem"));
            set(object, &["status", "phase"], json!("Pending"));
            protect(object, "kubernetes.io/pvc-protection");
        }
        "Deployment" | "StatefulSet" => set(object, &["spec", "replicas"], json!(1)),
        "Pod" => set(object, &["status", "phase"], json!("Pending")),
        _ => {}
    }
}

/// What of a Secret is written in plain text is kept encoded; no other kind has the field.
fn encode_string_data(object: &mut Value) {
    use base64::Engine;
    if object["kind"] != "Secret" {
        return;
    }
    let Some(Value::Object(plain)) = object.as_object_mut().and_then(|all| all.remove("stringData")) else {
        return;
    };
    for (name, value) in plain {
        let text = value.as_str().unwrap_or_default();
        object["data"][name] = json!(base64::engine::general_purpose::STANDARD.encode(text));
    }
}

fn protect(object: &mut Value, finalizer: &str) {
    let finalizers = &mut object["metadata"]["finalizers"];
    match finalizers.as_array_mut() {
        Some(list) if list.iter().any(|one| one == finalizer) => {}
        Some(list) => list.push(json!(finalizer)),
        None => *finalizers = json!([finalizer]),
    }
}

fn validate(resource: &Resource, name: &str, old: Option<&Value>, object: &Value) -> Result<(), Refusal> {
    let invalid = |field: &str, why: &str| Refusal::invalid(&resource.kind, &resource.group, name, field, why);
    match resource.kind.as_str() {
        "Lease" => {
            for field in ["renewTime", "acquireTime"] {
                let time = object["spec"][field].as_str();
                if time.is_some_and(|time| !has_microseconds(time)) {
                    return Err(Refusal::bad_request(format!(
                        "Lease in version \"v1\" cannot be handled as a Lease: parsing time {:?} as \
                         \"2006-01-02T15:04:05.000000Z07:00\": cannot parse spec.{field}",
                        time.unwrap_or_default()
                    )));
                }
            }
            if object["spec"]["leaseDurationSeconds"].as_i64().is_some_and(|seconds| seconds <= 0) {
                return Err(invalid("spec.leaseDurationSeconds", "must be greater than 0"));
            }
            Ok(())
        }
        "PersistentVolumeClaim" | "PersistentVolume" => {
            let Some(old) = old else { return Ok(()) };
            let fields: &[&str] =
                if resource.kind == "PersistentVolume" { &["csi"] } else { &["volumeName", "storageClassName"] };
            for field in fields {
                let (before, after) = (&old["spec"][field], &object["spec"][field]);
                // An empty volume name is filled in by the binder.
                if !before.is_null() && *before != "" && before != after {
                    return Err(invalid("spec", "Forbidden: spec is immutable after creation"));
                }
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

fn has_microseconds(time: &str) -> bool {
    let digits = time.split_once('.').map(|(_, rest)| rest.chars().take_while(char::is_ascii_digit).count());
    digits == Some(6) && time.parse::<Timestamp>().is_ok()
}
