//! Label and field selectors.
//!
//! In: the two query parameters. Out: whether an object is selected.

use serde_json::Value;

use super::store::Key;

/// One requirement.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Want {
    Is(String, String),
    IsNot(String, String),
    Has(String),
    HasNot(String),
}

/// Both selectors of a request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selector {
    labels: Vec<Want>,
    fields: Vec<Want>,
}

impl Selector {
    /// Reads `labelSelector` and `fieldSelector`; sets (`in`, `notin`) are not understood.
    pub fn parse(labels: Option<&str>, fields: Option<&str>) -> Self {
        let read = |text: Option<&str>| {
            text.unwrap_or_default().split(',').filter(|part| !part.is_empty()).map(want).collect()
        };
        Self { labels: read(labels), fields: read(fields) }
    }

    pub fn fits(&self, key: &Key, object: &Value) -> bool {
        let label = |name: &str| object["metadata"]["labels"][name].as_str().map(str::to_owned);
        let field = |name: &str| match name {
            "metadata.name" => Some(key.name.clone()),
            "metadata.namespace" => Some(key.namespace.clone()),
            path => {
                let found = object.pointer(&format!("/{}", path.replace('.', "/")));
                Some(found.and_then(Value::as_str).unwrap_or_default().to_owned())
            }
        };
        self.labels.iter().all(|want| met(want, label)) && self.fields.iter().all(|want| met(want, field))
    }
}

fn want(text: &str) -> Want {
    let pair = |(name, value): (&str, &str)| (name.trim().to_owned(), value.trim().to_owned());
    if let Some((name, value)) = text.split_once("!=").map(pair) {
        Want::IsNot(name, value)
    } else if let Some((name, value)) = text.split_once('=').map(pair) {
        Want::Is(name, value.trim_start_matches('=').to_owned())
    } else if let Some(name) = text.trim().strip_prefix('!') {
        Want::HasNot(name.to_owned())
    } else {
        Want::Has(text.trim().to_owned())
    }
}

fn met(want: &Want, value: impl Fn(&str) -> Option<String>) -> bool {
    match want {
        Want::Is(name, wanted) => value(name).as_ref() == Some(wanted),
        Want::IsNot(name, unwanted) => value(name).as_ref() != Some(unwanted),
        Want::Has(name) => value(name).is_some(),
        Want::HasNot(name) => value(name).is_none(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn labels_and_fields_must_all_fit() {
        let key =
            Key { group: String::new(), plural: "pods".to_owned(), namespace: "x".to_owned(), name: "p".to_owned() };
        let pod = json!({ "metadata": { "labels": { "app": "n" } }, "spec": { "nodeName": "b" } });

        for (labels, fields, fits) in [
            ("app=n", "metadata.name=p,spec.nodeName=b", true),
            ("app==n,other!=x,!gone,app", "", true),
            ("app!=n", "", false),
            ("", "spec.nodeName=c", false),
        ] {
            let selector = Selector::parse(Some(labels), Some(fields));
            assert_eq!(selector.fits(&key, &pod), fits, "{labels} {fields}");
        }
    }
}
