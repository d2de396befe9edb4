//! A new TCP connection, by address or by name.
//!
//! In: a [`Destination`]. Out: a connected socket, or the [`Fault`]. A name is resolved anew for each look; its addresses
//! are tried one after the other, each with its share of the time.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{self, Instant};
use understudy_core::{Reading, Reason};

use crate::fault::{Fault, Stage};
use crate::shared::Names;

/// More addresses of one name than this are not tried.
const MOST_ADDRESSES: usize = 4;

/// Where to connect.
#[derive(Clone)]
pub(crate) enum Destination {
    /// Straight to an address.
    Socket(SocketAddr),
    /// By name.
    Name {
        /// The name.
        host: Box<str>,
        /// The port.
        port: u16,
        /// Who resolves it.
        names: Names,
    },
}

impl Destination {
    /// A new connection within `patience`; resolving the name has half as much on top.
    pub(crate) async fn connect(&self, patience: Duration) -> Result<TcpStream, Fault> {
        match self {
            Destination::Socket(address) => connect(*address, patience).await,
            Destination::Name { host, port, names } => {
                // On the heap, as far larger than what a look by address would move about.
                Box::pin(async {
                    let addresses = names.addresses(host, patience / 2).await?;
                    connect_any(host, &addresses, *port, patience).await
                })
                .await
            }
        }
    }
}

async fn connect(address: SocketAddr, patience: Duration) -> Result<TcpStream, Fault> {
    match time::timeout(patience, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(Fault::io(Stage::Connect, &error)),
        Err(_elapsed) => {
            let detail = format!("no connection within {patience:?}");
            Err(Fault::new(Stage::Connect, Reading::Down(Reason::TimedOut), detail))
        }
    }
}

async fn connect_any(host: &str, found: &[IpAddr], port: u16, patience: Duration) -> Result<TcpStream, Fault> {
    let nothing = format!("{host} has no address");
    let mut worst = Fault::new(Stage::Resolve, Reading::Unknown(Reason::LocalDns), nothing);
    let end = Instant::now() + patience;
    let tried = &found[..found.len().min(MOST_ADDRESSES)];
    for (n, ip) in tried.iter().enumerate() {
        let left = end.saturating_duration_since(Instant::now());
        let share = left / u32::try_from(tried.len() - n).unwrap_or(1);
        match connect(SocketAddr::new(*ip, port), share).await {
            Ok(stream) => return Ok(stream),
            // An address family that leads nowhere from here says less than a refusal of the other.
            Err(fault) if n == 0 || fault.reading != Reading::Unknown(Reason::Unreachable) => worst = fault,
            Err(_unreachable) => {}
        }
    }
    Err(worst)
}
