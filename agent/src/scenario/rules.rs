//! The rules that a scenario is played by: those of a sample site, or of a configuration, with what the scenario changes.
//!
//! In: [`Rules`]. Out: a [`Policy`] of the core.

use std::time::Duration;

use understudy_config::{Config, Span};
use understudy_core::{
    ImageName, Mode, PairName, PairPolicy, PlanPolicy, Policy, ProbePolicy, SelfCheck, Site, WitnessKind, WitnessPolicy,
};

use super::file::{self, Rules};
use super::words;

const PERIOD: Duration = Duration::from_secs(5);
const TIMEOUT: Duration = Duration::from_secs(3);

/// A site that writes down little but what it must: every domain has a voter, a mirror probe looks at the arriving
/// snapshots, nobody is a witness. All else is a default of the configuration.
const SAMPLE: &str = "\
site: standby-b
mode: confirm
state: { file: /var/lib/understudy }
self_checks:
  - { name: own-api, kubernetes: standby }
  - { name: own-ceph, ceph: { config: /etc/ceph/b.conf, pool: myblock } }
  - { name: status-page, http: { url: 'https://status.example.org/' } }
  - { name: resolver, dns: { name: example.org } }
pairs:
  - name: nexus
    probes:
      - { name: web, http: { url: 'http://10.1.0.20:8081/' } }
      - { name: api, kubernetes: primary }
      - { name: ceph, ceph: { config: /etc/ceph/a.conf, pool: myblock } }
      - { name: peer, rbd_mirror: { pool: myblock } }
    standby_probes:
      - { name: web-b, http: { url: 'http://10.2.0.20:8081/' } }
    site_down_when: { at_least: 3, of: [service, control_plane, storage] }
    rpo_max: 15m
    approval_ttl: 5m
    storage: { rbd: { images: [myblock/nexus] } }
    restore: { bundle: /etc/understudy/bundle }
    deploy: { manifest: /etc/understudy/nexus.yaml }
    verify: { http: { url: 'http://10.2.0.20:8081/' } }
    route: []
    route_check: { resolvers: ['192.0.2.53:53'] }
";

/// The rules of the sample site, for each of `pairs`.
pub fn sample(pairs: &[String]) -> Policy {
    let loaded = Config::from_text("the sample site", SAMPLE, []).expect("every test of a scenario loads it");
    let mut policy = loaded.policy();
    let mut one = policy.pairs.remove(0);
    one.plan.routes = vec!["webhook".into(), "dns".into()];
    let named = |name: &String| PairPolicy { name: PairName::from(name.as_str()), ..one.clone() };
    Policy { config_digest: "scenario".into(), pairs: pairs.iter().map(named).collect(), ..policy }
}

/// A key of the rules that can not be taken, and why.
pub struct Unfit {
    /// The way to it below the rules.
    pub key: &'static str,
    /// What is wrong and what to write instead.
    pub message: String,
}

/// `policy` with what `rules` changes.
pub fn changed(mut policy: Policy, rules: &Rules) -> Result<Policy, Unfit> {
    set(&mut policy.stall, rules.stall);
    set(&mut policy.clock_jump, rules.clock_jump);
    set(&mut policy.doubt, rules.blind_for);
    set(&mut policy.blind_page, rules.page_after);
    set(&mut policy.automatic_window, rules.automatic_window);
    policy.automatic_max = rules.automatic_max.unwrap_or(policy.automatic_max);
    if let Some(checks) = &rules.self_checks {
        policy.self_checks = checks.iter().map(self_check).collect();
    }
    for pair in &mut policy.pairs {
        change_pair(pair, rules)?;
    }
    Ok(policy)
}

fn self_check(check: &file::SelfCheck) -> SelfCheck {
    let period = check.period.map_or(PERIOD, |span| span.0);
    SelfCheck { name: check.name.clone(), group: check.group.clone(), period, timeout: TIMEOUT.min(period) }
}

fn change_pair(pair: &mut PairPolicy, rules: &Rules) -> Result<(), Unfit> {
    if let Some(mode) = &rules.mode {
        let modes = [("observe", Mode::Observe), ("confirm", Mode::Confirm), ("auto", Mode::Auto)];
        pair.mode = words::one_of(mode, "mode", &modes).map_err(unfit("mode"))?;
    }
    if let Some(probes) = &rules.probes {
        pair.probes = probes.iter().map(own_probe).collect::<Result<_, _>>().map_err(unfit("probes"))?;
    }
    if !rules.witnesses.is_empty() {
        let all = rules.witnesses.iter().map(|(name, kind)| witness(name, kind));
        pair.witnesses = all.collect::<Result<_, _>>().map_err(unfit("witnesses"))?;
    }
    if let Some(of) = &rules.of {
        pair.of = of.iter().map(|name| words::domain(name)).collect::<Result<_, _>>().map_err(unfit("of"))?;
    }
    pair.at_least = rules.at_least.unwrap_or(pair.at_least);
    set(&mut pair.hold_down, rules.hold_down);
    if rules.hold_down.is_some() || rules.probes.is_some() {
        let fresh = pair.probes.iter().filter(|p| p.site == Site::A).map(ProbePolicy::fresh_for).max();
        pair.veto_within = (pair.hold_down / 3).max(fresh.unwrap_or_default()).min(pair.hold_down);
        pair.flap.quiet = pair.hold_down;
    }
    set(&mut pair.veto_within, rules.veto_within);
    pair.flap.changes = rules.flap_changes.unwrap_or(pair.flap.changes);
    set(&mut pair.flap.window, rules.flap_window);
    set(&mut pair.flap.quiet, rules.flap_quiet);
    set(&mut pair.rpo_max, rules.rpo_max);
    set(&mut pair.writeback_window, rules.writeback_window);
    set(&mut pair.skew_max, rules.skew_max);
    set(&mut pair.approval_ttl, rules.approval_ttl);
    set(&mut pair.recovery_block, rules.recovery_block);
    if let Some(images) = &rules.images {
        pair.images = images.iter().map(|image| ImageName(image.clone())).collect();
        pair.plan.mirrored = !images.is_empty();
    }
    change_plan(&mut pair.plan, rules);
    Ok(())
}

fn change_plan(plan: &mut PlanPolicy, rules: &Rules) {
    if let Some(routes) = &rules.routes {
        plan.routes.clone_from(routes);
    }
    plan.attempts = rules.attempts.unwrap_or(plan.attempts);
    set(&mut plan.step_overdue, rules.step_overdue);
    set(&mut plan.ready_within, rules.ready_within);
    set(&mut plan.promote_overdue, rules.promote_overdue);
    set(&mut plan.verify_valid, rules.verify_valid);
}

fn own_probe(written: &file::Probe) -> Result<ProbePolicy, String> {
    let sites = [("A", Site::A), ("B", Site::B)];
    let site = written.site.as_deref().map_or(Ok(Site::A), |site| words::one_of(site, "site", &sites))?;
    Ok(ProbePolicy {
        name: written.name.clone(),
        site,
        domain: words::domain(&written.domain)?,
        votes: !written.mirror,
        period: written.period.map_or(PERIOD, |span| span.0),
        timeout: written.timeout.map_or(TIMEOUT, |span| span.0),
        fall: written.fall.unwrap_or(3),
        rise: written.rise.unwrap_or(2),
    })
}

fn witness(name: &str, kind: &str) -> Result<WitnessPolicy, String> {
    let kinds = [("primary site", WitnessKind::PrimarySite), ("third site", WitnessKind::ThirdSite)];
    let kind = words::one_of(kind, "kind of witness", &kinds)?;
    Ok(WitnessPolicy { name: name.into(), kind, period: PERIOD, timeout: TIMEOUT })
}

fn set(rule: &mut Duration, written: Option<Span>) {
    if let Some(span) = written {
        *rule = span.0;
    }
}

fn unfit(key: &'static str) -> impl Fn(String) -> Unfit {
    move |message| Unfit { key, message }
}
