//! Takes notices to the humans, beside the loop: a slow receiver delays nothing (L3).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use understudy_actions::{Words, notify};
use understudy_config::{Loaded, Notify, Pair};
use understudy_core::{Evidence, LossBound, Notice, PairName, Question, Request};

use crate::metrics::Metrics;

/// How many notices may wait to be sent; more are told in the log and dropped.
const WAITING: usize = 256;
/// Notices that are sent at the same time.
const SIDE_BY_SIDE: usize = 16;
/// How long the last notices may take when the daemon stops.
const DRAIN: Duration = Duration::from_secs(5);

struct Letter {
    to: Arc<Vec<Notify>>,
    event: &'static str,
    pair: String,
    message: String,
    body: Value,
    id: String,
}

struct Sender {
    site: String,
    metrics: Arc<Metrics>,
}

/// Sends one notice to each receiver. A repeat is harmless: the id stays the same.
async fn deliver(letter: Letter, sender: Arc<Sender>) {
    let words = Words {
        pair: letter.pair,
        site: sender.site.clone(),
        key: letter.id,
        event: letter.event.to_owned(),
        message: letter.message,
        ..Words::default()
    };
    let untold = notify::send(&letter.to, &words, &letter.body).await;
    (untold.len()..letter.to.len()).for_each(|_| sender.metrics.notified(true));
    for why in untold {
        sender.metrics.notified(false);
        tracing::error!(event = letter.event, "a notice was not delivered: {:#}", anyhow::Error::from(why));
    }
}

/// Sends notices.
pub struct Notices {
    loaded: Arc<Loaded>,
    /// The place of each pair in the settings.
    pairs: HashMap<String, usize>,
    all: Arc<Vec<Notify>>,
    letters: mpsc::Sender<Letter>,
    sender: JoinHandle<()>,
}

impl Notices {
    /// Starts the task that sends.
    #[must_use]
    pub fn new(loaded: &Arc<Loaded>, metrics: Arc<Metrics>) -> Self {
        let config = &loaded.config;
        let sending = Arc::new(Sender { site: config.site.clone(), metrics });
        let (letters, mut waiting) = mpsc::channel::<Letter>(WAITING);
        let sender = tokio::spawn(async move {
            // Side by side, so that a receiver that is dead delays no later page to another.
            let mut under_way = JoinSet::new();
            while let Some(letter) = waiting.recv().await {
                while under_way.len() >= SIDE_BY_SIDE {
                    under_way.join_next().await;
                }
                under_way.spawn(deliver(letter, sending.clone()));
            }
            while under_way.join_next().await.is_some() {}
        });
        let mut all: Vec<Notify> = Vec::new();
        for notify in config.pairs.iter().flat_map(|pair| &pair.notify) {
            if !all.contains(notify) {
                all.push(notify.clone());
            }
        }
        let pairs = config.pairs.iter().enumerate().map(|(n, pair)| (pair.name.clone(), n)).collect();
        Self { loaded: loaded.clone(), pairs, all: Arc::new(all), letters, sender }
    }

    /// Sends `notice` to those whom the pair names; without a pair to everybody.
    pub fn send(&self, pair: Option<&PairName>, notice: Notice) {
        let known = pair.and_then(|name| self.pairs.get(name.as_str())).map(|n| &self.loaded.config.pairs[*n]);
        let to = known.map_or_else(|| self.all.clone(), |settings| Arc::new(settings.notify.clone()));
        let (event, mut body) = body_of(&notice, known);
        body["site"] = json!(self.loaded.config.site);
        body["pair"] = json!(pair.map(PairName::as_str));
        self.post(to, event, pair.map_or("", PairName::as_str), body);
    }

    /// The journal is broken: the last thing that is said.
    pub fn page_halted(&self, why: &str) {
        let body = json!({
            "site": self.loaded.config.site, "kind": "halted",
            "message": format!("understudy writes nothing to the world any more: {why}"),
        });
        self.post(self.all.clone(), "page", "", body);
    }

    fn post(&self, to: Arc<Vec<Notify>>, event: &'static str, pair: &str, body: Value) {
        let message = body["message"].as_str().unwrap_or_default().to_owned();
        let id = format!("evt_{}", uuid::Uuid::now_v7());
        let letter = Letter { to, event, pair: pair.to_owned(), message, body, id };
        if let Err(error) = self.letters.try_send(letter) {
            tracing::error!("a notice could not be sent: {error}");
        }
    }

    /// Sends what still waits, within a limit.
    pub async fn drain(self) {
        drop(self.letters);
        if tokio::time::timeout(DRAIN, self.sender).await.is_err() {
            tracing::warn!("notices were still unsent when the daemon stopped");
        }
    }
}

fn body_of(notice: &Notice, pair: Option<&Pair>) -> (&'static str, Value) {
    match notice {
        Notice::Request { request, escalated } => ("request", request_body(request, *escalated, pair)),
        Notice::RequestVoid { request, why } => ("request-void", json!({ "request": request, "message": why })),
        Notice::Page { kind, message } => ("page", json!({ "kind": kind, "message": message })),
        Notice::VerdictChanged { from, to, cause } => {
            ("verdict", json!({ "from": from, "to": to, "message": format!("{from} → {to}: {cause}") }))
        }
        Notice::RunStarted { run, accepted } => {
            ("run-started", json!({ "run": run, "accepted": accepted, "message": format!("run {run} begins") }))
        }
        Notice::RunEnded { run, how, succeeded } => {
            ("run-ended", json!({ "run": run, "succeeded": succeeded, "message": format!("run {run}: {how}") }))
        }
    }
}

fn request_body(request: &Request, escalated: bool, pair: Option<&Pair>) -> Value {
    let fences = pair.map(fences).unwrap_or_default();
    let question = match request.question {
        Question::Failover => "may the failover start?",
        Question::Unfenced => "the fence was not confirmed: go on nevertheless?",
    };
    let loss = match request.bound_at_expiry {
        LossBound::AtMost(ms) if request.needs_loss_consent => format!(" --accept-loss {}s", ms.div_ceil(1000)),
        LossBound::AtMost(_) | LossBound::Infinite => String::new(),
    };
    let down_for_s = (request.asked.wall_ms - request.evidence.down_since_wall_ms) / 1000;
    json!({
        "request": request.id,
        "question": question,
        "escalated": escalated,
        "verdict": request.evidence.verdict,
        "evidence_sha256": evidence_digest(&request.evidence),
        "evidence": request.evidence,
        "down_for_seconds": down_for_s,
        "loss_bound": request.bound.to_string(),
        "loss_bound_at_expiry": request.bound_at_expiry.to_string(),
        "needs_loss_consent": request.needs_loss_consent,
        "fences": fences,
        "if_unfenced": "the plan stops before the promote and asks again, unless --accept-unfenced REASON was given",
        "expires_unix_ms": request.expires_wall_ms,
        "approve": format!("understudy approve {}{loss}", request.id),
        "deny": format!("understudy deny {} --reason …", request.id),
        "message": format!("{}: {question} Down for {down_for_s} s; loss at most {}", request.pair, request.bound_at_expiry),
    })
}

/// What the plan will try to stop at A.
fn fences(pair: &Pair) -> Vec<String> {
    let mut named = Vec::new();
    if pair.fence.workload {
        named.push("workload at A gone (custom resource, pods, attachments)".to_owned());
    }
    if pair.fence.demote.is_some() {
        named.push("images at A demoted".to_owned());
    }
    if !pair.fence.hooks.is_empty() {
        named.push(format!("{} hooks for power or network", pair.fence.hooks.len()));
    }
    named
}

/// The same while nothing changes: what an approval is bound to, for the eye.
#[must_use]
pub fn evidence_digest(evidence: &Evidence) -> String {
    let text = serde_json::to_vec(evidence).unwrap_or_default();
    let digest = Sha256::digest(&text);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
