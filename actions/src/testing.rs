//! What the tests of the outward steps share: servers on loopback, a gate that always opens, settings from YAML.

pub mod dns;
pub mod kube;
pub mod nexus;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use understudy_config::Pair;
use understudy_core::{LossBound, Step, StepOrder};

use crate::{Context, Gatekeeper, Later, Permit, StepError, support};

/// Serves `router` on an ephemeral port until the test ends.
pub async fn serve(router: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

/// An address on which nobody listens.
pub async fn nobody() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap()
}

/// Takes each request whole and answers with these very bytes; then the connection ends.
pub async fn scripted(answer: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                take_request(&mut stream).await;
                let _ = stream.write_all(answer).await;
            });
        }
    });
    address
}

/// Takes connections and never says a word.
pub async fn silent() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            held.push(stream);
        }
    });
    address
}

/// Reads head and body, so that closing does not reset the connection under an answer.
async fn take_request(stream: &mut TcpStream) {
    let mut taken = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let read = stream.read(&mut piece).await.unwrap_or(0);
        taken.extend_from_slice(&piece[..read]);
        let text = String::from_utf8_lossy(&taken).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            if read == 0 {
                return;
            }
            continue;
        };
        let length =
            head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
        if read == 0 || body.len() >= length.unwrap_or(0) {
            return;
        }
    }
}

/// Settings as they stand in a file.
pub fn yaml<T: DeserializeOwned>(text: &str) -> T {
    serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// A gate that opens always, and remembers what it was told.
#[derive(Debug, Default)]
pub struct Gate {
    /// What was noted, in order.
    pub notes: Mutex<Vec<(String, String)>>,
    /// How many permits were given.
    pub permits: Mutex<u32>,
    /// What was shown.
    pub shown: Mutex<Vec<String>>,
}

impl Gatekeeper for Gate {
    fn permit(&self) -> Later<'_, Result<Permit, StepError>> {
        *self.permits.lock().unwrap() += 1;
        Box::pin(async { Ok(permit()) })
    }

    fn note<'a>(&'a self, key: &'a str, value: String) -> Later<'a, Result<(), StepError>> {
        self.notes.lock().unwrap().push((key.to_owned(), value));
        Box::pin(async { Ok(()) })
    }

    fn progress(&self, text: String) {
        self.shown.lock().unwrap().push(text);
    }
}

impl Gate {
    pub fn permits(&self) -> u32 {
        *self.permits.lock().unwrap()
    }

    pub fn notes(&self) -> Vec<(String, String)> {
        self.notes.lock().unwrap().clone()
    }
}

/// Leave to write for a long time.
pub fn permit() -> Permit {
    Permit::until(Instant::now() + Duration::from_secs(60))
}

/// The context of `step` of a pair whose settings are `pair`, with `gate`.
pub fn context(pair: Pair, step: Step, gate: &Arc<Gate>) -> Context {
    let bound = Some(LossBound::AtMost(65_000));
    let order = StepOrder { epoch: 7, bound, ..support::order("nexus-7-failover", step) };
    support::context(order, pair, gate.clone())
}

/// A pair that is complete enough, with `more` settings of its own.
pub fn pair(more: &str) -> Pair {
    let verify = if more.contains("verify:") { "" } else { "verify: {}," };
    let route = if more.contains("route: [") { "" } else { "route: []," };
    yaml(&format!(
        "{{ name: nexus, probes: [], site_down_when: {{ at_least: 1, of: [service] }}, rpo_max: 15m, \
           storage: {{ hooks: {{ status: {{ command: {{ command: [echo, primary] }} }}, \
             promote: {{ command: {{ command: ['true'] }} }} }} }}, {route} {verify} {more} }}"
    ))
}

/// A file with mode 600, as every temporary file has it.
pub fn secret_file(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}
