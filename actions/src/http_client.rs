//! The one way by which steps speak HTTP.
//!
//! In: where to call ([`Reach`]). Out: an [`Answer`] whose body is bounded in bytes while it streams, or an
//! [`HttpError`] that says what may be done: nothing was sent, or nobody knows. No redirect is followed, no proxy of the
//! environment is used, each call is a new connection and is bounded in time. Of the secrets that were sent none comes back
//! in an answer. Start reading at [`Endpoint`].

mod secrets;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::BytesMut;
use http::header::HOST;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, RequestBuilder};
use tokio::time::{Instant, timeout_at};
use understudy_config::{ConnectTo, HttpLook, Place, Webhook};
use url::{Host, Url};

use self::secrets::Secrets;
use crate::StepError;

/// A connection that takes longer is not going to be one: two retransmitted SYN packets (after 1 s and 3 s) fit in.
const CONNECT_WITHIN: Duration = Duration::from_secs(4);

/// The longest answer that is taken from a webhook, a status page or the like.
pub(crate) const LONGEST_ANSWER: usize = 64 * 1024;

/// Why a call did not lead to an answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The settings can not be used: correct them.
    #[error("failed to prepare a call of {target}: {why}")]
    Unusable {
        /// What was to be called.
        target: String,
        /// What is wrong.
        why: String,
        /// Why.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// There was no connection, so that nothing was sent: trying again is safe.
    #[error("failed to connect to {target}")]
    NotSent {
        /// What was called.
        target: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The request went out, at least in part, and no answer came: nobody knows what it did.
    #[error("no answer from {target}")]
    Lost {
        /// What was called.
        target: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The answer began and ended before its time.
    #[error("the answer of {target} was cut off after {received} bytes")]
    Cut {
        /// What was called.
        target: String,
        /// How much of the body came.
        received: u64,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The answer is longer than anything we asked for.
    #[error("the answer of {target} is longer than {limit} bytes")]
    TooLong {
        /// What was called.
        target: String,
        /// What would have been taken.
        limit: usize,
    },
}

/// The time for a call is over.
#[derive(Debug, thiserror::Error)]
#[error("timed out after {0:?}")]
struct TimedOut(Duration);

impl HttpError {
    /// As the error of a call that changes nothing: trying again is always safe.
    #[must_use]
    pub fn of_read(self, what: impl Into<String>) -> StepError {
        let what = what.into();
        match self {
            HttpError::Unusable { .. } => StepError::Permanent { what, source: Some(Box::new(self)) },
            _ => StepError::Transient { what, source: Some(Box::new(self)) },
        }
    }

    /// As the error of a call that may have changed something.
    #[must_use]
    pub fn of_write(self, what: impl Into<String>) -> StepError {
        match self {
            HttpError::Lost { .. } | HttpError::Cut { .. } | HttpError::TooLong { .. } => {
                StepError::Unknown { what: what.into(), source: Some(Box::new(self)) }
            }
            HttpError::Unusable { .. } | HttpError::NotSent { .. } => self.of_read(what),
        }
    }
}

/// Where a call goes.
#[derive(Debug, Clone, Copy)]
pub struct Reach<'a> {
    /// The URL; its host is what a certificate must name.
    pub url: &'a Url,
    /// Where to connect instead of asking the DNS.
    pub connect_to: Option<ConnectTo>,
    /// PEM file with the roots to trust instead of the system's.
    pub ca: Option<&'a PathBuf>,
}

impl<'a> From<&'a Place> for Reach<'a> {
    fn from(place: &'a Place) -> Self {
        Self { url: &place.url, connect_to: place.connect_to, ca: place.ca.as_ref() }
    }
}

impl<'a> From<&'a HttpLook> for Reach<'a> {
    fn from(look: &'a HttpLook) -> Self {
        Self { url: &look.url, connect_to: look.connect_to, ca: look.ca.as_ref() }
    }
}

impl<'a> From<&'a Webhook> for Reach<'a> {
    fn from(hook: &'a Webhook) -> Self {
        Self { url: &hook.url, connect_to: None, ca: hook.ca.as_ref() }
    }
}

/// A place that can be called.
#[derive(Debug, Clone)]
pub struct Endpoint {
    client: Client,
    /// What is connected to: the place's URL, or the same with the port of `connect_to`.
    base: Url,
    /// The `Host` header, where it is not that of `base`.
    host: Option<HeaderValue>,
    /// Scheme, host and port: a path or a query may be a secret, so that no message shows one.
    target: String,
    /// The longest that a call may take.
    within: Duration,
}

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body, in which the secrets of the request are hidden.
    pub body: bytes::Bytes,
}

impl Endpoint {
    /// Prepares calls of `reach`, each within `within`. Nothing is sent.
    ///
    /// A connection has half of that time: a call that ends before it was connected is known not to have been sent.
    ///
    /// # Errors
    /// [`HttpError::Unusable`] if the URL, `connect_to` or the CA file can not be used.
    pub async fn open(reach: Reach<'_>, within: Duration) -> Result<Self, HttpError> {
        let target = shown(reach.url);
        let unusable = |why: &str, source| HttpError::Unusable { target: target.clone(), why: why.into(), source };
        let (base, host) = base_of(reach.url, reach.connect_to).map_err(|why| unusable(why, None))?;
        let mut builder = Client::builder()
            .redirect(Policy::none())
            .no_proxy()
            .connect_timeout(CONNECT_WITHIN.min(within / 2))
            // A new connection for each call: what an idle one may have swallowed is never in question.
            .pool_max_idle_per_host(0)
            .user_agent(concat!("understudy/", env!("CARGO_PKG_VERSION")));
        if let (Some(to), Some(Host::Domain(name))) = (reach.connect_to, reach.url.host()) {
            builder = builder.resolve(name, SocketAddr::new(to.ip, base.port_or_known_default().unwrap_or(0)));
        }
        builder = match reach.ca {
            Some(path) => {
                builder.tls_certs_only(roots(path).await.map_err(|source| unusable("its CA file", Some(source)))?)
            }
            // Without TLS there is no need to read the system's roots, which takes milliseconds and may fail.
            None if reach.url.scheme() == "http" => builder.tls_certs_only([]),
            None => builder,
        };
        provide_crypto();
        let client = builder.build().map_err(|source| unusable("its client", Some(source.into())))?;
        Ok(Self { client, base, host, target, within })
    }

    /// A request of the URL itself.
    pub fn request(&self, method: Method) -> RequestBuilder {
        self.dressed(method, self.base.clone())
    }

    /// A request of `path` below the URL, with `query`.
    pub fn request_below(&self, method: Method, path: &str, query: &[(&str, &str)]) -> RequestBuilder {
        let mut url = self.base.clone();
        url.set_path(&format!("{}/{path}", self.base.path().trim_end_matches('/')));
        url.set_query(None);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        self.dressed(method, url)
    }

    fn dressed(&self, method: Method, url: Url) -> RequestBuilder {
        let request = self.client.request(method, url);
        match &self.host {
            Some(host) => request.header(HOST, host),
            None => request,
        }
    }

    /// Sends `request` and takes the whole answer, of at most `limit` bytes.
    ///
    /// # Errors
    /// [`HttpError`].
    pub async fn call(&self, request: RequestBuilder, limit: usize) -> Result<Answer, HttpError> {
        let mut body = BytesMut::new();
        let head = self
            .stream(request, |chunk| {
                let fits = body.len() + chunk.len() <= limit;
                if fits {
                    body.extend_from_slice(chunk);
                }
                fits
            })
            .await?;
        if !head.whole {
            return Err(HttpError::TooLong { target: self.target.clone(), limit });
        }
        Ok(head.with(body.freeze()))
    }

    /// Sends `request` and hands each piece of the answer's body, as it is, to `take`, which says whether it wants more.
    /// What of it is to be shown goes through [`Streamed::with`] first.
    ///
    /// # Errors
    /// [`HttpError`].
    pub async fn stream(
        &self,
        request: RequestBuilder,
        mut take: impl FnMut(&[u8]) -> bool,
    ) -> Result<Streamed, HttpError> {
        let deadline = Instant::now() + self.within;
        let request = request.build().map_err(|source| self.unusable(source))?;
        let secrets = Secrets::of(&request);
        let mut answer = self.head(request, deadline).await?;
        let (status, headers) = (answer.status(), std::mem::take(answer.headers_mut()));
        let (mut whole, mut received) = (true, 0);
        while let Some(chunk) = self.chunk(&mut answer, received, deadline).await? {
            received += chunk.len() as u64;
            if !take(&chunk) {
                whole = false;
                break;
            }
        }
        Ok(Streamed { status, headers, whole, secrets })
    }

    fn unusable(&self, source: reqwest::Error) -> HttpError {
        HttpError::Unusable { target: self.target.clone(), why: "the request".into(), source: bare(source) }
    }

    async fn head(&self, request: reqwest::Request, deadline: Instant) -> Result<reqwest::Response, HttpError> {
        let target = || self.target.clone();
        match timeout_at(deadline, self.client.execute(request)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(source)) if source.is_builder() => Err(self.unusable(source)),
            Ok(Err(source)) if source.is_connect() => {
                Err(HttpError::NotSent { target: target(), source: source.without_url().into() })
            }
            Ok(Err(source)) => Err(HttpError::Lost { target: target(), source: source.without_url().into() }),
            Err(_elapsed) => Err(HttpError::Lost { target: target(), source: Box::new(TimedOut(self.within)) }),
        }
    }

    async fn chunk(
        &self,
        answer: &mut reqwest::Response,
        received: u64,
        deadline: Instant,
    ) -> Result<Option<bytes::Bytes>, HttpError> {
        let target = || self.target.clone();
        match timeout_at(deadline, answer.chunk()).await {
            Ok(Ok(chunk)) => Ok(chunk),
            Ok(Err(source)) => Err(HttpError::Cut { target: target(), received, source: source.without_url().into() }),
            Err(_elapsed) => {
                Err(HttpError::Cut { target: target(), received, source: Box::new(TimedOut(self.within)) })
            }
        }
    }

    /// The same place with no more than `limit` for each call: the time that is left for a write.
    #[must_use]
    pub fn at_most(mut self, limit: Duration) -> Self {
        self.within = self.within.min(limit);
        self
    }

    /// The same place with `within` for each call; the connection keeps its limit.
    #[must_use]
    pub fn within(mut self, within: Duration) -> Self {
        self.within = within;
        self
    }

    /// Scheme, host and port, for messages.
    #[must_use]
    pub fn target(&self) -> &str {
        &self.target
    }
}

/// The head of an answer whose body was handed on.
#[derive(Debug)]
pub struct Streamed {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Whether the body was taken to its end.
    pub whole: bool,
    secrets: Secrets,
}

impl Streamed {
    /// The answer with so much of its `body`, in which the secrets of the request are hidden.
    #[must_use]
    pub fn with(self, body: bytes::Bytes) -> Answer {
        Answer { status: self.status, headers: self.headers, body: self.secrets.hide(body) }
    }
}

fn bare(error: reqwest::Error) -> Option<Box<dyn std::error::Error + Send + Sync>> {
    Some(error.without_url().into())
}

/// Scheme, host and port of `url`.
pub(crate) fn shown(url: &Url) -> String {
    url.origin().ascii_serialization()
}

/// An error with all of its causes, on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    std::iter::successors(error.source(), |cause| cause.source())
        .fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// What to connect to, and the `Host` header where it differs from that.
///
/// A URL's own port always wins over that of an overridden address, and an address in a URL is never looked up: both are
/// put into the URL, and the header keeps the name that the server knows.
fn base_of(url: &Url, connect_to: Option<ConnectTo>) -> Result<(Url, Option<HeaderValue>), &'static str> {
    if !matches!(url.scheme(), "http" | "https") {
        return Err("its scheme is neither http nor https");
    }
    let host = url.host().ok_or("it has no host")?;
    let Some(to) = connect_to else { return Ok((url.clone(), None)) };
    let mut base = url.clone();
    if !matches!(host, Host::Domain(_)) {
        if url.scheme() == "https" && host_ip(&host) != Some(to.ip) {
            return Err("with connect_to, an https URL needs a host name, which the certificate must name");
        }
        base.set_ip_host(to.ip).map_err(|()| "connect_to does not fit its host")?;
    }
    base.set_port(to.port.or(url.port())).map_err(|()| "connect_to does not fit its port")?;
    let name = url.port().map_or_else(|| host.to_string(), |port| format!("{host}:{port}"));
    let header = HeaderValue::from_str(&name).map_err(|_| "its host is no header value")?;
    Ok((base, Some(header)))
}

fn host_ip(host: &Host<&str>) -> Option<std::net::IpAddr> {
    match host {
        Host::Ipv4(ip) => Some((*ip).into()),
        Host::Ipv6(ip) => Some((*ip).into()),
        Host::Domain(_) => None,
    }
}

/// No bundle of roots is longer; the one of Mozilla has 220 KiB.
const LONGEST_CA_FILE: u64 = 4 * 1024 * 1024;

async fn roots(path: &Path) -> Result<Vec<Certificate>, Box<dyn std::error::Error + Send + Sync>> {
    let named = |source: std::io::Error| std::io::Error::new(source.kind(), format!("{}: {source}", path.display()));
    let length = tokio::fs::metadata(path).await.map_err(named)?.len();
    if length > LONGEST_CA_FILE {
        return Err(format!("{} is longer than {LONGEST_CA_FILE} bytes", path.display()).into());
    }
    let pem = tokio::fs::read(path).await.map_err(named)?;
    let roots = Certificate::from_pem_bundle(&pem).map_err(|source| format!("{}: {source}", path.display()))?;
    if roots.is_empty() {
        return Err(format!("{} holds no certificate", path.display()).into());
    }
    Ok(roots)
}

/// Makes ring the process's TLS provider, unless there is one.
fn provide_crypto() {
    // An error says that there is one already, which is all that is wanted.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

#[cfg(test)]
mod tests;
