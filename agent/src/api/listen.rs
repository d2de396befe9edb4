//! The sockets, and each connection on them: bounded in number, in time and in size.
//!
//! A connection carries one request and is closed. So the one limit on its time bounds a slow handshake, a slow head,
//! a slow body and a slow reader alike.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::ApiError;
use super::auth::Peer;
use super::routes::{self, State};
use super::tls::Certificates;

/// Name of the socket in the state directory.
pub const SOCKET: &str = "understudy.sock";
/// `sun_path` of Linux, less the zero at its end.
pub const MAX_PATH: usize = 107;
/// The state directory decides who gets near; of those the owner and the group may talk.
const SOCKET_MODE: u32 = 0o660;
/// Connections at once on one socket. Those beyond wait in the system's queue, and the other socket is not affected.
const CONNECTIONS: usize = 64;
/// A handshake takes two round trips.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// From the handshake to the last byte of the answer; longer than the loop's own limit.
const CONNECTION: Duration = Duration::from_secs(20);
/// Out of file descriptors: wait until a connection has ended.
const NO_DESCRIPTOR: Duration = Duration::from_millis(100);
/// A request line and headers of ours are far shorter.
const MAX_HEAD_BYTES: usize = 16 * 1024;

/// A socket that is listened on.
pub struct Door {
    way: Way,
    places: Arc<Semaphore>,
}

enum Way {
    Unix(UnixListener),
    Plain(TcpListener),
    Tls(TcpListener, Arc<Certificates>),
}

enum Guest {
    Unix(UnixStream),
    Plain(TcpStream),
    Tls(TcpStream, SocketAddr, Arc<Certificates>),
}

impl Door {
    /// The socket in the state directory.
    pub fn local(directory: &Path) -> Result<Self, ApiError> {
        let path = directory.join(SOCKET);
        if path.as_os_str().len() > MAX_PATH {
            return Err(ApiError::PathTooLong { path });
        }
        let failed = |source| ApiError::Bind { address: path.display().to_string(), source };
        remove_stale(&path).map_err(failed)?;
        let listener = UnixListener::bind(&path).map_err(failed)?;
        std::fs::set_permissions(&path, PermissionsExt::from_mode(SOCKET_MODE)).map_err(failed)?;
        Ok(Self::of(Way::Unix(listener)))
    }

    /// A TCP port, with TLS if there are certificates.
    pub async fn remote(address: SocketAddr, certificates: Option<Certificates>) -> Result<Self, ApiError> {
        let bound = TcpListener::bind(address).await;
        let listener = bound.map_err(|source| ApiError::Bind { address: address.to_string(), source })?;
        Ok(Self::of(match certificates {
            Some(certificates) => Way::Tls(listener, Arc::new(certificates)),
            None => Way::Plain(listener),
        }))
    }

    fn of(way: Way) -> Self {
        Self { way, places: Arc::new(Semaphore::new(CONNECTIONS)) }
    }

    /// Where it listens, if on TCP.
    pub fn address(&self) -> Option<SocketAddr> {
        match &self.way {
            Way::Unix(_) => None,
            Way::Plain(listener) | Way::Tls(listener, _) => listener.local_addr().ok(),
        }
    }

    /// Accepts until `stop`, and starts a task for each connection.
    pub async fn serve(self, state: Arc<State>, tasks: TaskTracker, stop: CancellationToken) {
        while let Some((guest, place)) = stop.run_until_cancelled(self.next()).await {
            tasks.spawn(attend(guest, place, state.clone(), stop.clone()));
        }
    }

    async fn next(&self) -> (Guest, OwnedSemaphorePermit) {
        loop {
            let place = self.places.clone().acquire_owned().await.expect("the semaphore is never closed");
            match self.accept().await {
                Ok(guest) => return (guest, place),
                Err(error) => {
                    tracing::warn!("failed to accept a connection: {error}");
                    sleep(NO_DESCRIPTOR).await;
                }
            }
        }
    }

    async fn accept(&self) -> io::Result<Guest> {
        Ok(match &self.way {
            Way::Unix(listener) => Guest::Unix(listener.accept().await?.0),
            Way::Plain(listener) => Guest::Plain(listener.accept().await?.0),
            Way::Tls(listener, certificates) => {
                let (stream, address) = listener.accept().await?;
                Guest::Tls(stream, address, certificates.clone())
            }
        })
    }
}

/// The lock of the state directory is ours, so that a socket in it is of a daemon that is gone. Nothing else is removed.
fn remove_stale(path: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => std::fs::remove_file(path),
        Ok(_) => Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is something else than a socket")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// What helps against an error of binding.
pub fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => ": another program has it; stop that one, or change listen.address",
        io::ErrorKind::AddrNotAvailable => ": it is no address of this machine; change listen.address",
        io::ErrorKind::PermissionDenied => {
            ": the daemon's user may not; take a port above 1023, or mend the directory's rights"
        }
        _ => "",
    }
}

async fn attend(guest: Guest, _place: OwnedSemaphorePermit, state: Arc<State>, stop: CancellationToken) {
    match guest {
        Guest::Unix(stream) => match stream.peer_cred() {
            Ok(peer) => converse(stream, routes::router(state, Peer::Local { uid: peer.uid() }), stop).await,
            Err(error) => tracing::warn!("failed to tell who is asking: {error}"),
        },
        Guest::Plain(stream) => converse(stream, routes::router(state, Peer::Plain), stop).await,
        Guest::Tls(stream, address, certificates) => {
            match timeout(HANDSHAKE, certificates.acceptor().accept(stream)).await {
                Ok(Ok(stream)) => converse(stream, routes::router(state, Peer::Remote { address }), stop).await,
                Ok(Err(error)) => tracing::debug!(%address, "TLS handshake failed: {error}"),
                Err(_) => tracing::debug!(%address, "TLS handshake took too long"),
            }
        }
    }
}

async fn converse(stream: impl AsyncRead + AsyncWrite + Unpin + Send, router: Router, stop: CancellationToken) {
    let service = TowerToHyperService::new(router);
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).keep_alive(false).half_close(true).max_buf_size(MAX_HEAD_BYTES);
    let connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    let (mut connection, mut told) = (connection, false);
    let served = timeout(CONNECTION, async {
        loop {
            tokio::select! {
                result = connection.as_mut() => return result,
                () = stop.cancelled(), if !told => {
                    // What was asked is still answered; what was not yet asked is not waited for.
                    connection.as_mut().graceful_shutdown();
                    told = true;
                }
            }
        }
    });
    match served.await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!("a connection ended badly: {error}"),
        Err(_) => tracing::debug!("a connection took too long"),
    }
}
