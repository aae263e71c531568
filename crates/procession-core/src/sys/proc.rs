//! What `/proc` says of a process: when it started (async-signal-safe), how much memory it has.

use rustix::fs::{Mode, OFlags};
use std::ffi::CStr;

/// When process `pid` started, in clock ticks since boot; `None` when there is no such process, or no `/proc`.
/// Together with the pid it names a process for ever.
pub(crate) fn start_time(pid: u32) -> Option<u64> {
    let mut path = [0_u8; 32];
    let path = stat_path(pid, &mut path);
    let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let mut text = [0_u8; 1024];
    let len = loop {
        match rustix::io::read(&file, &mut text) {
            Ok(len) => break len,
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return None,
        }
    };
    parse(&text[..len])
}

/// Bytes of memory that this process has for itself alone: resident, and neither of a file nor shared.
pub fn own_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let mut pages = text.split(' ').skip(1).map(|number| number.parse::<u64>().ok());
    let (resident, shared) = (pages.next()??, pages.next()??);
    Some(resident.saturating_sub(shared) * rustix::param::page_size() as u64)
}

/// `/proc/PID/stat`, without allocating.
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

/// Field 22, counted after the command name, which may itself hold blanks and parentheses.
fn parse(stat: &[u8]) -> Option<u64> {
    let after_name = stat.iter().rposition(|&byte| byte == b')')? + 1;
    let field = stat[after_name..]
        .split(|&byte| byte == b' ')
        .filter(|field| !field.is_empty())
        .nth(19)?;
    std::str::from_utf8(field).ok()?.parse().ok()
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
    fn own_memory_grows_with_what_is_touched() {
        let before = own_memory().unwrap();
        let touched = vec![1_u8; 64 << 20];
        assert!(own_memory().unwrap() >= before + (60 << 20));
        drop(touched);
    }

    #[test]
    fn a_nasty_command_name_does_not_confuse() {
        let stat = b"12 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 777 20\n";
        assert_eq!(parse(stat), Some(777));
    }
}
