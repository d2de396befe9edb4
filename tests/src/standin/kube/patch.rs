//! Merge patch (RFC 7386) and JSON patch (RFC 6902).
//!
//! In: an object and a patch. Out: the patched object, or why it does not fit. A strategic merge patch
//! is taken as a merge patch whose lists of named things are merged by name.

use serde_json::{Map, Value};

/// Why a JSON patch could not be applied.
#[derive(Debug, PartialEq, Eq)]
pub enum Misfit {
    /// Not a patch at all: 400.
    Malformed(String),
    /// A `test` failed, or a path is not there: 422.
    Test(String),
}

/// Merges `patch` into `target`; null removes.
pub fn merge(target: &mut Value, patch: &Value) {
    merge_with(target, patch, false);
}

/// As [`merge`], and lists of objects with a `name` or a `type` are merged by it.
pub fn strategic(target: &mut Value, patch: &Value) {
    merge_with(target, patch, true);
}

fn merge_with(target: &mut Value, patch: &Value, by_name: bool) {
    match patch {
        Value::Object(changes) => {
            if !target.is_object() {
                *target = Value::Object(Map::new());
            }
            let Some(fields) = target.as_object_mut() else { return };
            for (name, change) in changes {
                if change.is_null() {
                    fields.remove(name);
                } else {
                    merge_with(fields.entry(name).or_insert(Value::Null), change, by_name);
                }
            }
        }
        Value::Array(changes) if by_name && named(changes).is_some() && target.is_array() => {
            let (Some(key), Some(list)) = (named(changes), target.as_array_mut()) else { return };
            for change in changes {
                match list.iter_mut().find(|one| one[key] == change[key]) {
                    Some(one) => merge_with(one, change, true),
                    None => list.push(change.clone()),
                }
            }
        }
        other => *target = other.clone(),
    }
}

fn named(list: &[Value]) -> Option<&'static str> {
    ["name", "type"].into_iter().find(|key| !list.is_empty() && list.iter().all(|one| one[key].is_string()))
}

/// Applies the operations of a JSON patch in order.
pub fn json(target: &mut Value, patch: &Value) -> Result<(), Misfit> {
    let operations = patch.as_array().ok_or_else(|| Misfit::Malformed("not a list".to_owned()))?;
    for operation in operations {
        let path = operation["path"].as_str().unwrap_or_default();
        let missing = || Misfit::Test(format!("path {path} does not exist"));
        match operation["op"].as_str() {
            Some("test") => {
                if target.pointer(path).unwrap_or(&Value::Null) != &operation["value"] {
                    return Err(Misfit::Test(format!("testing value {path} failed")));
                }
            }
            Some("add") => add(target, path, &operation["value"]).ok_or_else(missing)?,
            Some("replace") => {
                *target.pointer_mut(path).ok_or_else(missing)? = operation["value"].clone();
            }
            Some("remove") => remove(target, path).ok_or_else(missing)?,
            other => return Err(Misfit::Malformed(format!("unknown operation {other:?}"))),
        }
    }
    Ok(())
}

fn split(path: &str) -> Option<(&str, String)> {
    let (parent, last) = path.rsplit_once('/')?;
    Some((parent, last.replace("~1", "/").replace("~0", "~")))
}

fn add(target: &mut Value, path: &str, value: &Value) -> Option<()> {
    let (parent, last) = split(path)?;
    match target.pointer_mut(parent)? {
        Value::Object(fields) => {
            fields.insert(last, value.clone());
        }
        Value::Array(list) if last == "-" => list.push(value.clone()),
        Value::Array(list) => {
            let place = last.parse().ok().filter(|place| *place <= list.len())?;
            list.insert(place, value.clone());
        }
        _ => return None,
    }
    Some(())
}

fn remove(target: &mut Value, path: &str) -> Option<()> {
    let (parent, last) = split(path)?;
    match target.pointer_mut(parent)? {
        Value::Object(fields) => fields.remove(&last).map(|_| ()),
        Value::Array(list) => {
            let place = last.parse().ok().filter(|place| *place < list.len())?;
            list.remove(place);
            Some(())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json as value;

    use super::*;

    #[test]
    fn null_removes_and_lists_are_replaced_by_a_merge_patch() {
        let mut target = value!({ "a": { "b": 1, "c": 2 }, "l": [1, 2] });

        merge(&mut target, &value!({ "a": { "b": null, "d": 3 }, "l": [3] }));

        assert_eq!(target, value!({ "a": { "c": 2, "d": 3 }, "l": [3] }));
    }

    #[test]
    fn a_strategic_merge_patch_changes_conditions_by_type() {
        let mut target = value!({ "conditions": [{ "type": "A", "status": "False" }, { "type": "B" }] });

        strategic(&mut target, &value!({ "conditions": [{ "type": "A", "status": "True" }] }));

        let wanted = value!({ "conditions": [{ "type": "A", "status": "True" }, { "type": "B" }] });
        assert_eq!(target, wanted);
    }

    #[test]
    fn a_failed_test_leaves_an_error_and_escapes_are_understood() {
        let mut target = value!({ "m": { "a/b": 1 } });

        let replaced = value!([{ "op": "test", "path": "/m/a~1b", "value": 1 },
            { "op": "remove", "path": "/m/a~1b" }, { "op": "add", "path": "/m/c", "value": 2 }]);
        assert_eq!(json(&mut target, &replaced), Ok(()));
        assert_eq!(target, value!({ "m": { "c": 2 } }));

        let failing = value!([{ "op": "test", "path": "/m/c", "value": 3 }]);
        assert!(matches!(json(&mut target, &failing), Err(Misfit::Test(_))));
    }
}
