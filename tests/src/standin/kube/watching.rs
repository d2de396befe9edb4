//! Watches: what changes, as a stream of JSON lines.
//!
//! In: the store, a type, selectors and where to begin. Out: a body that ends at `timeoutSeconds`, or
//! with an ERROR event when the beginning is too old. Start at [`watch`].

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::Server;
use super::resource::Target;
use super::select::Selector;
use super::status::Refusal;
use super::store::{Change, Key};
use crate::standin::web::{self, Answer};

/// How many events may wait for a slow client.
const QUEUE: usize = 64;

/// What a watch was asked for.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) target: Target,
    pub(super) selector: Selector,
    /// `None`: begin with what is there.
    pub(super) since: Option<u64>,
    pub(super) bookmarks: bool,
    /// A streaming list: a bookmark marks the end of what was there.
    pub(super) initial_events: bool,
    pub(super) timeout: Duration,
}

/// Answers with the stream.
pub(super) fn watch(server: Arc<Server>, request: Request) -> Answer {
    let (sender, receiver) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        let timeout = request.timeout;
        let follower = Follower { server, request, sender, seen: BTreeSet::new() };
        let closed = follower.sender.clone();
        tokio::select! {
            () = follower.run() => {}
            () = closed.closed() => {}
            () = tokio::time::sleep(timeout) => {}
        }
    });
    let lines = futures::stream::unfold(receiver, |mut receiver| async move {
        let line: Bytes = receiver.recv().await?;
        Some((Ok::<_, io::Error>(Frame::data(line)), receiver))
    });
    let mut answer = web::typed(StatusCode::OK, "application/json", Bytes::new());
    *answer.body_mut() = BodyExt::boxed(StreamBody::new(lines));
    answer
}

struct Follower {
    server: Arc<Server>,
    request: Request,
    sender: mpsc::Sender<Bytes>,
    /// What the client knows, so that leaving a selection is told as a deletion.
    seen: BTreeSet<Key>,
}

impl Follower {
    async fn run(mut self) {
        let mut changes = self.server.lock().changes();
        let Some(mut version) = self.begin().await else { return };
        let mut bookmark = tokio::time::interval(self.server.timing.bookmark);
        bookmark.reset();
        loop {
            let due = self.due(version);
            let (lines, next) = match due {
                Ok(due) => due,
                Err(refusal) => {
                    self.send(&json!({ "type": "ERROR", "object": refusal.body() })).await;
                    return;
                }
            };
            for line in lines {
                self.send(&line).await;
            }
            version = next;
            tokio::select! {
                // The store lives as long as its server, which this task holds.
                _ = changes.changed() => {}
                _ = bookmark.tick(), if self.request.bookmarks => self.bookmark(version, false).await,
            }
        }
    }

    /// Sends what is there, if that was asked for. Returns the version to go on from.
    async fn begin(&mut self) -> Option<u64> {
        if let Some(since) = self.request.since {
            return Some(since);
        }
        let (objects, version) = {
            let store = self.server.lock();
            let resource = &self.request.target.resource;
            let there: Vec<(Key, Value)> = store
                .list(resource, &self.request.target.namespace)
                .filter(|(key, object)| self.request.selector.fits(key, object))
                .map(|(key, object)| (key.clone(), object.clone()))
                .collect();
            (there, store.version())
        };
        for (key, object) in objects {
            self.send(&json!({ "type": "ADDED", "object": object })).await;
            self.seen.insert(key);
        }
        if self.request.initial_events {
            self.bookmark(version, true).await;
        }
        Some(version)
    }

    /// The events after `version`, and the version reached.
    fn due(&mut self, version: u64) -> Result<(Vec<Value>, u64), Refusal> {
        let store = self.server.lock();
        if version < store.oldest() {
            return Err(Refusal::too_old(version, store.oldest()));
        }
        let target = &self.request.target;
        let mut lines = Vec::new();
        for entry in store.since(version) {
            if !entry.key.belongs_to(&target.resource, &target.namespace) {
                continue;
            }
            let fits = self.request.selector.fits(&entry.key, &entry.object);
            let known = self.seen.contains(&entry.key);
            let change = match entry.change {
                Change::Deleted if known || fits => Change::Deleted,
                Change::Modified if known && !fits => Change::Deleted,
                // Known or not: a watch from a version cannot tell, and the client sorts it out.
                Change::Added | Change::Modified if fits => entry.change,
                _ => continue,
            };
            if change == Change::Deleted {
                self.seen.remove(&entry.key);
            } else {
                self.seen.insert(entry.key.clone());
            }
            lines.push(json!({ "type": change.word(), "object": entry.object }));
        }
        Ok((lines, store.version()))
    }

    async fn bookmark(&self, version: u64, initial: bool) {
        let resource = &self.request.target.resource;
        let mut metadata = json!({ "resourceVersion": version.to_string(), "creationTimestamp": null });
        if initial {
            metadata["annotations"] = json!({ "k8s.io/initial-events-end": "true" });
        }
        let object = json!({
            "kind": resource.kind, "apiVersion": resource.api_version(), "metadata": metadata,
        });
        self.send(&json!({ "type": "BOOKMARK", "object": object })).await;
    }

    async fn send(&self, line: &Value) {
        // A client that has left ends this task by itself.
        let _ = self.sender.send(Bytes::from(format!("{line}\n"))).await;
    }
}
