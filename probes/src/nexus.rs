//! Looks at a Nexus of the pair, at its own address. Domain: `service`.
//!
//! Whose answer it is shows in its `Server` header: a Nexus says `Nexus/…`; a Nexus that is stopping, or whose disk is full and
//! that was told to stop, is answered for by its web server (`Jetty(…)`, 503 on every path). Anything else is a proxy, a
//! default page or another service. Where `node_id` and credentials are given, each look that would be Up also asks for the
//! node id, so that another Nexus is not taken for ours. (A copy of a Nexus has the same node id: this does not tell A from B.)
//!
//! | outcome | `status` | `writable` | `checks` | `canary`: PUT, then GET |
//! |---|---|---|---|---|
//! | 2xx, `Nexus/…` | Up | Up | Up if every named check is healthy, else Down(CheckFailed) | Up if the bytes are the same, else Down(CanaryDamaged) |
//! | 5xx, `Nexus/…` | Down(ServerError) | 503 Down(NotWritable), else Down(ServerError) | Down(ServerError) | PUT Down(CanaryRefused), GET Down(ServerError) |
//! | 503 or another 5xx, `Jetty(…)` | Down(ServerError) | same | same | same |
//! | 401 | Unknown(Unauthorized) | same | same | same |
//! | 403 | Unknown(Forbidden) | same | same | same |
//! | 5xx, 404 or 410 of anybody else: a proxy's error page | Down(WrongIdentity) | same | same | same |
//! | 2xx of anybody else, with a body | Down(WrongIdentity) | same | by its JSON, as above | Down(WrongIdentity) |
//! | 2xx of anybody else, empty: a proxy that hides the header, or not ours | Unknown(WrongIdentity) | same | Unknown(Unparsable) | PUT Unknown(WrongIdentity) |
//! | the node id is another | Down(WrongIdentity) | same | same | same |
//! | a named check is not there | | | Unknown(Unmapped) | |
//! | no JSON where it should be | | | Unknown(Unparsable) | |
//! | 404 of the Nexus | Unknown(Unmapped) | same | same | PUT (no such repository) Unknown(Unmapped), GET Down(CanaryDamaged) |
//! | the body breaks off | Down(Reset) | same | same | GET Down(CanaryDamaged) |
//! | the body is longer than 64 KiB | Unknown(TooLarge) | same | same | GET Down(CanaryDamaged) |
//! | any other code, redirects among them | Unknown(Unmapped) | same | same | same |
//! | no answer within the time-out | Down(TimedOut) | same | same | same |
//! | anything else | as [`crate::fault`] lists | same | same | same |
//!
//! `status` and `writable` know nothing of the disk: they stay 200 while it is full, hung or read-only. Only `checks`, if they
//! end in time, and `canary` see it.

pub(crate) mod canary;

use std::collections::BTreeMap;
use std::time::Duration;

use http::{Method, StatusCode};
use serde::Deserialize;
use tokio::time::{self, Instant};
use understudy_config::{Nexus as Settings, NexusLook};
use understudy_core::{Reading, Reason, Site, millis};

use crate::fault::Fault;
use crate::http1::{Answer, Call, Keep, Reach, Target};
use crate::probe::{Place, answered};
use crate::shared::Shared;
use crate::sight::Sight;
use crate::{ProbeError, clock};
use canary::Canaries;

/// A Nexus at one site, and one of its aspects.
pub(crate) struct Nexus {
    target: Target,
    aspect: Aspect,
    node: Option<Node>,
    /// Only A's clock is of interest.
    compares_clock: bool,
}

enum Aspect {
    Status(Call),
    Writable(Call),
    Checks { call: Call, named: Vec<String> },
    Canary(Canaries),
}

/// Which Nexus it has to be.
struct Node {
    call: Call,
    id: String,
}

/// Whose answer it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    /// A Nexus'.
    Nexus,
    /// The web server's of a Nexus that is stopping.
    Jetty,
    /// Anybody's.
    Other,
}

impl Whose {
    fn of(answer: &Answer) -> Self {
        let server = answer.header("server");
        if server.starts_with("Nexus/") {
            Whose::Nexus
        } else if server.starts_with("Jetty(") {
            Whose::Jetty
        } else {
            Whose::Other
        }
    }
}

impl Nexus {
    pub(crate) fn new(look: NexusLook, place: &Place<'_>, shared: &mut Shared) -> Result<Self, ProbeError> {
        let (pair, site) = place.pair("nexus")?;
        let missing = || ProbeError::Setting { what: "nexus", why: format!("pair {} has no nexus section", pair.name) };
        let settings = pair.nexus.as_ref().ok_or_else(missing)?;
        let at = match site {
            Site::A => &settings.primary,
            Site::B => &settings.standby,
        };
        let reach = Reach { url: &at.url, connect_to: at.connect_to, ca: at.ca.as_deref() };
        let target = Target::new(&reach, place.connect_within, shared)?;
        let call = |path| target.call_below(Method::GET, path, Keep::Beginning);
        let aspect = match look {
            // Without credentials: they are not needed, and wrong ones would be refused.
            NexusLook::Status => Aspect::Status(call("service/rest/v1/status")?),
            NexusLook::Writable => Aspect::Writable(call("service/rest/v1/status/writable")?),
            NexusLook::Checks => Aspect::Checks {
                call: with_login(call("service/rest/v1/status/check")?, settings)?,
                named: named_checks(settings)?,
            },
            NexusLook::Canary => {
                let folder = format!("{}/understudy/{}", settings.canary_repository, pair.name);
                let instance = format!("{}.{}", place.config.site, place.name);
                Aspect::Canary(Canaries::new(&target, &folder, &instance, place.period, settings)?)
            }
        };
        let node = node(&target, settings)?;
        Ok(Self { target, aspect, node, compares_clock: site == Site::A })
    }

    /// Never takes longer than `within`.
    pub(crate) async fn look(&self, within: Duration) -> Sight {
        let end = Instant::now() + within;
        let sight = answered(within, self.look_in_time()).await;
        if let (Aspect::Canary(canaries), Reading::Up) = (&self.aspect, sight.reading) {
            // Making room for the next one decides nothing, whatever comes of it.
            let _ = time::timeout_at(end, canaries.remove_oldest(&self.target)).await;
        }
        sight
    }

    async fn look_in_time(&self) -> Sight {
        let seen = match &self.aspect {
            Aspect::Status(call) => self.simple(call, Reason::ServerError).await,
            Aspect::Writable(call) => self.simple(call, Reason::NotWritable).await,
            Aspect::Checks { call, named } => self.checks(call, named).await,
            Aspect::Canary(canaries) => canaries.look(self).await,
        };
        seen.unwrap_or_else(|sight| sight)
    }

    /// A path whose code says all.
    async fn simple(&self, call: &Call, unavailable: Reason) -> Result<Sight, Sight> {
        let (answer, error_ms) = self.ask(call).await?;
        success(&answer, unavailable)?;
        if answer.cut {
            return Err(Sight::unknown(Reason::TooLarge, "the answer is longer than 64 KiB"));
        }
        self.is_ours(&answer).await?;
        Ok(Sight { clock_error_ms: error_ms, ..Sight::up() })
    }

    async fn checks(&self, call: &Call, named: &[String]) -> Result<Sight, Sight> {
        let (answer, error_ms) = self.ask(call).await?;
        success(&answer, Reason::ServerError)?;
        if answer.cut {
            return Err(Sight::unknown(Reason::TooLarge, "the answer is longer than 64 KiB"));
        }
        judge_checks(&answer.body, named)?;
        // An answer with our checks in it is a Nexus', even if a proxy hides the header.
        self.node_is_ours().await?;
        Ok(Sight { clock_error_ms: error_ms, ..Sight::up() })
    }

    /// Sends `call`; with how far the other clock may be from ours.
    async fn ask(&self, call: &Call) -> Result<(Answer, Option<u64>), Fault> {
        let started = clock::since_boot();
        let answer = self.target.send(call).await?;
        let took = clock::since_boot().saturating_sub(started);
        let error_ms =
            self.compares_clock.then(|| clock_error(answer.header("date"), clock::now().wall_ms, took)).flatten();
        Ok((answer, error_ms))
    }

    /// Whether a successful answer comes from our Nexus.
    async fn is_ours(&self, answer: &Answer) -> Result<(), Sight> {
        if self.node.is_some() {
            return self.node_is_ours().await;
        }
        match Whose::of(answer) {
            Whose::Nexus => Ok(()),
            Whose::Jetty | Whose::Other if answer.body.is_empty() => Err(Sight::unknown(
                Reason::WrongIdentity,
                "200 without the Server header of a Nexus: not ours, or a proxy hides it; set node_id and credentials to tell",
            )),
            Whose::Jetty | Whose::Other => Err(not_ours(answer)),
        }
    }

    async fn node_is_ours(&self) -> Result<(), Sight> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct System {
            node_id: String,
        }
        let Some(node) = &self.node else { return Ok(()) };
        let answer = self.target.send(&node.call).await?;
        success(&answer, Reason::ServerError)?;
        match serde_json::from_slice::<System>(&answer.body) {
            Ok(system) if system.node_id == node.id => Ok(()),
            Ok(_another) => {
                Err(Sight::down(Reason::WrongIdentity, "another Nexus: its node id is not the one of the file"))
            }
            Err(_) if Whose::of(&answer) != Whose::Nexus => Err(not_ours(&answer)),
            Err(error) => Err(Sight::unknown(Reason::Unparsable, format!("the node id: {error}"))),
        }
    }
}

/// Leaves a success to be looked at; `unavailable` is what a 503 of the Nexus itself says.
pub(crate) fn success(answer: &Answer, unavailable: Reason) -> Result<(), Sight> {
    let code = answer.status;
    let whose = Whose::of(answer);
    if code.is_success() {
        return Ok(());
    }
    Err(match (code, whose) {
        (StatusCode::UNAUTHORIZED, _) => Sight::unknown(Reason::Unauthorized, "401: the credentials are not accepted"),
        (StatusCode::FORBIDDEN, _) => Sight::unknown(Reason::Forbidden, "403: no right to look, or no credentials"),
        (StatusCode::SERVICE_UNAVAILABLE, Whose::Nexus) => Sight::down(unavailable, "503 of the Nexus"),
        (_, Whose::Jetty) if code.is_server_error() => {
            Sight::down(Reason::ServerError, format!("{} of its web server alone: it is stopping", code.as_u16()))
        }
        (_, Whose::Nexus) if code.is_server_error() => {
            Sight::down(Reason::ServerError, format!("{} of the Nexus", code.as_u16()))
        }
        (StatusCode::NOT_FOUND | StatusCode::GONE, Whose::Other) => not_ours(answer),
        (_, Whose::Other) if code.is_server_error() => not_ours(answer),
        _ => Sight::unknown(Reason::Unmapped, format!("{} is not expected", code.as_u16())),
    })
}

fn not_ours(answer: &Answer) -> Sight {
    let server = match answer.header("server") {
        "" => "someone without a Server header",
        server => server,
    };
    Sight::down(Reason::WrongIdentity, format!("{} of {server}, which is no Nexus", answer.status.as_u16()))
}

pub(crate) fn judge_checks(body: &[u8], named: &[String]) -> Result<(), Sight> {
    #[derive(Deserialize)]
    struct Check {
        healthy: bool,
        #[serde(default)]
        message: Option<String>,
    }
    let checks: BTreeMap<String, Check> = serde_json::from_slice(body)
        .map_err(|error| Sight::unknown(Reason::Unparsable, format!("the system checks: {error}")))?;
    for name in named {
        match checks.get(name) {
            Some(check) if check.healthy => {}
            Some(check) => {
                let message = check.message.as_deref().unwrap_or("unhealthy");
                return Err(Sight::down(Reason::CheckFailed, format!("{name}: {message}")));
            }
            None => return Err(Sight::unknown(Reason::Unmapped, format!("this Nexus has no system check {name:?}"))),
        }
    }
    Ok(())
}

/// How far the clock behind a `Date` header, which is in whole seconds, may be from `wall_ms`, read `took` after the question.
pub(crate) fn clock_error(date: &str, wall_ms: i64, took: Duration) -> Option<u64> {
    const WHOLE_SECOND_MS: u64 = 1000;
    let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(date).ok()?;
    let offset = date.as_millisecond().abs_diff(wall_ms);
    Some(offset.saturating_add(WHOLE_SECOND_MS).saturating_add(millis(took)))
}

fn with_login(call: Call, settings: &Settings) -> Result<Call, ProbeError> {
    match &settings.credentials {
        Some(credentials) => call.with_user(&credentials.user, &credentials.password.read()?),
        None => Ok(call),
    }
}

fn named_checks(settings: &Settings) -> Result<Vec<String>, ProbeError> {
    if settings.checks.is_empty() {
        let why = "no check is named, so that none could fail: name some under nexus.checks".into();
        return Err(ProbeError::Setting { what: "nexus: checks", why });
    }
    Ok(settings.checks.clone())
}

fn node(target: &Target, settings: &Settings) -> Result<Option<Node>, ProbeError> {
    let Some(id) = &settings.node_id else { return Ok(None) };
    if settings.credentials.is_none() {
        let why = "a Nexus tells its node id to a login only: set nexus.credentials too".into();
        return Err(ProbeError::Setting { what: "nexus.node_id", why });
    }
    let call = target.call_below(Method::GET, "service/rest/v1/system/node", Keep::Beginning)?;
    Ok(Some(Node { call: with_login(call, settings)?, id: id.clone() }))
}

#[cfg(test)]
mod tests;
