//! What A's API server says about the workload.
//!
//! In: the resource and the claims of the pair. Out: what of them is left at A, read now. Start reading at
//! [`Site::look`].

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Node, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::VolumeAttachment;
use kube::Api;
use kube::api::DynamicObject;

use crate::StepError;
use crate::bundle::Bundle;
use crate::custom_resource::CustomResource;
use crate::kube_call::get;
use crate::kube_watch::Watched;
use crate::pods;

/// Where the workload lives at A.
pub(super) struct Site {
    pub(super) resources: Api<DynamicObject>,
    pub(super) pods: Api<Pod>,
    client: kube::Client,
    resource: CustomResource,
    claims: BTreeSet<String>,
    /// By the bundle; the claims at A may name others since.
    volumes: BTreeSet<String>,
}

/// What is left at one moment.
pub(super) struct Look {
    pub(super) resource: Option<DynamicObject>,
    /// Those that mount a claim of the pair.
    pub(super) pods: Vec<Pod>,
    /// The nodes that a volume of the pair is attached to, or is about to be.
    pub(super) attached_to: BTreeSet<String>,
}

impl Look {
    /// What is left, in words; none if nothing is.
    pub(super) fn left(&self, site: &Site) -> Option<String> {
        let mut left = Vec::new();
        if let Some(resource) = &self.resource {
            let state = if resource.metadata.deletion_timestamp.is_some() { "is being deleted" } else { "exists" };
            left.push(format!("{} {state}", site.title()));
        }
        if !self.pods.is_empty() {
            left.push(pods::summary(&self.pods));
        }
        if !self.attached_to.is_empty() {
            let nodes: Vec<_> = self.attached_to.iter().map(String::as_str).collect();
            left.push(format!("a volume is attached to {}", nodes.join(", ")));
        }
        (!left.is_empty()).then(|| left.join("; "))
    }
}

impl Site {
    pub(super) async fn new(
        client: kube::Client,
        resource: CustomResource,
        bundle: &Bundle,
    ) -> Result<Self, StepError> {
        let resources = resource.collection(&client).await?;
        let pods = Api::namespaced(client.clone(), &resource.namespace);
        let claims = bundle.claims.iter().map(|pair| pair.claim.name.clone()).collect();
        let volumes = bundle.claims.iter().map(|pair| pair.volume.name.clone()).collect();
        Ok(Self { resources, pods, client, resource, claims, volumes })
    }

    /// `KIND NAMESPACE/NAME`.
    pub(super) fn title(&self) -> String {
        format!("{} {}/{}", self.resource.kind, self.resource.namespace, self.resource.name)
    }

    /// The resource is read first: while it exists, pods come back, so that only a look in this order proves anything.
    pub(super) async fn look(&self) -> Result<Look, StepError> {
        let CustomResource { kind, name, namespace, .. } = &self.resource;
        let resource = get(&self.resources, kind, name).await?;
        let volumes = self.volumes_at_a().await?;
        let mut pods = pods::list(&self.client, namespace).await?;
        pods.retain(|pod| self.claims.iter().any(|claim| pods::mounts(pod, claim)));
        let attachments = Watched::<VolumeAttachment>::all(Api::all(self.client.clone()), "volume attachments");
        let attached = attachments.list().await?.items.into_iter().map(|one| one.spec);
        let ours = |volume: &Option<String>| volume.as_ref().is_some_and(|volume| volumes.contains(volume));
        let attached = attached.filter(|spec| ours(&spec.source.persistent_volume_name));
        Ok(Look { resource, pods, attached_to: attached.map(|spec| spec.node_name).collect() })
    }

    async fn volumes_at_a(&self) -> Result<BTreeSet<String>, StepError> {
        let api: Api<PersistentVolumeClaim> = Api::namespaced(self.client.clone(), &self.resource.namespace);
        let seen = Watched::all(api, "claims of A").list().await?;
        let ours = seen
            .items
            .into_iter()
            .filter(|claim| claim.metadata.name.as_ref().is_some_and(|n| self.claims.contains(n)));
        let named = ours.filter_map(|claim| claim.spec?.volume_name);
        Ok(self.volumes.iter().cloned().chain(named).collect())
    }

    /// Why these nodes prove nothing; none if each is Ready.
    pub(super) async fn not_ready(&self, nodes: &BTreeSet<String>) -> Option<String> {
        let api: Api<Node> = Api::all(self.client.clone());
        for name in nodes {
            let node = match get(&api, "Node", name).await {
                Ok(Some(node)) => node,
                Ok(None) => {
                    return Some(format!("node {name}, on which a pod was deleted by force, is gone from the API"));
                }
                Err(error) => return Some(error.whole()),
            };
            if !is_ready(&node) {
                return Some(format!(
                    "node {name}, on which a pod was deleted by force, is not Ready: it may still run"
                ));
            }
        }
        None
    }
}

pub(crate) fn is_ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.into_iter().flatten().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}
