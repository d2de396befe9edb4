use hickory_proto::op::OpCode;
use hickory_proto::rr::Record;
use hickory_proto::rr::rdata::A;

use super::*;
use crate::testing::dns::{NameServer, name};
use crate::testing::{nobody, silent};

const SOON: Duration = Duration::from_millis(300);

#[tokio::test]
async fn all_addresses_of_both_families_are_found_with_the_shortest_time_to_live() {
    let server = NameServer::start(&["10.1.0.20", "10.1.0.21", "2001:db8::1"], 60).await;

    for carried in [Carried::ByDatagram, Carried::ByTcp] {
        let found = look_up(server.address, &nexus(), carried, 10 * SOON).await.unwrap();

        assert_eq!(found.to_string(), "10.1.0.20, 10.1.0.21, 2001:db8::1");
        assert_eq!(found.ttl, Some(Duration::from_secs(60)));
        assert!(found.authoritative);
    }
}

#[tokio::test]
async fn a_name_that_is_not_there_has_no_address() {
    let server = NameServer::start(&[], 60).await;

    let found = look_up(server.address, &nexus(), Carried::ByTcp, 10 * SOON).await.unwrap();

    assert_eq!(found.to_string(), "nothing");
}

#[tokio::test]
async fn an_alias_is_told() {
    let server = NameServer::start(&[], 60).await;
    server.set_alias("elsewhere.example.org.").await;

    let found = look_up(server.address, &nexus(), Carried::ByTcp, 10 * SOON).await.unwrap();

    assert_eq!(found.to_string(), "alias of elsewhere.example.org.");
}

#[tokio::test]
async fn a_server_that_does_not_know_the_zone_says_so() {
    let server = NameServer::start(&[], 60).await;

    let error = look_up(server.address, &name("nexus.example.org."), Carried::ByTcp, 10 * SOON).await.unwrap_err();

    assert!(matches!(error, DnsError::Said { code: ResponseCode::Refused, .. }), "{error}");
}

#[tokio::test]
async fn a_refused_connection_was_not_sent_and_silence_is_lost() {
    let refused = exchange(nobody().await, b"x", SOON).await.unwrap_err();
    let silent = exchange(silent().await, b"x", SOON).await.unwrap_err();

    assert!(matches!(refused, DnsError::NotSent { .. }), "{refused:?}");
    assert!(matches!(silent, DnsError::Lost { .. }), "{silent:?}");
}

#[tokio::test]
async fn datagrams_of_strangers_are_not_taken_for_the_answer() {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let server = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut question = vec![0; 512];
        loop {
            let (length, from) = socket.recv_from(&mut question).await.unwrap();
            let asked = Message::from_vec(&question[..length]).unwrap();
            let mut answer = Message::response(asked.metadata.id, OpCode::Query);
            answer.add_query(asked.queries[0].clone());
            let mut stranger = answer.clone();
            stranger.metadata.id ^= 1;
            let evil = Record::from_rdata(nexus(), 60, RData::A(A::new(6, 6, 6, 6)));
            stranger.answers.push(evil);
            for message in
                [b"garbage".to_vec(), question[..length].to_vec(), stranger.to_vec().unwrap(), answer.to_vec().unwrap()]
            {
                socket.send_to(&message, from).await.unwrap();
            }
        }
    });

    let found = look_up(server, &nexus(), Carried::ByDatagram, 10 * SOON).await.unwrap();

    assert_eq!(found.to_string(), "nothing");
}

#[tokio::test]
async fn a_datagram_that_gets_lost_is_sent_again() {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let server = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut seen = std::collections::BTreeSet::new();
        let mut question = vec![0; 512];
        loop {
            let (length, from) = socket.recv_from(&mut question).await.unwrap();
            let asked = Message::from_vec(&question[..length]).unwrap();
            if !seen.insert(asked.metadata.id) {
                let mut answer = Message::response(asked.metadata.id, OpCode::Query);
                answer.add_query(asked.queries[0].clone());
                socket.send_to(&answer.to_vec().unwrap(), from).await.unwrap();
            }
        }
    });

    let found = look_up(server, &nexus(), Carried::ByDatagram, 10 * SOON).await.unwrap();

    assert_eq!(found.to_string(), "nothing");
}

fn nexus() -> Name {
    name("nexus.example.net.")
}
