//! Servers on loopback that do as the test says.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use understudy_config::Config;
use understudy_core::{Reading, Site};
use url::Url;

use crate::shared::{Shared, provider};
use crate::{Probe, ProbeError};

/// Long enough for everything on loopback. Where it is to run out, time is paused.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A request as a server saw it.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

/// What a server does with a request.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) bytes: Vec<u8>,
    pub(crate) then: Then,
}

/// What a server does after its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    Close,
    Hang,
    Reset,
}

impl Reply {
    /// An answer with status, headers and body.
    pub(crate) fn of(status: u16, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Self {
        let body = body.as_ref();
        let mut head = format!("HTTP/1.1 {status} Said\r\ncontent-length: {}\r\n", body.len());
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        Self { bytes: [head.as_bytes(), b"\r\n", body].concat(), then: Then::Close }
    }

    /// Bytes as they are.
    pub(crate) fn raw(bytes: impl Into<Vec<u8>>, then: Then) -> Self {
        Self { bytes: bytes.into(), then }
    }
}

/// A server on loopback.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    /// Answers every request by `script`.
    pub(crate) async fn with(script: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        Self::listening(None, script).await
    }

    /// Answers every request with the same.
    pub(crate) async fn saying(reply: Reply) -> Self {
        Self::with(move |_| reply.clone()).await
    }

    /// The same over TLS.
    pub(crate) async fn secure(identity: &Identity, script: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        Self::listening(Some(identity.acceptor()), script).await
    }

    async fn listening(tls: Option<TlsAcceptor>, script: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (asked, script) = (Arc::new(Mutex::new(Vec::new())), Arc::new(script));
        let seen = asked.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (tls, script, seen) = (tls.clone(), script.clone(), seen.clone());
                tokio::spawn(async move {
                    match tls {
                        None => serve(stream, &*script, &seen).await,
                        // A handshake that the client breaks off is the client's test.
                        Some(acceptor) => match acceptor.accept(stream).await {
                            Ok(stream) => serve(stream, &*script, &seen).await,
                            Err(_broken_off) => {}
                        },
                    }
                });
            }
        });
        Self { address, asked }
    }

    /// Everything that was asked so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    pub(crate) fn url(&self, scheme_and_path: (&str, &str)) -> Url {
        format!("{}://{}{}", scheme_and_path.0, self.address, scheme_and_path.1).parse().unwrap()
    }
}

/// Lets a stream be broken off hard where that is possible.
trait Breakable {
    fn break_off(&self) {}
}

impl Breakable for TcpStream {
    fn break_off(&self) {
        self.set_zero_linger().unwrap();
    }
}

impl Breakable for tokio_rustls::server::TlsStream<TcpStream> {
    fn break_off(&self) {
        self.get_ref().0.break_off();
    }
}

async fn serve<S: AsyncRead + AsyncWrite + Breakable + Unpin>(
    mut stream: S,
    script: &(impl Fn(&Asked) -> Reply + ?Sized),
    seen: &Mutex<Vec<Asked>>,
) {
    let Some(asked) = read_request(&mut stream).await else { return };
    let reply = script(&asked);
    seen.lock().unwrap().push(asked);
    // The client may have had enough.
    let _ = stream.write_all(&reply.bytes).await;
    let _ = stream.flush().await;
    match reply.then {
        Then::Close => {
            let _ = stream.shutdown().await;
        }
        Then::Hang => std::future::pending().await,
        Then::Reset => stream.break_off(),
    }
}

async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> Option<Asked> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            break end + 4;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let mut lines = head.lines();
    let mut first = lines.next()?.split(' ');
    let (method, path) = (first.next()?.to_owned(), first.next()?.to_owned());
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    let length = headers.iter().find(|(n, _)| n == "content-length").map_or(0, |(_, l)| l.parse().unwrap());
    let mut body = bytes[end..].to_vec();
    while body.len() < length {
        if stream.read_buf(&mut body).await.ok()? == 0 {
            return None;
        }
    }
    Some(Asked { method, path, headers, body })
}

/// An address on loopback at which nobody listens.
pub(crate) async fn nobody() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap()
}

/// A certificate of its own root.
pub(crate) struct Identity {
    key: CertifiedKey<rcgen::KeyPair>,
    /// The root as a PEM file.
    pub(crate) ca: tempfile::NamedTempFile,
}

impl Identity {
    /// Good for `names`, which may be addresses.
    pub(crate) fn of(names: &[&str]) -> Self {
        let key = generate_simple_self_signed(names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>()).unwrap();
        let ca = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(ca.path(), key.cert.pem()).unwrap();
        Self { key, ca }
    }

    fn acceptor(&self) -> TlsAcceptor {
        let private = PrivateKeyDer::try_from(self.key.signing_key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![self.key.cert.der().clone()], private)
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }
}

/// The reading of a fault or, where there is none, of an answer.
pub(crate) fn reading_of<T>(result: Result<T, crate::fault::Fault>) -> Reading {
    result.map_or_else(|fault| fault.reading, |_| Reading::Up)
}

impl Server {
    /// Sends `bytes` to everybody who connects, before any question.
    pub(crate) async fn listener(bytes: &'static [u8], then: Then) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let mut kept = Vec::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                stream.write_all(bytes).await.unwrap();
                match then {
                    Then::Close => {
                        // What was asked is read first: closing over unread bytes would be a reset.
                        let mut asked = [0; 4096];
                        let _ = stream.read(&mut asked).await;
                    }
                    Then::Hang => kept.push(stream),
                    Then::Reset => stream.break_off(),
                }
            }
        });
        address
    }
}

/// A shell script that stands in for a program, in a directory of its own.
pub(crate) struct Script {
    dir: tempfile::TempDir,
}

impl Script {
    pub(crate) fn new(body: &str) -> Self {
        let script = Self { dir: tempfile::tempdir().unwrap() };
        std::fs::write(script.path(), body).unwrap();
        script
    }

    fn path(&self) -> String {
        self.dir.path().join("program").display().to_string()
    }

    /// The shell with the script. Running the file itself could meet "text file busy" while another test forks.
    pub(crate) fn words(&self) -> Vec<String> {
        vec!["/bin/sh".into(), self.path()]
    }

    /// What the script wrote to `$0.asked`.
    pub(crate) fn asked(&self) -> String {
        std::fs::read_to_string(format!("{}.asked", self.path())).unwrap()
    }
}

/// An answer that was recorded from a real Ceph 16.2.15.
pub(crate) fn recorded(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/ceph").join(name);
    assert!(path.exists(), "{}", path.display());
    path
}

/// A file with one pair, whose Nexus lies at `at`; `nexus` are more keys of its section, `probe` is its only probe.
pub(crate) fn config(at: SocketAddr, nexus: &str, probe: &str) -> Config {
    let text = format!(
        "\
site: standby-b
mode: observe
state: {{ file: /var/lib/understudy }}
clusters: {{ primary: {{ kubeconfig: /nonexistent/primary.yaml }}, standby: {{ kubeconfig: /nonexistent/standby.yaml }} }}
self_checks:
  - {{ name: neutral, tcp: {{ address: '{at}' }} }}
pairs:
  - name: nexus-ddrs
    nexus:
      primary: {{ url: 'http://nexus.example.net/', connect_to: '{at}' }}
      standby: {{ url: 'http://nexus.example.net/', connect_to: '{at}' }}
      public: {{ url: 'http://nexus.example.net/' }}
      {nexus}
    probes:
      - {{ name: watch, period: 30s, timeout: 20s, {probe} }}
    site_down_when: {{ at_least: 1, of: [service] }}
    rpo_max: 15m
    storage:
      rbd: {{ images: [rbd/nexus-data], rbd: [/nonexistent/rbd] }}
    verify: {{ repositories: [maven-releases] }}
    route:
      - webhook: {{ url: 'https://lb.example.org/switch' }}
"
    );
    Config::from_text("understudy.yaml", &text, []).unwrap_or_else(|error| panic!("{error}\n{text}")).config
}

/// The only probe of [`config`], at A.
pub(crate) async fn probe(config: &Config) -> Result<Probe, ProbeError> {
    let pair = &config.pairs[0];
    Probe::of_pair(&pair.probes[0], pair, Site::A, config, &mut Shared::new()).await
}
