use std::path::PathBuf;

use super::*;

#[test]
fn documents_of_one_file_and_items_of_a_list_are_objects_of_their_own() {
    let text = "---\n# nothing\n---\napiVersion: v1\nkind: Secret\nmetadata: {name: a}\n---\napiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Secret\n  metadata: {name: b}\n";

    let found = read_file(&file("x.yaml", text).1).unwrap();

    assert_eq!(found.iter().map(|m| m.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
}

#[test]
fn json_is_read_as_json() {
    let found = read_file(&file("x.json", r#"{"apiVersion":"v1","kind":"Secret","metadata":{"name":"a"}}"#).1).unwrap();

    assert_eq!(found[0].kind, "Secret");
}

#[test]
fn texts_that_look_like_numbers_stay_texts() {
    let text = "apiVersion: v1\nkind: X\nmetadata: {name: a}\nimageFormat: \"2\"\nsize: 10Gi\non: true\n";

    let found = read_file(&file("x.yaml", text).1).unwrap();

    assert_eq!(found[0].object["imageFormat"], "2");
    assert_eq!(found[0].object["size"], "10Gi");
}

#[test]
fn an_error_names_file_and_line_and_never_shows_the_text() {
    let text = "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\ndata:\n  password: aHVudGVyMg==\n  password: aHVudGVyMw==\n";
    let (_keep, path) = file("secret.yaml", text);

    let error = read_file(&path).unwrap_err().to_string();

    assert!(error.contains("secret.yaml") && error.contains("line 6"), "{error}");
    assert!(!error.contains("aHVudGVy"), "{error}");
}

#[test]
fn a_document_without_a_name_is_refused() {
    let error = read_file(&file("x.yaml", "apiVersion: v1\nkind: Secret\n").1).unwrap_err();

    assert!(error.to_string().contains("a document without metadata.name"), "{error}");
}

#[test]
fn a_file_that_is_too_long_is_refused_without_being_read_whole() {
    let (_keep, path) = file("x.yaml", &"#".repeat(5 * 1024 * 1024));

    assert!(matches!(read_file(&path), Err(ManifestError::TooLong(_))));
}

#[test]
fn a_missing_file_is_named() {
    let error = read_file(std::path::Path::new("/nowhere/x.yaml")).unwrap_err();

    assert_eq!(error.to_string(), "failed to read /nowhere/x.yaml");
}

#[test]
fn debug_output_shows_no_content() {
    let found =
        read_file(&file("x.yaml", "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\ndata: {p: aHVudGVyMg==}\n").1);

    assert_eq!(format!("{:?}", found.unwrap()), "[Secret a]");
}

fn file(name: &str, text: &str) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(name);
    std::fs::write(&path, text).unwrap();
    (directory, path)
}
