//! What lies on a block image: the data directory of a Nexus.
//!
//! In: the writes of a running Nexus. Out: [`Content`], a value that can be copied, compared, lost in
//! part and copied back, as snapshots and mirrors do. A [`Volume`] is the image's head as one site
//! sees it; its [`Disk`] says what is wrong with it. Start at [`Volume`].

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::Notify;
use uuid::Uuid;

/// The password of a Nexus that was started with `nexus.security.randompassword=false`.
pub const ADMIN_PASSWORD: &str = "admin123";

/// Of the youngest data that a block snapshot misses, this part (7 of 10) is missing whole; the rest
/// is listed with its length and has no bytes. Source: `NEXUS.md` measured 21.9 s of 31.4 s.
const MISSING_TENTHS: u32 = 7;

/// One stored file of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifact {
    /// `None`: the database knows it, the blob is gone; it is served as 200 without a body.
    pub bytes: Option<Bytes>,
    pub length: usize,
    pub content_type: String,
    pub digests: Digests,
    /// When the upload was acknowledged.
    pub written: Instant,
    /// The same for a client's eyes, in seconds of the epoch.
    pub modified: i64,
}

/// What Nexus tells about a file's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digests {
    pub sha1: String,
    pub sha256: String,
    pub sha512: String,
}

impl Artifact {
    /// An artifact as it stands right after its upload.
    pub fn new(bytes: Bytes, content_type: &str) -> Self {
        let digest = |algorithm| hex(ring::digest::digest(algorithm, &bytes).as_ref());
        Self {
            length: bytes.len(),
            content_type: content_type.to_owned(),
            digests: Digests {
                sha1: digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY),
                sha256: digest(&ring::digest::SHA256),
                sha512: digest(&ring::digest::SHA512),
            },
            bytes: Some(bytes),
            written: Instant::now(),
            modified: jiff::Timestamp::now().as_second(),
        }
    }
}

/// Bytes as lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string does not fail");
        text
    })
}

/// Everything a data directory holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// Name to format, hosted all of them.
    pub repositories: BTreeMap<String, String>,
    /// By `REPOSITORY/PATH`.
    pub artifacts: BTreeMap<String, Artifact>,
    pub node_id: String,
    /// `db/frozen.marker` is there: the next start is read-only.
    pub frozen_marker: bool,
    pub admin_password: String,
    /// Raised by whoever wants to tell one state of the data from another.
    pub generation: u64,
}

impl Default for Content {
    /// An empty data directory, as a first start makes it.
    fn default() -> Self {
        Self {
            repositories: BTreeMap::new(),
            artifacts: BTreeMap::new(),
            node_id: Uuid::new_v4().simple().to_string().to_uppercase(),
            frozen_marker: false,
            admin_password: ADMIN_PASSWORD.to_owned(),
            generation: 0,
        }
    }
}

impl Content {
    /// What a block snapshot sees when the last `unwritten` of uploads had not reached the device.
    pub fn as_the_device_has_it(&self, unwritten: Duration) -> Self {
        let mut seen = self.clone();
        seen.artifacts.retain(|_, artifact| artifact.written.elapsed() >= unwritten * MISSING_TENTHS / 10);
        for artifact in seen.artifacts.values_mut() {
            if artifact.written.elapsed() < unwritten {
                artifact.bytes = None;
            }
        }
        seen
    }

    /// What is left after SIGKILL: uploads acknowledged within `unsaved` are gone.
    pub fn forget_younger_than(&mut self, unsaved: Duration) {
        self.artifacts.retain(|_, artifact| artifact.written.elapsed() >= unsaved);
    }

    /// Half of a copy: the first `parts` of `all` parts of `newer`, the others still of `older`.
    pub fn mixture(older: &Self, newer: &Self, parts: usize, all: usize) -> Self {
        let copied = |key: &str| {
            let place: usize = key.bytes().map(usize::from).sum();
            place % all.max(1) < parts
        };
        let mut mixed = if parts == 0 { older.clone() } else { newer.clone() };
        mixed.artifacts = newer
            .artifacts
            .iter()
            .filter(|(key, _)| copied(key))
            .chain(older.artifacts.iter().filter(|(key, _)| !copied(key)))
            .map(|(key, artifact)| (key.clone(), artifact.clone()))
            .collect();
        mixed
    }
}

/// What is wrong with the disk under a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disk {
    Sound,
    /// No space left, since then.
    Full(Instant),
    /// Writes hang (`fsfreeze`), since then; heals completely.
    Hung(Instant),
    /// Remounted read-only by the kernel, since then.
    ReadOnly(Instant),
}

/// The head of an image at one site. Clones are the same volume.
#[derive(Clone)]
pub struct Volume {
    state: Arc<Mutex<State>>,
    changed: Arc<Notify>,
}

struct State {
    content: Content,
    disk: Disk,
}

impl Default for Volume {
    fn default() -> Self {
        Self::new(Content::default())
    }
}

impl Volume {
    pub fn new(content: Content) -> Self {
        let state = State { content, disk: Disk::Sound };
        Self { state: Arc::new(Mutex::new(state)), changed: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while held")
    }

    /// A copy of all that is on it now.
    pub fn content(&self) -> Content {
        self.lock().content.clone()
    }

    /// Reads without copying.
    pub fn read<T>(&self, look: impl FnOnce(&Content) -> T) -> T {
        look(&self.lock().content)
    }

    /// Writes, whatever the disk says: the caller has asked [`Volume::disk`].
    pub fn write<T>(&self, change: impl FnOnce(&mut Content) -> T) -> T {
        change(&mut self.lock().content)
    }

    pub fn disk(&self) -> Disk {
        self.lock().disk
    }

    /// Breaks or heals the disk; whoever hangs on it looks again.
    pub fn set_disk(&self, disk: Disk) {
        self.lock().disk = disk;
        self.changed.notify_waiters();
    }

    /// Returns when the disk is no longer hung.
    pub async fn until_not_hung(&self) {
        loop {
            let changed = self.changed.notified();
            if !matches!(self.disk(), Disk::Hung(_)) {
                return;
            }
            changed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_snapshot_misses_the_youngest_and_empties_the_next() {
        let second = Duration::from_secs(1);
        let mut content = Content::default();
        for (name, age) in [("r/young", 5), ("r/middle", 25), ("r/old", 40)] {
            let mut artifact = Artifact::new(Bytes::from_static(b"x"), "text/plain");
            artifact.written -= second * age;
            content.artifacts.insert(name.to_owned(), artifact);
        }

        let seen = content.as_the_device_has_it(second * 32);

        assert!(!seen.artifacts.contains_key("r/young"));
        assert_eq!(seen.artifacts["r/middle"].bytes, None);
        assert_eq!(seen.artifacts["r/middle"].length, 1);
        assert!(seen.artifacts["r/old"].bytes.is_some());
    }

    #[test]
    fn a_mixture_is_neither_the_older_nor_the_newer_content() {
        let stamped = |text: &'static [u8]| {
            let mut content = Content::default();
            for name in ["r/a", "r/b", "r/c", "r/d"] {
                content.artifacts.insert(name.to_owned(), Artifact::new(text.into(), "text/plain"));
            }
            content
        };
        let (older, newer) = (stamped(b"old"), stamped(b"new"));

        let mixed = Content::mixture(&older, &newer, 2, 4);

        let texts: Vec<_> = mixed.artifacts.values().map(|artifact| artifact.bytes.clone().unwrap()).collect();
        assert!(texts.contains(&Bytes::from_static(b"old")));
        assert!(texts.contains(&Bytes::from_static(b"new")));
    }
}
