//! Secrets stand in the file by reference only: `file:PATH` or `env:NAME`, read when they are used.

use std::fmt;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use secrecy::SecretString;
use serde::{Deserialize, Deserializer};

/// Where a secret lies. Never the secret itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum SecretRef {
    /// A file, readable by its owner and group alone.
    File(String),
    /// An environment variable.
    Env(String),
}

/// Why a secret could not be read.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file is missing or unreadable: create it, or give the daemon's user the right to read it.
    #[error("failed to read secret {path}")]
    Read {
        /// Which file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// Everybody may read it: `chmod o-rwx`.
    #[error("secret {path} is world-accessible (mode {mode:o}): run chmod o-rwx {path}")]
    WorldReadable {
        /// Which file.
        path: String,
        /// Its mode.
        mode: u32,
    },
    /// The variable is not set.
    #[error("secret variable {0} is not set")]
    NotSet(String),
    /// It is empty.
    #[error("secret {0} is empty")]
    Empty(String),
}

/// No secret of ours is longer; anything that is, is not one.
const MAX_SECRET_BYTES: u64 = 64 * 1024;

impl SecretRef {
    /// Reads the secret; white space at its end is dropped.
    ///
    /// # Errors
    /// [`SecretError`], which names the place and never the secret.
    pub fn read(&self) -> Result<SecretString, SecretError> {
        let text = match self {
            SecretRef::File(path) => read_file(path)?,
            SecretRef::Env(name) => std::env::var(name).map_err(|_| SecretError::NotSet(name.clone()))?,
        };
        let text = text.trim_end();
        if text.is_empty() {
            return Err(SecretError::Empty(self.to_string()));
        }
        Ok(SecretString::from(text.to_owned()))
    }
}

fn read_file(path: &str) -> Result<String, SecretError> {
    let fail = |source| SecretError::Read { path: path.to_owned(), source };
    let file = std::fs::File::open(path).map_err(fail)?;
    let mode = file.metadata().map_err(fail)?.permissions().mode() & 0o777;
    if mode & 0o007 != 0 {
        return Err(SecretError::WorldReadable { path: path.to_owned(), mode });
    }
    let mut text = String::new();
    file.take(MAX_SECRET_BYTES).read_to_string(&mut text).map_err(fail)?;
    Ok(text)
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SecretRef::File(path) => write!(f, "file:{path}"),
            SecretRef::Env(name) => write!(f, "env:{name}"),
        }
    }
}

impl<'de> Deserialize<'de> for SecretRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if let Some(path) = text.strip_prefix("file:").filter(|p| !p.is_empty()) {
            return Ok(SecretRef::File(path.to_owned()));
        }
        if let Some(name) = text.strip_prefix("env:").filter(|n| !n.is_empty()) {
            return Ok(SecretRef::Env(name.to_owned()));
        }
        // The text may be the secret itself, so it is not repeated.
        Err(serde::de::Error::custom("a secret stands here by reference only: write file:PATH or env:NAME"))
    }
}

impl JsonSchema for SecretRef {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "SecretRef".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^(file|env):.+", "description": "where the secret lies: file:PATH or env:NAME" })
    }
}
