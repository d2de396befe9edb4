//! The custom resource that makes an operator run Nexus: any group, version and kind.
//!
//! In: the manifest and the settings of `deploy`. Out: the object fit for B, and where it lives at an API server. A has
//! the same resource under the same name. Start reading at [`CustomResource::of`].

use std::collections::BTreeMap;
use std::path::PathBuf;

use kube::Api;
use kube::api::{ApiResource, DynamicObject};
use kube::core::GroupVersionKind;
use kube::discovery::pinned_kind;
use serde_json::{Map, Value, json};
use understudy_config::{Deploy, Pair};

use crate::StepError;
use crate::clean::clean;
use crate::kube_apply::collection;
use crate::kube_call::read;
use crate::manifest::{Manifest, ManifestError, read_file};

/// Why there is no custom resource.
#[derive(Debug, thiserror::Error)]
pub enum CustomResourceError {
    /// The pair has no `deploy`.
    #[error("the pair has no deploy.manifest")]
    None,
    /// The file is of no use.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// None, or several.
    #[error(
        "{path} holds {count} objects: deploy.manifest is one custom resource; Secrets and volumes belong into restore.bundle"
    )]
    NotOne {
        /// Which file.
        path: PathBuf,
        /// How many.
        count: usize,
    },
    /// Of another namespace than the pair.
    #[error("{path}: {kind} {name} is of namespace {found}, the pair of {expected}")]
    Namespace {
        /// Which file.
        path: PathBuf,
        /// Its kind.
        kind: String,
        /// Its name.
        name: String,
        /// Its namespace.
        found: String,
        /// The pair's.
        expected: String,
    },
    /// Nobody says which namespace.
    #[error("neither the pair nor {0} names a namespace: set `namespace` of the pair")]
    NoNamespace(PathBuf),
    /// A patch gave the object another name, kind or namespace.
    #[error("deploy.patch changes what the resource is called: leave apiVersion, kind, name and namespace alone")]
    Renamed,
}

/// A custom resource, fit to be applied.
#[derive(Debug, Clone)]
pub struct CustomResource {
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// The whole object, patched for B.
    pub object: Value,
    api_version: String,
    plural: Option<String>,
}

impl CustomResource {
    /// The custom resource of a pair.
    ///
    /// # Errors
    /// [`CustomResourceError`], which names the file and the remedy.
    pub fn of(pair: &Pair) -> Result<Self, CustomResourceError> {
        let deploy = pair.deploy.as_ref().ok_or(CustomResourceError::None)?;
        Self::load(deploy, pair.namespace.as_deref())
    }

    /// Reads the manifest, cleans it, patches it.
    ///
    /// # Errors
    /// [`CustomResourceError`], which names the file and the remedy.
    pub fn load(deploy: &Deploy, namespace: Option<&str>) -> Result<Self, CustomResourceError> {
        let path = &deploy.manifest;
        Self::of_manifests(read_file(path)?, deploy, namespace)
    }

    /// Cleans and patches what stands in the file.
    pub(crate) fn of_manifests(
        mut manifests: Vec<Manifest>,
        deploy: &Deploy,
        namespace: Option<&str>,
    ) -> Result<Self, CustomResourceError> {
        let path = &deploy.manifest;
        let count = manifests.len();
        let (1, Some(manifest)) = (count, manifests.pop()) else {
            return Err(CustomResourceError::NotOne { path: path.clone(), count });
        };
        let namespace = namespace_of(path, &manifest, namespace)?;
        let mut object = clean(&manifest);
        object["metadata"]["namespace"] = json!(namespace);
        let named = identity(&object);
        for patch in &deploy.patch {
            merge(&mut object, patch);
        }
        if identity(&object) != named {
            return Err(CustomResourceError::Renamed);
        }
        replace_registries(&mut object, &deploy.image_registry);
        let Manifest { api_version, kind, name, .. } = manifest;
        Ok(Self { kind, name, namespace, object, api_version, plural: deploy.plural.clone() })
    }

    /// The collection that it lives in.
    ///
    /// # Errors
    /// [`StepError::Permanent`] if the server does not know the kind.
    pub(crate) async fn collection(&self, client: &kube::Client) -> Result<Api<DynamicObject>, StepError> {
        let resource = match &self.plural {
            Some(plural) => self.resource(plural.clone()),
            None => self.discover(client).await?,
        };
        Ok(collection(client, &resource, Some(&self.namespace)))
    }

    async fn discover(&self, client: &kube::Client) -> Result<ApiResource, StepError> {
        let (group, version) = self.api_version.rsplit_once('/').unwrap_or(("", &self.api_version));
        let kind = GroupVersionKind::gvk(group, version, &self.kind);
        let what = format!("learn how {} of {} is called in the API", self.kind, self.api_version);
        let answer = read(&what, async {
            match pinned_kind(client, &kind).await {
                Ok((resource, _)) => Ok(Some(resource)),
                Err(kube::Error::Discovery(_)) => Ok(None),
                Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
                // Discovery may be forbidden where the resource itself is not.
                Err(kube::Error::Api(status)) if matches!(status.code, 401 | 403) => {
                    Ok(Some(self.resource(plural_of(&self.kind))))
                }
                Err(error) => Err(error),
            }
        });
        answer.await?.ok_or_else(|| self.unknown())
    }

    fn resource(&self, plural: String) -> ApiResource {
        let (group, version) = self.api_version.rsplit_once('/').unwrap_or(("", &self.api_version));
        ApiResource {
            group: group.into(),
            version: version.into(),
            api_version: self.api_version.clone(),
            kind: self.kind.clone(),
            plural,
        }
    }

    fn unknown(&self) -> StepError {
        let (kind, version) = (&self.kind, &self.api_version);
        StepError::permanent(format!("the API server knows no {kind} of {version}: install its operator there"))
    }
}

fn namespace_of(
    path: &std::path::Path,
    manifest: &Manifest,
    of_pair: Option<&str>,
) -> Result<String, CustomResourceError> {
    match (manifest.namespace(), of_pair) {
        (Some(found), Some(expected)) if found != expected => Err(CustomResourceError::Namespace {
            path: path.into(),
            kind: manifest.kind.clone(),
            name: manifest.name.clone(),
            found: found.into(),
            expected: expected.into(),
        }),
        (found, expected) => {
            expected.or(found).map(String::from).ok_or_else(|| CustomResourceError::NoNamespace(path.into()))
        }
    }
}

fn identity(object: &Value) -> [Value; 4] {
    let at = |pointer: &str| object.pointer(pointer).cloned().unwrap_or_default();
    [at("/apiVersion"), at("/kind"), at("/metadata/name"), at("/metadata/namespace")]
}

/// A JSON merge patch.
///
/// # Source
/// RFC 7396, section 2.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(changes) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(fields) = target else { return };
    for (key, change) in changes {
        if change.is_null() {
            fields.remove(key);
        } else {
            merge(fields.entry(key.clone()).or_insert(Value::Null), change);
        }
    }
}

/// Takes images of one registry from another, wherever a text begins with its name.
fn replace_registries(value: &mut Value, registries: &BTreeMap<String, String>) {
    match value {
        Value::String(text) => {
            // The longest name that fits: `registry.example/team` goes before `registry.example`.
            let fits = registries.iter().rev().filter(|(from, _)| is_of_registry(text, from));
            if let Some((from, to)) = fits.max_by_key(|(from, _)| from.len()) {
                *text = format!("{to}{}", &text[from.len()..]);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| replace_registries(item, registries)),
        Value::Object(fields) => fields.values_mut().for_each(|field| replace_registries(field, registries)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// `registry.example` is of itself and of `registry.example/…`, not of `registry.example.net/…`.
fn is_of_registry(text: &str, registry: &str) -> bool {
    text.strip_prefix(registry).is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || registry.ends_with('/'))
}

/// The plural that a resource most likely has.
fn plural_of(kind: &str) -> String {
    let singular = kind.to_lowercase();
    let hisses = ["s", "x", "z", "ch", "sh"].iter().any(|end| singular.ends_with(end));
    if hisses { format!("{singular}es") } else { format!("{singular}s") }
}

#[cfg(test)]
mod tests;
