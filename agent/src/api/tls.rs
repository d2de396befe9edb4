//! The server's certificate, read again when its file changes: it is renewed far more often than the daemon restarts.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;
use understudy_config::Tls;

use super::ApiError;

/// Certificate and key as last read.
#[derive(Debug)]
pub struct Certificates {
    paths: Tls,
    loaded: Mutex<Loaded>,
}

#[derive(Debug)]
struct Loaded {
    changed: Option<(SystemTime, SystemTime)>,
    config: Arc<ServerConfig>,
}

impl Certificates {
    /// Reads certificate and key.
    pub fn load(paths: &Tls) -> Result<Self, ApiError> {
        let changed = changed(paths);
        let config = read(paths)?;
        Ok(Self { paths: paths.clone(), loaded: Mutex::new(Loaded { changed, config }) })
    }

    /// What a new connection is accepted with. New files that can not be used are told, and the old ones stay.
    pub fn acceptor(&self) -> TlsAcceptor {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let now = changed(&self.paths);
        if now != loaded.changed {
            loaded.changed = now;
            match read(&self.paths) {
                Ok(config) => loaded.config = config,
                Err(error) => tracing::error!("the new certificate is not used, the old one stays: {error}"),
            }
        }
        TlsAcceptor::from(loaded.config.clone())
    }
}

fn changed(paths: &Tls) -> Option<(SystemTime, SystemTime)> {
    let time = |path: &Path| std::fs::metadata(path).and_then(|data| data.modified()).ok();
    time(&paths.certificate).zip(time(&paths.key))
}

fn read(paths: &Tls) -> Result<Arc<ServerConfig>, ApiError> {
    let certificate = &paths.certificate;
    let chain: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(certificate).map_err(|e| wrong(certificate, e))?.collect();
    let chain = chain.map_err(|e| wrong(certificate, e))?;
    if chain.is_empty() {
        return Err(wrong(certificate, "there is no certificate in it"));
    }
    let key = PrivateKeyDer::from_pem_file(&paths.key).map_err(|e| wrong(&paths.key, e))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = versions.map_err(|e| wrong(certificate, e))?;
    let config = builder.with_no_client_auth().with_single_cert(chain, key).map_err(|e| wrong(certificate, e))?;
    Ok(Arc::new(config))
}

fn wrong(path: &Path, why: impl Display) -> ApiError {
    ApiError::Tls { path: PathBuf::from(path), why: why.to_string() }
}
