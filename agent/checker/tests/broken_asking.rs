//! Watching, asking and starting: each rule is shown by a sound story in which one thing is changed (S1–S5, S8, S11, S12).

mod story;

use story::*;
use understudy_checker::Invariant::{L3, S1, S2, S3, S4, S5, S8, S9, S11, S12, X2};
use understudy_core::*;

#[test]
fn a_run_without_an_approval_or_with_somebody_elses_breaks_s2() {
    breaks(&without(&approved(), is_answered), S2, "was not approved or is spent");

    let other = changed(&approved(), |record| {
        if let Record::Answered { by, .. } = record {
            *by = "bo".into()
        }
    });
    breaks(&other, S2, "was approved by bo, not by anna");
}

#[test]
fn an_approval_that_starts_a_second_run_breaks_s2() {
    let story = approved();
    let first = run_of(&story);
    let (id, epoch) = (first.id.clone(), first.epoch + 1);
    let second = Run { id: "nexus-9".into(), epoch: epoch + 1, ..first };
    let ending = Ending::Stopped { why: "so".into() };
    let begun = position(&story, is_started) + 1;
    let role = |role, epoch| Record::RoleChanged { pair: name(), role, epoch };
    let again = vec![
        Record::RunStopping { pair: name(), run: id.clone(), why: "so".into() },
        Record::Paged { pair: Some(name()), kind: PageKind::Stopped },
        Record::RunEnded { pair: name(), run: id, ending },
        role(Role::AtA, epoch),
        story[begun - 2].1.clone(),
        Record::RunStarted { pair: name(), run: Box::new(second) },
    ];
    let head = story[..=begun].to_vec();

    breaks(&after(&head, |r| matches!(r, Record::RoleChanged { .. }), again), S2, "was not approved or is spent");
}

#[test]
fn an_answer_to_a_question_that_is_void_expired_or_older_than_a_restart_breaks_s2() {
    let story = approved();
    let Record::Requested { request } = find(&story, is_asked) else { panic!("nothing was asked") };
    let void = Record::Voided { pair: name(), request: request.id.clone(), why: "A lives".into() };
    breaks(&after(&story, is_asked, vec![void]), S2, "was not asked, was answered, void");

    breaks(&after(&story, is_asked, vec![started()]), S2, "older than a restart");

    let late = changed(&story, |record| {
        if let Record::Requested { request } = record {
            request.expires_ms = request.asked.boot_ms
        }
    });
    breaks(&late, S2, "was approved after it had expired");
}

#[test]
fn a_second_answer_and_a_second_question_break_s2() {
    let story = approved();
    breaks(&after(&story, is_answered, vec![find(&story, is_answered)]), S2, "was not asked, was answered");

    breaks(&after(&story, is_asked, vec![find(&story, is_asked)]), S2, "while another question was open");
}

#[test]
fn an_approval_of_what_has_changed_since_breaks_s2() {
    let story = approved();
    let back = Reading::Unknown(Reason::Stale);
    let signal = |from, to| Record::Signal { pair: name(), probe: "web".into(), from, to };
    let changed_since = after(&story, is_asked, vec![signal(DOWN, back)]);
    breaks(&changed_since, S2, "was approved although probe web has changed since");

    let anew = vec![
        Record::HoldDownBroken { pair: name(), cause: "so".into() },
        Record::Verdict { pair: name(), from: Verdict::SiteDown, to: Verdict::Suspect, cause: "so".into() },
    ];
    breaks(&after(&story, is_asked, anew), S2, "was approved at verdict Some(Suspect)");

    let other = changed(&story, |record| match record {
        Record::Requested { request } => request.evidence.config_digest = "other".into(),
        Record::RunStarted { run, .. } => run.evidence.config_digest = "other".into(),
        _ => {}
    });
    breaks(&other, S2, "was approved under another configuration");
}

#[test]
fn a_run_on_other_evidence_than_was_approved_breaks_s2() {
    let story = with_run(&approved(), |run| run.evidence.points.clear());

    breaks(&story, S2, "rests on other evidence");
}

#[test]
fn a_run_without_gates_or_with_a_closed_one_breaks_s2() {
    let story = approved();
    let at_start = position(&story, is_started) - 1;
    let mut unasked = story.clone();
    unasked.remove(at_start);
    breaks(&unasked, S2, "was started without asking the gates");

    let mut closed = story;
    if let Record::Gates { gates, .. } = &mut closed[at_start].1 {
        gates[1].open = false
    }
    breaks(&closed, S2, "although gate mode was closed");
}

#[test]
fn a_run_in_a_pause_or_in_observe_breaks_s2() {
    let pause = Pause { by: "anna".into(), reason: "so".into(), until_wall_ms: None };
    let paused = after(&approved(), is_answered, vec![Record::Paused { pair: name(), pause }]);
    breaks(&paused, S2, "was started in a pause");

    let observed = under(&forced(), |policy| policy.pairs[0].mode = Mode::Observe);
    breaks(&observed, S2, "was started in observe");
    let asked = under(&approved(), |policy| policy.pairs[0].mode = Mode::Observe);
    breaks(&asked, S2, "was asked in observe");
}

#[test]
fn a_pause_that_ends_by_itself_before_its_time_breaks_s2() {
    let pause = Pause { by: "anna".into(), reason: "so".into(), until_wall_ms: None };
    let story = after(
        &approved(),
        is_asked,
        vec![Record::Paused { pair: name(), pause }, Record::Resumed { pair: name(), by: None }],
    );

    breaks(&story, S2, "a pause ended by itself");
}

#[test]
fn a_force_that_names_nobody_breaks_s2() {
    let story = with_run(&forced(), |run| run.authority = Authority::Forced { by: "anna".into(), reason: "".into() });

    breaks(&story, S2, "names neither who nor why");
}

#[test]
fn a_pair_that_was_never_seen_alive_breaks_s2() {
    let story = without(&approved(), |r| matches!(r, Record::SeenAlive { .. }));

    breaks(&story, S2, "never seen alive");
}

#[test]
fn an_automatic_run_without_a_witness_that_spoke_throughout_breaks_s2() {
    let story = automatic();
    let silent = without(&story, |r| matches!(r, Record::Witness { .. }));
    breaks(&silent, S2, "no third-site witness has said Down throughout");

    let at = position(&story, is_site_down);
    let short = Record::Witness { pair: name(), witness: "third".into(), says: WitnessSays::Absent };
    let again = Record::Witness { pair: name(), witness: "third".into(), says: WitnessSays::Down };
    let broken = after(&story[..at + 20], is_round(4), vec![short, again]);
    breaks(&broken, S2, "no third-site witness has said Down throughout");

    let elsewhere = under(&story, |policy| policy.pairs[0].witnesses[0].kind = WitnessKind::PrimarySite);
    breaks(&elsewhere, S2, "no third-site witness has said Down throughout");

    let asked = under(&story, |policy| policy.pairs[0].mode = Mode::Confirm);
    breaks(&asked, S2, "an automatic run in confirm");
}

#[test]
fn an_automatic_run_within_the_block_or_beyond_the_limit_breaks_s11() {
    let blocked = Record::Blocked { pair: name(), until_wall_ms: 0 };
    breaks(&after(&automatic(), is_site_down, vec![blocked]), S11, "within the recovery block");

    breaks(&under(&automatic(), |policy| policy.automatic_max = 0), S11, "at most 0 may be");
}

#[test]
fn a_second_run_beside_an_open_one_breaks_s11() {
    let story = approved();
    let second = Run { id: "nexus-9".into(), epoch: 9, ..run_of(&story) };
    let begins = vec![Record::RunStarted { pair: name(), run: Box::new(second) }];

    breaks(&after(&story, |r| matches!(r, Record::Blocked { .. }), begins), S11, "beside one that is open");
}

#[test]
fn a_block_that_nobody_lifted_breaks_s11() {
    let lifted = Record::Unblocked { pair: name(), by: "".into() };
    let story = after(&approved(), |r| matches!(r, Record::Blocked { .. }), vec![lifted]);

    breaks(&story, S11, "nobody lifted the recovery block");
}

#[test]
fn an_epoch_that_does_not_rise_breaks_s1() {
    breaks(&with_run(&approved(), |run| run.epoch = 0), S1, "does not raise the epoch");

    let role = changed(&approved(), |record| {
        if let Record::RoleChanged { epoch, .. } = record {
            *epoch += 1
        }
    });
    breaks(&role, S1, "the role is told at epoch");

    let led = Record::Led { pair: name(), epoch: 1 };
    let story = after(&approved(), |r| matches!(r, Record::Blocked { .. }), vec![led]);
    breaks(&story, S1, "we lead after another at epoch 1, ours is 1");
}

#[test]
fn an_accusation_in_doubt_breaks_s3() {
    breaks(&after(&approved(), is_round(9), vec![doubt()]), S3, "own-api is Down");
    breaks(&after(&approved(), is_answered, vec![doubt()]), S3, "was started in doubt");
    let is_api = |r: &Record| matches!(r, Record::Signal { probe, to, .. } if probe == "api" && to.is_down());
    let early = after(&approved(), is_api, vec![doubt()]);
    breaks(&early, S3, "a hold-down began in doubt");
}

#[test]
fn a_self_check_that_is_not_up_is_a_doubt_although_none_was_written() {
    let bad = Record::SelfCheck { check: "own-api".into(), from: Reading::Up, to: DOWN };
    let story = after(&approved(), is_round(3), vec![bad]);

    breaks(&story, S3, "self-check own-api is not Up");
}

#[test]
fn a_daemon_that_stays_blind_and_tells_nobody_breaks_l3() {
    let mut world = World::healthy(policy());
    world.policy.blind_page = secs(5);
    world.reload(world.policy.clone());
    world.fit = DOWN;
    world.run(4);
    world.sees = DEAD;
    world.run(6);
    let blind = world.journal.clone();
    assert!(judge(&blind).is_ok(), "{:?}", judge(&blind));

    let story = without(&blind, |r| matches!(r, Record::Paged { pair: None, .. }));
    breaks(&story, L3, "blind since");
}

#[test]
fn a_quorum_that_is_not_down_breaks_s4() {
    let is_api = |r: &Record| matches!(r, Record::Signal { probe, to, .. } if probe == "api" && to.is_down());
    breaks(&without(&approved(), is_api), S4, "a hold-down began with 2 of 3 domains Down");

    let lost = changed(&approved(), |record| {
        if is_api(record)
            && let Record::Signal { to, .. } = record
        {
            *to = Reading::Unknown(Reason::Tls)
        }
    });
    breaks(&lost, S4, "with 2 of 3 domains Down");

    let stale = Record::Signal { pair: name(), probe: "api".into(), from: DOWN, to: Reading::Unknown(Reason::Stale) };
    breaks(&after(&approved(), is_round(2), vec![stale]), S4, "a round was witnessed with 2 of 3");
}

#[test]
fn a_sign_of_life_that_breaks_nothing_breaks_s4() {
    let life = || vec![Record::Life { pair: name(), what: "probe peer".into() }];

    breaks(&after(&approved(), is_round(2), life()), S4, "a round was witnessed although probe peer was alive");
    breaks(&after(&approved(), is_site_down, life()), S4, "was asked for although probe peer was alive");
    breaks(&after(&approved(), is_asked, life()), S4, "an approval was taken although probe peer was alive");
    breaks(&after(&automatic(), is_site_down, life()), S4, "a run was started although probe peer was alive");
}

#[test]
fn a_verdict_without_witnessed_hold_down_breaks_s5() {
    let first = position(&approved(), is_round(1));
    let short: Story = {
        let story = approved();
        let mut short = story[..first + 2].to_vec();
        short.extend(story.iter().skip(position(&story, is_site_down)).cloned());
        short
    };
    breaks(&short, S5, "after 2 of 3 witnessed rounds");

    breaks(&without(&approved(), is_round(2)), S5, "round 3 does not continue a hold-down");

    let broken = Record::HoldDownBroken { pair: name(), cause: "web is Up".into() };
    breaks(&after(&approved(), is_round(3), vec![broken]), S5, "round 4 does not continue a hold-down");

    breaks(&after(&approved(), is_round(3), vec![started()]), S5, "round 4 does not continue a hold-down");
}

#[test]
fn a_hold_down_of_less_than_the_rules_say_breaks_s5() {
    let longer = under(&approved(), |policy| policy.pairs[0].hold_down = secs(30));
    breaks(&longer, S5, "of 30000 ms of hold-down");

    let claimed = changed(&approved(), |record| {
        if let Record::Round { held_ms, .. } = record {
            *held_ms += 1
        }
    });
    breaks(&claimed, S5, "claims 1001 ms of hold-down");
}

#[test]
fn a_gap_between_two_rounds_breaks_s5() {
    let story = approved();
    let at = position(&story, is_round(3));
    let mut stalled = story.clone();
    for (time, record) in &mut stalled[at..] {
        *time = *time + secs(10);
        if let Record::Round { held_ms, .. } = record {
            *held_ms += 10_000
        }
    }
    breaks(&stalled, S5, "round 3 came 11000 ms after the one before");

    breaks(&under(&story, |policy| policy.pairs[0].probes[0].period = secs(5)), S5, "the grid is 5000 ms");
}

#[test]
fn a_reload_that_shortens_a_running_hold_down_breaks_s5() {
    let mut shorter = policy();
    shorter.pairs[0].hold_down = secs(4);
    let story = after(&approved(), is_round(2), vec![Record::Ruled { policy: Box::new(shorter) }]);

    breaks(&story, S5, "round 3 does not continue a hold-down");
}

#[test]
fn a_loss_that_nobody_accepted_breaks_s8() {
    let unnamed = with_run(&approved(), |run| run.accepted = LossBound::AtMost(901_000));
    breaks(&unnamed, S8, "counts as accepted, and nobody named it");

    let unknown = with_run(&forced(), |run| run.accepted = LossBound::Infinite);
    breaks(&unknown, S8, "an unknown loss counts as accepted");

    let quiet = changed(&approved(), |record| {
        if let Record::Requested { request } = record {
            request.bound_at_expiry = LossBound::AtMost(901_000)
        }
    });
    breaks(&quiet, S8, "does not say that 901.0 s is over the limit");
}

#[test]
fn a_price_that_was_asked_and_not_answered_breaks_s8() {
    let dear = changed(&approved(), |record| {
        if let Record::Requested { request } = record {
            (request.bound_at_expiry, request.needs_loss_consent) = (LossBound::AtMost(901_000), true)
        }
    });

    breaks(&dear, S8, "was approved without a word about the loss of 901.0 s");
}

#[test]
fn a_run_on_a_snapshot_whose_time_nobody_knows_breaks_s8() {
    let is_time = |r: &Record| matches!(r, Record::SourceTime { .. });
    breaks(&without(&approved(), is_time), S8, "whose time was never recorded");

    let overwritten = changed(&approved(), |record| match record {
        Record::Requested { request } => request.evidence.points[0].mid_sync = true,
        Record::RunStarted { run, .. } => run.evidence.points[0].mid_sync = true,
        _ => {}
    });
    breaks(&overwritten, S8, "that a sync overwrites");

    let unmeasured = without(&approved(), |r| matches!(r, Record::ClockError { .. }));
    breaks(&unmeasured, S8, "at a loss of unknown, beyond 900.0 s");

    breaks(&under(&approved(), |policy| policy.pairs[0].rpo_max = secs(50)), S8, "is over the limit");
}

#[test]
fn a_plan_that_leaves_out_what_safety_rests_on_breaks_s9() {
    for step in [Step::Fence, Step::Quiesce, Step::Bound, Step::PromoteRecheck, Step::Verify, Step::Route(1)] {
        let story = with_run(&approved(), |run| run.steps.retain(|entry| entry.step != step));

        breaks(&story, S9, &format!("lacks {step}"));
    }
}

#[test]
fn a_return_to_a_by_itself_breaks_s12() {
    let mut story = approved();
    let (at, epoch) = (story.last().expect("it is not empty").0, run_of(&story).epoch + 1);
    story.push((at, Record::RoleChanged { pair: name(), role: Role::AtA, epoch }));
    breaks(&story, S12, "became AtA although no run led there from AtB");

    let early = Record::RoleChanged { pair: name(), role: Role::AtB, epoch: epoch - 1 };
    breaks(&after(&approved(), is_outcome(Step::Verify), vec![early]), S12, "became AtB although no run led there");
}

#[test]
fn a_run_or_a_hold_down_while_b_is_active_breaks_s12() {
    let mut story = approved();
    let at = story.last().expect("it is not empty").0;
    let again = Run { id: "nexus-9".into(), epoch: 9, ..run_of(&story) };
    story.push((at, Record::RunStarted { pair: name(), run: Box::new(again) }));
    breaks(&story, S12, "was started from AtB");

    story.pop();
    story.push((at, Record::HoldDownBegan { pair: name() }));
    breaks(&story, S12, "although B is the active site");
}

#[test]
fn an_old_primary_that_returns_untold_breaks_s12() {
    let mut world = World::failing_over(policy());
    world.play_until(None);
    world.sees = ALIVE;
    world.standby = Reading::Up;
    world.run(5);
    world.standby = DOWN;
    world.run(5);
    let is_told = |r: &Record| matches!(r, Record::OldPrimaryReturned { .. });
    let story = without(&world.journal, is_told);
    let story = without(&story, |r| matches!(r, Record::Paged { kind: PageKind::OldPrimaryReturned, .. }));

    breaks(&story, S12, "serves again and nobody was told");
}

#[test]
fn what_goes_on_from_something_else_breaks_x2() {
    let signal = changed(&approved(), |record| {
        if let Record::Signal { from, .. } = record {
            *from = Reading::Unknown(Reason::Tls)
        }
    });
    breaks(&signal, X2, "goes on from Unknown(tls), which it was not");

    let gap = without(&approved(), |r| matches!(r, Record::Verdict { to: Verdict::Suspect, .. }));
    breaks(&gap, X2, "the verdict goes on from Suspect, which it was not");
}
