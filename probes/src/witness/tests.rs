use understudy_config::{SecretRef, Span};
use understudy_core::{Reason, WitnessKind};

use super::*;
use crate::testing::{Asked, Reply, Server, Then, nobody};

#[tokio::test]
async fn a_signed_testimony_is_seen() {
    let server = Server::with(|asked| signed(asked, |_| {})).await;

    let report = look(&server).await;

    let down = Reading::Down(Reason::Refused);
    assert_eq!(
        report,
        WitnessReport::Sees { domains: vec![(Domain::Service, down), (Domain::ControlPlane, Reading::Up)] }
    );
    assert!(server.asked()[0].path.starts_with("/v1/witness/nexus-ddrs?nonce="));
}

#[tokio::test]
async fn a_witness_that_doubts_itself_is_blind() {
    let server = Server::with(|asked| signed(asked, |t| t.blind = true)).await;

    assert_eq!(look(&server).await, WitnessReport::Blind);
}

#[tokio::test]
async fn each_question_has_a_nonce_of_its_own() {
    let server = Server::with(|asked| signed(asked, |_| {})).await;
    let witness = witness(server.url(("http", "/")));

    witness.look().await;
    witness.look().await;

    let asked = server.asked();
    assert_ne!(asked[0].path, asked[1].path);
    assert!(nonce(&asked[0]).len() >= 32);
}

#[tokio::test]
async fn an_answer_to_another_question_is_absent() {
    let stale = Server::with(|asked| {
        let kept = Asked { path: "/v1/witness/nexus-ddrs?nonce=kept".into(), ..asked.clone() };
        signed(&kept, |_| {})
    })
    .await;
    let swapped = Server::with(|asked| signed(asked, |t| t.nonce = "another".into())).await;

    assert_absent(look(&stale).await, "signature is wrong");
    assert_absent(look(&swapped).await, "its nonce is not ours");
}

#[tokio::test]
async fn testimony_of_another_pair_or_world_is_absent() {
    let pair = Server::with(|asked| signed(asked, |t| t.pair = "other".into())).await;
    let many = Server::with(|asked| {
        signed(asked, |t| t.domains = vec![DomainSeen { domain: Domain::Service, reading: Reading::Up }; 4])
    })
    .await;

    assert_absent(look(&pair).await, "another pair (other)");
    assert_absent(look(&many).await, "4 domains");
}

#[tokio::test]
async fn a_witness_that_stands_elsewhere_than_the_file_says_is_absent() {
    let server = Server::with(|asked| signed(asked, |t| t.kind = WitnessKind::PrimarySite)).await;

    assert_absent(look(&server).await, "it is a primary_site, not a third_site");
}

#[tokio::test]
async fn what_is_not_signed_by_the_shared_secret_is_absent() {
    let forge = |signature: fn(&str, &[u8]) -> String| {
        move |asked: &Asked| {
            let body = testimony(asked);
            let signature = signature(nonce(asked), &body);
            Reply::of(200, &[(SIGNATURE, &signature)], body)
        }
    };
    let other_key = |nonce: &str, body: &[u8]| sign(&SecretString::from("another secret"), nonce, body);
    let other_body = |nonce: &str, _: &[u8]| sign(&secret(), nonce, b"{}");
    let half = |nonce: &str, body: &[u8]| sign(&secret(), nonce, body)[..20].to_owned();
    let other_scheme = |nonce: &str, body: &[u8]| sign(&secret(), nonce, body).replace("v1,", "v0,");
    let garbage = |_: &str, _: &[u8]| "v1,!!!".to_owned();
    let none = |_: &str, _: &[u8]| String::new();

    for forged in [other_key as fn(&str, &[u8]) -> String, other_body, half, other_scheme, garbage, none] {
        let server = Server::with(forge(forged)).await;

        assert_absent(look(&server).await, "signature is wrong");
    }
}

#[tokio::test]
async fn anything_but_an_answer_is_absent() {
    let garbage = |asked: &Asked| {
        let signature = sign(&secret(), nonce(asked), b"no json");
        Reply::of(200, &[(SIGNATURE, &signature)], "no json")
    };
    let unknown_domain = |asked: &Asked| {
        let body = String::from_utf8(testimony(asked)).unwrap().replace("control_plane", "weather");
        let signature = sign(&secret(), nonce(asked), body.as_bytes());
        Reply::of(200, &[(SIGNATURE, &signature)], body)
    };

    assert_absent(look(&Server::with(garbage).await).await, "its answer:");
    assert_absent(look(&Server::with(unknown_domain).await).await, "its answer:");
    assert_absent(look(&Server::saying(Reply::of(404, &[], "")).await).await, "it answers 404");
    assert_absent(look(&Server::saying(Reply::of(200, &[], "x".repeat(100_000))).await).await, "longer than");
    let nobody = format!("http://{}/", nobody().await).parse().unwrap();
    assert_absent(witness(nobody).look().await, "refused");
}

#[tokio::test(start_paused = true)]
async fn a_silent_witness_is_absent() {
    let server = Server::saying(Reply::raw("", Then::Hang)).await;

    assert_absent(look(&server).await, "no answer within 20s");
}

#[test]
fn the_signature_is_hmac_sha256_over_nonce_and_body() {
    // printf 'n0nce.{"a":1}' | openssl dgst -sha256 -hmac s3cret -binary | base64
    let known = "v1,HYqjyz6IrgcZZDuKVRDX6ZM6qZurstdtDs9elURc1E8=";

    assert_eq!(sign(&SecretString::from("s3cret"), "n0nce", br#"{"a":1}"#), known);
}

fn signed(asked: &Asked, change: impl Fn(&mut Testimony)) -> Reply {
    let mut testimony: Testimony = serde_json::from_slice(&testimony(asked)).unwrap();
    change(&mut testimony);
    let body = serde_json::to_vec(&testimony).unwrap();
    let signature = sign(&secret(), nonce(asked), &body);
    Reply::of(200, &[(SIGNATURE, &signature)], body)
}

fn testimony(asked: &Asked) -> Vec<u8> {
    let testimony = Testimony {
        nonce: nonce(asked).to_owned(),
        pair: "nexus-ddrs".into(),
        kind: WitnessKind::ThirdSite,
        blind: false,
        domains: vec![
            DomainSeen { domain: Domain::Service, reading: Reading::Down(Reason::Refused) },
            DomainSeen { domain: Domain::ControlPlane, reading: Reading::Up },
        ],
    };
    serde_json::to_vec(&testimony).unwrap()
}

fn nonce(asked: &Asked) -> &str {
    asked.path.split("nonce=").nth(1).unwrap_or_default()
}

fn secret() -> SecretString {
    SecretRef::Env("PATH".into()).read().unwrap()
}

fn witness(url: url::Url) -> Witness {
    let settings = Settings {
        name: "third".into(),
        kind: WitnessKind::ThirdSite,
        url,
        secret: SecretRef::Env("PATH".into()),
        period: Span::secs(30),
        timeout: Span::secs(20),
    };
    Witness::new(&settings, "nexus-ddrs", &mut Shared::new()).unwrap()
}

async fn look(server: &Server) -> WitnessReport {
    witness(server.url(("http", "/"))).look().await
}

fn assert_absent(report: WitnessReport, because: &str) {
    let WitnessReport::Absent { why } = report else { panic!("{report:?}") };
    assert!(why.contains(because), "{why}");
}
