//! Every path of the stand-in Nexus and what it answers.
//!
//! In: one request. Out: one answer, by the table "Endpoints" and the table "States" of what a real
//! 3.71 was seen to do. Start at [`answer`].

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::StreamExt;
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::ext::ReasonPhrase;
use serde_json::{Value, json};

use super::{Process, Twist};
use crate::standin::effects::Kind;
use crate::standin::volume::{Artifact, Content, Disk};
use crate::standin::web::{self, Answer, cut_short, empty, full, typed};

/// The version that was measured.
pub(super) const SERVER: &str = "Nexus/3.71.0-06 (OSS)";
/// A stopping Nexus is answered for by its web server alone.
const JETTY: &str = "Jetty(9.4.53.v20231009)";
const READ_ONLY: &str = "Nexus Repository Manager is in read-only mode";
/// A form body longer than this makes the real one fail: "Unable to parse form content".
const LONGEST_FORM: usize = 200_000;

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Caller {
    Anonymous,
    Admin,
    /// Credentials that nobody has: refused even where anybody may look.
    Wrong,
}

/// Answers one request as the process's state demands.
pub(super) async fn answer(process: Arc<Process>, request: Request<Incoming>) -> Answer {
    let (twist, stopping) = {
        let state = process.lock();
        (state.twist, state.stopping)
    };
    if stopping {
        return served_by(empty(StatusCode::SERVICE_UNAVAILABLE), JETTY);
    }
    match twist {
        Twist::None => {}
        Twist::Slow(delay) => tokio::time::sleep(delay).await,
        Twist::ProxyError(status) => return proxy_error(status),
        Twist::Garbage => {
            return served_by(typed(StatusCode::OK, "application/json", &b"\xff\x00{{"[..]), SERVER);
        }
        Twist::Endless => return served_by(endless(), SERVER),
    }
    served_by(route(&process, request).await, SERVER)
}

fn served_by(mut answer: Answer, server: &'static str) -> Answer {
    answer.headers_mut().insert(header::SERVER, HeaderValue::from_static(server));
    answer
}

fn proxy_error(status: StatusCode) -> Answer {
    let title = format!("{} {}", status.as_u16(), status.canonical_reason().unwrap_or("Error"));
    let page = format!(
        "<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n<center><h1>{title}</h1></center>\r\n\
         <hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
    );
    served_by(typed(status, "text/html", page), "nginx")
}

fn endless() -> Answer {
    let chunk = Bytes::from(vec![b'x'; 8192]);
    let chunks = futures::stream::repeat(chunk).map(|chunk| Ok::<_, io::Error>(Frame::data(chunk)));
    let mut answer = empty(StatusCode::OK);
    *answer.body_mut() = BodyExt::boxed(StreamBody::new(chunks));
    answer
}

async fn route(process: &Process, request: Request<Incoming>) -> Answer {
    let caller = caller(process, request.headers().get(header::AUTHORIZATION));
    let path = request.uri().path().to_owned();
    if caller != Caller::Anonymous {
        process.login().await;
    }
    if caller == Caller::Wrong {
        return unauthorized();
    }
    if let Some(rest) = path.strip_prefix("/repository/") {
        return repository(process, caller, rest, request).await;
    }
    let Some(rest) = path.strip_prefix("/service/") else {
        return typed(StatusCode::NOT_FOUND, "text/html", "<html><body>Not Found</body></html>");
    };
    match (request.method().as_str(), rest) {
        ("GET", "rest/v1/status") => empty(StatusCode::OK),
        ("GET", "rest/v1/status/writable") => writable(process),
        ("GET", "rest/v1/status/check") => guarded(caller, || check(process)),
        ("GET", "rest/v1/read-only") => read_only(process, caller),
        ("POST", "rest/v1/read-only/freeze") => guarded(caller, || freeze(process)),
        ("POST", "rest/v1/read-only/release") => guarded(caller, || release(process)),
        ("POST", "rest/v1/read-only/force-release") => guarded(caller, || force_release(process)),
        ("GET", "rest/v1/system/node") => guarded(caller, || node(process)),
        ("GET", "rest/v1/lifecycle/phase") => typed(StatusCode::OK, "text/plain", "TASKS"),
        ("GET", "rest/v1/repositories") => {
            process.login().await;
            repositories(process, host(&request))
        }
        ("GET", "rest/v1/assets") => assets(process, &request),
        ("POST", "rest/v1/repositories/raw/hosted") => match caller {
            Caller::Admin => create_repository(process, request).await,
            _ => forbidden(),
        },
        ("GET", "metrics/ping") => metrics(caller, StatusCode::OK, "pong\n"),
        // Always so: at least one of the checks is false on any small machine.
        ("GET", "metrics/healthcheck") => metrics(caller, StatusCode::INTERNAL_SERVER_ERROR, "{}"),
        _ => typed(StatusCode::NOT_FOUND, "text/html", "<html><body>Not Found</body></html>"),
    }
}

fn caller(process: &Process, header: Option<&HeaderValue>) -> Caller {
    let Some(header) = header else {
        return Caller::Anonymous;
    };
    let given =
        header.to_str().ok().and_then(|text| text.strip_prefix("Basic ")).and_then(|text| STANDARD.decode(text).ok());
    let password = process.lock().volume.read(|content| content.admin_password.clone());
    if given.as_deref() == Some(format!("admin:{password}").as_bytes()) { Caller::Admin } else { Caller::Wrong }
}

fn unauthorized() -> Answer {
    let mut answer = empty(StatusCode::UNAUTHORIZED);
    answer.headers_mut().insert(
        header::WWW_AUTHENTICATE,
        HeaderValue::from_static("BASIC realm=\"Sonatype Nexus Repository Manager\""),
    );
    answer
}

fn forbidden() -> Answer {
    empty(StatusCode::FORBIDDEN)
}

fn guarded(caller: Caller, answer: impl FnOnce() -> Answer) -> Answer {
    if caller == Caller::Admin { answer() } else { forbidden() }
}

fn metrics(caller: Caller, status: StatusCode, body: &'static str) -> Answer {
    if caller == Caller::Admin { typed(status, "text/plain", body) } else { unauthorized() }
}

fn writable(process: &Process) -> Answer {
    // Of the disk it knows nothing: full, hung and read-only are all writable to it.
    let frozen = process.lock().frozen;
    empty(if frozen { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK })
}

fn check(process: &Process) -> Answer {
    let (frozen, disk) = {
        let state = process.lock();
        (state.frozen, state.volume.disk())
    };
    let disk_full = matches!(disk, Disk::Full(_));
    let checks = [
        ("Available CPUs", false),
        ("Blob Stores Quota", true),
        ("Blob Stores Ready", !disk_full),
        ("Coordinate Content Selectors", true),
        ("Default Admin Credentials", false),
        ("DefaultRoleRealm", true),
        ("File Blob Stores Path", true),
        ("File Descriptors", false),
        ("Lifecycle Phase", true),
        ("Read-Only Detector", !frozen),
        ("Scheduler", !disk_full),
        ("Scripting", true),
        ("Thread Deadlock Detector", true),
    ];
    let now = jiff::Timestamp::now();
    let body: BTreeMap<&str, Value> = checks
        .into_iter()
        .map(|(name, healthy)| {
            let result = json!({
                "healthy": healthy, "message": null, "error": null, "details": null,
                "time": now.as_millisecond(), "duration": 0, "timestamp": now.to_string(),
            });
            (name, result)
        })
        .collect();
    web::json(StatusCode::OK, &json!(body))
}

fn read_only(process: &Process, caller: Caller) -> Answer {
    let frozen = process.lock().frozen;
    let told = frozen && caller == Caller::Admin;
    let reason = if told { "activated by an administrator" } else { "" };
    let body = json!({ "summaryReason": reason, "systemInitiated": false, "frozen": frozen });
    web::json(StatusCode::OK, &body)
}

fn freeze(process: &Process) -> Answer {
    let mut state = process.lock();
    if state.frozen {
        return empty(StatusCode::NOT_FOUND);
    }
    state.frozen = true;
    state.volume.write(|content| content.frozen_marker = true);
    empty(StatusCode::NO_CONTENT)
}

fn release(process: &Process) -> Answer {
    let mut state = process.lock();
    let was_frozen = std::mem::take(&mut state.frozen);
    // After a forced release it answers 404 and still deletes the marker.
    state.volume.write(|content| content.frozen_marker = false);
    empty(if was_frozen { StatusCode::NO_CONTENT } else { StatusCode::NOT_FOUND })
}

fn force_release(process: &Process) -> Answer {
    let was_frozen = std::mem::take(&mut process.lock().frozen);
    empty(if was_frozen { StatusCode::NO_CONTENT } else { StatusCode::NOT_FOUND })
}

fn node(process: &Process) -> Answer {
    let id = process.lock().volume.read(|content| content.node_id.clone());
    web::json(StatusCode::OK, &json!({ "nodeId": id }))
}

fn host(request: &Request<Incoming>) -> String {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    host.unwrap_or("localhost").to_owned()
}

fn repositories(process: &Process, host: String) -> Answer {
    let all = process.lock().volume.read(|content| content.repositories.clone());
    let list: Vec<Value> = all
        .iter()
        .map(|(name, format)| {
            json!({
                "name": name, "format": format, "type": "hosted",
                "url": format!("http://{host}/repository/{name}"), "attributes": {},
            })
        })
        .collect();
    web::json(StatusCode::OK, &json!(list))
}

fn assets(process: &Process, request: &Request<Incoming>) -> Answer {
    let Some(repository) = web::query(request.uri(), "repository") else {
        return empty(StatusCode::BAD_REQUEST);
    };
    let host = host(request);
    let listed = process.lock().volume.read(|content| {
        content.repositories.get(&repository).map(|format| {
            let prefix = format!("{repository}/");
            content
                .artifacts
                .iter()
                .filter_map(|(key, artifact)| Some((key.strip_prefix(&prefix)?, artifact)))
                .map(|(path, artifact)| asset(&host, &repository, format, path, artifact))
                .collect::<Vec<Value>>()
        })
    });
    match listed {
        Some(items) => web::json(StatusCode::OK, &json!({ "items": items, "continuationToken": null })),
        None => empty(StatusCode::NOT_FOUND),
    }
}

fn asset(host: &str, repository: &str, format: &str, path: &str, artifact: &Artifact) -> Value {
    json!({
        "downloadUrl": format!("http://{host}/repository/{repository}/{path}"),
        "path": path,
        "id": STANDARD.encode(format!("{repository}:{path}")),
        "repository": repository,
        "format": format,
        "checksum": {
            "sha1": artifact.digests.sha1,
            "sha256": artifact.digests.sha256,
            "sha512": artifact.digests.sha512,
        },
        "contentType": artifact.content_type,
        "lastModified": jiff::Timestamp::from_second(artifact.modified).map(|at| at.to_string()).ok(),
        "uploader": "admin",
        "fileSize": artifact.length,
    })
}

async fn create_repository(process: &Process, request: Request<Incoming>) -> Answer {
    let body = web::collect(request.into_body()).await.unwrap_or_default();
    let name = serde_json::from_slice::<Value>(&body).ok().and_then(|value| value["name"].as_str().map(str::to_owned));
    let Some(name) = name else {
        return empty(StatusCode::BAD_REQUEST);
    };
    let state = process.lock();
    if state.frozen {
        let text = "INSERT is not allowed while the application is frozen";
        return typed(StatusCode::BAD_REQUEST, "text/plain", text);
    }
    let new = state.volume.write(|content| content.repositories.insert(name.clone(), "raw".to_owned()).is_none());
    if new {
        empty(StatusCode::CREATED)
    } else {
        let text = format!("Duplicate key: {name}");
        typed(StatusCode::BAD_REQUEST, "text/plain", text)
    }
}

async fn repository(process: &Process, caller: Caller, path: &str, request: Request<Incoming>) -> Answer {
    let changes = matches!(*request.method(), Method::PUT | Method::DELETE);
    if changes && caller != Caller::Admin {
        return unauthorized();
    }
    let (disk, deadlocked, frozen, volume) = {
        let state = process.lock();
        (state.volume.disk(), state.deadlocked, state.frozen, state.volume.clone())
    };
    if deadlocked {
        std::future::pending::<()>().await;
    }
    if process.database_closed(disk) {
        return empty(StatusCode::INTERNAL_SERVER_ERROR);
    }
    match *request.method() {
        Method::GET | Method::HEAD => volume.read(|content| download(content, path)),
        Method::PUT | Method::DELETE if frozen => in_read_only_mode(),
        Method::PUT | Method::DELETE => {
            match disk {
                Disk::Sound => {}
                Disk::Full(_) => return empty(StatusCode::INTERNAL_SERVER_ERROR),
                Disk::ReadOnly(_) => {
                    // The first failed write is logged, and the logger never comes back.
                    process.lock().deadlocked = true;
                    return empty(StatusCode::INTERNAL_SERVER_ERROR);
                }
                Disk::Hung(_) => volume.until_not_hung().await,
            }
            if *request.method() == Method::PUT { upload(process, path, request).await } else { delete(process, path) }
        }
        _ => empty(StatusCode::METHOD_NOT_ALLOWED),
    }
}

fn in_read_only_mode() -> Answer {
    let mut answer = empty(StatusCode::SERVICE_UNAVAILABLE);
    answer.extensions_mut().insert(ReasonPhrase::from_static(READ_ONLY.as_bytes()));
    answer
}

fn not_found() -> Answer {
    let page = "<!DOCTYPE html>\n<html lang=\"en\">\n<head><title>404 - Nexus Repository Manager</title>\
                </head>\n<body>Not Found</body>\n</html>\n";
    typed(StatusCode::NOT_FOUND, "text/html", page)
}

fn download(content: &Content, path: &str) -> Answer {
    let Some(artifact) = content.artifacts.get(path) else {
        return not_found();
    };
    let mut answer = empty(StatusCode::OK);
    *answer.body_mut() = match &artifact.bytes {
        Some(bytes) => full(bytes.clone()),
        // The right length and no body: what a lost blob looks like.
        None => cut_short(),
    };
    let modified = jiff::Timestamp::from_second(artifact.modified)
        .map(|at| at.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string())
        .unwrap_or_default();
    let headers = answer.headers_mut();
    let mut set = |name, value: &str| {
        headers.insert(name, HeaderValue::from_str(value).expect("made of visible characters"));
    };
    set(header::ETAG, &format!("\"{}\"", artifact.digests.sha1));
    set(header::CONTENT_LENGTH, &artifact.length.to_string());
    set(header::LAST_MODIFIED, &modified);
    set(header::CONTENT_TYPE, &artifact.content_type);
    set(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    answer
}

async fn upload(process: &Process, path: &str, request: Request<Incoming>) -> Answer {
    let content_type = request
        .headers()
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or("application/octet-stream")
        .to_owned();
    let Ok(bytes) = web::collect(request.into_body()).await else {
        return empty(StatusCode::BAD_REQUEST);
    };
    if content_type == "application/x-www-form-urlencoded" && bytes.len() > LONGEST_FORM {
        return empty(StatusCode::INTERNAL_SERVER_ERROR);
    }
    let volume = process.lock().volume.clone();
    let repository = path.split('/').next().unwrap_or_default();
    if !volume.read(|content| content.repositories.contains_key(repository)) {
        return not_found();
    }
    let artifact = Artifact { written: Instant::now(), ..Artifact::new(bytes, &content_type) };
    let digest = artifact.digests.sha1.clone();
    volume.write(|content| content.artifacts.insert(path.to_owned(), artifact));
    process.ledger.record(Kind::Artifact, &process.name, path, None, &digest);
    empty(StatusCode::CREATED)
}

fn delete(process: &Process, path: &str) -> Answer {
    let gone = process.lock().volume.write(|content| content.artifacts.remove(path));
    if gone.is_none() {
        return not_found();
    }
    process.ledger.record(Kind::Artifact, &process.name, path, None, "deleted");
    empty(StatusCode::NO_CONTENT)
}
