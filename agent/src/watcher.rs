//! Lets whoever embeds the daemon see each record as soon as it is on disk, before anything is done about it.

use std::fmt;
use std::sync::Arc;

use understudy_core::Record;

type Look = dyn Fn(&Record) + Send + Sync;

/// Sees each record. The daemon waits for it.
#[derive(Clone)]
pub struct Watcher(Option<Arc<Look>>);

impl Watcher {
    /// Nobody watches.
    #[must_use]
    pub fn nobody() -> Self {
        Self(None)
    }

    /// `look` is called with each record, in order.
    pub fn new(look: impl Fn(&Record) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(look)))
    }

    /// Shows a record.
    pub fn see(&self, record: &Record) {
        if let Some(look) = &self.0 {
            look(record);
        }
    }
}

impl fmt::Debug for Watcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Watcher(somebody)" } else { "Watcher(nobody)" })
    }
}
