//! Runs a process from one access to its arena to the next. Between two accesses, neither what the process has seen nor
//! what others see of it changes.
//!
//! The arena is closed to the process. An instruction that reads or writes there faults; the tracer opens the page,
//! runs that one instruction, and closes the page. During a system call the whole arena is open, because the kernel
//! reads words there too. Everything in between runs at full speed.

use crate::image::PAGE;
use crate::remote::{event, fault, protect, registers, set_registers, wait, Mapping};
use libc::{c_int, c_ulong, pid_t};

/// Where a process halted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Halt {
    /// After an instruction at this address, which accessed the arena.
    Accessed(u64),
    /// After a system call of this number.
    Called(u64),
    /// It forked; the child is traced, and stopped before its first instruction.
    Forked(pid_t),
    /// It stopped itself: the operation is over.
    Through,
    /// It ended, with this status.
    Ended(c_int),
}

/// A process that runs from access to access.
pub struct Runner {
    pub pid: pid_t,
    arena: Vec<Mapping>,
}

/// Distinguishes a stop for a system call from one for a signal.
const CALL: c_int = libc::SIGTRAP | 0x80;

impl Runner {
    /// Take over a process that is stopped and traced by this one, and close its arena.
    pub fn new(pid: pid_t) -> Self {
        let options = libc::PTRACE_O_TRACEFORK | libc::PTRACE_O_TRACESYSGOOD | libc::PTRACE_O_EXITKILL;
        // SAFETY: the process is stopped and ours to trace.
        unsafe { libc::ptrace(libc::PTRACE_SETOPTIONS, pid, 0, options) };
        let runner = Self {
            pid,
            arena: Mapping::all(pid),
        };
        runner.protect(libc::PROT_NONE);
        runner
    }

    /// Run to the next halt.
    pub fn run(&mut self) -> Halt {
        let mut signal = 0;
        loop {
            let status = self.resume(libc::PTRACE_SYSCALL, signal);
            signal = 0;
            if !libc::WIFSTOPPED(status) {
                return Halt::Ended(status);
            }
            match (libc::WSTOPSIG(status), status >> 16) {
                (CALL, _) => return self.call(),
                (libc::SIGTRAP, 0) => {}
                (libc::SIGTRAP, _) => return Halt::Forked(event(self.pid)),
                (libc::SIGSTOP, 0) => return Halt::Through,
                (libc::SIGSEGV, _) => return self.access(),
                (other, _) => signal = other,
            }
        }
    }

    /// Open its arena, so that it can go on by itself.
    pub fn open(&self) {
        self.protect(libc::PROT_READ | libc::PROT_WRITE);
    }

    /// Open its arena, and let it go on without being traced.
    pub fn release(&self) {
        self.open();
        // SAFETY: the process is stopped and ours to trace.
        unsafe { libc::ptrace(libc::PTRACE_DETACH, self.pid, 0, 0) };
    }

    /// Run the instruction that faulted, with the pages open that it needs.
    fn access(&self) -> Halt {
        let place = registers(self.pid).rip;
        let mut open = Vec::new();
        loop {
            let address = fault(self.pid);
            assert!(
                self.arena.iter().any(|mapping| mapping.contains(address)),
                "a fault outside of the arena, at {address:#x}, at instruction {place:#x}"
            );
            let page = address & !(PAGE - 1);
            assert!(!open.contains(&page), "faults again at {page:#x}");
            protect(self.pid, page, PAGE, libc::PROT_READ | libc::PROT_WRITE);
            open.push(page);
            let status = self.resume(libc::PTRACE_SINGLESTEP, 0);
            assert!(libc::WIFSTOPPED(status), "ended at an access: status {status:#x}");
            match libc::WSTOPSIG(status) {
                libc::SIGTRAP => break,
                libc::SIGSEGV => {}
                other => panic!("signal {other} at an access"),
            }
        }
        for page in open {
            protect(self.pid, page, PAGE, libc::PROT_NONE);
        }
        Halt::Accessed(place)
    }

    /// Handle a system call that the process is about to make. Opening the arena is a call of its own, made in the
    /// place of this one, which is then begun again.
    fn call(&mut self) -> Halt {
        let wanted = registers(self.pid);
        for mapping in self.arena.clone() {
            let mut other = wanted;
            other.orig_rax = libc::SYS_mprotect as u64;
            let how = libc::PROT_READ | libc::PROT_WRITE;
            (other.rdi, other.rsi, other.rdx) = (mapping.start, mapping.length, how as u64);
            set_registers(self.pid, &other);
            assert_eq!(self.resume(libc::PTRACE_SYSCALL, 0) >> 8 & 0xff, CALL);
            assert_eq!(registers(self.pid).rax, 0, "mprotect in the traced process");
            let mut again = wanted;
            again.rip -= 2;
            again.rax = wanted.orig_rax;
            // Say that no call is to be restarted: otherwise the kernel would step back over one that was interrupted.
            again.orig_rax = u64::MAX;
            set_registers(self.pid, &again);
            assert_eq!(self.resume(libc::PTRACE_SYSCALL, 0) >> 8 & 0xff, CALL);
        }
        let number = wanted.orig_rax;
        let status = self.resume(libc::PTRACE_SYSCALL, 0);
        if !libc::WIFSTOPPED(status) {
            return Halt::Ended(status);
        }
        if libc::WSTOPSIG(status) == libc::SIGTRAP && status >> 16 != 0 {
            let child = event(self.pid);
            // Run to the end of the call that forked.
            self.resume(libc::PTRACE_SYSCALL, 0);
            self.protect(libc::PROT_NONE);
            return Halt::Forked(child);
        }
        assert_eq!(libc::WSTOPSIG(status), CALL, "status {status:#x} in call {number}");
        if number as i64 == libc::SYS_tgkill && wanted.rdx == libc::SIGSTOP as u64 {
            let status = self.resume(libc::PTRACE_SYSCALL, 0);
            assert_eq!(
                libc::WSTOPSIG(status),
                libc::SIGSTOP,
                "status {status:#x} where it stops itself"
            );
            return Halt::Through;
        }
        if matches!(number as i64, libc::SYS_mmap | libc::SYS_munmap | libc::SYS_mremap) {
            self.arena = Mapping::all(self.pid);
        }
        self.protect(libc::PROT_NONE);
        Halt::Called(number)
    }

    fn protect(&self, how: c_int) {
        for mapping in &self.arena {
            protect(self.pid, mapping.start, mapping.length, how);
        }
    }

    fn resume(&self, how: libc::c_uint, signal: c_int) -> c_int {
        // SAFETY: the process is stopped and ours to trace.
        unsafe { libc::ptrace(how, self.pid, 0, c_ulong::from(signal as u32)) };
        wait(self.pid)
    }
}
