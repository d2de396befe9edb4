//! Looks at a Kubernetes API server. Domain: `control_plane`.
//!
//! Two questions at the same time, each on a connection of its own: `/readyz?verbose`, and a *quorum read*, the GET of a
//! namespace without a resource version, which has to go through etcd (a cached read and an open watch stay fine for ever
//! while etcd is dead). The look is Up only if both answers are good. An Unknown of one outweighs a Down of the other: what
//! could not be told is no evidence.
//!
//! | outcome | `/readyz?verbose` | quorum read |
//! |---|---|---|
//! | 200 | good, if it ends in `readyz check passed` | good, if it is a Namespace |
//! | 404 as a Status `NotFound`: it was looked for in etcd | Unknown(Unmapped) | good |
//! | 401 | Unknown(Unauthorized) | same |
//! | 403, which is also what a starting server says before RBAC is loaded | Unknown(Forbidden) | same |
//! | 5xx with `[-]etcd…` or `[-]shutdown` in the list | Down(ServerError) | |
//! | 5xx where only start-up hooks and informers are not ready | Unknown(Starting) | |
//! | 5xx as a Status | Unknown(Unmapped) | Down(ServerError) |
//! | 200 and something else | Unknown(Unparsable) | same |
//! | any other answer, among them a load balancer's 5xx | Unknown(Unmapped) | same |
//! | refused; reset, also within the handshake | Down(Refused), Down(Reset) | same |
//! | no answer within the time-out: a frozen server takes the connection and hangs in TLS; a frozen etcd | Down(TimedOut) | same |
//! | certificate not trusted | Unknown(Tls) | same |
//! | the token file can not be read | Unknown(LocalFault) | same |
//! | anything else | as [`crate::fault`] lists | same |

use std::future::Future;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use futures::future::{Either, select};
use http::header::ACCEPT;
use http::{HeaderValue, Method, StatusCode};
use kube::Config;
use kube::client::ConfigExt;
use kube::config::{AuthInfo, KubeConfigOptions, Kubeconfig};
use rustls::ClientConfig;
use secrecy::ExposeSecret;
use serde::Deserialize;
use tokio::time::{self, Instant};
use understudy_config::{Cluster, Which};
use understudy_core::{Reading, Reason};
use url::Url;

use crate::ProbeError;
use crate::http1::{Answer, Call, Keep, Reach, Target};
use crate::probe::{Place, no_answer};
use crate::shared::{Shared, for_looks};
use crate::sight::Sight;

/// Every cluster has it; where the file names no namespace, this one is read.
const ANY_NAMESPACE: &str = "default";

/// A token lies in memory (tmpfs): a read that takes longer is a fault of ours.
const TOKEN_WITHIN: Duration = Duration::from_millis(500);

/// An API server.
pub(crate) struct Kubernetes {
    target: Target,
    ready: Call,
    read: Call,
    access: Arc<Access>,
}

/// How a cluster is reached; the same for all probes of it.
pub(crate) struct Access {
    url: Url,
    tls: Option<Arc<ClientConfig>>,
    /// The name in the certificate, if it is not the address'.
    server_name: Option<String>,
    login: Login,
}

enum Login {
    /// The value of the `Authorization` header.
    Always(String),
    /// Holds a token that changes.
    TokenFile(PathBuf),
    /// By the client certificate, or by nothing.
    Certificate,
}

impl Kubernetes {
    pub(crate) async fn new(which: Which, place: &Place<'_>, shared: &mut Shared) -> Result<Self, ProbeError> {
        let clusters = &place.config.clusters;
        let (name, cluster) = match which {
            Which::Primary => ("clusters.primary", &clusters.primary),
            Which::Standby => ("clusters.standby", &clusters.standby),
        };
        let access = match shared.access.get(name) {
            Some(known) => known.clone(),
            None => {
                let read = Access::to(cluster.as_ref()).await;
                let read = Arc::new(read.map_err(|why| ProbeError::Setting { what: name, why })?);
                shared.access.insert(name, read.clone());
                read
            }
        };
        let namespace = place.pair.and_then(|(pair, _)| pair.namespace.as_deref()).unwrap_or(ANY_NAMESPACE);
        Self::with(&access, namespace, place.connect_within, shared)
    }

    fn with(
        access: &Arc<Access>,
        namespace: &str,
        connect_within: Duration,
        shared: &mut Shared,
    ) -> Result<Self, ProbeError> {
        let reach = Reach { url: &access.url, connect_to: None, ca: None };
        let mut target = Target::with_tls(&reach, access.tls.clone(), connect_within, shared)?;
        if let Some(name) = &access.server_name {
            target = target.named(name)?;
        }
        let ready = target.call_below(Method::GET, "readyz?verbose", Keep::Whole)?;
        let mut read = target.call_below(Method::GET, &format!("api/v1/namespaces/{namespace}"), Keep::Whole)?;
        read.headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        let (ready, read) = match &access.login {
            Login::Always(value) => (ready.authorized(value)?, read.authorized(value)?),
            Login::TokenFile(_) | Login::Certificate => (ready, read),
        };
        Ok(Self { target, ready, read, access: access.clone() })
    }

    /// Never takes longer than `within`.
    pub(crate) async fn look(&self, within: Duration) -> Sight {
        let end = Instant::now() + within;
        let (ready, read) = match self.calls().await {
            Ok(calls) => calls,
            Err(sight) => return sight,
        };
        let ready = async {
            match self.target.send(&ready).await {
                Ok(answer) => judge_ready(&answer),
                Err(fault) => fault.into(),
            }
        };
        let read = async {
            match self.target.send(&read).await {
                Ok(answer) => judge_read(&answer),
                Err(fault) => fault.into(),
            }
        };
        both(ready, read, end, within).await
    }

    /// The two calls with today's token: a service account's changes every hour.
    async fn calls(&self) -> Result<(Call, Call), Sight> {
        let Login::TokenFile(path) = &self.access.login else { return Ok((self.ready.clone(), self.read.clone())) };
        let local = |why: String| Sight::unknown(Reason::LocalFault, format!("token {}: {why}", path.display()));
        let token = match time::timeout(TOKEN_WITHIN, tokio::fs::read_to_string(path)).await {
            Ok(Ok(token)) => token,
            Ok(Err(error)) => return Err(local(error.to_string())),
            Err(_elapsed) => return Err(local(format!("not read within {TOKEN_WITHIN:?}"))),
        };
        let value = format!("Bearer {}", token.trim());
        let with_token = |call: &Call| call.clone().authorized(&value).map_err(|error| local(error.to_string()));
        Ok((with_token(&self.ready)?, with_token(&self.read)?))
    }
}

/// Both answers, or the first Unknown; what has not come at `end` is silence.
async fn both(
    ready: impl Future<Output = Sight>,
    read: impl Future<Output = Sight>,
    end: Instant,
    within: Duration,
) -> Sight {
    let (ready, read) = (pin!(ready), pin!(read));
    let Ok(first) = time::timeout_at(end, select(ready, read)).await else { return no_answer(within) };
    let (first, second) = match first {
        Either::Left((first, rest)) => (first, Either::Left(rest)),
        Either::Right((first, rest)) => (first, Either::Right(rest)),
    };
    if matches!(first.reading, Reading::Unknown(_)) {
        return first;
    }
    match (time::timeout_at(end, second).await, first.reading) {
        (Ok(second), Reading::Up) => second,
        (Ok(second), _) if matches!(second.reading, Reading::Unknown(_)) => second,
        (Err(_elapsed), Reading::Up) => no_answer(within),
        (_, _) => first,
    }
}

pub(crate) fn judge_ready(answer: &Answer) -> Sight {
    let body = String::from_utf8_lossy(&answer.body);
    match answer.status {
        StatusCode::OK if body.contains("readyz check passed") => Sight::up(),
        StatusCode::OK => Sight::unknown(Reason::Unparsable, "/readyz says 200, and not that its checks passed"),
        code if code.is_server_error() && body.contains("readyz check failed") => judge_failed(&body),
        code => refused(code, "/readyz"),
    }
}

/// What a list of checks means of which some failed, such as `[-]etcd failed: reason withheld`.
fn judge_failed(body: &str) -> Sight {
    let name = |line: &'_ str| line.strip_prefix("[-]")?.split_whitespace().next().map(str::to_owned);
    let failed: Vec<String> = body.lines().filter_map(name).collect();
    let words = format!("/readyz: {} failed", failed.join(", "));
    let fatal = |check: &String| check.starts_with("etcd") || check == "shutdown";
    let starting = |check: &String| {
        check.starts_with("poststarthook/") || ["informer-sync", "autoregister-completion"].contains(&check.as_str())
    };
    if failed.iter().any(fatal) {
        Sight::down(Reason::ServerError, words)
    } else if !failed.is_empty() && failed.iter().all(starting) {
        Sight::unknown(Reason::Starting, words)
    } else {
        Sight::unknown(Reason::Unmapped, words)
    }
}

pub(crate) fn judge_read(answer: &Answer) -> Sight {
    #[derive(Deserialize)]
    struct Object {
        kind: String,
        #[serde(default)]
        reason: String,
    }
    let object: Option<Object> = serde_json::from_slice(&answer.body).ok();
    let (kind, reason) = object.as_ref().map_or(("", ""), |o| (o.kind.as_str(), o.reason.as_str()));
    match answer.status {
        StatusCode::OK if kind == "Namespace" => Sight::up(),
        StatusCode::OK => Sight::unknown(Reason::Unparsable, "the quorum read says 200, and brings no Namespace"),
        StatusCode::NOT_FOUND if kind == "Status" && reason == "NotFound" => Sight::up(),
        code if code.is_server_error() && kind == "Status" => {
            Sight::down(Reason::ServerError, format!("quorum read: {} {reason}", code.as_u16()))
        }
        code => refused(code, "the quorum read"),
    }
}

fn refused(code: StatusCode, what: &str) -> Sight {
    match code {
        StatusCode::UNAUTHORIZED => Sight::unknown(Reason::Unauthorized, format!("401 to {what}")),
        StatusCode::FORBIDDEN => Sight::unknown(Reason::Forbidden, format!("403 to {what}")),
        code => Sight::unknown(Reason::Unmapped, format!("{} to {what}", code.as_u16())),
    }
}

impl Access {
    async fn to(cluster: Option<&Cluster>) -> Result<Self, String> {
        // kube builds its TLS configuration with the process' provider.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let config = load(cluster.ok_or("it is not in the file")?).await?;
        supported(&config)?;
        let url: Url = config.cluster_url.to_string().parse().map_err(|error| format!("its address: {error}"))?;
        let tls = match url.scheme() {
            "http" => None,
            _ => Some(Arc::new(for_looks(config.rustls_client_config().map_err(|error| error.to_string())?))),
        };
        Ok(Self { url, tls, server_name: config.tls_server_name, login: login(&config.auth_info) })
    }
}

async fn load(cluster: &Cluster) -> Result<Config, String> {
    match cluster {
        Cluster::InCluster(true) => Config::incluster().map_err(|error| error.to_string()),
        Cluster::InCluster(false) => Err("in_cluster: false names no cluster; write kubeconfig: PATH".into()),
        Cluster::Kubeconfig(path) => {
            let kubeconfig = Kubeconfig::read_from(path).map_err(|error| error.to_string())?;
            let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
            config.map_err(|error| format!("{}: {error}", path.display()))
        }
    }
}

/// What a look does not speak: it must neither run a program nor depend on a third party to log in.
fn supported(config: &Config) -> Result<(), String> {
    let AuthInfo { exec, auth_provider, impersonate, impersonate_uid, impersonate_groups, .. } = &config.auth_info;
    let refuse = |what: &str| Err(format!("{what} can not be used to watch; write a token or a client certificate"));
    if exec.is_some() {
        return refuse("a login by exec");
    }
    if auth_provider.is_some() {
        return refuse("a login by auth-provider");
    }
    if impersonate.is_some() || impersonate_uid.is_some() || impersonate_groups.is_some() {
        return refuse("impersonation");
    }
    if config.proxy_url.is_some() {
        return Err("proxy-url can not be used to watch: a dead proxy is no dead cluster".into());
    }
    Ok(())
}

fn login(auth: &AuthInfo) -> Login {
    if let Some(path) = &auth.token_file {
        return Login::TokenFile(path.into());
    }
    if let Some(token) = &auth.token {
        return Login::Always(format!("Bearer {}", token.expose_secret()));
    }
    let (Some(user), Some(password)) = (&auth.username, &auth.password) else { return Login::Certificate };
    Login::Always(format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{}", password.expose_secret()))))
}

#[cfg(test)]
mod tests;
