//! Each measured answer, asked for through a real socket.

use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::standin::port::loopback;
use crate::standin::volume::{ADMIN_PASSWORD, Artifact};

#[tokio::test]
async fn a_healthy_nexus_answers_as_the_table_of_endpoints_says() {
    let nexus = running().await;
    let table = [
        // method, path, anonymous, admin
        ("GET", "/service/rest/v1/status", 200, 200),
        ("GET", "/service/rest/v1/status/writable", 200, 200),
        ("GET", "/service/rest/v1/status/check", 403, 200),
        ("GET", "/service/rest/v1/read-only", 200, 200),
        ("GET", "/service/rest/v1/repositories", 200, 200),
        ("GET", "/service/rest/v1/system/node", 403, 200),
        ("GET", "/service/rest/v1/lifecycle/phase", 200, 200),
        ("GET", "/service/metrics/ping", 401, 200),
        ("GET", "/service/metrics/healthcheck", 401, 500),
        ("GET", "/service/rest/metrics/ping", 404, 404),
        ("POST", "/service/rest/v1/read-only/freeze", 403, 204),
        ("POST", "/service/rest/v1/read-only/release", 403, 204),
        ("POST", "/service/rest/v1/read-only/release", 403, 404),
        ("PUT", "/repository/raw/a/b", 401, 201),
        ("GET", "/repository/raw/a/b", 200, 200),
        ("GET", "/repository/raw/none", 404, 404),
        ("DELETE", "/repository/raw/a/b", 401, 204),
        ("DELETE", "/repository/raw/a/b", 401, 404),
    ];

    for (method, path, anonymous, admin) in table {
        assert_eq!(ask(&nexus, method, path, None).await.status(), anonymous, "{method} {path}");
        let login = Some(ADMIN_PASSWORD);
        assert_eq!(ask(&nexus, method, path, login).await.status(), admin, "{method} {path}");
        assert_eq!(ask(&nexus, method, path, Some("wrong")).await.status(), 401, "{method} {path}");
    }
}

#[tokio::test]
async fn it_says_who_it_is_and_what_time_it_has() {
    let nexus = running().await;

    let answer = ask(&nexus, "GET", "/service/rest/v1/status", None).await;

    assert_eq!(answer.headers()["server"], "Nexus/3.71.0-06 (OSS)");
    assert!(answer.headers().contains_key("date"));
    assert_eq!(answer.bytes().await.unwrap(), Bytes::new());
}

#[tokio::test]
async fn the_thirteen_checks_are_there_and_three_are_false_out_of_the_box() {
    let nexus = running().await;

    let checks = checks(&nexus).await;

    assert_eq!(checks.len(), 13);
    assert_eq!(unhealthy(&checks), ["Available CPUs", "Default Admin Credentials", "File Descriptors"]);
}

#[tokio::test]
async fn an_uploaded_artifact_comes_back_whole_with_its_sha1_as_etag() {
    let nexus = running().await;
    put(&nexus, "raw/dir/file.bin", b"hello").await;

    let answer = ask(&nexus, "GET", "/repository/raw/dir/file.bin", None).await;

    assert_eq!(answer.headers()["etag"], "\"aaf4c61ddcc5e8a2dabede0f3b482cd9aea9434d\"");
    assert_eq!(answer.content_length(), Some(5));
    assert_eq!(answer.bytes().await.unwrap(), "hello");
    let head = ask(&nexus, "HEAD", "/repository/raw/dir/file.bin", None).await;
    assert_eq!(head.headers()["content-length"], "5");
    let assets = ask(&nexus, "GET", "/service/rest/v1/assets?repository=raw", None).await;
    let assets: serde_json::Value = assets.json().await.unwrap();
    assert_eq!(assets["items"][0]["path"], "dir/file.bin");
    assert_eq!(assets["items"][0]["fileSize"], 5);
}

#[tokio::test]
async fn a_truncated_artifact_is_200_with_the_right_length_and_no_body() {
    let nexus = running().await;
    let mut artifact = Artifact::new(Bytes::from_static(b"lost bytes"), "text/plain");
    artifact.bytes = None;
    nexus.volume().write(|content| content.artifacts.insert("raw/lost".to_owned(), artifact));

    let head = ask(&nexus, "HEAD", "/repository/raw/lost", None).await;
    assert_eq!((head.status().as_u16(), &head.headers()["content-length"]), (200, &"10".parse().unwrap()));
    let answer = ask(&nexus, "GET", "/repository/raw/lost", None).await;

    assert_eq!(answer.status(), 200);
    assert_eq!(answer.content_length(), Some(10));
    assert!(answer.bytes().await.is_err(), "the connection ends before the announced length");
}

#[tokio::test]
async fn a_starting_nexus_refuses_and_then_answers_everything() {
    let nexus = stopped().await;
    let url = nexus.url();
    assert!(reqwest_client().get(&url).send().await.unwrap_err().is_connect());

    nexus.start(Volume::default()).await.unwrap();

    assert_eq!(ask(&nexus, "GET", "/service/rest/v1/status", None).await.status(), 200);
}

#[tokio::test]
async fn a_stopping_nexus_answers_503_as_jetty_and_is_gone() {
    let nexus = Arc::new(running().await);
    let stopping = tokio::spawn({
        let nexus = nexus.clone();
        async move { nexus.stop().await }
    });
    tokio::task::yield_now().await;

    let answer = ask(&nexus, "GET", "/service/rest/v1/status", None).await;
    assert_eq!(answer.status(), 503);
    assert!(answer.headers()["server"].to_str().unwrap().starts_with("Jetty("));

    assert!(stopping.await.unwrap());
    assert!(reqwest_client().get(nexus.url()).send().await.unwrap_err().is_connect());
}

#[tokio::test]
async fn a_frozen_nexus_is_up_but_not_writable_and_stays_so_over_a_crash() {
    let nexus = running().await;
    let login = Some(ADMIN_PASSWORD);
    ask(&nexus, "POST", "/service/rest/v1/read-only/freeze", login).await;

    for _life in 0..2 {
        assert_eq!(ask(&nexus, "GET", "/service/rest/v1/status", None).await.status(), 200);
        assert_eq!(ask(&nexus, "GET", "/service/rest/v1/status/writable", None).await.status(), 503);
        assert_eq!(ask(&nexus, "PUT", "/repository/raw/x", login).await.status(), 503);
        assert!(unhealthy(&checks(&nexus).await).contains(&"Read-Only Detector".to_owned()));
        let volume = nexus.volume();
        nexus.kill().await;
        nexus.start(volume).await.unwrap();
    }

    ask(&nexus, "POST", "/service/rest/v1/read-only/force-release", login).await;
    assert!(nexus.volume().read(|content| content.frozen_marker), "memory only");
    let again = ask(&nexus, "POST", "/service/rest/v1/read-only/release", login).await;
    assert_eq!(again.status(), 404);
    assert!(!nexus.volume().read(|content| content.frozen_marker));
}

#[tokio::test]
async fn status_and_writable_know_nothing_of_a_full_disk() {
    let nexus = running().await;
    put(&nexus, "raw/x", b"x").await;

    nexus.set_disk(full_now());

    let login = Some(ADMIN_PASSWORD);
    assert_eq!(ask(&nexus, "GET", "/service/rest/v1/status", None).await.status(), 200);
    assert_eq!(ask(&nexus, "GET", "/service/rest/v1/status/writable", None).await.status(), 200);
    assert_eq!(ask(&nexus, "GET", "/repository/raw/x", None).await.status(), 200);
    assert_eq!(ask(&nexus, "PUT", "/repository/raw/y", login).await.status(), 500);
    let unhealthy = unhealthy(&checks(&nexus).await);
    assert!(unhealthy.contains(&"Blob Stores Ready".to_owned()));
    assert!(unhealthy.contains(&"Scheduler".to_owned()));
    assert!(!nexus.stop().await, "a polite stop does not end it");
    nexus.kill().await;
    assert!(matches!(nexus.start(nexus.volume()).await, Err(StartError::Disk)));
}

#[tokio::test]
async fn a_nexus_whose_disk_was_full_hangs_for_ever_when_space_is_freed() {
    let nexus = running().await;
    nexus.set_disk(full_now());
    nexus.set_disk(Disk::Sound);

    assert!(hangs(&nexus, "GET", "/repository/raw/x", None).await);
    assert_eq!(ask(&nexus, "GET", "/service/rest/v1/status", None).await.status(), 200);

    let volume = nexus.volume();
    nexus.kill().await;
    nexus.start(volume).await.unwrap();
    put(&nexus, "raw/x", b"x").await;
}

#[tokio::test]
async fn on_a_hung_disk_reads_go_on_and_writes_wait_until_it_heals() {
    let nexus = Arc::new(running().await);
    put(&nexus, "raw/x", b"x").await;
    nexus.set_disk(Disk::Hung(Instant::now()));

    assert_eq!(ask(&nexus, "GET", "/repository/raw/x", None).await.status(), 200);
    assert!(hangs(&nexus, "PUT", "/repository/raw/y", Some(ADMIN_PASSWORD)).await);

    nexus.set_disk(Disk::Sound);
    put(&nexus, "raw/y", b"y").await;
}

#[tokio::test]
async fn a_kill_loses_the_uploads_of_the_last_moment_only() {
    let nexus = running().await;
    let mut old = Artifact::new(Bytes::from_static(b"old"), "text/plain");
    old.written -= Duration::from_secs(5);
    nexus.volume().write(|content| content.artifacts.insert("raw/old".to_owned(), old));
    put(&nexus, "raw/young", b"young").await;

    nexus.kill().await;
    nexus.start(nexus.volume()).await.unwrap();

    assert_eq!(ask(&nexus, "GET", "/repository/raw/old", None).await.status(), 200);
    assert_eq!(ask(&nexus, "GET", "/repository/raw/young", None).await.status(), 404);
}

#[tokio::test]
async fn a_frozen_process_accepts_and_stays_silent() {
    let nexus = running().await;

    nexus.freeze();
    assert!(hangs(&nexus, "GET", "/service/rest/v1/status", None).await);

    nexus.thaw();
    assert_eq!(ask(&nexus, "GET", "/service/rest/v1/status", None).await.status(), 200);
}

#[tokio::test]
async fn a_proxy_error_page_does_not_look_like_a_nexus() {
    let nexus = running().await;
    nexus.twist(Twist::ProxyError(StatusCode::BAD_GATEWAY));

    let answer = ask(&nexus, "GET", "/service/rest/v1/status", None).await;

    assert_eq!(answer.status(), 502);
    assert_eq!(answer.headers()["server"], "nginx");
}

async fn stopped() -> Nexus {
    let timing = Timing { start: Duration::ZERO, ..Timing::default() };
    Nexus::new("a", loopback(), timing, Ledger::default()).await.unwrap()
}

async fn running() -> Nexus {
    let nexus = stopped().await;
    let volume = Volume::default();
    volume.write(|content| content.repositories.insert("raw".to_owned(), "raw".to_owned()));
    nexus.start(volume).await.unwrap();
    nexus
}

fn reqwest_client() -> &'static reqwest::Client {
    static CLIENT: std::sync::LazyLock<reqwest::Client> = std::sync::LazyLock::new(|| {
        crate::standin::install_crypto();
        reqwest::Client::builder().pool_max_idle_per_host(0).build().unwrap()
    });
    &CLIENT
}

async fn ask(nexus: &Nexus, method: &str, path: &str, password: Option<&str>) -> reqwest::Response {
    let url = format!("{}{path}", nexus.url());
    let mut request = reqwest_client().request(method.parse().unwrap(), url);
    if let Some(password) = password {
        request = request.basic_auth("admin", Some(password));
    }
    request.send().await.unwrap()
}

async fn hangs(nexus: &Nexus, method: &str, path: &str, password: Option<&str>) -> bool {
    let patience = Duration::from_millis(100);
    tokio::time::timeout(patience, ask(nexus, method, path, password)).await.is_err()
}

async fn put(nexus: &Nexus, path: &str, body: &'static [u8]) {
    let answer = reqwest_client()
        .put(format!("{}/repository/{path}", nexus.url()))
        .basic_auth("admin", Some(ADMIN_PASSWORD))
        .header("content-type", "application/octet-stream")
        .body(body)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 201);
}

async fn checks(nexus: &Nexus) -> serde_json::Map<String, serde_json::Value> {
    let path = "/service/rest/v1/status/check";
    ask(nexus, "GET", path, Some(ADMIN_PASSWORD)).await.json().await.unwrap()
}

fn unhealthy(checks: &serde_json::Map<String, serde_json::Value>) -> Vec<String> {
    let bad = checks.iter().filter(|(_, check)| check["healthy"] == false);
    bad.map(|(name, _)| name.clone()).collect()
}
