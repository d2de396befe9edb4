//! Does everybody find B: the targets of the route, and the proof from outside.

use std::net::IpAddr;
use std::time::Duration;

use super::{Lint, webhook};
use crate::{DnsUpdate, Key, Notify, Pair, RouteCheck, RouteTarget, RouteWebhook};

/// Caches may go on leading to A for the life of the old record.
const LONG_TTL: Duration = Duration::from_secs(300);

const ALGORITHMS: [&str; 3] = ["hmac-sha256", "hmac-sha384", "hmac-sha512"];

pub(super) fn check(lint: &mut Lint<'_>, pair: &Pair, at: &Key) {
    let list = at.key("route");
    if pair.route.is_empty() {
        lint.warn(&list, "nobody is led to B", "add a webhook or a dns_update");
    }
    for (n, target) in pair.route.iter().enumerate() {
        match target {
            RouteTarget::Webhook(call) => check_webhook(lint, call, &list.item(n).key("webhook")),
            RouteTarget::DnsUpdate(update) => check_update(lint, update, &list.item(n).key("dns_update")),
        }
    }
    for (n, notify) in pair.notify.iter().enumerate() {
        let Notify::Webhook(call) = notify;
        webhook::check(lint, call, &at.key("notify").item(n).key("webhook"));
    }
    match &pair.route_check {
        Some(check) => check_proof(lint, pair, check, &at.key("route_check")),
        None => {
            lint.warn(&at.key("route_check"), "nothing proves from outside that the name leads to B", "add route_check")
        }
    }
}

fn check_webhook(lint: &mut Lint<'_>, target: &RouteWebhook, at: &Key) {
    webhook::check(lint, &target.call, at);
    if target.call.secret.is_none() && target.call.secret_headers.is_empty() {
        let message = "the receiver can not tell who asks it to switch the route";
        lint.warn(&at.key("secret"), message, "add secret: file:PATH, and check the signature there");
    }
    match &target.read {
        Some(read) => {
            webhook::check_url(lint, &read.url, &at.key("read").key("url"));
            webhook::check_pointer(lint, &read.pointer, &at.key("read").key("pointer"));
            if read.before.as_ref() == Some(&read.expect) {
                lint.error(&at.key("read").key("before"), "the same value means A and B", "write the value of A");
            }
        }
        None if target.call.expect_json.is_none() => {
            let message = "the switch is not read back, so that any 2xx counts as done";
            lint.warn(&at.key("read"), message, "add read, or expect_json");
        }
        None => {}
    }
}

fn check_update(lint: &mut Lint<'_>, update: &DnsUpdate, at: &Key) {
    for (key, addresses, site) in [("to", &update.to, "B"), ("from", &update.from, "A")] {
        if addresses.is_empty() {
            let message = format!("no address means {site}");
            lint.error(&at.key(key), message, "write at least one: an empty set is never written nor compared with");
        }
    }
    if let Some(both) = update.to.iter().find(|address| update.from.contains(address)) {
        lint.error(&at.key("to"), format!("{both} means both A and B"), "write the addresses of B alone");
    }
    let ttl = update.ttl;
    if ttl.0.subsec_nanos() != 0 || ttl.0.as_secs() > u64::from(u32::MAX >> 1) {
        lint.error(&at.key("ttl"), format!("{ttl} is no time to live"), "write whole seconds");
    } else if ttl.0 > LONG_TTL {
        let message = format!("a resolver may go on leading to A for {ttl}");
        lint.warn(&at.key("ttl"), message, "write at most 5m");
    }
    if !ALGORITHMS.contains(&update.algorithm.as_str()) {
        let message = format!("{:?} is no algorithm that is known here", update.algorithm);
        lint.error(&at.key("algorithm"), message, format!("write one of {}", ALGORITHMS.join(", ")));
    }
    let zone = update.zone.trim_end_matches('.');
    let name = update.absolute_name();
    if name != zone && !name.ends_with(&format!(".{zone}")) {
        lint.error(&at.key("name"), format!("{name} is not in zone {zone}"), "write a name within the zone");
    }
}

fn check_proof(lint: &mut Lint<'_>, pair: &Pair, check: &RouteCheck, at: &Key) {
    let asks = !check.authoritative.is_empty() || !check.resolvers.is_empty();
    let nonce = check.nonce_through_public && pair.nexus.is_some();
    if !asks && !nonce {
        let remedy = match pair.nexus {
            Some(_) => "add authoritative or resolvers, or write nonce_through_public: true",
            None => "add authoritative or resolvers: only a nexus has a nonce",
        };
        return lint.error(at, "nothing would be checked", remedy);
    }
    if !asks {
        return;
    }
    if check.name.is_none() && pair.nexus.is_none() {
        lint.error(&at.key("name"), "no name to resolve", "add name, or describe the pair's nexus");
    }
    if check.expect.is_empty() && !pair.route.iter().any(|target| matches!(target, RouteTarget::DnsUpdate(_))) {
        lint.error(&at.key("expect"), "no address means B", "write the addresses that the name must lead to");
    }
    let longest = pair.route.iter().filter_map(|target| match target {
        RouteTarget::DnsUpdate(update) => Some(update.ttl),
        RouteTarget::Webhook(_) => None,
    });
    if let Some(ttl) = longest.max().filter(|ttl| *ttl >= check.within && !check.resolvers.is_empty()) {
        let message = format!("caches may lag for {ttl}, and the whole check ends after {}", check.within);
        lint.warn(&at.key("within"), message, format!("write more than {ttl}"));
    }
}

/// The addresses that mean B, with their keys; for the lint of what lies in A.
pub(super) fn addresses_of_b(pair: &Pair, at: &Key) -> Vec<(Key, IpAddr)> {
    let mut found = Vec::new();
    for (n, target) in pair.route.iter().enumerate() {
        if let RouteTarget::DnsUpdate(update) = target {
            let key = at.key("route").item(n).key("dns_update").key("to");
            found.extend(update.to.iter().map(|to| (key.clone(), *to)));
        }
    }
    if let Some(check) = &pair.route_check {
        found.extend(check.expect.iter().map(|to| (at.key("route_check").key("expect"), *to)));
    }
    found
}
