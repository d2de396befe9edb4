//! What lies where: nothing that a failover needs may lie in A, and a site is looked at by its own address.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use understudy_core::WitnessKind;

use super::address::{Address, Machine};
use super::{Lint, route};
use crate::{Hook, Key, Look, Nexus, Notify, Pair, RouteTarget, Storage, Which};

/// An address of A, and the setting that says so.
struct OfA {
    address: Address,
    said_by: String,
}

/// The machines of A. Where several settings name one, the first counts.
type MachinesOfA = BTreeMap<Machine, OfA>;

pub(super) fn check(lint: &mut Lint<'_>) {
    let of_a = everything_of_a(lint);
    check_self_checks(lint, &of_a);
    check_clusters(lint, &of_a);
    let root = Key::root();
    if let Some(heartbeat) = &lint.config().heartbeat {
        let key = root.key("heartbeat").key("url");
        super::webhook::check_url(lint, &heartbeat.url, &key);
        needed(lint, &of_a, Address::of_url(&heartbeat.url), &key, "the heartbeat");
    }
    if let Some(endpoint) = &lint.config().telemetry.otlp_endpoint {
        let key = root.key("telemetry").key("otlp_endpoint");
        lost(lint, &of_a, Address::of_url(endpoint), &key, "the traces");
    }
    for (pair, at) in lint.pairs() {
        check_places(lint, pair, &at);
        check_needed(lint, &of_a, pair, &at);
    }
}

fn everything_of_a(lint: &Lint<'_>) -> MachinesOfA {
    let mut found = MachinesOfA::new();
    let mut add = |address: Option<Address>, said_by: Key| {
        if let Some(address) = address {
            found.entry(address.machine()).or_insert_with(|| OfA { address, said_by: said_by.to_string() });
        }
    };
    let kubeconfig = lint.primary.as_ref().and_then(|config| Address::of_url(&config.server));
    add(kubeconfig, Key::root().key("clusters").key("primary"));
    for (pair, at) in lint.pairs() {
        let public = pair.nexus.as_ref().and_then(|nexus| Address::of_url(&nexus.public.url));
        let own = |address: &Address| public.as_ref().is_none_or(|public| !public.same_machine(address));
        if let Some(nexus) = &pair.nexus {
            add(Address::of_place(&nexus.primary).filter(own), at.key("nexus").key("primary"));
        }
        for (n, probe) in pair.probes.iter().enumerate() {
            let key = at.key("probes").item(n);
            match &probe.look {
                Look::Http(http) => add(Address::of_target(&http.url, http.connect_to).filter(own), key),
                Look::Tcp(tcp) => add(Address::of_text(&tcp.address).filter(own), key),
                Look::Dns(dns) => add(dns.server.map(Address::from).filter(own), key),
                Look::Nexus(_) | Look::Kubernetes(_) | Look::RbdMirror(_) | Look::Ceph(_) | Look::Exec(_) => {}
            }
        }
    }
    found
}

fn in_a<'a>(of_a: &'a MachinesOfA, address: Option<&Address>) -> Option<&'a OfA> {
    of_a.get(&address?.machine())
}

/// An error if `what` lies in A: when A is gone, it is gone too.
fn needed(lint: &mut Lint<'_>, of_a: &MachinesOfA, address: Option<Address>, key: &Key, what: &str) {
    if let Some(OfA { address, said_by }) = in_a(of_a, address.as_ref()) {
        let message = format!("{what} lies in A ({address}, see {said_by}), which is gone when it is needed");
        lint.error(key, message, "write an address that works without A");
    }
}

/// A warning if `what` lies in A.
fn lost(lint: &mut Lint<'_>, of_a: &MachinesOfA, address: Option<Address>, key: &Key, what: &str) {
    if let Some(OfA { address, said_by }) = in_a(of_a, address.as_ref()) {
        let message = format!("{what} will be lost when A is ({address}, see {said_by})");
        lint.warn(key, message, "write an address that works without A");
    }
}

/// The place that a look goes to, if it is A's.
fn self_check_in_a(lint: &Lint<'_>, of_a: &MachinesOfA, look: &Look) -> Option<String> {
    let address = match look {
        Look::Kubernetes(Which::Primary) => return Some("clusters.primary".to_owned()),
        Look::Ceph(ceph) => {
            let same = |probe: &crate::Probe| matches!(&probe.look, Look::Ceph(other) if other.config == ceph.config);
            let watched = lint.pairs().any(|(pair, _)| pair.probes.iter().any(same));
            return watched.then(|| ceph.config.display().to_string());
        }
        Look::Http(http) => Address::of_target(&http.url, http.connect_to),
        Look::Tcp(tcp) => Address::of_text(&tcp.address),
        Look::Dns(dns) => dns.server.map(Address::from),
        Look::Kubernetes(Which::Standby) => lint.standby.as_ref().and_then(|config| Address::of_url(&config.server)),
        Look::Nexus(_) | Look::RbdMirror(_) | Look::Exec(_) => None,
    };
    in_a(of_a, address.as_ref()).map(|known| known.said_by.clone())
}

fn check_self_checks(lint: &mut Lint<'_>, of_a: &MachinesOfA) {
    let list = Key::root().key("self_checks");
    let checks = &lint.config().self_checks;
    let mut independent = 0;
    for (n, check) in checks.iter().enumerate() {
        let Some(place) = self_check_in_a(lint, of_a, &check.look) else {
            independent += 1;
            continue;
        };
        let message = format!("{:?} looks at A ({place}), so that its end would make us doubt ourselves", check.name);
        lint.error(&list.item(n), message, "look at something that works without A");
    }
    if independent == 0 {
        let message = "nothing tells whether we are fit to judge: no self-check is independent of A";
        lint.error(&list, message, "add { name: neutral, http: { url: … } } of a third place, and kubernetes: standby");
    }
}

fn check_clusters(lint: &mut Lint<'_>, of_a: &MachinesOfA) {
    let standby = lint.standby.as_ref().and_then(|config| Address::of_url(&config.server));
    needed(lint, of_a, standby, &Key::root().key("clusters").key("standby"), "the standby's API server");
}

/// Each place by its own address, and each another one.
fn check_places(lint: &mut Lint<'_>, pair: &Pair, at: &Key) {
    let Some(nexus) = &pair.nexus else { return };
    let key = at.key("nexus");
    for (name, place) in [("primary", &nexus.primary), ("standby", &nexus.standby), ("public", &nexus.public)] {
        super::webhook::check_url(lint, &place.url, &key.key(name).key("url"));
    }
    for (name, place, site) in [("primary", &nexus.primary, "A"), ("standby", &nexus.standby, "B")] {
        if place.connect_to.is_none() && place.url.host() == nexus.public.url.host() && same_port(nexus, place) {
            by_public_name(lint, &key.key(name), &format!("the {name} place"), site);
        }
    }
    let probes = pair.probes.iter().enumerate().map(|probe| ("probes", "A", probe));
    let standby_probes = pair.standby_probes.iter().enumerate().map(|probe| ("standby_probes", "B", probe));
    for (list, site, (n, probe)) in probes.chain(standby_probes) {
        let address = match &probe.look {
            Look::Http(http) if http.connect_to.is_none() => Address::of_url(&http.url),
            Look::Tcp(tcp) => Address::of_text(&tcp.address),
            _ => None,
        };
        let public = Address::of_url(&nexus.public.url);
        if let (Some(address), Some(public)) = (address, public)
            && address.same_machine(&public)
        {
            by_public_name(lint, &at.key(list).item(n), &format!("probe {:?}", probe.name), site);
        }
    }
    let (primary, standby) = (Address::of_place(&nexus.primary), Address::of_place(&nexus.standby));
    if let (Some(primary), Some(standby)) = (primary, standby)
        && primary.same_machine(&standby)
    {
        let message = format!("the standby's Nexus has the address of the primary's ({primary})");
        lint.error(&key.key("standby"), message, "write connect_to with B's own address");
    }
}

/// On loopback places differ by their port alone.
fn same_port(nexus: &Nexus, place: &crate::Place) -> bool {
    let loopback = Address::of_url(&nexus.public.url).is_some_and(|address| address.is_loopback());
    !loopback || place.url.port_or_known_default() == nexus.public.url.port_or_known_default()
}

fn by_public_name(lint: &mut Lint<'_>, key: &Key, what: &str, site: &str) {
    let message = format!("{what} is reached by the public name, which moves");
    lint.error(key, message, format!("add connect_to with the address of {site} itself"));
}

fn check_needed(lint: &mut Lint<'_>, of_a: &MachinesOfA, pair: &Pair, at: &Key) {
    for (n, target) in pair.route.iter().enumerate() {
        let at = at.key("route").item(n);
        match target {
            RouteTarget::Webhook(call) => {
                let url = at.key("webhook").key("url");
                needed(lint, of_a, Address::of_url(&call.call.url), &url, "the route's receiver");
                if let Some(read) = &call.read {
                    let url = at.key("webhook").key("read").key("url");
                    needed(lint, of_a, Address::of_url(&read.url), &url, "what reads the route back");
                }
            }
            RouteTarget::DnsUpdate(update) => {
                needed(lint, of_a, Some(update.server.into()), &at.key("dns_update").key("server"), "the DNS server");
            }
        }
    }
    for (n, notify) in pair.notify.iter().enumerate() {
        let Notify::Webhook(call) = notify;
        let url = at.key("notify").item(n).key("webhook").key("url");
        needed(lint, of_a, Address::of_url(&call.url), &url, "who is paged and asked");
    }
    for (n, witness) in pair.witnesses.iter().enumerate() {
        if witness.kind == WitnessKind::ThirdSite {
            let url = at.key("witnesses").item(n).key("url");
            needed(lint, of_a, Address::of_url(&witness.url), &url, "the witness of a third site");
        }
    }
    check_storage(lint, of_a, pair, at);
    check_proof(lint, of_a, pair, at);
    for (key, address) in route::addresses_of_b(pair, at) {
        let known = (!address.is_loopback()).then(|| Address::from(SocketAddr::new(address, 0)));
        if let Some(OfA { said_by, .. }) = in_a(of_a, known.as_ref()) {
            let message = format!("{address} is an address of A (see {said_by})");
            lint.error(&key, message, "write the addresses of B");
        }
    }
}

fn check_storage(lint: &mut Lint<'_>, of_a: &MachinesOfA, pair: &Pair, at: &Key) {
    let Storage::Hooks(hooks) = &pair.storage else { return };
    let at = at.key("storage").key("hooks");
    for (name, hook) in
        [("status", Some(&hooks.status)), ("promote", Some(&hooks.promote)), ("age", hooks.age.as_ref())]
    {
        if let Some(Hook::Webhook(call)) = hook {
            let url = at.key(name).key("webhook").key("url");
            needed(lint, of_a, Address::of_url(&call.url), &url, "the storage's receiver");
        }
    }
}

fn check_proof(lint: &mut Lint<'_>, of_a: &MachinesOfA, pair: &Pair, at: &Key) {
    if let Some(http) = &pair.verify.http {
        let key = at.key("verify").key("http").key("url");
        needed(lint, of_a, Address::of_target(&http.url, http.connect_to), &key, "what verify looks at");
    }
    let Some(check) = &pair.route_check else { return };
    let at = at.key("route_check");
    for (n, server) in check.authoritative.iter().enumerate() {
        needed(lint, of_a, Some((*server).into()), &at.key("authoritative").item(n), "an authoritative server");
    }
    for (n, server) in check.resolvers.iter().enumerate() {
        lost(lint, of_a, Some((*server).into()), &at.key("resolvers").item(n), "the answer of this resolver");
    }
}
