//! A client of one API server that is bounded in everything.
//!
//! In: how the cluster is reached, and how patient we are. Out: a [`kube::Client`] that never retries by itself (a
//! repeated write is a decision), never waits without an end and never takes in an answer without an end. Start reading
//! at [`client`].

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::Response;
use http_body_util::Limited;
use kube::client::ClientBuilder;
use kube::config::{AuthInfo, KubeConfigOptions, Kubeconfig, KubeconfigError};
use tower::util::MapResponseLayer;
use understudy_config::Cluster;

/// A kubeconfig is not larger: an admin's file with its certificates has about 6 KiB.
const LONGEST_KUBECONFIG: u64 = 1024 * 1024;

/// No answer is taken in beyond this. The longest that we ask for is a page of 500 objects, each of at most 1.5 MiB by
/// etcd's own limit and of a few KiB in practice.
const LONGEST_ANSWER: usize = 32 * 1024 * 1024;

/// How long an API server may keep us waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// For a connection, TLS included: a frozen server takes the connection and is silent in TLS.
    pub connect: Duration,
    /// For the next bytes of an answer. Longer than our watches, which last 4 s.
    pub read: Duration,
    /// For our bytes to be taken.
    pub write: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { connect: Duration::from_secs(3), read: Duration::from_secs(8), write: Duration::from_secs(5) }
    }
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum KubeClientError {
    /// The file is missing or unreadable: create it, or give the daemon's user the right to read it.
    #[error("failed to read kubeconfig {path}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It holds a key, and everybody may read it.
    #[error("kubeconfig {path} is world-accessible (mode {mode:o}): run chmod o-rwx {path}")]
    WorldReadable {
        /// Which file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// It is far larger than any kubeconfig.
    #[error("kubeconfig {0} is longer than {LONGEST_KUBECONFIG} bytes: is it the right file?")]
    TooLong(PathBuf),
    /// It is none, or something in it is wrong.
    #[error("kubeconfig {path} is not usable: try `kubectl --kubeconfig {path} get --raw /version`")]
    Unusable {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A plug-in has no time limit, and may need a place that a disaster took away.
    #[error("kubeconfig {path} logs in by {how}, which may hang: put a token or a client certificate into it")]
    Plugin {
        /// Which file.
        path: PathBuf,
        /// By what.
        how: String,
    },
    /// We do not run in a pod, or it has no service account.
    #[error("no service account of a pod found: run in a cluster, or name a kubeconfig")]
    NotInCluster(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// `in_cluster: false` says nothing.
    #[error("in_cluster is false: leave the cluster out, or name a kubeconfig")]
    Nowhere,
    /// The client can not be made.
    #[error("failed to make a client for {url}")]
    Build {
        /// Of which server.
        url: String,
        /// Why.
        source: Box<kube::Error>,
    },
}

/// A client of `cluster`. Nothing is sent yet.
///
/// # Errors
/// [`KubeClientError`], which names the file and the remedy.
pub async fn client(cluster: &Cluster, patience: Patience) -> Result<kube::Client, KubeClientError> {
    let mut config = match cluster {
        Cluster::Kubeconfig(path) => from_file(path).await?,
        Cluster::InCluster(true) => {
            kube::Config::incluster().map_err(|e| KubeClientError::NotInCluster(Box::new(e)))?
        }
        Cluster::InCluster(false) => return Err(KubeClientError::Nowhere),
    };
    // kube repeats writes by itself, 15 times, for minutes: whether a write is repeated is for the core.
    config.default_retry = false;
    config.connect_timeout = Some(patience.connect);
    config.read_timeout = Some(patience.read);
    config.write_timeout = Some(patience.write);
    // Otherwise the time for which a pooled connection lay idle counts as silence.
    config.reset_reader_on_write = true;
    let url = config.cluster_url.to_string();
    let builder =
        ClientBuilder::try_from(config).map_err(|source| KubeClientError::Build { url, source: Box::new(source) })?;
    let bounded = MapResponseLayer::new(|answer: Response<_>| answer.map(|body| Limited::new(body, LONGEST_ANSWER)));
    Ok(builder.with_layer(&bounded).build())
}

async fn from_file(path: &Path) -> Result<kube::Config, KubeClientError> {
    let unusable = |source: KubeconfigError| KubeClientError::Unusable { path: path.into(), source: Box::new(source) };
    check_file(path)?;
    let kubeconfig = Kubeconfig::read_from(path).map_err(unusable)?;
    for user in &kubeconfig.auth_infos {
        if let Some(how) = user.auth_info.as_ref().and_then(plugin) {
            return Err(KubeClientError::Plugin { path: path.into(), how });
        }
    }
    let options = KubeConfigOptions::default();
    kube::Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(unusable)
}

fn check_file(path: &Path) -> Result<(), KubeClientError> {
    let fail = |source| KubeClientError::Read { path: path.into(), source };
    let file = std::fs::File::open(path).map_err(fail)?;
    let mode = file.metadata().map_err(fail)?.permissions().mode() & 0o777;
    if mode & 0o007 != 0 {
        return Err(KubeClientError::WorldReadable { path: path.into(), mode });
    }
    let length = std::io::copy(&mut file.take(LONGEST_KUBECONFIG + 1), &mut std::io::sink()).map_err(fail)?;
    if length > LONGEST_KUBECONFIG {
        return Err(KubeClientError::TooLong(path.into()));
    }
    Ok(())
}

fn plugin(user: &AuthInfo) -> Option<String> {
    if let Some(exec) = &user.exec {
        return Some(format!("the program {}", exec.command.as_deref().unwrap_or("(unnamed)")));
    }
    user.auth_provider.as_ref().map(|provider| format!("the provider {}", provider.name))
}

#[cfg(test)]
mod tests;
