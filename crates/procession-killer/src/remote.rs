//! Control of a stopped process: reads and sets its registers, and makes it call the kernel.

use libc::{c_int, c_void, pid_t, user_regs_struct};
use std::arch::global_asm;
use std::io::Error;
use std::ptr::null_mut;

// One system call on behalf of the traced process. It is a fork of the tracer, so it has this code at the same address.
global_asm!(
    ".global procession_killer_syscall",
    "procession_killer_syscall:",
    "syscall",
    "int3"
);

extern "C" {
    fn procession_killer_syscall();
}

/// A part of a process's arena, or all of it.
#[derive(Clone, Copy, Debug)]
pub struct Mapping {
    pub start: u64,
    pub length: u64,
}

impl Mapping {
    /// The whole arena, according to `/proc`.
    pub fn of(pid: pid_t) -> Self {
        let all = Self::all(pid);
        assert!(all.len() == 1, "one arena, in one piece");
        all[0]
    }

    /// The pieces of the arena, according to `/proc`.
    pub fn all(pid: pid_t) -> Vec<Self> {
        let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).expect("the maps of a process of ours");
        let mut pieces: Vec<Self> = Vec::new();
        for line in maps.lines().filter(|line| line.contains("/memfd:procession")) {
            let (start, rest) = line.split_once('-').expect("an address range");
            let end = rest.split(' ').next().expect("its end");
            let number = |hex| u64::from_str_radix(hex, 16).expect("an address");
            let (start, end) = (number(start), number(end));
            match pieces.last_mut() {
                Some(last) if last.start + last.length == start => last.length += end - start,
                _ => pieces.push(Self {
                    start,
                    length: end - start,
                }),
            }
        }
        assert!(!pieces.is_empty(), "no arena");
        pieces
    }

    /// Whether an address lies in it.
    pub fn contains(self, address: u64) -> bool {
        (self.start..self.start + self.length).contains(&address)
    }

    /// Take from this process the right to write to its arena.
    pub fn close_own(self) {
        // SAFETY: the range is a mapping of this process; a process that writes there is traced, and the tracer allows
        // it.
        let code = unsafe { libc::mprotect(self.start as *mut c_void, self.length as usize, libc::PROT_READ) };
        assert_eq!(code, 0, "mprotect: {}", Error::last_os_error());
    }
}

/// The registers of a stopped process.
pub fn registers(pid: pid_t) -> user_regs_struct {
    // SAFETY: zeros are valid registers, and the kernel fills in exactly this structure.
    unsafe {
        let mut registers = std::mem::zeroed();
        let code = libc::ptrace(libc::PTRACE_GETREGS, pid, null_mut::<c_void>(), &raw mut registers);
        assert_eq!(code, 0, "PTRACE_GETREGS: {}", Error::last_os_error());
        registers
    }
}

/// Set the registers of a stopped process.
pub fn set_registers(pid: pid_t, registers: &user_regs_struct) {
    // SAFETY: the process is stopped.
    let code = unsafe { libc::ptrace(libc::PTRACE_SETREGS, pid, null_mut::<c_void>(), registers) };
    assert_eq!(code, 0, "PTRACE_SETREGS: {}", Error::last_os_error());
}

/// The address at which an access stopped a process with a SIGSEGV.
pub fn fault(pid: pid_t) -> u64 {
    // SAFETY: zeros are a valid `siginfo_t`, which the kernel fills in; the signal is a SIGSEGV, which has an address.
    unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        libc::ptrace(libc::PTRACE_GETSIGINFO, pid, null_mut::<c_void>(), &raw mut info);
        info.si_addr() as u64
    }
}

/// The child's pid of a fork event.
pub fn event(pid: pid_t) -> pid_t {
    let mut message: libc::c_ulong = 0;
    // SAFETY: `message` outlives the call.
    unsafe { libc::ptrace(libc::PTRACE_GETEVENTMSG, pid, null_mut::<c_void>(), &raw mut message) };
    message as pid_t
}

/// Call `mprotect` in a stopped process.
pub fn protect(pid: pid_t, start: u64, length: u64, how: c_int) {
    let before = registers(pid);
    let mut call = before;
    call.rip = procession_killer_syscall as *const () as u64;
    call.rax = libc::SYS_mprotect as u64;
    // Say that no call is to be restarted: otherwise the kernel would step back over one that was interrupted.
    call.orig_rax = u64::MAX;
    (call.rdi, call.rsi, call.rdx) = (start, length, how as u64);
    set_registers(pid, &call);
    let mut signals = Vec::new();
    loop {
        // SAFETY: the process is stopped and ours to trace.
        unsafe { libc::ptrace(libc::PTRACE_SINGLESTEP, pid, 0, 0) };
        let status = wait(pid);
        assert!(libc::WIFSTOPPED(status), "status {status:#x} in mprotect");
        match libc::WSTOPSIG(status) {
            libc::SIGTRAP => break,
            // It has come before the call, of a child's end, say: it is delivered afterwards.
            signal => signals.push(signal),
        }
    }
    assert_eq!(registers(pid).rax, 0, "mprotect in the traced process");
    set_registers(pid, &before);
    for signal in signals {
        // SAFETY: a signal to a process of ours that has not been waited for.
        unsafe { libc::kill(pid, signal) };
    }
}

/// Wait until a process of ours stops or ends.
pub fn wait(pid: pid_t) -> c_int {
    let mut status = 0;
    // SAFETY: `status` outlives the call.
    let got = unsafe { libc::waitpid(pid, &raw mut status, libc::WUNTRACED | libc::__WALL) };
    assert_eq!(got, pid, "waitpid: {}", Error::last_os_error());
    status
}

/// Kill a process of ours, and wait for its end.
pub fn kill(pid: pid_t) {
    // SAFETY: it has not been waited for yet, so the number is its own.
    unsafe { libc::kill(pid, libc::SIGKILL) };
    while libc::WIFSTOPPED(wait(pid)) {}
}
