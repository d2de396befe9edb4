//! The volumes, the fence, and what is put up at B.

use super::{Lint, webhook};
use crate::{CommandHook, Hook, Key, Pair, Quiesce, Rbd, Storage};

pub(super) fn check(lint: &mut Lint<'_>, pair: &Pair, at: &Key) {
    let storage = at.key("storage");
    match &pair.storage {
        Storage::Rbd(rbd) => check_rbd(lint, rbd, &storage.key("rbd")),
        Storage::Hooks(hooks) => {
            let storage = storage.key("hooks");
            check_hook(lint, &hooks.status, &storage.key("status"));
            check_hook(lint, &hooks.promote, &storage.key("promote"));
            match &hooks.age {
                Some(age) => check_hook(lint, age, &storage.key("age")),
                None => lint.warn(
                    &storage.key("age"),
                    "nothing says how old the copy is, so that its loss has no bound and every failover needs an override",
                    "add a hook that prints the age in whole seconds",
                ),
            }
        }
    }
    check_images_once(lint, pair, at);
    check_fence(lint, pair, at);
    check_objects(lint, pair, at);
}

fn check_rbd(lint: &mut Lint<'_>, rbd: &Rbd, at: &Key) {
    let list = at.key("images");
    if rbd.images.is_empty() {
        lint.error(&list, "there is no image to promote", "write each as POOL/IMAGE");
    }
    for (n, image) in rbd.images.iter().enumerate() {
        if !is_image(image) {
            lint.error(&list.item(n), format!("{image:?} is no image"), "write POOL/IMAGE");
        }
    }
    for (key, command) in [("rbd", &rbd.rbd), ("ceph", &rbd.ceph)] {
        if command.is_empty() {
            lint.error(&at.key(key), "there is no program", format!("write [{key}], or remove the key"));
        }
    }
    if let Some(schedule) = rbd.schedule.as_deref().filter(|schedule| !is_interval(schedule)) {
        let message = format!("rbd takes no schedule of {schedule:?}");
        lint.error(&at.key("schedule"), message, "write whole minutes, hours or days: 1m, 2h, 1d");
    }
    let quiesce = at.key("quiesce");
    match &rbd.quiesce {
        Quiesce::None => {}
        Quiesce::Deployment(_) => {
            if lint.config().clusters.standby.is_none() {
                needs_standby(lint, &quiesce.key("deployment"));
            }
        }
        Quiesce::Command(command) => {
            for (key, command) in [("stop", &command.stop), ("start", &command.start)] {
                check_command(lint, command, &quiesce.key("command").key(key));
            }
        }
    }
}

/// `POOL/IMAGE`. Namespaces of a pool are not handled.
pub(super) fn is_image(image: &str) -> bool {
    let plain = |part: &str| !part.is_empty() && !part.contains(|c: char| c.is_whitespace() || "/@".contains(c));
    image.split_once('/').is_some_and(|(pool, image)| plain(pool) && plain(image))
}

/// As `rbd mirror snapshot schedule add` takes it; measured: `30s` is refused with exit 22.
fn is_interval(text: &str) -> bool {
    let number = text.trim_end_matches(['m', 'h', 'd']);
    number.len() + 1 == text.len() && number.parse::<u32>().is_ok_and(|number| number > 0)
}

/// Over all pairs: two plans that promote one image would be two writers.
fn check_images_once(lint: &mut Lint<'_>, pair: &Pair, at: &Key) {
    let earlier: Vec<(&str, Key)> = lint
        .pairs()
        .take_while(|(_, other)| other <= at)
        .flat_map(|(pair, at)| {
            let images = match &pair.storage {
                Storage::Rbd(rbd) => rbd.images.as_slice(),
                Storage::Hooks(_) => &[],
            };
            let list = at.key("storage").key("rbd").key("images");
            images.iter().enumerate().map(move |(n, image)| (image.as_str(), list.item(n))).collect::<Vec<_>>()
        })
        .collect();
    let Storage::Rbd(rbd) = &pair.storage else { return };
    let own = at.key("storage").key("rbd").key("images");
    for (n, image) in rbd.images.iter().enumerate() {
        let here = own.item(n);
        if let Some((_, first)) = earlier.iter().find(|(other, key)| other == image && *key < here) {
            lint.error(&here, format!("image {image} is already in {first}"), "guard an image by one pair, once");
        }
    }
}

fn check_fence(lint: &mut Lint<'_>, pair: &Pair, at: &Key) {
    let fence = &pair.fence;
    let at = at.key("fence");
    if !fence.workload && fence.demote.is_none() && fence.hooks.is_empty() {
        let message = "nothing of A can be fenced, so that every failover needs approve --accept-unfenced";
        lint.warn(&at, message, "add workload: true, demote, or a hook for power or network");
    }
    if fence.workload {
        let key = at.key("workload");
        if lint.config().clusters.primary.is_none() {
            lint.error(
                &key,
                "nothing says how the primary cluster is reached",
                "add clusters: { primary: { kubeconfig: PATH } }",
            );
        }
        if pair.deploy.is_none() {
            lint.error(&key, "the custom resource to delete at A is the one of deploy, which is missing", "add deploy");
        }
    }
    if let Some(demote) = &fence.demote {
        check_command(lint, demote, &at.key("demote"));
        if !matches!(pair.storage, Storage::Rbd(_)) {
            lint.error(&at.key("demote"), "only images of storage: rbd can be demoted", "write a hook instead");
        }
    }
    for (n, hook) in fence.hooks.iter().enumerate() {
        check_hook(lint, hook, &at.key("hooks").item(n));
    }
    if let (Some(polite), Some(within)) = (fence.polite, fence.within)
        && polite >= within
    {
        let message = format!("a polite stop of {polite} leaves no time for the stronger one within {within}");
        lint.error(&at.key("polite"), message, format!("write less than {within}"));
    }
}

fn check_objects(lint: &mut Lint<'_>, pair: &Pair, at: &Key) {
    let standby = lint.config().clusters.standby.is_some();
    for (key, written) in [("restore", pair.restore.is_some()), ("deploy", pair.deploy.is_some())] {
        if written && !standby {
            needs_standby(lint, &at.key(key));
        }
    }
    let objects = pair.restore.is_some() || pair.deploy.is_some();
    if objects && pair.namespace.as_deref().is_none_or(str::is_empty) {
        let message = "restore and deploy do not know their namespace";
        lint.error(&at.key("namespace"), message, "add namespace to the pair");
    }
    let Some(deploy) = &pair.deploy else { return };
    let patches = at.key("deploy").key("patch");
    for (n, patch) in deploy.patch.iter().enumerate() {
        if !patch.is_object() {
            lint.error(&patches.item(n), "a merge patch is a map", "write it as the part of the manifest that changes");
        }
    }
}

fn needs_standby(lint: &mut Lint<'_>, at: &Key) {
    let message = "nothing says how the standby cluster is reached";
    lint.error(at, message, "add clusters: { standby: { kubeconfig: PATH } } or { in_cluster: true }");
}

pub(super) fn check_hook(lint: &mut Lint<'_>, hook: &Hook, at: &Key) {
    match hook {
        Hook::Command(CommandHook { command, .. }) => {
            check_command(lint, command, &at.key("command").key("command"));
        }
        Hook::Webhook(call) => webhook::check(lint, call, &at.key("webhook")),
    }
}

fn check_command(lint: &mut Lint<'_>, command: &[String], at: &Key) {
    if command.first().is_none_or(String::is_empty) {
        lint.error(at, "there is no program", "write [PROGRAM, ARGUMENT, …]");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_a_pool_and_a_name() {
        assert!(is_image("myblock/csi-vol-1"));
        for text in ["nexus", "/nexus", "pool/", "pool/ns/nexus", "pool/nexus@snap", "pool/ne xus", ""] {
            assert!(!is_image(text), "{text}");
        }
    }

    #[test]
    fn a_schedule_is_in_minutes_hours_or_days() {
        assert!(is_interval("1m") && is_interval("24h") && is_interval("3d"));
        for text in ["30s", "m", "0m", "1", "1mm", "-1m", "1.5h", ""] {
            assert!(!is_interval(text), "{text}");
        }
    }
}
