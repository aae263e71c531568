//! Which thread of a process an announced wait is of. The process table does not say; the kernel does.

use super::snapshot::WaitSeen;
use crate::liveness::seen::MOST_WAITS;
use std::collections::HashMap;
use std::fs;

/// The names of the engine's own threads, as the kernel cuts them. They hold and await no lock of the program's.
const HELPERS: [&str; 3] = ["procession-fds", "procession-read", "procession-watc"];
/// How many threads of a process are looked at.
const MOST_THREADS: usize = 4096;

/// A wait, and the place in the arena of the word that its thread sleeps on.
pub(super) type Asked<'a> = (&'a mut WaitSeen, u64);

/// A process, as its entry of the process table and the kernel's `stat` file have it.
pub(super) struct Process {
    pub pid: u32,
    /// Number of its threads.
    pub threads: u32,
    /// How many of the engine's own threads it had when it last began to wait.
    pub helpers: usize,
}

/// Enter the threads of those waits of a process that are for a lock and have no timeout. `arena` is the inode of the
/// arena's file.
///
/// Of a process with one thread of its own this is that thread. Of others, the kernel shows on which word each thread
/// sleeps, to an observer that might trace the process; without that right, the thread stays unknown. If all places for
/// waits are taken, there may be waits that are not announced, and all threads stay unknown.
///
/// Which of several waits of a process for one word is whose is not known: their threads may be interchanged.
pub(super) fn find(process: &Process, arena: u64, asked: &mut [Asked<'_>]) {
    if !asked.iter().any(|(wait, _)| is_asked_for(wait)) || asked.len() >= MOST_WAITS {
        return;
    }
    let pid = process.pid;
    let threads = if process.threads == 1 { vec![pid] } else { threads(pid) };
    let endless = asked.iter().filter(|(wait, _)| wait.endless).count();
    if let (Some(thread), 1) = (
        only_own(pid, &threads, process.helpers, |thread| name(pid, thread)),
        endless,
    ) {
        for (wait, _) in asked.iter_mut().filter(|(wait, _)| is_asked_for(wait)) {
            wait.thread = Some(thread);
        }
        return;
    }
    let mut asleep = sleepers(pid, arena, &threads);
    for place in places(asked) {
        let mut waits: Vec<_> = asked.iter_mut().filter(|(_, at)| *at == place).collect();
        let threads = asleep.remove(&place).unwrap_or_default();
        // A thread too few or too many is one that is awake just now: it is not known which.
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

/// The threads of a process.
fn threads(pid: u32) -> Vec<u32> {
    let entries = fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten();
    let threads = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut threads: Vec<u32> = threads.take(MOST_THREADS).collect();
    threads.sort_unstable();
    threads
}

/// The kernel's name of a thread.
fn name(pid: u32, thread: u32) -> String {
    let name = fs::read(format!("/proc/{pid}/task/{thread}/comm")).unwrap_or_default();
    String::from_utf8_lossy(&name).trim_end_matches('\n').to_owned()
}

/// The only thread of a process that is not the engine's. The first thread never is the engine's. Others are by their
/// names; but a program may name its threads as it likes, so the process must have counted as many itself.
fn only_own(pid: u32, threads: &[u32], helpers: usize, name: impl Fn(u32) -> String) -> Option<u32> {
    // Names are not read in vain.
    if threads.len() != helpers.checked_add(1)? {
        return None;
    }
    let is_helper = |&thread: &u32| thread != pid && HELPERS.contains(&&*name(thread));
    let own: Vec<u32> = threads.iter().copied().filter(|thread| !is_helper(thread)).collect();
    let [own] = own[..] else { return None };
    Some(own)
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
    fn only_the_engines_own_threads_are_left_out() {
        let own = |helpers, names: &[(u32, &'static str)]| {
            let threads: Vec<u32> = names.iter().map(|&(thread, _)| thread).collect();
            only_own(7, &threads, helpers, |thread| {
                names.iter().find(|one| one.0 == thread).unwrap().1.to_owned()
            })
        };
        assert_eq!(own(0, &[(7, "procession-shop")]), Some(7));
        assert_eq!(own(0, &[(7, "procession-shop"), (8, "worker")]), None);
        assert_eq!(own(1, &[(7, "procession-fds"), (8, "worker")]), None);
        assert_eq!(own(1, &[(7, "procession-fds"), (8, "procession-read")]), Some(7));
        assert_eq!(own(1, &[(7, "python"), (8, "procession-shop")]), None);
        let named_alike = [(7, "python"), (8, "procession-watc"), (9, "procession-fds")];
        assert_eq!(own(2, &named_alike), Some(7));
        assert_eq!(own(1, &named_alike), None, "one of them is the program's");
    }

    #[test]
    fn names_are_as_the_kernel_cuts_them() {
        let (tell, told) = std::sync::mpsc::channel();
        for full in ["procession-fds", "procession-ready", "procession-watch"] {
            let tell = tell.clone();
            let helper = crate::sys::threads::helper(full, move || {
                // SAFETY: it has no arguments.
                let thread = unsafe { libc::gettid() };
                tell.send(name(std::process::id(), thread as u32)).unwrap();
            });
            helper.unwrap().join().unwrap();
            assert!(HELPERS.contains(&&*told.recv().unwrap()), "{full}");
        }
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
