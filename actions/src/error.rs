//! Why a step could not be carried out.

use understudy_core::{Failure, StepResult};

/// Why a step could not be carried out. What may be done about it is [`StepError::failure`].
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// The lease is not ours, or can not be read. Nothing was sent; trying again is safe.
    #[error("no leave to write: {0}")]
    NoLease(String),
    /// What had to be remembered is not on disk. Nothing was sent.
    #[error("failed to journal a note: {0}")]
    NotNoted(String),
    /// Nothing happened; trying again is safe.
    #[error("{what}")]
    Transient {
        /// What was tried.
        what: String,
        /// Why it failed.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// It is not known whether it happened; the next try reads first.
    #[error("{what}: outcome unknown")]
    Unknown {
        /// What was tried.
        what: String,
        /// Why nothing is known.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// Of a promote: nothing was begun, by any try, and what it rests on is too old by now.
    #[error("nothing was promoted: {0}")]
    NotBegun(String),
    /// Trying again will not help.
    #[error("{what}")]
    Permanent {
        /// What is wrong, and what would help.
        what: String,
        /// Why.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
}

/// Longer than every message of ours.
const LONGEST_WHOLE: usize = 2000;

impl StepError {
    /// A [`StepError::Transient`] without a source.
    pub fn transient(what: impl Into<String>) -> Self {
        StepError::Transient { what: what.into(), source: None }
    }

    /// A [`StepError::Unknown`] without a source.
    pub fn unknown(what: impl Into<String>) -> Self {
        StepError::Unknown { what: what.into(), source: None }
    }

    /// A [`StepError::Permanent`] without a source.
    pub fn permanent(what: impl Into<String>) -> Self {
        StepError::Permanent { what: what.into(), source: None }
    }

    /// What may be done about it.
    #[must_use]
    pub fn failure(&self) -> Failure {
        match self {
            StepError::NoLease(_) | StepError::NotNoted(_) | StepError::Transient { .. } => Failure::Transient,
            StepError::Unknown { .. } => Failure::Unknown,
            StepError::NotBegun(_) => Failure::NotBegun,
            StepError::Permanent { .. } => Failure::Permanent,
        }
    }

    /// The error with its causes, on one line and not longer than `LONGEST_WHOLE` characters: a cause may repeat all
    /// that somebody else said, and the journal keeps it for ever.
    #[must_use]
    pub fn whole(&self) -> String {
        let mut message = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            message.push_str(": ");
            message.push_str(&cause.to_string());
            source = cause.source();
        }
        message.chars().take(LONGEST_WHOLE).map(|c| if c.is_control() { ' ' } else { c }).collect()
    }

    /// The error with its causes, for the journal.
    #[must_use]
    pub fn into_result(self) -> StepResult {
        StepResult::Failed { failure: self.failure(), message: self.whole() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_into_the_journal_is_one_line_of_bounded_length_whatever_a_cause_repeats() {
        let cause = format!("invalid type: string \"\u{1b}[2J\n{}\"", "ä".repeat(100_000));
        let error = StepError::Permanent { what: "failed to look".into(), source: Some(cause.into()) };

        let whole = error.whole();

        assert!(whole.starts_with("failed to look: invalid type: string \" [2J ä"), "{whole}");
        assert_eq!(whole.chars().count(), LONGEST_WHOLE);
        assert!(!whole.contains(char::is_control));
    }
}
