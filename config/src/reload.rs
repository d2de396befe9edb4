//! Which settings may change while the daemon runs.

use crate::{Config, Pair, Storage};

/// Whether `new` may take the place of `old` without a restart.
///
/// What holds a file, a socket or an identity is taken at the start. A pair that comes or goes needs a restart too, for the
/// journal speaks of pairs by name and a run of one that is gone could never end.
///
/// # Errors
/// The settings that need a restart, by their keys.
pub fn reload_allowed(old: &Config, new: &Config) -> Result<(), Vec<String>> {
    let mut needs_restart = Vec::new();
    let mut unless = |same: bool, key: &str| {
        if !same {
            needs_restart.push(key.to_owned());
        }
    };
    unless(old.site == new.site, "site");
    unless(old.state == new.state, "state");
    unless(old.listen == new.listen, "listen");
    unless(old.clusters == new.clusters, "clusters");
    unless(old.telemetry == new.telemetry, "telemetry");
    let names = |config: &Config| config.pairs.iter().map(|pair| pair.name.clone()).collect::<Vec<_>>();
    unless(names(old) == names(new), "pairs");
    for (at, (old, new)) in old.pairs.iter().zip(&new.pairs).enumerate().filter(|(_, (old, new))| old.name == new.name)
    {
        unless(volumes(old) == volumes(new), &format!("pairs[{at}].storage"));
        unless(old.limits.lease == new.limits.lease, &format!("pairs[{at}].limits.lease"));
        let same_place = old.limits.lease_namespace == new.limits.lease_namespace;
        unless(same_place, &format!("pairs[{at}].limits.lease_namespace"));
    }
    if needs_restart.is_empty() { Ok(()) } else { Err(needs_restart) }
}

/// What the consistency points that were journaled while A lived belong to.
fn volumes(pair: &Pair) -> Option<&[String]> {
    match &pair.storage {
        Storage::Rbd(rbd) => Some(&rbd.images),
        Storage::Hooks(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{LEAST, changed, load};

    fn reload(to: &str) -> Result<(), Vec<String>> {
        reload_allowed(&load(LEAST).unwrap().config, &load(to).unwrap().config)
    }

    #[test]
    fn thresholds_and_probes_may_change_while_the_daemon_runs() {
        assert_eq!(reload(LEAST), Ok(()));
        assert_eq!(reload(&changed("rpo_max: 15m", "rpo_max: 20m\n    hold_down: 2m")), Ok(()));
        assert_eq!(reload(&changed("mode: confirm", "mode: observe")), Ok(()));
    }

    #[test]
    fn what_is_taken_at_the_start_needs_a_restart() {
        for (from, to, key) in [
            ("site: standby-b", "site: standby-c", "site"),
            ("/var/lib/understudy", "/var/lib/other", "state"),
            ("mode: confirm", "mode: confirm\nlisten: { address: '127.0.0.1:7070' }", "listen"),
            ("mode: confirm", "mode: confirm\nclusters: { standby: { in_cluster: true } }", "clusters"),
            ("mode: confirm", "mode: confirm\ntelemetry: { log_format: json }", "telemetry"),
            ("name: nexus-ddrs", "name: nexus-other", "pairs"),
            ("rpo_max: 15m", "rpo_max: 15m\n    limits: { lease: 1m }", "pairs[0].limits.lease"),
            ("rpo_max: 15m", "rpo_max: 15m\n    limits: { lease_namespace: b }", "pairs[0].limits.lease_namespace"),
        ] {
            assert_eq!(reload(&changed(from, to)), Err(vec![key.to_owned()]));
        }
    }

    #[test]
    fn each_setting_that_needs_a_restart_is_named() {
        let to = changed("site: standby-b", "site: c").replace("/var/lib/understudy", "/srv");

        assert_eq!(reload(&to), Err(vec!["site".to_owned(), "state".to_owned()]));
    }

    #[test]
    fn other_volumes_need_a_restart() {
        let with = |image: &str| {
            let text = changed(
                "      hooks:
        status: { command: { command: [/bin/role] } }
        promote: { command: { command: [/bin/promote] } }",
                &format!("      rbd: {{ images: [{image}] }}"),
            );
            load(&text).unwrap().config
        };

        assert_eq!(reload_allowed(&with("p/one"), &with("p/two")), Err(vec!["pairs[0].storage".to_owned()]));
    }
}
