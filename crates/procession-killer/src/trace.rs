//! Single-stepping a process: which instruction changed which words of the arena.
//!
//! The traced process has its arena mapped for reading only. An instruction that writes there faults; the tracer opens
//! the page, runs the instruction again, records what changed, and closes the page. So no write is missed, and a step
//! that writes nothing costs one step.

use crate::image::{Image, Words, PAGE};
use crate::remote::{event, fault, kill, protect, registers, wait, Mapping};
use libc::pid_t;
use std::collections::HashMap;

/// The first two bytes of a system call's machine code.
const SYSCALL: u64 = 0x050f;

/// What one step of a traced process did.
#[derive(Debug)]
pub enum Step {
    /// It ran one instruction, which changed these words (perhaps none).
    Ran(Words),
    /// It forked; the child is traced, and stopped before its first instruction.
    Forked(pid_t),
    /// It stopped itself: the operation is over.
    Through,
}

/// A process that is being stepped through an operation.
pub struct Tracee {
    pub pid: pid_t,
    arena: Mapping,
    pub instructions: u64,
    pub syscalls: u64,
    /// Whether the last instruction was a system call.
    pub at_syscall: bool,
    /// Whether it wrote to the arena, even the value that was already there.
    pub touched: bool,
    /// Whether each address holds a system call.
    calls: HashMap<u64, bool>,
}

impl Tracee {
    /// Take over a process that is stopped and traced by this one.
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

    /// Run one instruction. `image` is the arena as it was, and is updated.
    pub fn step(&mut self, image: &mut Image) -> Step {
        let place = registers(self.pid).rip;
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
                (libc::SIGTRAP, _) => return Step::Forked(event(self.pid)),
                (libc::SIGSTOP, 0) => return Step::Through,
                (libc::SIGSEGV, _) => {
                    let address = fault(self.pid);
                    assert!(
                        self.arena.contains(address),
                        "a fault outside of the arena, at {address:#x}, at {place:#x}"
                    );
                    let page = address & !(PAGE - 1);
                    assert!(!open.contains(&page), "faults again at {page:#x}");
                    protect(self.pid, page, PAGE, libc::PROT_READ | libc::PROT_WRITE);
                    open.push(page);
                }
                (other, _) => signal = other,
            }
        }
        self.instructions += 1;
        self.touched = !open.is_empty();
        self.syscalls += u64::from(self.at_syscall);
        for &page in &open {
            protect(self.pid, page, PAGE, libc::PROT_READ);
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
}
