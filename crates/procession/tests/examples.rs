//! Every public function and method is used in an example of its file. That the examples run is a matter of the
//! documentation tests.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Public for the fuzzers, and hidden in the documentation.
const HIDDEN: [&str; 1] = ["inspect"];

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let (folders, files): (Vec<PathBuf>, Vec<PathBuf>) = entries.partition(|path| path.is_dir());
    let below = folders.iter().flat_map(|folder| self::files(folder));
    files.into_iter().chain(below).collect()
}

/// What a line of the source is to the reader of the documentation.
enum Line<'a> {
    Doc(&'a str),
    Attribute(&'a str),
    Code(&'a str),
}

fn line(text: &str) -> Line<'_> {
    let text = text.trim();
    if let Some(doc) = text.strip_prefix("///").or_else(|| text.strip_prefix("//!")) {
        Line::Doc(doc.trim())
    } else if text.starts_with("#[") {
        Line::Attribute(text)
    } else {
        Line::Code(text)
    }
}

/// All code of examples, and the names of the documented public functions.
fn of(source: &str) -> (String, Vec<String>) {
    let (mut examples, mut names) = (String::new(), Vec::new());
    let (mut inside, mut documented) = (false, false);
    for text in source.lines() {
        match line(text) {
            Line::Doc(doc) if doc.starts_with("```") => inside = !inside,
            Line::Doc(doc) => {
                documented = true;
                if inside {
                    examples.push_str(doc);
                    examples.push('\n');
                }
            }
            Line::Attribute(attribute) => documented &= !attribute.contains("doc(hidden)"),
            Line::Code(code) => {
                let public = ["pub fn ", "pub const fn ", "pub unsafe fn "];
                let rest = public.iter().find_map(|start| code.strip_prefix(start));
                let name = rest.and_then(|rest| rest.split(['(', '<']).next());
                names.extend(name.filter(|_| documented).map(str::to_owned));
                (inside, documented) = (false, false);
            }
        }
    }
    (examples, names)
}

#[test]
fn every_public_function_is_used_in_an_example_of_its_file() {
    let (mut count, mut missing) = (0, BTreeSet::new());
    for file in files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src")) {
        let source = std::fs::read_to_string(&file).unwrap();
        assert!(
            !source.contains("```no_run") && !source.contains("```ignore"),
            "{}",
            file.display()
        );
        let (examples, names) = of(&source);
        let is_used = |name: &String| {
            ["(", "::<"]
                .iter()
                .any(|next| examples.contains(&format!("{name}{next}")))
        };
        count += names.len();
        let unused = names
            .into_iter()
            .filter(|name| !is_used(name) && !HIDDEN.contains(&&**name));
        missing.extend(unused.map(|name| format!("{}: {name}", file.display())));
    }
    assert!(count > 150, "the sources are read: {count}");
    assert!(missing.is_empty(), "without an example: {missing:#?}");
}

#[test]
fn a_function_without_an_example_is_found() {
    let (examples, names) =
        of("/// Doc.\n///\n/// ```\n/// known(1);\n/// ```\npub fn known() {}\n/// Doc.\n#[inline]\npub fn new() {}");
    assert_eq!(
        (&*examples, names),
        ("known(1);\n", vec!["known".to_owned(), "new".to_owned()])
    );
}
