//! Each file of `tests/bad-config` is wrong in one way, and its first lines say word for word what `understudy check` says:
//! `# expect: …` for every error in its order, or for every warning of a file without errors. `@DIR@` stands for the directory
//! with the files that the settings name, [`world::World`].

use std::path::{Path, PathBuf};

use understudy_config::{Config, Finding, Severity, check};

mod world;

#[test]
fn each_bad_configuration_gives_exactly_the_message_that_it_expects() {
    let world = world::World::new();
    let rows = rows();
    assert!(rows.len() >= 100, "only {} rows", rows.len());

    let wrong: Vec<String> = rows.iter().filter_map(|row| difference(row, &world)).collect();

    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// What `row` gives if it is not what it expects.
fn difference(row: &Path, world: &world::World) -> Option<String> {
    let name = row.file_name().expect("a row has a name").to_string_lossy().into_owned();
    let text = world.place(&std::fs::read_to_string(row).expect("a row can be read"));
    let expected: Vec<&str> = text.lines().map_while(|line| line.strip_prefix("# expect: ")).collect();
    assert!(!expected.is_empty(), "{name} expects nothing");
    let given = given(&name, &text);
    // Beside an error only the errors count; a row about a warning gives nothing else.
    let errors = given.iter().any(|(severity, _)| *severity == Severity::Error);
    let counts = |severity: Severity| !errors || severity == Severity::Error;
    let right =
        given.iter().filter(|(severity, _)| counts(*severity)).map(|(_, text)| text.as_str()).eq(expected.clone());
    let lines = |texts: Vec<&str>| texts.iter().map(|text| format!("> {text}\n")).collect::<String>();
    let given = given.iter().map(|(_, text)| text.as_str()).collect();
    (!right).then(|| format!("@@ {}\nexpected\n{}given\n{}", row.display(), lines(expected), lines(given)))
}

/// What `understudy check` says, without the snippet below a fault of the file itself.
fn given(name: &str, text: &str) -> Vec<(Severity, String)> {
    match Config::from_text(name, text, []) {
        Ok(loaded) => {
            check(&loaded).into_iter().map(|finding| (finding.severity, Finding::to_string(&finding))).collect()
        }
        Err(error) => {
            let message = error.to_string();
            let first = message.lines().next().unwrap_or_default().to_owned();
            vec![(Severity::Error, first)]
        }
    }
}

fn rows() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/bad-config");
    let entries = std::fs::read_dir(directory).expect("the table is there");
    let mut rows: Vec<PathBuf> = entries
        .map(|entry| entry.expect("the table can be read").path())
        .filter(|path| path.extension().is_some_and(|end| end == "yaml"))
        .collect();
    rows.sort();
    rows
}
