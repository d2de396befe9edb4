//! The table of invariants says what was judged by what, and names everything that it lacks.

use std::path::PathBuf;

use tempfile::TempDir;
use understudy_checker::Invariant;
use understudy_tests::proof::{Account, Judged, Proof, Source, by_invariant, judged_in, keep};

fn judged(counts: &[(&str, u64)]) -> Judged {
    counts.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect()
}

fn everything() -> Judged {
    Invariant::ALL.iter().map(|invariant| (invariant.to_string(), 1)).collect()
}

/// Such as `s01-guard`.
fn guard_of(invariant: Invariant) -> String {
    let name = invariant.to_string().to_lowercase();
    format!("{}{:0>2}-guard", &name[..1], &name[1..])
}

/// Accounts of every source, and for each invariant a mutant that was caught.
struct Kept {
    directory: TempDir,
}

impl Kept {
    fn whole() -> Self {
        let kept = Self { directory: tempfile::tempdir().unwrap() };
        for source in Source::ALL {
            kept.account(source, "one", everything());
        }
        std::fs::create_dir(kept.patches()).unwrap();
        for invariant in Invariant::ALL {
            kept.mutant(&guard_of(invariant));
            kept.verdict(&format!("{}\tcaught\ta_test\t7\t{invariant}", guard_of(invariant)));
        }
        kept
    }

    fn place(&self) -> PathBuf {
        self.directory.path().join("proof")
    }

    fn patches(&self) -> PathBuf {
        self.directory.path().join("patches")
    }

    fn account(&self, source: Source, name: &str, judged: Judged) {
        keep(&self.place(), source, name, &Account::now("a run".into(), judged, None)).unwrap();
    }

    fn mutant(&self, name: &str) {
        std::fs::write(self.patches().join(format!("{name}.patch")), "# test: x y\n").unwrap();
    }

    fn verdict(&self, line: &str) {
        let verdicts = self.directory.path().join("verdicts.tsv");
        let before = std::fs::read_to_string(&verdicts).unwrap_or_default();
        std::fs::write(verdicts, format!("{before}{line}\n")).unwrap();
    }

    fn proof(&self) -> Proof {
        Proof::collect(&self.place(), &self.patches(), &self.directory.path().join("verdicts.tsv")).unwrap()
    }
}

#[test]
fn a_proof_in_which_everything_was_judged_and_caught_lacks_nothing() {
    let kept = Kept::whole();
    kept.account(Source::RealJournals, "another", judged(&[("S1", 4)]));

    let proof = kept.proof();

    assert_eq!(proof.lacks(), Vec::<String>::new());
    assert!(proof.to_string().contains("| S1 | 1 | 1 | 1 | 5 | 1 of 1 |"), "{proof}");
}

#[test]
fn a_source_that_was_not_run_is_named_with_the_command_that_runs_it() {
    let kept = Kept::whole();
    std::fs::remove_dir_all(kept.place().join("crash-test")).unwrap();

    let proof = kept.proof();

    let lacks = "crash test was not run: `cargo run --release --bin rehearse -- killed-everywhere`";
    assert_eq!(proof.lacks(), [lacks]);
    assert!(proof.to_string().contains("| L3 | 1 | 1 | never | 1 | 1 of 1 |"), "{proof}");
}

#[test]
fn an_invariant_that_nobody_judged_and_a_violation_are_lacks() {
    let kept = Kept::whole();
    let mut but_s9 = everything();
    but_s9.remove("S9");
    for source in Source::ALL {
        kept.account(source, "one", but_s9.clone());
    }
    let broken = Account::now("a run".into(), but_s9, Some("record 4 breaks S4".into()));
    keep(&kept.place(), Source::SmallWorlds, "two", &broken).unwrap();

    let lacks = kept.proof().lacks();

    assert_eq!(lacks.len(), 2, "{lacks:?}");
    assert_eq!(lacks[0], "small worlds two: record 4 breaks S4");
    assert!(lacks[1].starts_with("S9 was judged nowhere: "), "{lacks:?}");
}

#[test]
fn the_last_verdict_on_a_mutant_counts_and_one_that_was_not_tried_or_not_caught_is_a_lack() {
    let kept = Kept::whole();
    kept.verdict("s01-guard\tSURVIVED\ta_test\t-\t-");
    kept.verdict("s11-guard\tcaught\ta_test\t-\tNOT MET");
    kept.mutant("l02-new");
    kept.verdict("of-yesterday\tcaught\tgone\t\t");

    let proof = kept.proof();

    let lacks = [
        "mutant l02-new was not tried: `tests/run mutants l02-new`",
        "mutant s01-guard: SURVIVED by its test, simulated: -",
        "mutant s11-guard: caught by its test, simulated: NOT MET",
    ];
    assert_eq!(proof.lacks(), lacks);
    assert!(proof.to_string().contains("| L2 | 1 | 1 | 1 | 1 | 1 of 2 |"), "{proof}");
    assert!(proof.to_string().contains("| l02-new | L2 | not tried | | | |"), "{proof}");
    assert!(!proof.to_string().contains("of-yesterday"), "{proof}");
}

#[test]
fn an_invariant_without_a_mutant_is_a_lack() {
    let kept = Kept::whole();
    std::fs::remove_file(kept.patches().join("l01-guard.patch")).unwrap();

    assert_eq!(kept.proof().lacks(), ["L1 has no mutant"]);
}

#[test]
fn the_checks_of_a_simulation_are_counted_by_invariant() {
    let checks =
        judged(&[("checker S1", 3), ("world S1: writes within the lease", 4), ("checker S10", 5), ("other", 6)]);

    assert_eq!(by_invariant(&checks), judged(&[("S1", 7), ("S10", 5)]));
}

#[test]
fn an_answer_of_journal_verify_gives_its_counts_and_another_none() {
    let answer = r#"{"sound":true,"records":9,"runs":1,"judged":{"S1":3},"violation":null}"#;

    assert_eq!(judged_in(answer).unwrap(), judged(&[("S1", 3)]));
    assert!(judged_in(r#"{"sound":false,"chain":"broken"}"#).is_err());
}
