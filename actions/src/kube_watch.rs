//! Waits for changes at an API server without trusting a silent watch.
//!
//! In: a collection. Out: its objects, and a wake-up when one of them changes. What counts is always read by a fresh
//! list: a watch only says when to look again, and a frozen server's watch says nothing for ever. Start reading at
//! [`Watched::changed`].

use std::fmt::Debug;
use std::pin::pin;
use std::time::Duration;

use futures::StreamExt;
use kube::Api;
use kube::api::{ListParams, WatchEvent, WatchParams};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep_until, timeout};

use crate::StepError;
use crate::kube_call::read;

/// After this much silence the world is looked at again. Shorter than the client's own patience for an answer.
const SILENCE: Duration = Duration::from_secs(4);

/// A watch that fails or ends at once is not opened again before this.
const PAUSE: Duration = Duration::from_millis(500);

/// A look that was begun before the deadline of a wait may take this much longer, so that the last thing seen is told.
pub(crate) const LAST_LOOK: Duration = Duration::from_secs(2);

/// Objects asked for at once.
const PAGE: u32 = 500;

/// Pages of one list. A cluster with more VolumeAttachments than this has other troubles.
const MOST_PAGES: usize = 40;

/// A collection that can be listed and watched.
#[derive(Clone)]
pub(crate) struct Watched<K> {
    api: Api<K>,
    /// Completes "failed to list".
    what: String,
    fields: Option<String>,
}

/// A collection at one moment.
pub(crate) struct Seen<K> {
    pub(crate) items: Vec<K>,
    /// Changes after it are what [`Watched::changed`] waits for.
    pub(crate) version: String,
}

impl<K: Clone + DeserializeOwned + Debug> Watched<K> {
    pub(crate) fn all(api: Api<K>, what: impl Into<String>) -> Self {
        Self { api, what: what.into(), fields: None }
    }

    pub(crate) fn one(api: Api<K>, what: impl Into<String>, name: &str) -> Self {
        Self { api, what: what.into(), fields: Some(format!("metadata.name={name}")) }
    }

    /// Every object of the collection, read now.
    pub(crate) async fn list(&self) -> Result<Seen<K>, StepError> {
        let mut items = Vec::new();
        let mut params = ListParams { field_selector: self.fields.clone(), ..ListParams::default() }.limit(PAGE);
        for _ in 0..MOST_PAGES {
            let page = read(&format!("list {}", self.what), self.api.list(&params)).await?;
            items.extend(page.items);
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params.continue_token = Some(token),
                None => return Ok(Seen { items, version: page.metadata.resource_version.unwrap_or_default() }),
            }
        }
        Err(StepError::permanent(format!("failed to list {}: more than {MOST_PAGES} pages", self.what)))
    }

    /// Returns when something changed after `version`, and after [`SILENCE`] in any case.
    pub(crate) async fn changed(&self, version: &str) {
        let earliest = Instant::now() + PAUSE;
        let seen = timeout(SILENCE + PAUSE, self.event_after(version)).await;
        if !matches!(seen, Ok(true)) {
            sleep_until(earliest).await;
        }
    }

    /// Whether there was an event; not so when the watch failed or ended.
    async fn event_after(&self, version: &str) -> bool {
        let seconds = u32::try_from(SILENCE.as_secs()).expect("a few seconds");
        let params = WatchParams { field_selector: self.fields.clone(), ..WatchParams::default() }.timeout(seconds);
        let Ok(events) = self.api.watch(&params, version).await else { return false };
        let mut events = pin!(events);
        while let Some(event) = events.next().await {
            match event {
                Ok(WatchEvent::Added(_) | WatchEvent::Modified(_) | WatchEvent::Deleted(_)) => return true,
                Ok(WatchEvent::Bookmark(_)) => {}
                Ok(WatchEvent::Error(_)) | Err(_) => return false,
            }
        }
        false
    }
}
