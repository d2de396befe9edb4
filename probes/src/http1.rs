//! A small HTTP client: a new connection for every request, bounded in time and in size.
//!
//! In: a [`Target`] (an address, parsed once) and a [`Call`] of it (made once, sent as often as needed). Out: an [`Answer`],
//! or the [`Fault`]. No redirect is followed, no proxy is used, no connection is kept, no TLS session is resumed: each look
//! meets what a new user would meet. The total time-out is the caller's; connecting has its own. Errors read as [`crate::fault`]
//! lists. Start reading at [`Target::send`].

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::{Bytes, BytesMut};
use http::header::{AUTHORIZATION, CONNECTION, HOST, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1::{Builder, Connection};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use secrecy::{ExposeSecret, SecretString};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::unconstrained;
use tokio_rustls::TlsConnector;
use understudy_config::ConnectTo;
use understudy_core::{Reading, Reason};
use url::{Host, Url};

use crate::ProbeError;
use crate::fault::{Fault, Stage};
use crate::line::Destination;
use crate::shared::Shared;

/// The longest body that is read.
pub(crate) const LONGEST_BODY: usize = 64 * 1024;

/// The longest head of an answer; hyper reads in steps of 8 KiB.
const LONGEST_HEAD: usize = 16 * 1024;

/// A place that speaks HTTP.
pub(crate) struct Target {
    destination: Destination,
    tls: Option<Tls>,
    /// What the URL says, whatever is connected to.
    host: HeaderValue,
    /// Path of the URL without a slash at its end.
    base: String,
    query: Option<String>,
    connect_within: Duration,
}

struct Tls {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

/// A request, ready to be sent.
#[derive(Clone)]
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) keep: Keep,
}

/// How much of a body is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keep {
    /// The head says all.
    Nothing,
    /// All of it; more than [`LONGEST_BODY`] is a fault.
    Whole,
    /// Its first [`LONGEST_BODY`] bytes.
    Beginning,
}

/// What was answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    /// As much of the body as was wanted.
    pub(crate) body: Bytes,
    /// Whether the body went on.
    pub(crate) cut: bool,
}

impl Answer {
    /// A header as text; empty if it is missing or no text.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// Where a [`Target`] is.
pub(crate) struct Reach<'a> {
    pub(crate) url: &'a Url,
    pub(crate) connect_to: Option<ConnectTo>,
    pub(crate) ca: Option<&'a std::path::Path>,
}

impl Target {
    /// Prepares looks at `reach`. Reads its root certificates, sends nothing.
    pub(crate) fn new(reach: &Reach<'_>, connect_within: Duration, shared: &mut Shared) -> Result<Self, ProbeError> {
        let config = match reach.url.scheme() {
            "http" => None,
            "https" => Some(shared.trust(reach.ca)?),
            other => {
                return Err(unusable(reach.url, format!("its scheme is {other}, and only http and https are spoken")));
            }
        };
        Self::with_tls(reach, config, connect_within, shared)
    }

    /// The same with a TLS configuration that the caller has made.
    pub(crate) fn with_tls(
        reach: &Reach<'_>,
        config: Option<Arc<ClientConfig>>,
        connect_within: Duration,
        shared: &mut Shared,
    ) -> Result<Self, ProbeError> {
        let url = reach.url;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(unusable(url, "it holds credentials; write them as a secret of their own".into()));
        }
        let host = url.host().ok_or_else(|| unusable(url, "it has no host".into()))?;
        let tls = match config {
            Some(config) => Some(Tls { config, name: server_name(&host, url)? }),
            None => None,
        };
        Ok(Self {
            destination: destination(&host, reach, shared)?,
            tls,
            host: host_header(url)?,
            base: url.path().trim_end_matches('/').to_owned(),
            query: url.query().map(str::to_owned),
            connect_within,
        })
    }

    /// Verifies the certificate against `name` instead of the URL's host.
    pub(crate) fn named(mut self, name: &str) -> Result<Self, ProbeError> {
        if let Some(tls) = &mut self.tls {
            tls.name = ServerName::try_from(name.to_owned())
                .map_err(|_| ProbeError::Setting { what: "tls-server-name", why: format!("{name:?} is no name") })?;
        }
        Ok(self)
    }

    /// A call of the URL itself.
    pub(crate) fn call(&self, keep: Keep) -> Result<Call, ProbeError> {
        let path = if self.base.is_empty() { "/" } else { &self.base };
        let path = self.query.as_ref().map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"));
        self.make(Method::GET, &path, keep)
    }

    /// A call of `path` (with its query) below the URL.
    pub(crate) fn call_below(&self, method: Method, path: &str, keep: Keep) -> Result<Call, ProbeError> {
        self.make(method, &format!("{}/{path}", self.base), keep)
    }

    fn make(&self, method: Method, path: &str, keep: Keep) -> Result<Call, ProbeError> {
        let uri = Uri::try_from(path)
            .map_err(|error| ProbeError::Setting { what: "the path of the URL", why: format!("{path:?}: {error}") })?;
        let mut headers = HeaderMap::with_capacity(4);
        headers.insert(HOST, self.host.clone());
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("understudy/", env!("CARGO_PKG_VERSION"))));
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        Ok(Call { method, uri, headers, body: Bytes::new(), keep })
    }

    /// Sends `call` on a new connection and reads the answer.
    pub(crate) async fn send(&self, call: &Call) -> Result<Answer, Fault> {
        let stream = self.destination.connect(self.connect_within).await?;
        match &self.tls {
            None => exchange(stream, call).await,
            // On the heap, as far larger than what a look without TLS would move about.
            Some(tls) => Box::pin(async { exchange(tls.handshake(stream).await?, call).await }).await,
        }
    }
}

impl Tls {
    async fn handshake(&self, stream: TcpStream) -> Result<tokio_rustls::client::TlsStream<TcpStream>, Fault> {
        // The handshake and the request are small writes one after the other, which Nagle would hold back.
        stream.set_nodelay(true).map_err(|error| Fault::io(Stage::Tls, &error))?;
        let connector = TlsConnector::from(self.config.clone());
        connector.connect(self.name.clone(), stream).await.map_err(|error| Fault::tls(&error))
    }
}

impl Call {
    /// With user and password.
    pub(crate) fn with_user(self, user: &str, password: &SecretString) -> Result<Self, ProbeError> {
        let value = format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{}", password.expose_secret())));
        self.authorized(&value)
    }

    /// With the value of an `Authorization` header.
    pub(crate) fn authorized(mut self, value: &str) -> Result<Self, ProbeError> {
        let mut value = HeaderValue::try_from(value)
            // The error would repeat the secret.
            .map_err(|_| ProbeError::Setting { what: "credentials", why: "they do not fit into a header".into() })?;
        value.set_sensitive(true);
        self.headers.insert(AUTHORIZATION, value);
        Ok(self)
    }

    /// The same for a path further down.
    pub(crate) fn further(&self, method: Method, digits: u64) -> Self {
        let path = format!("{}{digits:02}", self.uri.path());
        let uri = Uri::try_from(path).expect("digits may stand at the end of a path that was taken");
        Self { method, uri, ..self.clone() }
    }

    fn request(&self) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(self.body.clone()));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        request
    }
}

/// One request and its answer. The connection is driven here and not in a task of its own, so that dropping this ends it.
pub(crate) async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(stream: S, call: &Call) -> Result<Answer, Fault> {
    // More than 100 headers are too many for hyper by itself; saying so would move its table of them to the heap.
    let (mut sender, connection) = Builder::new()
        .max_buf_size(LONGEST_HEAD)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| Fault::http(Stage::Head, &error))?;
    let mut line = Line { connection: Some(connection) };
    let answer = line.until(sender.send_request(call.request())).await;
    let (head, body) = answer.map_err(|error| Fault::http(Stage::Head, &error))?.into_parts();
    let (body, cut) = match call.keep {
        Keep::Nothing => {
            // Before the body, whose end would wake it.
            drop(line);
            (Bytes::new(), true)
        }
        Keep::Whole => (line.until(whole(body)).await?, false),
        Keep::Beginning => line.until(beginning(body)).await?,
    };
    Ok(Answer { status: head.status, headers: head.headers, body, cut })
}

/// A connection, driven by whoever waits for something of it.
struct Line<S: AsyncRead + AsyncWrite + Unpin> {
    /// None when it has ended.
    connection: Option<Connection<TokioIo<S>, Full<Bytes>>>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Line<S> {
    /// Drives the connection until `wanted` has what it waits for, which may come from the connection alone.
    ///
    /// Both are polled together, the connection first. So `wanted` needs no waker: what the connection has for it would only
    /// wake the task that is running already, and have it polled once more, on another thread. A future without a waker may
    /// not be put off either, hence no budget.
    async fn until<T>(&mut self, wanted: impl Future<Output = T>) -> T {
        let mut wanted = pin!(unconstrained(wanted));
        poll_fn(|cx| {
            // Its errors reach `wanted`. Its end is not said to the other side: the socket that closes says it.
            if self.connection.as_mut().is_some_and(|connection| connection.poll_without_shutdown(cx).is_ready()) {
                self.connection = None;
            }
            wanted.as_mut().poll(&mut Context::from_waker(Waker::noop()))
        })
        .await
    }
}

async fn whole(body: Incoming) -> Result<Bytes, Fault> {
    match beginning(body).await? {
        (bytes, false) => Ok(bytes),
        (_, true) => {
            let detail = format!("the body is longer than {LONGEST_BODY} bytes");
            Err(Fault::new(Stage::Body, Reading::Unknown(Reason::TooLarge), detail))
        }
    }
}

/// The first [`LONGEST_BODY`] bytes, and whether there are more.
async fn beginning(mut body: Incoming) -> Result<(Bytes, bool), Fault> {
    if body.is_end_stream() {
        return Ok((Bytes::new(), false));
    }
    let mut read = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Fault::http(Stage::Body, &error))?;
        let Some(data) = frame.data_ref() else { continue };
        let room = LONGEST_BODY - read.len();
        if data.len() > room {
            read.extend_from_slice(&data[..room]);
            return Ok((read.freeze(), true));
        }
        read.extend_from_slice(data);
    }
    Ok((read.freeze(), false))
}

fn destination(host: &Host<&str>, reach: &Reach<'_>, shared: &mut Shared) -> Result<Destination, ProbeError> {
    let port = reach.url.port_or_known_default().ok_or_else(|| unusable(reach.url, "it has no port".into()))?;
    if let Some(to) = reach.connect_to {
        return Ok(Destination::Socket(to.socket(port)));
    }
    Ok(match host {
        Host::Ipv4(ip) => Destination::Socket(SocketAddr::from((*ip, port))),
        Host::Ipv6(ip) => Destination::Socket(SocketAddr::from((*ip, port))),
        Host::Domain(name) => Destination::Name { host: (*name).into(), port, names: shared.names()? },
    })
}

fn server_name(host: &Host<&str>, url: &Url) -> Result<ServerName<'static>, ProbeError> {
    match host {
        Host::Ipv4(ip) => Ok(ServerName::IpAddress((*ip).into())),
        Host::Ipv6(ip) => Ok(ServerName::IpAddress((*ip).into())),
        Host::Domain(name) => ServerName::try_from((*name).to_owned())
            .map_err(|_| unusable(url, format!("{name:?} can not stand in a certificate"))),
    }
}

fn host_header(url: &Url) -> Result<HeaderValue, ProbeError> {
    let host = url.host_str().unwrap_or_default();
    let text = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    HeaderValue::try_from(text).map_err(|_| unusable(url, "its host does not fit into a header".into()))
}

/// Names scheme and host alone: the rest of a URL may hold a secret.
fn unusable(url: &Url, why: String) -> ProbeError {
    ProbeError::Url { url: format!("{}://{}", url.scheme(), url.host_str().unwrap_or_default()), why }
}

#[cfg(test)]
mod tests;
