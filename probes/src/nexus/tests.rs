use std::collections::BTreeMap;
use std::sync::Mutex;

use understudy_core::Reading::{Down, Unknown, Up};

use super::*;
use crate::testing::{Asked, Reply, Server, Then, config, nobody, probe};

const NEXUS: (&str, &str) = ("server", "Nexus/3.71.0-06 (OSS)");
const JETTY: (&str, &str) = ("server", "Jetty(9.4.53.v20231009)");
const NGINX: (&str, &str) = ("server", "nginx/1.25.3");
const LOGIN: &str = "credentials: { user: admin, password: 'env:PATH' }";
const LOGIN_AND_NODE: &str = "credentials: { user: admin, password: 'env:PATH' }\n      node_id: 5A1C-OURS";
const ASPECTS: [&str; 4] = ["status", "writable", "checks", "canary"];

#[tokio::test]
async fn a_healthy_nexus_is_up_by_every_aspect() {
    for aspect in ASPECTS {
        let server = Server::with(healthy()).await;

        let look = look(&server, LOGIN_AND_NODE, aspect).await;

        assert_eq!(look.observation.reading, Up, "{aspect}: {:?}", look.observation.detail);
    }
}

#[tokio::test]
async fn what_is_not_ours_or_not_allowed_reads_the_same_by_every_aspect() {
    let page = "<html>an error page</html>";
    let table = [
        (Reply::of(503, &[JETTY], ""), Down(Reason::ServerError)),
        (Reply::of(500, &[JETTY], ""), Down(Reason::ServerError)),
        (Reply::of(502, &[NGINX], page), Down(Reason::WrongIdentity)),
        (Reply::of(503, &[], page), Down(Reason::WrongIdentity)),
        (Reply::of(504, &[NGINX], page), Down(Reason::WrongIdentity)),
        (Reply::of(404, &[NGINX], page), Down(Reason::WrongIdentity)),
        (Reply::of(410, &[NGINX], page), Down(Reason::WrongIdentity)),
        (Reply::of(401, &[NEXUS], ""), Unknown(Reason::Unauthorized)),
        (Reply::of(401, &[NGINX], ""), Unknown(Reason::Unauthorized)),
        (Reply::of(403, &[NEXUS], ""), Unknown(Reason::Forbidden)),
        (Reply::of(403, &[NGINX], page), Unknown(Reason::Forbidden)),
        (Reply::of(301, &[NGINX, ("location", "https://elsewhere/")], ""), Unknown(Reason::Unmapped)),
        (Reply::of(400, &[NGINX], page), Unknown(Reason::Unmapped)),
        (Reply::of(429, &[NGINX], page), Unknown(Reason::Unmapped)),
        (Reply::of(400, &[NEXUS], page), Unknown(Reason::Unmapped)),
        (Reply::of(404, &[NEXUS], page), Unknown(Reason::Unmapped)),
        (Reply::raw("", Then::Close), Down(Reason::Reset)),
        (Reply::raw("garbage\r\n\r\n", Then::Close), Unknown(Reason::Unparsable)),
    ];
    for (reply, reading) in table {
        for aspect in ASPECTS {
            let server = Server::saying(reply.clone()).await;

            let seen = look(&server, LOGIN, aspect).await.observation;

            let said = String::from_utf8_lossy(&reply.bytes);
            assert_eq!(seen.reading, reading, "{aspect}: {:?}\n{said}", seen.detail);
        }
    }
}

#[tokio::test]
async fn each_aspect_has_its_own_reading_of_a_5xx_of_the_nexus() {
    use Reason::{CanaryRefused, NotWritable, ServerError};
    let table = [
        (503, [ServerError, NotWritable, ServerError, CanaryRefused]),
        (500, [ServerError, ServerError, ServerError, CanaryRefused]),
    ];
    for (code, reasons) in table {
        for (aspect, reason) in ASPECTS.into_iter().zip(reasons) {
            let server = Server::saying(Reply::of(code, &[NEXUS], "")).await;

            assert_eq!(reading(&server, LOGIN, aspect).await, Down(reason), "{aspect} {code}");
        }
    }
}

#[tokio::test]
async fn a_success_of_somebody_else_is_not_ours() {
    let page = Server::saying(Reply::of(200, &[NGINX], "Welcome to nginx!")).await;
    let empty = Server::saying(Reply::of(200, &[NGINX], "")).await;
    let jetty = Server::saying(Reply::of(200, &[JETTY], "another Java program")).await;

    for aspect in ["status", "writable", "canary"] {
        assert_eq!(reading(&page, LOGIN, aspect).await, Down(Reason::WrongIdentity), "{aspect}");
        assert_eq!(reading(&jetty, LOGIN, aspect).await, Down(Reason::WrongIdentity), "{aspect}");
        assert_eq!(reading(&empty, LOGIN, aspect).await, Unknown(Reason::WrongIdentity), "{aspect}");
    }
    assert_eq!(reading(&page, LOGIN, "checks").await, Unknown(Reason::Unparsable));
    assert_eq!(reading(&empty, LOGIN, "checks").await, Unknown(Reason::Unparsable));
}

#[tokio::test]
async fn a_proxy_that_hides_the_header_is_no_obstacle_where_the_node_id_is_known() {
    for aspect in ASPECTS {
        let healthy = healthy();
        let server = Server::with(move |asked| {
            let reply = healthy(asked);
            let text = String::from_utf8(reply.bytes).unwrap().replace("server: Nexus/3.71.0-06 (OSS)\r\n", "");
            Reply::raw(text, Then::Close)
        })
        .await;

        assert_eq!(reading(&server, LOGIN_AND_NODE, aspect).await, Up, "{aspect}");
    }
}

#[tokio::test]
async fn another_nexus_is_told_by_its_node_id() {
    for aspect in ASPECTS {
        for (answer, expected) in [
            (Reply::of(200, &[NEXUS], r#"{"nodeId":"ANOTHER"}"#), Down(Reason::WrongIdentity)),
            (Reply::of(200, &[NEXUS], "no json"), Unknown(Reason::Unparsable)),
            (Reply::of(200, &[NGINX], "no json"), Down(Reason::WrongIdentity)),
            (Reply::of(401, &[NEXUS], ""), Unknown(Reason::Unauthorized)),
            (Reply::of(403, &[NEXUS], ""), Unknown(Reason::Forbidden)),
            (Reply::of(500, &[NEXUS], ""), Down(Reason::ServerError)),
        ] {
            let healthy = healthy();
            let server =
                Server::with(
                    move |asked| {
                        if asked.path.ends_with("/system/node") { answer.clone() } else { healthy(asked) }
                    },
                )
                .await;

            assert_eq!(reading(&server, LOGIN_AND_NODE, aspect).await, expected, "{aspect}");
        }
    }
}

#[tokio::test]
async fn status_and_writable_are_asked_without_credentials_and_the_rest_with() {
    for (aspect, login) in [("status", false), ("writable", false), ("checks", true), ("canary", true)] {
        let server = Server::with(healthy()).await;

        look(&server, LOGIN, aspect).await;

        let asked = &server.asked()[0];
        assert_eq!(asked.header("authorization").is_some(), login, "{aspect}");
        assert_eq!(asked.header("host"), Some("nexus.example.net"));
    }
}

#[tokio::test]
async fn the_named_checks_decide_and_no_others() {
    let check = |body: &'static str| async move {
        let server = Server::saying(Reply::of(200, &[NEXUS], body)).await;
        let look = look(&server, "checks: [Blob Stores Ready, Scheduler]", "checks").await;
        (look.observation.reading, look.observation.detail.unwrap_or_default())
    };

    let fine =
        r#"{"Blob Stores Ready":{"healthy":true},"Scheduler":{"healthy":true},"Available CPUs":{"healthy":false}}"#;
    let sick =
        r#"{"Blob Stores Ready":{"healthy":false,"message":"default: not started"},"Scheduler":{"healthy":true}}"#;
    let missing = r#"{"Blob Stores Ready":{"healthy":true}}"#;
    assert_eq!(check(fine).await.0, Up);
    assert_eq!(check(sick).await, (Down(Reason::CheckFailed), "Blob Stores Ready: default: not started".into()));
    assert_eq!(check(missing).await.0, Unknown(Reason::Unmapped));
    assert_eq!(check("[]").await.0, Unknown(Reason::Unparsable));
    assert_eq!(check(r#"{"Scheduler":{"healthy":"yes"}}"#).await.0, Unknown(Reason::Unparsable));
}

#[tokio::test]
async fn a_canary_is_written_read_back_and_the_place_that_comes_next_is_freed() {
    let server = Server::with(healthy()).await;
    let config = config(server.address, LOGIN, "nexus: canary");
    let probe = probe(&config).await.unwrap();

    for _ in 0..2 {
        assert_eq!(probe.look().await.observation.reading, Up);
    }

    let asked = server.asked();
    let methods: Vec<&str> = asked.iter().map(|a| a.method.as_str()).collect();
    assert_eq!(methods, ["PUT", "GET", "DELETE", "PUT", "GET", "DELETE"]);
    assert!(asked[0].path.starts_with("/repository/dr-canary/understudy/nexus-ddrs/standby-b.watch/canary-"));
    assert_eq!(asked[0].header("content-type"), Some("application/octet-stream"));
    assert_eq!(asked[0].path, asked[1].path, "what was written is read");
    assert_eq!(asked[2].path, asked[3].path, "what was freed is written next");
    assert_ne!(asked[0].path, asked[3].path);
    assert_ne!(asked[0].body, asked[3].body);
    let text = String::from_utf8(asked[0].body.clone()).unwrap();
    assert!(
        text.starts_with("understudy canary\nof standby-b.watch\nnumber ") && text.contains("\nwritten 20"),
        "{text}"
    );
}

#[tokio::test]
async fn a_place_that_is_taken_is_freed_where_the_repository_forbids_overwriting() {
    let (healthy, taken) = (healthy(), Mutex::new(true));
    let server = Server::with(move |asked| match asked.method.as_str() {
        "PUT" if *taken.lock().unwrap() => Reply::of(400, &[NEXUS], "Repository does not allow updating assets"),
        "DELETE" => {
            *taken.lock().unwrap() = false;
            healthy(asked)
        }
        _ => healthy(asked),
    })
    .await;

    assert_eq!(reading(&server, LOGIN, "canary").await, Up);
    let asked = server.asked();
    let methods: Vec<&str> = asked.iter().map(|a| a.method.as_str()).collect();
    assert_eq!(methods, ["PUT", "DELETE", "PUT", "GET", "DELETE"]);
    assert!(asked[1..4].iter().all(|a| a.path == asked[0].path), "{asked:?}");
}

#[tokio::test]
async fn every_way_in_which_a_canary_comes_back_has_its_reading() {
    let cut = "HTTP/1.1 200 OK\r\nserver: Nexus/3.71.0-06 (OSS)\r\ncontent-length: 100\r\n\r\n";
    let table = [
        (Reply::of(200, &[NEXUS], "other bytes"), Down(Reason::CanaryDamaged)),
        (Reply::of(200, &[NEXUS], ""), Down(Reason::CanaryDamaged)),
        (Reply::of(200, &[NEXUS], "x".repeat(100_000)), Down(Reason::CanaryDamaged)),
        (Reply::raw(cut, Then::Close), Down(Reason::CanaryDamaged)),
        (Reply::of(404, &[NEXUS], "<html>"), Down(Reason::CanaryDamaged)),
        (Reply::of(500, &[NEXUS], ""), Down(Reason::ServerError)),
        (Reply::of(503, &[JETTY], ""), Down(Reason::ServerError)),
        (Reply::of(502, &[NGINX], "<html>"), Down(Reason::WrongIdentity)),
        (Reply::of(401, &[NEXUS], ""), Unknown(Reason::Unauthorized)),
        (Reply::of(403, &[NEXUS], ""), Unknown(Reason::Forbidden)),
        (Reply::raw("", Then::Reset), Down(Reason::Reset)),
    ];
    for (reply, expected) in table {
        let (healthy, answer) = (healthy(), reply.clone());
        let server =
            Server::with(move |asked| if asked.method == "GET" { answer.clone() } else { healthy(asked) }).await;

        let seen = reading(&server, LOGIN, "canary").await;

        assert_eq!(seen, expected, "{}", String::from_utf8_lossy(&reply.bytes[..reply.bytes.len().min(80)]));
    }
}

#[tokio::test(start_paused = true)]
async fn a_nexus_that_hangs_is_timed_out_by_every_aspect() {
    for aspect in ASPECTS {
        let server = Server::saying(Reply::raw("", Then::Hang)).await;

        assert_eq!(reading(&server, LOGIN, aspect).await, Down(Reason::TimedOut), "{aspect}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_hangs_is_seen_by_the_canary_alone() {
    let hanging = || {
        let healthy = healthy();
        move |asked: &Asked| if asked.method == "PUT" { Reply::raw("", Then::Hang) } else { healthy(asked) }
    };

    for (aspect, expected) in [("status", Up), ("writable", Up), ("canary", Down(Reason::TimedOut))] {
        let server = Server::with(hanging()).await;

        assert_eq!(reading(&server, LOGIN, aspect).await, expected, "{aspect}");
    }
}

#[tokio::test(start_paused = true)]
async fn freeing_a_place_may_fail_or_hang_and_decides_nothing() {
    for reply in [Reply::raw("", Then::Hang), Reply::of(405, &[NEXUS], ""), Reply::raw("", Then::Reset)] {
        let healthy = healthy();
        let server =
            Server::with(move |asked| if asked.method == "DELETE" { reply.clone() } else { healthy(asked) }).await;

        assert_eq!(reading(&server, LOGIN, "canary").await, Up);
    }
}

#[tokio::test]
async fn nobody_there_is_refused_and_a_huge_answer_is_too_large() {
    let config = config(nobody().await, "", "nexus: status");
    let huge = Server::saying(Reply::of(200, &[NEXUS], "x".repeat(100_000))).await;

    assert_eq!(probe(&config).await.unwrap().look().await.observation.reading, Down(Reason::Refused));
    for aspect in ["status", "writable", "checks"] {
        assert_eq!(reading(&huge, LOGIN, aspect).await, Unknown(Reason::TooLarge), "{aspect}");
    }
}

#[tokio::test]
async fn an_answer_tells_how_far_as_clock_is_from_ours() {
    let server = Server::with(|_| {
        let minute_ago = jiff::Timestamp::now() - jiff::SignedDuration::from_secs(60);
        let date = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&minute_ago).unwrap();
        Reply::of(200, &[NEXUS, ("date", &date)], "")
    })
    .await;
    let sick = Server::saying(Reply::of(503, &[NEXUS, ("date", "Sun, 22 Nov 2026 10:29:50 GMT")], "")).await;

    let error_ms = look(&server, "", "status").await.clock_error_ms.unwrap();

    assert!((60_000..=72_000).contains(&error_ms), "{error_ms}: a minute, a whole second, and the time of the look");
    assert_eq!(look(&sick, "", "status").await.clock_error_ms, None);
}

#[test]
fn the_clock_error_covers_offset_rounding_and_round_trip() {
    let at = |date| clock_error(date, 1_795_343_390_500, Duration::from_millis(40));

    assert_eq!(at("Sun, 22 Nov 2026 10:29:50 GMT"), Some(500 + 1000 + 40));
    assert_eq!(at("Sun, 22 Nov 2026 10:29:55 GMT"), Some(4500 + 1000 + 40));
    assert_eq!(at(""), None);
    assert_eq!(at("yesterday"), None);
}

#[tokio::test]
async fn settings_that_can_not_be_looked_by_are_refused() {
    let at = nobody().await;
    for (nexus, aspect, part) in [
        ("checks: []", "checks", "no check is named"),
        ("node_id: 5A1C", "status", "set nexus.credentials too"),
        ("credentials: { user: admin, password: 'file:/nonexistent' }", "canary", "failed to read a secret"),
    ] {
        let error = probe(&config(at, nexus, &format!("nexus: {aspect}"))).await.err().unwrap();

        assert!(error.to_string().contains(part), "{error}");
    }
}

/// What a healthy Nexus answers, and keeps.
fn healthy() -> impl Fn(&Asked) -> Reply + Send + Sync + 'static {
    let kept: Mutex<BTreeMap<String, Vec<u8>>> = Mutex::default();
    move |asked| {
        let mut kept = kept.lock().unwrap();
        match (asked.method.as_str(), asked.path.as_str()) {
            ("GET", "/service/rest/v1/status" | "/service/rest/v1/status/writable") => Reply::of(200, &[NEXUS], ""),
            ("GET", "/service/rest/v1/system/node") => Reply::of(200, &[NEXUS], r#"{"nodeId":"5A1C-OURS"}"#),
            ("GET", "/service/rest/v1/status/check") => {
                let names = [
                    "Lifecycle Phase",
                    "Read-Only Detector",
                    "Blob Stores Ready",
                    "File Blob Stores Path",
                    "Scheduler",
                ];
                let checks: Vec<String> =
                    names.iter().map(|name| format!(r#""{name}":{{"healthy":true,"message":null}}"#)).collect();
                Reply::of(200, &[NEXUS], format!("{{{}}}", checks.join(",")))
            }
            ("PUT", path) => {
                kept.insert(path.to_owned(), asked.body.clone());
                Reply::of(201, &[NEXUS], "")
            }
            ("GET", path) => match kept.get(path) {
                Some(body) => Reply::of(200, &[NEXUS], body),
                None => Reply::of(404, &[NEXUS], "<html>"),
            },
            ("DELETE", path) => Reply::of(if kept.remove(path).is_some() { 204 } else { 404 }, &[NEXUS], ""),
            _ => Reply::of(405, &[NEXUS], ""),
        }
    }
}

async fn look(server: &Server, nexus: &str, aspect: &str) -> crate::Look {
    let config = config(server.address, nexus, &format!("nexus: {aspect}"));
    probe(&config).await.unwrap().look().await
}

async fn reading(server: &Server, nexus: &str, aspect: &str) -> Reading {
    look(server, nexus, aspect).await.observation.reading
}
