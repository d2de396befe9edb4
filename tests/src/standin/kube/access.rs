//! Who asks the API server, and what they may do.
//!
//! In: a bearer token. Out: an [`Identity`]; whether a rule of it allows a request.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// What is allowed. `*` stands for everything; no names means all names.
#[derive(Debug, Clone, Default)]
pub struct Rule {
    pub verbs: Vec<String>,
    pub groups: Vec<String>,
    pub resources: Vec<String>,
    pub names: Vec<String>,
}

impl Rule {
    /// A rule from lists of words separated by spaces.
    pub fn new(verbs: &str, groups: &[&str], resources: &str, names: &str) -> Self {
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect();
        Self {
            verbs: words(verbs),
            groups: groups.iter().map(|group| (*group).to_owned()).collect(),
            resources: words(resources),
            names: words(names),
        }
    }

    fn allows(&self, verb: &str, group: &str, resource: &str, name: &str) -> bool {
        let has = |list: &[String], word: &str| list.iter().any(|one| one == "*" || one == word);
        has(&self.verbs, verb)
            && has(&self.groups, group)
            && has(&self.resources, resource)
            // A rule by name can not allow what has no name yet.
            && (self.names.is_empty() || self.names.iter().any(|one| one == name))
    }
}

/// Who asks.
#[derive(Debug, Clone)]
pub struct Identity {
    pub user: String,
    pub rules: Vec<Rule>,
}

impl Identity {
    pub fn admin() -> Self {
        let rules = vec![Rule::new("*", &["*"], "*", "")];
        Self { user: "kubernetes-admin".to_owned(), rules }
    }

    pub fn anonymous() -> Self {
        Self { user: "system:anonymous".to_owned(), rules: Vec::new() }
    }

    pub fn may(&self, verb: &str, group: &str, resource: &str, name: &str) -> bool {
        self.rules.iter().any(|rule| rule.allows(verb, group, resource, name))
    }

    /// Answers a SelfSubjectAccessReview.
    pub fn review(&self, request: &Value) -> Value {
        let wanted = &request["spec"]["resourceAttributes"];
        let word = |name: &str| wanted[name].as_str().unwrap_or_default();
        let mut resource = word("resource").to_owned();
        if !word("subresource").is_empty() {
            resource = format!("{resource}/{}", word("subresource"));
        }
        let allowed = self.may(word("verb"), word("group"), &resource, word("name"));
        let mut answer = request.clone();
        answer["kind"] = json!("SelfSubjectAccessReview");
        answer["apiVersion"] = json!("authorization.k8s.io/v1");
        answer["status"] = if allowed {
            json!({ "allowed": true, "reason": "RBAC: allowed by RoleBinding" })
        } else {
            json!({ "allowed": false })
        };
        answer
    }
}

/// Tokens and whose they are.
pub type Tokens = BTreeMap<String, Identity>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_by_name_allows_neither_another_name_nor_a_create() {
        let rules = vec![Rule::new("get update create", &["coordination.k8s.io"], "leases", "mine")];
        let identity = Identity { user: "agent".to_owned(), rules };

        assert!(identity.may("update", "coordination.k8s.io", "leases", "mine"));
        assert!(!identity.may("update", "coordination.k8s.io", "leases", "other"));
        assert!(!identity.may("create", "coordination.k8s.io", "leases", ""));
        assert!(!identity.may("get", "", "secrets", "mine"));
    }
}
