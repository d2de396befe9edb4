//! Hooks that are shell scripts, run by real keepers.

use understudy_core::{Failure, Step};

use super::*;
use crate::testing::yaml;
use crate::testing_rbd::{Site, permanent, until};

#[tokio::test]
async fn the_promote_hook_is_run_once_and_the_status_hook_has_the_last_word() {
    let site = site("echo secondary");
    let promote = "echo primary > $D/role; echo $UNDERSTUDY_EPOCH $UNDERSTUDY_STEP >> $D/runs";

    let done = run(&site, promote, 1).await.unwrap();
    run(&site, promote, 1).await.unwrap();

    assert!(done.detail.contains("storage is primary"), "{}", done.detail);
    assert_eq!(site.read("runs"), "7 promote\n");
}

#[tokio::test]
async fn a_daemon_that_died_waits_for_the_promote_hook_that_still_runs() {
    let site = site("echo secondary");
    let promote = "echo x >> $D/runs; while ! [ -f $D/go ]; do sleep 0.02; done; echo primary > $D/role";
    let gone = tokio::spawn(run(&site, promote, 1));
    until("it runs", || site.path("runs").exists()).await;
    gone.abort();
    assert!(gone.await.unwrap_err().is_cancelled());

    let resumed = tokio::spawn(run(&site, promote, 1));
    site.write("go", "");

    resumed.await.unwrap().unwrap();
    assert_eq!(site.read("runs"), "x\n");
}

#[tokio::test]
async fn a_status_that_lags_behind_the_promote_is_waited_for() {
    // The first look after the promote does not see it yet.
    let seen = tempfile::tempdir().unwrap();
    let seen = seen.path().display();
    let lagging = format!(
        "if [ -f {seen}/looked ]; then echo primary; elif [ -f {seen}/done ]; then touch {seen}/looked; echo secondary; \
         else echo secondary; fi"
    );

    run(&site(&lagging), &format!("touch {seen}/done"), 1).await.unwrap();
}

#[tokio::test]
async fn a_status_hook_that_says_anything_else_is_no_status() {
    for said in ["PRIMARY", "", "primary or so"] {
        let site = site(&format!("echo '{said}'"));

        let message = permanent(run(&site, "touch $D/runs", 1).await);

        assert!(message.contains("it must say primary, secondary or unknown"), "{message}");
        assert!(!site.path("runs").exists());
    }
}

#[tokio::test]
async fn a_webhook_that_did_not_make_it_primary_is_an_unknown_outcome() {
    let site = site("echo secondary");
    let address = crate::testing::scripted(b"HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n").await;

    let error = run_hooks(&site, &format!("webhook: {{ url: 'http://{address}/' }}"), 1).await.unwrap_err();

    assert_ne!(error.failure(), Failure::Permanent);
    assert_eq!(site.gate.permits(), 1);
}

#[tokio::test]
async fn a_webhook_that_makes_it_primary_is_done_and_is_not_called_again() {
    let site = site("echo secondary");
    // Whoever takes the call makes it primary, before he answers.
    let role = site.path("role");
    let router = axum::Router::new().fallback(move || async move { std::fs::write(&role, "primary\n").unwrap() });
    let address = crate::testing::serve(router).await;
    let hook = format!("webhook: {{ url: 'http://{address}/' }}");

    run_hooks(&site, &hook, 1).await.unwrap();
    run_hooks(&site, &hook, 1).await.unwrap();

    assert_eq!(site.gate.permits(), 1);
}

#[tokio::test]
async fn neither_a_program_nor_a_webhook_is_called_first_on_a_recheck_that_is_too_old() {
    for hook in ["command: { command: ['true'] }", "webhook: { url: 'http://127.0.0.1:1/' }"] {
        let site = site("echo secondary");
        let late = |order: &mut understudy_core::StepOrder| order.start_before_ms = Some(1);

        let error = run_hooks_with(&site, hook, late).await.unwrap_err();

        assert_eq!(error.failure(), Failure::NotBegun);
        assert_eq!(site.gate.permits(), 0);
    }
}

#[tokio::test]
async fn a_webhook_that_was_called_before_a_crash_is_not_called_again_by_itself() {
    // Asked again, the status hook knows no role any more, so that nobody waits for it.
    let seen = tempfile::tempdir().unwrap();
    let seen = seen.path().join("seen").display().to_string();
    let site = site(&format!("if [ -f {seen} ]; then echo lost; else touch {seen}; echo secondary; fi"));
    let asked = |order: &mut understudy_core::StepOrder| drop(order.notes.insert("promote/asked".into(), "1".into()));

    let error = run_hooks_with(&site, "webhook: { url: 'http://127.0.0.1:1/' }", asked).await.unwrap_err();

    assert_eq!(error.failure(), Failure::Permanent, "{error}");
    assert_eq!(site.gate.permits(), 0);
}

#[test]
fn an_age_is_whole_seconds_and_nothing_else() {
    for (said, seconds) in [("75\n", 75), ("0", 0), ("\"600\"", 600), ("007", 7)] {
        assert_eq!(age_in(said).unwrap(), Duration::from_secs(seconds), "{said:?}");
    }
    for said in ["", "-1", "+5", "1.5", "75s", "soon", "99999999999999999999", "31536000000"] {
        let error = age_in(said).unwrap_err();
        assert!(error.to_string().contains("it must say whole seconds"), "{said:?}: {error}");
    }
}

#[tokio::test]
async fn the_copy_is_never_told_younger_than_it_may_be() {
    let before = jiff::Timestamp::now().as_millisecond();

    let facts = copy_age(&age_hook("echo 60"), &Words::default()).await.unwrap();

    let as_of = facts.images[0].source_time_ms.unwrap();
    assert!((before - 61_000..=jiff::Timestamp::now().as_millisecond() - 61_000).contains(&as_of), "{as_of}");
    assert_eq!(facts.images[0].newest_complete, u64::try_from(as_of).ok());
    assert!(!facts.is_mirror());
}

#[tokio::test]
async fn a_hook_that_does_not_tell_the_age_leaves_the_loss_without_a_bound_and_the_run_to_the_core() {
    let site = site("echo secondary");
    let missing = yaml("{ command: { command: [/nonexistent/age] } }");
    for (hook, why) in [(age_hook("echo soon"), "it must say whole seconds"), (missing, "there is no program")] {
        let hooks = StorageHooks { age: Some(hook), ..yaml(HOOKS) };

        let done = consistency_point(&site.context(Step::ConsistencyPoint), &hooks).await.unwrap();

        assert!(done.detail.contains(why), "{}", done.detail);
        let Finding::Mirror(facts) = done.finding else { panic!("{:?}", done.finding) };
        assert_eq!((facts.images[0].source_time_ms, facts.images[0].newest_complete), (None, None));
    }
    assert_eq!(site.gate.permits(), 0);
}

#[tokio::test]
async fn a_hook_that_fails_once_is_asked_for_the_age_again() {
    let site = site("echo secondary");
    let asked = site.path("asked").display().to_string();
    let hooks = StorageHooks {
        age: Some(age_hook(&format!("[ -f {asked} ] && echo 60 || {{ touch {asked}; exit 3; }}"))),
        ..yaml(HOOKS)
    };

    let done = consistency_point(&site.context(Step::ConsistencyPoint), &hooks).await.unwrap();

    let Finding::Mirror(facts) = done.finding else { panic!("{:?}", done.finding) };
    assert!(facts.images[0].source_time_ms.is_some(), "{}", done.detail);
}

const HOOKS: &str = "{ status: { command: { command: ['true'] } }, promote: { command: { command: ['true'] } } }";

fn age_hook(script: &str) -> Hook {
    yaml(&format!("{{ command: {{ command: [sh, -c, '{script}'] }} }}"))
}

/// A site whose status hook prints the file `role`, or else runs `status`.
fn site(status: &str) -> Site {
    let site = Site::with(&[]);
    site.write("status.sh", &format!("cat {} 2>/dev/null || {status}\n", site.path("role").display()));
    site
}

fn run(site: &Site, promote: &str, attempt: u32) -> impl Future<Output = Result<StepDone, StepError>> + use<> {
    let script = promote.replace("$D", &site.dir.path().display().to_string());
    site.write("promote.sh", &format!("{script}\n"));
    run_hooks(site, &format!("command: {{ command: [sh, {}] }}", site.path("promote.sh").display()), attempt)
}

fn run_hooks(site: &Site, hook: &str, attempt: u32) -> impl Future<Output = Result<StepDone, StepError>> + use<> {
    run_hooks_with(site, hook, move |order| order.attempt = attempt)
}

fn run_hooks_with<F: FnOnce(&mut understudy_core::StepOrder)>(
    site: &Site,
    hook: &str,
    order: F,
) -> impl Future<Output = Result<StepDone, StepError>> + use<F> {
    let status = site.path("status.sh");
    let hooks: StorageHooks =
        yaml(&format!("{{ status: {{ command: {{ command: [sh, {}] }} }}, promote: {{ {hook} }} }}", status.display()));
    let ctx = site.context_with(Step::Promote, order);
    async move { promote(&ctx, &hooks).await }
}
