//! A real name server on loopback, and a wire to it that misbehaves.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hickory_proto::rr::rdata::tsig::TsigAlgorithm;
use hickory_proto::rr::rdata::{A, AAAA, CNAME, SOA};
use hickory_proto::rr::{LowerName, Name, RData, Record, RecordType, RrKey, TSigner};
use hickory_server::Server;
use hickory_server::net::runtime::TokioRuntimeProvider;
use hickory_server::store::in_memory::InMemoryZoneHandler;
use hickory_server::store::sqlite::SqliteZoneHandler;
use hickory_server::zone_handler::{AxfrPolicy, Catalog, ZoneType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

/// The secret of the key `understudy` that the server knows.
pub const KEY: &[u8] = b"thirty-two bytes of a shared key";

/// The same as it stands in a file.
pub fn key_text() -> String {
    STANDARD.encode(KEY)
}

type Zone = SqliteZoneHandler<TokioRuntimeProvider>;

/// Authority for `example.net`, which takes signed updates.
pub struct NameServer {
    pub address: SocketAddr,
    zone: Arc<Zone>,
    _server: Server<Catalog>,
}

impl NameServer {
    /// Starts with these addresses for `nexus.example.net`, each with a time to live of `ttl` seconds.
    pub async fn start(addresses: &[&str], ttl: u32) -> Self {
        let origin = name("example.net.");
        let mut memory = InMemoryZoneHandler::<TokioRuntimeProvider>::empty(
            origin.clone(),
            ZoneType::Primary,
            AxfrPolicy::Deny,
            None,
        );
        let soa = SOA::new(name("ns.example.net."), name("root.example.net."), 1, 3600, 600, 86400, 60);
        memory.upsert_mut(Record::from_rdata(origin.clone(), 3600, RData::SOA(soa)), 0);
        let mut zone = Zone::new(memory, AxfrPolicy::Deny, true, false);
        let signer = TSigner::new(KEY.to_vec(), TsigAlgorithm::HmacSha256, name("understudy."), 300).unwrap();
        zone.set_tsig_signers(vec![signer]);
        let zone = Arc::new(zone);
        let mut catalog = Catalog::new();
        catalog.upsert(LowerName::new(&origin), vec![zone.clone()]);
        let mut server = Server::new(catalog);
        let (udp, tcp) = both_ports().await;
        let address = tcp.local_addr().unwrap();
        server.register_socket(udp);
        server.register_listener(tcp, Duration::from_secs(5), 16);
        let this = Self { address, zone, _server: server };
        this.set(addresses, ttl).await;
        this
    }

    /// Puts these addresses in the place of all others.
    pub async fn set(&self, addresses: &[&str], ttl: u32) {
        self.clear().await;
        for address in addresses {
            let data = match address.parse().unwrap() {
                IpAddr::V4(address) => RData::A(A(address)),
                IpAddr::V6(address) => RData::AAAA(AAAA(address)),
            };
            self.zone.upsert(Record::from_rdata(name("nexus.example.net."), ttl, data), 0).await;
        }
    }

    /// Makes the name an alias.
    pub async fn set_alias(&self, target: &str) {
        self.clear().await;
        let record = Record::from_rdata(name("nexus.example.net."), 60, RData::CNAME(CNAME(name(target))));
        self.zone.upsert(record, 0).await;
    }

    async fn clear(&self) {
        self.zone.records_mut().await.retain(|key, _| key.record_type == RecordType::SOA);
    }

    /// The addresses and the time to live that it has now.
    pub async fn records(&self) -> Vec<(String, u32)> {
        let mut all = vec![];
        for kind in [RecordType::A, RecordType::AAAA] {
            let key = RrKey::new(LowerName::new(&name("nexus.example.net.")), kind);
            let sets = self.zone.records().await;
            let records = sets.get(&key).into_iter().flat_map(|set| set.records_without_rrsigs());
            all.extend(records.map(|record| (record.data.to_string(), record.ttl)));
        }
        all.sort();
        all
    }
}

/// The same free port for datagrams and for connections.
async fn both_ports() -> (UdpSocket, TcpListener) {
    loop {
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        if let Ok(udp) = UdpSocket::bind(tcp.local_addr().unwrap()).await {
            return (udp, tcp);
        }
    }
}

pub fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

/// What a wire does with updates. Questions pass unharmed.
pub enum Wire {
    /// The update arrives, its answer does not.
    AnswerLost,
    /// Somebody else writes these addresses right before the update arrives.
    Overtaken(Arc<NameServer>, &'static [&'static str]),
    /// The update is answered by whoever lies on the way: yes, without a signature.
    Forged,
    /// The answer is no DNS message.
    Garbage,
}

/// A wire to `server` that carries connections alone.
pub async fn wire(server: SocketAddr, wire: Wire) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let wire = Arc::new(wire);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let wire = wire.clone();
            tokio::spawn(async move { carry(stream, server, &wire).await });
        }
    });
    address
}

async fn carry(mut client: TcpStream, server: SocketAddr, wire: &Wire) -> std::io::Result<()> {
    let mut upstream = TcpStream::connect(server).await?;
    let mut question = read_framed(&mut client).await?;
    let is_update = question[2] >> 3 & 0xf == 5;
    match wire {
        Wire::Overtaken(name_server, addresses) if is_update => name_server.set(addresses, 60).await,
        Wire::Forged if is_update => {
            // The bit that makes a question an answer; the signature is left out with the records' count.
            question[2] |= 0x80;
            question.truncate(12);
            question[4..].fill(0);
            return write_framed(&mut client, &question).await;
        }
        Wire::Garbage if is_update => return write_framed(&mut client, b"garbage").await,
        _ => {}
    }
    write_framed(&mut upstream, &question).await?;
    let answer = read_framed(&mut upstream).await?;
    if is_update && matches!(wire, Wire::AnswerLost) {
        return Ok(());
    }
    write_framed(&mut client, &answer).await
}

async fn read_framed(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut message = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

async fn write_framed(stream: &mut TcpStream, message: &[u8]) -> std::io::Result<()> {
    stream.write_u16(u16::try_from(message.len()).unwrap()).await?;
    stream.write_all(message).await
}
