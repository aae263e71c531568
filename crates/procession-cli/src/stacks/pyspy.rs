//! Stacks by py-spy. It reads the memory of a process, and does not stop it.

use super::{output, Frame, Stacks, Thread};
use serde_json::Value;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long it may take for one process.
const PATIENCE: Duration = Duration::from_secs(10);

/// The program: beside the interpreter that runs this command, as in a virtual environment, or on the path.
pub(super) fn find() -> Option<PathBuf> {
    let words = std::fs::read("/proc/self/cmdline").unwrap_or_default();
    let own = words.split(|&byte| byte == 0).next().map(OsStr::from_bytes);
    let beside = own.and_then(|own| Path::new(own).parent()).map(Path::to_owned);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = beside.into_iter().chain(std::env::split_paths(&path));
    // A relative one would be another program's in another folder.
    let mut programs = folders
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join("py-spy"));
    programs.find(|program| program.is_file())
}

pub(super) fn stacks(program: &Path, pid: u32) -> Stacks {
    let pid = pid.to_string();
    let words = ["dump", "--nonblocking", "--json", "--pid", &pid].map(OsStr::new);
    let out = output(program.as_os_str(), &words, PATIENCE).map_err(|error| format!("py-spy: {error}"))?;
    parse(&out).ok_or_else(|| "py-spy: its answer is not understood".to_owned())
}

fn parse(out: &[u8]) -> Option<Vec<Thread>> {
    let value: Value = serde_json::from_slice(out).ok()?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let frame = |frame: &Value| Frame {
        function: text(&frame["name"]),
        file: text(&frame["filename"]),
        line: frame["line"].as_u64().unwrap_or(0),
    };
    let thread = |thread: &Value| {
        let frames = thread["frames"].as_array()?;
        Some(Thread {
            id: thread["os_thread_id"].as_u64(),
            name: text(&thread["thread_name"]),
            frames: frames.iter().map(frame).collect(),
        })
    };
    value.as_array()?.iter().map(thread).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_without_the_values_that_it_may_have() {
        let answer = br#"[{"pid": 7, "thread_id": 1, "thread_name": "MainThread", "os_thread_id": 7, "active": true,
            "frames": [{"name": "serve", "filename": "/srv/shop.py", "line": 12, "locals": [{"repr": "secret"}]}]}]"#;
        let threads = parse(answer).unwrap();
        assert_eq!(threads[0].id, Some(7));
        assert_eq!(threads[0].name, "MainThread");
        assert!(!format!("{threads:?}").contains("secret"));
        assert_eq!(threads[0].frames[0].line, 12);
        assert_eq!(parse(b"[]"), Some(Vec::new()));
        assert_eq!(parse(b"[{}]"), None);
        assert_eq!(parse(b"no"), None);
    }
}
