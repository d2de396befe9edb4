//! Is it the right Nexus, with the right data? Nothing is routed to B before this step says yes.
//!
//! In: B's own address and what must be there. Out: the step is done when Nexus at B takes writes, is the configured node,
//! lets us in, has the repositories, gives known artifacts back byte for byte, and has taken a random artifact that proves
//! later which site answers. A status code proves nothing here: a Nexus whose blobs are gone serves 200 with a length and
//! no body. Start reading at [`run`].

mod canary;

use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::time::{Instant, timeout_at};
use understudy_config::{Artifact, HttpLook, Nexus};
use understudy_core::Finding;

use crate::http_client::{Endpoint, LONGEST_ANSWER, Reach, chain};
use crate::looks::Looks;
use crate::nexus_api::{Again, NexusApi, NexusError, OpenError, SystemCheck, Writable};
use crate::nonce::{self, Nonce};
use crate::webhook::shortened;
use crate::{Context, StepDone, StepError};

/// An artifact or answer that should be there and is not, is asked for so many times.
const FEW_TIMES: u32 = 4;

/// A known artifact is no longer than this: what has no end must have one.
const LONGEST_ARTIFACT: u64 = 64 * 1024 * 1024 * 1024;

/// What was found out so far.
#[derive(Debug, Default)]
struct Account {
    /// In words, for the report.
    said: Vec<String>,
    /// How many things of A's data were looked at and found right.
    items: usize,
}

/// Looks at Nexus at B until all is well or the time is over. Safe to repeat: it uploads one artifact for each run.
///
/// # Errors
/// [`StepError::Permanent`] if something is wrong that time does not heal, or if there was nothing to check.
pub async fn run(ctx: &Context) -> Result<StepDone, StepError> {
    let within = ctx.pair.verify.within.0;
    let deadline = Instant::now() + within;
    match timeout_at(deadline, whole(ctx, deadline)).await {
        Ok(ended) => ended,
        Err(_elapsed) => Err(StepError::transient(format!("verify did not end within {within:?}"))),
    }
}

async fn whole(ctx: &Context, deadline: Instant) -> Result<StepDone, StepError> {
    let mut account = Account::default();
    let patience = Patience { ctx, deadline };
    let api = match &ctx.pair.nexus {
        Some(nexus) => Some((nexus, open(nexus, deadline).await?)),
        None => None,
    };
    if let Some((nexus, api)) = &api {
        identity(&patience, nexus, api, &mut account).await?;
        repositories(&patience, api, &ctx.pair.verify.repositories, &mut account).await?;
        artifacts(&patience, api, &ctx.pair.verify.artifacts, &mut account).await?;
        canaries(&patience, nexus, api, &mut account).await?;
    }
    if let Some(look) = &ctx.pair.verify.http {
        answer(&patience, look, &mut account).await?;
    }
    if account.items == 0 {
        return Err(StepError::permanent(
            "nothing of A's data was checked: name `repositories` or `artifacts` (or `http`) under verify, or let a canary be written",
        ));
    }
    // Last, so that what is uploaded is uploaded to what was found right.
    let finding = match &api {
        Some((nexus, api)) => Finding::Nonce(plant(&patience, nexus, api, &mut account).await?),
        None => Finding::Nothing,
    };
    Ok(StepDone::finding(account.said.join("; "), finding))
}

async fn open(nexus: &Nexus, deadline: Instant) -> Result<NexusApi, StepError> {
    let what = || "failed to prepare calls of Nexus at B".to_owned();
    let api = NexusApi::open(&nexus.standby, nexus.credentials.as_ref()).await.map_err(|error| match error {
        OpenError::Http(error) => error.of_read(what()),
        OpenError::Secret(error) => StepError::Permanent { what: what(), source: Some(Box::new(error)) },
    })?;
    Ok(api.with_downloads_within(deadline.saturating_duration_since(Instant::now())))
}

/// It serves, takes writes, is well, lets us in, and is the node that we know.
async fn identity(
    patience: &Patience<'_>,
    nexus: &Nexus,
    api: &NexusApi,
    account: &mut Account,
) -> Result<(), StepError> {
    let version = patience.ask(|| api.version().boxed()).await?;
    account.said.push(format!("Nexus {version}"));
    patience.until_writable(nexus, api).await?;
    if !api.has_login() {
        if nexus.node_id.is_some() {
            return Err(StepError::permanent("`node_id` can not be compared without `credentials`"));
        }
        account.said.push("no login, so that neither it nor the node nor the checks were looked at".into());
        return Ok(());
    }
    let node = patience.ask(|| api.node().boxed()).await?;
    account.said.push(match (&nexus.node_id, node) {
        (Some(expected), Some(found)) if *expected != found => {
            return Err(StepError::permanent(format!(
                "the Nexus at B is node {found}, not {expected}: it does not run on the data of A; look at its volume"
            )));
        }
        (Some(_), None) => {
            return Err(StepError::permanent("the login may not see the node's id: give it nexus:settings:read"));
        }
        (_, Some(found)) => format!("login, node {found}"),
        (None, None) => "login".into(),
    });
    patience.until_healthy(nexus, api, account).await
}

async fn repositories(
    patience: &Patience<'_>,
    api: &NexusApi,
    expected: &[String],
    account: &mut Account,
) -> Result<(), StepError> {
    if expected.is_empty() {
        return Ok(());
    }
    let found = patience.ask(|| api.repositories().boxed()).await?;
    let missing: Vec<&String> = expected.iter().filter(|name| !found.contains(name)).collect();
    if !missing.is_empty() {
        return Err(StepError::permanent(format!("the Nexus at B has no repository {}", list(&missing))));
    }
    account.items += expected.len();
    account.said.push(format!("{} repositories", expected.len()));
    Ok(())
}

async fn artifacts(
    patience: &Patience<'_>,
    api: &NexusApi,
    expected: &[Artifact],
    account: &mut Account,
) -> Result<(), StepError> {
    let mut bytes = 0;
    for (number, artifact) in expected.iter().enumerate() {
        patience.ctx.gate.progress(format!("artifact {} of {}: {}", number + 1, expected.len(), artifact.path));
        let found = patience.ask(|| api.download(&artifact.path, LONGEST_ARTIFACT).boxed()).await?;
        if !found.sha256.eq_ignore_ascii_case(&artifact.sha256) {
            return Err(StepError::permanent(format!(
                "artifact {} came back with {} bytes and sha256 {}, not {}",
                artifact.path, found.bytes, found.sha256, artifact.sha256
            )));
        }
        bytes += found.bytes;
    }
    if !expected.is_empty() {
        account.items += expected.len();
        account.said.push(format!("{} artifacts whole ({bytes} bytes)", expected.len()));
    }
    Ok(())
}

/// The newest canary that came over whole; its age stands beside the loss that was named.
async fn canaries(
    patience: &Patience<'_>,
    nexus: &Nexus,
    api: &NexusApi,
    account: &mut Account,
) -> Result<(), StepError> {
    let folder = folder(patience.ctx);
    let listed = match api.assets(&nexus.canary_repository, &folder).await {
        Ok(listed) => listed,
        // No repository, or no right to list it: then there is no canary to speak of.
        Err(error @ (NexusError::Said { .. } | NexusError::WantsLogin { .. })) => {
            account.said.push(format!("no canaries: {error}"));
            return Ok(());
        }
        Err(_passing) => patience.ask(|| api.assets(&nexus.canary_repository, &folder).boxed()).await?,
    };
    let survivor = canary::newest_whole(api, &nexus.canary_repository, listed).await;
    account.items += usize::from(survivor.newest.is_some());
    account.said.push(canary::in_words(&survivor, patience.ctx));
    Ok(())
}

/// A service that is no Nexus, or one more look at one that is.
async fn answer(patience: &Patience<'_>, look: &HttpLook, account: &mut Account) -> Result<(), StepError> {
    let what = || format!("failed to get {}", look.url.path());
    let endpoint = Endpoint::open(Reach::from(look), CALL_WITHIN).await.map_err(|error| error.of_read(what()))?;
    let mut looks = Looks::until(patience.deadline);
    loop {
        let found = endpoint.call(endpoint.request(http::Method::GET), LONGEST_ANSWER).await;
        let trouble = match found {
            Ok(answer) => match refusal(look, answer.status, &answer.body) {
                None => break,
                Some(trouble) => format!("{} at {}: {trouble}", what(), endpoint.target()),
            },
            Err(error) => chain(&error),
        };
        patience.ctx.gate.progress(trouble.clone());
        if !looks.next().await {
            return Err(StepError::transient(trouble));
        }
    }
    account.items += 1;
    account.said.push(format!("{} answers as it should", endpoint.target()));
    Ok(())
}

/// Time for one look at a service that is no Nexus.
const CALL_WITHIN: Duration = Duration::from_secs(10);

fn refusal(look: &HttpLook, status: http::StatusCode, body: &[u8]) -> Option<String> {
    let fits = if look.expect.is_empty() { status.is_success() } else { look.expect.contains(&status.as_u16()) };
    if !fits {
        return Some(format!("it answered {status}"));
    }
    let expected = look.contains.as_ref()?;
    let holds = String::from_utf8_lossy(body).contains(expected.as_str());
    (!holds).then(|| format!("its answer lacks {:?}", shortened(expected)))
}

/// Uploads the nonce artifact of this run and reads it back. The path is written down first, so that there is one a run.
async fn plant(
    patience: &Patience<'_>,
    nexus: &Nexus,
    api: &NexusApi,
    account: &mut Account,
) -> Result<String, StepError> {
    let ctx = patience.ctx;
    let nonce = match Nonce::noted(&ctx.order)? {
        Some(nonce) => nonce,
        None => {
            let nonce = Nonce::new(&format!("{}/{}", nexus.canary_repository, folder(ctx)));
            ctx.gate.note(nonce::NOTE, nonce.note()?).await?;
            nonce
        }
    };
    if !is_there(api, &nonce).await {
        upload(ctx, nexus, api, &nonce).await?;
        let content = patience.ask(|| api.content(&nonce.path).boxed()).await?;
        if content != nonce.content {
            return Err(StepError::permanent(format!(
                "{} came back with another content than it was given",
                nonce.path
            )));
        }
    }
    account.said.push(format!("nonce {}", nonce.path));
    Ok(nonce.path)
}

/// Whether an earlier try got it there. Any doubt means no: uploading it again is harmless.
async fn is_there(api: &NexusApi, nonce: &Nonce) -> bool {
    matches!(api.content(&nonce.path).await, Ok(content) if content == nonce.content)
}

async fn upload(ctx: &Context, nexus: &Nexus, api: &NexusApi, nonce: &Nonce) -> Result<(), StepError> {
    let permit = ctx.gate.permit().await?;
    let left = permit.remaining();
    if left.is_zero() {
        return Err(StepError::NoLease("the lease leaves no time for the upload".into()));
    }
    let what = format!("failed to upload {}", nonce.path);
    let Err(error) = api.upload(&nonce.path, nonce.content.clone(), left).await else { return Ok(()) };
    Err(match error {
        NexusError::Http(error) => error.of_write(what),
        NexusError::Said { status: http::StatusCode::NOT_FOUND, .. } => StepError::permanent(format!(
            "{what}: there is no repository {0} at B; create a raw hosted repository {0} (at A too, so that it comes over)",
            nexus.canary_repository
        )),
        error if error.again() == Again::Never => StepError::Permanent { what, source: Some(Box::new(error)) },
        error => StepError::Unknown { what, source: Some(Box::new(error)) },
    })
}

/// Where canaries and nonces of the pair lie, within the canary repository.
fn folder(ctx: &Context) -> String {
    format!("understudy/{}/", ctx.pair.name)
}

/// Asks again while it makes sense and there is time.
struct Patience<'a> {
    ctx: &'a Context,
    deadline: Instant,
}

impl Patience<'_> {
    async fn ask<'a, T>(&self, question: impl Fn() -> BoxFuture<'a, Result<T, NexusError>>) -> Result<T, StepError> {
        let mut looks = Looks::until(self.deadline);
        let mut few = FEW_TIMES;
        loop {
            let error = match question().await {
                Ok(found) => return Ok(found),
                Err(error) => error,
            };
            few -= u32::from(error.again() == Again::FewTimes);
            let what = "the Nexus at B is not what it should be";
            if error.again() == Again::Never || few == 0 {
                return Err(StepError::Permanent { what: what.into(), source: Some(Box::new(error)) });
            }
            self.ctx.gate.progress(chain(&error));
            if !looks.next().await {
                return Err(StepError::Transient { what: what.into(), source: Some(Box::new(error)) });
            }
        }
    }

    async fn until_writable(&self, nexus: &Nexus, api: &NexusApi) -> Result<(), StepError> {
        let mut looks = Looks::until(self.deadline);
        loop {
            match self.ask(|| api.writable().boxed()).await? {
                Writable::Yes => return Ok(()),
                Writable::Frozen { reason } => return Err(frozen(nexus, &reason)),
                Writable::NotNow => self.ctx.gate.progress("Nexus at B takes no writes yet".into()),
            }
            if !looks.next().await {
                return Err(StepError::transient("Nexus at B takes no writes, and was frozen by nobody"));
            }
        }
    }

    /// Waits until the configured checks are healthy. Those that this version does not have are named.
    async fn until_healthy(&self, nexus: &Nexus, api: &NexusApi, account: &mut Account) -> Result<(), StepError> {
        let mut looks = Looks::until(self.deadline);
        loop {
            let Some(checks) = self.ask(|| api.checks().boxed()).await? else {
                account.said.push("the login may not see the checks (nexus:metrics:read)".into());
                return Ok(());
            };
            let (known, absent): (Vec<&String>, Vec<&String>) =
                nexus.checks.iter().partition(|name| checks.contains_key(*name));
            let ill: Vec<String> = known.iter().filter_map(|name| complaint(name, &checks[*name])).collect();
            if ill.is_empty() {
                account.said.push(match absent.is_empty() {
                    true => format!("{} checks healthy", known.len()),
                    false => format!("{} checks healthy, not in this version: {}", known.len(), list(&absent)),
                });
                return Ok(());
            }
            let trouble = format!("Nexus at B is not well: {}", ill.join(", "));
            self.ctx.gate.progress(trouble.clone());
            if !looks.next().await {
                return Err(StepError::transient(trouble));
            }
        }
    }
}

fn complaint(name: &str, check: &SystemCheck) -> Option<String> {
    let message = check.message.as_deref().unwrap_or("no message");
    (!check.healthy).then(|| format!("{name} ({})", shortened(message)))
}

fn list(names: &[&String]) -> String {
    names.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ")
}

fn frozen(nexus: &Nexus, reason: &str) -> StepError {
    let user = nexus.credentials.as_ref().map_or("ADMIN", |credentials| credentials.user.as_str());
    let url = nexus.standby.url.as_str().trim_end_matches('/');
    let reason = if reason.is_empty() { String::new() } else { format!(" ({reason})") };
    StepError::permanent(format!(
        "the frozen state of A was replicated: Nexus at B is read-only{reason}; release it with \
         `curl -u {user} -X POST {url}/service/rest/v1/read-only/release` (not force-release, which leaves the marker), then retry"
    ))
}

#[cfg(test)]
mod tests;
