//! What each path does.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Extension, FromRequestParts, Path, Query};
use axum::http::header::{CONTENT_TYPE, WWW_AUTHENTICATE};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router, extract};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::Semaphore;
use understudy_config::{ApiRole, Config, Testify, Token};
use understudy_core::{Order, PairId, PairName, PairView, Record, RunId, View};

use super::auth::{Caller, Peer, Stranger, identify, role_for, role_name};
use super::{Means, Ordered, Status, witness};
use crate::handle::Unheard;
use crate::history::history;
use crate::journal::{Entry, JournalError, read_after, read_all};
use crate::report::report;

/// An order is a few hundred bytes.
const MAX_BODY_BYTES: usize = 64 * 1024;
/// Entries that one answer holds at most.
const MAX_ENTRIES: usize = 1000;
/// Forged tokens are journaled at most so often: whoever sends them must not be able to fill the disk.
const FORGED_EVERY: Duration = Duration::from_secs(10);
const OPENMETRICS: HeaderValue = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");

/// What of the configuration the API needs.
pub struct Settings {
    site: String,
    directory: PathBuf,
    tokens: Vec<Token>,
    metrics: bool,
    witness: Option<Testify>,
}

impl Settings {
    pub fn of(config: &Config) -> Self {
        let listen = config.listen.as_ref();
        Self {
            site: config.site.clone(),
            directory: config.state.file.clone(),
            tokens: listen.map(|listen| listen.tokens.clone()).unwrap_or_default(),
            metrics: listen.is_some_and(|listen| listen.metrics),
            witness: listen.and_then(|listen| listen.witness.clone()),
        }
    }
}

/// What every request has in common.
pub struct State {
    means: Means,
    settings: Settings,
    /// The journal is read whole for some answers: one after the other.
    reading: Arc<Semaphore>,
    forged: Mutex<Option<Instant>>,
}

impl State {
    pub fn new(means: Means, settings: Settings) -> Arc<Self> {
        Arc::new(Self { means, settings, reading: Arc::new(Semaphore::new(1)), forged: Mutex::new(None) })
    }

    async fn view(&self) -> Result<Arc<View>, Answer> {
        Ok(self.means.handle.view().await?)
    }

    /// Reads the journal beside the runtime.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(PathBuf) -> Result<T, JournalError> + Send + 'static,
    ) -> Result<T, Answer> {
        let turn = self.reading.clone().acquire_owned().await.expect("the semaphore is never closed");
        let directory = self.settings.directory.clone();
        let done = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            read(directory)
        });
        match done.await {
            Ok(Ok(read)) => Ok(read),
            Ok(Err(error)) => Err(Answer::error(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())),
            Err(error) => Err(Answer::error(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())),
        }
    }
}

type Shared = extract::State<Arc<State>>;

/// Everything that `peer` may ask for.
pub fn router(state: Arc<State>, peer: Peer) -> Router {
    let everywhere = Router::new().route("/live", get(live)).route("/ready", get(ready));
    let mut router = match peer {
        Peer::Plain => everywhere,
        Peer::Local { .. } | Peer::Remote { .. } => everywhere
            .route("/v1/status", get(status))
            .route("/v1/pairs/{pair}/why", get(why))
            .route("/v1/runs", get(runs))
            .route("/v1/runs/{run}/report", get(report_of))
            .route("/v1/journal", get(journal))
            .route("/v1/orders", post(order)),
    };
    if state.settings.metrics || matches!(peer, Peer::Local { .. }) {
        router = router.route("/metrics", get(metrics));
    }
    if state.settings.witness.is_some() {
        router = router.route("/v1/witness/{pair}", get(testify));
    }
    let router = router.fallback(nothing_here).method_not_allowed_fallback(not_so);
    router.layer(Extension(peer)).layer(DefaultBodyLimit::max(MAX_BODY_BYTES)).with_state(state)
}

/// An answer that is not the one that was asked for.
pub enum Answer {
    Error(StatusCode, String),
    Unauthorized(&'static str),
}

impl Answer {
    fn error(status: StatusCode, why: impl Into<String>) -> Self {
        Answer::Error(status, why.into())
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        match self {
            Answer::Error(status, why) => (status, Json(json!({ "error": why }))).into_response(),
            Answer::Unauthorized(why) => {
                let challenge = [(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))];
                (StatusCode::UNAUTHORIZED, challenge, Json(json!({ "error": why }))).into_response()
            }
        }
    }
}

impl From<Unheard> for Answer {
    fn from(unheard: Unheard) -> Self {
        Answer::error(StatusCode::SERVICE_UNAVAILABLE, unheard.to_string())
    }
}

/// Somebody who may look. Every path of `/v1` but the witness takes one, so that none is open by oversight.
struct Known(Caller);

impl FromRequestParts<Arc<State>> for Known {
    type Rejection = Answer;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<State>) -> Result<Self, Answer> {
        let peer = parts.extensions.get::<Peer>().copied().unwrap_or(Peer::Plain);
        match identify(peer, &parts.headers, &state.settings.tokens) {
            Ok(caller) => Ok(Self(caller)),
            Err(Stranger::NoToken) => Err(Answer::Unauthorized("send a token: Authorization: Bearer TOKEN")),
            Err(Stranger::WrongToken) => {
                note_forged(state, peer, parts.uri.path()).await;
                Err(Answer::Unauthorized("nobody has this token"))
            }
            Err(Stranger::NotHere) => Err(Answer::error(StatusCode::NOT_FOUND, "served over TLS only")),
        }
    }
}

async fn note_forged(state: &State, peer: Peer, path: &str) {
    let by = match peer {
        Peer::Remote { address } => format!("unknown token from {}", address.ip()),
        Peer::Local { .. } | Peer::Plain => return,
    };
    tracing::warn!(by, path, "wrong token");
    if !is_worth_a_record(&state.forged, Instant::now()) {
        return;
    }
    let Ok(view) = state.means.handle.view().await else { return };
    // A record speaks of a pair, a token of none: the first one stands for the daemon.
    let Some(pair) = view.pairs.first().map(|pair| PairName(pair.name.clone())) else { return };
    let why = "nobody has this token; further ones are in the log".to_owned();
    // Nobody waits for it: the answer is the same whether it could be journaled or not.
    drop(state.means.handle.note(Record::Refused { pair, by, order: path.to_owned(), why }).await);
}

fn is_worth_a_record(last: &Mutex<Option<Instant>>, now: Instant) -> bool {
    let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
    let due = last.is_none_or(|last| now.duration_since(last) >= FORGED_EVERY);
    if due {
        *last = Some(now);
    }
    due
}

async fn live(extract::State(state): Shared) -> StatusCode {
    match state.means.handle.alive().await {
        Ok(()) => StatusCode::NO_CONTENT,
        Err(_) => StatusCode::SERVICE_UNAVAILABLE,
    }
}

async fn ready(extract::State(state): Shared) -> StatusCode {
    match state.means.handle.is_ready() {
        true => live(extract::State(state)).await,
        false => StatusCode::SERVICE_UNAVAILABLE,
    }
}

async fn metrics(extract::State(state): Shared) -> Result<impl IntoResponse, Answer> {
    let view = state.view().await?;
    Ok(([(CONTENT_TYPE, OPENMETRICS)], state.means.metrics.encode(&view)))
}

async fn status(extract::State(state): Shared, _: Known) -> Result<Json<Status>, Answer> {
    let view = state.view().await?;
    let said = (0..).zip(&view.pairs).map(|(at, pair)| {
        let said = (state.means.progress)(PairId(at));
        (PairName(pair.name.clone()), said)
    });
    let progress = said.filter(|(_, said)| !said.is_empty()).collect();
    let (site, version) = (state.settings.site.clone(), env!("CARGO_PKG_VERSION").to_owned());
    Ok(Json(Status { site, version, view: Arc::unwrap_or_clone(view), progress }))
}

async fn why(extract::State(state): Shared, _: Known, Path(name): Path<String>) -> Result<Json<PairView>, Answer> {
    let view = state.view().await?;
    Ok(Json(pair_of(&view, &name)?.clone()))
}

fn pair_of<'a>(view: &'a View, name: &str) -> Result<&'a PairView, Answer> {
    let known = || view.pairs.iter().map(|pair| pair.name.as_str()).collect::<Vec<_>>().join(", ");
    let found = view.pairs.iter().find(|pair| pair.name == name);
    found.ok_or_else(|| {
        Answer::error(StatusCode::NOT_FOUND, format!("there is no pair {name:?}; configured are: {}", known()))
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Runs {
    pair: Option<String>,
}

async fn runs(
    extract::State(state): Shared,
    _: Known,
    Query(asked): Query<Runs>,
) -> Result<Json<Vec<crate::history::Event>>, Answer> {
    let events = state.read(move |dir| Ok(history(&read_all(&dir)?, asked.pair.as_deref()))).await?;
    Ok(Json(events))
}

async fn report_of(
    extract::State(state): Shared,
    _: Known,
    Path(run): Path<String>,
) -> Result<Json<crate::report::Report>, Answer> {
    let missing = format!("the journal knows no run {run:?}; GET /v1/runs lists them");
    let found = state.read(move |dir| Ok(report(&read_all(&dir)?, &RunId(run)))).await?;
    found.map(Json).ok_or_else(|| Answer::error(StatusCode::NOT_FOUND, missing))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct After {
    #[serde(default)]
    after: u64,
    #[serde(default = "all_that_may")]
    limit: usize,
}

fn all_that_may() -> usize {
    MAX_ENTRIES
}

#[derive(Serialize)]
struct Entries {
    entries: Vec<Entry>,
}

async fn journal(extract::State(state): Shared, _: Known, Query(asked): Query<After>) -> Result<Json<Entries>, Answer> {
    let limit = asked.limit.min(MAX_ENTRIES);
    let entries = state.read(move |dir| read_after(&dir, asked.after, limit)).await?;
    Ok(Json(Entries { entries }))
}

async fn order(
    extract::State(state): Shared,
    Known(caller): Known,
    body: Bytes,
) -> Result<Json<serde_json::Value>, Answer> {
    let unreadable = |why| Answer::error(StatusCode::BAD_REQUEST, format!("this is no order: {why}"));
    let Ordered { pair, order } = Ordered::read(&body).map_err(unreadable)?;
    let needed = role_for(&order);
    if caller.role < needed {
        return Err(forbid(&state, caller, pair, &order, needed).await);
    }
    match state.means.handle.order(pair, caller.name, order).await? {
        Ok(answer) => Ok(Json(json!({ "answer": answer }))),
        Err(refusal) => Err(Answer::error(StatusCode::CONFLICT, refusal.why)),
    }
}

async fn forbid(state: &State, caller: Caller, pair: PairName, order: &Order, needed: ApiRole) -> Answer {
    let why = format!("{} has the role {}, this takes {}", caller.name, role_name(caller.role), role_name(needed));
    let order = serde_json::to_string(order).unwrap_or_default();
    let record = Record::Refused { pair, by: caller.name, order, why: why.clone() };
    match state.means.handle.note(record).await {
        Ok(()) => Answer::error(StatusCode::FORBIDDEN, why),
        Err(unheard) => unheard.into(),
    }
}

#[derive(Deserialize)]
struct Asked {
    nonce: String,
}

async fn testify(
    extract::State(state): Shared,
    Path(name): Path<String>,
    Query(Asked { nonce }): Query<Asked>,
) -> Result<impl IntoResponse, Answer> {
    if !witness::is_nonce(&nonce) {
        return Err(Answer::error(StatusCode::BAD_REQUEST, "a nonce is 8 to 128 letters, digits and dashes"));
    }
    let broken = |what: String| Answer::error(StatusCode::INTERNAL_SERVER_ERROR, what);
    let testify = state.settings.witness.as_ref().ok_or_else(|| broken("listen.witness is not set".into()))?;
    let secret = testify.secret.read().map_err(|e| broken(e.to_string()))?;
    let view = state.view().await?;
    let said = witness::testimony(&view, pair_of(&view, &name)?, testify.kind, &nonce);
    let body = serde_json::to_vec(&said).map_err(|e| broken(e.to_string()))?;
    let signature = understudy_probes::sign(&secret, &nonce, &body);
    let json = "application/json".to_owned();
    Ok(([(CONTENT_TYPE.as_str(), json), (understudy_probes::SIGNATURE, signature)], body))
}

async fn nothing_here(Extension(peer): Extension<Peer>) -> Answer {
    match peer {
        Peer::Plain => Answer::error(StatusCode::NOT_FOUND, "not served without TLS"),
        Peer::Local { .. } | Peer::Remote { .. } => Answer::error(StatusCode::NOT_FOUND, "there is nothing here"),
    }
}

async fn not_so() -> Answer {
    Answer::error(StatusCode::METHOD_NOT_ALLOWED, "not with this method")
}
