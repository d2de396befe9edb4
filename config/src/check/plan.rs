//! The price and the limits: can the gates open, and is every write over before the lease is?

use understudy_core::{Mode, WitnessKind};

use super::Lint;
use crate::{Hook, Key, Nexus, Pair, RouteTarget, Span, Storage, Verify};

pub(super) fn check(lint: &mut Lint<'_>, pair: &Pair, at: &Key) {
    check_loss(lint, pair, at);
    check_limits(lint, pair, at);
    check_verify(lint, pair, at);
    let mode = pair.effective_mode(lint.config().mode);
    if pair.notify.is_empty() && mode != Mode::Observe {
        lint.warn(&at.key("notify"), "nobody is paged, and nobody is asked", "add notify: [{ webhook: { url: … } }]");
    }
}

fn check_loss(lint: &mut Lint<'_>, pair: &Pair, at: &Key) {
    let Pair { rpo_max, writeback_window, approval_ttl, hold_down, .. } = pair;
    if rpo_max < writeback_window {
        let message =
            format!("{rpo_max} is less than the write-back window of {writeback_window}, which every copy lacks");
        lint.error(
            &at.key("rpo_max"),
            message,
            format!("write more than {writeback_window} and the age of a snapshot together"),
        );
        return;
    }
    // With a third site the bound ends when A was last seen alive, else it grows until the promote.
    let bound_ends = pair.witnesses.iter().any(|witness| witness.kind == WitnessKind::ThirdSite);
    if bound_ends {
        return;
    }
    let decided = Span(hold_down.0 + writeback_window.0);
    let expires = Span(decided.0 + approval_ttl.0);
    if decided > *rpo_max {
        let message =
            format!("at the end of the hold-down the loss is bound by {decided} at best, which is more than {rpo_max}");
        lint.warn(&at.key("rpo_max"), message, "write more, or every failover needs an override");
    } else if expires > *rpo_max {
        let message = format!(
            "when a question of {approval_ttl} expires, the loss is bound by {expires} at best, which is more than rpo_max {rpo_max}"
        );
        let most = Span(rpo_max.0.saturating_sub(decided.0));
        lint.warn(&at.key("approval_ttl"), message, format!("write at most {most}, or a larger rpo_max"));
    }
}

fn check_limits(lint: &mut Lint<'_>, pair: &Pair, at: &Key) {
    let limits = &pair.limits;
    let key = at.key("limits");
    if limits.lease_margin >= limits.lease {
        let message = format!("a margin of {} leaves nothing of a lease of {}", limits.lease_margin, limits.lease);
        lint.error(&key.key("lease_margin"), message, "write less than half of the lease");
    }
    if pair.namespace.as_ref() == Some(&limits.lease_namespace) {
        let message = format!(
            "namespace {} may not be there before a failover, and no lease means no write",
            limits.lease_namespace
        );
        lint.warn(&key.key("lease_namespace"), message, "write one that is always at B, such as the daemon's own");
    }
    if limits.attempts == 0 {
        lint.error(&key.key("attempts"), "no step would ever be tried", "write at least 1");
    }
    // A Lease there is only where B has an API server.
    if lint.config().clusters.standby.is_some() {
        check_calls(lint, pair, at);
    }
}

/// A write that is under way when the lease ends may meet the write of another holder (S1).
fn check_calls(lint: &mut Lint<'_>, pair: &Pair, at: &Key) {
    let mut calls: Vec<(Key, Span)> = Vec::new();
    if let Storage::Rbd(rbd) = &pair.storage {
        calls.push((at.key("storage").key("rbd").key("timeout"), rbd.timeout));
    }
    for (n, target) in pair.route.iter().enumerate() {
        let at = at.key("route").item(n);
        calls.push(match target {
            RouteTarget::Webhook(webhook) => (at.key("webhook").key("timeout"), webhook.call.timeout),
            RouteTarget::DnsUpdate(update) => (at.key("dns_update").key("timeout"), update.timeout),
        });
    }
    for (n, hook) in pair.fence.hooks.iter().enumerate() {
        if let Hook::Webhook(webhook) = hook {
            calls.push((at.key("fence").key("hooks").item(n).key("webhook").key("timeout"), webhook.timeout));
        }
    }
    let margin = pair.limits.lease_margin;
    for (key, timeout) in calls {
        if timeout > margin {
            let message = format!("a write may take {timeout}, and the lease may end {margin} after it was sent");
            lint.error(&key, message, format!("write at most {margin}, or a larger limits.lease_margin"));
        }
    }
}

fn check_verify(lint: &mut Lint<'_>, pair: &Pair, at: &Key) {
    let Verify { repositories, artifacts, http, .. } = &pair.verify;
    let verify = at.key("verify");
    for (n, artifact) in artifacts.iter().enumerate() {
        let at = verify.key("artifacts").item(n);
        let whole = |(repository, path): (&str, &str)| !repository.is_empty() && !path.is_empty();
        if !artifact.path.split_once('/').is_some_and(whole) {
            lint.error(&at.key("path"), format!("{:?} is no artifact", artifact.path), "write REPOSITORY/PATH");
        }
        if artifact.sha256.len() != 64 || !artifact.sha256.bytes().all(|b| b.is_ascii_hexdigit()) {
            let message = format!("{:?} is no SHA-256", artifact.sha256);
            lint.error(&at.key("sha256"), message, "write the 64 hexadecimal digits that sha256sum prints");
        }
    }
    if let Some(http) = http {
        super::webhook::check_url(lint, &http.url, &verify.key("http").key("url"));
    }
    let Some(nexus) = &pair.nexus else {
        if !artifacts.is_empty() || !repositories.is_empty() {
            let message = "repositories and artifacts are of a Nexus that the pair does not describe";
            lint.error(&verify, message, "add nexus to the pair, or verify by http");
        } else if http.is_none() {
            lint.error(
                &verify,
                "nothing would be checked, and checking nothing is a failure",
                "add http, or describe the pair's nexus",
            );
        }
        return;
    };
    check_nexus(lint, pair, nexus, at);
}

fn check_nexus(lint: &mut Lint<'_>, pair: &Pair, nexus: &Nexus, at: &Key) {
    if nexus.credentials.is_none() {
        let message = "verify logs in and uploads an artifact, and has no login";
        lint.error(&at.key("nexus").key("credentials"), message, "add user and password");
    }
    if pair.verify.artifacts.is_empty() {
        let message = "no known artifact is read back, and all else stays green when bytes are gone";
        lint.warn(&at.key("verify").key("artifacts"), message, "add one with its sha256");
    }
}
