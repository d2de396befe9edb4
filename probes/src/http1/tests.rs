use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Poll, Wake};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, ReadBuf, duplex};
use tokio::task::{coop, yield_now};
use tokio::time::timeout;

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
        let waited = timeout(PATIENCE, get(&url)).await;

        assert!(waited.is_err(), "{scheme}: {waited:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_stops_without_an_end_takes_the_callers_patience() {
    for head in ["content-length: 10", "transfer-encoding: chunked", "x: until the connection ends"] {
        let server = Server::saying(Reply::raw(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n5\r\n"), Then::Hang)).await;

        let waited = timeout(PATIENCE, get(&server.url(("http", "/")))).await;

        assert!(waited.is_err(), "{head}: {waited:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_comes_byte_by_byte_comes_back_whole() {
    let slow = [
        "content-length: 5\r\n\r\nhello",
        "transfer-encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
        "\r\nhello",
    ];
    for rest in slow {
        for hint in ["", "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n"] {
            let bytes = format!("{hint}HTTP/1.1 200 OK\r\n{rest}");
            let (ours, theirs) = duplex(1);
            tokio::spawn(drip(theirs, bytes.clone().into_bytes()));

            let answer = timeout(PATIENCE, exchange(ours, &any_call(Keep::Whole))).await.expect(&bytes).unwrap();

            assert_eq!((answer.status, &answer.body[..]), (StatusCode::OK, &b"hello"[..]), "{bytes:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_of_thousands_of_chunks_comes_back_whole() {
    let chunks = "1\r\nx\r\n".repeat(LONGEST_BODY);
    let bytes = format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{chunks}0\r\n\r\n");
    let server = Server::saying(Reply::raw(bytes, Then::Hang)).await;

    let answer = timeout(PATIENCE, get(&server.url(("http", "/")))).await.expect("it lies ready").unwrap();

    assert_eq!((answer.body.len(), answer.cut), (LONGEST_BODY, false));
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_not_lost_to_a_task_whose_turn_is_used_up() {
    // tokio puts a task off after this many things that were ready, and what is put off is woken: without a waker, never.
    const TURN: usize = 128;
    for keep in [Keep::Nothing, Keep::Beginning, Keep::Whole] {
        let call = any_call(keep);
        let mut look = pin!(exchange(Canned::saying(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"), &call));
        let mut polls = 0;
        let starved = poll_fn(|cx| {
            polls += 1;
            let used = if polls == 2 { TURN } else { 0 };
            (0..used).for_each(|_| assert!(pin!(coop::consume_budget()).poll(cx).is_ready()));
            look.as_mut().poll(cx)
        });

        let answer = timeout(PATIENCE, starved).await.unwrap_or_else(|_| panic!("{keep:?}")).unwrap();

        assert_eq!(answer.status, 200);
        assert!(polls >= 2, "the answer came with the first poll, when the turn was fresh");
    }
}

#[test]
fn an_answer_wakes_its_look_once() {
    // A wake of the task that is running already costs another thread a turn: a thousand looks a second feel it.
    for bytes in [
        &b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"[..],
        b"HTTP/1.1 200 OK\r\n\r\nok",
        b"HTTP/1.1 204 Nothing\r\n\r\n",
    ] {
        let (wakes, call) = (Arc::new(Wakes::default()), any_call(Keep::Nothing));
        let waker = wakes.clone().into();
        let mut look = Box::pin(exchange(Canned::saying(bytes), &call));

        let asked = look.as_mut().poll(&mut Context::from_waker(&waker));
        let answered = look.as_mut().poll(&mut Context::from_waker(&waker));
        drop(look);

        assert!(matches!((&asked, &answered), (Poll::Pending, Poll::Ready(Ok(_)))), "{asked:?} {answered:?}");
        assert_eq!(wakes.0.load(Ordering::Relaxed), 1, "by the connection, when there was something to read");
    }
}

#[tokio::test(start_paused = true)]
async fn the_connection_ends_with_the_look() {
    for (keep, given_up) in [(Keep::Nothing, false), (Keep::Whole, true)] {
        let (ours, mut theirs) = duplex(1024);
        let serve = async {
            let mut asked = Vec::new();
            theirs.read_buf(&mut asked).await.unwrap();
            theirs.write_all(b"HTTP/1.1 200 OK\r\n\r\nendless").await.unwrap();
            timeout(2 * PATIENCE, theirs.read_to_end(&mut asked)).await.expect("the connection ends").unwrap();
        };
        let call = any_call(keep);

        let (look, ()) = tokio::join!(timeout(PATIENCE, exchange(ours, &call)), serve);

        assert_eq!(look.is_err(), given_up, "{look:?}");
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
    while let Ok(Ok(stream)) = timeout(PATIENCE, TcpStream::connect(address)).await {
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

fn any_call(keep: Keep) -> Call {
    target(&"http://127.0.0.1/".parse().unwrap(), None, None).unwrap().call(keep).unwrap()
}

/// Says `bytes` one by one, each when the one before was taken, and then nothing more.
async fn drip(mut stream: DuplexStream, bytes: Vec<u8>) {
    let mut asked = Vec::new();
    while !asked.ends_with(b"\r\n\r\n") {
        stream.read_buf(&mut asked).await.unwrap();
    }
    for byte in bytes {
        if stream.write_u8(byte).await.is_err() {
            return; // Whoever has heard the whole answer hangs up.
        }
        yield_now().await;
    }
}

/// A connection whose other side takes everything, and has answered as soon as something was said to it.
struct Canned {
    left: &'static [u8],
    asked: bool,
    reader: Option<Waker>,
}

impl Canned {
    fn saying(left: &'static [u8]) -> Self {
        Self { left, asked: false, reader: None }
    }
}

impl AsyncRead for Canned {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.asked {
            self.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let (now, later) = self.left.split_at(self.left.len().min(into.remaining()));
        into.put_slice(now);
        self.left = later;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Canned {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.asked = true;
        self.reader.take().into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Counts how often a task was woken.
#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}
