//! Queries and signed updates by a real client.

use hickory_net::client::{Client, ClientHandle};
use hickory_net::tcp::TcpClientStream;
use hickory_net::udp::UdpClientStream;
use hickory_net::xfer::DnsMultiplexer;
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{DNSClass, RecordType};

use super::*;
use crate::standin::port::loopback;

const HOST: &str = "nexus.example.net.";
const A_SITE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 10);
const B_SITE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 20);

#[tokio::test]
async fn the_zone_answers_over_udp_and_tcp() {
    let zone = zone(60).await;

    assert_eq!(ask_udp(zone.address()).await, Ok(vec![A_SITE]));
    let mut tcp = client(&zone, None).await;
    let answer = tcp.query(host(), DNSClass::IN, RecordType::A).await.unwrap();
    assert_eq!(answer.answers[0].data, RData::A(A(A_SITE)));
}

#[tokio::test]
async fn a_signed_swap_succeeds_once_and_a_stale_one_is_told_so() {
    let zone = zone(60).await;

    let first = swap(&zone, Some(zone.key()), A_SITE, B_SITE).await;
    let stale = swap(&zone, Some(zone.key()), A_SITE, B_SITE).await;

    assert_eq!((first, stale), (Some(ResponseCode::NoError), Some(ResponseCode::NXRRSet)));
    assert_eq!(ask_udp(zone.address()).await, Ok(vec![B_SITE]));
    let effects = zone.handler.0.ledger.of(Kind::DnsUpdate);
    assert_eq!(effects.len(), 1);
    assert_eq!((effects[0].target.as_str(), effects[0].detail.as_str()), ("nexus.example.net. A", "127.0.0.20"));
}

#[tokio::test]
async fn an_update_without_a_key_or_with_a_wrong_one_has_no_effect() {
    let zone = zone(60).await;
    let wrong = Key { secret: b"another secret, another secret!!".to_vec(), ..zone.key().clone() };

    let unsigned = swap(&zone, None, A_SITE, B_SITE).await;
    let forged = swap(&zone, Some(&wrong), A_SITE, B_SITE).await;

    assert_eq!(unsigned, Some(ResponseCode::Refused));
    assert_ne!(forged, Some(ResponseCode::NoError));
    assert_eq!(ask_udp(zone.address()).await, Ok(vec![A_SITE]));
}

#[tokio::test]
async fn each_fault_answers_and_acts_as_it_is_named() {
    // fault, answer, address afterwards
    let table = [
        // The refusal is not signed, so a client that signs does not take it for an answer.
        (Fault::Refuse, None, A_SITE),
        (Fault::AnswerLost, None, B_SITE),
        (Fault::Silent, None, A_SITE),
    ];
    for (fault, answer, address) in table {
        let zone = zone(60).await;
        zone.set_fault(fault);

        assert_eq!(swap(&zone, Some(zone.key()), A_SITE, B_SITE).await, answer, "{fault:?}");

        zone.set_fault(Fault::None);
        assert_eq!(ask_udp(zone.address()).await, Ok(vec![address]), "{fault:?}");
    }
}

#[tokio::test]
async fn a_zone_that_takes_no_updates_says_refused_and_goes_on_answering() {
    let zone = zone(60).await;
    zone.set_fault(Fault::Refuse);

    assert_eq!(swap(&zone, None, A_SITE, B_SITE).await, Some(ResponseCode::Refused));
    assert_eq!(ask_udp(zone.address()).await, Ok(vec![A_SITE]));
}

#[tokio::test]
async fn a_killed_zone_comes_back_with_its_records() {
    let zone = zone(60).await;
    swap(&zone, Some(zone.key()), A_SITE, B_SITE).await;
    zone.kill().await;
    assert!(tokio::net::TcpStream::connect(zone.address()).await.is_err());

    zone.restart().await.unwrap();

    assert_eq!(ask_udp(zone.address()).await, Ok(vec![B_SITE]));
}

#[tokio::test]
async fn a_resolver_keeps_the_old_answer_until_its_ttl_ends() {
    let zone = zone(1).await;
    let resolver = Resolver::start(loopback(), zone.address()).await.unwrap();
    assert_eq!(ask_udp(resolver.address()).await, Ok(vec![A_SITE]));

    swap(&zone, Some(zone.key()), A_SITE, B_SITE).await;

    assert_eq!(ask_udp(resolver.address()).await, Ok(vec![A_SITE]), "remembered");
    assert_eq!(ask_udp(zone.address()).await, Ok(vec![B_SITE]));
    while ask_udp(resolver.address()).await != Ok(vec![B_SITE]) {}
}

#[tokio::test]
async fn a_flushed_resolver_asks_again_and_fails_when_nobody_answers() {
    let zone = zone(60).await;
    let resolver = Resolver::start(loopback(), zone.address()).await.unwrap();
    assert_eq!(ask_udp(resolver.address()).await, Ok(vec![A_SITE]));
    zone.kill().await;
    assert_eq!(ask_udp(resolver.address()).await, Ok(vec![A_SITE]), "remembered");

    resolver.flush();

    assert_eq!(ask_udp(resolver.address()).await, Err(ResponseCode::ServFail));
}

async fn zone(ttl: u32) -> Zone {
    Zone::start(loopback(), "example.net.", HOST, A_SITE, ttl, Ledger::default()).await.unwrap()
}

fn host() -> Name {
    Name::from_ascii(HOST).unwrap()
}

fn address_record(address: Ipv4Addr) -> Record {
    Record::from_rdata(host(), 60, RData::A(A(address)))
}

async fn ask_udp(server: SocketAddr) -> Result<Vec<Ipv4Addr>, ResponseCode> {
    let stream = UdpClientStream::builder(server, TokioRuntimeProvider::default()).build();
    let (mut client, background) = Client::<TokioRuntimeProvider>::from_sender(stream);
    tokio::spawn(background);
    let answer = client.query(host(), DNSClass::IN, RecordType::A).await.unwrap();
    if answer.metadata.response_code != ResponseCode::NoError {
        return Err(answer.metadata.response_code);
    }
    let address = |record: &Record| match &record.data {
        RData::A(A(address)) => Some(*address),
        _ => None,
    };
    Ok(answer.answers.iter().filter_map(address).collect())
}

async fn client(zone: &Zone, key: Option<&Key>) -> Client<TokioRuntimeProvider> {
    let (connecting, handle) = TcpClientStream::new(zone.address(), None, None, TokioRuntimeProvider::default());
    let mut multiplexer =
        DnsMultiplexer::new(connecting.await.unwrap(), handle).with_timeout(Duration::from_millis(300));
    if let Some(key) = key {
        multiplexer = multiplexer.with_signer(key.signer().unwrap());
    }
    let (client, background) = Client::<TokioRuntimeProvider>::from_sender(multiplexer);
    tokio::spawn(background);
    client
}

async fn swap(zone: &Zone, key: Option<&Key>, from: Ipv4Addr, to: Ipv4Addr) -> Option<ResponseCode> {
    let mut client = client(zone, key).await;
    let origin = Name::from_ascii(zone.origin()).unwrap();
    let answer = client.compare_and_swap(address_record(from), address_record(to), origin).await;
    answer.ok().map(|answer| answer.metadata.response_code)
}
