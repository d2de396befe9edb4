//! Proof from outside that the name leads to B.
//!
//! In: authoritative servers, resolvers, the public address, and the nonce artifact that `verify` left at B. Out: the step
//! is done when every authoritative server answers with exactly B's addresses, and the nonce comes back through the public
//! address: a copy of Nexus is like its original in everything else. Resolvers with caches are then followed until the
//! time to live of the old answer is over; one that still answers with A by then is named, and fails the step only if it
//! has kept the answer for longer than it may. Start reading at [`run`].

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures::future::join_all;
use hickory_proto::rr::Name;
use tokio::time::{Instant, timeout_at};
use understudy_config::{Nexus, RouteCheck, RouteTarget};

use crate::dns::{self, Carried, DnsError, Found};
use crate::http_client::chain;
use crate::looks::Looks;
use crate::nexus_api::{NexusApi, NexusError, OpenError};
use crate::nonce::Nonce;
use crate::{Context, StepDone, StepError};

/// Time for one question.
const ASK_WITHIN: Duration = Duration::from_secs(3);

/// A cache counts whole seconds, at both ends.
const SLACK: Duration = Duration::from_secs(2);

/// Looks from outside until the route is proven, and at caches until they must have forgotten. Changes nothing.
///
/// # Errors
/// [`StepError::Transient`] if it was not proven in time, [`StepError::Permanent`] if there is nothing to prove it by.
pub async fn run(ctx: &Context) -> Result<StepDone, StepError> {
    let Some(check) = &ctx.pair.route_check else {
        return Err(StepError::permanent("the settings have no route_check any more: put it back, or skip the step"));
    };
    let mut view = View::of(ctx, check).await?;
    let deadline = Instant::now() + check.within.0;
    let mut looks = Looks::until(deadline);
    loop {
        // What a look finds is kept piece by piece, so that one that hangs takes nothing from the others.
        let _ = timeout_at(deadline, view.look()).await;
        let (missing, waited_for) = (view.missing(), view.waited_for());
        if let Some(outlived) = view.outlived() {
            return Err(StepError::transient(outlived));
        }
        if missing.is_empty() && waited_for.is_empty() {
            return Ok(StepDone::saying(view.account()));
        }
        ctx.gate.progress([missing.clone(), waited_for].concat().join("; "));
        if !looks.next().await {
            return match missing.is_empty() {
                true => Ok(StepDone::saying(view.account())),
                false => Err(StepError::transient(format!(
                    "the route is not proven after {:?}: {}",
                    check.within.0,
                    missing.join("; ")
                ))),
            };
        }
    }
}

/// What is looked at, and what was seen last.
struct View<'a> {
    name: Option<Name>,
    expected: BTreeSet<IpAddr>,
    authoritative: Vec<Server>,
    resolvers: Vec<Server>,
    nonce: Option<Sought<'a>>,
    began: Instant,
    /// The longest that anybody may keep the old answer.
    old_ttl: Duration,
}

/// A name server.
struct Server {
    address: SocketAddr,
    seen: Option<Result<Found, DnsError>>,
    /// The longest time to live of an answer that was not B.
    ttl: Duration,
}

/// The nonce artifact, through the public address.
struct Sought<'a> {
    nexus: &'a Nexus,
    api: NexusApi,
    nonce: Nonce,
    seen: Option<Result<bool, NexusError>>,
}

impl<'a> View<'a> {
    async fn of(ctx: &'a Context, check: &RouteCheck) -> Result<Self, StepError> {
        let servers = |addresses: &[SocketAddr]| {
            addresses.iter().map(|address| Server { address: *address, seen: None, ttl: Duration::ZERO }).collect()
        };
        let (authoritative, resolvers): (Vec<Server>, Vec<Server>) =
            (servers(&check.authoritative), servers(&check.resolvers));
        let nonce = match &ctx.pair.nexus {
            Some(nexus) if check.nonce_through_public => Some(Sought::of(ctx, nexus).await?),
            _ => None,
        };
        if authoritative.is_empty() && nonce.is_none() {
            return Err(StepError::permanent(
                "there is nothing that proves the route: name `authoritative` servers, or let the nonce come back",
            ));
        }
        let by_name = !authoritative.is_empty() || !resolvers.is_empty();
        if by_name && check.expect.is_empty() {
            return Err(StepError::permanent("`expect` is empty: write the addresses that mean B"));
        }
        Ok(Self {
            name: if by_name { Some(name(ctx, check)?) } else { None },
            expected: check.expect.iter().copied().collect(),
            authoritative,
            resolvers,
            nonce,
            began: Instant::now(),
            old_ttl: old_ttl(ctx),
        })
    }

    /// One look at everything that has not shown B yet.
    async fn look(&mut self) {
        let expected = &self.expected;
        let asking = async {
            let Some(name) = &self.name else { return };
            let servers = self.authoritative.iter_mut().chain(&mut self.resolvers);
            join_all(servers.map(|server| server.ask(name, expected))).await;
        };
        let fetching = async {
            if let Some(sought) = &mut self.nonce {
                sought.fetch().await;
            }
        };
        tokio::join!(asking, fetching);
    }

    /// What of the proof is missing, in words.
    fn missing(&self) -> Vec<String> {
        let mut missing: Vec<String> = self
            .authoritative
            .iter()
            .filter(|server| !server.shows(&self.expected, true))
            .map(|server| format!("authoritative server {} {}", server.address, server.says()))
            .collect();
        missing.extend(self.nonce.as_ref().and_then(Sought::complaint));
        missing
    }

    /// The caches that may still hold the old answer, in words. One that does not answer is not waited for.
    fn waited_for(&self) -> Vec<String> {
        let followed = self.resolvers.iter().filter(|server| self.lags(server));
        followed.map(|server| format!("resolver {} {}", server.address, server.says())).collect()
    }

    /// Whether it answers with other addresses than B's. One that knows no address at all has nothing to forget.
    fn lags(&self, server: &Server) -> bool {
        matches!(&server.seen, Some(Ok(found)) if !found.addresses.is_empty()) && !server.shows(&self.expected, false)
    }

    /// A resolver that kept the old answer for longer than it may. The route was switched before this step began.
    fn outlived(&self) -> Option<String> {
        let late = self.resolvers.iter().find(|server| {
            let ttl = server.ttl.max(self.old_ttl);
            self.lags(server) && self.began.elapsed() > ttl + SLACK
        })?;
        Some(format!(
            "resolver {} {}, although that answer must be forgotten after {} s: somebody gives it anew",
            late.address,
            late.says(),
            late.ttl.max(self.old_ttl).as_secs()
        ))
    }

    /// What was seen, for the report.
    fn account(&self) -> String {
        let mut said = vec![];
        if !self.authoritative.is_empty() {
            let all: Vec<String> = self.authoritative.iter().map(|server| server.address.to_string()).collect();
            said.push(format!("{} answered with B", all.join(", ")));
        }
        if let Some(sought) = &self.nonce {
            said.push(format!("the nonce came back through {}", sought.nexus.public.url));
        }
        for server in &self.resolvers {
            let said_now = if server.shows(&self.expected, false) { "answers with B".into() } else { server.says() };
            said.push(format!("resolver {} {said_now}", server.address));
        }
        said.join("; ")
    }
}

impl Server {
    async fn ask(&mut self, name: &Name, expected: &BTreeSet<IpAddr>) {
        if self.shows(expected, false) {
            return;
        }
        let found = dns::look_up(self.address, name, Carried::ByDatagram, ASK_WITHIN).await;
        if let Ok(Found { ttl: Some(ttl), .. }) = &found {
            self.ttl = self.ttl.max(*ttl);
        }
        self.seen = Some(found);
    }

    fn shows(&self, expected: &BTreeSet<IpAddr>, with_authority: bool) -> bool {
        match &self.seen {
            Some(Ok(found)) => found.addresses == *expected && (found.authoritative || !with_authority),
            Some(Err(_)) | None => false,
        }
    }

    fn says(&self) -> String {
        match &self.seen {
            Some(Ok(found)) => {
                let ttl = found.ttl.map_or(String::new(), |ttl| format!(" for {} s more", ttl.as_secs()));
                let authority = if found.authoritative { "" } else { ", without authority" };
                format!("answers with {found}{ttl}{authority}")
            }
            Some(Err(error)) => format!("does not tell: {}", chain(error)),
            None => "was not asked".into(),
        }
    }
}

impl<'a> Sought<'a> {
    async fn of(ctx: &Context, nexus: &'a Nexus) -> Result<Self, StepError> {
        let what = || "failed to prepare calls of the public address".to_owned();
        let nonce = Nonce::noted(&ctx.order)?
            .filter(|nonce| ctx.order.nonce.as_ref().is_none_or(|path| *path == nonce.path))
            .ok_or_else(|| StepError::permanent("verify left no nonce artifact in this run: retry it"))?;
        let api = NexusApi::open(&nexus.public, nexus.credentials.as_ref()).await.map_err(|error| match error {
            OpenError::Http(error) => error.of_read(what()),
            OpenError::Secret(error) => StepError::Permanent { what: what(), source: Some(Box::new(error)) },
        })?;
        Ok(Self { nexus, api, nonce, seen: None })
    }

    /// On a new connection, as every call is.
    async fn fetch(&mut self) {
        if !matches!(self.seen, Some(Ok(true))) {
            self.seen = Some(self.api.content(&self.nonce.path).await.map(|content| content == self.nonce.content));
        }
    }

    fn complaint(&self) -> Option<String> {
        let public = &self.nexus.public.url;
        match &self.seen {
            Some(Ok(true)) => None,
            Some(Ok(false)) => Some(format!("the nonce that came back through {public} has another content")),
            Some(Err(error)) => Some(format!("the nonce did not come back through {public}: {}", chain(error))),
            None => Some("the nonce was not asked for".into()),
        }
    }
}

fn name(ctx: &Context, check: &RouteCheck) -> Result<Name, StepError> {
    let public = ctx.pair.nexus.as_ref().and_then(|nexus| nexus.public.url.domain());
    let text = check.name.as_deref().or(public).ok_or_else(|| {
        StepError::permanent("there is no name to ask for: write `name`, or a public URL with a host name")
    })?;
    dns::absolute(text)
}

/// The time to live that the name had before the switch, as `dns_update` wrote it down: a cache that was filled right
/// before keeps the old answer for so long, whatever it shows at first.
fn old_ttl(ctx: &Context) -> Duration {
    let notes = ctx.pair.route.iter().enumerate().filter_map(|(number, target)| match target {
        RouteTarget::DnsUpdate(_) => ctx.order.notes.get(&format!("route-{number}/before")),
        RouteTarget::Webhook(_) => None,
    });
    let seconds = notes.filter_map(|note| note.split_whitespace().nth(1)?.parse().ok()).max();
    Duration::from_secs(seconds.unwrap_or(0))
}

#[cfg(test)]
mod tests;
