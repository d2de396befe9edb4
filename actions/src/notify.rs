//! Tells the humans: pages, questions, the course of a run, and the heartbeat whose end wakes somebody else (L3).
//!
//! In: the receivers and what they are told. Out: for each receiver whether it was told. Receivers are called side by side,
//! again and again within a limit, so that one that is dead keeps nothing from the others. Nobody waits for this: no step
//! depends on it. Start reading at [`send`].

use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use futures::future::join_all;
use http::Method;
use serde_json::Value;
use tokio::time::timeout;
use understudy_config::{Heartbeat, Notify, Webhook};

use crate::Words;
use crate::http_client::{Endpoint, HttpError, LONGEST_ANSWER, Reach, shown};
use crate::webhook::{self, WebhookError};

/// All tries of one receiver together. A page that is later than this is overtaken by the next one.
const WITHIN: Duration = Duration::from_secs(120);

/// One try, whatever the receiver's own time-out.
const TRY_WITHIN: Duration = Duration::from_secs(15);

/// 1 s, 2 s, 4 s … between tries, up to 15 s, each with up to as much again by chance, so that many senders that failed
/// together do not come back together.
const BETWEEN: ExponentialBuilder = ExponentialBuilder::new()
    .with_min_delay(Duration::from_secs(1))
    .with_max_delay(Duration::from_secs(15))
    .without_max_times()
    .with_jitter();

/// A heartbeat that takes longer is late anyway.
const BEAT_WITHIN: Duration = Duration::from_secs(10);

/// A receiver was not told.
#[derive(Debug, thiserror::Error)]
pub enum Untold {
    /// It refused, or all tries failed.
    #[error("failed to tell {target}")]
    Failed {
        /// Scheme, host and port.
        target: String,
        /// Why the last try failed.
        source: WebhookError,
    },
    /// The time for it is over.
    #[error("failed to tell {target} within {WITHIN:?}")]
    TooLate {
        /// Scheme, host and port.
        target: String,
    },
}

/// Tells every receiver, and returns those that were not told.
///
/// - `words`: fill the bodies; `words.key` is the id of the notice, the same over every try, so that a receiver takes it once.
/// - `body`: what the standard event carries where a receiver has no body of its own.
pub async fn send(notify: &[Notify], words: &Words, body: &Value) -> Vec<Untold> {
    let told = join_all(notify.iter().map(|Notify::Webhook(hook)| tell(hook, words, body))).await;
    told.into_iter().filter_map(Result::err).collect()
}

async fn tell(hook: &Webhook, words: &Words, body: &Value) -> Result<(), Untold> {
    let call = || webhook::call(hook, words, body.clone(), TRY_WITHIN);
    // What nobody knows to have arrived is sent again: the id tells the receiver.
    let tries = call.retry(BETWEEN).when(WebhookError::may_pass);
    match timeout(WITHIN, tries).await {
        Ok(Ok(_answer)) => Ok(()),
        Ok(Err(source)) => Err(Untold::Failed { target: shown(&hook.url), source }),
        Err(_elapsed) => Err(Untold::TooLate { target: shown(&hook.url) }),
    }
}

/// Why a heartbeat was not heard.
#[derive(Debug, thiserror::Error)]
pub enum Unheard {
    /// There was no answer.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// It was answered, and not with 2xx.
    #[error("{target} answered a heartbeat with {status}")]
    Said {
        /// Scheme, host and port.
        target: String,
        /// What it answered.
        status: http::StatusCode,
    },
}

/// Sends one heartbeat: a GET, which every dead-man service takes. It is not tried again: the next one follows soon.
///
/// # Errors
/// [`Unheard`].
pub async fn beat(heartbeat: &Heartbeat) -> Result<(), Unheard> {
    let reach = Reach { url: &heartbeat.url, connect_to: None, ca: None };
    let endpoint = Endpoint::open(reach, BEAT_WITHIN).await?;
    // What it answers beside its status is nothing to us.
    let status = endpoint.call(endpoint.request(Method::GET), LONGEST_ANSWER).await?.status;
    if status.is_success() { Ok(()) } else { Err(Unheard::Said { target: endpoint.target().into(), status }) }
}

#[cfg(test)]
mod tests;
