//! A listening address that can die, hang and come back, as a process behind it would.
//!
//! In: a handler for one accepted connection. Out: an address, and the four things that may happen
//! to the process behind it: [`Port::kill`], [`Port::freeze`], [`Port::thaw`], [`Port::restart`].
//! A killed port refuses connections; a frozen one lets the kernel accept them and answers nobody,
//! neither on new connections nor on those already open. Start at [`Port::open`].

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Serves one accepted connection to its end.
pub type Handler = Arc<dyn Fn(Wire) -> BoxFuture<'static, ()> + Send + Sync>;

/// A loopback address of its own, so that a killed port is not taken by a neighbour meanwhile.
pub fn loopback() -> IpAddr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let turn = std::process::id().wrapping_mul(31).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
    // 127.0.0.1 stays with the machine's own services.
    let host = u8::try_from(2 + turn % 250).expect("2..=251 fits in a byte");
    IpAddr::V4(Ipv4Addr::new(127, 0, 0, host))
}

/// One listening TCP address and the process behind it.
pub struct Port {
    address: SocketAddr,
    handler: Handler,
    frost: Arc<Frost>,
    life: tokio::sync::Mutex<Option<Life>>,
}

/// What ends when the process is killed.
struct Life {
    killed: CancellationToken,
    tasks: TaskTracker,
}

impl Port {
    /// Listens on an ephemeral port of `ip` and serves each connection with `handler`.
    pub async fn open(ip: IpAddr, handler: Handler) -> io::Result<Self> {
        let port = Self::reserve(ip, handler).await?;
        port.restart().await?;
        Ok(port)
    }

    /// Chooses an address without serving it yet: connections are refused until [`Port::restart`].
    pub async fn reserve(ip: IpAddr, handler: Handler) -> io::Result<Self> {
        let address = TcpListener::bind((ip, 0)).await?.local_addr()?;
        Ok(Self { address, handler, frost: Arc::default(), life: tokio::sync::Mutex::new(None) })
    }

    /// Where it listens; the same through all its lives.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether a process is there, serving or frozen.
    pub async fn is_alive(&self) -> bool {
        self.life.lock().await.is_some()
    }

    /// As SIGKILL: the listener and every open connection are gone when this returns.
    pub async fn kill(&self) {
        let life = self.life.lock().await.take();
        if let Some(Life { killed, tasks }) = life {
            killed.cancel();
            tasks.close();
            self.frost.melt();
            tasks.wait().await;
        }
    }

    /// As SIGSTOP: the kernel still accepts, nobody answers.
    pub fn freeze(&self) {
        self.frost.set(true);
    }

    /// As SIGCONT: what had queued up is served now.
    pub fn thaw(&self) {
        self.frost.set(false);
    }

    /// A new process on the same address. Does nothing while one is there.
    pub async fn restart(&self) -> io::Result<()> {
        let mut life = self.life.lock().await;
        if life.is_some() {
            return Ok(());
        }
        let listener = TcpListener::bind(self.address).await?;
        self.frost.set(false);
        let (killed, tasks) = (CancellationToken::new(), TaskTracker::new());
        let accepting = accept(listener, self.handler.clone(), self.frost.clone(), killed.clone(), tasks.clone());
        tasks.spawn(killed.clone().run_until_cancelled_owned(accepting));
        *life = Some(Life { killed, tasks });
        Ok(())
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        if let Some(life) = self.life.get_mut() {
            life.killed.cancel();
        }
    }
}

async fn accept(
    listener: TcpListener,
    handler: Handler,
    frost: Arc<Frost>,
    killed: CancellationToken,
    tasks: TaskTracker,
) {
    loop {
        std::future::poll_fn(|context| frost.poll_melted(context)).await;
        let Ok((stream, _peer)) = listener.accept().await else {
            // The peer gave up before we came to it.
            continue;
        };
        // Answers are small and the peers measure latency.
        let _ = stream.set_nodelay(true);
        let wire = Wire { stream, frost: frost.clone() };
        tasks.spawn(killed.clone().run_until_cancelled_owned(handler(wire)));
    }
}

/// Whether the process behind a port is stopped, and who waits for it to go on.
#[derive(Default)]
struct Frost(Mutex<Icy>);

#[derive(Default)]
struct Icy {
    frozen: bool,
    waiting: Vec<Waker>,
}

impl Frost {
    fn set(&self, frozen: bool) {
        let woken = {
            let mut icy = self.0.lock().expect("no panic while held");
            icy.frozen = frozen;
            if frozen { Vec::new() } else { std::mem::take(&mut icy.waiting) }
        };
        woken.into_iter().for_each(Waker::wake);
    }

    fn melt(&self) {
        self.set(false);
    }

    fn poll_melted(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut icy = self.0.lock().expect("no panic while held");
        if !icy.frozen {
            return Poll::Ready(());
        }
        icy.waiting.push(context.waker().clone());
        Poll::Pending
    }
}

/// An accepted connection; it stands still while its port is frozen.
pub struct Wire {
    stream: TcpStream,
    frost: Arc<Frost>,
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        std::task::ready!(self.frost.poll_melted(context));
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        std::task::ready!(self.frost.poll_melted(context));
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        std::task::ready!(self.frost.poll_melted(context));
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        std::task::ready!(self.frost.poll_melted(context));
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn a_killed_port_refuses_and_ends_what_was_open() {
        let port = echo().await;
        let mut open = TcpStream::connect(port.address()).await.unwrap();

        port.kill().await;

        let refused = TcpStream::connect(port.address()).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        assert_eq!(open.read(&mut [0; 8]).await.unwrap_or(0), 0);
    }

    #[tokio::test]
    async fn a_frozen_port_accepts_and_stays_silent_until_it_is_thawed() {
        let port = echo().await;
        port.freeze();

        let mut client = TcpStream::connect(port.address()).await.unwrap();
        client.write_all(b"ping").await.unwrap();
        let mut answer = [0; 4];
        let silent = tokio::time::timeout(Duration::from_millis(80), client.read_exact(&mut answer)).await;
        assert!(silent.is_err());

        port.thaw();
        client.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"ping");
    }

    #[tokio::test]
    async fn a_restarted_port_serves_at_the_same_address() {
        let port = echo().await;
        let before = port.address();
        port.kill().await;

        port.restart().await.unwrap();

        let mut client = TcpStream::connect(before).await.unwrap();
        client.write_all(b"back").await.unwrap();
        let mut answer = [0; 4];
        client.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"back");
    }

    async fn echo() -> Port {
        let handler: Handler = Arc::new(|mut wire| {
            Box::pin(async move {
                let mut buffer = [0; 64];
                while let Ok(length @ 1..) = wire.read(&mut buffer).await {
                    if wire.write_all(&buffer[..length]).await.is_err() {
                        return;
                    }
                }
            })
        });
        Port::open(loopback(), handler).await.unwrap()
    }
}
