//! DNS: a zone that takes signed updates, and a resolver that remembers answers.
//!
//! In: queries over UDP and TCP; RFC 2136 updates with prerequisites, signed with TSIG. Out: answers,
//! and a line in the ledger for each record set that changed. The protocol is hickory's; kept here are
//! the faults and the ledger. Start at [`Zone`]; the cache is [`Resolver`].

mod resolver;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hickory_net::runtime::{Time, TokioRuntimeProvider};
use hickory_proto::op::{MessageType, OpCode};
use hickory_proto::rr::rdata::tsig::TsigAlgorithm;
use hickory_proto::rr::rdata::{A, NS, SOA};
use hickory_proto::rr::{LowerName, Name, RData, Record, TSigner};
use hickory_server::Server;
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::store::in_memory::InMemoryZoneHandler;
use hickory_server::store::sqlite::SqliteZoneHandler;
use hickory_server::zone_handler::{AxfrPolicy, Catalog, ZoneHandler, ZoneType};
use tokio::net::{TcpListener, UdpSocket};

pub use self::resolver::Resolver;
use super::effects::{Kind, Ledger};

/// How far a signer's clock may be off. Source: RFC 8945, section 10.
const FUDGE_SECONDS: u16 = 300;
/// How long an idle TCP connection is kept.
const TCP_IDLE: Duration = Duration::from_secs(5);
/// Answers that may wait on one TCP connection.
const TCP_ANSWERS: usize = 16;

/// How the zone's server misbehaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fault {
    #[default]
    None,
    /// Updates are refused; queries are answered.
    Refuse,
    /// The next update takes effect and is not answered; the request after it is.
    AnswerLost,
    /// Nobody answers anything.
    Silent,
}

/// The key that updates are signed with.
#[derive(Clone)]
pub struct Key {
    pub name: String,
    pub secret: Vec<u8>,
}

impl Key {
    /// The secret as key files have it.
    pub fn text(&self) -> String {
        STANDARD.encode(&self.secret)
    }

    fn signer(&self) -> Result<TSigner, ZoneError> {
        let name = name(&self.name)?;
        TSigner::new(self.secret.clone(), TsigAlgorithm::HmacSha256, name, FUDGE_SECONDS)
            .map_err(|error| ZoneError::Key(error.to_string()))
    }
}

/// Why a zone could not be served.
#[derive(Debug, thiserror::Error)]
pub enum ZoneError {
    #[error("failed to read the name {0}")]
    Name(String),
    #[error("failed to use the key: {0}")]
    Key(String),
    #[error("failed to listen")]
    Listen(#[from] io::Error),
}

/// An authoritative server of one zone.
pub struct Zone {
    address: SocketAddr,
    origin: String,
    key: Key,
    handler: Handler,
    server: tokio::sync::Mutex<Option<Server<Handler>>>,
}

impl Zone {
    /// Serves `origin` with one address record of `host` (a full name) on UDP and TCP of `ip`.
    pub async fn start(
        ip: IpAddr,
        origin: &str,
        host: &str,
        address: Ipv4Addr,
        ttl: u32,
        ledger: Ledger,
    ) -> Result<Self, ZoneError> {
        let key = Key { name: "understudy-update.".to_owned(), secret: uuid::Uuid::new_v4().as_bytes().repeat(2) };
        let records = records(origin, host, address, ttl)?;
        let zone = Arc::new(writable(origin, records.clone(), &key)?);
        let mut sealed = writable(origin, records, &key)?;
        sealed.set_allow_update(false);
        let handler = Handler(Arc::new(Shared {
            catalog: catalog(origin, zone.clone())?,
            sealed: catalog(origin, Arc::new(sealed))?,
            zone,
            ledger,
            fault: Mutex::default(),
        }));
        let (tcp, udp) = bind(ip, 0).await?;
        let zone = Self {
            address: tcp.local_addr()?,
            origin: origin.to_owned(),
            key,
            handler,
            server: tokio::sync::Mutex::new(None),
        };
        zone.serve(tcp, udp).await;
        Ok(zone)
    }

    async fn serve(&self, tcp: TcpListener, udp: UdpSocket) {
        let mut server = Server::new(self.handler.clone());
        server.register_socket(udp);
        server.register_listener(tcp, TCP_IDLE, TCP_ANSWERS);
        *self.server.lock().await = Some(server);
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn origin(&self) -> &str {
        &self.origin
    }

    pub fn key(&self) -> &Key {
        &self.key
    }

    pub fn set_fault(&self, fault: Fault) {
        *self.handler.0.fault.lock().expect("no panic while held") = fault;
    }

    /// As SIGKILL; the records stay.
    pub async fn kill(&self) {
        let server = self.server.lock().await.take();
        if let Some(mut server) = server {
            // An error says that a listener had ended by itself already.
            let _ = server.shutdown_gracefully().await;
        }
    }

    /// A new process on the same address.
    pub async fn restart(&self) -> io::Result<()> {
        let (tcp, udp) = bind(self.address.ip(), self.address.port()).await?;
        self.serve(tcp, udp).await;
        Ok(())
    }

    /// What the zone holds, as `NAME TYPE` to its sorted values: asked without DNS.
    pub async fn records(&self) -> BTreeMap<String, Vec<String>> {
        self.handler.0.records().await
    }
}

/// TCP and UDP on the same port; a port that is free for one may be taken for the other.
async fn bind(ip: IpAddr, port: u16) -> io::Result<(TcpListener, UdpSocket)> {
    const TRIES: usize = 20;
    let mut last = None;
    for _try in 0..TRIES {
        let tcp = TcpListener::bind((ip, port)).await?;
        match UdpSocket::bind(tcp.local_addr()?).await {
            Ok(udp) => return Ok((tcp, udp)),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| io::Error::other("no port was tried")))
}

fn name(text: &str) -> Result<Name, ZoneError> {
    let mut name = Name::from_ascii(text).map_err(|_| ZoneError::Name(text.to_owned()))?;
    name.set_fqdn(true);
    Ok(name)
}

fn records(origin: &str, host: &str, address: Ipv4Addr, ttl: u32) -> Result<Vec<Record>, ZoneError> {
    let (origin, host) = (name(origin)?, name(host)?);
    let server = Name::from_ascii("ns").and_then(|ns| ns.append_domain(&origin));
    let server = server.map_err(|_| ZoneError::Name("ns".to_owned()))?;
    let soa = SOA::new(server.clone(), origin.clone(), 1, 3600, 600, 86_400, ttl);
    Ok(vec![
        Record::from_rdata(origin.clone(), ttl, RData::SOA(soa)),
        Record::from_rdata(origin, ttl, RData::NS(NS(server))),
        Record::from_rdata(host, ttl, RData::A(A(address))),
    ])
}

type Store = SqliteZoneHandler<TokioRuntimeProvider>;

/// The store that takes updates; without a journal it lives in memory.
fn writable(origin: &str, records: Vec<Record>, key: &Key) -> Result<Store, ZoneError> {
    let mut memory = InMemoryZoneHandler::empty(name(origin)?, ZoneType::Primary, AxfrPolicy::Deny, None);
    for record in records {
        memory.upsert_mut(record, 1);
    }
    let mut store = SqliteZoneHandler::new(memory, AxfrPolicy::Deny, true, false);
    store.set_tsig_signers(vec![key.signer()?]);
    Ok(store)
}

fn catalog(origin: &str, zone: Arc<Store>) -> Result<Catalog, ZoneError> {
    let mut catalog = Catalog::new();
    catalog.upsert(LowerName::new(&name(origin)?), vec![zone as Arc<dyn ZoneHandler>]);
    Ok(catalog)
}

struct Shared {
    catalog: Catalog,
    /// The same zone as it was at first, closed to updates.
    sealed: Catalog,
    zone: Arc<Store>,
    ledger: Ledger,
    fault: Mutex<Fault>,
}

impl Shared {
    async fn records(&self) -> BTreeMap<String, Vec<String>> {
        let records = self.zone.records().await;
        let mut found = BTreeMap::new();
        for set in records.values() {
            let mut values: Vec<String> = set.records_without_rrsigs().map(|record| record.data.to_string()).collect();
            values.sort_unstable();
            found.insert(format!("{} {}", set.name(), set.record_type()), values);
        }
        // The serial of the SOA moves with every update and says nothing of its own.
        found.retain(|key, _| !key.ends_with(" SOA"));
        found
    }

    /// Writes down what an update has changed.
    async fn note(&self, before: &BTreeMap<String, Vec<String>>) {
        let after = self.records().await;
        let names: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
        for name in names {
            if before.get(name) != after.get(name) {
                let values = after.get(name).map(|values| values.join(" ")).unwrap_or_default();
                self.ledger.record(Kind::DnsUpdate, "dns", name, None, &values);
            }
        }
    }
}

/// The catalog, with faults before it and the ledger after it.
#[derive(Clone)]
struct Handler(Arc<Shared>);

impl Handler {
    async fn handle<R: ResponseHandler, T: Time>(&self, request: &Request, answer: R) -> ResponseInfo {
        let shared = &self.0;
        let update = request.metadata.op_code == OpCode::Update && request.metadata.message_type == MessageType::Query;
        let fault = *shared.fault.lock().expect("no panic while held");
        match fault {
            Fault::Silent => std::future::pending().await,
            Fault::Refuse if update => return shared.sealed.handle_request::<R, T>(request, answer).await,
            _ if !update => return shared.catalog.handle_request::<R, T>(request, answer).await,
            _ => {}
        }
        let before = shared.records().await;
        if fault == Fault::AnswerLost {
            *shared.fault.lock().expect("no panic while held") = Fault::None;
            // Whatever it would have answered is lost with the answer.
            let _ = shared.zone.update(request, T::current_time()).await;
            shared.note(&before).await;
            return std::future::pending().await;
        }
        let info = shared.catalog.handle_request::<R, T>(request, answer).await;
        shared.note(&before).await;
        info
    }
}

// Written out, since the trait is made by a macro that is not ours to depend on.
impl RequestHandler for Handler {
    fn handle_request<'life0, 'life1, 'async_trait, R, T>(
        &'life0 self,
        request: &'life1 Request,
        response_handle: R,
    ) -> Pin<Box<dyn Future<Output = ResponseInfo> + Send + 'async_trait>>
    where
        R: ResponseHandler + 'async_trait,
        T: Time + 'async_trait,
        'life0: 'async_trait,
        'life1: 'async_trait,
        Self: 'async_trait,
    {
        Box::pin(self.handle::<R, T>(request, response_handle))
    }
}
