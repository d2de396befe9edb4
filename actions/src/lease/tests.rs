use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};

use super::*;
use crate::testing::kube::{Asked, Ledger, Reply, server};

const LASTS: Duration = Duration::from_secs(30);
const MARGIN: Duration = Duration::from_secs(12);

#[tokio::test(start_paused = true)]
async fn a_free_lease_is_taken_and_renewed_on_what_was_read() {
    let site = Site::new();
    let keeper = site.keeper("one");

    assert_eq!(keeper.turn().await, Turn::Ours { until: Instant::now() + LASTS, epoch: 0 });
    assert_eq!(keeper.turn().await, Turn::Ours { until: Instant::now() + LASTS, epoch: 0 });

    let writes = site.asked.writes();
    assert_eq!(writes.iter().map(|write| write.method.as_str()).collect::<Vec<_>>(), ["POST", "PUT"]);
    assert_eq!(writes[1].body["metadata"]["resourceVersion"], "1");
    assert_eq!(writes[1].body["spec"]["holderIdentity"], "one");
    // The server refuses a time without microseconds.
    let renewed = writes[1].body["spec"]["renewTime"].as_str().unwrap();
    assert_eq!(renewed.split('.').nth(1).map(str::len), Some("123456Z".len()), "{renewed}");
}

#[tokio::test(start_paused = true)]
async fn a_living_holders_lease_is_never_taken() {
    let site = Site::new();
    let (one, two) = (site.keeper("one"), site.keeper("two"));
    one.turn().await;

    for _ in 0..20 {
        tokio::time::advance(Duration::from_secs(10)).await;
        one.turn().await;
        assert_eq!(two.turn().await, Turn::Theirs { holder: "one".into() });
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_holders_lease_is_taken_after_it_was_seen_unchanged_for_its_whole_time() {
    let site = Site::new();
    let (one, two) = (site.keeper("one"), site.keeper("two"));
    one.turn().await;
    // However old it is when it is first seen: whose clock would say so?
    tokio::time::advance(Duration::from_secs(3600)).await;

    assert!(matches!(two.turn().await, Turn::Theirs { .. }));
    tokio::time::advance(LASTS).await;
    assert!(matches!(two.turn().await, Turn::Theirs { .. }));
    tokio::time::advance(Duration::from_millis(1)).await;
    assert!(matches!(two.turn().await, Turn::Ours { .. }));

    assert_eq!(site.lease()["spec"]["leaseTransitions"], 1);
    assert!(matches!(one.permit(MARGIN, 0).await, Err(StepError::NoLease(why)) if why.contains("is held by two")));
}

#[tokio::test(start_paused = true)]
async fn of_two_that_take_it_at_once_one_loses() {
    let site = Site::new();
    let two = site.keeper("two");

    // Both have read that there is none; the second write meets the first one's object.
    site.overtake(json!({ "metadata": { "name": "understudy-x" }, "spec": { "holderIdentity": "one" } }));
    let turn = two.turn().await;

    assert!(matches!(turn, Turn::Unknown { .. }), "{turn:?}");
    two.permit(Duration::ZERO, 0).await.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn a_permit_needs_a_lease_that_is_ours_readable_and_long_enough() {
    let site = Site::new();
    let keeper = site.keeper("one");
    let refused = |result: Result<Permit, StepError>| result.unwrap_err().to_string();

    assert!(refused(keeper.permit(MARGIN, 0).await).contains("the lease is not ours"));
    keeper.turn().await;
    let permit = keeper.permit(MARGIN, 0).await.unwrap();
    assert!(permit.remaining() <= LASTS && permit.remaining() > LASTS - Duration::from_secs(1));
    tokio::time::advance(LASTS - MARGIN).await;
    assert!(refused(keeper.permit(MARGIN, 0).await).contains("ends too soon"));
    keeper.turn().await;
    site.silence(true);
    assert!(refused(keeper.permit(MARGIN, 0).await).contains("can not be read: no answer within 4s"));
    site.silence(false);
    site.put(Value::Null);
    assert!(refused(keeper.permit(MARGIN, 0).await).contains("is gone"));
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_to_a_renewal_shortens_nothing_and_prolongs_nothing() {
    let site = Site::new();
    let keeper = site.keeper("one");
    keeper.turn().await;
    tokio::time::advance(Duration::from_secs(5)).await;

    site.silence(true);
    assert!(matches!(keeper.turn().await, Turn::Unknown { .. }));
    site.silence(false);

    let left = keeper.permit(MARGIN, 0).await.unwrap().remaining();
    // 5 s before and 4 s of patience are gone of the 30 s.
    assert!(left <= Duration::from_secs(21) && left > Duration::from_secs(20), "{left:?}");
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_was_suspended_does_not_write_on_an_old_lease() {
    static BOOT: AtomicU64 = AtomicU64::new(0);
    let site = Site::new();
    let keeper = LeaseKeeper { boot: || Duration::from_secs(BOOT.load(Ordering::SeqCst)), ..site.keeper("one") };
    keeper.turn().await;
    keeper.permit(MARGIN, 0).await.unwrap();

    // No timer of ours saw these seconds, and nobody took the lease meanwhile.
    BOOT.store(40, Ordering::SeqCst);

    assert!(keeper.permit(MARGIN, 0).await.unwrap_err().to_string().contains("ends too soon"));
    keeper.turn().await;
    keeper.permit(MARGIN, 0).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn whoever_leads_after_another_has_an_epoch_of_his_own() {
    let site = Site::new();
    let (one, two) = (site.keeper("one"), site.keeper("two"));
    one.turn().await;
    one.permit(MARGIN, 7).await.unwrap();
    assert_eq!(site.lease()["metadata"]["annotations"]["understudy/epoch"], "7");
    assert!(matches!(one.turn().await, Turn::Ours { epoch: 7, .. }));

    one.release().await;

    assert!(matches!(two.turn().await, Turn::Ours { epoch: 8, .. }));
    two.permit(MARGIN, 8).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_order_of_an_epoch_that_is_over_gets_no_leave() {
    let site = Site::new();
    let keeper = site.keeper("one");
    keeper.turn().await;
    keeper.permit(MARGIN, 7).await.unwrap();

    let refused = keeper.permit(MARGIN, 6).await.unwrap_err().to_string();

    assert!(refused.contains("is at epoch 7, and this order of 6"), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_written_at_an_epoch_that_the_lease_does_not_carry() {
    let site = Site::new();
    let keeper = site.keeper("one");
    keeper.turn().await;
    site.overtake(json!({ "metadata": { "name": "understudy-x" }, "spec": { "holderIdentity": "two" } }));

    let refused = keeper.permit(MARGIN, 7).await.unwrap_err().to_string();

    assert!(refused.contains("does not take epoch 7"), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn steps_that_begin_side_by_side_at_a_new_epoch_all_get_leave() {
    let site = Site::new();
    let keeper = site.keeper("one");
    keeper.turn().await;

    let (fence, restore, renewal) = tokio::join!(keeper.permit(MARGIN, 3), keeper.permit(MARGIN, 3), keeper.turn());

    fence.unwrap();
    restore.unwrap();
    assert!(matches!(renewal, Turn::Ours { .. }), "{renewal:?}");
    assert_eq!(site.lease()["metadata"]["annotations"][EPOCH], "3");
}

#[tokio::test(start_paused = true)]
async fn an_epoch_that_is_no_number_is_neither_taken_nor_written_over() {
    let site = Site::new();
    let keeper = site.keeper("one");
    let metadata = json!({ "resourceVersion": "1", "annotations": { "understudy/epoch": "seven" } });
    site.put(json!({ "metadata": metadata, "spec": { "holderIdentity": "" } }));

    assert!(matches!(keeper.turn().await, Turn::Unknown { why } if why.contains("is no number")));
    assert!(site.asked.writes().is_empty());
}

#[tokio::test(start_paused = true)]
async fn numbers_that_have_no_next_one_are_neither_an_overflow_nor_taken() {
    let site = Site::new();
    let keeper = site.keeper("one");
    let lease = |epoch: u64| {
        let metadata = json!({ "resourceVersion": "1", "annotations": { "understudy/epoch": epoch.to_string() } });
        json!({ "metadata": metadata, "spec": { "holderIdentity": "", "leaseTransitions": i32::MAX } })
    };

    site.put(lease(u64::MAX));
    assert!(matches!(keeper.turn().await, Turn::Unknown { why } if why.contains("no epoch follows")));
    assert!(site.asked.writes().is_empty());

    site.put(lease(7));
    assert!(matches!(keeper.turn().await, Turn::Ours { epoch: 8, .. }));
    assert_eq!(site.lease()["spec"]["leaseTransitions"], i32::MAX);
}

#[tokio::test(start_paused = true)]
async fn a_released_lease_is_free_at_once() {
    let site = Site::new();
    let (one, two) = (site.keeper("one"), site.keeper("two"));
    one.turn().await;

    one.release().await;

    assert!(matches!(two.turn().await, Turn::Ours { .. }));
    one.permit(Duration::ZERO, 0).await.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn another_client_goes_on_with_what_is_ours_and_the_old_one_is_not_asked_any_more() {
    let (before, after) = (Site::new(), Site::new());
    let keeper = before.keeper("one");
    keeper.turn().await;
    after.put(before.lease());
    let asked = before.asked.all().len();

    keeper.go_on_by(&after.client, "understudy");

    keeper.permit(MARGIN, 0).await.unwrap();
    assert_eq!(keeper.turn().await, Turn::Ours { until: Instant::now() + LASTS, epoch: 0 });
    keeper.release().await;
    assert_eq!(before.asked.all().len(), asked);
    assert_eq!(after.asked.writes().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn whoever_does_not_hold_it_releases_nothing() {
    let site = Site::new();
    let (one, two) = (site.keeper("one"), site.keeper("two"));
    one.turn().await;
    let writes = site.asked.writes().len();

    two.release().await;

    assert_eq!(site.asked.writes().len(), writes);
    one.permit(MARGIN, 0).await.unwrap();
}

/// One Lease, with a server's compare-and-swap.
struct Site {
    client: kube::Client,
    asked: Ledger,
    world: Arc<Mutex<World>>,
}

#[derive(Default)]
struct World {
    lease: Value,
    version: u64,
    silent: bool,
    /// Put there right before the next write.
    overtaking: Option<Value>,
}

impl Site {
    fn new() -> Self {
        let world = Arc::new(Mutex::new(World::default()));
        let held = world.clone();
        let (client, asked) = server(move |asked| held.lock().unwrap().answer(asked));
        Self { client, asked, world }
    }

    fn keeper(&self, holder: &str) -> LeaseKeeper {
        LeaseKeeper::new(&self.client, "understudy", "understudy-x".into(), holder.into(), LASTS)
    }

    fn lease(&self) -> Value {
        self.world.lock().unwrap().lease.clone()
    }

    fn put(&self, lease: Value) {
        self.world.lock().unwrap().lease = lease;
    }

    fn silence(&self, silent: bool) {
        self.world.lock().unwrap().silent = silent;
    }

    fn overtake(&self, lease: Value) {
        self.world.lock().unwrap().overtaking = Some(lease);
    }
}

impl World {
    fn answer(&mut self, asked: &Asked) -> Reply {
        if self.silent {
            return Reply::Never;
        }
        if asked.method == "GET" {
            return if self.lease.is_null() { Reply::absent("understudy-x") } else { Reply::ok(self.lease.clone()) };
        }
        if let Some(other) = self.overtaking.take() {
            self.keep(other);
        }
        let fits = match asked.method.as_str() {
            "POST" => self.lease.is_null(),
            _ => self.lease["metadata"]["resourceVersion"] == asked.body["metadata"]["resourceVersion"],
        };
        if !fits {
            return Reply::status(409, "Conflict", "the object has been modified", json!({}));
        }
        self.keep(asked.body.clone());
        Reply::ok(self.lease.clone())
    }

    fn keep(&mut self, mut lease: Value) {
        self.version += 1;
        lease["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.lease = lease;
    }
}
