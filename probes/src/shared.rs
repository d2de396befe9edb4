//! What probes share: trusted roots, ways to a cluster, each read once, and the resolver of names.
//!
//! A thousand probes that trust the system's roots hold one copy of them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt;
use tokio::time;
use understudy_core::{Reading, Reason};

use crate::ProbeError;
use crate::fault::{Fault, Stage};
use crate::kubernetes::Access;

/// What probes share while they are made. Use one for all.
#[derive(Default)]
pub struct Shared {
    system_roots: Option<Arc<ClientConfig>>,
    files: BTreeMap<PathBuf, Arc<ClientConfig>>,
    names: Option<Names>,
    pub(crate) access: BTreeMap<&'static str, Arc<Access>>,
}

impl Shared {
    /// Nothing read yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How to speak TLS with a server whose certificate is signed by a root in `ca`, or by one of the system's.
    pub(crate) fn trust(&mut self, ca: Option<&Path>) -> Result<Arc<ClientConfig>, ProbeError> {
        let Some(path) = ca else {
            if let Some(known) = &self.system_roots {
                return Ok(known.clone());
            }
            let read = system_roots()?;
            return Ok(self.system_roots.insert(read).clone());
        };
        if let Some(known) = self.files.get(path) {
            return Ok(known.clone());
        }
        let read = roots_of(path)?;
        self.files.insert(path.to_owned(), read.clone());
        Ok(read)
    }

    /// Who resolves names.
    pub(crate) fn names(&mut self) -> Result<Names, ProbeError> {
        if let Some(known) = &self.names {
            return Ok(known.clone());
        }
        Ok(self.names.insert(Names::of_the_system()?).clone())
    }
}

/// The one provider of cryptography.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn system_roots() -> Result<Arc<ClientConfig>, ProbeError> {
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .and_then(BuilderVerifierExt::with_platform_verifier)
        .map_err(ProbeError::SystemRoots)?
        .with_no_client_auth();
    Ok(Arc::new(for_looks(config)))
}

fn roots_of(path: &Path) -> Result<Arc<ClientConfig>, ProbeError> {
    let unusable = |why: String| ProbeError::Roots { path: path.to_owned(), why };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| unusable(error.to_string()))? {
        let certificate = certificate.map_err(|error| unusable(error.to_string()))?;
        roots.add(certificate).map_err(|error| unusable(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(unusable("it holds no certificate".into()));
    }
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(ProbeError::SystemRoots)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(for_looks(config)))
}

/// Each look makes the whole handshake, so that it tests what a new user would meet; and speaks HTTP/1.1.
pub(crate) fn for_looks(mut config: ClientConfig) -> ClientConfig {
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config
}

/// Resolves names by the system's configuration. Asynchronous, so that a dead name server delays nobody else.
#[derive(Clone)]
pub(crate) struct Names(Arc<TokioResolver>);

impl Names {
    fn of_the_system() -> Result<Self, ProbeError> {
        let resolver = TokioResolver::builder_tokio().and_then(|builder| builder.build());
        resolver.map(|resolver| Self(Arc::new(resolver))).map_err(|error| ProbeError::Resolver(error.to_string()))
    }

    /// The addresses of `name`. Not finding any, or not in time, says nothing about the target.
    pub(crate) async fn addresses(&self, name: &str, within: Duration) -> Result<Vec<IpAddr>, Fault> {
        let local = |why: String| Fault::new(Stage::Resolve, Reading::Unknown(Reason::LocalDns), why);
        match time::timeout(within, self.0.lookup_ip(name)).await {
            Ok(Ok(found)) => Ok(found.iter().collect()),
            Ok(Err(error)) => Err(local(format!("{name}: {error}"))),
            Err(_elapsed) => Err(local(format!("{name}: no answer from the resolver within {within:?}"))),
        }
    }
}
