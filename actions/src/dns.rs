//! Speaks DNS with one named server, and never with another.
//!
//! In: the server, a name. Out: the addresses there ([`look_up`]), or any answer ([`exchange`]). The resolver of the system
//! is not asked: where a step proves something, it proves it at the server that it names. Start reading at [`look_up`].

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{Instant, timeout_at};

use crate::StepError;

/// A datagram that is not answered is sent again after this time; the first retry of most resolvers.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// The largest answer that a datagram brings without EDNS is 512 bytes; some servers send more.
const LONGEST_DATAGRAM: usize = 4096;

/// Why a server was asked in vain.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DnsError {
    /// Nothing was sent.
    #[error("failed to connect to the DNS server {server}")]
    NotSent { server: SocketAddr, source: io::Error },
    /// Something was sent, and no answer came.
    #[error("no answer from the DNS server {server}")]
    Lost { server: SocketAddr, source: io::Error },
    /// An answer came, and it is none.
    #[error("the DNS server {server} answered what can not be read: {why}")]
    Garbled { server: SocketAddr, why: String },
    /// It answers, and not with what was asked for.
    #[error("the DNS server {server} answered {code} for {name}")]
    Said { server: SocketAddr, name: Name, code: ResponseCode },
}

impl DnsError {
    /// As the error of a question, which changes nothing.
    pub(crate) fn of_read(self, what: impl Into<String>) -> StepError {
        StepError::Transient { what: what.into(), source: Some(Box::new(self)) }
    }
}

/// `text` as a name that stands for itself, whether it ends with a dot or not.
pub(crate) fn absolute(text: &str) -> Result<Name, StepError> {
    let mut name = Name::from_ascii(text).map_err(|source| StepError::Permanent {
        what: format!("{text:?} is no DNS name"),
        source: Some(Box::new(source)),
    })?;
    name.set_fqdn(true);
    Ok(name)
}

/// How a question is carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Carried {
    /// By a datagram, and by TCP if the answer does not fit into one: as clients do.
    ByDatagram,
    /// By TCP, as updates are.
    ByTcp,
}

/// What a server knows of a name's addresses.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Found {
    /// All of its addresses, A and AAAA.
    pub(crate) addresses: BTreeSet<IpAddr>,
    /// The shortest time to live among them.
    pub(crate) ttl: Option<Duration>,
    /// The name is an alias of this one.
    pub(crate) alias: Option<Name>,
    /// Whether the server speaks with authority.
    pub(crate) authoritative: bool,
}

impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut parts: Vec<String> = self.addresses.iter().map(IpAddr::to_string).collect();
        if let Some(alias) = &self.alias {
            parts.insert(0, format!("alias of {alias}"));
        }
        match parts.is_empty() {
            true => f.write_str("nothing"),
            false => f.write_str(&parts.join(", ")),
        }
    }
}

/// Asks `server` for all addresses of `name`, of both families: one that is left behind would still lead there.
pub(crate) async fn look_up(
    server: SocketAddr,
    name: &Name,
    carried: Carried,
    within: Duration,
) -> Result<Found, DnsError> {
    let (v4, v6) = tokio::try_join!(
        ask(server, name, RecordType::A, carried, within),
        ask(server, name, RecordType::AAAA, carried, within),
    )?;
    Ok(found(name, &v4, &v6))
}

/// The addresses in both answers about `name`.
fn found(name: &Name, v4: &Message, v6: &Message) -> Found {
    let mut found = Found { authoritative: v4.metadata.authoritative && v6.metadata.authoritative, ..Found::default() };
    for record in v4.answers.iter().chain(&v6.answers) {
        let address = match &record.data {
            RData::A(address) => IpAddr::V4(address.0),
            RData::AAAA(address) => IpAddr::V6(address.0),
            RData::CNAME(target) if record.name == *name => {
                found.alias = Some(target.0.clone());
                continue;
            }
            _ => continue,
        };
        found.addresses.insert(address);
        let ttl = Duration::from_secs(record.ttl.into());
        found.ttl = Some(found.ttl.map_or(ttl, |shortest| shortest.min(ttl)));
    }
    found
}

async fn ask(
    server: SocketAddr,
    name: &Name,
    kind: RecordType,
    carried: Carried,
    within: Duration,
) -> Result<Message, DnsError> {
    let mut question = Message::query();
    question.metadata.recursion_desired = carried == Carried::ByDatagram;
    question.add_query(Query::query(name.clone(), kind));
    let deadline = Instant::now() + within;
    let mut answer = match carried {
        Carried::ByDatagram => by_datagram(server, &question, deadline).await?,
        Carried::ByTcp => by_tcp(server, &question, deadline).await?,
    };
    if answer.metadata.truncation && carried == Carried::ByDatagram {
        answer = by_tcp(server, &question, deadline).await?;
    }
    said_something(server, name, answer)
}

fn said_something(server: SocketAddr, name: &Name, answer: Message) -> Result<Message, DnsError> {
    match answer.metadata.response_code {
        // No such name is no address, and that is an answer.
        ResponseCode::NoError | ResponseCode::NXDomain => Ok(answer),
        code => Err(DnsError::Said { server, name: name.clone(), code }),
    }
}

/// Reads `bytes` as the answer to a question for `name` of that number; for [`crate::boundary`].
pub(crate) fn read_whole(server: SocketAddr, name: &Name, number: u16, bytes: &[u8]) -> Result<Found, DnsError> {
    let mut question = Message::query();
    question.metadata.id = number;
    question.add_query(Query::query(name.clone(), RecordType::A));
    let answer = answer_to(server, &question, bytes)?;
    let answer = said_something(server, name, answer)?;
    Ok(found(name, &answer, &answer))
}

async fn by_tcp(server: SocketAddr, question: &Message, deadline: Instant) -> Result<Message, DnsError> {
    let bytes = encode(server, question)?;
    let within = deadline.saturating_duration_since(Instant::now());
    answer_to(server, question, &exchange(server, &bytes, within).await?)
}

fn answer_to(server: SocketAddr, question: &Message, bytes: &[u8]) -> Result<Message, DnsError> {
    let answer = decode(server, bytes)?;
    if !answers(&answer, question) {
        return Err(DnsError::Garbled { server, why: "it is the answer to another question".into() });
    }
    Ok(answer)
}

async fn by_datagram(server: SocketAddr, question: &Message, deadline: Instant) -> Result<Message, DnsError> {
    let not_sent = |source| DnsError::NotSent { server, source };
    let lost = |source| DnsError::Lost { server, source };
    let bytes = encode(server, question)?;
    let any: IpAddr = if server.is_ipv4() { [0, 0, 0, 0].into() } else { [0u16; 8].into() };
    let socket = UdpSocket::bind((any, 0)).await.map_err(not_sent)?;
    socket.connect(server).await.map_err(not_sent)?;
    let mut datagram = vec![0; LONGEST_DATAGRAM];
    loop {
        socket.send(&bytes).await.map_err(not_sent)?;
        let again = deadline.min(Instant::now() + AGAIN_AFTER);
        // Datagrams that are no answer to this question may be anybody's: they are not looked at.
        while let Ok(length) = timeout_at(again, socket.recv(&mut datagram)).await {
            let length = length.map_err(lost)?;
            match Message::from_vec(&datagram[..length]) {
                Ok(answer) if answers(&answer, question) => return Ok(answer),
                _ => {}
            }
        }
        if Instant::now() >= deadline {
            return Err(lost(io::ErrorKind::TimedOut.into()));
        }
    }
}

fn answers(answer: &Message, question: &Message) -> bool {
    answer.metadata.id == question.metadata.id
        && answer.metadata.message_type == MessageType::Response
        && (answer.queries.is_empty() || answer.queries == question.queries)
}

/// Sends a message by TCP and returns the answer, which is at most 64 KiB long by its own length field.
pub(crate) async fn exchange(server: SocketAddr, message: &[u8], within: Duration) -> Result<Vec<u8>, DnsError> {
    let deadline = Instant::now() + within;
    let timed_out = || io::Error::from(io::ErrorKind::TimedOut);
    let not_sent = |source| DnsError::NotSent { server, source };
    let lost = |source| DnsError::Lost { server, source };
    let length = u16::try_from(message.len()).map_err(|_| not_sent(io::Error::other("the message is too long")))?;
    let connecting = timeout_at(deadline, TcpStream::connect(server)).await;
    let mut stream = connecting.map_err(|_| not_sent(timed_out()))?.map_err(not_sent)?;
    let conversation = async {
        let mut framed = length.to_be_bytes().to_vec();
        framed.extend_from_slice(message);
        stream.write_all(&framed).await?;
        let mut answer = vec![0; usize::from(stream.read_u16().await?)];
        stream.read_exact(&mut answer).await?;
        Ok(answer)
    };
    timeout_at(deadline, conversation).await.map_err(|_| lost(timed_out()))?.map_err(lost)
}

pub(crate) fn encode(server: SocketAddr, message: &Message) -> Result<Vec<u8>, DnsError> {
    message.to_vec().map_err(|source| DnsError::NotSent { server, source: io::Error::other(source) })
}

pub(crate) fn decode(server: SocketAddr, bytes: &[u8]) -> Result<Message, DnsError> {
    Message::from_vec(bytes).map_err(|source| DnsError::Garbled { server, why: source.to_string() })
}

#[cfg(test)]
mod tests;
