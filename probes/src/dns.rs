//! Asks a DNS question: of the server that the file names, or of the system's. Domain: `service`, if the file does not say
//! otherwise.
//!
//! Each look asks anew: nothing is cached, `/etc/hosts` is not read. A named server is asked for the name as it is, the
//! system's servers with the system's search list. A question that is lost is asked once more within the time-out.
//!
//! | outcome | a named server | the system's servers |
//! |---|---|---|
//! | the address of `expect` is among the answers; without `expect`: there is an address | Up | Up |
//! | other addresses, no address, or no such name | Down(WrongAnswer) | Down(WrongAnswer) |
//! | `SERVFAIL`, which a resolver also says of somebody else's fault, and any other code | Unknown(Unmapped) | Unknown(LocalDns) |
//! | `REFUSED` | Unknown(Forbidden) | Unknown(LocalDns) |
//! | no answer within the time-out, also from a closed port, which UDP does not tell | Down(TimedOut) | Unknown(LocalDns) |
//! | any other error of the socket | as [`crate::fault`] lists | Unknown(LocalDns) |
//! | no DNS | Down(TimedOut): what can not be read, or answers another question, is dropped as a forgery | Unknown(LocalDns) |
//! | anything else | Unknown(Unmapped) | Unknown(LocalDns) |

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::{DnsError, NetError, NoRecords, runtime::TokioRuntimeProvider};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::Name;
use tokio::time;
use understudy_config::DnsLook;
use understudy_core::{Reading, Reason};

use crate::ProbeError;
use crate::fault::of_io;
use crate::sight::Sight;

/// A name, and who is asked for it.
pub(crate) struct Dns {
    name: Name,
    server: Option<SocketAddr>,
    expect: Option<IpAddr>,
}

impl Dns {
    pub(crate) fn new(look: &DnsLook) -> Result<Self, ProbeError> {
        let wrong = |error| ProbeError::Setting { what: "dns.name", why: format!("{:?}: {error}", look.name) };
        let mut name = Name::from_utf8(&look.name).map_err(wrong)?;
        if look.server.is_some() {
            name.set_fqdn(true);
        }
        Ok(Self { name, server: look.server, expect: look.expect })
    }

    /// Never takes longer than `within`.
    pub(crate) async fn look(&self, within: Duration) -> Sight {
        let resolver = match self.resolver(within) {
            Ok(resolver) => resolver,
            Err(error) => return Sight::unknown(Reason::LocalDns, error.to_string()),
        };
        match time::timeout(within, resolver.lookup_ip(self.name.clone())).await {
            Ok(Ok(found)) => self.judge(&found.iter().collect::<Vec<_>>()),
            Ok(Err(error)) => self.of_error(&error),
            Err(_elapsed) => self.of_error(&NetError::Timeout),
        }
    }

    fn resolver(&self, within: Duration) -> Result<TokioResolver, NetError> {
        let mut builder = match self.server {
            Some(server) => TokioResolver::builder_with_config(only(server), TokioRuntimeProvider::default()),
            None => TokioResolver::builder_tokio()?,
        };
        let options: &mut ResolverOpts = builder.options_mut();
        // Twice this is less than the whole, so that the second try's answer still comes in time.
        options.timeout = within * 2 / 5;
        options.attempts = 1;
        options.cache_size = 0;
        options.use_hosts_file = ResolveHosts::Never;
        options.ip_strategy = match self.expect {
            Some(IpAddr::V4(_)) => LookupIpStrategy::Ipv4Only,
            Some(IpAddr::V6(_)) => LookupIpStrategy::Ipv6Only,
            None => LookupIpStrategy::Ipv4AndIpv6,
        };
        builder.build()
    }

    fn judge(&self, found: &[IpAddr]) -> Sight {
        match self.expect {
            Some(expected) if !found.contains(&expected) => {
                Sight::down(Reason::WrongAnswer, format!("{found:?} without {expected}"))
            }
            _ if found.is_empty() => Sight::down(Reason::WrongAnswer, "no address"),
            _ => Sight::up(),
        }
    }

    fn of_error(&self, error: &NetError) -> Sight {
        match (reading(error), self.server) {
            (Reading::Down(Reason::WrongAnswer), _) => Sight::down(Reason::WrongAnswer, error.to_string()),
            // Our own servers: not being able to ask says nothing about anybody else.
            (_, None) => Sight::unknown(Reason::LocalDns, error.to_string()),
            (Reading::Down(reason), Some(_)) => Sight::down(reason, error.to_string()),
            (Reading::Unknown(reason), Some(_)) => Sight::unknown(reason, error.to_string()),
            (Reading::Up, Some(_)) => Sight::up(),
        }
    }
}

fn reading(error: &NetError) -> Reading {
    use ResponseCode::{NXDomain, NoError, Refused};
    match error {
        NetError::Dns(DnsError::NoRecordsFound(NoRecords { response_code: NXDomain | NoError, .. })) => {
            Reading::Down(Reason::WrongAnswer)
        }
        NetError::Dns(DnsError::ResponseCode(Refused)) => Reading::Unknown(Reason::Forbidden),
        NetError::Timeout => Reading::Down(Reason::TimedOut),
        NetError::Io(error) => of_io(error),
        _ => Reading::Unknown(Reason::Unmapped),
    }
}

fn only(server: SocketAddr) -> ResolverConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = server.port();
        connection
    });
    let server = NameServerConfig::new(server.ip(), true, connections.to_vec());
    ResolverConfig::from_parts(None, vec![], vec![server])
}

#[cfg(test)]
mod tests {
    use tokio::net::UdpSocket;
    use understudy_core::Reading::{Down, Unknown, Up};

    use super::*;
    use crate::testing::PATIENCE;

    const A: [u8; 4] = [10, 1, 0, 20];

    #[tokio::test]
    async fn every_answer_of_a_named_server_has_its_reading() {
        let table = [
            (0, vec![A], None, Up),
            (0, vec![[10, 2, 0, 20], A], Some("10.1.0.20"), Up),
            (0, vec![[10, 2, 0, 20]], Some("10.1.0.20"), Down(Reason::WrongAnswer)),
            (0, vec![A], Some("2001:db8::1"), Down(Reason::WrongAnswer)),
            (0, vec![], None, Down(Reason::WrongAnswer)),
            (3, vec![], None, Down(Reason::WrongAnswer)),
            (1, vec![], None, Unknown(Reason::Unmapped)),
            (2, vec![], None, Unknown(Reason::Unmapped)),
            (4, vec![], None, Unknown(Reason::Unmapped)),
            (5, vec![], None, Unknown(Reason::Forbidden)),
        ];
        for (code, addresses, expect, expected) in table {
            let server = server(move |question| Some(answer(question, code, &addresses))).await;

            let sight = dns(Some(server), expect).look(PATIENCE).await;

            assert_eq!(sight.reading, expected, "code {code}, expecting {expect:?}: {:?}", sight.detail);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn silence_and_garbage_are_timed_out() {
        let silent = server(|_| None).await;
        let garbage = server(|_| Some(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec())).await;
        let forger = server(|question| Some(answer(&[&[0xff, 0xff], &question[2..]].concat(), 0, &[A]))).await;
        let closed = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();

        for server in [silent, closed, garbage, forger] {
            assert_eq!(dns(Some(server), None).look(PATIENCE).await.reading, Down(Reason::TimedOut));
        }
    }

    #[tokio::test]
    async fn each_look_asks_anew_for_the_name_as_it_is() {
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        let server = server(move |question| {
            tell.send(question[12..].to_vec()).unwrap();
            Some(answer(question, 0, &[A]))
        })
        .await;
        let dns = dns(Some(server), Some("10.1.0.20"));

        for _ in 0..2 {
            assert_eq!(dns.look(PATIENCE).await.reading, Up);
            let question = told.recv().await.unwrap();
            assert!(question.starts_with(b"\x05nexus\x07example\x03net\x00"), "{question:?}");
        }
    }

    #[tokio::test]
    async fn what_the_systems_servers_do_not_say_is_no_evidence() {
        let dns = dns(None, None);
        for error in [
            NetError::Timeout,
            NetError::NoConnections,
            NetError::from(std::io::Error::from(std::io::ErrorKind::ConnectionRefused)),
            NetError::Dns(DnsError::ResponseCode(ResponseCode::ServFail)),
            NetError::Dns(DnsError::ResponseCode(ResponseCode::Refused)),
        ] {
            assert_eq!(dns.of_error(&error).reading, Unknown(Reason::LocalDns), "{error}");
        }
        let nobody =
            NetError::from(NoRecords::new(hickory_resolver::proto::op::Query::default(), ResponseCode::NXDomain));
        assert_eq!(dns.of_error(&nobody).reading, Down(Reason::WrongAnswer));
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let look = DnsLook { name: "a..b".into(), server: None, expect: None };

        assert!(Dns::new(&look).is_err());
    }

    fn dns(server: Option<SocketAddr>, expect: Option<&str>) -> Dns {
        let expect = expect.map(|address| address.parse().unwrap());
        Dns::new(&DnsLook { name: "nexus.example.net".into(), server, expect }).unwrap()
    }

    /// Answers each question by `script`.
    async fn server(script: impl Fn(&[u8]) -> Option<Vec<u8>> + Send + 'static) -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        tokio::spawn(async move {
            let mut question = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut question).await {
                if let Some(answer) = script(&question[..length]) {
                    socket.send_to(&answer, from).await.unwrap();
                }
            }
        });
        address
    }

    /// An answer with `code` and A records, of which there are none to a question for AAAA.
    fn answer(question: &[u8], code: u8, addresses: &[[u8; 4]]) -> Vec<u8> {
        let end = 12 + question[12..].iter().position(|byte| *byte == 0).unwrap() + 5;
        let for_a = question[end - 4..end - 2] == [0, 1];
        let addresses = if for_a { addresses } else { &[] };
        let count = u8::try_from(addresses.len()).unwrap();
        let mut answer = question[..2].to_vec();
        answer.extend([0x84, code, 0, 1, 0, count, 0, 0, 0, 0]);
        answer.extend(&question[12..end]);
        for address in addresses {
            // Name by pointer, type A, class IN, TTL 60, 4 bytes.
            answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
            answer.extend(address);
        }
        answer
    }
}
