//! The lint of a bundle: would every claim get its volume, with its data?
//!
//! In: the directory of manifests that `restore` names, and the manifest of `deploy`. Out: [`Fault`]s. Nothing is cleaned or
//! changed here: the restore step does that with a copy of its own, and refuses by itself what is wrong. No value of a Secret
//! is ever repeated. Start reading at [`check`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::explain::bounded;
use crate::{Pair, Restore, Severity, Storage};

/// A Secret holds at most 1 MiB, a manifest some of them.
const MAX_FILE_BYTES: u64 = 4 * 1024 * 1024;

/// A bundle holds a handful of files; more are a wrong directory.
const MAX_FILES: usize = 256;

const CLAIM: &str = "PersistentVolumeClaim";
const VOLUME: &str = "PersistentVolume";
const KINDS: [&str; 5] = ["Namespace", "Secret", "ConfigMap", VOLUME, CLAIM];

/// Something wrong with a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) severity: Severity,
    pub(crate) message: String,
    pub(crate) remedy: String,
}

/// One object, and the file that it stands in.
pub(crate) struct Manifest {
    file: String,
    object: Value,
}

/// Everything that is wrong with the bundle of `restore`.
pub(crate) fn check(restore: &Restore, pair: &Pair) -> Vec<Fault> {
    let (manifests, mut faults) = match read_bundle(&restore.bundle) {
        Ok(read) => read,
        Err(fault) => return vec![fault],
    };
    if manifests.is_empty() && faults.is_empty() {
        let message = format!("bundle {} holds no manifest", restore.bundle.display());
        return vec![error(message, "export Secrets, PV and PVC at A into it, as .yaml files")];
    }
    faults.extend(self::faults(&manifests, restore, pair));
    faults
}

/// What is wrong with the manifests of a bundle.
pub(crate) fn faults(manifests: &[Manifest], restore: &Restore, pair: &Pair) -> Vec<Fault> {
    let mut faults: Vec<Fault> = manifests.iter().flat_map(|manifest| check_object(manifest, pair)).collect();
    faults.extend(check_twice(manifests));
    faults.extend(check_claims(manifests, restore));
    faults.extend(check_images(manifests, pair));
    faults
}

/// Everything that is wrong with the manifest of `deploy`.
pub(crate) fn check_manifest(path: &Path, pair: &Pair) -> Vec<Fault> {
    let manifests = match read_file(path) {
        Ok(manifests) => manifests,
        Err(fault) => return vec![fault],
    };
    let [manifest] = manifests.as_slice() else {
        let message = format!("{} holds {} objects", manifest_name(path), manifests.len());
        return vec![error(message, "leave the custom resource alone in it")];
    };
    let mut faults = check_identity(manifest);
    faults.extend(check_namespace(manifest, pair));
    faults.extend(check_secrets(manifest, pair));
    faults
}

fn read_bundle(directory: &Path) -> Result<(Vec<Manifest>, Vec<Fault>), Fault> {
    let fail = |source: std::io::Error| {
        let message = format!("bundle {} can not be read: {source}", directory.display());
        error(message, "create the directory, and export Secrets, PV and PVC at A into it")
    };
    let mut files: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        if path.extension().is_some_and(|end| end == "yaml" || end == "yml" || end == "json") {
            files.push(path);
        }
    }
    if files.len() > MAX_FILES {
        let message = format!("bundle {} holds {} files", directory.display(), files.len());
        return Err(error(message, format!("name a directory with at most {MAX_FILES}")));
    }
    files.sort();
    let (mut manifests, mut faults) = (Vec::new(), Vec::new());
    for file in files {
        match read_file(&file) {
            Ok(read) => manifests.extend(read),
            Err(fault) => faults.push(fault),
        }
    }
    Ok((manifests, faults))
}

fn read_file(path: &Path) -> Result<Vec<Manifest>, Fault> {
    let name = manifest_name(path);
    let text = crate::load::read_bounded(path, MAX_FILE_BYTES)
        .map_err(|source| error(format!("{name} can not be read: {source}"), "put it there, or correct the path"))?;
    manifests(&name, &text)
}

/// The objects in `text`, which stands in the file `name`.
pub(crate) fn manifests(name: &str, text: &str) -> Result<Vec<Manifest>, Fault> {
    let options = serde_saphyr::options! { with_snippet: false };
    let documents: Vec<Value> = serde_saphyr::from_multiple_with_options(text, options).map_err(|fault| {
        let line = fault.location().map_or(String::new(), |at| format!(" at line {}", at.line()));
        error(format!("{name} is no manifest{line}"), "export it anew with kubectl get … -o yaml")
    })?;
    let objects = documents.into_iter().filter(|object| !object.is_null()).flat_map(items);
    Ok(objects.map(|object| Manifest { file: name.to_owned(), object }).collect())
}

/// The name alone: the directory stands in the setting.
fn manifest_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// `kubectl get` of several objects prints a List.
fn items(mut object: Value) -> Vec<Value> {
    if text(&object, "/kind") != Some("List") {
        return vec![object];
    }
    match object.get_mut("items").map(Value::take) {
        Some(Value::Array(items)) => items,
        _ => Vec::new(),
    }
}

impl Manifest {
    fn text(&self, pointer: &str) -> Option<&str> {
        text(&self.object, pointer)
    }

    fn kind(&self) -> &str {
        self.text("/kind").unwrap_or_default()
    }

    fn name(&self) -> &str {
        self.text("/metadata/name").unwrap_or_default()
    }

    fn is(&self, kind: &str) -> bool {
        self.kind() == kind && self.text("/apiVersion") == Some("v1")
    }
}

impl std::fmt::Display for Manifest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {} {}", self.file, self.kind(), self.name())
    }
}

fn text<'a>(object: &'a Value, pointer: &str) -> Option<&'a str> {
    object.pointer(pointer).and_then(Value::as_str).filter(|text| !text.is_empty())
}

fn check_object(manifest: &Manifest, pair: &Pair) -> Vec<Fault> {
    let mut faults = check_identity(manifest);
    if faults.is_empty() && !KINDS.iter().any(|kind| manifest.is(kind)) {
        let remedy = format!("leave {} in it; the custom resource belongs into deploy.manifest", KINDS.join(", "));
        faults.push(error(format!("{manifest} does not belong into a bundle"), remedy));
    }
    faults.extend(check_namespace(manifest, pair));
    faults
}

fn check_identity(manifest: &Manifest) -> Vec<Fault> {
    let missing = ["/apiVersion", "/kind", "/metadata/name"].into_iter().find(|key| manifest.text(key).is_none());
    let message = |key: &str| format!("{}: an object has no {}", manifest.file, key[1..].replace('/', "."));
    missing.map(|key| error(message(key), "export it anew with kubectl get … -o yaml")).into_iter().collect()
}

fn check_namespace(manifest: &Manifest, pair: &Pair) -> Option<Fault> {
    let own = if manifest.is("Namespace") { "/metadata/name" } else { "/metadata/namespace" };
    let found = manifest.text(own)?;
    let expected = pair.namespace.as_deref()?;
    (found != expected && !manifest.is(VOLUME)).then(|| {
        let message = format!("{manifest} is of namespace {found}, and the pair of {expected}");
        error(message, "take it out, or correct the pair's namespace")
    })
}

fn check_twice(manifests: &[Manifest]) -> Vec<Fault> {
    let mut seen: BTreeMap<(&str, &str), &str> = BTreeMap::new();
    let mut faults = Vec::new();
    for manifest in manifests.iter().filter(|manifest| !manifest.name().is_empty()) {
        if let Some(first) = seen.insert((manifest.kind(), manifest.name()), &manifest.file) {
            faults.push(error(format!("{manifest} stands in {first} too"), "keep one of the two"));
        }
    }
    faults
}

fn check_claims(manifests: &[Manifest], restore: &Restore) -> Vec<Fault> {
    let mut faults = Vec::new();
    let volumes: Vec<&Manifest> = manifests.iter().filter(|manifest| manifest.is(VOLUME)).collect();
    let mut wanted = Vec::new();
    for claim in manifests.iter().filter(|manifest| manifest.is(CLAIM)) {
        let Some(name) = claim.text("/spec/volumeName") else {
            let message = format!("{claim} has no spec.volumeName and would get an empty new volume");
            faults.push(error(message, "export it at A while it is Bound"));
            continue;
        };
        wanted.push(name);
        match volumes.iter().find(|volume| volume.name() == name) {
            None => {
                let message = format!("{claim} needs {VOLUME} {name}, which is not in the bundle");
                faults.push(error(message, format!("add it: kubectl get pv {name} -o yaml")));
            }
            Some(volume) => faults.extend(check_class(claim, volume, restore)),
        }
    }
    let lonely = volumes.iter().filter(|volume| !wanted.contains(&volume.name()));
    faults.extend(lonely.map(|volume| {
        warning(format!("{volume} is claimed by no {CLAIM} of the bundle"), "add its claim, or take it out")
    }));
    faults
}

/// A claim of another class than its volume's stays Pending for ever.
fn check_class(claim: &Manifest, volume: &Manifest, restore: &Restore) -> Option<Fault> {
    let class = |manifest: &Manifest| manifest.text("/spec/storageClassName").unwrap_or_default().to_owned();
    let (of_claim, of_volume) = (class(claim), class(volume));
    (of_claim != of_volume && restore.storage_class.is_none()).then(|| {
        let message = format!("{claim} is of storage class {of_claim:?}, and its volume of {of_volume:?}");
        error(message, "write the same class into both, or set restore.storage_class")
    })
}

/// The volumes must lead to the images that the plan promotes.
fn check_images(manifests: &[Manifest], pair: &Pair) -> Vec<Fault> {
    let Storage::Rbd(rbd) = &pair.storage else { return Vec::new() };
    let short = |image: &str| image.rsplit('/').next().unwrap_or(image).to_owned();
    let promoted: Vec<String> = rbd.images.iter().map(|image| short(image)).collect();
    let volumes = manifests.iter().filter(|manifest| manifest.is(VOLUME));
    let mounted: Vec<(&Manifest, &str)> = volumes.filter_map(|volume| Some((volume, image_of(volume)?))).collect();
    let unpromoted = mounted.iter().filter(|(_, image)| !promoted.iter().any(|other| other == image));
    let mut faults: Vec<Fault> = unpromoted
        .map(|(volume, image)| {
            let message = format!("{volume} leads to image {image}, which the pair does not promote");
            error(message, "add POOL/IMAGE to storage.rbd.images, or take the volume out")
        })
        .collect();
    if !mounted.is_empty() {
        let unmounted = promoted.iter().filter(|image| !mounted.iter().any(|(_, other)| other == image));
        faults.extend(unmounted.map(|image| {
            let message = format!("no {VOLUME} of the bundle leads to image {image}");
            warning(message, "add its volume and claim, or take it out of storage.rbd.images")
        }));
    }
    faults
}

fn image_of(volume: &Manifest) -> Option<&str> {
    let is_static = volume.text("/spec/csi/volumeAttributes/staticVolume") == Some("true");
    let by_handle = || volume.text("/spec/csi/volumeHandle").filter(|_| is_static);
    volume.text("/spec/csi/volumeAttributes/imageName").or_else(by_handle)
}

/// Secrets that the custom resource names and the bundle does not bring.
fn check_secrets(manifest: &Manifest, pair: &Pair) -> Vec<Fault> {
    let Some(restore) = &pair.restore else { return Vec::new() };
    let Ok((bundle, _)) = read_bundle(&restore.bundle) else { return Vec::new() };
    let brought = |name: &String| bundle.iter().any(|object| object.is("Secret") && object.name() == name);
    let mut named = Vec::new();
    secrets_named_in(&manifest.object, &mut named);
    named.sort();
    named.dedup();
    let missing = named.into_iter().filter(|name| !brought(name));
    missing
        .map(|name| {
            let message = format!("{manifest} names Secret {name}, which the bundle does not bring");
            warning(message, format!("add it: kubectl get secret {name} -o yaml, or see that it is at B"))
        })
        .collect()
}

fn secrets_named_in(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (key, field) in fields {
                let key = key.to_ascii_lowercase();
                let name = match field {
                    Value::String(name) if key.ends_with("secretname") || key.ends_with("secret") => Some(name),
                    Value::Object(reference) if key.ends_with("secretref") || key.ends_with("secretkeyref") => {
                        match reference.get("name") {
                            Some(Value::String(name)) => Some(name),
                            _ => None,
                        }
                    }
                    _ => None,
                };
                found.extend(name.filter(|name| !name.is_empty()).cloned());
                secrets_named_in(field, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| secrets_named_in(item, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn error(message: impl Into<String>, remedy: impl Into<String>) -> Fault {
    Fault { severity: Severity::Error, message: bounded(message.into()), remedy: bounded(remedy.into()) }
}

fn warning(message: impl Into<String>, remedy: impl Into<String>) -> Fault {
    Fault { severity: Severity::Warning, ..error(message, remedy) }
}
