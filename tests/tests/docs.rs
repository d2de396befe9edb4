//! The documents agree with the code.

use std::collections::BTreeSet;

use understudy_core::{PlanPolicy, Step, failover_steps, needs};

const STATES: &str = include_str!("../../docs/states.md");

/// The first cells of the table under `heading`, without their ticks.
fn rows(heading: &str) -> Vec<Vec<String>> {
    let section =
        STATES.split("\n## ").find(|s| s.starts_with(heading)).unwrap_or_else(|| panic!("no section {heading}"));
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    let cells = |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
    rows.map(cells).collect()
}

fn names(heading: &str) -> BTreeSet<String> {
    rows(heading).into_iter().map(|row| row[0].trim_matches('`').to_owned()).collect()
}

/// The variants of an enum, from its source: the shell of a `pub enum NAME {` at the start of a line.
fn variants(source: &str, name: &str) -> BTreeSet<String> {
    let start = source.find(&format!("pub enum {name} {{")).unwrap_or_else(|| panic!("no enum {name}"));
    let body = &source[start..][..source[start..].find("\n}").expect("it ends")];
    let lines = body.lines().skip(1).filter(|line| line.starts_with("    ") && !line.starts_with("     "));
    let words = lines.filter_map(|line| line.trim().split(|c: char| !c.is_alphanumeric()).next());
    words.filter(|word| word.starts_with(char::is_uppercase)).map(str::to_owned).collect()
}

#[test]
fn every_verdict_role_phase_and_step_status_has_a_row_and_every_row_is_one() {
    let verdict = include_str!("../../agent/core/src/verdict.rs");
    let record = include_str!("../../agent/core/src/record.rs");
    let plan = include_str!("../../agent/core/src/plan.rs");
    for (heading, source, name) in [
        ("Verdict", verdict, "Verdict"),
        ("Role", record, "Role"),
        ("Phase", plan, "Phase"),
        ("Step status", plan, "StepStatus"),
    ] {
        assert_eq!(names(heading), variants(source, name), "{heading}");
    }
}

#[test]
fn the_table_of_steps_is_the_graph_of_the_plan() {
    let whole = PlanPolicy {
        mirrored: true,
        aged: false,
        kubernetes: true,
        undo_point: true,
        routes: vec!["one".into()],
        route_check: true,
        attempts: 1,
        retry_after: std::time::Duration::ZERO,
        step_overdue: std::time::Duration::ZERO,
        ready_within: std::time::Duration::ZERO,
        promote_overdue: std::time::Duration::ZERO,
        verify_valid: std::time::Duration::ZERO,
        lease_margin: std::time::Duration::ZERO,
    };
    let written: Vec<(String, BTreeSet<String>, bool)> = rows("Steps and what each needs")
        .into_iter()
        .map(|row| {
            let needed = row[1].split(',').map(|cell| cell.trim().trim_matches('`').to_owned());
            (row[0].trim_matches('`').to_owned(), needed.filter(|n| !n.is_empty()).collect(), row[2] == "yes")
        })
        .collect();

    let coded: BTreeSet<String> = failover_steps(&whole).iter().map(ToString::to_string).collect();
    assert_eq!(written.iter().map(|(step, ..)| step.clone()).collect::<BTreeSet<_>>(), coded);
    for (name, needed, skippable) in written {
        let step: Step = name.parse().expect("each row is a step");
        assert_eq!(needed, needs(step).iter().map(ToString::to_string).collect(), "{name}");
        assert_eq!(skippable, step.may_be_skipped(), "{name}");
    }
}
