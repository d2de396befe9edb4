//! The random artifact by which B is told from A.
//!
//! A copy of a Nexus has the same repositories, artifacts and node id, so nothing in it says where it stands. What `verify`
//! uploads at B's own address after the promote is at B alone: `route_check` must find it behind the public name.

use serde::{Deserialize, Serialize};
use understudy_core::{Step, StepOrder};
use uuid::Uuid;

use crate::StepError;

/// The note of `verify` that holds it.
pub(crate) const NOTE: &str = "nonce";

/// A random artifact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Nonce {
    /// `REPOSITORY/PATH`.
    pub(crate) path: String,
    /// Random too, so that a guess of the path is not enough.
    pub(crate) content: String,
}

impl Nonce {
    /// A new one below `folder`.
    pub(crate) fn new(folder: &str) -> Self {
        let content = format!("{}{}\n", Uuid::new_v4().simple(), Uuid::new_v4().simple());
        Self { path: format!("{folder}nonce-{}", Uuid::new_v4()), content }
    }

    /// The one that an earlier try of `verify` wrote down.
    ///
    /// # Errors
    /// [`StepError::Permanent`] if the note is not what we write.
    pub(crate) fn noted(order: &StepOrder) -> Result<Option<Self>, StepError> {
        let Some(note) = order.notes.get(&format!("{}/{NOTE}", Step::Verify)) else { return Ok(None) };
        serde_json::from_str(note).map(Some).map_err(|source| StepError::Permanent {
            what: "the journal's note of the nonce artifact can not be read".into(),
            source: Some(Box::new(source)),
        })
    }

    /// As a note.
    pub(crate) fn note(&self) -> Result<String, StepError> {
        serde_json::to_string(self).map_err(|source| StepError::Permanent {
            what: "the nonce artifact can not be written down".into(),
            source: Some(Box::new(source)),
        })
    }

    /// Whether `path` may be one.
    pub(crate) fn is_one(path: &str) -> bool {
        path.rsplit('/').next().is_some_and(|file| file.starts_with("nonce-"))
    }
}
