//! Processes that play a part: the root of a family, its victims, and the survivors.

use crate::live::{After, Death};
use crate::remote::{kill, wait, Mapping};
use libc::pid_t;
use procession_core::arena::{counters, Counters};
use procession_core::{family, liveness, sweep_deferred, Family};
use std::fs::File;
use std::io::Error;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::panic::AssertUnwindSafe;
use std::process::Command;
use std::sync::atomic::{AtomicU64, AtomicU8, Ordering::SeqCst};
use std::time::{Duration, Instant};

/// What a process does in turns: each `next` is one. After each turn it stops itself.
pub type Turns = Box<dyn Iterator<Item = ()>>;

/// The turns of a process that keeps `state` from one to the next.
pub fn turns<S: 'static>(mut state: S, each: Vec<fn(&mut S)>) -> Turns {
    Box::new(each.into_iter().map(move |turn| turn(&mut state)))
}

/// Memory besides the arena that all players share: what they report to the tracer.
#[repr(C)]
pub struct Board {
    values: [AtomicU64; 32],
    text: [AtomicU8; 2048],
    marked: AtomicU64,
}

/// The only board; players inherit it.
pub fn board() -> &'static Board {
    static BOARD: std::sync::OnceLock<&'static Board> = std::sync::OnceLock::new();
    BOARD.get_or_init(|| {
        let (read_write, shared) = (
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | libc::MAP_ANONYMOUS,
        );
        // SAFETY: a new mapping, as large as a board, never unmapped; zeros are a board.
        unsafe {
            let at = libc::mmap(std::ptr::null_mut(), size_of::<Board>(), read_write, shared, -1, 0);
            assert_ne!(at, libc::MAP_FAILED, "mmap: {}", Error::last_os_error());
            &*at.cast::<Board>()
        }
    })
}

impl Board {
    pub fn say(&self, text: &str) {
        let cut = text.len().min(self.text.len() - 1);
        for (place, byte) in self.text.iter().zip(text.as_bytes()[..cut].iter().chain(&[0])) {
            place.store(*byte, SeqCst);
        }
    }

    pub fn mark(&self) {
        self.marked.store(1, SeqCst);
    }

    pub fn is_marked(&self) -> bool {
        self.marked.load(SeqCst) != 0
    }

    pub fn said(&self) -> String {
        let bytes = self.text.iter().map(|byte| byte.load(SeqCst));
        String::from_utf8_lossy(&bytes.take_while(|&byte| byte != 0).collect::<Vec<_>>()).into_owned()
    }

    pub fn write(&self, values: &[u64]) {
        assert!(values.len() < self.values.len());
        for (place, value) in self.values.iter().zip([&[values.len() as u64], values].concat()) {
            place.store(value, SeqCst);
        }
    }

    pub fn read(&self) -> Vec<u64> {
        let count = self.values[0].load(SeqCst) as usize;
        self.values[1..=count].iter().map(|value| value.load(SeqCst)).collect()
    }
}

/// Prepare this process; call it before anything else. Arenas become small, and all processes share one processor, so
/// that a step is quick and no process spins.
pub fn prepare() {
    // A string instruction counts one step for each byte: have memory copied by ordinary instructions.
    let plain = "glibc.cpu.x86_rep_movsb_threshold=0x40000000:glibc.cpu.x86_rep_stosb_threshold=0x40000000";
    if std::env::var_os("GLIBC_TUNABLES").is_none() {
        let again = std::env::current_exe().map(|program| {
            Command::new(program)
                .args(std::env::args_os().skip(1))
                .env("GLIBC_TUNABLES", plain)
                .exec()
        });
        panic!("cannot start again: {again:?}");
    }
    std::env::set_var("PROCESSION_ARENA_SIZE", "64M");
    // SAFETY: zeros are an empty set; one of the processors that we may use becomes the only one.
    unsafe {
        let (mut allowed, mut one): (libc::cpu_set_t, libc::cpu_set_t) = (std::mem::zeroed(), std::mem::zeroed());
        libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut allowed);
        let usable: Vec<_> = (0..libc::CPU_SETSIZE as usize)
            .filter(|&number| libc::CPU_ISSET(number, &allowed))
            .collect();
        if let Some(&chosen) = usable.get(std::process::id() as usize % usable.len().max(1)) {
            libc::CPU_SET(chosen, &mut one);
            libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const one);
        }
    }
    board();
}

/// What a process of the family knows from the start: mostly handles.
pub type Values = [u64];

/// An arena, and the processes that are alive in it throughout.
pub struct World {
    pub arena: File,
    pub values: Vec<u64>,
    root: pid_t,
}

/// Fork a process of this program that does `work` and ends; if it panics, it writes the reason on the board.
fn play(work: impl FnOnce()) -> pid_t {
    // SAFETY: this process has one thread.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "fork: {}", Error::last_os_error());
    if pid > 0 {
        return pid;
    }
    std::panic::set_hook(Box::new(|panic| board().say(&panic.to_string().replace('\n', " "))));
    let ended = std::panic::catch_unwind(AssertUnwindSafe(work));
    // SAFETY: ends a process of ours, without running what it inherited.
    unsafe { libc::_exit(i32::from(ended.is_err())) }
}

fn stop() {
    // SAFETY: stops this process until another one continues it.
    unsafe { libc::raise(libc::SIGSTOP) };
}

/// Take a turn each time that another process continues this one.
fn in_turns(mut turns: impl Iterator<Item = ()>) {
    loop {
        stop();
        turns.next();
    }
}

/// Continue a process that stopped itself, and wait until it does so again.
pub fn turn(pid: pid_t, limit: Duration) -> Result<(), String> {
    // SAFETY: a stopped process of ours.
    unsafe { libc::kill(pid, libc::SIGCONT) };
    until_stopped(pid, limit)
}

/// Wait until a process of ours, which is not traced, stops itself.
pub fn until_stopped(pid: pid_t, limit: Duration) -> Result<(), String> {
    let begin = Instant::now();
    loop {
        // SAFETY: zeros are a valid `siginfo_t`, which the kernel fills in. The process stays to be waited for.
        let (happened, stopped) = unsafe {
            let mut info: libc::siginfo_t = std::mem::zeroed();
            let what = libc::WEXITED | libc::WSTOPPED | libc::WNOHANG | libc::WNOWAIT;
            let code = libc::waitid(libc::P_PID, pid as libc::id_t, &raw mut info, what);
            assert_eq!(code, 0, "waitid: {}", Error::last_os_error());
            (info.si_pid() != 0, info.si_code == libc::CLD_STOPPED)
        };
        if stopped {
            wait(pid);
            return Ok(());
        }
        if happened {
            return Err(format!("it ended: {}", board().said()));
        }
        if begin.elapsed() > limit {
            return Err(format!("it does not come to its end: {}", board().said()));
        }
        std::thread::sleep(Duration::from_micros(100));
    }
}

impl World {
    /// A family with a root that makes what `setup` makes, and holds it until it is killed.
    pub fn found(setup: &dyn Fn() -> Vec<u64>) -> Self {
        Self::with_turns(|| (setup(), Box::new(std::iter::empty())))
    }

    /// A family with a root that takes its turns when it is [told to](Self::turn).
    pub fn with_turns(setup: impl FnOnce() -> (Vec<u64>, Turns)) -> Self {
        Self::of(play(|| {
            let mut turns = None;
            publish(|| {
                let (values, its) = setup();
                turns = Some(its);
                values
            });
            in_turns(turns.into_iter().flatten());
        }))
    }

    /// Let the root take its next turn.
    pub fn turn(&self, limit: Duration) -> Result<(), String> {
        turn(self.root, limit)
    }

    /// A family with a root that runs `After` when it [goes on](Self::go_on).
    pub fn with_a_future(setup: fn() -> (Vec<u64>, After)) -> Self {
        board().marked.store(0, SeqCst);
        Self::of(play(|| {
            let mut future = None;
            publish(|| {
                let (values, after) = setup();
                future = Some(after);
                values
            });
            stop();
            let death = board().read();
            liveness::sweep();
            let (pid, returned) = (death[0] as pid_t, death[1] != 0);
            let found = future.map(|after| after(Death { pid, returned }));
            board().say(&found.unwrap_or_default());
        }))
    }

    /// Tell the root of the victim's death, and give up the world: the root ends by itself.
    pub fn go_on(mut self, death: Death) -> pid_t {
        board().say("");
        board().write(&[death.pid as u64, u64::from(death.returned)]);
        let root = std::mem::take(&mut self.root);
        // SAFETY: a stopped process of ours.
        unsafe { libc::kill(root, libc::SIGCONT) };
        root
    }

    /// A process of the family that runs `work` beside the victim.
    pub fn bystander(arena: &File, work: impl FnOnce()) -> pid_t {
        play(|| {
            join(arena);
            work();
        })
    }

    fn of(root: pid_t) -> Self {
        let status = wait(root);
        assert!(libc::WIFSTOPPED(status), "no stage: {}", board().said());
        let mut values = board().read();
        let fd = values.pop().expect("the arena's descriptor");
        let arena = File::options()
            .read(true)
            .write(true)
            .open(format!("/proc/{root}/fd/{fd}"));
        Self {
            arena: arena.expect("the arena"),
            values,
            root,
        }
    }

    /// A traced process of the family, stopped before the operation that `prepare` returns; it stops again after the
    /// operation.
    pub fn victim(arena: &File, prepare: impl FnOnce() -> Box<dyn FnOnce()>) -> pid_t {
        Self::victim_in_turns(arena, || Box::new(std::iter::once_with(prepare())))
    }

    /// The same; the operation is the first of its turns.
    pub fn victim_in_turns(arena: &File, prepare: impl FnOnce() -> Turns) -> pid_t {
        let pid = play(|| {
            // SAFETY: no preconditions; makes the parent the tracer.
            unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) };
            join(arena);
            let turns = prepare();
            // SAFETY: no preconditions.
            Mapping::of(unsafe { libc::getpid() }).close_own();
            in_turns(turns);
        });
        let mut status = wait(pid);
        while libc::WIFSTOPPED(status) && libc::WSTOPSIG(status) != libc::SIGSTOP {
            // A signal, of a child's end, say: it is delivered.
            let signal = libc::WSTOPSIG(status) as u32;
            // SAFETY: the process is stopped and ours to trace.
            unsafe { libc::ptrace(libc::PTRACE_CONT, pid, 0, libc::c_ulong::from(signal)) };
            status = wait(pid);
        }
        assert!(libc::WIFSTOPPED(status), "no victim: {}", board().said());
        pid
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if self.root != 0 {
            kill(self.root);
        }
    }
}

/// In the root: found the family, make what `setup` makes, and publish where it is.
fn publish(setup: impl FnOnce() -> Vec<u64>) {
    let family = family().expect("a family");
    let fd = family.arena_fd().expect("its descriptor").as_raw_fd();
    family.me();
    let mut values = setup();
    values.push(fd as u64);
    board().write(&values);
}

fn join(arena: &File) {
    let own = arena.try_clone().expect("a descriptor");
    let family = Family::attach(OwnedFd::from(own)).expect("the family");
    // Map all of the arena now: the tracer would miss writes to what is mapped later.
    family.arena().reach_all().expect("address space");
}

/// How a survivor fared.
pub struct Survived {
    /// What it found, or why it failed.
    pub found: Result<(String, Counters), String>,
    pub time: Duration,
}

/// Let a new process of the family use what the dead process used, and count what is left then.
pub fn survive(arena: &File, limit: Duration, check: impl FnOnce() -> String) -> Survived {
    let begin = Instant::now();
    board().say("");
    let pid = play(|| {
        join(arena);
        liveness::me().expect("an entry in the process table");
        let found = check();
        liveness::sweep();
        sweep_deferred().expect("memory to sweep what is deferred");
        board().say(&found);
        let counters = counters().expect("counters");
        board().write(&[
            counters.owned as u64,
            counters.transit as u64,
            counters.objects as u64,
            counters.refs,
            counters.deferred as u64,
            counters.other as u64,
        ]);
    });
    let found = match end_of(pid, limit) {
        Some(status) if libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0 => {
            let v = board().read();
            let counters = Counters {
                owned: v[0] as usize,
                transit: v[1] as usize,
                objects: v[2] as usize,
                refs: v[3],
                deferred: v[4] as usize,
                other: v[5] as usize,
            };
            Ok((board().said(), counters))
        }
        Some(status) => Err(format!("status {status:#x}: {}", board().said())),
        None => Err("stuck".to_owned()),
    };
    Survived {
        found,
        time: begin.elapsed(),
    }
}

/// Wait for the end of a process of ours; `None` if it had to be killed after `limit`.
pub fn end_of(pid: pid_t, limit: Duration) -> Option<i32> {
    // SAFETY: the descriptor is new, and has no other owner.
    let pidfd = unsafe { OwnedFd::from_raw_fd(libc::syscall(libc::SYS_pidfd_open, pid, 0) as i32) };
    let mut poll = libc::pollfd {
        fd: pidfd.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: `poll` outlives the call.
    let ended = unsafe { libc::poll(&raw mut poll, 1, limit.as_millis() as i32) } == 1;
    if !ended {
        kill(pid);
        return None;
    }
    Some(wait(pid))
}
