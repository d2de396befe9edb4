//! What is restored at B: a directory of manifests, checked as a whole before anything of it is applied.
//!
//! In: the directory, the pair's namespace, and what is called otherwise at B. Out: objects fit to be applied, each
//! claim beside its volume. Start reading at [`Bundle::load`].

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use understudy_config::{Pair, Restore};

use crate::clean::{OverrideError, clean, volume_for_b};
use crate::manifest::{Manifest, ManifestError, read_file};

/// A bundle holds a handful of files; more are a wrong directory.
const MOST_FILES: usize = 256;

/// Why a bundle is of no use. Nothing of it was applied.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// The pair has no `restore`.
    #[error("the pair has no restore.bundle")]
    None,
    /// The directory is missing, or the daemon's user may not read it.
    #[error("failed to read bundle {path}")]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is no bundle.
    #[error("bundle {0} has more than {MOST_FILES} files: is it the right directory?")]
    TooManyFiles(PathBuf),
    /// One of its files is of no use.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// There is nothing in it that could be restored.
    #[error("bundle {0} holds no PersistentVolumeClaim: export the claim and its volume at A into it")]
    Empty(PathBuf),
    /// Something that no bundle holds.
    #[error(
        "{path}: {api_version} {kind} {name} does not belong into a bundle, which holds Namespace, Secret, ConfigMap, \
         PersistentVolume and PersistentVolumeClaim; the custom resource belongs into deploy.manifest"
    )]
    Kind {
        /// Which file.
        path: PathBuf,
        /// Its version.
        api_version: String,
        /// Its kind.
        kind: String,
        /// Its name.
        name: String,
    },
    /// An object of another namespace.
    #[error("{path}: {kind} {name} is of namespace {found}, the pair of {expected}: nothing else is restored")]
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
    #[error("neither the pair nor its bundle names a namespace: set `namespace` of the pair")]
    NoNamespace,
    /// The same object twice.
    #[error("{path}: {kind} {name} is in the bundle twice")]
    Twice {
        /// The second file.
        path: PathBuf,
        /// Its kind.
        kind: String,
        /// Its name.
        name: String,
    },
    /// A claim whose volume is not there.
    #[error("PersistentVolumeClaim {claim} needs PersistentVolume {volume}, which is not in the bundle")]
    NoVolume {
        /// Which claim.
        claim: String,
        /// Its volume.
        volume: String,
    },
    /// A claim that names no volume: it would get an empty new one.
    #[error("PersistentVolumeClaim {0} has no spec.volumeName: export it at A while it is Bound")]
    Unbound(String),
    /// A volume that no claim asks for.
    #[error("PersistentVolume {0} is claimed by no PersistentVolumeClaim of the bundle")]
    NoClaim(String),
    /// Two claims of one volume.
    #[error("PersistentVolume {0} is claimed by two PersistentVolumeClaims of the bundle")]
    TwoClaims(String),
    /// The claim that the volume was bound to at A is another one.
    #[error("PersistentVolume {volume} belonged to claim {found} at A, the bundle binds it to {expected}")]
    OtherClaim {
        /// Which volume.
        volume: String,
        /// `NAMESPACE/NAME` in its claimRef.
        found: String,
        /// `NAMESPACE/NAME` in the bundle.
        expected: String,
    },
    /// Would stay Pending: `storageClassName does not match`.
    #[error(
        "storage class of PersistentVolume {volume} is {of_volume:?}, of its claim {of_claim:?}: they must be the same"
    )]
    Classes {
        /// Which volume.
        volume: String,
        /// Its class.
        of_volume: String,
        /// Its claim's.
        of_claim: String,
    },
    /// What is called otherwise at B is not in the volume.
    #[error(transparent)]
    Override(#[from] OverrideError),
}

/// What is restored at B.
#[derive(Debug)]
pub struct Bundle {
    /// The namespace of everything in it.
    pub namespace: String,
    /// Namespace, Secrets and ConfigMaps, in the order in which they are applied.
    pub before: Vec<Item>,
    /// Each claim with its volume.
    pub claims: Vec<Claim>,
}

/// An object, fit to be applied at B.
#[derive(Clone)]
pub struct Item {
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// The whole object.
    pub object: Value,
}

/// Shows what it is, never what is in it: it may be a Secret.
impl std::fmt::Debug for Item {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}

/// A claim and its volume.
#[derive(Debug, Clone)]
pub struct Claim {
    /// The PersistentVolumeClaim.
    pub claim: Item,
    /// Its PersistentVolume.
    pub volume: Item,
}

/// A manifest and where it was found.
pub(crate) type Found = (PathBuf, Manifest);

impl Bundle {
    /// The bundle of a pair, read, checked and cleaned.
    ///
    /// # Errors
    /// [`BundleError`], which names file, object and remedy.
    pub fn of(pair: &Pair) -> Result<Self, BundleError> {
        let restore = pair.restore.as_ref().ok_or(BundleError::None)?;
        Self::load(restore, pair.namespace.as_deref())
    }

    /// Reads, checks and cleans a bundle.
    ///
    /// # Errors
    /// [`BundleError`], which names file, object and remedy.
    pub fn load(restore: &Restore, namespace: Option<&str>) -> Result<Self, BundleError> {
        Self::of_manifests(read_directory(&restore.bundle)?, restore, namespace)
    }

    /// Checks and cleans manifests, each with the file that it was found in.
    pub(crate) fn of_manifests(
        found: Vec<Found>,
        restore: &Restore,
        namespace: Option<&str>,
    ) -> Result<Self, BundleError> {
        check_kinds(&found)?;
        let namespace = namespace_of(&found, namespace)?;
        check_namespaces(&found, &namespace)?;
        let of_kind = |kind: &str| found.iter().map(|(_, m)| m).filter(|m| m.kind == kind).collect::<Vec<_>>();
        let claims = pair_up(&of_kind("PersistentVolumeClaim"), &of_kind("PersistentVolume"), &namespace, restore)?;
        if claims.is_empty() {
            return Err(BundleError::Empty(restore.bundle.clone()));
        }
        let mut before = vec![namespace_item(of_kind("Namespace").first().copied(), &namespace)];
        for kind in ["Secret", "ConfigMap"] {
            before.extend(of_kind(kind).into_iter().map(|manifest| item(manifest, Some(&namespace))));
        }
        Ok(Self { namespace, before, claims })
    }
}

fn read_directory(path: &Path) -> Result<Vec<Found>, BundleError> {
    let fail = |source| BundleError::Directory { path: path.into(), source };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(fail)? {
        let file = entry.map_err(fail)?.path();
        let is_manifest = file.extension().is_some_and(|end| end == "yaml" || end == "yml" || end == "json");
        if !is_manifest || !file.is_file() {
            continue;
        }
        if files.len() == MOST_FILES {
            return Err(BundleError::TooManyFiles(path.into()));
        }
        files.push(file);
    }
    // The same order every time: errors and effects can be compared.
    files.sort();
    let mut found = Vec::new();
    for file in files {
        found.extend(read_file(&file)?.into_iter().map(|manifest| (file.clone(), manifest)));
    }
    Ok(found)
}

fn check_kinds(found: &[Found]) -> Result<(), BundleError> {
    const KINDS: [&str; 5] = ["Namespace", "Secret", "ConfigMap", "PersistentVolume", "PersistentVolumeClaim"];
    let mut names = BTreeSet::new();
    for (path, manifest) in found {
        let (kind, name) = (manifest.kind.clone(), manifest.name.clone());
        if manifest.api_version != "v1" || !KINDS.contains(&manifest.kind.as_str()) {
            let api_version = manifest.api_version.clone();
            return Err(BundleError::Kind { path: path.clone(), api_version, kind, name });
        }
        if !names.insert((kind.clone(), name.clone())) {
            return Err(BundleError::Twice { path: path.clone(), kind, name });
        }
    }
    Ok(())
}

/// The pair's namespace, or the one that the bundle's claims are of.
fn namespace_of(found: &[Found], of_pair: Option<&str>) -> Result<String, BundleError> {
    let claims = || found.iter().map(|(_, m)| m).filter(|m| m.kind == "PersistentVolumeClaim");
    let namespace = of_pair.or_else(|| claims().find_map(Manifest::namespace));
    namespace.map(String::from).ok_or(BundleError::NoNamespace)
}

fn check_namespaces(found: &[Found], expected: &str) -> Result<(), BundleError> {
    for (path, manifest) in found {
        let namespace = match manifest.kind.as_str() {
            "PersistentVolume" => None,
            "Namespace" => Some(manifest.name.as_str()),
            _ => manifest.namespace(),
        };
        if let Some(namespace) = namespace.filter(|namespace| *namespace != expected) {
            let (kind, name) = (manifest.kind.clone(), manifest.name.clone());
            let (found, expected) = (namespace.to_owned(), expected.to_owned());
            return Err(BundleError::Namespace { path: path.clone(), kind, name, found, expected });
        }
    }
    Ok(())
}

fn pair_up(
    claims: &[&Manifest],
    volumes: &[&Manifest],
    namespace: &str,
    restore: &Restore,
) -> Result<Vec<Claim>, BundleError> {
    let mut taken = BTreeSet::new();
    let mut pairs = Vec::new();
    for claim in claims {
        let wanted = claim.text("/spec/volumeName").filter(|name| !name.is_empty());
        let wanted = wanted.ok_or_else(|| BundleError::Unbound(claim.name.clone()))?;
        let volume = volumes
            .iter()
            .find(|volume| volume.name == wanted)
            .ok_or_else(|| BundleError::NoVolume { claim: claim.name.clone(), volume: wanted.to_owned() })?;
        if !taken.insert(wanted.to_owned()) {
            return Err(BundleError::TwoClaims(wanted.to_owned()));
        }
        pairs.push(bind(claim, volume, namespace, restore)?);
    }
    match volumes.iter().find(|volume| !taken.contains(&volume.name)) {
        Some(lonely) => Err(BundleError::NoClaim(lonely.name.clone())),
        None => Ok(pairs),
    }
}

fn bind(claim: &Manifest, volume: &Manifest, namespace: &str, restore: &Restore) -> Result<Claim, BundleError> {
    if let Some(name) = volume.text("/spec/claimRef/name") {
        let found = format!("{}/{name}", volume.text("/spec/claimRef/namespace").unwrap_or_default());
        let expected = format!("{namespace}/{}", claim.name);
        if found != expected {
            return Err(BundleError::OtherClaim { volume: volume.name.clone(), found, expected });
        }
    }
    let mut claim = item(claim, Some(namespace));
    let mut volume = item(volume, None);
    volume_for_b(&mut volume.object, (namespace, &claim.name), restore)?;
    if let Some(class) = &restore.storage_class {
        claim.object["spec"]["storageClassName"] = json!(class);
    }
    let (of_volume, of_claim) = (class_of(&volume), class_of(&claim));
    if of_volume != of_claim {
        return Err(BundleError::Classes { volume: volume.name.clone(), of_volume, of_claim });
    }
    // Written out in both, even if empty: B's default class would be written into the claim, which then never binds.
    claim.object["spec"]["storageClassName"] = json!(of_claim);
    volume.object["spec"]["storageClassName"] = json!(of_volume);
    Ok(Claim { claim, volume })
}

fn class_of(item: &Item) -> String {
    item.object.pointer("/spec/storageClassName").and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn namespace_item(manifest: Option<&Manifest>, namespace: &str) -> Item {
    manifest.map(|manifest| item(manifest, None)).unwrap_or_else(|| Item {
        kind: "Namespace".into(),
        name: namespace.to_owned(),
        object: json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": namespace } }),
    })
}

fn item(manifest: &Manifest, namespace: Option<&str>) -> Item {
    let mut object = clean(manifest);
    if let Some(namespace) = namespace {
        object["metadata"]["namespace"] = json!(namespace);
    }
    Item { kind: manifest.kind.clone(), name: manifest.name.clone(), object }
}

#[cfg(test)]
mod tests;
