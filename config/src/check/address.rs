//! Addresses that can be compared: do two settings lead to the same machine?

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::{ConnectTo, Place};

/// Where a connection would go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    host: Host,
    port: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Host {
    Ip(IpAddr),
    Name(String),
}

/// What tells one machine from another. Loopback is everybody's own, so that there the port has to tell.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Machine {
    host: Host,
    port: Option<u16>,
}

impl Address {
    pub(super) fn of_url(url: &url::Url) -> Option<Self> {
        let host = match url.host()? {
            url::Host::Ipv4(ip) => Host::Ip(ip.into()),
            url::Host::Ipv6(ip) => Host::Ip(ip.into()),
            url::Host::Domain(name) => Host::named(name),
        };
        Some(Self { host, port: url.port_or_known_default().unwrap_or(0) })
    }

    /// Where `url` leads with `connect_to` in the place of the DNS.
    pub(super) fn of_target(url: &url::Url, connect_to: Option<ConnectTo>) -> Option<Self> {
        match connect_to {
            Some(to) => Some(to.socket(url.port_or_known_default().unwrap_or(0)).into()),
            None => Self::of_url(url),
        }
    }

    pub(super) fn of_place(place: &Place) -> Option<Self> {
        Self::of_target(&place.url, place.connect_to)
    }

    /// `HOST:PORT`, `[IPV6]:PORT`.
    pub(super) fn of_text(text: &str) -> Option<Self> {
        if let Ok(socket) = text.parse::<SocketAddr>() {
            return Some(socket.into());
        }
        let (host, port) = text.rsplit_once(':')?;
        let plain = !host.is_empty() && !host.contains([':', '/', '[', ']', ' ']);
        plain.then(|| port.parse().ok()).flatten().map(|port| Self { host: Host::named(host), port })
    }

    pub(super) fn is_loopback(&self) -> bool {
        matches!(self.host, Host::Ip(ip) if ip.is_loopback())
    }

    pub(super) fn machine(&self) -> Machine {
        Machine { host: self.host.clone(), port: self.is_loopback().then_some(self.port) }
    }

    /// Whether both are on the same machine.
    pub(super) fn same_machine(&self, other: &Self) -> bool {
        self.machine() == other.machine()
    }
}

impl Host {
    fn named(name: &str) -> Self {
        match name.trim_end_matches('.').to_ascii_lowercase() {
            name if name == "localhost" => Host::Ip(Ipv4Addr::LOCALHOST.into()),
            name => name.parse().map_or(Host::Name(name), Host::Ip),
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(socket: SocketAddr) -> Self {
        Self { host: Host::Ip(socket.ip()), port: socket.port() }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Ip(ip) if self.is_loopback() => SocketAddr::new(*ip, self.port).fmt(f),
            Host::Ip(ip) => ip.fmt(f),
            Host::Name(name) => f.write_str(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(left: &str, right: &str) -> bool {
        Address::of_text(left).unwrap().same_machine(&Address::of_text(right).unwrap())
    }

    #[test]
    fn the_machine_counts_and_not_the_port_except_on_loopback() {
        assert!(same("10.1.0.20:443", "10.1.0.20:9000"));
        assert!(same("Nexus.Example.net.:443", "nexus.example.net:443"));
        assert!(!same("10.1.0.20:443", "10.2.0.20:443"));
        assert!(!same("127.0.0.1:1", "127.0.0.1:2"));
        assert!(same("127.0.0.1:1", "localhost:1"));
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in ["", "host", ":1", "host:", "host:70000", "http://host:1", "::1:x"] {
            assert!(Address::of_text(text).is_none(), "{text}");
        }
    }

    #[test]
    fn connect_to_takes_the_place_of_the_name() {
        let url = "https://nexus.example.net/".parse().unwrap();
        let to = ConnectTo { ip: "10.1.0.20".parse().unwrap(), port: None };

        assert_eq!(Address::of_target(&url, Some(to)).unwrap(), "10.1.0.20:443".parse::<SocketAddr>().unwrap().into());
        assert_eq!(Address::of_target(&url, None).unwrap().to_string(), "nexus.example.net");
    }
}
