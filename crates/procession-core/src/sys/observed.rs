//! What `/proc` shows of any process of this user: state, parent, times, memory, program. Reads files only.

use rustix::io::Errno;
use std::{fs, io};

/// What a process's `stat` file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Observed {
    /// The kernel's letter for the state of its first thread.
    pub state: char,
    /// The kernel's parent of it.
    pub parent: u32,
    /// When it started, in clock ticks since boot.
    pub start: u64,
    /// Processor time of all its threads, in clock ticks.
    pub cpu: u64,
    pub threads: u32,
}

/// Look at process `pid`. `None`: there is no such process. An error says nothing of the process: the observer itself
/// may have no descriptor or memory left.
pub(crate) fn observe(pid: u32) -> io::Result<Option<Observed>> {
    match fs::read(format!("/proc/{pid}/stat")) {
        Ok(stat) => Ok(parse(&stat)),
        Err(error) => {
            let is_gone = matches!(
                Errno::from_io_error(&error),
                Some(Errno::NOENT | Errno::SRCH | Errno::ACCESS | Errno::PERM)
            );
            is_gone.then_some(None).ok_or(error)
        }
    }
}

fn parse(stat: &[u8]) -> Option<Observed> {
    // The command name may hold blanks and parentheses.
    let behind = stat.iter().rposition(|&byte| byte == b')')? + 1;
    let text = std::str::from_utf8(&stat[behind..]).ok()?;
    let fields: Vec<&str> = text.split_ascii_whitespace().collect();
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    Some(Observed {
        state: fields.first()?.chars().next()?,
        parent: number(4)? as u32,
        start: number(22)?,
        cpu: number(14)?.saturating_add(number(15)?),
        threads: number(20)? as u32,
    })
}

/// Resident bytes of process `pid`: anonymous ones, which are its own or inherited by fork, and those of shared memory.
pub(crate) fn resident(pid: u32) -> Option<(u64, u64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_ascii_whitespace().next()?.parse::<u64>().ok()
    };
    Some((field("RssAnon:")? * 1024, field("RssShmem:")? * 1024))
}

/// The user whose process `pid` is.
pub(crate) fn user(pid: u32) -> Option<u32> {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(format!("/proc/{pid}")).ok().map(|found| found.uid())
}

/// All processes that `/proc` shows.
pub(crate) fn pids() -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

/// The name of the program that process `pid` runs: of its file, and for an interpreter also of the script or module. No
/// other argument, and no folder.
pub(crate) fn program(pid: u32) -> Option<String> {
    let text = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let arguments: Vec<String> = text
        .split(|&byte| byte == 0)
        .map(|argument| String::from_utf8_lossy(argument).into_owned())
        .collect();
    Some(name_of(&arguments)).filter(|name| !name.is_empty())
}

fn last_part(path: &str) -> &str {
    path.trim_end_matches('/').rsplit('/').next().unwrap_or(path)
}

/// Whether a program's name is an interpreter's: `python`, `python3.13t`, `pypy3`.
fn is_interpreter(program: &str) -> bool {
    let version = program.strip_prefix("python").or_else(|| program.strip_prefix("pypy"));
    version.is_some_and(|version| {
        version
            .chars()
            .all(|char| char.is_ascii_digit() || ".tdwm".contains(char))
    })
}

/// What an interpreter's option says about the words behind it.
enum Interpreted {
    /// Nothing: the next word is an option or the script.
    More,
    /// The next word is this option's value.
    ValueFollows,
    /// The program is code.
    Code,
    /// The program is a module: of this name, or of the next word's.
    Module(Option<String>),
    /// No option that is known: what the further words mean is not known either.
    Unknown,
}

fn interpreted(option: &str) -> Interpreted {
    if option == "--check-hash-based-pycs" {
        return Interpreted::ValueFollows;
    }
    let mut letters = option.chars();
    letters.next();
    while let Some(letter) = letters.next() {
        let value = letters.as_str();
        match letter {
            'c' => return Interpreted::Code,
            'm' => return Interpreted::Module((!value.is_empty()).then(|| value.to_owned())),
            'W' | 'X' if value.is_empty() => return Interpreted::ValueFollows,
            'W' | 'X' => return Interpreted::More,
            'B' | 'E' | 'I' | 'O' | 'P' | 'R' | 'S' | 'b' | 'd' | 'i' | 'q' | 's' | 'u' | 'v' | 'x' => {}
            _ => return Interpreted::Unknown,
        }
    }
    Interpreted::More
}

/// Code and arguments may hold what nobody else may read: a word is shown only if it is known to name a program.
fn name_of(arguments: &[String]) -> String {
    let mut rest = arguments.iter().map(String::as_str);
    // A program may have written its title, with arguments in it, over its first word.
    let first = rest.next().unwrap_or_default();
    let program = last_part(first.split_whitespace().next().unwrap_or_default()).to_owned();
    if !is_interpreter(&program) {
        return program;
    }
    let mut script = rest.next();
    while let Some(word) = script.filter(|word| word.starts_with('-') && word.len() > 1) {
        if word == "--" {
            script = rest.next();
            break;
        }
        match interpreted(word) {
            Interpreted::More => {}
            Interpreted::ValueFollows => drop(rest.next()),
            Interpreted::Code => return format!("{program} -c"),
            Interpreted::Module(name) => {
                let name = name.unwrap_or_else(|| rest.next().unwrap_or_default().to_owned());
                return format!("{program} -m {name}");
            }
            Interpreted::Unknown => return program,
        }
        script = rest.next();
    }
    match script {
        None | Some("" | "-") => program,
        Some(script) => format!("{program} {}", last_part(script)),
    }
}

/// Clock ticks in a second.
pub(crate) fn ticks_per_second() -> u64 {
    rustix::param::clock_ticks_per_second().max(1)
}

/// Clock ticks since boot, as start times count.
pub(crate) fn ticks_now() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let part = now.tv_nsec as u64 * ticks_per_second() / 1_000_000_000;
    now.tv_sec as u64 * ticks_per_second() + part
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_line_is_read_behind_any_name() {
        let line = b"12 (a) S (b) T 7 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 3 18 777 20\n";
        let expected = Observed {
            state: 'T',
            parent: 7,
            start: 777,
            cpu: 23,
            threads: 3,
        };
        assert_eq!(parse(line), Some(expected));
        assert_eq!(parse(b"12 (a"), None);
        assert_eq!(parse(b"12 (a) S 1"), None);
    }

    #[test]
    fn this_process_is_observed() {
        let me = std::process::id();
        let seen = observe(me).unwrap().unwrap();
        assert!(seen.threads >= 1 && seen.start <= ticks_now());
        assert!(resident(me).unwrap().0 > 0);
        assert!(pids().contains(&me));
        assert_eq!(observe(u32::MAX).unwrap(), None);
    }

    #[test]
    fn a_program_has_its_scripts_name_and_no_argument() {
        let name = |text: &str| name_of(&text.split(' ').map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(
            name("/usr/bin/python3.11 -O -X dev /srv/job.py --key secret"),
            "python3.11 job.py"
        );
        assert_eq!(name("python -m shop.run --key secret"), "python -m shop.run");
        assert_eq!(name("python -c print('secret')"), "python -c");
        assert_eq!(name("python"), "python");
        assert_eq!(name("/opt/server --key secret"), "server");
        assert_eq!(name("python -- /srv/job.py secret"), "python job.py");
        assert_eq!(name("python -uW ignore -bXdev job.py secret"), "python job.py");
        assert_eq!(name("python --check-hash-based-pycs always job.py"), "python job.py");
    }

    #[test]
    fn code_and_arguments_are_no_program() {
        let name = |words: &[&str]| name_of(&words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>());
        for words in [
            &["python", "-uc", "secret", "secret"][..],
            &["python", "-Icsecret", "secret"],
            &["python", "-c", "secret"],
            &["python", "-W", "ignore", "-Bc", "secret"],
        ] {
            assert_eq!(name(words), "python -c", "{words:?}");
        }
        for words in [
            &["python", "-", "--token", "secret"][..],
            &["python", "-i", "-", "secret"],
            &["python", "", "secret"],
            &["python", "--", "-", "secret"],
            &["python", "--jit", "secret"],
            &["python", "-Z", "secret"],
            &["python --key secret"],
        ] {
            assert_eq!(name(words), "python", "{words:?}");
        }
        assert_eq!(name(&["python", "-mmod", "secret"]), "python -m mod");
        assert_eq!(name(&["python", "-um", "mod", "secret"]), "python -m mod");
        assert_eq!(name(&["worker --password=a/b", "secret"]), "worker");
        assert_eq!(name(&["python-tool", "secret"]), "python-tool");
        assert_eq!(name(&[]), "");
    }
}
