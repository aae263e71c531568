//! How numbers, times and tables are written.

use crate::function;
use procession_core::inspect::{
    Deadlock, DeadlockMember, EndedProcess, FamilySnapshot, ObjectId, PoolWorkerSeen, ProcessSeen, WaitSeen,
};
use procession_core::CreationSite;
use std::io::{self, Write};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Bytes with a unit, in at most seven characters.
pub(crate) fn bytes(number: u64) -> String {
    const UNITS: [&str; 5] = ["B", "K", "M", "G", "T"];
    let (mut value, mut unit) = (number as f64, 0);
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 || value >= 100.0 {
        format!("{value:.0}{}", UNITS[unit])
    } else {
        format!("{value:.1}{}", UNITS[unit])
    }
}

/// A time with a unit.
pub(crate) fn time(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms}ms"),
        1_000..60_000 => format!("{}.{}s", ms / 1000, ms % 1000 / 100),
        60_000..3_600_000 => format!("{}m{:02}s", ms / 60_000, ms / 1000 % 60),
        _ => format!("{}h{:02}m", ms / 3_600_000, ms / 60_000 % 60),
    }
}

/// A time in microseconds, with a unit.
pub(crate) fn micros(micros: u64) -> String {
    match micros {
        0..1_000 => format!("{micros}us"),
        1_000..10_000 => format!("{}.{}ms", micros / 1_000, micros % 1_000 / 100),
        _ => time(micros / 1_000),
    }
}

/// Whether a terminal would obey a character, or show the text around it otherwise than it is: controls, format
/// characters, separators of lines.
pub(crate) fn steers(char: char) -> bool {
    char.is_control()
        || matches!(
            u32::from(char),
            0xad | 0x600..=0x605
                | 0x61c
                | 0x6dd
                | 0x70f
                | 0x890..=0x891
                | 0x8e2
                | 0x180e
                | 0x200b..=0x200f
                | 0x2028..=0x202e
                | 0x2060..=0x206f
                | 0xfeff
                | 0xfff9..=0xfffb
                | 0x110bd
                | 0x110cd
                | 0x13430..=0x1343f
                | 0x1bca0..=0x1bca3
                | 0x1d173..=0x1d17a
                | 0xe0000..=0xe007f
        )
}

/// Text of other processes, without characters that a terminal would obey.
pub(crate) fn clean(text: &str) -> String {
    text.chars().map(|char| if steers(char) { '?' } else { char }).collect()
}

/// A name that the program gave an object: with escapes for characters that a terminal would obey.
pub(crate) fn escaped(name: &str) -> String {
    let mut text = String::new();
    for char in name.chars() {
        if steers(char) {
            text.extend(char.escape_default());
        } else {
            text.push(char);
        }
    }
    text
}

/// An object by its kind, its number and its name, if it has one: `lock 64.1 "db"`.
pub(crate) fn object(kind: &str, id: ObjectId, name: Option<&str>) -> String {
    match name {
        Some(name) => format!("{kind} {id} \"{}\"", escaped(name)),
        None => format!("{kind} {id}"),
    }
}

/// The process that holds the lock that is waited for.
fn holder(wait: &WaitSeen, seen: &FamilySnapshot) -> Option<u32> {
    let lock = seen.locks.iter().find(|lock| Some(lock.id) == wait.object)?;
    lock.holder.as_ref()?.pid
}

/// The operation that waits, and its object: `acquire on lock 64.1`.
fn operation(wait: &WaitSeen, seen: &FamilySnapshot, word: &str) -> String {
    match wait.object {
        Some(id) if !wait.kind.is_empty() => {
            format!("{}{word} {}", wait.operation, object(wait.kind, id, seen.name(id)))
        }
        _ => wait.operation.to_owned(),
    }
}

/// What a thread waits for, short: `lock 64.1 2.0s (4711)`; the number in parentheses is the holder's.
pub(crate) fn short_wait(wait: &WaitSeen, seen: &FamilySnapshot) -> String {
    let (operation, time) = (operation(wait, seen, ""), time(wait.for_ms));
    // There is one way to wait for a lock.
    let operation = operation.strip_prefix("acquire ").unwrap_or(&operation);
    match holder(wait, seen) {
        Some(pid) => format!("{operation} {time} ({pid})"),
        None => format!("{operation} {time}"),
    }
}

/// What a thread waits for: `acquire on lock 64.1, held by 4711, for 2.0s`.
pub(crate) fn wait(wait: &WaitSeen, seen: &FamilySnapshot) -> String {
    let (operation, time) = (operation(wait, seen, " on"), time(wait.for_ms));
    match holder(wait, seen) {
        Some(pid) => format!("{operation}, held by {pid}, for {time}"),
        None => format!("{operation} for {time}"),
    }
}

/// What task of a pool a process runs, and for how long: `task of shop.serve for 2.0s`.
pub(crate) fn task(pid: u32, seen: &FamilySnapshot) -> Option<String> {
    let (worker, for_ms) = worker(pid, seen)?;
    let of = worker.function.as_deref().and_then(function::name);
    let of = of.map_or(String::new(), |name| format!(" of {name}"));
    Some(format!("task{of} for {}", time(for_ms)))
}

/// As [`task`], short: `serve() 2.0s`.
pub(crate) fn short_task(pid: u32, seen: &FamilySnapshot) -> Option<String> {
    let (worker, for_ms) = worker(pid, seen)?;
    let name = worker.function.as_deref().and_then(function::name);
    let name = name.map_or("task".to_owned(), |name| {
        format!("{}()", name.rsplit('.').next().unwrap_or_default())
    });
    Some(format!("{name} {}", time(for_ms)))
}

/// The worker that a process is, and for how long it has run its task.
fn worker(pid: u32, seen: &FamilySnapshot) -> Option<(&PoolWorkerSeen, u64)> {
    let mut workers = seen.pools.iter().flat_map(|pool| &pool.workers);
    let worker = workers.find(|worker| worker.pid == Some(pid))?;
    Some((worker, worker.item_ms?))
}

/// How a process ended.
pub(crate) fn cause(ended: &EndedProcess) -> String {
    match ended.exit_code {
        Some(0) => "exit code 0".to_owned(),
        Some(code) => format!("failed: exit code {code}"),
        None => "killed, or ended without its exit code noted".to_owned(),
    }
}

/// A process by name and identifier.
pub(crate) fn label(process: &ProcessSeen) -> String {
    named(&process.name, process.pid)
}

/// As [`label`], from the parts.
pub(crate) fn named(name: &str, pid: u32) -> String {
    match clean(name).as_str() {
        "" => pid.to_string(),
        name => format!("{name} ({pid})"),
    }
}

/// A lock, its name, and the line that made it: `lock 64.1 "db" (made at /srv/shop.py:16)`.
pub(crate) fn lock(kind: &str, id: ObjectId, name: Option<&str>, made: Option<&CreationSite>) -> String {
    let lock = object(kind, id, name);
    match made {
        Some(made) => format!("{lock} (made at {})", clean(&made.to_string())),
        None => lock,
    }
}

/// What tells people which object it is: the name that the program gave it, or the line that made it.
pub(crate) fn name_or_line(seen: &FamilySnapshot, id: ObjectId) -> String {
    match (seen.name(id), seen.made(id)) {
        (Some(name), _) => escaped(name),
        (None, Some(made)) => clean(&made.to_string()),
        (None, None) => "-".to_owned(),
    }
}

/// A thread: by its process if it is the process's first one.
fn thread(member: &DeadlockMember) -> String {
    let process = named(&member.name, member.pid);
    if member.thread == member.pid {
        process
    } else {
        format!("thread {} of {process}", member.thread)
    }
}

/// A sentence for each member of a deadlock: what waits for what, held by which thread. A thread that waits has held
/// its locks since before it began to wait.
pub(crate) fn deadlock(deadlock: &Deadlock) -> Vec<String> {
    let members = &deadlock.members;
    let sentence = |(member, next): (&DeadlockMember, &DeadlockMember)| {
        let waited = format!("{} has waited {} for", thread(member), time(member.for_ms));
        match awaited(member) {
            None => format!("{waited} the end of {}", named(&next.name, next.pid)),
            Some(lock) => format!(
                "{waited} {lock}, held by {} for at least {}",
                thread(next),
                time(next.for_ms)
            ),
        }
    };
    members
        .iter()
        .zip(members.iter().cycle().skip(1))
        .map(sentence)
        .collect()
}

/// As [`deadlock`], short: what holds what, and what waits for it.
pub(crate) fn short_deadlock(deadlock: &Deadlock) -> Vec<String> {
    let members = &deadlock.members;
    let phrase = |(member, next): (&DeadlockMember, &DeadlockMember)| {
        let waits = format!("{} waits {}", thread(member), time(member.for_ms));
        match member.lock {
            None => format!("{waits} for the end of {}", named(&next.name, next.pid)),
            Some(id) => format!(
                "{} holds {}; {waits}",
                thread(next),
                object(member.kind, id, member.lock_name.as_deref())
            ),
        }
    };
    members.iter().zip(members.iter().cycle().skip(1)).map(phrase).collect()
}

/// What is said of a thread that waits for its own lock.
pub(crate) fn own_lock(member: &DeadlockMember) -> String {
    format!(
        "{} has waited {} for {}, which it holds itself; it goes on only if another thread or process releases it",
        thread(member),
        time(member.for_ms),
        awaited(member).unwrap_or_default(),
    )
}

/// The lock that a thread waits for, if it is one.
fn awaited(member: &DeadlockMember) -> Option<String> {
    let (name, made) = (member.lock_name.as_deref(), member.made.as_ref());
    member.lock.map(|id| lock(member.kind, id, name, made))
}

/// How many process identifiers are listed.
const MOST_PIDS: usize = 20;

/// Process identifiers, or a dash.
pub(crate) fn pids(pids: &[u32]) -> String {
    if pids.is_empty() {
        return "-".to_owned();
    }
    let texts: Vec<String> = pids.iter().take(MOST_PIDS).map(ToString::to_string).collect();
    match pids.len().saturating_sub(MOST_PIDS) {
        0 => texts.join(" "),
        more => format!("{} and {more} more", texts.join(" ")),
    }
}

/// The longest cell of a table, in columns of the terminal. The rest of a longer one is left out, with a mark.
const MOST_COLUMNS: usize = 200;
/// The most characters of a cell. Characters that combine with others take no column.
const MOST_CHARS: usize = 1000;

fn cut(cell: &str) -> String {
    let mut columns = 0;
    for (number, (end, char)) in cell.char_indices().enumerate() {
        columns += char.width().unwrap_or(0);
        if columns > MOST_COLUMNS || number == MOST_CHARS {
            return format!("{}...", &cell[..end]);
        }
    }
    cell.to_owned()
}

/// Write a table, with columns as wide as their widest cell: a character of Chinese or an emoji takes two, and one that
/// combines with the one before it none.
pub(crate) fn table(out: &mut dyn Write, head: &[&str], rows: &[Vec<String>]) -> io::Result<()> {
    let head: Vec<String> = head.iter().map(|&name| name.to_owned()).collect();
    let rows = rows.iter().map(|row| row.iter().map(|cell| cut(cell)).collect());
    let lines: Vec<Vec<String>> = std::iter::once(head).chain(rows).collect();
    let length = |cell: &String| cell.width();
    let width = |at| lines.iter().filter_map(|line| line.get(at)).map(length).max();
    let widths: Vec<usize> = (0..lines[0].len()).map(|at| width(at).unwrap_or(0)).collect();
    for line in &lines {
        let mut text = String::new();
        for (cell, width) in line.iter().zip(&widths) {
            text.push_str("  ");
            text.push_str(cell);
            text.extend(std::iter::repeat_n(' ', width.saturating_sub(length(cell))));
        }
        writeln!(out, "{}", text.trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        assert_eq!(bytes(0), "0B");
        assert_eq!(bytes(1023), "1.0K");
        assert_eq!(bytes(5 << 20), "5.0M");
        assert_eq!(bytes(u64::MAX), "16777216T");
        assert_eq!(time(999), "999ms");
        assert_eq!(time(61_000), "1m01s");
        assert_eq!(time(7_260_000), "2h01m");
        assert_eq!(
            [900, 1_900, 90_000, 2_000_000].map(micros),
            ["900us", "1.9ms", "90ms", "2.0s"]
        );
    }

    #[test]
    fn a_name_cannot_steer_the_terminal() {
        assert_eq!(clean("a\x1b[2Jb\n"), "a?[2Jb?");
        assert_eq!(clean("\u{202e}a\u{2028}\u{200b}\u{9b}é字"), "?a???é字");
    }

    #[test]
    fn columns_are_aligned() {
        let mut out = Vec::new();
        table(
            &mut out,
            &["pid", "name"],
            &[vec!["1".into(), "a".into()], vec!["12345".into(), "é".into()]],
        )
        .unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "  pid    name\n  1      a\n  12345  é\n"
        );
    }

    #[test]
    fn columns_are_aligned_beside_wide_and_combining_characters() {
        let mut out = Vec::new();
        let rows =
            ["\u{5b57}\u{5b57}", "e\u{301}a", "\u{1f600}", "abcd"].map(|name| vec![name.to_owned(), "1".to_owned()]);
        table(&mut out, &["name", "n"], &rows).unwrap();
        let text = String::from_utf8(out).unwrap();
        let ends: Vec<_> = text.lines().map(|line| (line.width(), line.chars().last())).collect();
        assert_eq!(ends[1..], [(9, Some('1')); 4]);
        let mut out = Vec::new();
        table(
            &mut out,
            &["a"],
            &[
                vec!["\u{5b57}".repeat(500)],
                vec!["e".to_owned() + &"\u{301}".repeat(5_000)],
            ],
        )
        .unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains(&format!("  {}...\n", "\u{5b57}".repeat(100))));
        assert!(text
            .lines()
            .all(|line| line.width() <= 205 && line.chars().count() < 1_010));
    }

    #[test]
    fn long_cells_are_cut() {
        let mut out = Vec::new();
        let rows = [
            vec!["é".repeat(70_000), "1".into()],
            vec!["2".into(), "y".repeat(70_000)],
        ];
        table(&mut out, &["a", "b"], &rows).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.lines().all(|line| line.chars().count() <= 2 * (2 + 203)));
        assert!(text.contains(&format!("  {}...  1\n", "é".repeat(200))));
        let many: Vec<u32> = (1..=10_000).collect();
        assert!(pids(&many).ends_with("19 20 and 9980 more"));
        assert_eq!(pids(&many[..20]).split(' ').count(), 20);
    }
}
