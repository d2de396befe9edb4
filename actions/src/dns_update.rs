//! Switches one target of the route by a signed DNS update, as compare-and-set on the value read before.
//!
//! In: the zone's primary server, the name, the addresses that mean A and those that mean B, a TSIG key. Out: the step is
//! done when that server itself answers with B's addresses. The update demands, as prerequisite, that the name still has
//! exactly A's addresses, of both families, and puts B's in their place in one transaction: at no moment is it empty, and
//! whoever was there first wins. Start reading at [`run`].
//!
//! # Source
//! RFC 2136 (updates), RFC 8945 (TSIG).

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hickory_proto::op::{Message, OpCode, Query, ResponseCode, UpdateMessage};
use hickory_proto::rr::rdata::tsig::{TsigAlgorithm, TsigError};
use hickory_proto::rr::rdata::{A, AAAA};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType, TSigVerifier, TSigner};
use secrecy::ExposeSecret;
use understudy_config::DnsUpdate;

use crate::dns::{self, Carried, DnsError, Found};
use crate::looks::Looks;
use crate::{Context, StepDone, StepError};

/// How far the server's clock and ours may differ, in seconds. Source: RFC 8945, section 10.
const FUDGE_SECONDS: u16 = 300;

/// Where the name leads.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Where {
    AtB,
    AtA(Found),
}

/// What an update is made of.
struct Plan {
    zone: Name,
    name: Name,
    from: BTreeSet<IpAddr>,
    to: BTreeSet<IpAddr>,
    ttl_seconds: u32,
    signer: TSigner,
}

/// Why the server did not do it.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("it does not know the TSIG key {0}: correct `key_name`, or add the key to the server")]
    UnknownKey(String),
    #[error("the signature is wrong: `tsig` or `algorithm` is not that of the server's key {0}")]
    WrongKey(String),
    #[error("its clock and ours differ by more than {FUDGE_SECONDS} s: set the clocks right")]
    WrongTime,
    #[error("it answered {0}: is the key allowed to update this name, and is the server the zone's primary?")]
    NotAllowed(ResponseCode),
    #[error("it was changed since it was read ({0})")]
    Changed(ResponseCode),
    #[error("it answered {0}")]
    Said(ResponseCode),
}

/// Switches `update`'s name and reads it back. Safe to repeat: what leads to B already is left alone.
///
/// # Errors
/// [`StepError::Permanent`] if the name leads neither to A nor to B, or the server refuses the key.
pub async fn run(ctx: &Context, update: &DnsUpdate) -> Result<StepDone, StepError> {
    let plan = plan(update)?;
    let before = match check(update, &plan).await? {
        Where::AtB => return Ok(StepDone::saying(format!("{} leads to {} already", plan.name, list(&plan.to)))),
        Where::AtA(before) => before,
    };
    let ttl = before.ttl.map_or(0, |ttl| ttl.as_secs());
    // What would have to be written back by hand.
    ctx.gate.note("before", format!("{} {ttl} {before}", plan.name)).await?;
    apply(ctx, update, &plan).await?;
    await_done(ctx, update, &plan).await?;
    Ok(StepDone::saying(format!(
        "{} led to {before} (ttl {ttl} s) and leads to {} (ttl {} s) now",
        plan.name,
        list(&plan.to),
        plan.ttl_seconds
    )))
}

/// Asks the server itself where the name leads.
async fn check(update: &DnsUpdate, plan: &Plan) -> Result<Where, StepError> {
    let no_authority = || {
        let (server, name) = (update.server, &plan.name);
        StepError::permanent(format!(
            "the DNS server {server} is no authority for {name}, or refuses to be asked: write the zone's primary server"
        ))
    };
    let found = match dns::look_up(update.server, &plan.name, Carried::ByTcp, update.timeout.0).await {
        Err(DnsError::Said { code: ResponseCode::Refused | ResponseCode::NotAuth, .. }) => return Err(no_authority()),
        found => found.map_err(|error| error.of_read(format!("failed to read {}", plan.name)))?,
    };
    if !found.authoritative {
        return Err(no_authority());
    }
    if found.alias.is_none() && found.addresses == plan.to {
        return Ok(Where::AtB);
    }
    if found.alias.is_none() && found.addresses == plan.from {
        return Ok(Where::AtA(found));
    }
    Err(StepError::permanent(format!(
        "{} leads to {found}, which is neither A ({}) nor B ({}): somebody else changed it; put it right, then retry",
        plan.name,
        list(&plan.from),
        list(&plan.to)
    )))
}

/// Sends the signed update.
async fn apply(ctx: &Context, update: &DnsUpdate, plan: &Plan) -> Result<(), StepError> {
    let what = || format!("failed to update {}", plan.name);
    let permit = ctx.gate.permit().await?;
    let left = permit.remaining();
    if left.is_zero() {
        return Err(StepError::NoLease("the lease leaves no time for the update".into()));
    }
    let mut message = plan.message();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let signed = message.finalize(&plan.signer, now);
    let verifier = signed.map_err(|source| StepError::Permanent { what: what(), source: Some(Box::new(source)) })?;
    let bytes = dns::encode(update.server, &message).map_err(|error| error.of_read(what()))?;
    let answer = match dns::exchange(update.server, &bytes, update.timeout.0.min(left)).await {
        Ok(answer) => answer,
        Err(error @ DnsError::NotSent { .. }) => return Err(error.of_read(what())),
        Err(error) => return Err(unknown(what(), error)),
    };
    accept(update, verifier, &answer, what)
}

/// Whether `answer` is a yes of whoever holds the key.
fn accept(
    update: &DnsUpdate,
    verifier: Option<TSigVerifier>,
    answer: &[u8],
    what: impl Fn() -> String,
) -> Result<(), StepError> {
    let heard = dns::decode(update.server, answer).map_err(|error| unknown(what(), error))?;
    judge(&heard, update).map_err(|refused| match refused {
        Refused::Changed(_) => StepError::Transient { what: what(), source: Some(Box::new(refused)) },
        // The server is in trouble: whether before or after the effect, it does not say.
        Refused::Said(_) => StepError::Unknown { what: what(), source: Some(Box::new(refused)) },
        _ => StepError::Permanent { what: what(), source: Some(Box::new(refused)) },
    })?;
    // A yes counts only from whoever holds the key.
    let verified = verifier.map(|mut verifier| verifier.verify(answer)).transpose();
    verified.map(|_| ()).map_err(|source| unknown(what(), source))
}

/// Reads `answer` as the one to an update that was signed with `key`; for [`crate::boundary`].
pub(crate) fn read_whole(update: &DnsUpdate, key: &[u8], answer: &[u8]) -> Result<(), StepError> {
    const SIGNED_AT: u64 = 1_700_000_000;
    let what = || format!("failed to update {}", update.name);
    let name = dns::absolute(&update.key_name)?;
    let signer = TSigner::new(key.to_vec(), TsigAlgorithm::HmacSha256, name, FUDGE_SECONDS);
    let signer = signer.map_err(|source| unknown(what(), source))?;
    let mut message = Message::query();
    message.metadata.op_code = OpCode::Update;
    let verifier = message.finalize(&signer, SIGNED_AT).map_err(|source| unknown(what(), source))?;
    accept(update, verifier, answer, what)
}

/// The two-byte codes of RFC 8945 stand in the signature's record, which a refusal carries unsigned.
fn judge(heard: &Message, update: &DnsUpdate) -> Result<(), Refused> {
    let key = || update.key_name.clone();
    match heard.signature.as_ref().and_then(|record| record.data.error.as_ref()) {
        Some(TsigError::BadKey) => return Err(Refused::UnknownKey(key())),
        Some(TsigError::BadSig | TsigError::BadTrunc) => return Err(Refused::WrongKey(key())),
        Some(TsigError::BadTime) => return Err(Refused::WrongTime),
        Some(TsigError::Unknown(_)) | None => {}
    }
    match heard.metadata.response_code {
        ResponseCode::NoError => Ok(()),
        ResponseCode::NotAuth if heard.signature.is_none() => Err(Refused::UnknownKey(key())),
        code @ (ResponseCode::NotAuth
        | ResponseCode::Refused
        | ResponseCode::NotZone
        | ResponseCode::NotImp
        | ResponseCode::FormErr) => Err(Refused::NotAllowed(code)),
        code @ (ResponseCode::NXRRSet | ResponseCode::YXRRSet | ResponseCode::NXDomain | ResponseCode::YXDomain) => {
            Err(Refused::Changed(code))
        }
        code => Err(Refused::Said(code)),
    }
}

fn unknown(what: String, source: impl std::error::Error + Send + Sync + 'static) -> StepError {
    StepError::Unknown { what, source: Some(Box::new(source)) }
}

/// Reads until the server answers with B, for as long as the update itself may take.
async fn await_done(ctx: &Context, update: &DnsUpdate, plan: &Plan) -> Result<(), StepError> {
    let mut looks = Looks::within(update.timeout.0);
    loop {
        let Where::AtA(found) = check(update, plan).await? else { return Ok(()) };
        ctx.gate.progress(format!("{} still leads to {found}", plan.name));
        if !looks.next().await {
            return Err(StepError::unknown(format!(
                "{} took the update and {} still leads to {found} after {:?}",
                update.server, plan.name, update.timeout.0
            )));
        }
    }
}

fn plan(update: &DnsUpdate) -> Result<Plan, StepError> {
    if update.to.is_empty() {
        return Err(StepError::permanent("`to` is empty: a name is never left without an address"));
    }
    let zone = dns::absolute(&update.zone)?;
    let name = name_in(&zone, &update.name)?;
    Ok(Plan {
        from: update.from.iter().copied().collect(),
        to: update.to.iter().copied().collect(),
        ttl_seconds: u32::try_from(update.ttl.0.as_secs()).unwrap_or(u32::MAX),
        signer: signer(update)?,
        zone,
        name,
    })
}

/// A name that ends with a dot or with the zone is absolute; any other lies in the zone; `@` is the zone itself.
fn name_in(zone: &Name, text: &str) -> Result<Name, StepError> {
    if text == "@" {
        return Ok(zone.clone());
    }
    let name = dns::absolute(text)?;
    if zone.zone_of(&name) {
        return Ok(name);
    }
    if text.ends_with('.') {
        return Err(StepError::permanent(format!("{name} does not lie in the zone {zone}")));
    }
    name.append_domain(zone).map_err(|source| StepError::Permanent {
        what: format!("{text:?} is no DNS name of the zone {zone}"),
        source: Some(Box::new(source)),
    })
}

fn signer(update: &DnsUpdate) -> Result<TSigner, StepError> {
    let algorithm = match update.algorithm.as_str() {
        "hmac-sha256" => TsigAlgorithm::HmacSha256,
        "hmac-sha384" => TsigAlgorithm::HmacSha384,
        "hmac-sha512" => TsigAlgorithm::HmacSha512,
        other => {
            return Err(StepError::permanent(format!(
                "{other:?} is no TSIG algorithm of ours: write hmac-sha256, hmac-sha384 or hmac-sha512"
            )));
        }
    };
    let what = || format!("failed to make the TSIG key {}", update.key_name);
    let secret =
        update.tsig.read().map_err(|source| StepError::Permanent { what: what(), source: Some(Box::new(source)) })?;
    let key = STANDARD
        .decode(secret.expose_secret())
        // The decoder's own message would show a part of the key.
        .map_err(|_| StepError::permanent(format!("{}: {} is not base64", what(), update.tsig)))?;
    TSigner::new(key, algorithm, dns::absolute(&update.key_name)?, FUDGE_SECONDS)
        .map_err(|source| StepError::Permanent { what: what(), source: Some(Box::new(source)) })
}

impl Plan {
    /// If the name has exactly A's addresses, take them away and put B's there.
    fn message(&self) -> Message {
        let mut message = Message::query();
        message.metadata.op_code = OpCode::Update;
        message.metadata.recursion_desired = false;
        message.add_zone(Query::query(self.zone.clone(), RecordType::SOA));
        for family in [RecordType::A, RecordType::AAAA] {
            let (from, to) = (self.of_family(&self.from, family), self.of_family(&self.to, family));
            if from.is_empty() {
                message.add_pre_requisite(self.whole_set(family, DNSClass::NONE));
            }
            message.add_pre_requisites(from.iter().map(|address| self.record(*address, 0)).collect::<Vec<_>>());
            if from == to {
                continue;
            }
            if !from.is_empty() {
                message.add_update(self.whole_set(family, DNSClass::ANY));
            }
            message.add_updates(to.iter().map(|address| self.record(*address, self.ttl_seconds)).collect::<Vec<_>>());
        }
        message
    }

    fn of_family(&self, addresses: &BTreeSet<IpAddr>, family: RecordType) -> Vec<IpAddr> {
        addresses.iter().copied().filter(|address| address.is_ipv4() == (family == RecordType::A)).collect()
    }

    fn record(&self, address: IpAddr, ttl_seconds: u32) -> Record {
        let data = match address {
            IpAddr::V4(address) => RData::A(A(address)),
            IpAddr::V6(address) => RData::AAAA(AAAA(address)),
        };
        Record::from_rdata(self.name.clone(), ttl_seconds, data)
    }

    /// Every record of a type: class NONE demands that there is none, class ANY takes all away.
    fn whole_set(&self, family: RecordType, class: DNSClass) -> Record {
        let mut record = Record::update0(self.name.clone(), 0, family);
        record.dns_class = class;
        record
    }
}

fn list(addresses: &BTreeSet<IpAddr>) -> String {
    Found { addresses: addresses.clone(), ..Found::default() }.to_string()
}

#[cfg(test)]
mod tests;
