//! What the steps ask of a Nexus Repository, by its REST API.
//!
//! In: one address of it ([`Place`]) and the login. Out: its own word about itself, its lists, whole artifacts with their
//! digests. An answer counts only if its `Server` header says Nexus: a balancer's page or a dying web server is none.
//! Downloads run through a digest and take no memory. Start reading at [`NexusApi`].

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, SERVER};
use http::{HeaderMap, Method, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use understudy_config::{Credentials, Place, SecretError};

use crate::http_client::{Answer, Endpoint, HttpError, LONGEST_ANSWER, Reach};
use crate::webhook::shortened;

/// Time for one call that moves little. Healthy answers come within 40 ms; one of a hung disk never comes.
const CALL_WITHIN: Duration = Duration::from_secs(10);

/// A list of some thousand repositories or assets, each of less than 2 KiB.
const LONGEST_LIST: usize = 8 * 1024 * 1024;

/// So many pages of a list are read; one has at least 10 entries.
const MOST_PAGES: usize = 100;

/// Why Nexus did not give what was asked for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NexusError {
    /// There is no answer.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// Somebody else answers: what stands before a Nexus that is not up yet, or in its place.
    #[error("{what}: {status} from {server}, which is no Nexus")]
    NotNexus { what: String, status: StatusCode, server: String },
    /// It answers with a status that means no.
    #[error("{what}: {status}{said}")]
    Said { what: String, status: StatusCode, said: String },
    /// The login is refused. The password lies in Nexus' own data, so that it is the one that A had.
    #[error(
        "{what}: the password of {user:?} is wrong (401): the one in A's data is another than that of `credentials`"
    )]
    WrongPassword { what: String, user: String },
    /// Without a login it is not allowed.
    #[error("{what}: it wants a login (401): write `credentials`")]
    WantsLogin { what: String },
    /// The answer is not what the API has.
    #[error("{what}: the answer can not be read: {why}")]
    Garbled { what: String, why: String },
    /// The body of an artifact ended early: Nexus serves 200 and a length for what its disk has lost.
    #[error("{what}: it came back with {received} bytes and then broke off: its content is gone")]
    Broken { what: String, received: u64 },
}

/// How long it makes sense to ask again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Again {
    /// As long as there is time: it may be starting.
    WhileStarting,
    /// A few times: it should be there, and is not.
    FewTimes,
    /// Not at all.
    Never,
}

impl NexusError {
    pub(crate) fn again(&self) -> Again {
        match self {
            NexusError::Http(HttpError::Unusable { .. } | HttpError::TooLong { .. }) => Again::Never,
            NexusError::Http(_) | NexusError::NotNexus { .. } => Again::WhileStarting,
            NexusError::Said { status, .. } if status.is_server_error() => Again::WhileStarting,
            NexusError::Said { status: StatusCode::NOT_FOUND, .. }
            | NexusError::Garbled { .. }
            | NexusError::Broken { .. } => Again::FewTimes,
            NexusError::Said { .. } | NexusError::WrongPassword { .. } | NexusError::WantsLogin { .. } => Again::Never,
        }
    }
}

/// One address of a Nexus.
pub(crate) struct NexusApi {
    endpoint: Endpoint,
    /// The same with more patience.
    downloads: Endpoint,
    login: Option<(String, SecretString)>,
}

/// Whether it takes writes, by its own word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Writable {
    Yes,
    /// Somebody froze it. That is kept in its data, so that a copy is frozen too.
    Frozen {
        reason: String,
    },
    /// A task of its own froze it, or it does not say why: that passes.
    NotNow,
}

/// One of its system checks.
#[derive(Debug, Deserialize)]
pub(crate) struct SystemCheck {
    pub(crate) healthy: bool,
    pub(crate) message: Option<String>,
}

/// A file of a repository, as it is listed.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Asset {
    pub(crate) path: String,
    #[serde(default)]
    pub(crate) checksum: Checksum,
    pub(crate) last_modified: Option<jiff::Timestamp>,
}

#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct Checksum {
    pub(crate) sha256: Option<String>,
}

/// A file that came back whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Downloaded {
    pub(crate) bytes: u64,
    /// Hexadecimal.
    pub(crate) sha256: String,
}

#[derive(Debug, Deserialize)]
struct ReadOnly {
    frozen: bool,
    #[serde(default, rename = "systemInitiated")]
    system_initiated: bool,
    #[serde(default, rename = "summaryReason")]
    summary_reason: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    items: Vec<Asset>,
    continuation_token: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Repository {
    name: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Node {
    node_id: String,
}

impl NexusApi {
    /// Reads the password and prepares calls of `place`. Nothing is sent.
    pub(crate) async fn open(place: &Place, credentials: Option<&Credentials>) -> Result<Self, OpenError> {
        let login = credentials.map(|c| Ok::<_, SecretError>((c.user.clone(), c.password.read()?))).transpose()?;
        let endpoint = Endpoint::open(Reach::from(place), CALL_WITHIN).await?;
        Ok(Self { downloads: endpoint.clone(), endpoint, login })
    }

    /// Whether there is a login.
    pub(crate) fn has_login(&self) -> bool {
        self.login.is_some()
    }

    /// A download may take as long as `within`.
    pub(crate) fn with_downloads_within(self, within: Duration) -> Self {
        Self { downloads: self.downloads.within(within), ..self }
    }

    /// The version that its web layer tells, such as `3.71.0-06 (OSS)`. It says nothing of its disk.
    pub(crate) async fn version(&self) -> Result<String, NexusError> {
        // Without the login: a wrong password is refused even here, and must not look like a Nexus that is down.
        let answer = self.call("status", Method::GET, "service/rest/v1/status", &[], false, LONGEST_ANSWER).await?;
        Ok(server(&answer.headers).trim_start_matches("Nexus/").to_owned())
    }

    /// Whether it takes writes, by its own word.
    pub(crate) async fn writable(&self) -> Result<Writable, NexusError> {
        let path = "service/rest/v1/status/writable";
        match self.call("status/writable", Method::GET, path, &[], false, LONGEST_ANSWER).await {
            Ok(_) => Ok(Writable::Yes),
            Err(NexusError::Said { status: StatusCode::SERVICE_UNAVAILABLE, .. }) => self.why_not_writable().await,
            Err(error) => Err(error),
        }
    }

    async fn why_not_writable(&self) -> Result<Writable, NexusError> {
        let state: ReadOnly = self.list("read-only", "service/rest/v1/read-only", &[]).await?;
        if !state.frozen || state.system_initiated {
            return Ok(Writable::NotNow);
        }
        Ok(Writable::Frozen { reason: shortened(&state.summary_reason.unwrap_or_default()) })
    }

    /// The node's id; none where the login may not see it. A wrong password is an error.
    pub(crate) async fn node(&self) -> Result<Option<String>, NexusError> {
        match self.list::<Node>("login", "service/rest/v1/system/node", &[]).await {
            Ok(node) => Ok(Some(node.node_id)),
            Err(NexusError::Said { status: StatusCode::FORBIDDEN, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Its system checks by name; none where the login may not see them.
    pub(crate) async fn checks(&self) -> Result<Option<std::collections::BTreeMap<String, SystemCheck>>, NexusError> {
        match self.list("status/check", "service/rest/v1/status/check", &[]).await {
            Ok(checks) => Ok(Some(checks)),
            Err(NexusError::Said { status: StatusCode::FORBIDDEN, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The names of its repositories.
    pub(crate) async fn repositories(&self) -> Result<Vec<String>, NexusError> {
        let all: Vec<Repository> = self.list("repositories", "service/rest/v1/repositories", &[]).await?;
        Ok(all.into_iter().map(|repository| repository.name).collect())
    }

    /// The files of `repository` whose path begins with `prefix`.
    pub(crate) async fn assets(&self, repository: &str, prefix: &str) -> Result<Vec<Asset>, NexusError> {
        let what = format!("files of {repository}");
        let (mut found, mut token) = (Vec::new(), None::<String>);
        for _ in 0..MOST_PAGES {
            let mut query = vec![("repository", repository)];
            query.extend(token.as_deref().map(|token| ("continuationToken", token)));
            let page: Page = self.list(&what, "service/rest/v1/assets", &query).await?;
            let assets = page.items.into_iter().map(|asset| Asset { path: bare(&asset.path).to_owned(), ..asset });
            found.extend(assets.filter(|asset| asset.path.starts_with(prefix)));
            token = page.continuation_token;
            if token.is_none() {
                return Ok(found);
            }
        }
        Err(NexusError::Garbled { what, why: format!("the list has more than {MOST_PAGES} pages") })
    }

    /// Downloads `REPOSITORY/PATH` whole, at most `limit` bytes, through a digest.
    pub(crate) async fn download(&self, artifact: &str, limit: u64) -> Result<Downloaded, NexusError> {
        let (mut digest, mut bytes) = (Sha256::new(), 0);
        let path = format!("repository/{artifact}");
        let request = self.with_login(self.downloads.request_below(Method::GET, &path, &[]));
        let take = |chunk: &[u8]| {
            digest.update(chunk);
            bytes += chunk.len() as u64;
            bytes <= limit
        };
        let head = self.downloads.stream(request, take).await.map_err(|error| broken(error, artifact))?;
        self.judge(artifact, head.status, &head.headers, &[], true)?;
        if !head.whole {
            return Err(NexusError::Garbled { what: artifact.into(), why: format!("it is longer than {limit} bytes") });
        }
        Ok(Downloaded { bytes, sha256: hex(&digest.finalize()) })
    }

    /// The content of the small file `REPOSITORY/PATH`.
    pub(crate) async fn content(&self, artifact: &str) -> Result<Bytes, NexusError> {
        let request = self.dressed(Method::GET, &format!("repository/{artifact}"), &[], true);
        let answer = self.endpoint.call(request, LONGEST_ANSWER).await.map_err(|error| broken(error, artifact))?;
        self.judge(artifact, answer.status, &answer.headers, &answer.body, true)?;
        Ok(answer.body)
    }

    /// Puts a file to `REPOSITORY/PATH`, within `left`.
    pub(crate) async fn upload(&self, artifact: &str, content: String, left: Duration) -> Result<(), NexusError> {
        // As a form, anything over 200,000 bytes fails with 500.
        let request = self
            .dressed(Method::PUT, &format!("repository/{artifact}"), &[], true)
            .header(CONTENT_TYPE, "application/octet-stream")
            .body(content);
        let answer = self.endpoint.clone().at_most(left).call(request, LONGEST_ANSWER).await?;
        self.judge(artifact, answer.status, &answer.headers, &answer.body, true)
    }

    async fn list<T: DeserializeOwned>(&self, what: &str, path: &str, query: &[(&str, &str)]) -> Result<T, NexusError> {
        let answer = self.call(what, Method::GET, path, query, true, LONGEST_LIST).await?;
        understood(what, &answer.body)
    }

    async fn call(
        &self,
        what: &str,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        with_login: bool,
        limit: usize,
    ) -> Result<Answer, NexusError> {
        let answer = self.endpoint.call(self.dressed(method, path, query, with_login), limit).await?;
        self.judge(what, answer.status, &answer.headers, &answer.body, with_login)?;
        Ok(answer)
    }

    fn dressed(&self, method: Method, path: &str, query: &[(&str, &str)], with_login: bool) -> reqwest::RequestBuilder {
        let request = self.endpoint.request_below(method, path, query);
        if with_login { self.with_login(request) } else { request }
    }

    fn with_login(&self, request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
        match &self.login {
            Some((user, password)) => request.basic_auth(user, Some(password.expose_secret())),
            None => request,
        }
    }

    fn judge(
        &self,
        what: &str,
        status: StatusCode,
        headers: &HeaderMap,
        body: &[u8],
        with_login: bool,
    ) -> Result<(), NexusError> {
        let (what, server) = (format!("{what} at {}", self.endpoint.target()), server(headers));
        if !server.starts_with("Nexus/") {
            let server = if server.is_empty() { "an unnamed server".into() } else { shortened(server) };
            return Err(NexusError::NotNexus { what, status, server });
        }
        match (status, &self.login) {
            (status, _) if status.is_success() => Ok(()),
            (StatusCode::UNAUTHORIZED, Some((user, _))) if with_login => {
                Err(NexusError::WrongPassword { what, user: user.clone() })
            }
            (StatusCode::UNAUTHORIZED, _) => Err(NexusError::WantsLogin { what }),
            (status, _) => Err(NexusError::Said { what, status, said: plain(body) }),
        }
    }
}

fn understood<T: DeserializeOwned>(what: &str, body: &[u8]) -> Result<T, NexusError> {
    let garbled = |why: String| NexusError::Garbled { what: what.into(), why: shortened(&why) };
    // Of a key that is not used serde_json skips the bytes, whatever they are.
    let text = std::str::from_utf8(body).map_err(|error| garbled(error.to_string()))?;
    serde_json::from_str(text).map_err(|error| garbled(error.to_string()))
}

/// Reads `body` as each answer that is asked for; for [`crate::boundary`].
pub(crate) fn read_any(body: &[u8]) -> Result<String, NexusError> {
    fn read<T: DeserializeOwned + std::fmt::Debug>(what: &str, body: &[u8]) -> Result<String, NexusError> {
        understood::<T>(what, body).map(|value| format!("{value:?}"))
    }
    read::<Page>("files", body)
        .or_else(|_| read::<ReadOnly>("read-only", body))
        .or_else(|_| read::<Node>("login", body))
        .or_else(|_| read::<std::collections::BTreeMap<String, SystemCheck>>("status/check", body))
        .or_else(|_| read::<Vec<Repository>>("repositories", body))
}

/// Why nothing can be asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error(transparent)]
    Http(#[from] HttpError),
}

fn broken(error: HttpError, artifact: &str) -> NexusError {
    match error {
        HttpError::Cut { received, .. } => NexusError::Broken { what: artifact.into(), received },
        error => error.into(),
    }
}

fn server(headers: &HeaderMap) -> &str {
    headers.get(SERVER).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// Raw repositories list their paths with or without a leading slash, depending on the version.
fn bare(path: &str) -> &str {
    path.trim_start_matches('/')
}

/// What is said in plain text; a page of HTML is for no log.
fn plain(body: &[u8]) -> String {
    match std::str::from_utf8(body).map(str::trim) {
        Ok(text) if !text.is_empty() && !text.starts_with('<') => format!(": {}", shortened(text)),
        _ => String::new(),
    }
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
