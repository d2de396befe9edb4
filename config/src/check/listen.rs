//! What concerns the whole file: names, the HTTP API, clusters, our own hygiene.

use understudy_core::Mode;

use super::Lint;
use crate::{Cluster, Key};

pub(super) fn check(lint: &mut Lint<'_>) {
    let config = lint.config();
    let root = Key::root();
    if config.site.trim().is_empty() {
        lint.error(&root.key("site"), "the site has no name", "name this place, such as standby-b");
    }
    check_pairs(lint);
    check_api(lint);
    for (name, cluster) in [("primary", &config.clusters.primary), ("standby", &config.clusters.standby)] {
        if let Some(Cluster::InCluster(false)) = cluster {
            let key = root.key("clusters").key(name).key("in_cluster");
            lint.error(&key, "in_cluster: false says nothing", "write in_cluster: true, or kubeconfig: PATH");
        }
    }
    if let Some(Cluster::InCluster(true)) = config.clusters.primary {
        let key = root.key("clusters").key("primary");
        lint.error(
            &key,
            "the daemon runs at the standby, so that its own cluster is not the primary",
            "write kubeconfig: PATH",
        );
    }
    let doubt = root.key("doubt");
    if config.doubt.stall.0.is_zero() {
        lint.error(&doubt.key("stall"), "every moment would be a stall", "write 2s, or at least a few ticks");
    }
    if config.mode == Mode::Auto && config.doubt.automatic_max == 0 {
        lint.warn(&doubt.key("automatic_max"), "0 lets nothing happen by itself", "write 1, or mode: confirm");
    }
    if config.state.segment_bytes < SMALLEST_SEGMENT_BYTES {
        let message = format!("{} bytes are closed after a few records", config.state.segment_bytes);
        let remedy = format!("write at least {SMALLEST_SEGMENT_BYTES}");
        lint.error(&root.key("state").key("segment_bytes"), message, remedy);
    }
    if config.heartbeat.is_none() {
        let message = "nobody notices when the daemon itself is dead";
        lint.warn(&root.key("heartbeat"), message, "add heartbeat: { url: … } of a dead-man service");
    }
}

/// A closed segment begins with a record of its own; smaller ones would be mostly that.
const SMALLEST_SEGMENT_BYTES: u64 = 4096;

fn check_pairs(lint: &mut Lint<'_>) {
    let list = Key::root().key("pairs");
    if lint.config().pairs.is_empty() {
        lint.error(&list, "there is nothing to protect", "add a pair; config/example.yaml shows one");
    }
    let names: Vec<_> = lint.pairs().map(|(pair, at)| (pair.name.as_str(), at.key("name"))).collect();
    lint.unique(names);
    for (pair, at) in lint.pairs() {
        if !is_label(&pair.name) {
            let message = format!("{:?} can not be part of a run's, a Lease's or a metric's name", pair.name);
            lint.error(
                &at.key("name"),
                message,
                "write at most 40 of a-z, 0-9 and -, beginning and ending with a letter or digit",
            );
        }
    }
}

/// A Lease is named after the pair, so that the rules of Kubernetes apply, with room for what stands around it.
fn is_label(name: &str) -> bool {
    let inner = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    inner && (1..=40).contains(&name.len()) && !name.starts_with('-') && !name.ends_with('-')
}

fn check_api(lint: &mut Lint<'_>) {
    let Some(listen) = &lint.config().listen else { return };
    let at = Key::root().key("listen");
    let open = !listen.address.ip().is_loopback();
    match (&listen.tls, listen.tokens.is_empty()) {
        (None, false) if open => lint.error(
            &at,
            format!("tokens would cross the network in clear text, since {} is no loopback address", listen.address),
            "add tls, or listen on 127.0.0.1",
        ),
        (None, false) => {
            lint.warn(
                &at.key("tokens"),
                "tokens are of no use without tls",
                "add tls, or use the socket in the state directory",
            );
        }
        (Some(_), true) => {
            lint.warn(&at.key("tls"), "without tokens only health and metrics are served", "add tokens, or remove tls");
        }
        (None, true) | (Some(_), false) => {}
    }
    let subjects: Vec<_> = listen
        .tokens
        .iter()
        .enumerate()
        .map(|(n, token)| (token.subject.as_str(), at.key("tokens").item(n).key("subject")))
        .collect();
    lint.unique(subjects);
}
