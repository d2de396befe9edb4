use understudy_core::{Failure, StepResult};

use super::*;
use crate::samples::{at, done, entries, failed, failover, intent, pair, run, run_id};

#[test]
fn a_failover_is_told_from_its_first_sign_to_its_end() {
    let report = report(&entries(failover()), &run_id()).unwrap();

    assert_eq!(report.outcome, Outcome::Succeeded);
    let stages = Stages { detection_ms: Some(11_000), decision_ms: Some(3000), run_ms: 7700, total_ms: 21_700 };
    assert_eq!(report.stages, stages);
    let whats: Vec<&str> = report.timeline.iter().map(|m| m.what.as_str()).collect();
    assert!(whats[0].starts_with("probe web"), "{whats:?}");
    assert!(whats.last().unwrap().starts_with("role B is active"), "{whats:?}");
}

#[test]
fn each_step_is_told_with_its_place_and_length() {
    let report = report(&entries(failover()), &run_id()).unwrap();

    let fence = report.steps.iter().find(|s| s.step == Step::Fence).unwrap();
    assert_eq!((fence.state, fence.began_after_ms, fence.took_ms, fence.tries), ("done", Some(200), Some(1000), 1));
    assert!(report.steps.iter().all(|step| step.state == "done"), "{:?}", report.steps);
}

#[test]
fn the_loss_bound_is_that_of_the_consistency_point() {
    let report = report(&entries(failover()), &run_id()).unwrap();

    // 16.7 s since the snapshot, 20 ms of clock error, 35 s of write-back.
    assert_eq!(report.loss.bound, Some(LossBound::AtMost(16_700 + 20 + 35_000)));
    assert_eq!(report.loss.points[0].snapshot, Some(7));
}

#[test]
fn a_step_that_was_tried_twice_counts_from_its_first_try() {
    let story = vec![
        (at(0), Record::RunStarted { pair: pair(), run: Box::new(Run { started: at(0), ..run() }) }),
        (at(100), intent(Step::Recheck, 1)),
        (at(200), failed(Step::Recheck, 1, Some(300))),
        (at(300), intent(Step::Recheck, 2)),
        (at(900), done(Step::Recheck, 2, understudy_core::Finding::Nothing)),
    ];

    let report = report(&entries(story), &run_id()).unwrap();

    assert_eq!((report.steps[0].took_ms, report.steps[0].tries), (Some(800), 2));
    assert_eq!((report.outcome, report.stages.run_ms), (Outcome::UnderWay, 900));
}

#[test]
fn a_run_that_needs_a_human_is_stuck() {
    let message = "refused".to_owned();
    let result = StepResult::Failed { failure: Failure::Permanent, message };
    let outcome =
        Record::Outcome { pair: pair(), run: run_id(), step: Step::Recheck, attempt: 1, result, again_ms: None };
    let story = vec![
        (at(0), Record::RunStarted { pair: pair(), run: Box::new(run()) }),
        (at(1), intent(Step::Recheck, 1)),
        (at(2), outcome),
    ];

    let report = report(&entries(story), &run_id()).unwrap();

    assert_eq!(report.outcome, Outcome::Stuck);
    assert!(report.to_text().contains("STUCK"), "{}", report.to_text());
}

#[test]
fn what_happened_after_the_run_is_no_part_of_it() {
    let mut story = failover();
    story.push((at(99_000), crate::samples::signal("late")));

    let report = report(&entries(story), &run_id()).unwrap();

    assert!(!report.timeline.iter().any(|m| m.what.contains("late")));
    assert_eq!(report.stages.total_ms, 21_700);
}

#[test]
fn a_forced_run_without_a_verdict_begins_with_itself() {
    let authority = Authority::Forced { by: "uid 0".into(), reason: "Ceph is gone".into() };
    let forced = Run { authority, started: at(5000), ..run() };
    let story = vec![
        (at(0), crate::samples::started()),
        (at(5000), Record::RunStarted { pair: pair(), run: Box::new(forced) }),
        (at(6000), intent(Step::Recheck, 1)),
    ];

    let report = report(&entries(story), &run_id()).unwrap();

    assert_eq!((report.stages.detection_ms, report.stages.total_ms), (None, 1000));
    assert!(report.to_text().contains("forced it: Ceph is gone"));
}

#[test]
fn a_run_that_nobody_knows_has_no_report() {
    assert!(report(&entries(failover()), &"other-1".into()).is_none());
}

#[test]
fn the_text_names_authority_fence_loss_answers_and_every_step() {
    let text = report(&entries(failover()), &run_id()).unwrap().to_text();

    for part in [
        "run nexus-1 of pair nexus: succeeded",
        "uid 1000, who approved request nexus-1",
        "NOT CONFIRMED: A does not answer",
        "at most 51.7 s, at the consistency point",
        "accepting an unconfirmed fence: power is off",
        "detection",
        "route-check",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
}

#[test]
fn report_and_history_of_a_thousand_pairs_take_no_second() {
    // Twenty questions of each pair that nobody answered, among them one failover.
    let mut story = vec![];
    for round in 0..20 {
        for n in 0..1000 {
            let pair = PairName(format!("nexus-{n}"));
            let request = understudy_core::Request {
                id: RequestId(format!("{pair}-{round}")),
                pair: pair.clone(),
                ..crate::samples::request()
            };
            let (id, now) = (request.id.clone(), at(round * 1_000_000 + n));
            story.push((now, Record::Requested { request: Box::new(request) }));
            story.push((now, Record::Voided { pair, request: id, why: "it expired unanswered".into() }));
        }
        if round == 10 {
            story.extend(failover());
        }
    }
    let journal = entries(story);

    let began = cpu_time();
    let events = crate::history::history(&journal, None);
    let account = report(&journal, &run_id());
    let took = cpu_time() - began;

    assert_eq!((events.len(), account.is_some()), (20_002, true));
    assert!(took < std::time::Duration::from_secs(1), "{took:?}");
}

/// Time on a processor: what others do on this machine is no fault of ours.
fn cpu_time() -> std::time::Duration {
    let spent = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    std::time::Duration::try_from(spent).expect("processor time is never negative")
}
