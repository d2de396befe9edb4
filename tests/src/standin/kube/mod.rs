//! A small Kubernetes API server over TLS, good enough for a real client.
//!
//! In: REST requests with a bearer token. Out: objects, lists, watches, server-side apply, optimistic
//! locks, dry runs and refusals as an API server of 1.32 to 1.36 was measured to give them; a binder of
//! volumes that sleeps as the real one does ([`binder`]); an operator that runs a Nexus ([`operator`]).
//! It can be killed, frozen, and lose its etcd. Start at [`Kube`].

pub mod access;
mod api;
pub mod binder;
pub mod change;
mod fields;
pub mod operator;
mod patch;
pub mod resource;
mod select;
pub mod status;
pub mod store;
#[cfg(test)]
mod tests;
mod tls;
mod watching;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

use self::access::{Identity, Rule, Tokens};
use self::change::{Manner, PatchKind};
use self::resource::{Registry, Resource, Target};
use self::status::Refusal;
use self::store::Store;
use self::tls::{Authority, TlsError};
use super::effects::Ledger;
use super::port::{Handler, Port};
use super::web;

/// How long things take. The defaults are shortened; the measured times are in the comments.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// From the first accepted connection to ready; 403, then 500, then 200. Measured 1.2 s.
    pub boot: Duration,
    /// How long `/readyz` takes to say 500 without etcd; measured 4 s.
    pub readyz: Duration,
    /// How long `/livez` takes to say 500 without etcd; measured 2 s.
    pub livez: Duration,
    /// When a quorum read (500) or a write (504) without etcd gives up; measured 34 s.
    pub etcd: Duration,
    /// Between two bookmarks of a watch; about 60 s.
    pub bookmark: Duration,
    /// `--pvclaimbinder-sync-period`: when the binder looks at what it missed; 15 s.
    pub binder: Duration,
    /// How often the operator and the kubelet look around.
    pub operator: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        let ms = Duration::from_millis;
        Self {
            boot: Duration::ZERO,
            readyz: ms(400),
            livez: ms(200),
            etcd: ms(3400),
            bookmark: ms(1000),
            binder: ms(15_000),
            operator: ms(10),
        }
    }
}

/// Why a control plane could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("failed to make certificates")]
    Tls(#[from] TlsError),
    #[error("failed to listen")]
    Listen(#[from] io::Error),
}

/// One control plane.
pub struct Kube {
    port: Port,
    server: Arc<Server>,
    authority: Authority,
    admin_token: String,
    _running: DropGuard,
}

/// What requests, watches and controllers share.
pub(super) struct Server {
    name: String,
    timing: Timing,
    ledger: Ledger,
    store: Mutex<Store>,
    registry: Mutex<Registry>,
    tokens: Mutex<Tokens>,
    /// etcd does not answer.
    etcd_frozen: watch::Sender<bool>,
    /// The process is there and not stopped; controllers stop with it.
    running: watch::Sender<bool>,
    booted: Mutex<Instant>,
}

impl Server {
    /// The store, for a moment.
    pub(super) fn lock(&self) -> MutexGuard<'_, Store> {
        self.store.lock().expect("no panic while held")
    }

    fn resource(&self, kind: &str) -> Option<Resource> {
        self.registry.lock().expect("no panic while held").of_kind(kind).cloned()
    }

    fn target(&self, kind: &str, namespace: &str, name: &str) -> Option<Target> {
        let resource = self.resource(kind)?;
        let namespace = if resource.namespaced { namespace } else { "" };
        Some(Target { resource, namespace: namespace.to_owned(), name: Some(name.to_owned()), subresource: None })
    }

    /// Waits while controllers may not work: the process is away, or etcd is.
    async fn until_working(&self) {
        // The senders live in self.
        let _ = self.running.subscribe().wait_for(|running| *running).await;
        let _ = self.etcd_frozen.subscribe().wait_for(|frozen| !*frozen).await;
    }
}

impl Kube {
    /// A control plane on `ip` with the namespaces `default` and `kube-system`.
    pub async fn start(name: &str, ip: IpAddr, timing: Timing, ledger: Ledger) -> Result<Self, StartError> {
        let authority = Authority::new(name, &ip.to_string())?;
        let admin_token = Uuid::new_v4().simple().to_string();
        let server = Arc::new(Server {
            name: name.to_owned(),
            timing,
            ledger,
            store: Mutex::default(),
            registry: Mutex::default(),
            tokens: Mutex::new([(admin_token.clone(), Identity::admin())].into()),
            etcd_frozen: watch::channel(false).0,
            running: watch::channel(true).0,
            booted: Mutex::new(Instant::now()),
        });
        let port = Port::open(ip, handler(&authority, server.clone())).await?;
        let stop = CancellationToken::new();
        tokio::spawn(stop.clone().run_until_cancelled_owned(binder::run(server.clone())));
        let kube = Self { port, server, authority, admin_token, _running: stop.drop_guard() };
        for namespace in ["default", "kube-system"] {
            kube.put(&json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": namespace } }))
                .map_err(|refusal| io::Error::other(refusal.message))?;
        }
        Ok(kube)
    }

    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// Serves one more type of object, as its CRD would.
    pub fn serve(&self, resource: Resource) {
        self.server.registry.lock().expect("no panic while held").add(resource);
    }

    /// Serves what the operator of Nexus and csi-addons define.
    pub fn serve_known_custom_resources(&self) {
        self.serve(Resource::custom("operator.alaudadevops.io", "v1alpha1", "nexuses", "Nexus"));
        let group = "replication.storage.openshift.io";
        self.serve(Resource::custom(group, "v1alpha1", "volumereplications", "VolumeReplication"));
        let class = Resource::custom(group, "v1alpha1", "volumereplicationclasses", "VolumeReplicationClass");
        self.serve(Resource { namespaced: false, ..class });
    }

    /// A kubeconfig of an administrator.
    pub fn kubeconfig(&self) -> String {
        self.kubeconfig_of(&self.admin_token)
    }

    /// A kubeconfig with another token, known or not.
    pub fn kubeconfig_of(&self, token: &str) -> String {
        self.authority.kubeconfig(&self.server.name, self.address(), token)
    }

    /// Adds an identity that may do what `rules` say; returns its token.
    pub fn add_user(&self, user: &str, rules: Vec<Rule>) -> String {
        let token = Uuid::new_v4().simple().to_string();
        let identity = Identity { user: user.to_owned(), rules };
        self.server.tokens.lock().expect("no panic while held").insert(token.clone(), identity);
        token
    }

    /// As SIGKILL to the API server and its controllers; what is stored stays.
    pub async fn kill(&self) {
        self.server.running.send_replace(false);
        self.port.kill().await;
    }

    /// As SIGSTOP: TCP connects, TLS hangs, open watches are silent.
    pub fn freeze(&self) {
        self.server.running.send_replace(false);
        self.port.freeze();
    }

    /// As SIGCONT.
    pub fn thaw(&self) {
        self.port.thaw();
        self.server.running.send_replace(true);
    }

    /// A new process after a kill.
    pub async fn restart(&self) -> io::Result<()> {
        *self.server.booted.lock().expect("no panic while held") = Instant::now();
        self.port.restart().await?;
        self.server.running.send_replace(true);
        Ok(())
    }

    /// Stops or continues etcd alone: cached reads go on, nothing else does.
    pub fn freeze_etcd(&self, frozen: bool) {
        self.server.etcd_frozen.send_replace(frozen);
    }

    /// Lets every watch that is behind end with 410.
    pub fn compact(&self) {
        self.server.lock().compact();
    }

    /// Applies an object as the cluster's own administrator did before the story begins.
    pub fn put(&self, object: &Value) -> Result<Value, Refusal> {
        let word = |place: &str| object.pointer(place).and_then(Value::as_str).unwrap_or_default();
        let (kind, namespace, name) = (word("/kind"), word("/metadata/namespace"), word("/metadata/name"));
        let target = self
            .server
            .target(kind, namespace, name)
            .ok_or_else(|| Refusal::bad_request(format!("no type of kind {kind}")))?;
        let manner = Manner { force: true, ..Manner::of("setup") };
        let outcome = change::patch(&mut self.server.lock(), &target, PatchKind::Apply, object, &manner)?;
        Ok(outcome.object)
    }

    /// Looks at an object as nobody in that world can: without asking the API server.
    pub fn object(&self, kind: &str, namespace: &str, name: &str) -> Option<Value> {
        let target = self.server.target(kind, namespace, name)?;
        let key = store::Key::new(&target.resource, &target.namespace, name);
        self.server.lock().get(&key).cloned()
    }

    /// Waits until an object satisfies `wanted`.
    pub async fn until(&self, kind: &str, namespace: &str, name: &str, wanted: impl Fn(Option<&Value>) -> bool) {
        let mut changes = self.server.lock().changes();
        while !wanted(self.object(kind, namespace, name).as_ref()) {
            // The store lives as long as self.
            let _ = changes.changed().await;
        }
    }
}

/// TLS on each connection, then HTTP. A frozen port hangs in the handshake.
fn handler(authority: &Authority, server: Arc<Server>) -> Handler {
    let acceptor = authority.acceptor.clone();
    let service = web::service(move |request| api::answer(server.clone(), request));
    Arc::new(move |wire| {
        let (acceptor, service) = (acceptor.clone(), service.clone());
        Box::pin(async move {
            // A handshake that fails is the client's to report.
            if let Ok(stream) = acceptor.accept(wire).await {
                web::serve(stream, service).await;
            }
        })
    })
}
