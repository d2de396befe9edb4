use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Mutex;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use secrecy::SecretString;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::mpsc;
use understudy_core::{Record, Refusal, RequestId};

use super::*;
use crate::handle::{Ask, channel};
use crate::journal::Journal;
use crate::samples::{self, failover};

const PATHS: [&str; 5] =
    ["/v1/status", "/v1/pairs/nexus/why", "/v1/runs", "/v1/runs/nexus-1/report", "/v1/journal?after=0"];

#[tokio::test]
async fn everything_is_served_on_the_local_socket() {
    let daemon = Daemon::start("").await;

    for path in PATHS {
        let (status, body) = daemon.get(path).await;
        assert_eq!(status, 200, "{path}: {body}");
    }
    let (_, body) = daemon.get("/v1/status").await;
    let status: Status = serde_json::from_str(&body).unwrap();
    assert_eq!((status.site.as_str(), &status.view), ("standby-b", &samples::view()));
    assert_eq!(status.progress[&PairName::from("nexus")][&Step::Deploy], "2 of 3 pods");
    assert!(daemon.get("/metrics").await.1.contains("understudy_verdict"));
}

#[tokio::test]
async fn the_local_socket_is_for_owner_and_group_alone() {
    let daemon = Daemon::start("").await;

    let mode = std::fs::metadata(daemon.socket()).unwrap().permissions().mode();

    assert_eq!(mode & 0o777, 0o660);
}

#[tokio::test]
async fn an_order_is_given_in_the_name_of_the_peers_uid() {
    let daemon = Daemon::start("").await;
    let uid = rustix::process::getuid().as_raw();

    let (status, body) = daemon.post(r#"{"pair":"nexus","order":{"order":"resume"}}"#).await;

    assert_eq!((status, body.as_str()), (200, r#"{"answer":"resumed"}"#));
    assert_eq!(daemon.orders(), [("nexus".into(), format!("uid {uid}"), Order::Resume)]);
}

#[tokio::test]
async fn a_refusal_is_told_with_its_reason() {
    let daemon = Daemon::start("").await;

    let (status, body) = daemon.post(r#"{"pair":"nexus","order":{"order":"unblock"}}"#).await;

    assert_eq!((status, body.as_str()), (409, r#"{"error":"no recovery block is in force"}"#));
}

#[tokio::test]
async fn what_is_no_order_is_refused_and_never_reaches_the_loop() {
    let daemon = Daemon::start("").await;

    for body in ["", "{", r#"{"pair":"nexus"}"#, r#"{"pair":"nexus","order":{"order":"dance"}}"#] {
        assert_eq!(daemon.post(body).await.0, 400, "{body}");
    }
    let (status, why) = daemon.post(r#"{"pair":"nexus","order":{"order":"resume"},"force":true}"#).await;
    assert_eq!(status, 400);
    assert!(why.contains("unknown field `force`"), "{why}");
    assert_eq!(daemon.post(&" ".repeat(100_000)).await.0, 413);
    assert_eq!(daemon.orders(), []);
}

#[tokio::test]
async fn what_does_not_exist_is_named() {
    let daemon = Daemon::start("").await;

    let (status, body) = daemon.get("/v1/pairs/other/why").await;
    assert_eq!(status, 404);
    assert!(body.contains("configured are: nexus"), "{body}");
    assert_eq!(daemon.get("/v1/runs/other-9/report").await.0, 404);
    assert_eq!(daemon.get("/v2").await.0, 404);
    assert_eq!(daemon.get("/v1/orders").await.0, 405);
}

#[tokio::test]
async fn over_plain_tcp_there_is_health_and_nothing_else() {
    let daemon = Daemon::start("listen: { address: 127.0.0.1:0 }").await;

    assert_eq!(daemon.plain("/live").await, (204, String::new()));
    assert_eq!(daemon.plain("/ready").await, (204, String::new()));
    for path in PATHS.into_iter().chain(["/metrics", "/v1/witness/nexus?nonce=12345678"]) {
        assert_eq!(daemon.plain(path).await.0, 404, "{path}");
    }
}

#[tokio::test]
async fn metrics_are_served_over_tcp_only_where_the_file_says_so() {
    let daemon = Daemon::start("listen: { address: 127.0.0.1:0, metrics: true }").await;

    let (status, text) = daemon.plain("/metrics").await;

    assert_eq!(status, 200);
    assert!(text.ends_with("# EOF\n"), "{text}");
}

#[tokio::test]
async fn a_daemon_that_has_not_yet_begun_is_alive_but_not_ready() {
    let daemon = Daemon::with("listen: { address: 127.0.0.1:0 }", false).await;

    assert_eq!(daemon.plain("/live").await.0, 204);
    assert_eq!(daemon.plain("/ready").await.0, 503);
}

#[tokio::test]
async fn over_tls_every_path_asks_for_a_token() {
    let daemon = Daemon::start(&with_tls()).await;

    for path in PATHS {
        let (status, body) = daemon.tls("GET", path, None, "").await;
        assert_eq!(status, 401, "{path}: {body}");
        assert_eq!(daemon.tls("GET", path, Some("wrong"), "").await.0, 401, "{path}");
        assert_eq!(daemon.tls("GET", path, Some("look"), "").await.0, 200, "{path}");
    }
    assert_eq!(daemon.tls("POST", "/v1/orders", None, "{}").await.0, 401);
    assert_eq!(daemon.tls("GET", "/live", None, "").await.0, 204);
}

#[tokio::test]
async fn each_role_may_do_what_it_includes_and_nothing_more() {
    let daemon = Daemon::start(&with_tls()).await;
    let approve = r#"{"pair":"nexus","order":{"order":"approve","request":"nexus-1"}}"#;
    let resume = r#"{"pair":"nexus","order":{"order":"resume"}}"#;
    let mut allowed = vec![];

    for token in ["look", "answer", "operate"] {
        for body in [approve, resume] {
            allowed.push(daemon.tls("POST", "/v1/orders", Some(token), body).await.0);
        }
    }

    assert_eq!(allowed, [403, 403, 200, 403, 200, 200]);
    let authors: Vec<String> = daemon.orders().into_iter().map(|(_, by, _)| by).collect();
    assert_eq!(authors, ["token annie", "token olga", "token olga"]);
}

#[tokio::test]
async fn an_order_beyond_ones_role_is_journaled_and_so_is_a_forged_token_but_not_every_one() {
    let daemon = Daemon::start(&with_tls()).await;
    let resume = r#"{"pair":"nexus","order":{"order":"resume"}}"#;

    daemon.tls("POST", "/v1/orders", Some("look"), resume).await;
    for _ in 0..5 {
        daemon.tls("POST", "/v1/orders", Some("forged"), resume).await;
    }

    let authors: Vec<String> = daemon.noted().iter().map(|r| refused_by(r).to_owned()).collect();
    assert_eq!(authors, ["token vera", "unknown token from 127.0.0.1"]);
}

#[tokio::test]
async fn a_token_that_was_replaced_is_void_at_once() {
    let daemon = Daemon::start(&with_tls()).await;
    assert_eq!(daemon.tls("GET", "/v1/status", Some("look"), "").await.0, 200);

    secret_file(&daemon.dir.path().join("look"), "other");

    assert_eq!(daemon.tls("GET", "/v1/status", Some("look"), "").await.0, 401);
    assert_eq!(daemon.tls("GET", "/v1/status", Some("other"), "").await.0, 200);
}

#[tokio::test]
async fn a_renewed_certificate_is_served_without_a_restart() {
    let daemon = Daemon::start(&with_tls()).await;
    let first = daemon.certificate().await;

    certificate(daemon.dir.path());
    let later = std::time::SystemTime::now() + Duration::from_secs(10);
    let file = std::fs::File::options().write(true).open(daemon.dir.path().join("tls.crt")).unwrap();
    file.set_modified(later).unwrap();

    assert_ne!(daemon.certificate().await, first);
}

#[tokio::test]
async fn a_witness_signs_its_answer_over_the_askers_nonce() {
    let daemon =
        Daemon::start("listen: { address: 127.0.0.1:0, witness: { kind: third_site, secret: \"file:DIR/witness\" } }")
            .await;
    let nonce = "0123456789abcdef";

    let stream = TcpStream::connect(daemon.address.unwrap()).await.unwrap();
    let path = format!("/v1/witness/nexus?nonce={nonce}");
    let (status, headers, body) = ask(stream, "GET", &path, None, "").await;

    let secret = SecretString::from("witness".to_owned());
    assert_eq!(status, 200, "{body}");
    assert_eq!(headers[understudy_probes::SIGNATURE], understudy_probes::sign(&secret, nonce, body.as_bytes()));
    let said: understudy_probes::Testimony = serde_json::from_str(&body).unwrap();
    assert_eq!((said.nonce.as_str(), said.pair.as_str(), said.domains.len()), (nonce, "nexus", 1));
    assert_eq!(daemon.plain("/v1/witness/nexus?nonce=a.b").await.0, 400);
    assert_eq!(daemon.plain("/v1/witness/nexus").await.0, 400);
}

#[tokio::test]
async fn a_port_in_use_is_told_with_the_remedy() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let listen = format!("listen: {{ address: \"{}\" }}", taken.local_addr().unwrap());

    let error = Api::bind(&config(dir.path(), &listen)).await.err().unwrap();

    let expected = format!("failed to listen on {}: another program has it", taken.local_addr().unwrap());
    assert!(error.to_string().starts_with(&expected), "{error}");
}

#[tokio::test]
async fn a_socket_of_a_daemon_that_is_gone_is_replaced_but_a_file_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(SOCKET);
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(Api::bind(&config(dir.path(), "")).await.is_ok());

    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "precious").unwrap();
    let error = Api::bind(&config(dir.path(), "")).await.err().unwrap();

    assert!(matches!(error, ApiError::Bind { .. }), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");
}

#[tokio::test]
async fn a_state_directory_with_too_long_a_path_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let deep = dir.path().join("d".repeat(100));
    std::fs::create_dir(&deep).unwrap();

    let error = Api::bind(&config(&deep, "")).await.err().unwrap();

    assert!(error.to_string().contains("at most 107): choose a state directory"), "{error}");
}

#[tokio::test]
async fn missing_or_foreign_files_of_tls_and_tokens_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let listen = with_tls().replace("DIR", &dir.path().display().to_string());

    let no_token = Api::bind(&config(dir.path(), &listen)).await.err().unwrap();
    assert!(no_token.to_string().contains(&format!("{}/look", dir.path().display())), "{no_token}");

    secrets(dir.path());
    std::fs::write(dir.path().join("tls.crt"), "no certificate").unwrap();
    let no_certificate = Api::bind(&config(dir.path(), &listen)).await.err().unwrap();
    assert!(matches!(&no_certificate, ApiError::Tls { path, .. } if path.ends_with("tls.crt")), "{no_certificate}");
}

#[tokio::test]
async fn a_second_request_on_the_same_connection_is_not_served() {
    let daemon = Daemon::start("").await;
    let mut stream = UnixStream::connect(daemon.socket()).await.unwrap();

    let request = "GET /live HTTP/1.1\r\nhost: x\r\n\r\n".repeat(2);
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();

    assert_eq!(answer.matches("HTTP/1.1 204").count(), 1, "{answer}");
}

#[tokio::test]
async fn a_stopped_daemon_closes_connections_that_ask_nothing() {
    let daemon = Daemon::start("").await;
    let mut idle = UnixStream::connect(daemon.socket()).await.unwrap();
    assert_eq!(daemon.get("/live").await.0, 204);

    daemon.stop.cancel();
    daemon.serving.await.unwrap();

    let mut nothing = String::new();
    assert_eq!(idle.read_to_string(&mut nothing).await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_does_not_come_to_an_end_is_given_up() {
    let daemon = Daemon::start("").await;
    let mut slow = UnixStream::connect(daemon.socket()).await.unwrap();
    slow.write_all(b"GET /live HTTP/1.1\r\nhost:").await.unwrap();

    let mut answer = String::new();
    slow.read_to_string(&mut answer).await.unwrap();

    assert!(!answer.contains("204"), "{answer}");
}

#[tokio::test]
async fn a_crowd_on_tcp_does_not_keep_the_local_operator_out() {
    let daemon = Daemon::start("listen: { address: 127.0.0.1:0 }").await;
    let mut crowd = vec![];
    for _ in 0..80 {
        crowd.push(TcpStream::connect(daemon.address.unwrap()).await.unwrap());
    }

    assert_eq!(daemon.get("/live").await.0, 204);
}

fn refused_by(record: &Record) -> &str {
    match record {
        Record::Refused { by, .. } => by,
        other => panic!("{other:?}"),
    }
}

fn with_tls() -> String {
    "listen:
  address: 127.0.0.1:0
  tls: { certificate: DIR/tls.crt, key: DIR/tls.key }
  tokens:
    - { subject: vera, role: viewer, token: \"file:DIR/look\" }
    - { subject: annie, role: approver, token: \"file:DIR/answer\" }
    - { subject: olga, role: operator, token: \"file:DIR/operate\" }
"
    .to_owned()
}

/// An API with a loop that says what the samples say.
struct Daemon {
    dir: TempDir,
    address: Option<std::net::SocketAddr>,
    stop: CancellationToken,
    serving: tokio::task::JoinHandle<()>,
    heard: Arc<Mutex<Heard>>,
}

#[derive(Default)]
struct Heard {
    orders: Vec<(PairName, String, Order)>,
    noted: Vec<Record>,
}

impl Daemon {
    async fn start(listen: &str) -> Self {
        Self::with(listen, true).await
    }

    async fn with(listen: &str, ready: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        secrets(dir.path());
        certificate(dir.path());
        let (mut journal, _) = Journal::open(dir.path(), 1 << 20).unwrap();
        for (at, record) in failover() {
            journal.append(at, &[record], false).unwrap();
        }
        let listen = listen.replace("DIR", &dir.path().display().to_string());
        let api = Api::bind(&config(dir.path(), &listen)).await.unwrap();
        let address = api.address();
        let (handle, asks) = channel();
        if ready {
            handle.set_ready();
        }
        let heard = Arc::<Mutex<Heard>>::default();
        tokio::spawn(answer(asks, heard.clone()));
        let progress = Arc::new(|_| BTreeMap::from([(Step::Deploy, "2 of 3 pods".to_owned())]));
        let stop = CancellationToken::new();
        let means = Means { handle, metrics: Arc::default(), progress };
        let serving = tokio::spawn(api.serve(means, stop.clone()));
        Self { dir, address, stop, serving, heard }
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join(SOCKET)
    }

    fn orders(&self) -> Vec<(PairName, String, Order)> {
        self.heard.lock().unwrap().orders.clone()
    }

    fn noted(&self) -> Vec<Record> {
        self.heard.lock().unwrap().noted.clone()
    }

    async fn get(&self, path: &str) -> (u16, String) {
        let stream = UnixStream::connect(self.socket()).await.unwrap();
        let (status, _, body) = ask(stream, "GET", path, None, "").await;
        (status, body)
    }

    async fn post(&self, body: &str) -> (u16, String) {
        let stream = UnixStream::connect(self.socket()).await.unwrap();
        let (status, _, body) = ask(stream, "POST", "/v1/orders", None, body).await;
        (status, body)
    }

    async fn plain(&self, path: &str) -> (u16, String) {
        let stream = TcpStream::connect(self.address.unwrap()).await.unwrap();
        let (status, _, body) = ask(stream, "GET", path, None, "").await;
        (status, body)
    }

    async fn tls(&self, method: &str, path: &str, token: Option<&str>, body: &str) -> (u16, String) {
        let (status, _, body) = ask(self.handshake().await, method, path, token, body).await;
        (status, body)
    }

    async fn certificate(&self) -> Vec<u8> {
        let stream = self.handshake().await;
        stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
    }

    async fn handshake(&self) -> tokio_rustls::client::TlsStream<TcpStream> {
        let mut roots = rustls::RootCertStore::empty();
        let file = self.dir.path().join("tls.crt");
        roots.add(rustls::pki_types::CertificateDer::from_pem_file(file).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = builder.unwrap().with_root_certificates(roots).with_no_client_auth();
        let stream = TcpStream::connect(self.address.unwrap()).await.unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        connector.connect("localhost".try_into().unwrap(), stream).await.unwrap()
    }
}

async fn answer(mut asks: mpsc::Receiver<Ask>, heard: Arc<Mutex<Heard>>) {
    while let Some(ask) = asks.recv().await {
        match ask {
            Ask::Alive { reply } => reply.send(()).unwrap_or_default(),
            Ask::View { reply } => drop(reply.send(Arc::new(samples::view()))),
            Ask::Order { pair, by, order, reply } => {
                let answer = match &order {
                    Order::Resume => Ok("resumed".to_owned()),
                    Order::Approve { request, .. } if *request == RequestId::from("nexus-1") => Ok("approved".into()),
                    _ => Err(Refusal::new("no recovery block is in force")),
                };
                heard.lock().unwrap().orders.push((pair, by, order));
                drop(reply.send(answer));
            }
            Ask::Note { record } => heard.lock().unwrap().noted.push(record),
        }
    }
}

async fn ask<S>(stream: S, method: &str, path: &str, token: Option<&str>, body: &str) -> (u16, http::HeaderMap, String)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    let mut request = http::Request::builder().method(method).uri(path).header("host", "understudy");
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let request = request.body(Full::new(Bytes::from(body.to_owned()))).unwrap();
    let answer = sender.send_request(request).await.unwrap();
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    drop(sender);
    drop(connection.await);
    (status, headers, String::from_utf8(body.to_vec()).unwrap())
}

/// The smallest settings that the API needs, read as a file is.
fn config(directory: &Path, listen: &str) -> Config {
    let text = format!(
        "site: standby-b
mode: confirm
state: {{ file: \"{}\" }}
self_checks: []
pairs: []
{listen}",
        directory.display()
    );
    Config::from_text("test", &text, []).unwrap().config
}

fn secrets(directory: &Path) {
    for name in ["look", "answer", "operate", "witness"] {
        secret_file(&directory.join(name), name);
    }
}

fn secret_file(path: &Path, content: &str) {
    std::fs::write(path, content).unwrap();
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o600)).unwrap();
}

fn certificate(directory: &Path) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(directory.join("tls.crt"), made.cert.pem()).unwrap();
    std::fs::write(directory.join("tls.key"), made.signing_key.serialize_pem()).unwrap();
}
