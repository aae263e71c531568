//! The example `parser_sandbox`: hostile inputs end their own process, and nothing else.

use std::path::PathBuf;
use std::process::Command;

/// The lines that it writes about these files, or about its own inputs, if each has so much time.
fn sandbox(files: &[PathBuf], seconds: u64) -> Vec<String> {
    let mut program = std::env::current_exe().unwrap();
    program.pop();
    let program = program.with_file_name("examples").join("parser_sandbox");
    assert!(program.exists(), "{} is built with the examples", program.display());
    let output = Command::new(program)
        .args(files)
        .env("SANDBOX_SECONDS", seconds.to_string())
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

/// Far more than any input but a hang needs.
const ENOUGH: u64 = 300;

#[test]
fn a_sandbox_tells_what_became_of_each_input() {
    let deep = "(".repeat(5200) + &")".repeat(5200);
    let (crash, word) = ("(".repeat(1_000_000), "x".repeat(1001));
    // An input, and the begin and the end of what is said about it.
    let expected = [
        ("(add 1 2) 3*x ; and a comment\n", "8 tokens", ""),
        ("(add 1", "refused: a list does not end", ""),
        (
            "(a *b)",
            "the parser died: the process panicked at ",
            "no item begins with \"*\"",
        ),
        (&crash, "the parser died: the process was ended by signal ", ""),
        (&deep, "", ""), // as the parser's stack allows: the sandbox survives it
        (&word, "stopped: a word has more than 1000 bytes", ""),
        (
            "(999999999*(x))",
            "the parser died: the process was ended by signal 6 (SIGABRT)",
            "",
        ),
        ("9999999999*(x)", "stopped: it has more than 10000 tokens", ""),
        ("1 (2 3) four\n", "6 tokens", ""),
    ];
    let directory = std::env::temp_dir().join(format!("procession-sandbox-{}", std::process::id()));
    std::fs::create_dir(&directory).unwrap();
    let files: Vec<PathBuf> = (0..expected.len()).map(|n| directory.join(n.to_string())).collect();
    for (file, (input, ..)) in files.iter().zip(&expected) {
        std::fs::write(file, input).unwrap();
    }
    let lines = sandbox(&files, ENOUGH);
    std::fs::remove_dir_all(directory).unwrap();
    assert_eq!(lines.len(), expected.len(), "{lines:#?}");
    for ((line, file), (_, start, end)) in lines.iter().zip(&files).zip(expected) {
        let said = line.strip_prefix(&format!("{}: ", file.display())).unwrap();
        assert!(said.starts_with(start) && said.ends_with(end), "{line}");
    }
}

#[test]
fn a_sandbox_survives_its_own_inputs() {
    let lines = sandbox(&[], 1);
    let expected = [
        "harmless",
        "unfinished",
        "panic",
        "crash",
        "deep",
        "long word",
        "hang: stopped: it takes more than 1 s",
        "memory bomb",
        "endless output",
        "harmless again",
    ];
    assert_eq!(lines.len(), expected.len(), "{lines:#?}");
    // What else is said depends on how fast this machine is just now.
    for (line, start) in lines.iter().zip(expected) {
        assert!(line.starts_with(start), "{line}");
    }
}
