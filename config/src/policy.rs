//! From settings to what the core decides by.
//!
//! In: [`Loaded`] settings. Out: a [`Policy`]. Every default that depends on another setting is chosen here.

use std::time::Duration;

use understudy_core as core;
use understudy_core::{Domain, ImageName, Mode, PairName, Policy, Site};

use crate::{Doubt, Limits, Loaded, Look, Pair, Probe, RouteTarget, SelfCheck, Storage, Witness};

/// The look at the copy's age, which a pair with an age hook has beside the probes of the file.
pub const COPY_AGE: &str = "copy-age";
/// How often the age hook is asked: a copy that grows old slowly is not worth more.
const COPY_AGE_PERIOD: Duration = Duration::from_secs(30);

/// The group of self-checks that look at the world outside and stand in for each other.
pub const NEUTRAL: &str = "neutral";

impl Loaded {
    /// What the core decides by.
    #[must_use]
    pub fn policy(&self) -> Policy {
        let config = &self.config;
        let Doubt { stall, clock_jump, blind_for, page_after, automatic_max, automatic_window } = config.doubt;
        Policy {
            config_digest: self.digest.clone(),
            self_checks: config.self_checks.iter().map(self_check).collect(),
            stall: stall.0,
            clock_jump: clock_jump.0,
            doubt: blind_for.0,
            blind_page: page_after.0,
            automatic_max,
            automatic_window: automatic_window.0,
            pairs: config.pairs.iter().map(|pair| pair_policy(pair, config.mode)).collect(),
        }
    }
}

impl Probe {
    /// What it speaks about, by its kind if the file does not say.
    #[must_use]
    pub fn speaks_about(&self) -> Domain {
        self.domain.unwrap_or(match self.look {
            Look::Nexus(_) | Look::Http(_) | Look::Tcp(_) | Look::Dns(_) | Look::Exec(_) => Domain::Service,
            Look::Kubernetes(_) => Domain::ControlPlane,
            Look::RbdMirror(_) | Look::Ceph(_) => Domain::Storage,
        })
    }

    /// Whether it is able to say Down. A mirror at B never is: it looks the same whether A died or the line did.
    #[must_use]
    pub fn votes(&self) -> bool {
        !matches!(self.look, Look::RbdMirror(_))
    }

    fn policy(&self, site: Site) -> core::ProbePolicy {
        core::ProbePolicy {
            name: self.name.clone(),
            site,
            domain: self.speaks_about(),
            votes: self.votes(),
            period: self.period.0,
            timeout: self.timeout.0,
            fall: self.fall,
            rise: self.rise,
        }
    }
}

impl SelfCheck {
    /// The group it belongs to: what looks at the world outside may stand in for another such look, our own cluster may not.
    #[must_use]
    pub fn effective_group(&self) -> Option<&str> {
        match (&self.group, &self.look) {
            (Some(group), _) => Some(group),
            (None, Look::Http(_) | Look::Tcp(_) | Look::Dns(_)) => Some(NEUTRAL),
            (None, Look::Nexus(_) | Look::Kubernetes(_) | Look::RbdMirror(_) | Look::Ceph(_) | Look::Exec(_)) => None,
        }
    }
}

impl Pair {
    /// What may be done without a human: the lesser of what the file and the pair allow.
    #[must_use]
    pub fn effective_mode(&self, global: Mode) -> Mode {
        let rank = |mode| match mode {
            Mode::Observe => 0,
            Mode::Confirm => 1,
            Mode::Auto => 2,
        };
        match self.mode {
            Some(own) if rank(own) < rank(global) => own,
            _ => global,
        }
    }

    /// How long a sign of life blocks `SiteDown`.
    ///
    /// If left out: a third of the hold-down, but not less than the time for which the slowest probe's Up stays fresh, since what
    /// is still believed has to count as life; and not more than the hold-down, in which every probe of the quorum is read anew.
    #[must_use]
    pub fn effective_veto_within(&self) -> Duration {
        let hold_down = self.hold_down.0;
        let longest_fresh = self.probes.iter().map(|probe| probe.policy(Site::A).fresh_for()).max().unwrap_or_default();
        self.veto_within.map_or_else(|| (hold_down / 3).max(longest_fresh).min(hold_down), |span| span.0)
    }
}

impl RouteTarget {
    /// How the target is called in status and reports.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            RouteTarget::Webhook(webhook) => {
                format!("webhook {}", webhook.call.url.host_str().unwrap_or("?"))
            }
            RouteTarget::DnsUpdate(update) => format!("dns_update {}", update.absolute_name()),
        }
    }
}

impl crate::DnsUpdate {
    /// The name with its zone, without a dot at its end.
    #[must_use]
    pub fn absolute_name(&self) -> String {
        let (name, zone) = (self.name.trim_end_matches('.'), self.zone.trim_end_matches('.'));
        if name == "@" || name == zone {
            return zone.to_owned();
        }
        if self.name.ends_with('.') || name.ends_with(&format!(".{zone}")) {
            return name.to_owned();
        }
        format!("{name}.{zone}")
    }
}

fn self_check(check: &SelfCheck) -> core::SelfCheck {
    core::SelfCheck {
        name: check.name.clone(),
        group: check.effective_group().map(str::to_owned),
        period: check.period.0,
        timeout: check.timeout.0,
    }
}

fn pair_policy(pair: &Pair, global: Mode) -> core::PairPolicy {
    let at = |site| move |probe: &Probe| probe.policy(site);
    let probes = pair.probes.iter().map(at(Site::A)).chain(pair.standby_probes.iter().map(at(Site::B)));
    core::PairPolicy {
        name: PairName(pair.name.clone()),
        mode: pair.effective_mode(global),
        probes: probes.chain(copy_age(pair)).collect(),
        witnesses: pair.witnesses.iter().map(witness).collect(),
        at_least: pair.site_down_when.at_least,
        of: pair.site_down_when.of.clone(),
        hold_down: pair.hold_down.0,
        veto_within: pair.effective_veto_within(),
        flap: core::Flap {
            changes: pair.flap.changes,
            window: pair.flap.window.0,
            quiet: pair.flap.quiet.unwrap_or(pair.hold_down).0,
        },
        rpo_max: pair.rpo_max.0,
        writeback_window: pair.writeback_window.0,
        skew_max: pair.skew_max.0,
        approval_ttl: pair.approval_ttl.0,
        recovery_block: pair.recovery_block.0,
        images: images(&pair.storage),
        plan: plan(pair),
    }
}

/// Looks at B, and so can only speak for A's life, as a mirror probe does.
fn copy_age(pair: &Pair) -> Option<core::ProbePolicy> {
    let timeout = pair.storage.copy_age()?.timeout();
    Some(core::ProbePolicy {
        name: COPY_AGE.into(),
        site: Site::A,
        domain: Domain::Storage,
        votes: false,
        period: COPY_AGE_PERIOD.max(timeout),
        timeout,
        fall: 3,
        rise: 1,
    })
}

fn witness(witness: &Witness) -> core::WitnessPolicy {
    core::WitnessPolicy {
        name: witness.name.clone(),
        kind: witness.kind,
        period: witness.period.0,
        timeout: witness.timeout.0,
    }
}

fn images(storage: &Storage) -> Vec<ImageName> {
    match storage {
        Storage::Rbd(rbd) => rbd.images.iter().cloned().map(ImageName).collect(),
        Storage::Hooks(_) => Vec::new(),
    }
}

fn plan(pair: &Pair) -> core::PlanPolicy {
    let Limits { attempts, retry_after, step_overdue, promote_overdue, lease_margin, .. } = pair.limits;
    let (mirrored, undo_point) = match &pair.storage {
        Storage::Rbd(rbd) => (true, rbd.undo_point),
        Storage::Hooks(_) => (false, false),
    };
    core::PlanPolicy {
        mirrored,
        aged: pair.storage.copy_age().is_some(),
        kubernetes: pair.restore.is_some() || pair.deploy.is_some(),
        undo_point,
        routes: pair.route.iter().map(RouteTarget::name).collect(),
        route_check: pair.route_check.is_some(),
        attempts,
        retry_after: retry_after.0,
        step_overdue: step_overdue.0,
        ready_within: pair.deploy.as_ref().map_or(step_overdue.0, |deploy| deploy.ready_within.0),
        promote_overdue: promote_overdue.0,
        verify_valid: pair.verify.valid.0,
        lease_margin: lease_margin.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{LEAST, changed, load};

    fn pair_of(text: &str) -> core::PairPolicy {
        load(text).unwrap().policy().pairs.remove(0)
    }

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn each_kind_of_probe_speaks_about_its_domain() {
        let text = changed(
            "      - { name: api, kubernetes: primary }",
            "      - { name: api, kubernetes: primary }
      - { name: mirror, rbd_mirror: { pool: p } }
      - { name: osd, ceph: { config: /etc/ceph/a.conf, pool: p } }
      - { name: other, domain: control_plane, tcp: { address: '10.1.0.1:22' } }",
        );

        let pair = pair_of(&text);

        let seen: Vec<_> = pair.probes.iter().map(|p| (p.name.as_str(), p.domain, p.votes)).collect();
        assert_eq!(
            seen,
            [
                ("web", Domain::Service, true),
                ("api", Domain::ControlPlane, true),
                ("mirror", Domain::Storage, false),
                ("osd", Domain::Storage, true),
                ("other", Domain::ControlPlane, true),
            ]
        );
    }

    #[test]
    fn standby_probes_look_at_b() {
        let text = changed(
            "    rpo_max: 15m",
            "    standby_probes: [{ name: web-b, http: { url: 'http://b/' } }]\n    rpo_max: 15m",
        );

        let sites: Vec<Site> = pair_of(&text).probes.iter().map(|probe| probe.site).collect();

        assert_eq!(sites, [Site::A, Site::A, Site::B]);
    }

    #[test]
    fn a_pair_may_ask_for_less_than_the_global_mode_and_never_for_more() {
        for (global, own, effective) in [
            ("confirm", "auto", Mode::Confirm),
            ("confirm", "observe", Mode::Observe),
            ("auto", "auto", Mode::Auto),
            ("auto", "confirm", Mode::Confirm),
            ("observe", "auto", Mode::Observe),
        ] {
            let text = changed("mode: confirm", &format!("mode: {global}"))
                .replace("name: nexus-ddrs", &format!("name: nexus-ddrs\n    mode: {own}"));

            assert_eq!(pair_of(&text).mode, effective, "{global} and {own}");
        }
        assert_eq!(pair_of(LEAST).mode, Mode::Confirm);
    }

    #[test]
    fn the_veto_lasts_a_third_of_the_hold_down_but_as_long_as_life_stays_fresh() {
        let with_period =
            |period: &str| changed("kubernetes: primary }", &format!("kubernetes: primary, period: {period} }}"));

        assert_eq!(pair_of(LEAST).veto_within, secs(30));
        assert_eq!(pair_of(&with_period("20s")).veto_within, secs(43));
        assert_eq!(pair_of(&with_period("60s")).veto_within, secs(90), "the hold-down is its limit");
        assert_eq!(pair_of(&changed("rpo_max: 15m", "rpo_max: 15m\n    veto_within: 7s")).veto_within, secs(7));
    }

    #[test]
    fn looks_at_the_world_outside_stand_in_for_each_other_and_our_own_cluster_stands_alone() {
        let text = changed(
            "  - { name: own-api, kubernetes: standby }",
            "  - { name: own-api, kubernetes: standby }
  - { name: neutral, http: { url: 'https://status.example.org/' } }
  - { name: dns, dns: { name: example.org } }
  - { name: line, group: lines, tcp: { address: '192.0.2.1:179' } }",
        );

        let groups: Vec<_> = load(&text).unwrap().policy().self_checks.into_iter().map(|c| c.group).collect();

        let group = |name: &str| Some(name.to_owned());
        assert_eq!(groups, [None, group(NEUTRAL), group(NEUTRAL), group("lines")]);
    }

    #[test]
    fn storage_by_hooks_has_neither_images_nor_a_mirror() {
        let pair = pair_of(LEAST);

        assert_eq!(pair.images, []);
        assert!(!pair.plan.mirrored && !pair.plan.undo_point && !pair.plan.kubernetes && !pair.plan.route_check);
        assert_eq!(pair.plan.routes, ["webhook lb.example.org"]);
        assert_eq!(pair.flap.quiet, secs(90));
    }

    #[test]
    fn storage_by_hooks_that_tells_the_copys_age_has_a_consistency_point_and_a_look_that_can_only_speak_for_life() {
        let text = changed(
            "        promote:",
            "        age: { command: { command: [/bin/age], timeout: 7s } }\n        promote:",
        );

        let pair = pair_of(&text);

        assert!(pair.plan.aged && !pair.plan.mirrored);
        let look = pair.probes.last().unwrap();
        assert_eq!(
            (look.name.as_str(), look.site, look.domain, look.votes),
            (COPY_AGE, Site::A, Domain::Storage, false)
        );
        assert_eq!((look.period, look.timeout), (secs(30), secs(7)));
    }

    #[test]
    fn storage_by_rbd_has_images_and_a_mirror() {
        let text = changed(
            "      hooks:
        status: { command: { command: [/bin/role] } }
        promote: { command: { command: [/bin/promote] } }",
            "      rbd: { images: [myblock/nexus, myblock/db], undo_point: false }
    restore: { bundle: /etc/understudy/bundle }
    deploy: { manifest: /etc/understudy/nexus.yaml, ready_within: 10m }
    route_check: { resolvers: ['10.0.0.53:53'] }",
        );

        let pair = pair_of(&text);

        assert_eq!(pair.images, [ImageName::from("myblock/nexus"), ImageName::from("myblock/db")]);
        assert!(pair.plan.mirrored && pair.plan.kubernetes && pair.plan.route_check && !pair.plan.undo_point);
        assert_eq!(pair.plan.ready_within, secs(600));
    }

    #[test]
    fn a_dns_name_is_made_absolute_once() {
        let update = |name: &str| {
            let text = changed(
                "webhook: { url: 'https://lb.example.org/switch' }",
                &format!(
                    "dns_update: {{ server: '10.0.0.53:53', zone: example.net., name: '{name}', to: [10.2.0.20], from: [10.1.0.20], key_name: k, tsig: 'env:T' }}"
                ),
            );
            pair_of(&text).plan.routes.remove(0)
        };

        for name in ["nexus", "nexus.example.net", "nexus.example.net."] {
            assert_eq!(update(name), "dns_update nexus.example.net");
        }
        assert_eq!(update("@"), "dns_update example.net");
    }
}
