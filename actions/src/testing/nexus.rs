//! A Nexus on loopback that answers as a real 3.71 does, as far as `verify` and `route_check` ask.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

/// Of what it holds and how it feels.
pub struct Inside {
    pub node: String,
    pub server: &'static str,
    pub repositories: Vec<String>,
    /// By `REPOSITORY/PATH`; without content: the blob is gone, and it is served with this length and no body.
    pub files: BTreeMap<String, (Result<Bytes, usize>, i64)>,
    /// Every path is refused so many times more, as by what stands before a Nexus that starts.
    pub starting: u32,
    pub frozen: Option<&'static str>,
    pub ill: Option<&'static str>,
    /// Looks of `status/check` until it is well.
    pub ill_for: u32,
    pub may_see_node: bool,
    /// An upload gets this status and no effect.
    pub refuse_uploads: Option<StatusCode>,
    /// The next upload has its effect, and its answer is lost.
    pub lose_answer: bool,
    pub uploads: Vec<String>,
    pub asked: Vec<String>,
}

/// A Nexus on loopback.
pub struct FakeNexus {
    pub address: SocketAddr,
    inside: Shared,
}

type Shared = Arc<Mutex<Inside>>;

impl FakeNexus {
    pub async fn start() -> Self {
        let inside = Arc::new(Mutex::new(Inside {
            node: "NODE-A".into(),
            server: "Nexus/3.71.0-06 (OSS)",
            repositories: vec!["maven-releases".into(), "dr-canary".into()],
            files: BTreeMap::new(),
            starting: 0,
            frozen: None,
            ill: None,
            ill_for: 0,
            may_see_node: true,
            refuse_uploads: None,
            lose_answer: false,
            uploads: vec![],
            asked: vec![],
        }));
        let router = Router::new()
            .route("/service/rest/v1/status", get(|| async { StatusCode::OK }))
            .route("/service/rest/v1/status/writable", get(writable))
            .route("/service/rest/v1/status/check", get(checks))
            .route("/service/rest/v1/read-only", get(read_only))
            .route("/service/rest/v1/system/node", get(node))
            .route("/service/rest/v1/repositories", get(repositories))
            .route("/service/rest/v1/assets", get(assets))
            .route("/repository/{*path}", get(download).put(upload))
            .layer(axum::middleware::from_fn_with_state(inside.clone(), front))
            .with_state(inside.clone());
        Self { address: super::serve(router).await, inside }
    }

    pub fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap()
    }

    /// Puts a file there, written at this second of the epoch.
    pub fn put(&self, path: &str, content: &'static str, at: i64) {
        self.inside().files.insert(path.into(), (Ok(Bytes::from_static(content.as_bytes())), at));
    }

    /// A file whose blob is gone.
    pub fn put_broken(&self, path: &str, at: i64) {
        self.inside().files.insert(path.into(), (Err(100), at));
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

/// What every request passes: the web server's name, the login, the time before it is up.
async fn front(
    State(inside): State<Shared>,
    request: axum::extract::Request,
    next: axum::middleware::Next,
) -> Response {
    {
        let mut inside = inside.lock().unwrap();
        inside.asked.push(request.uri().path().to_owned());
        if inside.starting > 0 {
            inside.starting -= 1;
            return (StatusCode::SERVICE_UNAVAILABLE, [("server", "nginx")], "<html>503").into_response();
        }
    }
    let server = inside.lock().unwrap().server;
    let wrong = login(request.headers()) == Login::Wrong;
    let mut answer = if wrong { StatusCode::UNAUTHORIZED.into_response() } else { next.run(request).await };
    answer.headers_mut().insert("server", server.parse().unwrap());
    answer
}

#[derive(Debug, PartialEq)]
enum Login {
    Nobody,
    Admin,
    Wrong,
}

fn login(headers: &HeaderMap) -> Login {
    match headers.get("authorization").and_then(|value| value.to_str().ok()) {
        None => Login::Nobody,
        Some(value) if value == format!("Basic {}", STANDARD.encode("admin:right")) => Login::Admin,
        Some(_) => Login::Wrong,
    }
}

async fn writable(State(inside): State<Shared>) -> StatusCode {
    match inside.lock().unwrap().frozen {
        None => StatusCode::OK,
        Some(_) => StatusCode::SERVICE_UNAVAILABLE,
    }
}

async fn read_only(State(inside): State<Shared>) -> String {
    let frozen = inside.lock().unwrap().frozen;
    let by_task = frozen == Some("task");
    json!({ "frozen": frozen.is_some(), "systemInitiated": by_task, "summaryReason": frozen }).to_string()
}

async fn checks(State(inside): State<Shared>) -> String {
    let mut inside = inside.lock().unwrap();
    let ill = if inside.ill_for > 0 { inside.ill } else { None };
    inside.ill_for = inside.ill_for.saturating_sub(1);
    let healthy = |name: &str| (name.to_owned(), json!({ "healthy": ill != Some(name), "message": "as it is" }));
    let all: Value = ["Scheduler", "Blob Stores Ready", "Available CPUs"].map(healthy).into_iter().collect();
    all.to_string()
}

async fn node(State(inside): State<Shared>, headers: HeaderMap) -> Response {
    let inside = inside.lock().unwrap();
    match login(&headers) {
        Login::Admin if inside.may_see_node => json!({ "nodeId": inside.node }).to_string().into_response(),
        _ => StatusCode::FORBIDDEN.into_response(),
    }
}

async fn repositories(State(inside): State<Shared>) -> String {
    let names = inside.lock().unwrap().repositories.clone();
    json!(names.iter().map(|name| json!({ "name": name, "format": "raw" })).collect::<Vec<_>>()).to_string()
}

/// Two entries a page, in the order of their paths.
async fn assets(State(inside): State<Shared>, Query(query): Query<BTreeMap<String, String>>) -> Response {
    let inside = inside.lock().unwrap();
    if !inside.repositories.contains(&query["repository"]) {
        return StatusCode::NOT_FOUND.into_response();
    }
    let prefix = format!("{}/", query["repository"]);
    let all: Vec<Value> = inside
        .files
        .iter()
        .filter_map(|(path, (content, at))| {
            let digest = content.as_ref().ok().map(|bytes| sha256(bytes));
            Some(json!({
                "path": format!("/{}", path.strip_prefix(&prefix)?),
                "checksum": { "sha256": digest },
                "lastModified": jiff::Timestamp::from_second(*at).unwrap().to_string().replace('Z', ".000+00:00"),
            }))
        })
        .collect();
    let from: usize = query.get("continuationToken").map_or(0, |token| token.parse().unwrap());
    let next = (from + 2 < all.len()).then(|| (from + 2).to_string());
    let items: Vec<&Value> = all.iter().skip(from).take(2).collect();
    json!({ "items": items, "continuationToken": next }).to_string().into_response()
}

async fn download(State(inside): State<Shared>, Path(path): Path<String>) -> Response {
    match inside.lock().unwrap().files.get(&path) {
        None => (StatusCode::NOT_FOUND, "<html>404").into_response(),
        Some((Ok(bytes), _)) => bytes.clone().into_response(),
        Some((Err(length), _)) => {
            let gone = futures::stream::once(async {
                // The head must be out before the connection ends.
                for _ in 0..100 {
                    tokio::task::yield_now().await;
                }
                Err::<Bytes, _>(std::io::Error::other("the blob is gone"))
            });
            Response::builder().header("content-length", *length).body(Body::from_stream(gone)).unwrap()
        }
    }
}

async fn upload(State(inside): State<Shared>, Path(path): Path<String>, headers: HeaderMap, body: Bytes) -> Response {
    let mut inside = inside.lock().unwrap();
    if login(&headers) != Login::Admin {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    if let Some(status) = inside.refuse_uploads {
        return status.into_response();
    }
    if !inside.repositories.iter().any(|name| path.starts_with(&format!("{name}/"))) {
        return StatusCode::NOT_FOUND.into_response();
    }
    inside.uploads.push(path.clone());
    inside.files.insert(path, (Ok(body), 0));
    if std::mem::take(&mut inside.lose_answer) {
        let lost = futures::stream::once(async { Err::<Bytes, _>(std::io::Error::other("lost")) });
        return (StatusCode::CREATED, Body::from_stream(lost)).into_response();
    }
    StatusCode::CREATED.into_response()
}

pub fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest;

    crate::nexus_api::hex(&sha2::Sha256::digest(bytes))
}
