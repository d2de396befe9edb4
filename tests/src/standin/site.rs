//! One site, and both of them together: what dies, hangs and comes back as a whole.
//!
//! In: a directory and a [`Plan`] of the world. Out: two sites with Kubernetes, Ceph, a Nexus and its
//! operator each, a load balancer, a notify receiver and a DNS zone between them, and one ledger of
//! what was done to all of them. Start at [`World::start`].

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::ceph::{self, Ceph};
use super::dns::{Resolver, Zone, ZoneError};
use super::effects::Ledger;
use super::kube::operator::Operator;
use super::kube::{self, Kube};
use super::lb::LoadBalancer;
use super::nexus::{self, Nexus};
use super::notify::Receiver;
use super::port::loopback;
use super::side::Side;
use super::volume::{Content, Volume};
use super::webhook::Secret;

/// What the world holds before the story begins.
#[derive(Debug, Clone)]
pub struct Plan {
    pub pool: String,
    pub namespace: String,
    /// The custom resource, and so the pair.
    pub name: String,
    /// Objects of 4 MiB in each image.
    pub objects: u64,
    /// Further images of the pair, mirrored and not mounted.
    pub more_images: Vec<String>,
    /// The zone that holds `nexus.ZONE`.
    pub zone: String,
    /// Seconds that a resolver may keep its address.
    pub ttl: u32,
    /// Minutes of the stand-in between two mirror snapshots; `None`: no schedule.
    pub schedule: Option<u32>,
    pub nexus: nexus::Timing,
    pub ceph: ceph::Timing,
    pub kube: kube::Timing,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            pool: "myblock".to_owned(),
            namespace: "nexus-dr".to_owned(),
            name: "nexus-ddrs".to_owned(),
            objects: 256,
            more_images: Vec::new(),
            zone: "example.net.".to_owned(),
            ttl: 1,
            schedule: Some(1),
            nexus: nexus::Timing::default(),
            ceph: ceph::Timing::default(),
            kube: kube::Timing::default(),
        }
    }
}

impl Plan {
    /// The claim that the operator's StatefulSet asks for.
    pub fn claim(&self) -> String {
        format!("nexus-data-{}-nxrm-ha-0", self.name)
    }

    /// The image behind it.
    pub fn image(&self) -> String {
        format!("csi-vol-{}", self.name)
    }

    pub fn volume(&self) -> String {
        format!("pvc-{}", self.name)
    }

    /// The name that users look up.
    pub fn host(&self) -> String {
        format!("nexus.{}", self.zone)
    }
}

/// Why a world could not be made.
#[derive(Debug, thiserror::Error)]
pub enum WorldError {
    #[error("failed to open a socket or write a file")]
    Io(#[from] io::Error),
    #[error("failed to start a control plane")]
    Kube(#[from] kube::StartError),
    #[error("failed to set an object up: {0}")]
    Setup(String),
    #[error("failed to serve a zone")]
    Zone(#[from] ZoneError),
}

/// One place: a control plane, a Nexus and its operator. Its Ceph is one side of the pair.
pub struct Site {
    pub side: Side,
    pub kube: Kube,
    pub nexus: Arc<Nexus>,
    operator: Arc<Operator>,
    ceph: Arc<Ceph>,
    _running: DropGuard,
}

impl Site {
    async fn start(side: Side, plan: &Plan, ceph: Arc<Ceph>, ledger: &Ledger) -> Result<Self, WorldError> {
        let kube = Kube::start(side.name(), loopback(), plan.kube, ledger.clone()).await?;
        kube.serve_known_custom_resources();
        let nexus = Nexus::new(side.name(), loopback(), plan.nexus, ledger.clone()).await?;
        let nexus = Arc::new(nexus);
        let instances = BTreeMap::from([(plan.name.clone(), nexus.clone())]);
        let operator = Arc::new(Operator::new(side, &kube, ceph.clone(), instances));
        let stop = CancellationToken::new();
        tokio::spawn(stop.clone().run_until_cancelled_owned(operator.clone().run()));
        Ok(Self { side, kube, nexus, operator, ceph, _running: stop.drop_guard() })
    }

    /// Power off: every process of the site is gone, data and objects stay.
    pub async fn kill(&self) {
        self.kube.kill().await;
        self.operator.forget_processes();
        self.nexus.kill().await;
        self.ceph.kill(self.side);
    }

    /// Every process of the site is stopped: ports accept, nobody answers.
    pub fn freeze(&self) {
        self.kube.freeze();
        self.nexus.freeze();
        self.ceph.freeze(self.side);
    }

    /// Every process goes on.
    pub fn thaw(&self) {
        self.ceph.thaw(self.side);
        self.nexus.thaw();
        self.kube.thaw();
    }

    /// Power on again after a kill; Nexus comes back by itself where its custom resource is and its
    /// image can be mounted.
    pub async fn restart(&self) -> io::Result<()> {
        self.ceph.thaw(self.side);
        self.kube.restart().await
    }

    /// The Nexus process dies; with `for_good` it does not come up again.
    pub async fn kill_nexus(&self, instance: &str, for_good: bool) {
        self.operator.hold_down(instance, for_good);
        self.nexus.kill().await;
    }

    /// Lets a Nexus that was killed for good come up again.
    pub fn release_nexus(&self, instance: &str) {
        self.operator.hold_down(instance, false);
    }
}

/// Both sites and what stands between them and the users.
pub struct World {
    pub plan: Plan,
    pub ledger: Ledger,
    pub ceph: Arc<Ceph>,
    pub a: Site,
    pub b: Site,
    pub balancer: LoadBalancer,
    pub notify: Receiver,
    /// The address of the public name, at first that of A's Nexus.
    pub zone: Zone,
    /// What users' machines ask.
    pub resolver: Resolver,
    pub secret: Secret,
    directory: PathBuf,
}

impl World {
    /// A world in which A serves, B stands by in step, and the public name leads to A. Files that a
    /// configuration refers to are put into `directory`.
    pub async fn start(directory: &Path, plan: Plan) -> Result<Self, WorldError> {
        let ledger = Ledger::default();
        let ceph = Ceph::start(directory, &plan.pool, plan.ceph, ledger.clone()).await?;
        let ceph = Arc::new(ceph);
        let a = Site::start(Side::A, &plan, ceph.clone(), &ledger).await?;
        let b = Site::start(Side::B, &plan, ceph.clone(), &ledger).await?;
        let secret = Secret::new(uuid::Uuid::new_v4().as_bytes().repeat(2).as_slice());
        let sites = [&a, &b].map(|site| (site.side.to_string(), site.nexus.address())).into();
        let balancer = LoadBalancer::start(loopback(), sites, "a", secret.clone(), ledger.clone()).await?;
        let notify = Receiver::start(loopback(), secret.clone(), ledger.clone()).await?;
        let IpAddr::V4(address) = a.nexus.address().ip() else {
            return Err(WorldError::Setup("a site without an IPv4 address".to_owned()));
        };
        let (origin, host) = (&plan.zone, plan.host());
        let zone = Zone::start(loopback(), origin, &host, address, plan.ttl, ledger.clone()).await?;
        let resolver = Resolver::start(loopback(), zone.address()).await?;
        let directory = directory.to_owned();
        let world = Self { plan, ledger, ceph, a, b, balancer, notify, zone, resolver, secret, directory };
        world.populate()?;
        world.until_serving(Side::A).await;
        Ok(world)
    }

    pub fn site(&self, side: Side) -> &Site {
        match side {
            Side::A => &self.a,
            Side::B => &self.b,
        }
    }

    /// Writes a kubeconfig for an administrator of `side` and returns its path.
    pub fn kubeconfig(&self, side: Side) -> io::Result<PathBuf> {
        let path = self.directory.join(format!("kube-{side}.yaml"));
        std::fs::write(&path, self.site(side).kube.kubeconfig())?;
        Ok(path)
    }

    /// The objects that a failover restores at B, as A holds them; what a capture would have kept.
    pub fn bundle(&self) -> Vec<Value> {
        let (namespace, plan) = (&self.plan.namespace, &self.plan);
        [
            ("Namespace", "", namespace.as_str()),
            ("Secret", namespace, "nexus-root-password"),
            ("PersistentVolume", "", &plan.volume()),
            ("PersistentVolumeClaim", namespace, &plan.claim()),
            ("Nexus", namespace, &plan.name),
        ]
        .into_iter()
        .filter_map(|(kind, namespace, name)| self.a.kube.object(kind, namespace, name))
        .collect()
    }

    /// Returns when the Nexus of `side` answers and its pod is ready.
    pub async fn until_serving(&self, side: Side) {
        let running =
            |resource: Option<&Value>| resource.is_some_and(|one| one["status"]["conditions"][2]["status"] == "True");
        let kube = &self.site(side).kube;
        kube.until("Nexus", &self.plan.namespace, &self.plan.name, running).await;
    }

    /// Image, volume, claim, secret and custom resource at A; nothing at B but Ceph's copy.
    fn populate(&self) -> Result<(), WorldError> {
        let plan = &self.plan;
        let mut content = Content::default();
        for repository in ["raw", "dr-canary"] {
            content.repositories.insert(repository.to_owned(), "raw".to_owned());
        }
        self.ceph.create_image(Side::A, &plan.image(), Volume::new(content), plan.objects);
        for image in &plan.more_images {
            self.ceph.create_image(Side::A, image, Volume::default(), plan.objects);
        }
        if let Some(minutes) = plan.schedule {
            Side::BOTH.into_iter().for_each(|side| self.ceph.add_schedule(side, minutes));
        }
        for object in self.objects() {
            self.a.kube.put(&object).map_err(|refusal| WorldError::Setup(refusal.message))?;
        }
        Ok(())
    }

    fn objects(&self) -> [Value; 5] {
        let (plan, namespace) = (&self.plan, &self.plan.namespace);
        [
            json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": namespace } }),
            json!({
                "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
                "metadata": { "name": "nexus-root-password", "namespace": namespace },
                "stringData": { "username": "admin", "password": super::volume::ADMIN_PASSWORD },
            }),
            json!({
                "apiVersion": "v1", "kind": "PersistentVolume",
                "metadata": {
                    "name": plan.volume(),
                    "annotations": { "pv.kubernetes.io/provisioned-by": "rook-ceph.rbd.csi.ceph.com" },
                },
                "spec": {
                    "accessModes": ["ReadWriteOnce"], "capacity": { "storage": "5Gi" },
                    "persistentVolumeReclaimPolicy": "Retain", "storageClassName": "ceph-rdb",
                    "volumeMode": "Filesystem",
                    "csi": {
                        "driver": "rook-ceph.rbd.csi.ceph.com", "fsType": "ext4",
                        "volumeHandle": format!("0001-0009-rook-ceph-0000000000000002-{}", plan.name),
                        "volumeAttributes": {
                            "clusterID": "rook-ceph", "pool": plan.pool, "imageName": plan.image(),
                            "imageFeatures": "layering", "imageFormat": "2", "journalPool": plan.pool,
                        },
                        "nodeStageSecretRef": { "name": "rook-csi-rbd-node", "namespace": "rook-ceph" },
                    },
                },
            }),
            json!({
                "apiVersion": "v1", "kind": "PersistentVolumeClaim",
                "metadata": { "name": plan.claim(), "namespace": namespace },
                "spec": {
                    "accessModes": ["ReadWriteOnce"], "storageClassName": "ceph-rdb",
                    "resources": { "requests": { "storage": "5Gi" } },
                    "volumeName": plan.volume(), "volumeMode": "Filesystem",
                },
            }),
            json!({
                "apiVersion": "operator.alaudadevops.io/v1alpha1", "kind": "Nexus",
                "metadata": { "name": plan.name, "namespace": namespace },
                "spec": {
                    "externalURL": self.balancer.public_url(),
                    "helmValues": {
                        "pvc": { "storage": "5Gi", "volumeClaimTemplate": { "enabled": true } },
                        "storageClass": { "name": "ceph-rdb" },
                    },
                },
            }),
        ]
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::standin::ceph::MountError;
    use crate::standin::volume::ADMIN_PASSWORD;

    #[tokio::test]
    async fn a_world_starts_quickly_and_serves_at_a_through_the_public_name() {
        let began = Instant::now();
        let world = Story::start().await;
        // Generous, since other work shares the machine; alone it takes well under 0.3 s.
        assert!(began.elapsed() < Duration::from_secs(3));

        world.upload("raw/hello", "from A").await;

        assert_eq!(world.download("raw/hello").await, (200, "from A".to_owned()));
        assert_eq!(world.ceph.mount(Side::B, &world.plan.image()).err(), not_primary(&world));
    }

    #[tokio::test]
    async fn the_whole_failover_by_hand_brings_the_artifact_back_under_the_same_name() {
        let world = Story::start().await;
        world.upload("raw/hello", "from A").await;
        world.ceph.take_snapshot(Side::A, &world.plan.image(), true);
        world.ceph.until_in_step(Side::B, &world.plan.image()).await;
        let bundle = world.bundle();
        world.a.kill().await;
        assert_eq!(world.download("raw/hello").await.0, 502);

        world.restore(&bundle);
        world.promote().await;
        world.b.kube.put(&clean(&bundle[4])).unwrap();
        world.until_serving(Side::B).await;
        world.route_to_b().await;

        assert_eq!(world.download("raw/hello").await, (200, "from A".to_owned()));
    }

    #[tokio::test]
    async fn nexus_does_not_start_at_b_before_its_image_is_primary() {
        let world = Story::start().await;
        world.ceph.until_in_step(Side::B, &world.plan.image()).await;
        let bundle = world.bundle();
        world.a.kill().await;
        world.restore(&bundle);
        world.b.kube.put(&clean(&bundle[4])).unwrap();

        let failed = |event: Option<&Value>| event.is_some_and(|event| event["reason"] == "FailedMount");
        let pod = format!("{}-nxrm-ha-0.failedmount", world.plan.name);
        world.b.kube.until("Event", &world.plan.namespace, &pod, failed).await;
        assert!(!world.b.nexus.is_running().await);

        world.promote().await;
        world.until_serving(Side::B).await;
    }

    #[tokio::test]
    async fn what_is_deleted_comes_back_while_the_custom_resource_is_there_and_goes_with_it() {
        let world = Story::start().await;
        let (kube, namespace) = (&world.a.kube, world.plan.namespace.as_str());
        let (set, pod) = (format!("{}-nxrm-ha", world.plan.name), format!("{}-nxrm-ha-0", world.plan.name));
        let attachment = format!("csi-{}-node-a", world.plan.volume());
        let old = kube.object("StatefulSet", namespace, &set).unwrap()["metadata"]["uid"].clone();
        assert!(kube.object("VolumeAttachment", "", &attachment).is_some());

        world.delete("/apis/apps/v1/namespaces/nexus-dr/statefulsets", &set).await;
        let new = |found: Option<&Value>| found.is_some_and(|found| found["metadata"]["uid"] != old);
        kube.until("StatefulSet", namespace, &set, new).await;

        world.delete("/apis/operator.alaudadevops.io/v1alpha1/namespaces/nexus-dr/nexuses", "nexus-ddrs").await;
        for (kind, namespace, name) in
            [("StatefulSet", namespace, &set), ("Pod", namespace, &pod), ("VolumeAttachment", "", &attachment)]
        {
            kube.until(kind, namespace, name, |found| found.is_none()).await;
        }
        assert!(!world.a.nexus.is_running().await);
    }

    #[tokio::test]
    async fn a_nexus_that_dies_comes_back_unless_it_is_held_down() {
        let world = Story::start().await;
        let conditions = |word: &'static str| {
            move |found: Option<&Value>| found.is_some_and(|found| found["status"]["conditions"][2]["status"] == word)
        };
        let (kube, plan) = (&world.a.kube, &world.plan);

        world.a.kill_nexus(&plan.name, true).await;
        kube.until("Nexus", &plan.namespace, &plan.name, conditions("False")).await;
        assert!(!world.a.nexus.is_running().await);

        world.a.release_nexus(&plan.name);
        kube.until("Nexus", &plan.namespace, &plan.name, conditions("True")).await;
    }

    #[tokio::test]
    async fn an_old_primary_that_returns_serves_its_own_image_again() {
        let world = Story::start().await;
        world.upload("raw/hello", "from A").await;
        world.ceph.until_in_step(Side::B, &world.plan.image()).await;
        world.a.kill().await;
        world.promote().await;

        world.a.restart().await.unwrap();

        let url = format!("{}/service/rest/v1/status", world.a.nexus.url());
        while client().get(&url).send().await.is_err() {}
        let image = world.plan.image();
        for side in Side::BOTH {
            let primary = world.ceph.inspect(side, &image, ceph::model::Image::primary);
            assert_eq!(primary, Some(true), "two primaries");
        }
    }

    #[tokio::test]
    async fn a_frozen_site_is_silent_everywhere_and_goes_on_when_thawed() {
        let world = Story::start().await;
        world.a.freeze();
        let status = format!("{}/service/rest/v1/status", world.a.nexus.url());
        let asked = tokio::time::timeout(Duration::from_millis(100), client().get(&status).send()).await;
        assert!(asked.is_err());
        assert!(!world.ceph.is_up(Side::A));

        world.a.thaw();

        assert_eq!(client().get(&status).send().await.unwrap().status(), 200);
    }

    /// A world and the hands of the one who acts in it.
    struct Story {
        world: World,
        _directory: tempfile::TempDir,
    }

    impl std::ops::Deref for Story {
        type Target = World;
        fn deref(&self) -> &World {
            &self.world
        }
    }

    impl Story {
        async fn start() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let world = World::start(directory.path(), Plan::default()).await.unwrap();
            Self { world, _directory: directory }
        }

        async fn upload(&self, path: &str, body: &'static str) {
            let answer = client()
                .put(format!("{}/repository/{path}", self.balancer.public_url()))
                .basic_auth("admin", Some(ADMIN_PASSWORD))
                .body(body)
                .send()
                .await
                .unwrap();
            assert_eq!(answer.status(), 201);
        }

        async fn download(&self, path: &str) -> (u16, String) {
            let url = format!("{}/repository/{path}", self.balancer.public_url());
            let answer = client().get(url).send().await.unwrap();
            (answer.status().as_u16(), answer.text().await.unwrap())
        }

        fn restore(&self, bundle: &[Value]) {
            for object in &bundle[..4] {
                self.b.kube.put(&clean(object)).unwrap();
            }
        }

        async fn promote(&self) {
            let args: Vec<String> = format!(
                "standin-rbd --socket {} -c {} mirror image promote --force {}/{}",
                self.ceph.socket().display(),
                self.ceph.conf(Side::B).display(),
                self.plan.pool,
                self.plan.image()
            )
            .split(' ')
            .map(str::to_owned)
            .collect();
            let code = tokio::task::spawn_blocking(move || ceph::client::cli_main(&args)).await.unwrap();
            assert_eq!(code, std::process::ExitCode::SUCCESS);
        }

        async fn route_to_b(&self) {
            let url = self.balancer.hook_url();
            let body = json!({ "target": "b", "expected": "a" });
            let request = crate::standin::lb::signed(&self.secret, &url, "run-1", &body).unwrap();
            let answer =
                client().post(url).headers(request.headers().clone()).body(body.to_string()).send().await.unwrap();
            assert_eq!(answer.status(), 200);
        }

        async fn delete(&self, collection: &str, name: &str) {
            crate::standin::install_crypto();
            let client = reqwest::Client::builder().tls_danger_accept_invalid_certs(true).build().unwrap();
            let config: Value = serde_saphyr::from_str(&self.a.kube.kubeconfig()).unwrap();
            let token = config["users"][0]["user"]["token"].as_str().unwrap();
            let url = format!("https://{}{collection}/{name}", self.a.kube.address());
            let answer = client.delete(url).bearer_auth(token).send().await.unwrap();
            assert_eq!(answer.status(), 200);
        }
    }

    fn not_primary(world: &World) -> Option<MountError> {
        Some(MountError::NotPrimary(world.plan.image()))
    }

    /// What a restore cleans off a copied object.
    fn clean(object: &Value) -> Value {
        let mut object = object.clone();
        for field in ["uid", "resourceVersion", "managedFields", "creationTimestamp", "ownerReferences", "annotations"]
        {
            object["metadata"].as_object_mut().unwrap().remove(field);
        }
        object.as_object_mut().unwrap().remove("status");
        if let Some(spec) = object["spec"].as_object_mut() {
            spec.remove("claimRef");
        }
        object
    }

    fn client() -> &'static reqwest::Client {
        static CLIENT: std::sync::LazyLock<reqwest::Client> = std::sync::LazyLock::new(|| {
            crate::standin::install_crypto();
            reqwest::Client::builder().pool_max_idle_per_host(0).build().unwrap()
        });
        &CLIENT
    }
}
