//! The example `parser_sandbox`: hostile inputs end their own process, and nothing else.

use std::process::Command;

fn sandbox(files: &[&str]) -> Vec<String> {
    let mut program = std::env::current_exe().unwrap();
    program.pop();
    let program = program.with_file_name("examples").join("parser_sandbox");
    assert!(program.exists(), "{} is built with the examples", program.display());
    let output = Command::new(program)
        .args(files)
        .env("RUST_BACKTRACE", "0")
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect()
}

#[test]
fn a_sandbox_survives_hostile_inputs() {
    let lines = sandbox(&[]);
    let expected = [
        ("harmless: 4 items", ""),
        ("unfinished: refused: a list does not end", ""),
        (
            "panic: the parser died: the process panicked at ",
            "no item begins with \"*\"",
        ),
        ("crash: the parser died: the process was ended by signal ", ""),
        ("hang: stopped: it takes more than 2 seconds", ""),
        (
            "memory bomb: the parser died: the process was ended by signal 6 (SIGABRT)",
            "",
        ),
        ("endless output: stopped: it has more than 10000 items", ""),
        ("harmless again: 3 items", ""),
    ];
    assert_eq!(lines.len(), expected.len(), "{lines:#?}");
    for (line, (start, end)) in lines.iter().zip(expected) {
        assert!(line.starts_with(start) && line.ends_with(end), "{line}");
    }
}

#[test]
fn a_sandbox_reads_files() {
    let file = std::env::temp_dir().join(format!("procession-sandbox-{}.txt", std::process::id()));
    std::fs::write(&file, "1 (2 3) four\n").unwrap();
    let name = file.to_str().unwrap();
    assert_eq!(sandbox(&[name]), [format!("{name}: 3 items")]);
    std::fs::remove_file(file).unwrap();
}
