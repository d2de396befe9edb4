//! Reads manifests from files: YAML of one or several documents, or JSON.
//!
//! In: a file. Out: its objects as JSON, with lists taken apart. Bounded in size, and silent about the values in it,
//! among which are secrets. Start reading at [`read_file`].

use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// A manifest is not longer: etcd takes no object of more than 1.5 MiB.
const LONGEST_FILE: u64 = 4 * 1024 * 1024;

/// Why a manifest is of no use.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// It is missing, or the daemon's user may not read it.
    #[error("failed to read {path}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is no manifest.
    #[error("{0} is longer than {LONGEST_FILE} bytes: no manifest is")]
    TooLong(PathBuf),
    /// The text is broken.
    #[error("{path} is no valid YAML or JSON: {reason}")]
    Syntax {
        /// Which file.
        path: PathBuf,
        /// Where and why, without the text itself.
        reason: String,
    },
    /// A document that is no object of Kubernetes.
    #[error("{path}: a document without {what}: each needs apiVersion, kind and metadata.name")]
    NoObject {
        /// Which file.
        path: PathBuf,
        /// What it lacks.
        what: &'static str,
    },
}

/// An object of Kubernetes, as it stands in a file.
#[derive(Clone, PartialEq)]
pub struct Manifest {
    /// `apiVersion`.
    pub api_version: String,
    /// `kind`.
    pub kind: String,
    /// `metadata.name`.
    pub name: String,
    /// The whole object.
    pub object: Value,
}

/// Shows what it is, never what is in it: it may be a Secret.
impl std::fmt::Debug for Manifest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}

impl Manifest {
    /// `metadata.namespace`.
    #[must_use]
    pub fn namespace(&self) -> Option<&str> {
        self.text("/metadata/namespace")
    }

    /// The text at a JSON pointer.
    #[must_use]
    pub fn text(&self, pointer: &str) -> Option<&str> {
        self.object.pointer(pointer).and_then(Value::as_str)
    }
}

/// The objects of one file.
///
/// # Errors
/// [`ManifestError`], which names the file.
pub fn read_file(path: &Path) -> Result<Vec<Manifest>, ManifestError> {
    let fail = |source| ManifestError::Read { path: path.into(), source };
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(fail)?;
    file.take(LONGEST_FILE + 1).read_to_string(&mut text).map_err(fail)?;
    if u64::try_from(text.len()).unwrap_or(u64::MAX) > LONGEST_FILE {
        return Err(ManifestError::TooLong(path.into()));
    }
    read_text(path, &text)
}

/// The objects of `text`, which stands in the file at `path`.
pub(crate) fn read_text(path: &Path, text: &str) -> Result<Vec<Manifest>, ManifestError> {
    let mut found = Vec::new();
    for document in documents(path, text)? {
        collect(path, document, &mut found)?;
    }
    Ok(found)
}

fn documents(path: &Path, text: &str) -> Result<Vec<Value>, ManifestError> {
    let syntax = |reason: String| ManifestError::Syntax { path: path.into(), reason };
    if path.extension().is_some_and(|end| end == "json") {
        let stream = serde_json::Deserializer::from_str(text).into_iter::<Value>();
        return stream.collect::<Result<_, _>>().map_err(|e| syntax(e.to_string()));
    }
    // A snippet of the text may show a secret.
    let options = serde_saphyr::options! { with_snippet: false };
    serde_saphyr::from_str_multiple_with_options(text, options).map_err(|e| syntax(e.to_string()))
}

/// Takes what `kubectl get -o yaml` prints for several objects apart.
fn collect(path: &Path, document: Value, found: &mut Vec<Manifest>) -> Result<(), ManifestError> {
    let is_list = document["apiVersion"] == "v1" && document["kind"] == "List";
    match document {
        Value::Null => Ok(()),
        Value::Object(mut list) if is_list => {
            let Some(Value::Array(items)) = list.remove("items") else { return Ok(()) };
            items.into_iter().try_for_each(|item| manifest(path, item).map(|one| found.push(one)))
        }
        one => manifest(path, one).map(|one| found.push(one)),
    }
}

fn manifest(path: &Path, object: Value) -> Result<Manifest, ManifestError> {
    let text = |pointer: &str, what: &'static str| {
        let found = object.pointer(pointer).and_then(Value::as_str).filter(|text| !text.is_empty());
        found.map(String::from).ok_or_else(|| ManifestError::NoObject { path: path.into(), what })
    };
    let api_version = text("/apiVersion", "apiVersion")?;
    let kind = text("/kind", "kind")?;
    let name = text("/metadata/name", "metadata.name")?;
    Ok(Manifest { api_version, kind, name, object })
}

#[cfg(test)]
mod tests;
