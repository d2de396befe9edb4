use std::sync::Arc;

use understudy_core::{Failure, Step};

use super::*;
use crate::testing::dns::{NameServer, Wire, key_text, wire};
use crate::testing::{Gate, context, nobody, pair, secret_file, yaml};

const A: &str = "10.1.0.20";
const B: &str = "10.2.0.20";

#[tokio::test]
async fn the_name_is_switched_with_the_right_key_and_read_back() {
    let server = NameServer::start(&[A], 300).await;

    let (result, gate) = run_at(server.address, "").await;

    assert_eq!(
        result.unwrap().detail,
        "nexus.example.net. led to 10.1.0.20 (ttl 300 s) and leads to 10.2.0.20 (ttl 60 s) now"
    );
    assert_eq!(server.records().await, [(B.to_owned(), 60)]);
    assert_eq!(gate.permits(), 1);
    assert_eq!(gate.notes(), [("before".to_owned(), "nexus.example.net. 300 10.1.0.20".to_owned())]);
}

#[tokio::test]
async fn each_algorithm_and_each_way_to_write_the_name_is_understood() {
    for settings in ["name: nexus,", "name: nexus.example.net,", "name: nexus.example.net.,"] {
        let server = NameServer::start(&[A], 300).await;

        run_at(server.address, settings).await.0.unwrap();

        assert_eq!(server.records().await, [(B.to_owned(), 60)], "{settings}");
    }
    let file = secret_file(&key_text());
    for algorithm in ["hmac-sha256", "hmac-sha384", "hmac-sha512"] {
        let settings = format!("algorithm: {algorithm}, tsig: 'file:{}',", file.path().display());
        let update = update_at(nobody().await, &settings);

        assert_eq!(plan(&update).unwrap().signer.algorithm().to_name().to_string(), algorithm);
    }
}

#[tokio::test]
async fn both_families_are_switched_and_none_is_left_behind() {
    let server = NameServer::start(&[A, "10.1.0.21", "2001:db8:a::1"], 300).await;

    let settings = "from: [10.1.0.20, 10.1.0.21, '2001:db8:a::1'], to: [10.2.0.20, 10.2.0.21],";
    run_at(server.address, settings).await.0.unwrap();

    assert_eq!(server.records().await, [(B.to_owned(), 60), ("10.2.0.21".to_owned(), 60)]);
}

#[tokio::test]
async fn an_address_that_nobody_configured_stops_the_step() {
    let server = NameServer::start(&[A, "2001:db8:a::1"], 300).await;

    let (result, gate) = run_at(server.address, "").await;

    let error = result.unwrap_err();
    assert_eq!(error.failure(), Failure::Permanent);
    assert!(
        error.to_string().contains("leads to 10.1.0.20, 2001:db8:a::1, which is neither A (10.1.0.20) nor B"),
        "{error}"
    );
    assert_eq!(gate.permits(), 0);
}

#[tokio::test]
async fn an_alias_or_nothing_at_all_stops_the_step() {
    let server = NameServer::start(&[], 300).await;

    let nothing = run_at(server.address, "").await.0.unwrap_err();
    server.set_alias("elsewhere.example.org.").await;
    let alias = run_at(server.address, "").await.0.unwrap_err();

    assert!(nothing.to_string().contains("leads to nothing"), "{nothing}");
    assert!(alias.to_string().contains("leads to alias of elsewhere.example.org."), "{alias}");
}

#[tokio::test]
async fn a_server_that_is_no_authority_is_named() {
    let server = NameServer::start(&[A], 300).await;

    let error = run_at(server.address, "zone: example.org,").await.0.unwrap_err();

    assert_eq!(error.failure(), Failure::Permanent);
    assert!(error.to_string().contains("is no authority for nexus.example.org."), "{error}");
}

#[tokio::test]
async fn what_leads_to_b_already_is_left_alone() {
    let server = NameServer::start(&[B], 300).await;

    let (result, gate) = run_at(server.address, "").await;

    assert_eq!(result.unwrap().detail, "nexus.example.net. leads to 10.2.0.20 already");
    assert_eq!(gate.permits(), 0);
    assert_eq!(server.records().await, [(B.to_owned(), 300)]);
}

#[tokio::test]
async fn a_wrong_key_is_named_and_changes_nothing() {
    let server = NameServer::start(&[A], 300).await;
    let file = secret_file(&STANDARD.encode("another key of thirty-two bytes!"));

    let error = run_at(server.address, &format!("tsig: 'file:{}',", file.path().display())).await.0.unwrap_err();

    assert_eq!(error.failure(), Failure::Permanent);
    assert!(text(error).contains("the signature is wrong"));
    assert_eq!(server.records().await, [(A.to_owned(), 300)]);
}

#[tokio::test]
async fn an_unknown_key_is_named_and_changes_nothing() {
    let server = NameServer::start(&[A], 300).await;

    let error = run_at(server.address, "key_name: stranger,").await.0.unwrap_err();

    assert_eq!(error.failure(), Failure::Permanent);
    assert!(text(error).contains("it does not know the TSIG key stranger"));
    assert_eq!(server.records().await, [(A.to_owned(), 300)]);
}

#[tokio::test]
async fn whoever_was_there_first_wins() {
    let server = Arc::new(NameServer::start(&[A], 300).await);
    let between = wire(server.address, Wire::Overtaken(server.clone(), &["10.3.0.20"])).await;

    let first = run_at(between, "").await.0.unwrap_err();
    let second = run_at(server.address, "").await.0.unwrap_err();

    assert_eq!(first.failure(), Failure::Transient);
    assert!(text(first).contains("was changed since it was read"));
    assert_eq!(second.failure(), Failure::Permanent);
    assert_eq!(server.records().await, [("10.3.0.20".to_owned(), 60)]);
}

#[tokio::test]
async fn a_lost_answer_is_unknown_and_the_next_try_finds_the_work_done() {
    let server = NameServer::start(&[A], 300).await;
    let between = wire(server.address, Wire::AnswerLost).await;

    let first = run_at(between, "").await.0.unwrap_err();
    let (second, gate) = run_at(between, "").await;

    assert_eq!(first.failure(), Failure::Unknown);
    assert!(second.unwrap().detail.contains("already"));
    assert_eq!(gate.permits(), 0);
    assert_eq!(server.records().await, [(B.to_owned(), 60)]);
}

#[tokio::test]
async fn a_yes_without_a_signature_is_not_believed_and_garbage_is_no_answer() {
    for between in [Wire::Forged, Wire::Garbage] {
        let server = NameServer::start(&[A], 300).await;
        let between = wire(server.address, between).await;

        let error = run_at(between, "").await.0.unwrap_err();

        assert_eq!(error.failure(), Failure::Unknown, "{error:?}");
        // By the answer itself, and not only because it is read back.
        assert!(text(error).starts_with("failed to update nexus.example.net."));
        assert_eq!(server.records().await, [(A.to_owned(), 300)]);
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_was_told_nothing() {
    let error = run_at(nobody().await, "").await.0.unwrap_err();

    assert_eq!(error.failure(), Failure::Transient);
}

#[tokio::test]
async fn settings_that_can_not_work_are_refused_before_anything_is_asked() {
    let garbled = secret_file("S3CRET!");
    let table = [
        ("to: [],".to_owned(), "never left without an address"),
        ("name: nexus.example.org.,".to_owned(), "does not lie in the zone"),
        ("algorithm: hmac-md5,".to_owned(), "no TSIG algorithm of ours"),
        (format!("tsig: 'file:{}',", garbled.path().display()), "is not base64"),
        ("tsig: 'file:/no/such/key',".to_owned(), "/no/such/key"),
        ("zone: 'ex ample..net',".to_owned(), "is no DNS name"),
    ];
    for (settings, expected) in table {
        let error = run_at(nobody().await, &settings).await.0.unwrap_err();

        assert_eq!(error.failure(), Failure::Permanent, "{settings}");
        let text = text(error);
        assert!(text.contains(expected), "{settings}: {text}");
        assert!(!text.contains("S3CRET"), "{text}");
    }
}

#[test]
fn every_code_of_a_refusal_is_mapped() {
    let update = update_at(([127, 0, 0, 1], 53).into(), "");
    let table = [
        (ResponseCode::NotAuth, "does not know the TSIG key understudy"),
        (ResponseCode::Refused, "is the key allowed"),
        (ResponseCode::NotZone, "is the key allowed"),
        (ResponseCode::NXRRSet, "was changed since it was read"),
        (ResponseCode::YXRRSet, "was changed since it was read"),
        (ResponseCode::ServFail, "it answered"),
    ];
    for (code, expected) in table {
        let heard = Message::error_msg(1, OpCode::Update, code);

        let refused = judge(&heard, &update).unwrap_err();

        assert!(refused.to_string().contains(expected), "{code}: {refused}");
    }
}

async fn run_at(server: std::net::SocketAddr, settings: &str) -> (Result<StepDone, StepError>, Arc<Gate>) {
    let gate = Arc::<Gate>::default();
    let file = secret_file(&key_text());
    let key = format!("tsig: 'file:{}',", file.path().display());
    let settings = if settings.contains("tsig:") { settings.to_owned() } else { format!("{settings} {key}") };
    let result = run(&context(pair(""), Step::Route(0), &gate), &update_at(server, &settings)).await;
    (result, gate)
}

/// The usual settings; a key that stands in `settings` takes the place of the usual one.
fn update_at(server: std::net::SocketAddr, settings: &str) -> DnsUpdate {
    let usual = [
        ("zone", "zone: example.net"),
        ("name", "name: nexus"),
        ("from", "from: [10.1.0.20]"),
        ("to", "to: [10.2.0.20]"),
        ("ttl", "ttl: 60s"),
        ("key_name", "key_name: understudy"),
        ("timeout", "timeout: 3s"),
        ("tsig", "tsig: 'env:PATH'"),
    ];
    let given = |key: &str| settings.starts_with(&format!("{key}:")) || settings.contains(&format!(" {key}:"));
    let usual: Vec<&str> = usual.into_iter().filter(|(key, _)| !given(key)).map(|(_, text)| text).collect();
    let comma = if settings.is_empty() || settings.trim_end().ends_with(',') { "" } else { "," };
    let text = format!("{{ server: '{server}', {settings}{comma} {} }}", usual.join(", "));
    yaml(&text)
}

fn text(error: StepError) -> String {
    match error.into_result() {
        understudy_core::StepResult::Failed { message, .. } => message,
        done => panic!("{done:?}"),
    }
}
