//! The HTTP API: on a Unix socket in the state directory for this machine, on TCP for others.
//!
//! In: requests, the event loop's [`Handle`], the journal's files. Out: JSON. Nothing here changes anything but by an
//! order that the core judges.
//!
//! | path | Unix socket | TCP with TLS | plain TCP | says |
//! |---|---|---|---|---|
//! | `GET /live`, `GET /ready` | everybody | everybody | everybody | 204 or 503, no content |
//! | `GET /metrics` | everybody | if `listen.metrics` | if `listen.metrics` | OpenMetrics text |
//! | `GET /v1/witness/PAIR?nonce=N` | if `witness` | if `witness` | if `witness` | what this place sees, signed |
//! | `GET /v1/status` | everybody | viewer | - | [`Status`] |
//! | `GET /v1/pairs/PAIR/why` | everybody | viewer | - | [`PairView`](understudy_core::PairView) |
//! | `GET /v1/runs?pair=P` | everybody | viewer | - | [`history`](crate::history) |
//! | `GET /v1/runs/RUN/report` | everybody | viewer | - | [`Report`](crate::report::Report) |
//! | `GET /v1/journal?after=N&limit=N` | everybody | viewer | - | journal entries |
//! | `POST /v1/orders` | everybody | approver or operator | - | [`Ordered`] in, `{"answer"}` out |
//!
//! "Everybody" on the Unix socket are those whom the permissions of the state directory let in. An error is
//! `{"error": TEXT}`; 401 no or wrong token, 403 token of a lesser role, 404 no such thing, 409 refused by the core,
//! 413 too large, 503 the daemon hangs or stops. Start reading at [`Api::bind`].

pub(crate) mod auth;
mod listen;
mod routes;
#[cfg(test)]
mod tests;
mod tls;
mod witness;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use understudy_config::{Config, SecretError};
use understudy_core::{Order, PairName, Step, View};

use crate::handle::Handle;
use crate::metrics::Metrics;

use listen::Door;
pub use listen::SOCKET;
use tls::Certificates;

/// How long requests that are under way may take when the daemon stops.
const DRAIN: Duration = Duration::from_secs(3);

/// What `GET /v1/status` answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The name of this place.
    pub site: String,
    /// The daemon's version.
    pub version: String,
    /// The state.
    pub view: View,
    /// How far running steps are, in their own words, by pair and step.
    pub progress: BTreeMap<PairName, BTreeMap<Step, String>>,
}

/// What `POST /v1/orders` takes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ordered {
    /// The pair.
    pub pair: PairName,
    /// What is ordered.
    pub order: Order,
}

impl Ordered {
    /// Reads the body of a request.
    ///
    /// # Errors
    /// What is wrong with it, in at most 200 characters: an error about a text repeats it whole.
    pub fn read(body: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(body).map_err(|error| error.to_string().chars().take(200).collect())
    }
}

/// How far the running steps of every pair are; the place in the list is the pair's in the configuration.
pub type Progress = Arc<dyn Fn(understudy_core::PairId) -> BTreeMap<Step, String> + Send + Sync>;

/// What the API needs of the daemon.
pub struct Means {
    /// The way to the event loop.
    pub handle: Handle,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// How far running steps are.
    pub progress: Progress,
}

/// Why the API can not be served. The daemon does not start without it: nobody could answer its questions.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// Choose a state directory with a shorter path.
    #[error("the path of socket {} is too long for a Unix socket ({} bytes, at most {}): choose a state directory with a shorter path", path.display(), path.as_os_str().len(), listen::MAX_PATH)]
    PathTooLong {
        /// Which path.
        path: PathBuf,
    },
    /// Another program has the address, or it is not one of this machine.
    #[error("failed to listen on {address}{}", listen::advice(source))]
    Bind {
        /// Where.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// Correct the file, or its rights.
    #[error("failed to read {} of listen.tls: {why}", path.display())]
    Tls {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Correct the secret.
    #[error("listen: {0}")]
    Secret(#[from] SecretError),
}

/// The API with its sockets open.
pub struct Api {
    local: Door,
    remote: Option<Door>,
    settings: routes::Settings,
}

impl Api {
    /// Opens the sockets that `config` asks for. The journal's lock must be held: a socket that lies in the state
    /// directory is then of a daemon that is gone.
    ///
    /// # Errors
    /// [`ApiError`], which names the address, the file or the secret.
    pub async fn bind(config: &Config) -> Result<Self, ApiError> {
        let local = Door::local(&config.state.file)?;
        let Some(listen) = &config.listen else {
            return Ok(Self { local, remote: None, settings: routes::Settings::of(config) });
        };
        for token in &listen.tokens {
            token.token.read()?;
        }
        if let Some(witness) = &listen.witness {
            witness.secret.read()?;
        }
        let certificates = listen.tls.as_ref().map(Certificates::load).transpose()?;
        let remote = Door::remote(listen.address, certificates).await?;
        Ok(Self { local, remote: Some(remote), settings: routes::Settings::of(config) })
    }

    /// Where TCP is listened on; the port that the system chose if the settings say 0.
    #[must_use]
    pub fn address(&self) -> Option<std::net::SocketAddr> {
        self.remote.as_ref().and_then(Door::address)
    }

    /// Serves until `stop`; requests that are under way then may end within a limit.
    pub async fn serve(self, means: Means, stop: CancellationToken) {
        let Self { local, remote, settings } = self;
        let tasks = TaskTracker::new();
        let state = routes::State::new(means, settings);
        tasks.spawn(local.serve(state.clone(), tasks.clone(), stop.clone()));
        if let Some(remote) = remote {
            tasks.spawn(remote.serve(state, tasks.clone(), stop.clone()));
        }
        stop.cancelled().await;
        tasks.close();
        if tokio::time::timeout(DRAIN, tasks.wait()).await.is_err() {
            tracing::warn!("requests were still under way when the daemon stopped");
        }
    }
}
