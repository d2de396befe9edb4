//! Speaks HTTP with the daemon over its Unix socket.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::Request;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::{Exit, Failure};
use crate::api::Ordered;

/// Longer than the daemon's own limits.
const PATIENCE: Duration = Duration::from_secs(25);
/// The status of thousands of pairs.
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;

/// What went wrong between us and the daemon.
#[derive(Debug, thiserror::Error)]
enum ClientError {
    #[error("no daemon answers on {}: there is no such socket; is it running (systemctl status understudy), and is --config its file?", .0.display())]
    NotThere(PathBuf),
    #[error("no daemon answers on {}: the socket is left of one that has ended; see its log for why", .0.display())]
    Gone(PathBuf),
    #[error("you may not talk to the daemon on {}: become its user, or a member of its group", .0.display())]
    NotAllowed(PathBuf),
    #[error("failed to reach the daemon on {}", path.display())]
    Connect { path: PathBuf, source: io::Error },
    #[error("the daemon on {} did not answer within {} s", .0.display(), PATIENCE.as_secs())]
    Silent(PathBuf),
    #[error("the daemon's answer broke off")]
    Broken(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the daemon's answer can not be understood; is it of another version?")]
    Foreign(#[source] serde_json::Error),
}

#[derive(Deserialize)]
struct Said {
    error: String,
}

#[derive(Deserialize)]
struct Answered {
    answer: String,
}

/// Gets `path`.
pub async fn get<T: DeserializeOwned>(socket: &Path, path: &str) -> Result<T, Failure> {
    ask(socket, "GET", path, Vec::new()).await
}

/// Gives an order; what became of it.
pub async fn order(socket: &Path, order: &Ordered) -> Result<String, Failure> {
    let body = serde_json::to_vec(order).map_err(|error| Failure::new(Exit::Failed, error))?;
    let Answered { answer } = ask(socket, "POST", "/v1/orders", body).await?;
    Ok(answer)
}

async fn ask<T: DeserializeOwned>(
    socket: &Path,
    method: &'static str,
    path: &str,
    body: Vec<u8>,
) -> Result<T, Failure> {
    let talk = timeout(PATIENCE, send(socket, method, path, body)).await;
    let silent = |_| unreachable(ClientError::Silent(socket.to_owned()));
    let (status, body) = talk.map_err(silent)?.map_err(unreachable)?;
    if (200..300).contains(&status) {
        return serde_json::from_slice(&body).map_err(|e| Failure::new(Exit::Failed, ClientError::Foreign(e)));
    }
    let said = match serde_json::from_slice::<Said>(&body) {
        Ok(Said { error }) => error,
        Err(_) => format!("the daemon answers {status}"),
    };
    let exit = match status {
        401 | 403 | 409 => Exit::Refused,
        400 | 404 | 405 => Exit::Usage,
        503 => Exit::Unreachable,
        _ => Exit::Failed,
    };
    Err(Failure::new(exit, anyhow::anyhow!(said)))
}

fn unreachable(error: ClientError) -> Failure {
    Failure::new(Exit::Unreachable, error)
}

async fn send(socket: &Path, method: &str, path: &str, body: Vec<u8>) -> Result<(u16, Bytes), ClientError> {
    let stream = UnixStream::connect(socket).await.map_err(|source| not_connected(socket, source))?;
    let broken = |error: hyper::Error| ClientError::Broken(error.into());
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let connection = tokio::spawn(connection);
    let request = Request::builder().method(method).uri(path).header("host", "understudy");
    let request = request.body(Full::new(Bytes::from(body))).map_err(|e| ClientError::Broken(e.into()))?;
    let answer = sender.send_request(request).await.map_err(broken)?;
    let status = answer.status().as_u16();
    let body = Limited::new(answer.into_body(), MAX_ANSWER_BYTES).collect().await.map_err(ClientError::Broken)?;
    connection.abort();
    Ok((status, body.to_bytes()))
}

fn not_connected(socket: &Path, source: io::Error) -> ClientError {
    let path = socket.to_owned();
    match source.kind() {
        io::ErrorKind::NotFound => ClientError::NotThere(path),
        io::ErrorKind::ConnectionRefused => ClientError::Gone(path),
        io::ErrorKind::PermissionDenied => ClientError::NotAllowed(path),
        _ => ClientError::Connect { path, source },
    }
}
