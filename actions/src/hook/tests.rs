use understudy_core::Failure;

use super::*;
use crate::testing::{nobody, permit, scripted, yaml};

#[tokio::test]
async fn a_program_is_told_the_run_by_its_environment_and_its_output_comes_back() {
    let script = r#"echo "$UNDERSTUDY_PAIR $UNDERSTUDY_SITE $UNDERSTUDY_RUN $UNDERSTUDY_STEP $UNDERSTUDY_KEY $UNDERSTUDY_EPOCH""#;

    let printed = read(&shell(script, "5s"), &words()).await.unwrap();

    assert_eq!(printed, "nexus standby-b nexus-7-failover fence nexus-7-failover/fence 7\n");
}

#[tokio::test]
async fn there_is_no_shell_between() {
    let hook: Hook = yaml("command: { command: [echo, '$HOME; echo b'] }");

    assert_eq!(read(&hook, &words()).await.unwrap(), "$HOME; echo b\n");
}

#[tokio::test]
async fn a_program_that_says_no_is_harmless_for_a_read_and_unknown_for_a_write() {
    let hook = shell("echo because >&2; exit 3", "5s");

    let (read, write) = (read(&hook, &words()).await.unwrap_err(), write(&hook, &words(), permit()).await.unwrap_err());

    assert_eq!((read.failure(), write.failure()), (Failure::Transient, Failure::Unknown));
    assert_eq!(message(write), "failed to run a hook: outcome unknown: hook sh failed with exit 3: because");
}

#[tokio::test]
async fn a_program_that_was_killed_is_unknown_for_a_write() {
    let error = write(&shell("sleep 600", "300ms"), &words(), permit()).await.unwrap_err();

    assert_eq!(error.failure(), Failure::Unknown);
    assert!(message(error).contains("hook sh did not end within 300ms"));
}

#[tokio::test]
async fn a_missing_program_never_began() {
    let hook: Hook = yaml("command: { command: [/no/such/program] }");

    let error = write(&hook, &words(), permit()).await.unwrap_err();

    assert_eq!(error.failure(), Failure::Permanent);
}

#[tokio::test]
async fn nothing_is_run_when_the_lease_leaves_no_time() {
    let place = tempfile::tempdir().unwrap();
    let mark = place.path().join("mark");
    let hook = shell(&format!("touch {}", mark.display()), "5s");

    let error = write(&hook, &words(), Permit::until(tokio::time::Instant::now())).await.unwrap_err();

    assert!(matches!(error, StepError::NoLease(_)), "{error:?}");
    assert!(!mark.exists());
}

#[tokio::test]
async fn a_webhook_is_a_hook_too() {
    let says: Hook = yaml(&format!(
        "webhook: {{ url: 'http://{}/' }}",
        scripted(b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\nprimary").await
    ));
    let lost: Hook = yaml(&format!("webhook: {{ url: 'http://{}/' }}", scripted(b"").await));
    let refused: Hook = yaml(&format!("webhook: {{ url: 'http://{}/' }}", nobody().await));

    assert_eq!(read(&says, &words()).await.unwrap(), "primary");
    assert_eq!(read(&lost, &words()).await.unwrap_err().failure(), Failure::Transient);
    assert_eq!(write(&lost, &words(), permit()).await.unwrap_err().failure(), Failure::Unknown);
    assert_eq!(write(&refused, &words(), permit()).await.unwrap_err().failure(), Failure::Transient);
}

fn shell(script: &str, within: &str) -> Hook {
    Hook::Command(CommandHook { command: ["sh", "-c", script].map(String::from).to_vec(), timeout: yaml(within) })
}

fn words() -> Words {
    let [pair, site, run, step, epoch, key, event, message] =
        ["nexus", "standby-b", "nexus-7-failover", "fence", "7", "nexus-7-failover/fence", "step", "failed to fence"]
            .map(String::from);
    Words { pair, site, run, step, epoch, key, event, message }
}

fn message(error: StepError) -> String {
    match error.into_result() {
        understudy_core::StepResult::Failed { message, .. } => message,
        done => panic!("{done:?}"),
    }
}
