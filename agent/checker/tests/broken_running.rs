//! A run: each rule is shown by a sound story in which one thing is changed (S1–S4, S6–S10, X2, L1, L2).

mod story;

use story::*;
use understudy_checker::Invariant::{L1, L2, S1, S2, S3, S4, S6, S7, S8, S9, S10, S11, X2};
use understudy_checker::{Checker, Invariant};
use understudy_core::*;

#[test]
fn a_write_at_another_epoch_or_without_a_lease_breaks_s1() {
    let with = |wanted: Step, other: fn(&mut u64, &mut Option<u64>)| {
        changed(&approved(), |record| {
            if let Record::Intent { step, epoch, lease_until_ms, .. } = record
                && *step == wanted
            {
                other(epoch, lease_until_ms)
            }
        })
    };

    breaks(&with(Step::Deploy, |epoch, _| *epoch -= 1), S1, "deploy was begun at epoch 0, it is 1");
    breaks(&with(Step::Promote, |_, until| *until = None), S1, "promote was begun without a lease");
    breaks(
        &with(Step::Route(0), |_, until| *until = until.map(|ms| ms - 26_000)),
        S1,
        "route-0 was begun without a lease",
    );
}

#[test]
fn what_is_written_at_the_old_epoch_after_another_led_breaks_s1() {
    let led = Record::Led { pair: name(), epoch: 5 };

    breaks(&after(&approved(), is_outcome(Step::Deploy), vec![led]), S1, "verify was begun at epoch 1, it is 5");
}

#[test]
fn a_recheck_that_passes_without_gates_or_with_a_closed_one_breaks_s2() {
    let is_gate = |r: &Record| matches!(r, Record::Gates { at: Step::PromoteRecheck, .. });
    breaks(&without(&approved(), is_gate), S2, "promote-recheck passed without asking the gates");

    let closed = changed(&approved(), |record| {
        if let Record::Gates { at: Step::PromoteRecheck, gates, .. } = record {
            gates[0].open = false
        }
    });
    breaks(&closed, S2, "promote-recheck passed although gate");
}

fn with_looks(change: impl Fn(&mut Vec<Look>)) -> Story {
    changed(&approved(), |record| {
        if let Record::Outcome {
            step: Step::PromoteRecheck,
            result: StepResult::Done { finding: Finding::Rechecked(looks), .. },
            ..
        } = record
        {
            change(looks)
        }
    })
}

#[test]
fn a_recheck_on_old_readings_or_none_breaks_s2() {
    let old = with_looks(|looks| looks[0].started_ms = looks[0].started_ms.map(|ms| ms - 10_000));
    breaks(&old, S2, "promote-recheck passed with 2 of 3 domains read Down since it began");

    breaks(&with_looks(Vec::clear), S2, "passed with 0 of 3 domains");

    let unread = changed(&approved(), |record| {
        if let Record::Outcome { step: Step::Recheck, result: StepResult::Done { finding, .. }, .. } = record {
            *finding = Finding::Nothing
        }
    });
    breaks(&unread, S2, "recheck passed without readings");
}

#[test]
fn a_recheck_beside_a_reading_that_is_up_breaks_s4() {
    let alive = |policy: &mut Policy| policy.pairs[0].at_least = 2;
    let story = with_looks(|looks| looks[0].reading = Reading::Up);

    breaks(&under(&story, alive), S4, "promote-recheck passed although probe web is Up");
}

#[test]
fn an_automatic_run_whose_witness_fell_silent_breaks_s2() {
    let silent = Record::Witness { pair: name(), witness: "third".into(), says: WitnessSays::Absent };
    let is_gates = |r: &Record| matches!(r, Record::Gates { at: Step::PromoteRecheck, .. });

    breaks(
        &after(&automatic(), is_gates, vec![silent]),
        S2,
        "promote-recheck of an automatic run passed without a witness",
    );
}

/// `story` in which everything from the promote on happens `ms` later.
fn promote_later(later: fn(&mut Now)) -> Story {
    let mut story = approved();
    let at = position(&story, |r| matches!(r, Record::FenceProven { .. }));
    story[at..].iter_mut().for_each(|(now, record)| {
        later(now);
        if let Record::Intent { lease_until_ms, .. } = record {
            *lease_until_ms = Some(u64::MAX)
        }
    });
    story
}

#[test]
fn a_promote_on_a_recheck_of_long_ago_or_of_an_earlier_boot_breaks_s2() {
    breaks(&promote_later(|at| at.boot_ms += 1000), S2, "a recheck of long ago");
    breaks(&promote_later(|at| at.boot_id += 1), S2, "a recheck of long ago");
    assert!(judge(&promote_later(|at| at.boot_ms += 500)).is_ok());
}

#[test]
fn a_step_in_a_pause_breaks_s2() {
    let pause = Pause { by: "anna".into(), reason: "so".into(), until_wall_ms: None };
    let paused = Record::Paused { pair: name(), pause };

    breaks(&after(&approved(), is_outcome(Step::Restore), vec![paused]), S2, "was begun in a pause");
}

#[test]
fn a_promote_in_doubt_breaks_s3_and_one_in_observe_breaks_s2() {
    breaks(&after(&approved(), is_outcome(Step::PromoteRecheck), vec![doubt()]), S3, "the promote was begun in doubt");

    let mut observe = policy();
    observe.pairs[0].mode = Mode::Observe;
    let ruled = Record::Ruled { policy: Box::new(observe) };
    breaks(&after(&approved(), is_outcome(Step::PromoteRecheck), vec![ruled]), S2, "the promote was begun in observe");
}

#[test]
fn a_sign_of_life_that_does_not_stop_the_run_breaks_s4() {
    let life = || vec![Record::Life { pair: name(), what: "witness third".into() }];
    breaks(&after(&approved(), is_outcome(Step::Restore), life()), S4, "was begun although witness third was alive");

    let beyond = after(&approved(), is_intent(Step::Promote), life());
    assert!(judge(&beyond).is_ok(), "a promote can not be called back: {:?}", judge(&beyond));
}

#[test]
fn a_fence_without_an_outcome_breaks_l1_and_one_that_is_left_out_breaks_s6() {
    let nothing = changed(&approved(), |record| {
        if let Record::Outcome { step: Step::Fence, result: StepResult::Done { finding, .. }, .. } = record {
            *finding = Finding::Nothing
        }
    });
    breaks(&nothing, L1, "the fence ended without an outcome");

    let failed = changed(&approved(), |record| {
        if let Record::Outcome { step: Step::Fence, result, .. } = record {
            *result = StepResult::Failed { failure: Failure::Transient, message: "no route".into() }
        }
    });
    breaks(&failed, L1, "a fence that failed holds the run up");
}

#[test]
fn an_unconfirmed_fence_that_nobody_answers_for_breaks_s6() {
    let nobody = |story: &[(Now, Record)]| {
        let story = with_run(story, |run| run.unfenced = None);
        changed(&story, |record| {
            if let Record::Answered { answer: Answer::Approved { accept_unfenced, .. }, .. } = record {
                *accept_unfenced = None
            }
        })
    };
    breaks(&nobody(&approved()), S6, "consistency-point was begun although nobody answers for the fence");

    let made_up = with_run(&approved(), |run| {
        run.unfenced = Some(Consent { by: "bo".into(), reason: "so".into() });
    });
    breaks(&made_up, S6, "a consent to an unconfirmed fence that nobody gave");
    let automatic = with_run(&automatic(), |run| {
        run.unfenced = Some(Consent { by: "understudy".into(), reason: "two sites".into() });
    });
    breaks(&automatic, S6, "a consent to an unconfirmed fence that nobody gave");
}

#[test]
fn a_promote_without_a_proof_or_with_an_untrue_one_breaks_s6() {
    let is_proof = |r: &Record| matches!(r, Record::FenceProven { .. });
    breaks(&without(&approved(), is_proof), S6, "without a word why it may be forced");

    for untrue in [
        FenceProof::Confirmed,
        FenceProof::Witnessed { witness: "third".into() },
        FenceProof::Accepted(Consent { by: "bo".into(), reason: "so".into() }),
    ] {
        let story = changed(&approved(), |record| {
            if let Record::FenceProven { proof, .. } = record {
                *proof = untrue.clone()
            }
        });
        breaks(&story, S6, "do not bear out why the promote may be forced");
    }
}

#[test]
fn a_force_beside_a_living_api_that_does_not_confirm_the_fence_breaks_s6() {
    let story = changed(&forced(), |record| match record {
        Record::Outcome { step: Step::Fence, result: StepResult::Done { finding, .. }, .. } => {
            *finding = Finding::Fence(FenceOutcome::Unconfirmed { why: "it hangs".into() });
        }
        Record::RunStarted { run, .. } => {
            run.unfenced = Some(Consent { by: "anna".into(), reason: "I see it is off".into() });
        }
        _ => {}
    });

    breaks(&story, S6, "was begun beside a living A that did not confirm the fence");
}

#[test]
fn an_acceptance_that_nobody_answered_breaks_s6() {
    let consent = Consent { by: "anna".into(), reason: "so".into() };
    let accepted =
        Record::UnfencedAccepted { pair: name(), run: run_of(&approved()).id, consent, accepted: LossBound::AtMost(1) };

    breaks(&after(&approved(), is_outcome(Step::Fence), vec![accepted]), S6, "did not answer so");
}

#[test]
fn a_run_that_stops_brings_the_mirror_back_and_does_nothing_else() {
    let story = stopped();
    let intent = find(&approved(), is_intent(Step::UndoPoint));
    let is_paged = |r: &Record| matches!(r, Record::Paged { kind: PageKind::Stopped, .. });
    breaks(&after(&story, is_paged, vec![intent]), S6, "undo-point was begun in a run that stops");

    let is_back = |r: &Record| is_intent(Step::MirrorBack)(r) || is_outcome(Step::MirrorBack)(r);
    breaks(&without(&story, is_back), S6, "ended without bringing the mirror back");
}

#[test]
fn a_run_that_is_stopped_abandoned_or_thinned_out_against_the_rules_breaks_s7() {
    let id = run_of(&approved()).id;
    let stopping = Record::RunStopping { pair: name(), run: id.clone(), why: "A lives".into() };
    let late = after(&approved(), is_intent(Step::Promote), vec![stopping]);
    breaks(&late, S7, "stopped after its promote had begun");

    let ending = Ending::Abandoned { by: "anna".into(), reason: "so".into() };
    let early = Record::RunEnded { pair: name(), run: id.clone(), ending };
    breaks(&after(&approved(), is_outcome(Step::Restore), vec![early.clone()]), S7, "before its promote had begun");
    breaks(&after(&approved(), is_intent(Step::Promote), vec![early]), S10, "with its promote under way");

    let skip = |step| Record::Skipped { pair: name(), run: id.clone(), step, by: "anna".into(), reason: "so".into() };
    breaks(&after(&approved(), is_outcome(Step::Deploy), vec![skip(Step::Verify)]), S7, "safety rests on it");
    let unfailed = after(&approved(), is_outcome(Step::Promote), vec![skip(Step::Deploy)]);
    breaks(&unfailed, S7, "deploy was skipped although it had not failed");
}

#[test]
fn a_promote_beyond_the_accepted_loss_breaks_s8() {
    let story = with_run(&approved(), |run| run.accepted = LossBound::AtMost(40_000));
    breaks(&story, S8, "quiesce was begun although the loss bound exceeds what was accepted");

    let points = |change: fn(&mut ImageFacts)| {
        changed(&approved(), move |record| {
            if let Record::Outcome { result: StepResult::Done { finding: Finding::Mirror(facts), .. }, .. } = record {
                change(&mut facts.images[0])
            }
        })
    };
    breaks(&points(|image| image.syncing = Some(11)), S8, "quiesce was begun although the loss bound exceeds");
    breaks(&points(|image| image.newest_complete = Some(77)), S8, "quiesce was begun although the loss bound exceeds");
    breaks(&points(|image| image.orphan = true), S8, "quiesce was begun although the loss bound exceeds");
}

#[test]
fn a_consistency_point_that_nobody_read_breaks_s8() {
    let story = changed(&approved(), |record| {
        if let Record::Outcome { result: StepResult::Done { finding, .. }, .. } = record
            && matches!(finding, Finding::Mirror(_))
        {
            *finding = Finding::Nothing
        }
    });

    breaks(&story, S8, "quiesce was begun before anybody read what would be lost");
}

#[test]
fn a_step_before_what_it_needs_breaks_s9() {
    for (early, need) in [
        (Step::Fence, Step::Recheck),
        (Step::Quiesce, Step::ConsistencyPoint),
        (Step::Promote, Step::Bound),
        (Step::Deploy, Step::Promote),
        (Step::Verify, Step::Deploy),
        (Step::Route(0), Step::Verify),
        (Step::Route(1), Step::Route(0)),
        (Step::RouteCheck, Step::Route(1)),
    ] {
        let story = approved();
        let intent = find(&story, is_intent(early));
        let before = after(&story, is_intent(need), vec![intent]);

        breaks(&before, S9, &format!("{early} was begun before"));
    }
}

#[test]
fn a_route_on_a_verify_of_long_ago_or_of_another_epoch_breaks_s9() {
    let quick = under(&approved(), |policy| policy.pairs[0].plan.verify_valid = secs(0));
    breaks(&quick, S9, "route-0 rests on a verify of long ago");

    let story = approved();
    let at = position(&story, is_outcome(Step::Verify));
    let mut led = story[..=at].to_vec();
    led.push((story[at].0, Record::Led { pair: name(), epoch: 5 }));
    led.extend(story[at + 1..].iter().cloned().map(|(at, mut record)| {
        if let Record::Intent { epoch, .. } = &mut record {
            *epoch = 5
        }
        (at, record)
    }));
    breaks(&led, S9, "route-0 rests on a verify of epoch 1, it is 5");
}

#[test]
fn a_step_without_an_intent_or_an_outcome_of_another_try_breaks_s10() {
    breaks(&without(&approved(), is_intent(Step::Deploy)), S10, "try 1 of deploy ended without an intent");

    let other = changed(&approved(), |record| {
        if let Record::Outcome { step: Step::Deploy, attempt, .. } = record {
            *attempt = 2
        }
    });
    breaks(&other, S10, "try 2 of deploy ended without an intent");
}

fn again(step: Step, tried: u32) -> Record {
    match find(&approved(), is_intent(step)) {
        Record::Intent { pair, run, key, epoch, lease_until_ms, .. } => {
            Record::Intent { pair, run, step, attempt: tried, key, epoch, lease_until_ms }
        }
        other => panic!("{other:?} is no intent"),
    }
}

#[test]
fn a_second_try_before_the_first_has_an_outcome_breaks_s10() {
    let story = after(&approved(), is_intent(Step::Deploy), vec![again(Step::Deploy, 2)]);

    breaks(&story, S10, "try 2 of deploy was begun while an earlier one had no outcome");
}

#[test]
fn a_promote_that_is_repeated_by_itself_breaks_s10() {
    breaks(&after(&approved(), is_intent(Step::Promote), vec![again(Step::Promote, 2)]), S6, "without a word");

    let will_be = changed(&approved(), |record| {
        if let Record::Outcome { step: Step::Promote, result, again_ms, .. } = record {
            *result = StepResult::Failed { failure: Failure::Unknown, message: "it hangs".into() };
            *again_ms = Some(1)
        }
    });
    breaks(&will_be, S10, "a promote that failed will be repeated");

    let run = run_of(&approved()).id;
    let by = "understudy: it takes long".into();
    let ordered = Record::Retried { pair: name(), run, step: Step::Promote, by };
    breaks(&after(&approved(), is_intent(Step::Promote), vec![ordered]), S10, "ordered another try of promote");
}

#[test]
fn a_step_after_a_restart_before_a_was_looked_at_again_breaks_s2() {
    let started = Record::Started { version: "test".into(), config_digest: "digest".into() };
    let story = after(&approved(), is_outcome(Step::Fence), vec![started]);

    breaks(&story, S2, "was begun after a restart, before A was looked at again");
}

#[test]
fn only_a_promote_that_nobody_began_may_be_tried_again_by_itself() {
    let not_begun = |step: Step| {
        changed(&approved(), |record| {
            if let Record::Outcome { step: ended, result, again_ms, .. } = record
                && *ended == step
            {
                *result = StepResult::Failed { failure: Failure::NotBegun, message: "the recheck is too old".into() };
                *again_ms = Some(1)
            }
        })
    };

    breaks(&not_begun(Step::Deploy), S10, "deploy does not begin by itself");
    breaks(&not_begun(Step::Promote), S9, "was begun before promote was done");
}

#[test]
fn more_tries_than_the_rules_allow_break_s11() {
    let mut world = World::failing_over(policy());
    world.play_until(Some(Step::Deploy));
    world.fail(Step::Deploy, Failure::Transient);
    world.run(2);
    world.fail(Step::Deploy, Failure::Unknown);
    let story = world.journal.clone();
    assert!(judge(&story).is_ok());

    breaks(&under(&story, |policy| policy.pairs[0].plan.attempts = 2), S11, "after 2 tries, at most 2 may be");
    let hopeless = changed(&story, |record| {
        if let Record::Outcome { result: StepResult::Failed { failure, .. }, .. } = record {
            *failure = Failure::Permanent
        }
    });
    breaks(&hopeless, S11, "although that can not help");
}

#[test]
fn another_idempotency_key_breaks_s10() {
    let story = changed(&approved(), |record| {
        if let Record::Intent { step: Step::Route(0), key, .. } = record {
            key.push('x')
        }
    });

    breaks(&story, S10, "route-0 has the key");
}

#[test]
fn a_note_of_a_step_that_is_not_under_way_breaks_s10() {
    let run = run_of(&approved()).id;
    let note = Record::Noted { pair: name(), run, step: Step::Promote, key: "pid".into(), value: "4711".into() };

    breaks(&after(&approved(), is_outcome(Step::Promote), vec![note]), S10, "promote remembered something");
}

#[test]
fn a_run_that_succeeds_with_a_step_left_breaks_s10_and_anything_after_it_too() {
    let is_report = |r: &Record| is_intent(Step::Report)(r) || is_outcome(Step::Report)(r);
    breaks(&without(&approved(), is_report), S10, "succeeded although report is not over");

    let is_end = |r: &Record| matches!(r, Record::RoleChanged { role: Role::AtB, .. });
    breaks(&after(&approved(), is_end, vec![again(Step::Route(0), 2)]), S1, "it is 2");
    let late = Record::Stuck { pair: name(), run: run_of(&approved()).id, step: Step::Report, message: "so".into() };
    breaks(&after(&approved(), is_end, vec![late]), S10, "is not open");
}

#[test]
fn a_step_that_is_overdue_and_not_told_breaks_l2() {
    let mut world = World::failing_over(policy());
    world.play_until(Some(Step::Promote));
    world.run(40);
    world.sees = ALIVE;
    world.run(5);
    let story = world.journal.clone();
    assert!(judge(&story).is_ok(), "{:?}", judge(&story));

    let is_told = |r: &Record| matches!(r, Record::Stuck { .. } | Record::Paged { kind: PageKind::Stuck, .. });
    breaks(&without(&story, is_told), L2, "promote is under way for");
    let unpaged = without(&story, |r| matches!(r, Record::Paged { kind: PageKind::Stuck, .. }));
    breaks(&unpaged, L2, "no page Stuck follows");
}

#[test]
fn a_role_that_is_not_told_breaks_x2_unless_the_daemon_died() {
    let is_told = |r: &Record| matches!(r, Record::RoleChanged { .. });
    breaks(&without(&approved(), is_told), X2, "the role that a run made is not told");

    let died = after(&until(&approved(), is_started), is_started, vec![started()]);
    assert!(judge(&died).is_ok());
}

#[test]
fn a_snapshot_that_says_something_else_than_the_records_breaks_x2() {
    let story = approved();
    let (at, snapshot) = durable(&story);
    let with = |change: fn(&mut DurablePair)| {
        let (mut other, mut story) = (snapshot.clone(), story.clone());
        change(&mut other);
        story.push((at, Record::Snapshot { pairs: [(name(), other)].into() }));
        story
    };

    assert!(judge(&with(|_| {})).is_ok(), "{:?}", judge(&with(|_| {})));
    breaks(&with(|durable| durable.role = Role::AtA), X2, "the role in the snapshot of nexus");
    breaks(&with(|durable| durable.epoch += 1), X2, "the epoch in the snapshot of nexus");
    breaks(&with(|durable| durable.blocked_until_wall_ms = None), X2, "the block in the snapshot of nexus");
    breaks(&with(|durable| durable.run = None), X2, "the run in the snapshot of nexus");
}

fn durable(story: &[(Now, Record)]) -> (Now, DurablePair) {
    let mut durable = DurablePair::default();
    story.iter().filter(|(_, r)| r.pair().is_some()).for_each(|(at, record)| durable.apply(record, *at));
    (story.last().expect("it is not empty").0, durable)
}

#[test]
fn a_record_that_is_missing_and_a_clock_that_goes_back_break_x2() {
    let mut gap = entries(&approved());
    gap.remove(5);
    let violation = understudy_checker::check(gap).expect_err("a record is missing");
    assert_eq!((violation.invariant, violation.seq), (X2, 7));

    let mut back = approved();
    back[9].0.boot_ms -= 5000;
    breaks(&back, X2, "the monotonic clock went back");
}

#[test]
fn the_entries_up_to_a_violation_are_the_shortest_prefix_that_shows_it() {
    let story = without(&approved(), is_outcome(Step::Verify));
    let violation = judge(&story).expect_err("it is broken");
    let prefix = usize::try_from(violation.seq).expect("it is small");

    assert_eq!(judge(&story[..prefix]), Err(violation.clone()));
    assert!(judge(&story[..prefix - 1]).is_ok());
    assert_eq!(violation.to_string(), format!("record {prefix} breaks S9: route-0 was begun before verify was done"));
}

#[test]
fn every_invariant_has_a_name_and_a_promise_of_its_own() {
    let names: std::collections::BTreeSet<String> = Invariant::ALL.iter().map(ToString::to_string).collect();
    let promises: std::collections::BTreeSet<&str> = Invariant::ALL.iter().map(|one| one.promise()).collect();

    assert_eq!((names.len(), promises.len()), (Invariant::ALL.len(), Invariant::ALL.len()));
    assert!(Checker::default().counts().is_empty());
}
