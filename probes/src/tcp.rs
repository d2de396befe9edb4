//! Looks whether something takes a TCP connection. Domain: `service`, if the file does not say otherwise.
//!
//! | outcome | reading |
//! |---|---|
//! | connected | Up |
//! | no connection within the time-out | Down(TimedOut) |
//! | any error | as [`crate::fault`] lists |
//!
//! A frozen process still takes connections: this is the weakest of all looks.

use std::net::SocketAddr;
use std::time::Duration;

use understudy_config::TcpLook;

use crate::ProbeError;
use crate::line::Destination;
use crate::shared::Shared;
use crate::sight::Sight;

/// Something that takes connections.
pub(crate) struct Tcp {
    destination: Destination,
    connect_within: Duration,
}

impl Tcp {
    pub(crate) fn new(look: &TcpLook, connect_within: Duration, shared: &mut Shared) -> Result<Self, ProbeError> {
        Ok(Self { destination: destination(&look.address, shared)?, connect_within })
    }

    pub(crate) async fn look(&self) -> Sight {
        match self.destination.connect(self.connect_within).await {
            Ok(_connection) => Sight::up(),
            Err(fault) => fault.into(),
        }
    }
}

fn destination(address: &str, shared: &mut Shared) -> Result<Destination, ProbeError> {
    if let Ok(socket) = address.parse::<SocketAddr>() {
        return Ok(Destination::Socket(socket));
    }
    let wrong = || ProbeError::Setting { what: "tcp.address", why: format!("{address:?} is not HOST:PORT") };
    let (host, port) = address.rsplit_once(':').ok_or_else(wrong)?;
    let port = port.parse().map_err(|_| wrong())?;
    if host.is_empty() || host.contains(['[', ']', ':', '/']) {
        return Err(wrong());
    }
    Ok(Destination::Name { host: host.into(), port, names: shared.names()? })
}

#[cfg(test)]
mod tests {
    use understudy_core::{Reading, Reason};

    use super::*;
    use crate::testing::{PATIENCE, Server, Then, nobody};

    #[tokio::test]
    async fn a_connection_is_up_even_if_nothing_is_said() {
        let address = Server::listener(b"", Then::Hang).await;

        assert_eq!(look(&address.to_string()).await, Reading::Up);
        assert_eq!(look(&format!("localhost:{}", address.port())).await, Reading::Up);
    }

    #[tokio::test]
    async fn nobody_listening_is_refused() {
        assert_eq!(look(&nobody().await.to_string()).await, Reading::Down(Reason::Refused));
    }

    #[tokio::test]
    async fn a_name_that_nobody_knows_is_a_fault_of_ours() {
        assert_eq!(look("nothing.invalid:80").await, Reading::Unknown(Reason::LocalDns));
    }

    #[tokio::test]
    async fn no_route_is_a_fault_of_ours() {
        // The kernel answers "network unreachable" to a connection to a group of machines.
        let reading = look("224.0.0.1:80").await;

        assert_eq!(reading, Reading::Unknown(Reason::Unreachable));
    }

    #[test]
    fn an_address_without_host_or_port_is_refused() {
        for address in ["", "host", ":80", "host:", "host:http", "::1:80:", "http://host:80"] {
            assert!(destination(address, &mut Shared::new()).is_err(), "{address}");
        }
    }

    async fn look(address: &str) -> Reading {
        let tcp = Tcp::new(&TcpLook { address: address.to_owned() }, PATIENCE, &mut Shared::new()).unwrap();
        tcp.look().await.reading
    }
}
