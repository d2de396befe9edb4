//! Each rule is shown by a sound story in which one thing is changed.

use understudy_core::*;

use super::*;
use crate::samples::{
    approved, at, done, entries, failed, failover, intent, open_gates, pair, request, run, run_id, started, steps,
};

type Story = Vec<(Now, Record)>;

#[test]
fn a_failover_that_keeps_every_rule_is_sound() {
    assert_eq!(verify(&entries(failover())), Ok(()));
}

#[test]
fn an_empty_journal_breaks_no_rule() {
    assert_eq!(verify(&[]), Ok(()));
}

#[test]
fn a_step_without_an_intent_breaks_s10() {
    let story = without(failover(), |r| matches!(r, Record::Intent { step: Step::Deploy, .. }));

    breaks(story, "S10", "try 1 of deploy ended without an intent");
}

#[test]
fn an_outcome_of_another_try_breaks_s10() {
    let story = changed(failover(), |r| {
        if let Record::Outcome { step: Step::Deploy, attempt, .. } = r {
            *attempt = 2
        }
    });

    breaks(story, "S10", "try 2 of deploy ended without an intent");
}

#[test]
fn a_second_try_before_the_first_has_an_outcome_breaks_s10() {
    let story = after(failover(), is_intent(Step::Restore), vec![intent(Step::Restore, 2)]);

    breaks(story, "S10", "try 2 of restore was begun while an earlier one had no outcome");
}

#[test]
fn a_failed_step_may_be_tried_again() {
    let second =
        vec![failed(Step::Restore, 1, Some(1)), intent(Step::Restore, 2), done(Step::Restore, 2, Finding::Nothing)];
    let story = after(failover(), is_intent(Step::Restore), second);
    let story = without(story, |r| {
        matches!(r, Record::Outcome { step: Step::Restore, attempt: 1, result: StepResult::Done { .. }, .. })
    });

    assert_eq!(verify(&entries(story)), Ok(()));
}

#[test]
fn another_idempotency_key_for_the_same_step_breaks_s10() {
    let story = changed(failover(), |r| {
        if let Record::Intent { step: Step::Route(0), key, .. } = r {
            *key = "another".into()
        }
    });

    breaks(story, "S10", "route-0 has the key \"another\", not \"nexus-1/route-0\"");
}

#[test]
fn a_promote_that_is_repeated_without_an_order_breaks_s10() {
    let again = vec![failed(Step::Promote, 1, Some(1)), intent(Step::Promote, 2)];
    let story = until(after(failover(), is_intent(Step::Promote), again), |r| {
        matches!(r, Record::Intent { step: Step::Promote, attempt: 2, .. })
    });

    breaks(story, "S10", "the promote was repeated without an order");
}

#[test]
fn a_promote_that_a_human_ordered_again_is_sound() {
    let by = "uid 1000".to_owned();
    let retried = Record::Retried { pair: pair(), run: run_id(), step: Step::Promote, by };
    let again = vec![failed(Step::Promote, 1, None), retried, intent(Step::Promote, 2)];
    let story = until(after(failover(), is_intent(Step::Promote), again), |r| {
        matches!(r, Record::Intent { step: Step::Promote, attempt: 2, .. })
    });

    assert_eq!(verify(&entries(story)), Ok(()));
}

#[test]
fn each_step_that_is_begun_before_what_it_needs_breaks_s9() {
    // The report's own needs are all that is before it, so that it is last.
    for step in steps().into_iter().filter(|step| !needs(*step).is_empty()) {
        for need in needs(step).into_iter().filter(|need| steps().contains(need)) {
            let story = without(failover(), |r| matches!(r, Record::Outcome { step: s, .. } if *s == need));
            let story = until(story, is_intent(step));

            let broken = verify(&entries(story)).expect_err(&format!("{step} without {need}"));

            assert!(["S9", "S6"].contains(&broken.invariant), "{step} without {need}: {broken}");
        }
    }
}

#[test]
fn a_route_before_verify_is_done_breaks_s9() {
    let story = without(failover(), is_outcome(Step::Verify));

    breaks(story, "S9", "route-0 was begun before verify was over");
}

#[test]
fn a_route_check_before_every_route_breaks_s9() {
    let story = without(failover(), is_outcome(Step::Route(0)));

    breaks(story, "S9", "route-check was begun before every route was switched");
}

#[test]
fn a_skipped_step_that_safety_rests_on_breaks_s7() {
    let skip = |step| Record::Skipped { pair: pair(), run: run_id(), step, by: "uid 1000".into(), reason: "so".into() };
    for step in steps().into_iter().filter(|step| !step.may_be_skipped()) {
        let story = after(failover(), is_intent(step), vec![skip(step)]);

        breaks(story, "S7", &format!("{step} was skipped, and safety rests on it"));
    }
}

#[test]
fn a_plan_without_what_safety_rests_on_breaks_s9() {
    for step in [Step::Recheck, Step::Fence, Step::PromoteRecheck, Step::Promote, Step::Verify] {
        let story = changed(failover(), |r| {
            if let Record::RunStarted { run, .. } = r {
                run.steps.retain(|entry| entry.step != step)
            }
        });

        breaks(story, "S9", &format!("the plan of run nexus-1 lacks {step}"));
    }
}

#[test]
fn a_run_without_an_approval_breaks_s2() {
    let story = without(failover(), |r| matches!(r, Record::Answered { .. }));

    breaks(story, "S2", "run nexus-1 rests on nexus-1, which was not approved or is spent");
}

#[test]
fn an_approval_that_starts_a_second_run_breaks_s2() {
    let mut story = failover();
    let ended = story.len() - 2;
    story.truncate(ended);
    let stopped = Ending::Stopped { why: "so".into() };
    let second = Run { id: "nexus-3".into(), epoch: 3, started: at(30_000), ..run() };
    story = until(story, is_outcome(Step::Recheck));
    story.extend([
        (at(20_000), Record::RunStopping { pair: pair(), run: run_id(), why: "so".into() }),
        (at(20_000), Record::RunEnded { pair: pair(), run: run_id(), ending: stopped }),
        (at(20_000), Record::RoleChanged { pair: pair(), role: Role::AtA, epoch: 2 }),
        (at(20_000), open_gates(Step::Recheck)),
        (at(20_000), Record::RunStarted { pair: pair(), run: Box::new(second) }),
    ]);

    breaks(story, "S2", "run nexus-3 rests on nexus-1, which was not approved or is spent");
}

#[test]
fn an_approval_by_somebody_else_breaks_s2() {
    let story = changed(failover(), |r| {
        if let Record::Answered { by, .. } = r {
            *by = "uid 7".into()
        }
    });

    breaks(story, "S2", "nexus-1 was approved by uid 7, not by uid 1000");
}

#[test]
fn a_run_on_other_evidence_than_was_approved_breaks_s2() {
    let story = changed(failover(), |r| {
        if let Record::RunStarted { run, .. } = r {
            run.evidence.config_digest = "other".into()
        }
    });

    breaks(story, "S2", "run nexus-1 rests on other evidence than nexus-1 was approved for");
}

#[test]
fn an_answer_after_the_question_expired_breaks_s2() {
    let story = changed(failover(), |r| {
        if let Record::Requested { request } = r {
            request.expires_ms = 14_000
        }
    });

    breaks(story, "S2", "nexus-1 was approved after it had expired");
}

#[test]
fn an_answer_to_a_question_that_is_void_breaks_s2() {
    let void = Record::Voided { pair: pair(), request: "nexus-1".into(), why: "A lives".into() };
    let story = after(failover(), |r| matches!(r, Record::Requested { .. }), vec![void]);

    breaks(story, "S2", "nexus-1 was answered although it was not asked, was answered, void, or older than a restart");
}

#[test]
fn an_answer_to_a_question_from_before_a_restart_breaks_s2() {
    let story = after(failover(), |r| matches!(r, Record::Requested { .. }), vec![started()]);

    breaks(story, "S2", "nexus-1 was answered although it was not asked, was answered, void, or older than a restart");
}

#[test]
fn a_second_answer_breaks_s2() {
    let story = after(failover(), |r| matches!(r, Record::Answered { .. }), vec![approved()]);

    breaks(story, "S2", "nexus-1 was answered although it was not asked, was answered, void, or older than a restart");
}

#[test]
fn a_question_beside_an_open_one_breaks_s2() {
    let second = Record::Requested { request: Box::new(Request { id: "nexus-2".into(), ..request() }) };
    let story = after(failover(), |r| matches!(r, Record::Requested { .. }), vec![second]);

    breaks(story, "S2", "nexus-2 was asked while another question was open");
}

#[test]
fn a_run_without_gates_or_with_a_closed_one_breaks_s2() {
    let unasked = without(failover(), |r| matches!(r, Record::Gates { at: Step::Recheck, .. }));
    breaks(unasked, "S2", "run nexus-1 was started without asking the gates");

    let closed = changed(failover(), |r| {
        if let Record::Gates { at: Step::Recheck, gates, .. } = r {
            gates[1].open = false
        }
    });
    breaks(closed, "S2", "run nexus-1 was started although gate mode was closed");
}

#[test]
fn a_recheck_that_passes_without_gates_or_with_a_closed_one_breaks_s2() {
    let at_promote = |r: &Record| matches!(r, Record::Gates { at: Step::PromoteRecheck, .. });
    breaks(without(failover(), at_promote), "S2", "promote-recheck passed without asking the gates");

    let closed = changed(failover(), |r| {
        if let Record::Gates { at: Step::PromoteRecheck, gates, .. } = r {
            gates[1].open = false
        }
    });
    breaks(closed, "S2", "promote-recheck passed although gate mode was closed");
}

#[test]
fn a_promote_on_a_recheck_of_long_ago_or_of_an_earlier_boot_breaks_s2() {
    let held_up = |change: fn(&mut Now)| {
        let mut story = failover();
        let begun = story.iter().position(|(_, r)| is_intent(Step::Promote)(r)).unwrap();
        change(&mut story[begun].0);
        until(story, is_intent(Step::Promote))
    };

    breaks(held_up(|at| at.boot_id = 2), "S2", "the promote was begun on a recheck of long ago");
    breaks(held_up(|at| at.boot_ms += 120_000), "S2", "the promote was begun on a recheck of long ago");
    assert_eq!(verify(&entries(held_up(|at| at.boot_ms += 1000))), Ok(()));
}

#[test]
fn a_step_in_a_pause_breaks_s2() {
    let pause = Pause { by: "uid 1000".into(), reason: "so".into(), until_wall_ms: None };
    let paused = Record::Paused { pair: pair(), pause };
    let story = after(failover(), is_outcome(Step::Restore), vec![paused]);

    breaks(story, "S2", "bound was begun in a pause");
}

#[test]
fn a_run_at_another_verdict_breaks_s2_and_so_does_one_after_a_restart() {
    let doubtful = |r: &Record| matches!(r, Record::Verdict { to: Verdict::SiteDown, .. });
    breaks(without(failover(), doubtful), "S2", "run nexus-1 was started at verdict Some(Suspect)");

    let forced = changed(failover(), |r| {
        if let Record::RunStarted { run, .. } = r {
            run.authority = forced_by("uid 0", "Ceph is lost")
        }
    });
    assert_eq!(verify(&entries(without(forced, doubtful))), Ok(()));
}

#[test]
fn a_force_that_names_nobody_breaks_s2() {
    let story = changed(failover(), |r| {
        if let Record::RunStarted { run, .. } = r {
            run.authority = forced_by("uid 0", "")
        }
    });

    breaks(story, "S2", "a forced run names neither who nor why");
}

#[test]
fn an_automatic_run_needs_a_witness_and_no_block() {
    let automatic = |extra: Vec<(Gate, bool)>| {
        changed(failover(), move |r| match r {
            Record::RunStarted { run, .. } => run.authority = Authority::Automatic { witness: "third".into() },
            Record::Gates { at: Step::Recheck, gates, .. } => {
                gates.extend(extra.iter().map(|(gate, open)| GateState {
                    gate: *gate,
                    open: *open,
                    value: String::new(),
                }));
            }
            _ => {}
        })
    };
    breaks(automatic(vec![(Gate::Block, true)]), "S2", "an automatic run without a witness");
    breaks(automatic(vec![(Gate::Witness, true)]), "S11", "an automatic run within the recovery block");

    let both = || automatic(vec![(Gate::Witness, true), (Gate::Block, true)]);
    assert_eq!(verify(&entries(both())), Ok(()));
    let blocked = Record::Blocked { pair: pair(), until_wall_ms: 1 };
    let story = after(both(), |r| matches!(r, Record::HoldDownBegan { .. }), vec![blocked]);
    breaks(story, "S11", "an automatic run within the recovery block");
}

#[test]
fn an_accusation_in_doubt_breaks_s3() {
    let doubt = Record::Doubt { why: Some("own-api is Down".into()) };
    let late = after(failover(), |r| matches!(r, Record::Round { number: 3, .. }), vec![doubt.clone()]);
    breaks(late, "S3", "verdict SiteDown in doubt: own-api is Down");

    let early = after(failover(), |r| matches!(r, Record::Signal { .. }), vec![doubt.clone()]);
    breaks(early, "S3", "a hold-down began in doubt: own-api is Down");

    let at_start = after(failover(), |r| matches!(r, Record::Answered { .. }), vec![doubt]);
    breaks(at_start, "S3", "run nexus-1 was started in doubt");
}

#[test]
fn a_verdict_without_witnessed_hold_down_breaks_s5() {
    let short = without(failover(), |r| matches!(r, Record::Round { number: 3, .. }));
    breaks(short, "S5", "verdict SiteDown after 2 of 3 witnessed rounds");

    let gap = without(failover(), |r| matches!(r, Record::Round { number: 2, .. }));
    breaks(gap, "S5", "round 3 does not continue a hold-down");

    let broken = Record::HoldDownBroken { pair: pair(), cause: "web is Up".into() };
    let story = after(failover(), |r| matches!(r, Record::Round { number: 3, .. }), vec![broken]);
    breaks(story, "S5", "verdict SiteDown after 0 of 3 witnessed rounds");

    let restarted = after(failover(), |r| matches!(r, Record::Round { number: 3, .. }), vec![started()]);
    breaks(restarted, "S5", "verdict SiteDown after 0 of 3 witnessed rounds");
}

#[test]
fn a_fence_without_an_outcome_breaks_s6() {
    let story = changed(failover(), |r| {
        if let Record::Outcome { step: Step::Fence, result: StepResult::Done { finding, .. }, .. } = r {
            *finding = Finding::Nothing
        }
    });

    breaks(story, "S6", "consistency-point was begun before the fence had an outcome");
}

#[test]
fn a_run_that_stops_brings_the_mirror_back_and_does_nothing_else() {
    let stopping = Record::RunStopping { pair: pair(), run: run_id(), why: "A lives".into() };
    let stopped = |last: Vec<Record>| {
        let mut story = until(failover(), is_outcome(Step::Quiesce));
        story.push((at(30_000), stopping.clone()));
        story.extend(last.into_iter().map(|record| (at(30_000), record)));
        story
    };
    let ending = || Record::RunEnded { pair: pair(), run: run_id(), ending: Ending::Stopped { why: "A lives".into() } };
    let back = || vec![intent(Step::MirrorBack, 1), done(Step::MirrorBack, 1, Finding::Nothing)];

    breaks(stopped(vec![intent(Step::Restore, 1)]), "S6", "restore was begun in a run that stops");
    breaks(stopped(vec![ending()]), "S6", "run nexus-1 ended without bringing the mirror back");
    assert_eq!(verify(&entries(stopped([back(), vec![ending()]].concat()))), Ok(()));
}

#[test]
fn a_run_that_stops_after_its_promote_has_begun_breaks_s10() {
    let stopping = Record::RunStopping { pair: pair(), run: run_id(), why: "A lives".into() };
    let story = after(failover(), is_intent(Step::Promote), vec![stopping]);

    breaks(story, "S10", "the run was stopped after its promote had begun");
}

#[test]
fn a_quiesce_beyond_the_accepted_loss_breaks_s8() {
    let story = changed(failover(), |r| match r {
        Record::RunStarted { run, .. } => run.accepted = LossBound::AtMost(40_000),
        Record::UnfencedAccepted { accepted, .. } => *accepted = LossBound::AtMost(40_000),
        _ => {}
    });

    breaks(story, "S8", "quiesce was begun although the loss bound exceeds what was accepted");
}

#[test]
fn a_run_that_succeeds_with_a_step_left_breaks_s10() {
    let story = without(failover(), is_outcome(Step::Report));

    breaks(story, "S10", "run nexus-1 succeeded although report is not over");
}

#[test]
fn anything_after_the_end_of_a_run_breaks_s10() {
    let story = after(failover(), |r| matches!(r, Record::RunEnded { .. }), vec![intent(Step::Route(0), 2)]);

    breaks(story, "S10", "run nexus-1 is not open");
}

#[test]
fn a_second_run_beside_an_open_one_breaks_s11() {
    let second = Run { id: "nexus-2".into(), epoch: 2, ..run() };
    let begins = vec![open_gates(Step::Recheck), Record::RunStarted { pair: pair(), run: Box::new(second) }];
    let story = after(failover(), |r| matches!(r, Record::Blocked { .. }), begins);

    breaks(story, "S11", "run nexus-2 was started beside one that is open");
}

#[test]
fn an_epoch_that_does_not_rise_breaks_s1() {
    let role = changed(failover(), |r| {
        if let Record::RoleChanged { role: Role::AtB, epoch, .. } = r {
            *epoch = 1
        }
    });
    breaks(role, "S1", "the role is told at epoch 1, it is 2");

    let run = changed(failover(), |r| {
        if let Record::RunStarted { run, .. } = r {
            run.epoch = 0
        }
    });
    breaks(run, "S1", "run nexus-1 does not raise the epoch");
}

#[test]
fn a_return_to_a_by_itself_breaks_s12() {
    let mut story = failover();
    story.push((at(99_000), Record::RoleChanged { pair: pair(), role: Role::AtA, epoch: 2 }));

    breaks(story, "S12", "the pair became AtA although no run led there from AtB");
}

#[test]
fn b_active_without_a_run_that_succeeded_breaks_s12() {
    let early = Record::RoleChanged { pair: pair(), role: Role::AtB, epoch: 1 };
    let story = after(failover(), is_outcome(Step::Verify), vec![early]);

    breaks(story, "S12", "the pair became AtB although no run led there from Moving");
}

#[test]
fn a_snapshot_that_says_something_else_than_the_records_breaks_x2() {
    let mut durable = DurablePair::default();
    failover().iter().for_each(|(at, record)| durable.apply(record, *at));
    let snapshot = |durable: &DurablePair| Record::Snapshot { pairs: [(pair(), durable.clone())].into() };
    let mut story = failover();
    story.push((at(99_000), snapshot(&durable)));
    assert_eq!(verify(&entries(story.clone())), Ok(()));

    durable.role = Role::AtA;
    story.push((at(99_001), snapshot(&durable)));

    breaks(story, "X2", "the snapshot of nexus is not what the records before it lead to");
}

#[test]
fn a_journal_whose_head_was_archived_goes_on_from_its_snapshot() {
    let whole = failover();
    let cut = whole.iter().position(|(_, r)| is_intent(Step::Deploy)(r)).unwrap() + 1;
    let mut durable = DurablePair::default();
    whole[..cut].iter().for_each(|(at, record)| durable.apply(record, *at));
    let mut story = vec![(at(1), Record::Snapshot { pairs: [(pair(), durable)].into() })];
    story.extend_from_slice(&whole[cut..]);

    assert_eq!(verify(&entries(story)), Ok(()));
}

#[test]
fn a_restart_in_the_middle_of_a_run_is_sound_if_the_rechecks_begin_anew() {
    let resumed = vec![started(), intent(Step::PromoteRecheck, 2), open_gates(Step::PromoteRecheck)];
    let again = [resumed, vec![done(Step::PromoteRecheck, 2, Finding::Nothing)]].concat();
    let story = after(failover(), is_intent(Step::PromoteRecheck), again);
    let first = |r: &Record| matches!(r, Record::Outcome { step: Step::PromoteRecheck, attempt: 1, .. });

    assert_eq!(verify(&entries(without(story, first))), Ok(()));
}

#[test]
fn a_violation_names_the_rule_and_the_record() {
    let story = without(failover(), is_outcome(Step::Verify));

    let broken = verify(&entries(story)).unwrap_err();

    assert_eq!(
        broken.to_string(),
        format!("record {} breaks S9: route-0 was begun before verify was over", broken.seq)
    );
    assert!(broken.seq > 30, "{broken}");
}

fn forced_by(by: &str, reason: &str) -> Authority {
    Authority::Forced { by: by.into(), reason: reason.into() }
}

fn is_intent(wanted: Step) -> impl Fn(&Record) -> bool {
    move |record| matches!(record, Record::Intent { step, .. } if *step == wanted)
}

fn is_outcome(wanted: Step) -> impl Fn(&Record) -> bool {
    move |record| matches!(record, Record::Outcome { step, .. } if *step == wanted)
}

fn without(story: Story, unwanted: impl Fn(&Record) -> bool) -> Story {
    story.into_iter().filter(|(_, record)| !unwanted(record)).collect()
}

fn changed(mut story: Story, change: impl Fn(&mut Record)) -> Story {
    story.iter_mut().for_each(|(_, record)| change(record));
    story
}

/// `more` right behind the first record that is `wanted`, at its time.
fn after(mut story: Story, wanted: impl Fn(&Record) -> bool, more: Vec<Record>) -> Story {
    let place = story.iter().position(|(_, record)| wanted(record)).expect("the story has such a record");
    let at = story[place].0;
    story.splice(place + 1..place + 1, more.into_iter().map(|record| (at, record)));
    story
}

/// The story up to the first record that is `wanted`, that one included.
fn until(mut story: Story, wanted: impl Fn(&Record) -> bool) -> Story {
    let place = story.iter().position(|(_, record)| wanted(record)).expect("the story has such a record");
    story.truncate(place + 1);
    story
}

fn breaks(story: Story, invariant: &str, what: &str) {
    let broken = verify(&entries(story)).expect_err(what);
    assert_eq!((broken.invariant, broken.what.as_str()), (invariant, what));
}
