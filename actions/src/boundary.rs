//! Every place of this crate where bytes from outside become values; see [`understudy_config::boundary`].
//!
//! In: bytes of which nothing is known: an API server's object, a receiver's answer, a manifest. Out: what a step takes
//! them for. Start reading at [`ALL`].

use std::path::Path;

use http::{HeaderMap, StatusCode};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Event, Node, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::VolumeAttachment;
use kube::core::{ObjectList, Status};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use understudy_config::boundary::{Boundary, Read, example, said};
use understudy_config::{DnsUpdate, Pair, Restore, RouteTarget, RouteWebhook};

use crate::bundle::Bundle;
use crate::clean::handle_for_b;
use crate::custom_resource::CustomResource;
use crate::fence::workload::site;
use crate::http_client::Answer;
use crate::kube_call::CallFault;
use crate::restore::compare::differences;
use crate::{
    bound, deploy, dns, dns_update, hooks_storage, lease, manifest, nexus_api, pods, process, route_webhook, webhook,
};

/// All of this crate.
pub const ALL: &[Boundary] = &[
    Boundary::new("nexus", "lists", |body| said(nexus_api::read_any(body))),
    Boundary::new("kubernetes", "pods", of_pods),
    Boundary::new("kubernetes", "claims", kind::<ObjectList<PersistentVolumeClaim>>),
    Boundary::new("kubernetes", "volume", of_volume),
    Boundary::new("kubernetes", "attachments", kind::<ObjectList<VolumeAttachment>>),
    Boundary::new("kubernetes", "events", kind::<ObjectList<Event>>),
    Boundary::new("kubernetes", "node", |json| said(object::<Node>(json).map(|node| site::is_ready(&node)))),
    Boundary::new("kubernetes", "custom resource", of_resource),
    Boundary::new("kubernetes", "lease", |json| {
        said(object::<Lease>(json).and_then(|lease| lease::read_whole(&lease)))
    }),
    Boundary::new("kubernetes", "refusal", of_refusal),
    Boundary::new("webhook", "switch", of_switch),
    Boundary::new("webhook", "read back", of_read_back),
    Boundary::new("webhook", "status hook", of_hook),
    Boundary::new("webhook", "age hook", |stdout| {
        let age = hooks_storage::age_in(&String::from_utf8_lossy(stdout));
        age.map(|age| age.as_secs().to_string()).map_err(|error| error.whole())
    }),
    Boundary::new("webhook", "complaint of a program", |stderr| Ok(process::last_words(stderr))),
    Boundary::new("dns", "answer", of_dns),
    Boundary::new("dns", "answer to an update", of_update),
    Boundary::new("bundle", "bundle", of_bundle),
    Boundary::new("bundle", "deploy manifest", of_deploy),
    Boundary::new("bundle", "volume handle", of_handle),
];

/// What an update of the fuzzer's is signed with. No answer that it makes up may be taken for a yes.
const TSIG_KEY: &[u8] = b"0123456789abcdef0123456789abcdef";

fn pair() -> &'static Pair {
    example().config.pairs.first().expect("the example has a pair")
}

fn restore() -> &'static Restore {
    pair().restore.as_ref().expect("the example restores a bundle")
}

fn route() -> &'static RouteWebhook {
    let webhook = pair().route.iter().find_map(|route| match route {
        RouteTarget::Webhook(webhook) => Some(webhook),
        RouteTarget::DnsUpdate(_) => None,
    });
    webhook.expect("the example switches by webhook")
}

fn update() -> &'static DnsUpdate {
    let update = pair().route.iter().find_map(|route| match route {
        RouteTarget::Webhook(_) => None,
        RouteTarget::DnsUpdate(update) => Some(update),
    });
    update.expect("the example switches by DNS update")
}

fn object<T: DeserializeOwned>(json: &[u8]) -> Result<T, String> {
    serde_json::from_slice(json).map_err(|error| webhook::shortened(&error.to_string()))
}

fn kind<T: DeserializeOwned + std::fmt::Debug>(json: &[u8]) -> Read {
    said(object::<T>(json))
}

fn of_pods(json: &[u8]) -> Read {
    let pods: Vec<Pod> = object::<ObjectList<Pod>>(json)?.items;
    let living = pods.iter().filter(|pod| pods::is_living(pod) && pods::mounts(pod, "data")).count();
    Ok(format!("{living} {}", pods::summary(&pods)))
}

/// Any object, held against the first of the seeds' kinds.
fn of_volume(json: &[u8]) -> Read {
    let volume: Value = object(json)?;
    let wanted = json!({ "spec": { "csi": { "volumeHandle": "h", "volumeAttributes": { "pool": "p" } }, "storageClassName": "c" } });
    let kinds = ["PersistentVolume", "PersistentVolumeClaim", "Secret"];
    let differ: Vec<usize> = kinds.iter().map(|kind| differences(kind, &wanted, &volume).len()).collect();
    let state = bound::volume_state(&volume, "data", Some("u"));
    Ok(format!("{differ:?} {state:?}"))
}

fn of_resource(json: &[u8]) -> Read {
    let conditions = ["Initialized", "Running"].map(String::from);
    match deploy::unmet(&object(json)?, &conditions) {
        None => Ok("ready".into()),
        Some(unmet) => Err(unmet),
    }
}

fn of_refusal(json: &[u8]) -> Read {
    let status: Status = object(json)?;
    Err(CallFault::of(kube::Error::Api(Box::new(status))).to_string())
}

/// First line: the status. The rest: the body.
fn of_switch(bytes: &[u8]) -> Read {
    let end = bytes.iter().position(|byte| *byte == b'\n').ok_or("no status")?;
    let status = StatusCode::from_bytes(&bytes[..end]).map_err(|error| error.to_string())?;
    let answer = Answer { status, headers: HeaderMap::new(), body: bytes[end + 1..].to_vec().into() };
    let judged = webhook::judge(&route().call, "the balancer", answer);
    judged.map(|_| "done".into()).map_err(|error| error.of_write("the switch").whole())
}

fn of_read_back(body: &[u8]) -> Read {
    let read = route().read.as_ref().ok_or("the example reads nothing back")?;
    route_webhook::value_in(body, read, || "the route".into()).map_err(|error| error.whole())
}

fn of_hook(stdout: &[u8]) -> Read {
    let said = hooks_storage::said_primary(&String::from_utf8_lossy(stdout));
    said.map(|primary| primary.to_string()).map_err(|error| error.whole())
}

/// The first two bytes are also the number of the question: what begins with another is refused by that alone.
fn of_dns(bytes: &[u8]) -> Read {
    let number = bytes.first_chunk().map_or(0, |number| u16::from_be_bytes(*number));
    let name = hickory_proto::rr::Name::from_ascii("nexus.example.net.").map_err(|error| error.to_string())?;
    let found = dns::read_whole(([192, 0, 2, 53], 53).into(), &name, number, bytes);
    found.map(|found| format!("{found:?}")).map_err(|error| error.of_read("failed to look").whole())
}

fn of_update(bytes: &[u8]) -> Read {
    let accepted = dns_update::read_whole(update(), TSIG_KEY, bytes);
    accepted.map(|()| "done".into()).map_err(|error| error.whole())
}

/// As YAML, and as JSON. What is accepted is given back as JSON, so that it can be looked at.
fn of_bundle(bytes: &[u8]) -> Read {
    let mut refusal = String::new();
    for path in [Path::new("fuzz.yaml"), Path::new("fuzz.json")] {
        match bundle_in(path, text(bytes)?) {
            Ok(bundle) => return Ok(shown(&bundle)),
            Err(why) => refusal = why,
        }
    }
    Err(refusal)
}

fn bundle_in(path: &Path, text: &str) -> Result<Bundle, String> {
    let manifests = manifest::read_text(path, text).map_err(|error| error.to_string())?;
    let found = manifests.into_iter().map(|manifest| (path.to_owned(), manifest)).collect();
    Bundle::of_manifests(found, &Restore { pool: None, cluster_id: None, pool_id: None, ..restore().clone() }, None)
        .map_err(|error| error.to_string())
}

fn shown(bundle: &Bundle) -> String {
    let claims = bundle.claims.iter().flat_map(|pair| [&pair.claim, &pair.volume]);
    json!(bundle.before.iter().chain(claims).map(|item| &item.object).collect::<Vec<_>>()).to_string()
}

fn of_deploy(bytes: &[u8]) -> Read {
    let deploy = pair().deploy.as_ref().ok_or("the example deploys nothing")?;
    let manifests = manifest::read_text(&deploy.manifest, text(bytes)?).map_err(|error| error.to_string())?;
    let resource = CustomResource::of_manifests(manifests, deploy, None).map_err(|error| error.to_string())?;
    Ok(json!([resource.object]).to_string())
}

fn of_handle(bytes: &[u8]) -> Read {
    handle_for_b(text(bytes)?.trim(), Some("rook-ceph"), Some(2)).ok_or_else(|| "none of ceph-csi's".into())
}

fn text(bytes: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(bytes).map_err(|error| error.to_string())
}
