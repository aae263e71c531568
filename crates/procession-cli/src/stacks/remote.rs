//! Stacks by `sys.remote_exec` of Python 3.14 and later.
//!
//! The interpreter's own program makes the request, because it must be of the same version. It asks the process to run a
//! script, which writes the stacks into a folder that only this user may enter. A process that does not answer in time,
//! because its first thread runs no Python code and handles no signals, may do so later: then its script stays in the
//! folder until it is run, since Python would complain in the program's output if it were not there.

use super::{output, Frame, Stacks, Thread};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const SCRIPT: &str = include_str!("stacks.py");
/// Makes the request. Exit code 3: this Python has no such function.
const REQUEST: &str = "import sys
if not hasattr(sys, 'remote_exec'): sys.exit('Python 3.14 or later is needed')
sys.remote_exec(int(sys.argv[1]), sys.argv[2])";
/// How long one request may take, and then all processes together until they answer. Those that wait for something of
/// procession are awake every second.
const PATIENCE: Duration = Duration::from_secs(5);
const ANSWERS: Duration = Duration::from_secs(3);

/// A folder that nobody else may enter.
struct Folder(PathBuf);

impl Folder {
    fn make() -> Result<Self, String> {
        let mut random = [0; 8];
        rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())
            .map_err(|error| error.to_string())?;
        let name = format!("procession-stacks-{:016x}", u64::from_le_bytes(random));
        let path = std::env::temp_dir().join(name);
        let made = fs::DirBuilder::new().mode(0o700).create(&path);
        made.map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // It stays if a script is in it that was not run.
        let _ = fs::remove_dir(&self.0);
    }
}

pub(super) fn stacks(pids: &[u32]) -> Vec<Stacks> {
    let folder = match Folder::make() {
        Ok(folder) => folder,
        Err(error) => return vec![Err(error); pids.len()],
    };
    // All requests come first: the processes answer at the same time.
    let asked: Vec<Result<PathBuf, String>> = pids.iter().map(|&pid| ask(&folder.0, pid)).collect();
    let end = Instant::now() + ANSWERS;
    asked.into_iter().map(|asked| answer(&asked?, end)).collect()
}

/// Ask a process. Returns where its answer will be.
fn ask(folder: &Path, pid: u32) -> Result<PathBuf, String> {
    let why = |error: std::io::Error| error.to_string();
    let interpreter = fs::read_link(format!("/proc/{pid}/exe")).map_err(why)?;
    let name = interpreter.file_name().unwrap_or_default().to_string_lossy();
    if !name.starts_with("python") {
        return Err("it is no Python process, as far as that can be seen without py-spy".to_owned());
    }
    // Another user's program is not run, least of all by root.
    let owner = fs::metadata(format!("/proc/{pid}")).map_err(why)?.uid();
    if owner != rustix::process::geteuid().as_raw() {
        return Err("it belongs to another user; py-spy is not installed".to_owned());
    }
    let (script, answer) = (folder.join(format!("{pid}.py")), folder.join(pid.to_string()));
    let literal = |path: &Path| path.to_str().map(|path| format!("{path:?}"));
    let (Some(script_text), Some(answer_text)) = (literal(&script), literal(&answer)) else {
        return Err("the folder for temporary files has a name that is not UTF-8".to_owned());
    };
    let code = format!("{SCRIPT}\n\nwrite({script_text}, {answer_text})\n");
    fs::write(&script, code).map_err(why)?;
    let pid = pid.to_string();
    let words: [&OsStr; 6] = [
        "-I".as_ref(),
        "-S".as_ref(),
        "-c".as_ref(),
        REQUEST.as_ref(),
        pid.as_ref(),
        script.as_os_str(),
    ];
    let asked = output(interpreter.as_os_str(), &words, PATIENCE);
    asked.map(|_| answer).map_err(|error| {
        // It was not asked, so it will not look for the script.
        let _ = fs::remove_file(&script);
        format!("py-spy is not installed, and Python itself: {error}")
    })
}

fn answer(path: &Path, end: Instant) -> Stacks {
    loop {
        if let Ok(text) = fs::read_to_string(path) {
            let _ = fs::remove_file(path);
            return parse(&text).ok_or_else(|| "its answer is not understood".to_owned());
        }
        if Instant::now() >= end {
            let script = path.with_extension("py");
            return Err(format!("it has not answered; {} stays until it has", script.display()));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn parse(text: &str) -> Option<Vec<Thread>> {
    let mut threads: Vec<Thread> = Vec::new();
    for line in text.lines() {
        match line.split('\t').collect::<Vec<_>>()[..] {
            ["thread", id, name] => threads.push(Thread {
                id: id.parse().ok().filter(|&id| id != 0),
                name: name.to_owned(),
                frames: Vec::new(),
            }),
            ["frame", line, function, file] => threads.last_mut()?.frames.push(Frame {
                function: function.to_owned(),
                file: file.to_owned(),
                line: line.parse().ok()?,
            }),
            _ => return None,
        }
    }
    Some(threads)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_threads_and_frames() {
        let threads = parse("thread\t7\tMainThread\nframe\t12\tserve\t/srv/shop.py\nthread\t0\t\n").unwrap();
        assert_eq!((threads[0].id, &*threads[0].frames[0].function), (Some(7), "serve"));
        assert_eq!((threads[1].id, threads[1].frames.len()), (None, 0));
        assert_eq!(parse("frame\t12\tserve\t/srv/shop.py\n"), None);
        assert_eq!(parse("anything"), None);
    }

    #[test]
    fn what_is_no_python_process_is_not_asked() {
        let [Err(reason)] = &stacks(&[std::process::id()])[..] else {
            panic!("this is a Rust program");
        };
        assert!(reason.contains("no Python process"), "{reason}");
        assert!(stacks(&[u32::MAX])[0].is_err());
    }
}
