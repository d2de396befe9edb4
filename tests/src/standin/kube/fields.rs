//! Who owns which field: server-side apply.
//!
//! In: the live object with its `managedFields`, and what a manager wants. Out: the new object, or the
//! fields that others own. Lists are owned as a whole. Start at [`apply`].

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::store::now;

/// A field, by the names on the way to it.
type Path = Vec<String>;
/// The fields of one manager.
type Fields = BTreeSet<Path>;

/// A manager and the way it writes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Manager {
    name: String,
    operation: String,
}

/// Metadata that nobody owns.
const UNOWNED: [&str; 8] = [
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "managedFields",
    "deletionTimestamp",
];

/// Applies `wanted` as `manager`. Without `force`, fields that others own with another value are
/// returned as conflicts: pairs of manager and field.
pub fn apply(live: Option<&Value>, wanted: &Value, manager: &str, force: bool) -> Result<Value, Vec<(String, String)>> {
    let fields = leaves(wanted);
    let me = Manager { name: manager.to_owned(), operation: "Apply".to_owned() };
    let Some(live) = live else {
        let mut object = wanted.clone();
        write(&mut object, &BTreeMap::from([(me, fields)]), None);
        return Ok(object);
    };
    let mut managers = read(live);
    let differs = |path: &Path| value_at(live, path) != value_at(wanted, path);
    let mut conflicts = Vec::new();
    for (other, theirs) in managers.iter_mut().filter(|(other, _)| **other != me) {
        for path in fields.iter().filter(|path| theirs.contains(*path) && differs(path)).cloned().collect::<Vec<_>>() {
            conflicts.push((other.name.clone(), format!(".{}", path.join("."))));
            theirs.remove(&path);
        }
    }
    if !conflicts.is_empty() && !force {
        return Err(conflicts);
    }
    let mut object = live.clone();
    // What this manager applied before and no longer wants goes, unless another owns it too.
    let before = managers.insert(me.clone(), fields.clone()).unwrap_or_default();
    for path in before.difference(&fields) {
        if !managers.values().any(|theirs| theirs.contains(path)) {
            remove_at(&mut object, path);
        }
    }
    for path in &fields {
        if let Some(value) = value_at(wanted, path) {
            set_at(&mut object, path, value.clone());
        }
    }
    write(&mut object, &managers, Some(live));
    Ok(object)
}

/// Notes that `manager` changed `old` into `new` by another way than apply.
pub fn updated(old: Option<&Value>, new: &mut Value, manager: &str) {
    let empty = Value::Null;
    let before = old.unwrap_or(&empty);
    let (had, has) = (leaves(before), leaves(new));
    let changed: Fields = has.iter().filter(|path| value_at(before, path) != value_at(new, path)).cloned().collect();
    let mut managers = old.map(read).unwrap_or_default();
    for theirs in managers.values_mut() {
        theirs.retain(|path| !changed.contains(path) && (has.contains(path) || !had.contains(path)));
    }
    let me = Manager { name: manager.to_owned(), operation: "Update".to_owned() };
    managers.entry(me).or_default().extend(changed);
    write(new, &managers, old);
}

fn leaves(object: &Value) -> Fields {
    let mut found = Fields::new();
    collect(object, &mut Vec::new(), &mut found);
    found
}

fn collect(value: &Value, path: &mut Path, found: &mut Fields) {
    match value {
        Value::Object(fields) if !fields.is_empty() || path.is_empty() => {
            for (name, field) in fields {
                let unowned = match path.as_slice() {
                    [] => matches!(name.as_str(), "apiVersion" | "kind"),
                    [only] if only == "metadata" => UNOWNED.contains(&name.as_str()),
                    _ => false,
                };
                if !unowned {
                    path.push(name.clone());
                    collect(field, path, found);
                    path.pop();
                }
            }
        }
        Value::Null => {}
        // An empty `metadata` is no field of anybody's.
        _ if path.as_slice() == ["metadata"] => {}
        _ => {
            found.insert(path.clone());
        }
    }
}

fn value_at<'a>(object: &'a Value, path: &Path) -> Option<&'a Value> {
    path.iter().try_fold(object, |value, name| value.get(name))
}

fn set_at(object: &mut Value, path: &Path, value: Value) {
    let mut place = object;
    for name in path {
        if !place.is_object() {
            *place = Value::Object(Map::new());
        }
        let Some(fields) = place.as_object_mut() else { return };
        place = fields.entry(name).or_insert(Value::Null);
    }
    *place = value;
}

fn remove_at(object: &mut Value, path: &Path) {
    let Some((last, parents)) = path.split_last() else { return };
    let parent = parents.iter().try_fold(object, |value, name| value.get_mut(name));
    if let Some(fields) = parent.and_then(Value::as_object_mut) {
        fields.remove(last);
    }
}

fn read(object: &Value) -> BTreeMap<Manager, Fields> {
    let entries = object["metadata"]["managedFields"].as_array();
    entries
        .into_iter()
        .flatten()
        .map(|entry| {
            let word = |name: &str| entry[name].as_str().unwrap_or_default().to_owned();
            let mut fields = Fields::new();
            unfold(&entry["fieldsV1"], &mut Vec::new(), &mut fields);
            (Manager { name: word("manager"), operation: word("operation") }, fields)
        })
        .collect()
}

fn unfold(tree: &Value, path: &mut Path, found: &mut Fields) {
    match tree.as_object().filter(|fields| !fields.is_empty()) {
        Some(fields) => {
            for (name, below) in fields {
                path.push(name.strip_prefix("f:").unwrap_or(name).to_owned());
                unfold(below, path, found);
                path.pop();
            }
        }
        None if path.is_empty() => {}
        None => {
            found.insert(path.clone());
        }
    }
}

/// Writes `managedFields`; an entry that did not change keeps its time, so that a repeated apply
/// changes nothing.
fn write(object: &mut Value, managers: &BTreeMap<Manager, Fields>, old: Option<&Value>) {
    let api_version = object["apiVersion"].clone();
    let before = old.map(read).unwrap_or_default();
    let old_time = |manager: &Manager| {
        let entries = old.and_then(|old| old["metadata"]["managedFields"].as_array());
        entries?
            .iter()
            .find(|entry| entry["manager"] == manager.name && entry["operation"] == manager.operation)
            .map(|entry| entry["time"].clone())
    };
    let entries: Vec<Value> = managers
        .iter()
        .filter(|(_, fields)| !fields.is_empty())
        .map(|(manager, fields)| {
            let same = before.get(manager) == Some(fields);
            let time = old_time(manager).filter(|_| same).unwrap_or_else(|| json!(now()));
            json!({
                "manager": manager.name, "operation": manager.operation, "apiVersion": api_version,
                "time": time, "fieldsType": "FieldsV1", "fieldsV1": fold(fields),
            })
        })
        .collect();
    object["metadata"]["managedFields"] = json!(entries);
}

fn fold(fields: &Fields) -> Value {
    let mut tree = json!({});
    for path in fields {
        let named: Path = path.iter().map(|name| format!("f:{name}")).collect();
        set_at(&mut tree, &named, json!({}));
    }
    tree
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_apply_changes_nothing() {
        let wanted = json!({ "apiVersion": "v1", "metadata": { "name": "x" }, "spec": { "a": 1 } });
        let first = apply(None, &wanted, "me", false).unwrap();

        assert_eq!(apply(Some(&first), &wanted, "me", false).unwrap(), first);
    }

    #[test]
    fn another_managers_value_is_a_conflict_unless_forced() {
        let theirs = apply(None, &json!({ "spec": { "a": 1, "b": 1 } }), "them", false).unwrap();
        let wanted = json!({ "spec": { "a": 2 } });

        let conflict = apply(Some(&theirs), &wanted, "me", false).unwrap_err();
        let forced = apply(Some(&theirs), &wanted, "me", true).unwrap();

        assert_eq!(conflict, [("them".to_owned(), ".spec.a".to_owned())]);
        assert_eq!(forced["spec"], json!({ "a": 2, "b": 1 }));
        assert!(apply(Some(&forced), &json!({ "spec": { "a": 3 } }), "me", false).is_ok());
    }

    #[test]
    fn a_field_no_longer_wanted_goes_and_one_set_by_a_controller_stays() {
        let first = apply(None, &json!({ "spec": { "a": 1, "b": 1 } }), "me", false).unwrap();
        let mut bound = first.clone();
        bound["spec"]["claimRef"] = json!({ "uid": "u" });
        updated(Some(&first), &mut bound, "kube-controller-manager");

        let second = apply(Some(&bound), &json!({ "spec": { "a": 1 } }), "me", false).unwrap();

        assert_eq!(second["spec"], json!({ "a": 1, "claimRef": { "uid": "u" } }));
    }
}
