//! Single-stepping a process: which instruction changed which words of the arena.
//!
//! The traced process has its arena mapped for reading only. An instruction that writes there faults; the tracer opens the page, has the
//! instruction run again, looks at what changed, and closes the page. So no write is missed, and a step that writes nothing costs a step.

use crate::image::{Image, Words, PAGE};
use libc::{c_int, c_void, pid_t, user_regs_struct};
use std::arch::global_asm;
use std::collections::HashMap;
use std::io::Error;
use std::ptr::null_mut;

// One system call on behalf of the traced process, which is a fork of the tracer and has it at the same address.
global_asm!(
    ".global procession_killer_syscall",
    "procession_killer_syscall:",
    "syscall",
    "int3"
);

extern "C" {
    fn procession_killer_syscall();
}

/// What the machine code of a system call begins with.
const SYSCALL: u64 = 0x050f;

/// Where a process has its arena.
#[derive(Clone, Copy)]
pub struct Mapping {
    pub start: u64,
    pub length: u64,
}

impl Mapping {
    /// As `/proc` says.
    pub fn of(pid: pid_t) -> Self {
        let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).expect("the maps of a process of ours");
        let mut bounds = maps
            .lines()
            .filter(|line| line.contains("/memfd:procession"))
            .map(|line| {
                let (start, rest) = line.split_once('-').expect("an address range");
                let end = rest.split(' ').next().expect("its end");
                let number = |hex| u64::from_str_radix(hex, 16).expect("an address");
                (number(start), number(end))
            });
        let (start, mut end) = bounds.next().expect("an arena");
        for (next, last) in bounds {
            assert_eq!(next, end, "one arena, in one piece");
            end = last;
        }
        Self {
            start,
            length: end - start,
        }
    }

    /// Let this process write to its arena no more.
    pub fn close_own(self) {
        // SAFETY: the range is a mapping of this process; whoever writes there is traced, and the tracer allows it.
        let code = unsafe { libc::mprotect(self.start as *mut c_void, self.length as usize, libc::PROT_READ) };
        assert_eq!(code, 0, "mprotect: {}", Error::last_os_error());
    }
}

/// What one step of a traced process did.
#[derive(Debug)]
pub enum Step {
    /// It ran one instruction, which changed these words (perhaps none).
    Ran(Words),
    /// It forked; the child is stopped before its first instruction, and traced.
    Forked(pid_t),
    /// It stopped itself: the operation is through.
    Through,
}

/// A process that is being stepped through an operation.
pub struct Tracee {
    pub pid: pid_t,
    arena: Mapping,
    pub instructions: u64,
    pub syscalls: u64,
    /// The last instruction was a system call.
    pub at_syscall: bool,
    /// It wrote to the arena, be it what had been there before.
    pub touched: bool,
    /// Which addresses hold a system call.
    calls: HashMap<u64, bool>,
}

impl Tracee {
    /// Take over a process that is stopped, and traced by this one.
    pub fn new(pid: pid_t) -> Self {
        let options = libc::PTRACE_O_TRACEFORK | libc::PTRACE_O_TRACEVFORK | libc::PTRACE_O_EXITKILL;
        // SAFETY: the process is stopped and ours to trace.
        unsafe { libc::ptrace(libc::PTRACE_SETOPTIONS, pid, 0, options) };
        Self {
            pid,
            arena: Mapping::of(pid),
            instructions: 0,
            syscalls: 0,
            at_syscall: false,
            touched: false,
            calls: HashMap::new(),
        }
    }

    /// Run one instruction. `image` is the arena as it was; it is brought up to date.
    pub fn step(&mut self, image: &mut Image) -> Step {
        let place = self.registers().rip;
        // SAFETY: reads a word of the process's code, which does not change.
        let code = || unsafe { libc::ptrace(libc::PTRACE_PEEKTEXT, self.pid, place, 0) } as u64;
        self.at_syscall = *self.calls.entry(place).or_insert_with(|| code() & 0xffff == SYSCALL);
        let mut open: Vec<u64> = Vec::new();
        let mut signal = 0;
        loop {
            // SAFETY: the process is stopped and ours to trace.
            unsafe { libc::ptrace(libc::PTRACE_SINGLESTEP, self.pid, 0, signal) };
            let status = wait(self.pid);
            assert!(libc::WIFSTOPPED(status), "ended by itself: status {status:#x}");
            signal = 0;
            match (libc::WSTOPSIG(status), status >> 16) {
                (libc::SIGTRAP, 0) => break,
                (libc::SIGTRAP, _) => return Step::Forked(self.event()),
                (libc::SIGSTOP, 0) => return Step::Through,
                (libc::SIGSEGV, _) => {
                    let page = self.fault() & !(PAGE - 1);
                    assert!(!open.contains(&page), "faults again at {page:#x}");
                    self.protect(page, libc::PROT_READ | libc::PROT_WRITE);
                    open.push(page);
                }
                (other, _) => signal = other,
            }
        }
        self.instructions += 1;
        self.touched = !open.is_empty();
        self.syscalls += u64::from(self.at_syscall);
        for &page in &open {
            self.protect(page, libc::PROT_READ);
        }
        // The kernel may have written, or punched holes.
        let changed = if self.at_syscall {
            image.update_all()
        } else {
            image.update(open.iter().map(|page| (page - self.arena.start) / PAGE))
        };
        Step::Ran(changed)
    }

    /// Kill it, and wait for its end.
    pub fn kill(self) {
        kill(self.pid);
    }

    fn registers(&self) -> user_regs_struct {
        // SAFETY: zeros are valid registers, and the kernel fills in exactly this structure.
        unsafe {
            let mut registers = std::mem::zeroed();
            let code = libc::ptrace(libc::PTRACE_GETREGS, self.pid, null_mut::<c_void>(), &raw mut registers);
            assert_eq!(code, 0, "PTRACE_GETREGS: {}", Error::last_os_error());
            registers
        }
    }

    fn set_registers(&self, registers: &user_regs_struct) {
        // SAFETY: the process is stopped.
        let code = unsafe { libc::ptrace(libc::PTRACE_SETREGS, self.pid, null_mut::<c_void>(), registers) };
        assert_eq!(code, 0, "PTRACE_SETREGS: {}", Error::last_os_error());
    }

    /// Which address it may not write to.
    fn fault(&self) -> u64 {
        // SAFETY: zeros are a valid `siginfo_t`, which the kernel fills in; the signal is a SIGSEGV, which has an address.
        let address = unsafe {
            let mut info: libc::siginfo_t = std::mem::zeroed();
            libc::ptrace(libc::PTRACE_GETSIGINFO, self.pid, null_mut::<c_void>(), &raw mut info);
            info.si_addr() as u64
        };
        let arena = self.arena.start..self.arena.start + self.arena.length;
        assert!(
            arena.contains(&address),
            "a fault outside of the arena, at {address:#x}, at instruction {:#x}",
            self.registers().rip
        );
        address
    }

    /// What a fork event is about: the child's pid.
    fn event(&self) -> pid_t {
        let mut message: libc::c_ulong = 0;
        // SAFETY: `message` outlives the call.
        unsafe {
            libc::ptrace(
                libc::PTRACE_GETEVENTMSG,
                self.pid,
                null_mut::<c_void>(),
                &raw mut message,
            )
        };
        message as pid_t
    }

    /// `mprotect` of one page, in the process.
    fn protect(&self, page: u64, how: c_int) {
        let before = self.registers();
        let mut call = before;
        call.rip = procession_killer_syscall as *const () as u64;
        call.rax = libc::SYS_mprotect as u64;
        // No call to restart: the kernel would step back over one that was interrupted.
        call.orig_rax = u64::MAX;
        (call.rdi, call.rsi, call.rdx) = (page, PAGE, how as u64);
        self.set_registers(&call);
        // SAFETY: the process is stopped and ours to trace.
        unsafe { libc::ptrace(libc::PTRACE_SINGLESTEP, self.pid, 0, 0) };
        let status = wait(self.pid);
        assert!(libc::WIFSTOPPED(status) && libc::WSTOPSIG(status) == libc::SIGTRAP);
        assert_eq!(self.registers().rax, 0, "mprotect in the traced process");
        self.set_registers(&before);
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
