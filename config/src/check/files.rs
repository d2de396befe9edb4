//! The files and secrets that the settings name: are they there, are they what they should be, and who may read them?

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::Lint;
use crate::kubeconfig::Kubeconfig;
use crate::{
    Cluster, CommandHook, Hook, Key, Look, Notify, Pair, Place, Quiesce, RouteTarget, SecretError, SecretRef, Storage,
    Webhook, bundle,
};

/// A chain of certificates is far smaller.
const MAX_PEM_BYTES: u64 = 1024 * 1024;

pub(super) fn check(lint: &mut Lint<'_>) {
    let root = Key::root();
    let config = lint.config();
    for (name, cluster) in [("primary", &config.clusters.primary), ("standby", &config.clusters.standby)] {
        if let Some(Cluster::Kubeconfig(path)) = cluster {
            kubeconfig(lint, path, &root.key("clusters").key(name).key("kubeconfig"));
        }
    }
    if let Some(listen) = &config.listen {
        let at = root.key("listen");
        if let Some(tls) = &listen.tls {
            pem(lint, &tls.certificate, "CERTIFICATE", &at.key("tls").key("certificate"));
            pem(lint, &tls.key, "PRIVATE KEY", &at.key("tls").key("key"));
            private(lint, &tls.key, &at.key("tls").key("key"));
        }
        for (n, token) in listen.tokens.iter().enumerate() {
            secret(lint, &token.token, &at.key("tokens").item(n).key("token"));
        }
        let witness = at.key("witness");
        listen.witness.iter().for_each(|testify| secret(lint, &testify.secret, &witness.key("secret")));
    }
    for (n, check) in config.self_checks.iter().enumerate() {
        look(lint, &check.look, &root.key("self_checks").item(n));
    }
    for (pair, at) in lint.pairs() {
        check_pair(lint, pair, &at);
    }
    say_once(lint);
}

/// Many settings may name one missing file: it is missed once, at the first.
fn say_once(lint: &mut Lint<'_>) {
    let mut said = BTreeSet::new();
    lint.found.retain(|(_, finding)| {
        let of_a_file = finding.message.starts_with(SECRET) || finding.message.starts_with(FILE);
        !of_a_file || said.insert(finding.message.clone())
    });
}

const SECRET: &str = "secret ";
const FILE: &str = "file ";

fn check_pair(lint: &mut Lint<'_>, pair: &Pair, at: &Key) {
    if let Some(nexus) = &pair.nexus {
        let key = at.key("nexus");
        for (name, place) in [("primary", &nexus.primary), ("standby", &nexus.standby), ("public", &nexus.public)] {
            let Place { ca, .. } = place;
            ca.iter().for_each(|ca| pem(lint, ca, "CERTIFICATE", &key.key(name).key("ca")));
        }
        if let Some(credentials) = &nexus.credentials {
            secret(lint, &credentials.password, &key.key("credentials").key("password"));
        }
    }
    for (list, probes) in [("probes", &pair.probes), ("standby_probes", &pair.standby_probes)] {
        for (n, probe) in probes.iter().enumerate() {
            look(lint, &probe.look, &at.key(list).item(n));
        }
    }
    for (n, witness) in pair.witnesses.iter().enumerate() {
        secret(lint, &witness.secret, &at.key("witnesses").item(n).key("secret"));
    }
    check_steps(lint, pair, at);
    for (n, target) in pair.route.iter().enumerate() {
        let at = at.key("route").item(n);
        match target {
            RouteTarget::Webhook(target) => webhook(lint, &target.call, &at.key("webhook")),
            RouteTarget::DnsUpdate(update) => secret(lint, &update.tsig, &at.key("dns_update").key("tsig")),
        }
    }
    for (n, notify) in pair.notify.iter().enumerate() {
        let Notify::Webhook(call) = notify;
        webhook(lint, call, &at.key("notify").item(n).key("webhook"));
    }
}

fn check_steps(lint: &mut Lint<'_>, pair: &Pair, at: &Key) {
    let storage = at.key("storage");
    match &pair.storage {
        Storage::Rbd(rbd) => {
            let at = storage.key("rbd");
            program(lint, &rbd.rbd, &at.key("rbd"));
            program(lint, &rbd.ceph, &at.key("ceph"));
            if let Quiesce::Command(command) = &rbd.quiesce {
                program(lint, &command.stop, &at.key("quiesce").key("command").key("stop"));
                program(lint, &command.start, &at.key("quiesce").key("command").key("start"));
            }
        }
        Storage::Hooks(hooks) => {
            let at = storage.key("hooks");
            hook(lint, &hooks.status, &at.key("status"));
            hook(lint, &hooks.promote, &at.key("promote"));
            hooks.age.iter().for_each(|age| hook(lint, age, &at.key("age")));
        }
    }
    let fence = at.key("fence");
    pair.fence.demote.iter().for_each(|command| program(lint, command, &fence.key("demote")));
    for (n, of_fence) in pair.fence.hooks.iter().enumerate() {
        hook(lint, of_fence, &fence.key("hooks").item(n));
    }
    if let Some(restore) = &pair.restore {
        let key = at.key("restore").key("bundle");
        for fault in bundle::check(restore, pair) {
            lint.add(fault.severity, &key, fault.message, fault.remedy);
        }
    }
    if let Some(deploy) = &pair.deploy {
        let key = at.key("deploy").key("manifest");
        for fault in bundle::check_manifest(&deploy.manifest, pair) {
            lint.add(fault.severity, &key, fault.message, fault.remedy);
        }
    }
    if let Some(http) = &pair.verify.http {
        http.ca.iter().for_each(|ca| pem(lint, ca, "CERTIFICATE", &at.key("verify").key("http").key("ca")));
    }
}

fn look(lint: &mut Lint<'_>, look: &Look, at: &Key) {
    let at = at.key(look.kind());
    match look {
        Look::Http(http) => http.ca.iter().for_each(|ca| pem(lint, ca, "CERTIFICATE", &at.key("ca"))),
        Look::Ceph(ceph) => {
            readable(lint, &ceph.config, &at.key("config"));
            if let Some(keyring) = &ceph.keyring {
                readable(lint, keyring, &at.key("keyring"));
                private(lint, keyring, &at.key("keyring"));
            }
            program(lint, &ceph.rbd, &at.key("rbd"));
        }
        Look::Exec(exec) => program(lint, &exec.command, &at.key("command")),
        Look::Nexus(_) | Look::Kubernetes(_) | Look::RbdMirror(_) | Look::Tcp(_) | Look::Dns(_) => {}
    }
}

fn hook(lint: &mut Lint<'_>, hook: &Hook, at: &Key) {
    match hook {
        Hook::Command(CommandHook { command, .. }) => program(lint, command, &at.key("command").key("command")),
        Hook::Webhook(call) => webhook(lint, call, &at.key("webhook")),
    }
}

fn webhook(lint: &mut Lint<'_>, call: &Webhook, at: &Key) {
    call.ca.iter().for_each(|ca| pem(lint, ca, "CERTIFICATE", &at.key("ca")));
    call.secret.iter().for_each(|reference| secret(lint, reference, &at.key("secret")));
    for (name, reference) in &call.secret_headers {
        secret(lint, reference, &at.key("secret_headers").key(name));
    }
}

fn kubeconfig(lint: &mut Lint<'_>, path: &Path, key: &Key) {
    if let Err(error) = Kubeconfig::read(path) {
        lint.error(
            key,
            format!("{FILE}{error}"),
            "write the path of a kubeconfig whose current context is the cluster",
        );
        return;
    }
    if world_accessible(path) {
        let message = format!("{FILE}{} may be read by everybody on this machine", path.display());
        lint.warn(key, message, format!("run chmod o-rwx {}", path.display()));
    }
}

fn secret(lint: &mut Lint<'_>, reference: &SecretRef, key: &Key) {
    let Err(error) = reference.read() else { return };
    let remedy = match &error {
        SecretError::Read { path, .. } => format!("put the secret into {path}, readable by the daemon's user alone"),
        SecretError::WorldReadable { path, .. } => format!("run chmod o-rwx {path}, and change the secret"),
        SecretError::NotSet(name) => format!("set {name} in the environment of the daemon"),
        SecretError::Empty(_) => "put the secret there".to_owned(),
    };
    let message = match &error {
        SecretError::Read { path, source } => format!("{SECRET}{path} can not be read: {source}"),
        SecretError::WorldReadable { path, mode } => {
            format!("{SECRET}{path} may be read by everybody on this machine (mode {mode:o})")
        }
        SecretError::NotSet(name) => format!("{SECRET}env:{name} is not set"),
        SecretError::Empty(of) => format!("{SECRET}{of} is empty"),
    };
    lint.error(key, message, remedy);
}

fn pem(lint: &mut Lint<'_>, path: &Path, what: &str, key: &Key) {
    match crate::load::read_bounded(path, MAX_PEM_BYTES) {
        Ok(text) if text.contains("-----BEGIN ") && text.contains(&format!("{what}-----")) => {}
        Ok(_) => {
            let message = format!("{FILE}{} holds no {what} in PEM", path.display());
            lint.error(key, message, format!("write the path of a file with -----BEGIN {what}-----"));
        }
        Err(error) => can_not_read(lint, path, &error, key),
    }
}

fn readable(lint: &mut Lint<'_>, path: &Path, key: &Key) {
    if let Err(error) = std::fs::File::open(path) {
        can_not_read(lint, path, &error, key);
    }
}

fn can_not_read(lint: &mut Lint<'_>, path: &Path, error: &std::io::Error, key: &Key) {
    let message = format!("{FILE}{} can not be read: {error}", path.display());
    lint.error(key, message, "put it there, or correct the path");
}

fn private(lint: &mut Lint<'_>, path: &Path, key: &Key) {
    if world_accessible(path) {
        let message = format!("{SECRET}{} may be read by everybody on this machine", path.display());
        lint.error(key, message, format!("run chmod o-rwx {}, and change the key", path.display()));
    }
}

fn world_accessible(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o007 != 0)
}

/// A program by its path must be there; one by its name is looked for by `preflight`, on the machine that runs it.
fn program(lint: &mut Lint<'_>, command: &[String], key: &Key) {
    let Some(program) = command.first().filter(|program| program.contains('/')) else { return };
    match std::fs::metadata(program) {
        Ok(metadata) if metadata.is_file() && metadata.permissions().mode() & 0o111 != 0 => {}
        Ok(_) => {
            lint.error(
                key,
                format!("{FILE}{program} is no program"),
                format!("run chmod +x {program}, or correct the path"),
            );
        }
        Err(error) => can_not_read(lint, Path::new(program), &error, key),
    }
}
