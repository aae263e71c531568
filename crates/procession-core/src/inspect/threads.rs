//! Which thread of a process an announced wait is of. The process table does not say; the kernel does.

use super::snapshot::WaitSeen;
use std::collections::HashMap;
use std::fs;

/// How the names of the engine's own threads begin. They hold and await no lock of the program's.
const HELPER: &str = "procession-";
/// How many threads of a process are looked at.
const MOST_THREADS: usize = 4096;

/// A wait, and the place in the arena of the word that its thread sleeps on.
pub(super) type Asked<'a> = (&'a mut WaitSeen, u64);

/// Enter the threads of those waits of process `pid` that are for a lock and have no timeout. `count` is its number of
/// threads, `arena` the inode of the arena's file.
///
/// Of a process with one thread of its own this is that thread. Of others, the kernel shows on which word each thread
/// sleeps, to an observer that might trace the process; without that right, the thread stays unknown.
pub(super) fn find(pid: u32, count: u32, arena: u64, asked: &mut [Asked<'_>]) {
    let endless = asked.iter().filter(|(wait, _)| wait.endless).count();
    if !asked.iter().any(|(wait, _)| is_asked_for(wait)) {
        return;
    }
    let own = if count == 1 { vec![pid] } else { own_threads(pid) };
    if let ([thread], 1) = (&own[..], endless) {
        for (wait, _) in asked.iter_mut().filter(|(wait, _)| is_asked_for(wait)) {
            wait.thread = Some(*thread);
        }
        return;
    }
    let mut asleep = sleepers(pid, arena, &own);
    for place in places(asked) {
        let mut waits: Vec<_> = asked.iter_mut().filter(|(_, at)| *at == place).collect();
        let threads = asleep.remove(&place).unwrap_or_default();
        // Waits for the same word differ in nothing but their thread. A thread too few or too many is one that is awake
        // just now: it is not known which.
        if waits.len() == threads.len() && waits.iter().all(|(wait, _)| is_asked_for(wait)) {
            for ((wait, _), thread) in waits.iter_mut().zip(threads) {
                wait.thread = Some(thread);
            }
        }
    }
}

fn is_asked_for(wait: &WaitSeen) -> bool {
    wait.endless && super::deadlock::is_for_lock(wait)
}

fn places(asked: &[Asked<'_>]) -> Vec<u64> {
    let mut places: Vec<u64> = asked.iter().map(|(_, place)| *place).collect();
    places.sort_unstable();
    places.dedup();
    places
}

/// The threads of a process that are not the engine's own.
fn own_threads(pid: u32) -> Vec<u32> {
    let entries = fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten();
    let threads = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let is_own = |thread: &u32| {
        let name = fs::read(format!("/proc/{pid}/task/{thread}/comm"));
        name.is_ok_and(|name| !name.starts_with(HELPER.as_bytes()))
    };
    let mut own: Vec<u32> = threads.filter(is_own).take(MOST_THREADS).collect();
    own.sort_unstable();
    own
}

/// The threads that sleep in a futex, by the place in the arena of its word.
fn sleepers(pid: u32, arena: u64, threads: &[u32]) -> HashMap<u64, Vec<u32>> {
    let mut asleep: HashMap<u64, Vec<u32>> = HashMap::new();
    let Ok(maps) = fs::read_to_string(format!("/proc/{pid}/maps")) else {
        return asleep;
    };
    let windows: Vec<Window> = maps.lines().filter_map(|line| Window::parse(line, arena)).collect();
    for &thread in threads {
        let Ok(text) = fs::read_to_string(format!("/proc/{pid}/task/{thread}/syscall")) else {
            continue;
        };
        let address = futex_of(&text);
        if let Some(place) = address.and_then(|address| windows.iter().find_map(|window| window.place(address))) {
            asleep.entry(place).or_default().push(thread);
        }
    }
    asleep
}

/// Where a part of the arena is mapped.
struct Window {
    begin: u64,
    end: u64,
    place: u64,
}

impl Window {
    /// A line of `maps`, if it is of the file with this inode.
    fn parse(line: &str, inode: u64) -> Option<Self> {
        let mut fields = line.split_ascii_whitespace();
        let (begin, end) = fields.next()?.split_once('-')?;
        let place = fields.nth(1)?;
        let is_arena = fields.nth(1)?.parse() == Ok(inode) && fields.next()?.starts_with("/memfd:procession");
        let hex = |text| u64::from_str_radix(text, 16).ok();
        is_arena.then_some(())?;
        Some(Self {
            begin: hex(begin)?,
            end: hex(end)?,
            place: hex(place)?,
        })
    }

    fn place(&self, address: u64) -> Option<u64> {
        (self.begin..self.end)
            .contains(&address)
            .then(|| self.place + (address - self.begin))
    }
}

/// The address of the futex that a thread sleeps in, by its `syscall` file: number and arguments of the call.
fn futex_of(text: &str) -> Option<u64> {
    let mut fields = text.split_ascii_whitespace();
    let is_futex = fields.next()?.parse() == Ok(libc::SYS_futex);
    let address = fields.next()?.strip_prefix("0x")?;
    is_futex.then(|| u64::from_str_radix(address, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_a_mapping_of_the_arena() {
        let line = "7f0000400000-7f0000800000 rw-s 00400000 00:01 77       /memfd:procession (deleted)";
        let window = Window::parse(line, 77).unwrap();
        assert_eq!(window.place(0x7f00_0040_0010), Some(0x40_0010));
        assert_eq!(window.place(0x7f00_0080_0000), None);
        assert!(Window::parse(line, 78).is_none());
        assert!(Window::parse("7f00-7f01 rw-p 00000000 00:00 0", 0).is_none());
        assert!(Window::parse("", 0).is_none());
    }

    #[test]
    fn only_a_futex_has_an_address() {
        let futex = format!("{} 0x7f10 0x80 0x2 0x0 0x0 0xffffffff 0x7ffc 0x7f7\n", libc::SYS_futex);
        assert_eq!(futex_of(&futex), Some(0x7f10));
        assert_eq!(futex_of("running\n"), None);
        assert_eq!(futex_of("0 0x3 0x7fe6 0x20000\n"), None);
        assert_eq!(futex_of(""), None);
    }
}
