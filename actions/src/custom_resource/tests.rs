use understudy_config::Span;

use super::*;
use crate::testing::kube::{Reply, server};

const NEXUS: &str = "
apiVersion: operator.alaudadevops.io/v1alpha1
kind: Nexus
metadata: {name: nexus-ddrs, namespace: nexus-dr, uid: u-a, resourceVersion: '7', finalizers: [x], ownerReferences: [{}]}
spec:
  externalURL: http://nexus.example.net
  helmValues:
    image: registry.a.example/nexus/nexus3:3.81.1
    sidecars: [registry.a.example/tools/log:1, registry.a.example.net/other:1]
    pvc: {storage: 5Gi, volumeClaimTemplate: {enabled: true}}
status: {conditions: []}
";

#[test]
fn the_resource_is_cleaned_patched_and_taken_from_bs_registry() {
    let patches = vec![
        json!({ "spec": { "helmValues": { "pvc": { "storage": null, "existingClaim": "data" } } } }),
        json!({ "spec": { "externalURL": "http://b.example.net" } }),
    ];
    let registries = BTreeMap::from([("registry.a.example".into(), "registry.b.example".into())]);
    let (_keep, deploy) = deploy(NEXUS, patches, registries);

    let resource = CustomResource::load(&deploy, Some("nexus-dr")).unwrap();

    assert_eq!((resource.kind.as_str(), resource.name.as_str()), ("Nexus", "nexus-ddrs"));
    let object = resource.object;
    assert_eq!(object["metadata"], json!({ "name": "nexus-ddrs", "namespace": "nexus-dr" }));
    assert_eq!(object.get("status"), None);
    assert_eq!(object["spec"]["externalURL"], "http://b.example.net");
    let values = &object["spec"]["helmValues"];
    assert_eq!(values["pvc"], json!({ "volumeClaimTemplate": { "enabled": true }, "existingClaim": "data" }));
    assert_eq!(values["image"], "registry.b.example/nexus/nexus3:3.81.1");
    assert_eq!(values["sidecars"], json!(["registry.b.example/tools/log:1", "registry.a.example.net/other:1"]));
}

#[test]
fn the_longest_registry_that_fits_wins() {
    let registries = BTreeMap::from([("r".into(), "one".into()), ("r/team".into(), "two".into())]);
    let mut value = json!(["r/team/x:1", "r/x:1", "r", "rr/x"]);

    replace_registries(&mut value, &registries);

    assert_eq!(value, json!(["two/x:1", "one/x:1", "one", "rr/x"]));
}

#[test]
fn a_merge_patch_does_what_rfc_7396_shows() {
    // The examples of its appendix A.
    let cases = [
        (json!({ "a": "b" }), json!({ "a": "c" }), json!({ "a": "c" })),
        (json!({ "a": "b" }), json!({ "b": "c" }), json!({ "a": "b", "b": "c" })),
        (json!({ "a": "b" }), json!({ "a": null }), json!({})),
        (json!({ "a": ["b"] }), json!({ "a": "c" }), json!({ "a": "c" })),
        (json!({ "a": "c" }), json!({ "a": ["b"] }), json!({ "a": ["b"] })),
        (json!({ "a": { "b": "c" } }), json!({ "a": { "b": "d", "c": null } }), json!({ "a": { "b": "d" } })),
        (json!(["a", "b"]), json!(["c", "d"]), json!(["c", "d"])),
        (json!({ "a": "foo" }), json!("bar"), json!("bar")),
        (json!({ "e": null }), json!({ "a": 1 }), json!({ "e": null, "a": 1 })),
        (json!([1, 2]), json!({ "a": "b", "c": null }), json!({ "a": "b" })),
        (json!({}), json!({ "a": { "bb": { "ccc": null } } }), json!({ "a": { "bb": {} } })),
    ];
    for (mut target, patch, expected) in cases {
        merge(&mut target, &patch);
        assert_eq!(target, expected);
    }
}

#[test]
fn what_is_not_one_resource_of_the_pair_is_refused() {
    let load = |text: &str, patch: Vec<Value>, namespace: Option<&str>| {
        let (_keep, deploy) = deploy(text, patch, BTreeMap::new());
        CustomResource::load(&deploy, namespace).unwrap_err().to_string()
    };

    assert!(load("", vec![], None).contains("holds 0 objects: deploy.manifest is one custom resource"));
    assert!(load(&format!("{NEXUS}---{NEXUS}"), vec![], None).contains("holds 2 objects"));
    assert!(
        load(NEXUS, vec![], Some("other")).contains("Nexus nexus-ddrs is of namespace nexus-dr, the pair of other")
    );
    let nowhere = NEXUS.replace("namespace: nexus-dr, ", "");
    assert!(load(&nowhere, vec![], None).contains("names a namespace"));
    let renamed = vec![json!({ "metadata": { "name": "x" } })];
    assert!(load(NEXUS, renamed, None).contains("deploy.patch changes what the resource is called"));
}

#[test]
fn plurals_are_formed_as_english_forms_them() {
    for (kind, plural) in [("Nexus", "nexuses"), ("Harbor", "harbors"), ("GitlabBox", "gitlabboxes")] {
        assert_eq!(plural_of(kind), plural);
    }
}

#[tokio::test]
async fn the_plural_comes_from_the_server_unless_it_is_written_down() {
    let (client, asked) = server(|_| {
        let nexus =
            json!({ "name": "nexusen", "singularName": "", "namespaced": true, "kind": "Nexus", "verbs": ["get"] });
        let group = "operator.alaudadevops.io/v1alpha1";
        Reply::ok(json!({ "kind": "APIResourceList", "groupVersion": group, "resources": [nexus] }))
    });
    let (_keep, mut deploy) = deploy(NEXUS, vec![], BTreeMap::new());

    let found = CustomResource::load(&deploy, None).unwrap().collection(&client).await.unwrap();
    deploy.plural = Some("nexuses".into());
    let written = CustomResource::load(&deploy, None).unwrap().collection(&client).await.unwrap();

    let place = "/apis/operator.alaudadevops.io/v1alpha1/namespaces/nexus-dr";
    assert_eq!(found.resource_url(), format!("{place}/nexusen"));
    assert_eq!(written.resource_url(), format!("{place}/nexuses"));
    assert_eq!(asked.all().len(), 1);
}

#[tokio::test]
async fn a_kind_that_the_server_does_not_know_is_named_with_the_remedy() {
    let (client, _) = server(|_| Reply::Text(404, "404 page not found"));
    let (_keep, deploy) = deploy(NEXUS, vec![], BTreeMap::new());

    let error = CustomResource::load(&deploy, None).unwrap().collection(&client).await.unwrap_err();

    let text = error.to_string();
    assert_eq!(text, "the API server knows no Nexus of operator.alaudadevops.io/v1alpha1: install its operator there");
}

#[tokio::test]
async fn where_discovery_is_forbidden_the_plain_plural_is_tried() {
    let (client, _) = server(|_| Reply::status(403, "Forbidden", "no", json!({})));
    let (_keep, deploy) = deploy(NEXUS, vec![], BTreeMap::new());

    let found = CustomResource::load(&deploy, None).unwrap().collection(&client).await.unwrap();

    assert!(found.resource_url().ends_with("/nexuses"));
}

fn deploy(text: &str, patch: Vec<Value>, image_registry: BTreeMap<String, String>) -> (tempfile::TempDir, Deploy) {
    let directory = tempfile::tempdir().unwrap();
    let manifest = directory.path().join("nexus.yaml");
    std::fs::write(&manifest, text).unwrap();
    let (conditions, ready_within) = (vec![], Span::secs(60));
    (directory, Deploy { manifest, plural: None, patch, image_registry, conditions, ready_within })
}
