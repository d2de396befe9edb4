//! Reads and writes at an API server, each bounded, and what their failures mean.
//!
//! In: a call of kube's. Out: its answer, or a [`StepError`] that says whether anything may have happened: a write that
//! timed out may still land (seen on real servers). A write takes a [`Permit`](crate::Permit). Start reading at
//! [`read`] and [`write()`].

use std::error::Error as StdError;
use std::fmt::Debug;
use std::future::Future;
use std::time::Duration;

use kube::Api;
use kube::core::Status;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use crate::{Gatekeeper, StepError};

/// The owner of the fields that we set by server-side apply.
pub(crate) const FIELD_MANAGER: &str = "understudy";

/// Our annotations begin like this.
pub(crate) const OURS: &str = "understudy/";

/// A read that takes longer has failed. A healthy server answers in milliseconds; one whose etcd hangs in 30 s and more.
const READ_WITHIN: Duration = Duration::from_secs(10);

/// A write that takes longer is unknown.
const WRITE_WITHIN: Duration = Duration::from_secs(10);

/// A server's message is cut here: it may repeat an object's text.
const LONGEST_MESSAGE: usize = 400;

/// Why a call failed, without kube's repetition of the whole answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallFault {
    /// The server said no.
    #[error("{code} {reason}: {message}")]
    Refused { code: u16, reason: String, message: String },
    /// No connection: nothing was sent.
    #[error("no connection")]
    NotSent(#[source] kube::Error),
    /// An answer is missing, or is none.
    #[error("the answer was lost")]
    Lost(#[source] kube::Error),
    /// Nothing came in time.
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
}

impl CallFault {
    pub(crate) fn of(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => {
                let Status { code, mut reason, message, .. } = *status;
                if reason.is_empty() {
                    reason.push_str("(no reason)");
                }
                CallFault::Refused { code, reason: shortened(&reason), message: shortened(&message) }
            }
            other if never_sent(&other) => CallFault::NotSent(other),
            other => CallFault::Lost(other),
        }
    }

    /// The code of a refusal. Zero: something that is no API server answered, such as a proxy.
    pub(crate) fn code(&self) -> Option<u16> {
        match self {
            CallFault::Refused { code, .. } => Some(*code),
            CallFault::NotSent(_) | CallFault::Lost(_) | CallFault::TimedOut(_) => None,
        }
    }

    /// As the failure of a read.
    pub(crate) fn of_read(self, what: String) -> StepError {
        let source = Some(Box::from(self));
        StepError::Transient { what, source }
    }

    /// As the failure of a write.
    pub(crate) fn of_write(self, what: String) -> StepError {
        let kind = match &self {
            CallFault::NotSent(_) => Kind::Nothing,
            // Rights are granted, tokens renewed, floods subside; a server that starts says 403 until its rules are read.
            CallFault::Refused { code: 401 | 403 | 409 | 429, .. } => Kind::Nothing,
            CallFault::Refused { code: 400..=499, .. } => Kind::Never,
            CallFault::Refused { .. } | CallFault::Lost(_) | CallFault::TimedOut(_) => Kind::Unknown,
        };
        let source: Option<Box<dyn StdError + Send + Sync>> = Some(Box::new(self));
        match kind {
            Kind::Nothing => StepError::Transient { what, source },
            Kind::Never => StepError::Permanent { what, source },
            Kind::Unknown => StepError::Unknown { what, source },
        }
    }
}

/// What a failed write did.
enum Kind {
    Nothing,
    Never,
    Unknown,
}

/// Reads something; `what` completes "failed to".
pub(crate) async fn read<T>(what: &str, call: impl Future<Output = kube::Result<T>>) -> Result<T, StepError> {
    let answer = within(READ_WITHIN, call).await;
    answer.map_err(|fault| fault.of_read(format!("failed to {what}")))
}

/// Reads one object, or learns that it is not there.
///
/// Only the server's own word about this very name counts as "not there": a resource that the server does not know, a
/// proxy and a wrong address answer 404 as well.
pub(crate) async fn get<K>(api: &Api<K>, kind: &str, name: &str) -> Result<Option<K>, StepError>
where
    K: Clone + DeserializeOwned + Debug,
{
    let what = format!("failed to read {kind} {name}");
    let answer = timeout(READ_WITHIN, api.get(name)).await;
    match answer {
        Ok(Ok(object)) => Ok(Some(object)),
        Ok(Err(kube::Error::Api(status))) if is_absent(&status, name) => Ok(None),
        Ok(Err(kube::Error::Api(status))) if status.code == 404 => {
            let fault = CallFault::of(kube::Error::Api(status));
            let what = format!("{what}: the server does not know this kind of resource");
            Err(StepError::Permanent { what, source: Some(Box::new(fault)) })
        }
        Ok(Err(error)) => Err(CallFault::of(error).of_read(what)),
        Err(_elapsed) => Err(CallFault::TimedOut(READ_WITHIN).of_read(what)),
    }
}

/// Whether the server itself says that the object `name` does not exist.
pub(crate) fn is_absent(status: &Status, name: &str) -> bool {
    let named = status.details.as_ref().is_some_and(|details| details.name == name);
    status.reason == "NotFound" && named
}

/// Sends one write; `what` completes "failed to".
pub(crate) async fn write<T>(
    gate: &dyn Gatekeeper,
    what: &str,
    call: impl Future<Output = kube::Result<T>>,
) -> Result<T, StepError> {
    try_write(gate, call).await?.map_err(|fault| fault.of_write(format!("failed to {what}")))
}

/// Sends one write and leaves it to the caller to tell its faults apart. The outer error is the lease's: nothing was sent.
pub(crate) async fn try_write<T>(
    gate: &dyn Gatekeeper,
    call: impl Future<Output = kube::Result<T>>,
) -> Result<Result<T, CallFault>, StepError> {
    let permit = gate.permit().await?;
    let left = permit.remaining();
    if left.is_zero() {
        return Err(StepError::NoLease("the lease leaves no time for a write".into()));
    }
    // kube's futures send nothing before they are polled, so that the permit comes first.
    Ok(within(left.min(WRITE_WITHIN), call).await)
}

async fn within<T>(limit: Duration, call: impl Future<Output = kube::Result<T>>) -> Result<T, CallFault> {
    match timeout(limit, call).await {
        Ok(answer) => answer.map_err(CallFault::of),
        Err(_elapsed) => Err(CallFault::TimedOut(limit)),
    }
}

/// Whether the connection itself failed, so that nothing can have been sent.
fn never_sent(error: &kube::Error) -> bool {
    let mut cause: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(one) = cause {
        if let Some(client) = one.downcast_ref::<hyper_util::client::legacy::Error>() {
            return client.is_connect();
        }
        cause = one.source();
    }
    false
}

/// Whether somebody at the server's address refused the connection: the machine or what stands for it answered, and no
/// server listens. That proves nothing about what else runs there.
pub(crate) fn is_refused(error: &(dyn StdError + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(one) = cause {
        let io = one.downcast_ref::<std::io::Error>();
        if io.is_some_and(|io| io.kind() == std::io::ErrorKind::ConnectionRefused) {
            return true;
        }
        cause = one.source();
    }
    false
}

/// The beginning of a text that somebody else wrote.
pub(crate) fn shortened(text: &str) -> String {
    let mut short: String = text.chars().take(LONGEST_MESSAGE).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests;
