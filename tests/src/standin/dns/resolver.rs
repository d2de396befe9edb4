//! A caching resolver: what users' machines ask, and what keeps leading them to the old site.
//!
//! In: queries over UDP and TCP. Out: the authoritative server's answer, or the remembered one with
//! what is left of its TTL; SERVFAIL when there is neither. Start at [`Resolver`].

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, OpCode, ResponseCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::bind;

/// How long the authoritative server may take.
const PATIENCE: Duration = Duration::from_secs(1);
/// The longest datagram taken. Source: the usual EDNS buffer size is below it.
const DATAGRAM: usize = 4096;

/// A resolver in front of one authoritative server.
pub struct Resolver {
    address: SocketAddr,
    cache: Arc<Cache>,
    _running: DropGuard,
}

struct Cache {
    upstream: SocketAddr,
    answers: Mutex<BTreeMap<String, Remembered>>,
}

struct Remembered {
    answer: Message,
    since: Instant,
    ttl: u32,
}

impl Resolver {
    pub async fn start(ip: IpAddr, upstream: SocketAddr) -> io::Result<Self> {
        let (tcp, udp) = bind(ip, 0).await?;
        let address = tcp.local_addr()?;
        let cache = Arc::new(Cache { upstream, answers: Mutex::default() });
        let stop = CancellationToken::new();
        let datagrams = serve_datagrams(udp, cache.clone());
        tokio::spawn(stop.clone().run_until_cancelled_owned(datagrams));
        let streams = {
            let (cache, stop) = (cache.clone(), stop.clone());
            async move {
                loop {
                    // An error here is a client that left while it waited.
                    if let Ok((stream, _)) = tcp.accept().await {
                        let serving = serve_stream(stream, cache.clone());
                        tokio::spawn(stop.clone().run_until_cancelled_owned(serving));
                    }
                }
            }
        };
        tokio::spawn(stop.clone().run_until_cancelled_owned(streams));
        Ok(Self { address, cache, _running: stop.drop_guard() })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Forgets everything, as `rndc flush` does.
    pub fn flush(&self) {
        self.cache.answers.lock().expect("no panic while held").clear();
    }
}

async fn serve_datagrams(socket: UdpSocket, cache: Arc<Cache>) {
    let socket = Arc::new(socket);
    let mut buffer = [0; DATAGRAM];
    loop {
        let Ok((length, client)) = socket.recv_from(&mut buffer).await else { continue };
        let (socket, cache, query) = (socket.clone(), cache.clone(), buffer[..length].to_vec());
        tokio::spawn(async move {
            if let Some(answer) = cache.answer(&query).await {
                // A client that is gone needs no answer.
                let _ = socket.send_to(&answer, client).await;
            }
        });
    }
}

async fn serve_stream(mut stream: TcpStream, cache: Arc<Cache>) -> Option<()> {
    loop {
        let length = stream.read_u16().await.ok()?;
        let mut query = vec![0; usize::from(length)];
        stream.read_exact(&mut query).await.ok()?;
        let answer = cache.answer(&query).await?;
        stream.write_u16(u16::try_from(answer.len()).ok()?).await.ok()?;
        stream.write_all(&answer).await.ok()?;
    }
}

impl Cache {
    async fn answer(&self, query: &[u8]) -> Option<Vec<u8>> {
        let query = Message::from_vec(query).ok()?;
        let key = query.queries.first().map(ToString::to_string)?;
        let mut answer = match self.remembered(&key) {
            Some(answer) => answer,
            None => match tokio::time::timeout(PATIENCE, self.ask(&query)).await {
                Ok(Some(answer)) => {
                    self.remember(key, &answer);
                    answer
                }
                _ => Message::error_msg(query.metadata.id, OpCode::Query, ResponseCode::ServFail),
            },
        };
        answer.metadata.id = query.metadata.id;
        answer.metadata.recursion_available = true;
        answer.metadata.authoritative = false;
        answer.queries = query.queries;
        answer.to_vec().ok()
    }

    fn remembered(&self, key: &str) -> Option<Message> {
        let answers = self.answers.lock().expect("no panic while held");
        let found = answers.get(key)?;
        let age = u32::try_from(found.since.elapsed().as_secs()).unwrap_or(u32::MAX);
        if found.since.elapsed() >= Duration::from_secs(found.ttl.into()) {
            return None;
        }
        let mut answer = found.answer.clone();
        for record in &mut answer.answers {
            record.ttl = record.ttl.saturating_sub(age);
        }
        Some(answer)
    }

    fn remember(&self, key: String, answer: &Message) {
        if let Some(ttl) = answer.answers.iter().map(|record| record.ttl).min() {
            let remembered = Remembered { answer: answer.clone(), since: Instant::now(), ttl };
            self.answers.lock().expect("no panic while held").insert(key, remembered);
        }
    }

    async fn ask(&self, query: &Message) -> Option<Message> {
        let socket = UdpSocket::bind((self.upstream.ip(), 0)).await.ok()?;
        socket.connect(self.upstream).await.ok()?;
        socket.send(&query.to_vec().ok()?).await.ok()?;
        let mut buffer = [0; DATAGRAM];
        let length = socket.recv(&mut buffer).await.ok()?;
        Message::from_vec(&buffer[..length]).ok()
    }
}
