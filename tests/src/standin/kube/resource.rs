//! The resource types that the API server serves, and how a path names one.
//!
//! In: a registry of types; a request path. Out: a [`Target`]. A path that names no type is answered
//! with plain text `404 page not found`, not with a Status. Start at [`Registry::find`].

use serde_json::{Value, json};

/// One kind of object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    pub group: String,
    pub version: String,
    pub plural: String,
    pub kind: String,
    pub namespaced: bool,
    /// Status is a subresource of its own: other writes leave it alone.
    pub status: bool,
    /// `metadata.generation` counts changes of everything but metadata and status.
    pub generation: bool,
    pub scale: bool,
    /// Defined by a CRD: list items carry their kind.
    pub custom: bool,
}

impl Resource {
    /// A namespaced custom resource with a status subresource.
    pub fn custom(group: &str, version: &str, plural: &str, kind: &str) -> Self {
        Self {
            group: group.to_owned(),
            version: version.to_owned(),
            plural: plural.to_owned(),
            kind: kind.to_owned(),
            namespaced: true,
            status: true,
            generation: true,
            scale: false,
            custom: true,
        }
    }

    fn built_in(group: &str, version: &str, plural: &str, kind: &str, traits: &str) -> Self {
        Self {
            namespaced: traits.contains('n'),
            status: traits.contains('s'),
            generation: traits.contains('g'),
            scale: traits.contains('c'),
            custom: false,
            ..Self::custom(group, version, plural, kind)
        }
    }

    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }
}

/// What a path points at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub resource: Resource,
    /// Empty for cluster-wide objects and for lists over all namespaces.
    pub namespace: String,
    pub name: Option<String>,
    pub subresource: Option<String>,
}

/// All types that are served.
#[derive(Debug, Clone)]
pub struct Registry(Vec<Resource>);

impl Default for Registry {
    fn default() -> Self {
        // n: namespaced, s: status subresource, g: generation, c: scale subresource.
        let built_in = [
            ("", "v1", "namespaces", "Namespace", "s"),
            ("", "v1", "secrets", "Secret", "n"),
            ("", "v1", "configmaps", "ConfigMap", "n"),
            ("", "v1", "services", "Service", "ns"),
            ("", "v1", "serviceaccounts", "ServiceAccount", "n"),
            ("", "v1", "events", "Event", "n"),
            ("", "v1", "nodes", "Node", "s"),
            ("", "v1", "pods", "Pod", "ns"),
            ("", "v1", "persistentvolumes", "PersistentVolume", "s"),
            ("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim", "ns"),
            ("apps", "v1", "deployments", "Deployment", "nsgc"),
            ("apps", "v1", "statefulsets", "StatefulSet", "nsgc"),
            ("coordination.k8s.io", "v1", "leases", "Lease", "n"),
            ("storage.k8s.io", "v1", "volumeattachments", "VolumeAttachment", "s"),
            ("storage.k8s.io", "v1", "storageclasses", "StorageClass", ""),
        ];
        let all = built_in
            .map(|(group, version, plural, kind, traits)| Resource::built_in(group, version, plural, kind, traits));
        Self(all.to_vec())
    }
}

impl Registry {
    /// Serves one more type.
    pub fn add(&mut self, resource: Resource) {
        if !self.0.contains(&resource) {
            self.0.push(resource);
        }
    }

    /// The type of this kind, if it is served.
    pub fn of_kind(&self, kind: &str) -> Option<&Resource> {
        self.0.iter().find(|resource| resource.kind == kind)
    }

    /// What a path points at, if it names a type that is served.
    pub fn find(&self, path: &str) -> Option<Target> {
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let (group, version, rest) = match parts.as_slice() {
            ["api", version, rest @ ..] => ("", *version, rest),
            ["apis", group, version, rest @ ..] => (*group, *version, rest),
            _ => return None,
        };
        let served = |plural: &str| {
            self.0
                .iter()
                .find(|resource| resource.group == group && resource.version == version && resource.plural == plural)
        };
        let (namespace, plural, rest) = match rest {
            // The namespace object itself, and its own subresources.
            ["namespaces"] | ["namespaces", _] | ["namespaces", _, "status" | "finalize"] => {
                ("", "namespaces", &rest[1..])
            }
            ["namespaces", namespace, plural, rest @ ..] => (*namespace, *plural, rest),
            [plural, rest @ ..] => ("", *plural, rest),
            [] => return None,
        };
        let resource = served(plural)?;
        // A namespaced object has no address without its namespace, and the other way round.
        let placed = rest.is_empty() || resource.namespaced != namespace.is_empty();
        if !placed || (!namespace.is_empty() && !resource.namespaced) || rest.len() > 2 {
            return None;
        }
        Some(Target {
            resource: resource.clone(),
            namespace: namespace.to_owned(),
            name: rest.first().map(|name| (*name).to_owned()),
            subresource: rest.get(1).map(|name| (*name).to_owned()),
        })
    }

    /// The discovery documents `/api`, `/apis`, `/api/v1`, `/apis/GROUP` and `/apis/GROUP/VERSION`.
    pub fn discovery(&self, path: &str) -> Option<Value> {
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        match parts.as_slice() {
            ["api"] => Some(json!({ "kind": "APIVersions", "versions": ["v1"] })),
            ["apis"] => {
                let mut names: Vec<&str> = self.0.iter().map(|one| one.group.as_str()).collect();
                names.sort_unstable();
                names.dedup();
                let groups: Vec<Value> = names.into_iter().filter_map(|name| self.group(name)).collect();
                Some(json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": groups }))
            }
            ["apis", group] => self.group(group),
            ["api", "v1"] => self.resources("", "v1"),
            ["apis", group, version] => self.resources(group, version),
            _ => None,
        }
    }

    fn group(&self, name: &str) -> Option<Value> {
        let found = self.0.iter().find(|one| one.group == name && !name.is_empty())?;
        let version = json!({ "groupVersion": found.api_version(), "version": found.version });
        Some(json!({
            "kind": "APIGroup", "apiVersion": "v1", "name": name,
            "versions": [version], "preferredVersion": version,
        }))
    }

    fn resources(&self, group: &str, version: &str) -> Option<Value> {
        let found: Vec<&Resource> = self.0.iter().filter(|one| one.group == group && one.version == version).collect();
        let first = found.first()?;
        let verbs = json!(["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]);
        let mut list = Vec::new();
        for one in &found {
            let singular = one.kind.to_lowercase();
            list.push(json!({
                "name": one.plural, "singularName": singular, "namespaced": one.namespaced,
                "kind": one.kind, "verbs": verbs,
            }));
            for (has, name) in [(one.status, "status"), (one.scale, "scale")] {
                if has {
                    let kind = if name == "scale" { "Scale" } else { one.kind.as_str() };
                    list.push(json!({
                        "name": format!("{}/{name}", one.plural), "singularName": "",
                        "namespaced": one.namespaced, "kind": kind,
                        "verbs": ["get", "patch", "update"],
                    }));
                }
            }
        }
        Some(json!({
            "kind": "APIResourceList", "apiVersion": "v1",
            "groupVersion": first.api_version(), "resources": list,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_type_namespace_name_and_subresource() {
        let registry = Registry::default();
        // path, plural, namespace, name, subresource
        let table = [
            ("/api/v1/namespaces", "namespaces", "", None, None),
            ("/api/v1/namespaces/x", "namespaces", "", Some("x"), None),
            ("/api/v1/namespaces/x/secrets", "secrets", "x", None, None),
            ("/api/v1/secrets", "secrets", "", None, None),
            ("/api/v1/persistentvolumes/pv", "persistentvolumes", "", Some("pv"), None),
            ("/apis/apps/v1/namespaces/x/deployments/d/scale", "deployments", "x", Some("d"), Some("scale")),
        ];
        for (path, plural, namespace, name, subresource) in table {
            let target = registry.find(path).unwrap_or_else(|| panic!("{path}"));
            assert_eq!(target.resource.plural, plural, "{path}");
            assert_eq!(target.namespace, namespace, "{path}");
            assert_eq!(target.name.as_deref(), name, "{path}");
            assert_eq!(target.subresource.as_deref(), subresource, "{path}");
        }
    }

    #[test]
    fn what_is_not_served_has_no_target() {
        let registry = Registry::default();
        for path in [
            "/apis/operator.alaudadevops.io/v1alpha1/namespaces/x/nexuses",
            "/api/v1/secrets/without-namespace",
            "/api/v1/namespaces/x/persistentvolumes",
            "/api/v2/secrets",
            "/",
        ] {
            assert_eq!(registry.find(path), None, "{path}");
        }
    }
}
