//! When A counts as lost: can the quorum be reached, and is the hold-down long enough to be witnessed?

use std::collections::BTreeSet;

use understudy_core::{Domain, Mode, WitnessKind};

use super::Lint;
use crate::{Key, Pair, Probe, Span};

/// A hold-down is witnessed by at least so many rounds of the slowest probe (S5).
const ROUNDS: u32 = 3;

pub(super) fn check(lint: &mut Lint<'_>, pair: &Pair, at: &Key) {
    check_reachable(lint, pair, &at.key("site_down_when"));
    check_hold_down(lint, pair, at);
    check_auto(lint, pair, at);
}

fn check_reachable(lint: &mut Lint<'_>, pair: &Pair, at: &Key) {
    let quorum = &pair.site_down_when;
    let asked: BTreeSet<Domain> = quorum.of.iter().copied().collect();
    if asked.len() < quorum.of.len() {
        lint.error(&at.key("of"), "a domain stands here twice", "write each domain once");
    }
    if quorum.at_least == 0 {
        lint.error(&at.key("at_least"), "0 domains are always Down", "write at least 1; 2 or more is wise");
    }
    let able: BTreeSet<Domain> = pair.probes.iter().filter(|probe| probe.votes()).map(Probe::speaks_about).collect();
    let silent: Vec<String> = asked.difference(&able).map(Domain::to_string).collect();
    let voices = asked.intersection(&able).count();
    if usize::from(quorum.at_least) > voices {
        let why = match silent.as_slice() {
            [] => String::new(),
            silent => format!(", no probe of {} is able to say Down", silent.join(" and ")),
        };
        let message = format!("{} domains must be Down and only {voices} can be{why}", quorum.at_least);
        lint.error(at, message, remedy(&silent, voices));
    } else if !silent.is_empty() {
        let message = format!("no probe of {} is able to say Down", silent.join(" and "));
        lint.warn(&at.key("of"), message, remedy(&silent, voices));
    }
    if quorum.at_least == 1 && asked.len() > 1 {
        let message = "a single domain that is Down counts as the loss of the whole site";
        lint.warn(&at.key("at_least"), message, "write 2 or more");
    }
}

fn remedy(silent: &[String], voices: usize) -> String {
    let add: Vec<&str> = silent
        .iter()
        .map(|domain| match domain.as_str() {
            "storage" => "ceph (rbd_mirror never says Down)",
            "control_plane" => "kubernetes: primary",
            _ => "nexus or http",
        })
        .collect();
    match add.as_slice() {
        [] => format!("write at_least: {voices}, or name more domains"),
        add => format!("add a probe of kind {}, or write at_least: {voices}", add.join(" and ")),
    }
}

fn check_hold_down(lint: &mut Lint<'_>, pair: &Pair, at: &Key) {
    let of = &pair.site_down_when.of;
    let in_quorum = pair.probes.iter().filter(|probe| probe.votes() && of.contains(&probe.speaks_about()));
    if let Some(slowest) = in_quorum.max_by_key(|probe| probe.period) {
        let least = Span(slowest.period.0 * ROUNDS);
        if pair.hold_down < least {
            let message = format!(
                "{} is shorter than {ROUNDS} rounds of {:?}, the slowest probe of the quorum (every {})",
                pair.hold_down, slowest.name, slowest.period
            );
            lint.error(&at.key("hold_down"), message, format!("write at least {least}, or give it a shorter period"));
        }
    }
    let longest_fresh = pair.probes.iter().map(|probe| 2 * probe.period.0 + probe.timeout.0).max();
    if let (Some(veto), Some(fresh)) = (pair.veto_within, longest_fresh)
        && veto.0 < fresh.min(pair.hold_down.0)
    {
        let message =
            format!("a sign of life would be forgotten after {veto}, while its reading still counts as fresh");
        let least = Span(fresh.min(pair.hold_down.0));
        lint.warn(&at.key("veto_within"), message, format!("write at least {least}, or remove the key"));
    }
}

fn check_auto(lint: &mut Lint<'_>, pair: &Pair, at: &Key) {
    let third = pair.witnesses.iter().any(|witness| witness.kind == WitnessKind::ThirdSite);
    if pair.effective_mode(lint.config().mode) == Mode::Auto && !third {
        let message = "mode auto without a third_site witness behaves as confirm: a cut line looks like a dead site";
        lint.warn(&at.key("witnesses"), message, "add a witness of kind third_site, or write mode: confirm");
    }
}
