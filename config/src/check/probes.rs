//! How we look: grids, time-outs, and what each way of looking needs.

use std::time::Duration;

use super::Lint;
use super::address::Address;
use crate::{COPY_AGE, Key, Look, NexusLook, Pair, Probe, Span, Storage, Which};

/// The first SYN is sent again only after this (RFC 6298, section 2.1), so that a shorter time-out makes one lost packet a failure.
const SYN_AGAIN: Duration = Duration::from_secs(1);

/// What every way of looking has.
struct Grid<'a> {
    name: &'a str,
    period: Span,
    timeout: Span,
    connect_timeout: Option<Span>,
}

pub(super) fn check_self_checks(lint: &mut Lint<'_>) {
    let list = Key::root().key("self_checks");
    let checks = &lint.config().self_checks;
    lint.unique(checks.iter().enumerate().map(|(n, check)| (check.name.as_str(), list.item(n).key("name"))));
    for (n, check) in checks.iter().enumerate() {
        let at = list.item(n);
        let grid = Grid { name: &check.name, period: check.period, timeout: check.timeout, connect_timeout: None };
        check_grid(lint, &grid, &at);
        check_lost_syn(lint, &grid, far_address(lint, None, &check.look), &at);
        match &check.look {
            Look::Nexus(_) | Look::RbdMirror(_) => {
                let message = format!("{:?} needs a pair, and a self-check has none", check.name);
                lint.error(&at.key(check.look.kind()), message, "write http, tcp, dns, kubernetes, ceph or exec");
            }
            look => check_look(lint, look, &at),
        }
    }
    if lint.config().clusters.standby.is_some()
        && !checks.iter().any(|check| check.look == Look::Kubernetes(Which::Standby))
    {
        let message = "our own API server is not among them, and a failover needs it";
        lint.warn(&list, message, "add { name: own-api, kubernetes: standby }");
    }
}

pub(super) fn check(lint: &mut Lint<'_>, pair: &Pair, at: &Key) {
    let of =
        |list: &str, probes: &'_ [Probe]| -> Vec<Key> { (0..probes.len()).map(|n| at.key(list).item(n)).collect() };
    let at_a = of("probes", &pair.probes);
    let at_b = of("standby_probes", &pair.standby_probes);
    let all = || pair.probes.iter().zip(&at_a).chain(pair.standby_probes.iter().zip(&at_b));
    let own = pair.storage.copy_age().map(|_| (COPY_AGE, at.key("storage").key("hooks").key("age")));
    lint.unique(own.into_iter().chain(all().map(|(probe, at)| (probe.name.as_str(), at.key("name")))));
    for (probe, at) in all() {
        check_probe(lint, pair, probe, at);
    }
    for (probe, at) in pair.probes.iter().zip(&at_a) {
        wrong_site(lint, probe, Which::Standby, "primary", at);
    }
    for (probe, at) in pair.standby_probes.iter().zip(&at_b) {
        wrong_site(lint, probe, Which::Primary, "standby", at);
    }
    check_witnesses(lint, pair, at);
    check_depth(lint, pair, &at.key("probes"));
}

fn check_witnesses(lint: &mut Lint<'_>, pair: &Pair, at: &Key) {
    let list = at.key("witnesses");
    lint.unique(pair.witnesses.iter().enumerate().map(|(n, w)| (w.name.as_str(), list.item(n).key("name"))));
    for (n, witness) in pair.witnesses.iter().enumerate() {
        let at = list.item(n);
        let grid =
            Grid { name: &witness.name, period: witness.period, timeout: witness.timeout, connect_timeout: None };
        check_grid(lint, &grid, &at);
        check_lost_syn(lint, &grid, Address::of_url(&witness.url), &at);
    }
}

fn check_probe(lint: &mut Lint<'_>, pair: &Pair, probe: &Probe, at: &Key) {
    let grid = Grid {
        name: &probe.name,
        period: probe.period,
        timeout: probe.timeout,
        connect_timeout: probe.connect_timeout,
    };
    check_grid(lint, &grid, at);
    check_lost_syn(lint, &grid, far_address(lint, Some(pair), &probe.look), at);
    for (key, count) in [("fall", probe.fall), ("rise", probe.rise)] {
        if count == 0 {
            lint.error(&at.key(key), format!("{:?} would count before it was read", probe.name), "write at least 1");
        }
    }
    check_look(lint, &probe.look, at);
    check_nexus(lint, pair, probe, at);
    check_mirror(lint, pair, probe, at);
}

fn check_grid(lint: &mut Lint<'_>, grid: &Grid<'_>, at: &Key) {
    let &Grid { name, period, timeout, connect_timeout } = grid;
    if period.0.is_zero() {
        lint.error(&at.key("period"), format!("{name:?} would never rest"), "write at least 100ms");
    }
    if timeout.0.is_zero() {
        lint.error(&at.key("timeout"), format!("{name:?} would never get an answer"), "write at least 100ms");
    }
    if timeout > period && !period.0.is_zero() {
        let message = format!("{name:?} may take {timeout}, which is longer than its period of {period}");
        lint.error(&at.key("timeout"), message, format!("write at most {period}, or give it a longer period"));
    }
    if let Some(connect) = connect_timeout.filter(|connect| *connect > timeout) {
        let message = format!("{name:?} may take {connect} to connect and only {timeout} in all");
        lint.error(&at.key("connect_timeout"), message, format!("write at most {timeout}"));
    }
}

fn check_lost_syn(lint: &mut Lint<'_>, grid: &Grid<'_>, far: Option<Address>, at: &Key) {
    // Two thirds of the whole if it is not written: see `Probe::connect_timeout`.
    let connect = grid.connect_timeout.map_or(grid.timeout.0 * 2 / 3, |written| written.0.min(grid.timeout.0));
    if connect > SYN_AGAIN || far.is_none_or(|far| far.is_loopback()) {
        return;
    }
    let key = if grid.connect_timeout.is_some() { "connect_timeout" } else { "timeout" };
    let message = format!(
        "{:?} gives up connecting after {}, and a lost SYN is sent again only after 1s",
        grid.name,
        Span(connect)
    );
    let more = if grid.connect_timeout.is_some() { "1s" } else { "1s 500ms" };
    lint.warn(&at.key(key), message, format!("write more than {more}, or one lost packet counts as Down"));
}

/// Where a look connects to over a network, if it does.
fn far_address(lint: &Lint<'_>, pair: Option<&Pair>, look: &Look) -> Option<Address> {
    match look {
        Look::Nexus(_) => Address::of_place(&pair?.nexus.as_ref()?.primary),
        Look::Kubernetes(Which::Primary) => Address::of_url(&lint.primary.as_ref()?.server),
        Look::Kubernetes(Which::Standby) => Address::of_url(&lint.standby.as_ref()?.server),
        Look::Http(http) => Address::of_target(&http.url, http.connect_to),
        Look::Tcp(tcp) => Address::of_text(&tcp.address),
        Look::Dns(dns) => dns.server.map(Address::from),
        Look::RbdMirror(_) | Look::Ceph(_) | Look::Exec(_) => None,
    }
}

/// What a way of looking needs wherever it stands.
fn check_look(lint: &mut Lint<'_>, look: &Look, at: &Key) {
    let at = at.key(look.kind());
    match look {
        Look::Kubernetes(Which::Primary) if lint.config().clusters.primary.is_none() => {
            needs_cluster(lint, &at, "primary");
        }
        Look::Kubernetes(Which::Standby) if lint.config().clusters.standby.is_none() => {
            needs_cluster(lint, &at, "standby");
        }
        Look::Tcp(tcp) if Address::of_text(&tcp.address).is_none() => {
            let message = format!("{:?} is no address", tcp.address);
            lint.error(&at.key("address"), message, "write HOST:PORT, an IPv6 address in brackets");
        }
        Look::Http(http) => super::webhook::check_url(lint, &http.url, &at.key("url")),
        Look::Exec(exec) if exec.command.is_empty() => {
            lint.error(&at.key("command"), "there is no program", "write [PROGRAM, ARGUMENT, …]");
        }
        Look::Ceph(ceph) if ceph.rbd.is_empty() => {
            lint.error(&at.key("rbd"), "there is no program", "write [rbd], or remove the key");
        }
        Look::Nexus(_)
        | Look::Kubernetes(_)
        | Look::RbdMirror(_)
        | Look::Ceph(_)
        | Look::Tcp(_)
        | Look::Dns(_)
        | Look::Exec(_) => {}
    }
}

fn needs_cluster(lint: &mut Lint<'_>, at: &Key, which: &str) {
    let message = format!("nothing says how the {which} cluster is reached");
    lint.error(at, message, format!("add clusters: {{ {which}: {{ kubeconfig: PATH }} }}"));
}

fn wrong_site(lint: &mut Lint<'_>, probe: &Probe, other: Which, here: &str, at: &Key) {
    if probe.look == Look::Kubernetes(other) {
        let message = format!("{:?} looks at the other site", probe.name);
        lint.error(&at.key("kubernetes"), message, format!("write kubernetes: {here}"));
    }
}

fn check_nexus(lint: &mut Lint<'_>, pair: &Pair, probe: &Probe, at: &Key) {
    let Look::Nexus(look) = probe.look else { return };
    let at = at.key("nexus");
    let Some(nexus) = &pair.nexus else {
        let message = format!("{:?} looks at a Nexus that the pair does not describe", probe.name);
        return lint.error(&at, message, "add nexus with primary, standby and public to the pair");
    };
    let needs_login = matches!(look, NexusLook::Checks | NexusLook::Canary);
    if needs_login && nexus.credentials.is_none() {
        let message = format!("{:?} is refused without a login", probe.name);
        lint.error(&at, message, "add credentials to the pair's nexus");
    }
}

fn check_mirror(lint: &mut Lint<'_>, pair: &Pair, probe: &Probe, at: &Key) {
    let Look::RbdMirror(mirror) = &probe.look else { return };
    let at = at.key("rbd_mirror");
    let Storage::Rbd(rbd) = &pair.storage else {
        let message = format!("{:?} needs the images of storage: rbd", probe.name);
        return lint.error(&at, message, "remove the probe, or write storage: { rbd: … }");
    };
    let holds = |image: &String| image.split_once('/').is_some_and(|(pool, _)| pool == mirror.pool);
    let images_are_right = !rbd.images.is_empty() && rbd.images.iter().all(|image| super::storage::is_image(image));
    if images_are_right && !rbd.images.iter().any(holds) {
        let message = format!("no image of the pair lies in pool {:?}", mirror.pool);
        lint.error(&at.key("pool"), message, "write the pool of storage.rbd.images");
    }
}

/// `status` and `writable` stay 200 on a full, hung or read-only disk (measured on Nexus 3.71).
fn check_depth(lint: &mut Lint<'_>, pair: &Pair, at: &Key) {
    let mut looks = pair.probes.iter().filter_map(|probe| match probe.look {
        Look::Nexus(look) => Some(look),
        _ => None,
    });
    let deep = |look| matches!(look, NexusLook::Checks | NexusLook::Canary);
    let some = looks.clone().next().is_some();
    if some && !looks.any(deep) {
        let message = "status and writable stay green on a full, hung or read-only disk";
        lint.warn(at, message, "add a probe with nexus: canary");
    }
}
