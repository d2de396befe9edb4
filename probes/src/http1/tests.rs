use std::path::Path;

use super::*;
use crate::testing::{Identity, PATIENCE, Reply, Server, Then, nobody, reading_of};

#[tokio::test]
async fn an_answer_comes_back_whole() {
    let server = Server::saying(Reply::of(418, &[("server", "Teapot")], "short and stout")).await;

    let answer = get(&server.url(("http", "/tea?milk=no"))).await.unwrap();

    assert_eq!(answer.status, 418);
    assert_eq!(answer.header("server"), "Teapot");
    assert_eq!(&answer.body[..], b"short and stout");
    assert_eq!(server.asked()[0].path, "/tea?milk=no");
    assert_eq!(server.asked()[0].header("host"), Some(server.address.to_string().as_str()));
}

#[tokio::test]
async fn each_request_has_a_connection_of_its_own_and_no_redirect_is_followed() {
    let server = Server::saying(Reply::of(302, &[("location", "/elsewhere")], "")).await;
    let target = target(&server.url(("http", "/")), None, None).unwrap();
    let call = target.call(Keep::Whole).unwrap();

    // The server answers one request a connection: a kept one would fail.
    for _ in 0..3 {
        assert_eq!(target.send(&call).await.unwrap().status, 302);
    }

    assert_eq!(server.asked().len(), 3);
}

#[tokio::test]
async fn connect_to_changes_the_address_and_nothing_else() {
    let identity = Identity::of(&["nexus.example.net"]);
    let server = Server::secure(&identity, |_| Reply::of(200, &[], "")).await;
    let url = "https://nexus.example.net/status".parse().unwrap();

    let answer = send(&url, Some(server.address), Some(identity.ca.path())).await.unwrap();

    assert_eq!(answer.status, 200);
    assert_eq!(server.asked()[0].header("host"), Some("nexus.example.net"));
}

#[tokio::test]
async fn a_certificate_of_another_name_or_another_root_is_a_tls_fault() {
    let (identity, other) = (Identity::of(&["nexus.example.net"]), Identity::of(&["nexus.example.net"]));
    let server = Server::secure(&identity, |_| Reply::of(200, &[], "")).await;
    let wrong_name = "https://other.example.net/".parse().unwrap();
    let right_name = "https://nexus.example.net/".parse().unwrap();

    let name = send(&wrong_name, Some(server.address), Some(identity.ca.path())).await;
    let root = send(&right_name, Some(server.address), Some(other.ca.path())).await;
    let system = send(&right_name, Some(server.address), None).await;

    assert_eq!(reading_of(name), Reading::Unknown(Reason::Tls));
    assert_eq!(reading_of(root), Reading::Unknown(Reason::Tls));
    assert_eq!(reading_of(system), Reading::Unknown(Reason::Tls));
    assert_eq!(server.asked().len(), 0);
}

#[tokio::test]
async fn plain_http_where_tls_is_spoken_is_a_tls_fault() {
    let server = Server::saying(Reply::of(400, &[], "plain HTTP was sent to an HTTPS port")).await;
    let garbage = Server::listener(b"HTTP/1.1 400 Bad Request\r\n\r\n", Then::Close).await;
    drop(server);

    let url = format!("https://{garbage}/").parse().unwrap();

    assert_eq!(reading_of(get(&url).await), Reading::Unknown(Reason::Tls));
}

#[tokio::test]
async fn nobody_listening_is_refused() {
    let url = format!("http://{}/", nobody().await).parse().unwrap();

    assert_eq!(reading_of(get(&url).await), Reading::Down(Reason::Refused));
}

#[tokio::test]
async fn a_connection_that_ends_before_the_answer_is_reset() {
    for (bytes, then) in [
        (&b""[..], Then::Close),
        (b"", Then::Reset),
        (b"HTTP/1.1 200 OK\r\ncontent-le", Then::Close),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nfive.", Then::Close),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nfive.", Then::Reset),
    ] {
        let server = Server::saying(Reply::raw(bytes, then)).await;

        let fault = get(&server.url(("http", "/"))).await.unwrap_err();

        assert_eq!(fault.reading, Reading::Down(Reason::Reset), "{bytes:?} {then:?}: {}", fault.detail);
    }
}

#[tokio::test]
async fn a_connection_that_ends_within_the_handshake_is_reset() {
    let address = Server::listener(b"", Then::Close).await;
    let url = format!("https://{address}/").parse().unwrap();

    let fault = get(&url).await.unwrap_err();

    assert_eq!((fault.stage, fault.reading), (Stage::Tls, Reading::Down(Reason::Reset)), "{}", fault.detail);
}

#[tokio::test]
async fn a_body_that_breaks_off_is_told_from_a_head_that_does() {
    let server = Server::saying(Reply::raw("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n", Then::Close)).await;

    assert_eq!(get(&server.url(("http", "/"))).await.unwrap_err().stage, Stage::Body);
}

#[tokio::test]
async fn what_is_no_http_is_unparsable() {
    let server = Server::saying(Reply::raw("SSH-2.0-OpenSSH_9.2\r\n\r\n", Then::Close)).await;

    assert_eq!(reading_of(get(&server.url(("http", "/"))).await), Reading::Unknown(Reason::Unparsable));
}

#[tokio::test]
async fn huge_and_endless_answers_are_cut_off() {
    let huge_head = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(64 * 1024));
    let many_headers = format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(101));
    let huge_body = format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(LONGEST_BODY + 1));
    let endless_head = format!("HTTP/1.1 200 OK\r\nx: {}", "y".repeat(1024 * 1024));

    for bytes in [huge_head, many_headers, huge_body, endless_head] {
        let server = Server::saying(Reply::raw(bytes, Then::Hang)).await;

        let fault = get(&server.url(("http", "/"))).await.unwrap_err();

        assert_eq!(fault.reading, Reading::Unknown(Reason::TooLarge), "{}", fault.detail);
    }
}

#[tokio::test]
async fn only_as_much_of_the_body_is_read_as_is_wanted() {
    let endless = format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(LONGEST_BODY + 1));
    let server = Server::saying(Reply::raw(endless, Then::Hang)).await;
    let target = target(&server.url(("http", "/")), None, None).unwrap();

    let nothing = target.send(&target.call(Keep::Nothing).unwrap()).await.unwrap();
    let beginning = target.send(&target.call(Keep::Beginning).unwrap()).await.unwrap();

    assert_eq!((nothing.body.len(), nothing.cut), (0, true));
    assert_eq!((beginning.body.len(), beginning.cut), (LONGEST_BODY, true));
}

#[tokio::test(start_paused = true)]
async fn a_frozen_server_takes_the_connection_and_then_the_callers_patience() {
    let address = Server::listener(b"", Then::Hang).await;

    for scheme in ["http", "https"] {
        let url = format!("{scheme}://{address}/").parse().unwrap();
        let waited = tokio::time::timeout(PATIENCE, get(&url)).await;

        assert!(waited.is_err(), "{scheme}: {waited:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn no_connection_in_time_is_timed_out() {
    // A full accept queue: the kernel drops further connection attempts silently.
    let full = tokio::net::TcpSocket::new_v4().unwrap();
    full.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = full.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut kept = Vec::new();
    while let Ok(Ok(stream)) = tokio::time::timeout(PATIENCE, TcpStream::connect(address)).await {
        kept.push(stream);
    }

    let fault = get(&format!("http://{address}/").parse().unwrap()).await.unwrap_err();

    assert_eq!((fault.stage, fault.reading), (Stage::Connect, Reading::Down(Reason::TimedOut)));
}

#[tokio::test]
async fn a_name_that_nobody_knows_is_a_fault_of_ours() {
    // RFC 6761: never resolves. Whether a resolver says so or none is reachable, it is not the target's fault.
    let url = "http://nothing.invalid/".parse().unwrap();

    assert_eq!(reading_of(get(&url).await), Reading::Unknown(Reason::LocalDns));
}

#[tokio::test]
async fn all_addresses_of_a_name_are_tried() {
    let server = Server::saying(Reply::of(200, &[], "")).await;
    // `localhost` is ::1 too on many machines, where nobody listens at this port.
    let url = format!("http://localhost:{}/", server.address.port()).parse().unwrap();

    assert_eq!(get(&url).await.unwrap().status, 200);
}

#[test]
fn urls_that_can_not_be_looked_at_are_refused_without_repeating_a_secret() {
    for (url, part) in [("ftp://host/", "only http and https"), ("http://user:hunter2@host/", "credentials")] {
        let error = target(&url.parse().unwrap(), None, None).err().unwrap().to_string();

        assert!(error.contains(part) && !error.contains("hunter2"), "{error}");
    }
}

#[test]
fn a_missing_or_empty_file_of_roots_is_named() {
    let empty = tempfile::NamedTempFile::new().unwrap();
    let url: Url = "https://host.example.net/".parse().unwrap();

    let missing = target(&url, None, Some(Path::new("/nonexistent/ca.pem"))).err().unwrap().to_string();
    let empty_of_roots = target(&url, None, Some(empty.path())).err().unwrap().to_string();

    assert!(missing.contains("/nonexistent/ca.pem"), "{missing}");
    assert!(empty_of_roots.contains("it holds no certificate"), "{empty_of_roots}");
}

#[test]
fn a_password_is_never_shown() {
    let target = target(&"http://127.0.0.1/".parse().unwrap(), None, None).unwrap();
    let call = target.call(Keep::Whole).unwrap().with_user("admin", &SecretString::from("hunter2")).unwrap();

    assert_eq!(call.headers[AUTHORIZATION], "Basic YWRtaW46aHVudGVyMg==");
    assert!(!format!("{:?}", call.headers).contains("YWRtaW46"), "{:?}", call.headers);
}

fn target(url: &Url, connect_to: Option<std::net::SocketAddr>, ca: Option<&Path>) -> Result<Target, ProbeError> {
    let connect_to = connect_to.map(|to| ConnectTo { ip: to.ip(), port: Some(to.port()) });
    Target::new(&Reach { url, connect_to, ca }, PATIENCE, &mut Shared::new())
}

async fn send(url: &Url, connect_to: Option<std::net::SocketAddr>, ca: Option<&Path>) -> Result<Answer, Fault> {
    let target = target(url, connect_to, ca).unwrap();
    target.send(&target.call(Keep::Whole).unwrap()).await
}

async fn get(url: &Url) -> Result<Answer, Fault> {
    send(url, None, None).await
}
