//! What an input must hold before a parser may take it for a value, written down a second time and as simply as possible.
//!
//! In: the input and what it was taken for. Out: why it may not be, if so. Nothing here calls a parser of the product.

use serde::de::IgnoredAny;
use serde_json::Value;
use sha2::{Digest, Sha256};
use understudy_config::boundary::parts;

type Verdict = Result<(), String>;

/// Whether `bytes` may be taken for `value` by the parser `name` of `world`.
pub(super) fn may_be(world: &str, name: &str, bytes: &[u8], value: &str) -> Verdict {
    match (world, name) {
        ("ceph", "rbd info") => all_of(bytes, &[("/objects", 'n'), ("/features", 'l')]),
        ("ceph", "rbd mirror image status") => all_of(bytes, &[("/state", 's'), ("/description", 's')]),
        ("ceph", "rbd mirror pool status") => all_of(bytes, &[("/summary/daemon_health", 's')]),
        ("ceph", "rbd status") => all_of(bytes, &[("/watchers", 'l')]),
        ("ceph", "rbd snap ls") => each_of(bytes, &[("/id", 'n'), ("/name", 's'), ("/namespace/type", 's')]),
        ("ceph", "rbd mirror snapshot schedule ls") => each_of(bytes, &[("/interval", 's')]),
        ("ceph", "rbd ls") => each_of(bytes, &[("", 's')]),
        ("ceph", "ceph osd blocklist ls") => only_empty_lists_follow(bytes),
        ("ceph", "facts") => one_copy(bytes, value),
        ("witness", "testimony") => only_the_signed(bytes),
        ("http", "witness") => Err("no answer in the corpus is signed over our nonce".into()),
        ("dns", "answer to an update") => Err("nobody but us has the key".into()),
        ("journal", "segment") => every_line_is_whole(bytes),
        ("bundle", "bundle") => nothing_of_a_life_at_a(value),
        ("bundle", "deploy manifest") => nothing_of_a_life_at_a(value),
        ("bundle", "volume handle") => handle(value),
        ("nexus", _) => is_json(bytes),
        // serde_json lets bytes that are no text pass in keys that are not used, and kube hands it the bytes.
        ("kubernetes", _) | ("orders", "status at the command line") => {
            is_json(String::from_utf8_lossy(bytes).as_bytes())
        }
        ("orders", "order") => all_of(parts::<2>(bytes)[0], &[("/pair", 's')]),
        ("webhook", "read back") => at(bytes, "/active").map(drop),
        ("webhook", "switch") => accepted(bytes),
        ("webhook", "status hook") => role(bytes, value),
        ("webhook", "age hook") => seconds(bytes, value),
        _ => Ok(()),
    }
}

fn json(bytes: &[u8]) -> Result<Value, String> {
    serde_json::from_slice(bytes).map_err(|error| format!("it is not one JSON text: {error}"))
}

/// Also where a number is too large for any type of ours, in a key that is not used.
fn is_json(bytes: &[u8]) -> Verdict {
    let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
    serde_json::from_str::<IgnoredAny>(text).map(drop).map_err(|error| format!("it is not one JSON text: {error}"))
}

fn at(bytes: &[u8], pointer: &str) -> Result<Value, String> {
    json(bytes)?.pointer(pointer).cloned().ok_or_else(|| format!("{pointer} is not in it"))
}

/// The field at a pointer and its kind: a number, a text, a list.
type Field<'a> = (&'a str, char);

fn all_of(bytes: &[u8], fields: &[Field<'_>]) -> Verdict {
    is_json(bytes)?;
    // What no value can hold stands in a key that is not used; the rest can not be looked at then.
    json(bytes).map_or(Ok(()), |value| has(&value, fields))
}

fn each_of(bytes: &[u8], fields: &[Field<'_>]) -> Verdict {
    is_json(bytes)?;
    json(bytes).map_or(Ok(()), |list| each(&list, fields))
}

fn each(list: &Value, fields: &[Field<'_>]) -> Verdict {
    let items = list.as_array().ok_or("it is no list")?;
    items.iter().try_for_each(|item| has(item, fields))
}

fn has(value: &Value, fields: &[Field<'_>]) -> Verdict {
    for (pointer, kind) in fields {
        let found = value.pointer(pointer).ok_or_else(|| format!("{pointer} is missing"))?;
        let fits = match kind {
            'n' => found.is_u64(),
            's' => found.is_string(),
            _ => found.is_array(),
        };
        if !fits {
            return Err(format!("{pointer} is of another kind: {found}"));
        }
    }
    Ok(())
}

fn only_empty_lists_follow(bytes: &[u8]) -> Verdict {
    std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
    let values: Result<Vec<Value>, _> = serde_json::Deserializer::from_slice(bytes).into_iter().collect();
    let Ok(values) = values else { return Ok(()) };
    let (first, rest) = values.split_first().ok_or("it is empty")?;
    each(first, &[("/addr", 's')])?;
    rest.iter()
        .all(|value| value.as_array().is_some_and(Vec::is_empty))
        .then_some(())
        .ok_or_else(|| "more follows".into())
}

/// A source time may be told only of a copy that is whole.
fn one_copy(bytes: &[u8], value: &str) -> Verdict {
    let [_, _, snapshots] = parts(bytes);
    let Ok(snapshots) = json(snapshots) else { return Ok(()) };
    let whole = |snapshot: &Value| {
        let namespace = &snapshot["namespace"];
        namespace["complete"] == true && namespace["primary_mirror_uuid"].as_str().is_some_and(|uuid| !uuid.is_empty())
    };
    let any = snapshots.as_array().is_some_and(|all| all.iter().any(whole));
    let told = !value.contains("source_time_ms: None");
    if told && !any { Err("it tells the source time of no whole copy".into()) } else { Ok(()) }
}

/// Neither the MAC nor the text is ours to make: only the recorded one is right, up to what base64 leaves open.
fn only_the_signed(bytes: &[u8]) -> Verdict {
    let [_, body] = parts(bytes);
    let recorded = include_bytes!("../../fuzz/corpus/witness/signed");
    if body == parts::<2>(recorded)[1] { Ok(()) } else { Err("this was never signed".into()) }
}

fn every_line_is_whole(bytes: &[u8]) -> Verdict {
    const TAIL: usize = ",\"hash\":\"".len() + 64 + "\"}\n".len();
    for line in bytes.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n")) {
        let body = line.len().checked_sub(TAIL).ok_or("a line is too short")?;
        let digest: String = Sha256::digest(&line[..body]).iter().map(|byte| format!("{byte:02x}")).collect();
        if !line.ends_with(format!("\"{digest}\"}}\n").as_bytes()) {
            return Err("a line has another digest".into());
        }
    }
    Ok(())
}

/// uid, resourceVersion, status, owners, finalizers and the uid of a claim belong to the object at A.
fn nothing_of_a_life_at_a(value: &str) -> Verdict {
    let objects: Vec<Value> = serde_json::from_str(value).map_err(|error| error.to_string())?;
    for object in &objects {
        let foreign = ["uid", "resourceVersion", "ownerReferences", "finalizers", "deletionTimestamp", "managedFields"];
        if let Some(key) = foreign.iter().find(|key| object["metadata"].get(**key).is_some()) {
            return Err(format!("metadata.{key} came over"));
        }
        if object.get("status").is_some() || object.pointer("/spec/claimRef/uid").is_some() {
            return Err("status or the uid of a claim came over".into());
        }
        if object["kind"] == "PersistentVolume" && object["spec"]["persistentVolumeReclaimPolicy"] != "Retain" {
            return Err("a volume would be deleted with its claim".into());
        }
    }
    Ok(())
}

/// `0001-LENGTH-CLUSTER-POOL-UUID`, with what was asked for in it.
fn handle(value: &str) -> Verdict {
    let parts: Vec<&str> = value.splitn(3, '-').collect();
    let [version, length, rest] = parts[..] else { return Err("it has too few parts".into()) };
    let fits = version.len() == 4 && length == "0009" && rest.starts_with("rook-ceph-0000000000000002-");
    if fits { Ok(()) } else { Err("the parts do not say what they were to say".into()) }
}

/// The example wants 200 or 202, and `status` to be `accepted`.
fn accepted(bytes: &[u8]) -> Verdict {
    let end = bytes.iter().position(|byte| *byte == b'\n').ok_or("no status")?;
    let fits = matches!(&bytes[..end], b"200" | b"202") && at(&bytes[end + 1..], "/status")? == "accepted";
    if fits { Ok(()) } else { Err("nothing says that it was done".into()) }
}

/// Digits alone, and the number that they are.
fn seconds(bytes: &[u8], value: &str) -> Verdict {
    let text = String::from_utf8_lossy(bytes);
    let digits = text.trim().trim_matches('"').trim_start_matches('0');
    let digits = if digits.is_empty() { "0" } else { digits };
    if digits == value { Ok(()) } else { Err("it is another number, or none".into()) }
}

fn role(bytes: &[u8], value: &str) -> Verdict {
    let text = String::from_utf8_lossy(bytes);
    let said = text.trim().trim_matches('"');
    let fits = if value == "true" { said == "primary" } else { said == "secondary" || said == "unknown" };
    if fits { Ok(()) } else { Err("it is none of the three words".into()) }
}
