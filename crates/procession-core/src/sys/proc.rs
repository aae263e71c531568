//! What `/proc` says of a process: when it started, whether it is about to end, how much memory it has.

use rustix::fs::{Mode, OFlags};
use std::ffi::{CStr, CString};
use std::os::fd::OwnedFd;

/// The kernel's flags of a thread that never runs a line of its program again: it was killed by a signal
/// (`PF_SIGNALED`), or has begun to exit (`PF_EXITING`). The process's memory is taken down after that, which takes a
/// second at 3 GB, and only then do a pidfd and a parent learn of the end.
const LEAVING: u64 = 0x400 | 0x4;
/// The kernel's flag of a process made by fork (`PF_FORKNOEXEC`), until it executes a program.
const FORKED: u64 = 0x40;

/// The fields of a `stat` file that are used here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stat {
    flags: u64,
    /// When it started, in clock ticks since boot.
    pub(crate) start: u64,
    /// Identifies the program, by where code and stack begin, which each exec chooses anew at random. Zero if the
    /// kernel does not show it (another user's process, or one that is about to end).
    image: u64,
}

/// The program that a process runs. A copy by fork runs the same, an exec begins another. `forked 1 | mark 40`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Program(u64);

impl Program {
    pub(crate) const BITS: u32 = 41;
    const MARK: u64 = (1 << 40) - 1;

    pub(crate) fn to_bits(self) -> u64 {
        self.0
    }

    pub(crate) fn from_bits(bits: u64) -> Self {
        Self(bits & ((1 << Self::BITS) - 1))
    }

    /// Whether the process that ran this program has executed another since. False if that cannot be told.
    pub(crate) fn was_left(self, now: Stat) -> bool {
        let (before, now) = (self.0, now.program().0);
        let marks = (before & Self::MARK, now & Self::MARK);
        before & !now > Self::MARK || marks.0 != 0 && marks.1 != 0 && marks.0 != marks.1
    }
}

impl Stat {
    /// The program that it runs.
    pub(crate) fn program(self) -> Program {
        // Any odd number with many bits spreads the differences.
        let mark = self.image.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 24;
        Program(u64::from(self.flags & FORKED != 0) << 40 | mark)
    }

    /// Whether its first thread will never run its program again. The other threads decide: see `is_leaving`.
    pub(crate) fn may_be_leaving(self) -> bool {
        self.flags & LEAVING != 0
    }
}

/// A process's `stat` file, kept open. Reading it again takes no further descriptor, and it never shows another
/// process.
pub(crate) struct StatFile(OwnedFd);

impl StatFile {
    pub(crate) fn open(pid: u32) -> Option<Self> {
        let mut path = [0_u8; 32];
        open(stat_path(pid, &mut path)).map(Self)
    }

    /// `None` if the process is gone, or if the descriptor is another file's by now.
    pub(crate) fn read(&self) -> Option<Stat> {
        read(&self.0)
    }
}

/// When process `pid` started, in clock ticks since boot; `None` when there is no such process, or no `/proc`.
/// Together with the pid it names a process for ever. Async-signal-safe.
pub(crate) fn start_time(pid: u32) -> Option<u64> {
    stat(pid).map(|stat| stat.start)
}

/// The state of a process's first thread. Async-signal-safe.
pub(crate) fn stat(pid: u32) -> Option<Stat> {
    let mut path = [0_u8; 32];
    read(&open(stat_path(pid, &mut path))?)
}

/// Whether no thread of process `pid` will ever run its program again, given the state of its first thread.
pub(crate) fn is_leaving(pid: u32, first: Stat) -> bool {
    first.may_be_leaving() && all_leave(pid)
}

/// Whether thread `tid` of process `pid` has ended, or is about to.
pub(crate) fn has_thread_ended(pid: u32, tid: u32) -> bool {
    // SAFETY: signal 0 is not delivered; the call only says whether the thread exists.
    let code = unsafe { libc::syscall(libc::SYS_tgkill, pid as i32, tid as i32, 0) };
    if code != 0 {
        return std::io::Error::last_os_error().raw_os_error() == Some(libc::ESRCH);
    }
    // A process's first thread stays, as a zombie, for as long as others run.
    pid == tid && stat(pid).is_some_and(Stat::may_be_leaving)
}

fn all_leave(pid: u32) -> bool {
    let threads = || -> Option<Vec<u32>> {
        let entries = std::fs::read_dir(format!("/proc/{pid}/task")).ok()?;
        entries
            .map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .collect()
    };
    let Some(seen) = threads() else { return false };
    let leaves = |tid: &u32| {
        let path = CString::new(format!("/proc/{pid}/task/{tid}/stat")).unwrap_or_default();
        let stat = open(&path).and_then(|file| read(&file));
        stat.is_some_and(Stat::may_be_leaving)
    };
    // SYNC: a thread made after the first look was made by one that still ran then, and shows in the second look.
    seen.iter().all(leaves) && threads().is_some_and(|now| now.iter().all(|tid| seen.contains(tid)))
}

fn open(path: &CStr) -> Option<OwnedFd> {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()
}

fn read(file: &OwnedFd) -> Option<Stat> {
    let mut text = [0_u8; 1024];
    // Read from the beginning, which a socket or pipe that got the number meanwhile refuses: nothing is taken from it.
    let len = loop {
        match rustix::io::pread(file, &mut text, 0) {
            Ok(len) => break len,
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return None,
        }
    };
    parse(&text[..len])
}

/// How many threads process `pid` has, if all of them but the caller sleep (and none is stopped, or about to run).
pub(crate) fn all_sleep(pid: u32) -> Option<usize> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    let mut count = 0;
    for thread in threads {
        let thread = thread.ok()?;
        count += 1;
        if thread.file_name().to_str()?.parse() == Ok(rustix::thread::gettid().as_raw_nonzero().get()) {
            continue;
        }
        let text = std::fs::read_to_string(thread.path().join("stat")).ok()?;
        let state = text.rsplit(')').next()?.trim_start().chars().next()?;
        if state != 'S' {
            return None;
        }
    }
    (count > 0).then_some(count)
}

/// How many threads this process has.
pub(crate) fn thread_count() -> Option<usize> {
    count_threads("/proc/self/task")
}

/// How many threads process `pid` has.
pub(crate) fn thread_count_of(pid: u32) -> Option<usize> {
    count_threads(&format!("/proc/{pid}/task"))
}

/// Whether process `pid` has a handler for any signal but those of faults and SIGINT, which Python always handles. True if
/// the kernel does not say.
pub(crate) fn handles_signals(pid: u32) -> bool {
    let caught = || {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:"))?;
        u64::from_str_radix(mask.trim(), 16).ok()
    };
    let others = [
        libc::SIGINT,
        libc::SIGSEGV,
        libc::SIGBUS,
        libc::SIGFPE,
        libc::SIGILL,
        libc::SIGABRT,
        libc::SIGTRAP,
        libc::SIGSYS,
    ];
    let bit = |signal: i32| 1_u64 << (signal - 1);
    // The C library's own signals are those from 32 to below its `SIGRTMIN`.
    let of_library = (32..libc::SIGRTMIN()).map(bit).fold(0, |all, one| all | one);
    let others = others.map(bit).iter().fold(of_library, |all, one| all | one);
    caught().is_none_or(|caught| caught & !others != 0)
}

fn count_threads(folder: &str) -> Option<usize> {
    let tasks = std::fs::metadata(folder).ok()?;
    // A folder's links are itself, its name in the folder above, and one for each folder in it.
    usize::try_from(std::os::unix::fs::MetadataExt::nlink(&tasks))
        .ok()?
        .checked_sub(2)
}

/// Bytes of memory that belong to this process alone: resident, and neither of a file nor shared.
pub fn own_memory() -> Option<u64> {
    let [_, resident, shared] = statm()?;
    Some(resident.saturating_sub(shared))
}

/// Bytes of this process's address space that are mapped.
pub(crate) fn address_space() -> Option<u64> {
    statm().map(|[mapped, ..]| mapped)
}

/// The first fields of `/proc/self/statm`, in bytes: mapped, resident, and of that what is shared or of a file.
fn statm() -> Option<[u64; 3]> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let mut pages = text.split(' ').map(|number| number.parse::<u64>().ok());
    let mut next = || Some(pages.next()?? * rustix::param::page_size() as u64);
    Some([next()?, next()?, next()?])
}

/// The path `/proc/PID/stat`, built without allocating.
fn stat_path(pid: u32, buffer: &mut [u8; 32]) -> &CStr {
    let mut digits = [0_u8; 10];
    let mut rest = pid;
    let mut first = digits.len();
    loop {
        first -= 1;
        digits[first] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    let mut len = 0;
    for part in [b"/proc/".as_slice(), &digits[first..], b"/stat\0"] {
        buffer[len..len + part.len()].copy_from_slice(part);
        len += part.len();
    }
    CStr::from_bytes_with_nul(&buffer[..len]).unwrap_or(c"/proc/self/stat")
}

/// The last field of a `stat` file that is read here.
const FIELDS: usize = 28;

/// Fields 9, 22, 26 and 28, counted after the command name. The name may itself hold blanks and parentheses, but too
/// few to be taken for all fields.
fn parse(stat: &[u8]) -> Option<Stat> {
    let (mut fields, mut at) = ([0_u64; FIELDS + 1], 0);
    for &byte in stat {
        match byte {
            // The field before the state. What was counted before belongs to the name.
            b')' => (fields, at) = ([0; FIELDS + 1], 2),
            b' ' if at == FIELDS => break,
            b' ' => at += 1,
            b'0'..=b'9' => fields[at] = fields[at].wrapping_mul(10).wrapping_add(u64::from(byte - b'0')),
            _ => {}
        }
    }
    let (code, stack) = (fields[26], fields[28]);
    (at >= 22).then(|| Stat {
        flags: fields[9],
        start: fields[22],
        // If the kernel does not show them, the code begins at 1 and the stack at 0.
        image: if stack == 0 { 0 } else { code ^ stack.rotate_left(32) },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_start_time_is_stable_and_a_missing_process_has_none() {
        let me = std::process::id();
        assert!(start_time(me).is_some());
        assert_eq!(start_time(me), start_time(me));
        assert_eq!(start_time(u32::MAX), None);
    }

    #[test]
    fn a_program_is_left_by_exec_and_not_by_fork() {
        let of = |flags, image| Stat { flags, start: 1, image };
        let forked = of(FORKED, 5).program();
        assert!(!forked.was_left(of(FORKED, 5)) && forked.was_left(of(0, 6)) && forked.was_left(of(0, 0)));
        let executed = of(0, 5).program();
        assert!(!executed.was_left(of(0, 5)) && executed.was_left(of(0, 6)));
        // Nothing is known of another user's process.
        assert!(!executed.was_left(of(0, 0)) && !of(0, 0).program().was_left(of(0, 5)));
        assert_eq!(Program::from_bits(forked.to_bits()), forked);
        let me = stat(std::process::id()).unwrap();
        assert!(!me.program().was_left(me));
    }

    #[test]
    fn own_memory_grows_with_what_is_touched() {
        let before = own_memory().unwrap();
        let touched = vec![1_u8; 64 << 20];
        assert!(own_memory().unwrap() >= before + (60 << 20));
        drop(touched);
    }

    #[test]
    fn a_nasty_command_name_does_not_confuse() {
        let stat = b"12 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 777 20\n";
        assert_eq!(
            parse(stat),
            Some(Stat {
                flags: 6,
                start: 777,
                image: 0
            })
        );
    }

    #[test]
    fn what_the_kernel_hides_is_no_image() {
        let stat = |code: u64, stack: u64| {
            let line =
                format!("12 (a) S 1 2 3 4 5 0 7 8 9 10 11 12 13 14 15 16 17 18 777 20 21 22 {code} 1 {stack} 0\n");
            parse(line.as_bytes()).unwrap()
        };
        assert_eq!(stat(1, 0).image, 0);
        assert_ne!(stat(0x5000, 0x7000).image, 0);
        assert!(!stat(0x5000, 0x7000).program().was_left(stat(1, 0)));
        assert!(stat(0x5000, 0x7000).program().was_left(stat(0x6000, 0x7000)));
    }

    #[test]
    fn a_thread_that_ended_is_told_from_one_that_runs() {
        let tid = || u32::try_from(rustix::thread::gettid().as_raw_nonzero().get()).unwrap();
        let (tell, told) = std::sync::mpsc::channel();
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            tell.send(tid()).unwrap();
            let _ = ended.recv();
        });
        let (me, other) = (std::process::id(), told.recv().unwrap());
        assert!(!has_thread_ended(me, other) && !has_thread_ended(me, tid()));
        assert!(!is_leaving(me, stat(me).unwrap()));
        drop(end);
        thread.join().unwrap();
        while !has_thread_ended(me, other) {
            std::thread::yield_now();
        }
    }
}
