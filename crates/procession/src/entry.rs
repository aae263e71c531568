//! What runs before `main`: in a child, its whole life; in any other process, one look at the environment.

use crate::image::Image;
use crate::panic::report;
use crate::run::run;
use procession_core::process::fork_server::{attach, Server, ServerCommand};
use procession_core::process::{self, Child};
use procession_core::{liveness, Error, Family, Result, WaitError};
use std::ffi::{c_char, CStr, CString, OsString};
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStringExt;
use std::sync::atomic::{AtomicBool, Ordering};

/// The variable that tells a program that it is a child, and how to join its family. Removed before any code of the
/// user's runs.
const VARIABLE: &str = "PROCESSION_CHILD";

/// The content of [`VARIABLE`]: which process writes it, and for which copy of this crate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Summons {
    /// The process that started this one.
    giver: i32,
    /// The crate's version.
    version: String,
    /// [`Image::mark`] of the giver.
    image: u64,
    /// The place of [`ENTRY`]: a program may contain several versions of this crate, or several copies of one.
    copy: u64,
    role: Role,
}

/// What a process is for, and the numbers of the descriptors passed to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Execute the request in the mailbox.
    Child {
        arena: RawFd,
        token: u64,
        fork_server: Option<(RawFd, i32)>,
        fds: Vec<RawFd>,
    },
    /// Fork on request.
    ForkServer { arena: RawFd, server: RawFd },
}

impl Role {
    /// The environment variable that carries the role.
    pub(crate) fn variable(&self) -> (&'static str, OsString) {
        let text = match self {
            Self::Child {
                arena,
                token,
                fork_server,
                fds,
            } => {
                let (socket, pid) = fork_server.unwrap_or((-1, 0));
                let fds = fds.iter().map(|fd| format!(" {fd}"));
                format!("child {arena} {token} {socket} {pid}{}", fds.collect::<String>())
            }
            Self::ForkServer { arena, server } => format!("fork_server {arena} {server}"),
        };
        let summons = format!(
            "{} {} {} {} {text}",
            std::process::id(),
            env!("CARGO_PKG_VERSION"),
            Image::this().mark,
            own_copy().unwrap_or(0),
        );
        (VARIABLE, summons.into())
    }

    /// The descriptors that must be passed to the child.
    pub(crate) fn descriptors(&self) -> Vec<RawFd> {
        match self {
            Self::Child {
                arena,
                fork_server,
                fds,
                ..
            } => [*arena]
                .into_iter()
                .chain(fork_server.map(|(socket, _)| socket))
                .chain(fds.iter().copied())
                .collect(),
            Self::ForkServer { arena, server } => vec![*arena, *server],
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let kind = words.next()?;
        let mut fd = || words.next()?.parse::<RawFd>().ok();
        match kind {
            "fork_server" => Some(Self::ForkServer {
                arena: fd()?,
                server: fd()?,
            }),
            "child" => {
                let arena = fd()?;
                let token = words.next()?.parse().ok()?;
                let (socket, pid) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
                let fork_server = (socket >= 0).then_some((socket, pid));
                let fds = words.map(|word| word.parse().ok()).collect::<Option<_>>()?;
                Some(Self::Child {
                    arena,
                    token,
                    fork_server,
                    fds,
                })
            }
            _ => None,
        }
    }
}

impl Summons {
    fn parse(text: &str) -> Option<Self> {
        let mut words = text.splitn(5, ' ');
        Some(Self {
            giver: words.next()?.parse().ok()?,
            version: words.next()?.to_owned(),
            image: words.next()?.parse().ok()?,
            copy: words.next()?.parse().ok()?,
            role: Role::parse(words.next()?)?,
        })
    }
}

/// Called by the C library when a program that links this crate starts. musl passes constructors no arguments.
///
/// It is one of the first to be called, whatever the order in which the program is linked: so it alone decides when the
/// others are.
#[cfg(not(miri))]
#[used]
#[link_section = ".init_array.00101"]
static ENTRY: extern "C" fn() = enter;

/// Miri has no processes.
#[cfg(miri)]
static ENTRY: extern "C" fn() = enter;

/// Keeps [`ENTRY`] in every program that can start a process: the linker includes an object file of a library only if
/// something in it is used.
pub(crate) fn keep() {
    std::hint::black_box(&raw const ENTRY);
}

/// The place of this copy of the crate in the executable; `None` if it is in a shared library.
fn own_copy() -> Option<u64> {
    Image::this().place_of_data(&raw const ENTRY as usize)
}

extern "C" fn enter() {
    // A set-user-id program must not obey its caller's environment.
    if process::is_secure() {
        return;
    }
    let name = CString::new(VARIABLE).expect("a constant without NUL");
    // SAFETY: before main no other thread of this program could change the environment; the value is copied at once.
    let value = unsafe {
        let value = libc::getenv(name.as_ptr());
        if value.is_null() {
            return;
        }
        CStr::from_ptr(value).to_string_lossy().into_owned()
    };
    // A shared library's copy starts no program.
    let Some(copy) = own_copy() else { return };
    // A program with this variable never continues to main, which would run the program a second time.
    let Some(summons) = Summons::parse(&value) else {
        fail(&Error::Corrupt("PROCESSION_CHILD"))
    };
    if summons.image != Image::this().mark {
        let (theirs, ours) = (summons.version, env!("CARGO_PKG_VERSION"));
        report(&format!(
            "procession: the request is of another program, with procession {theirs}; this one has {ours}"
        ));
        fail(&Error::Foreign("request"))
    }
    if summons.copy != copy {
        return; // the executable is the giver's, so the other copy is here, and its constructor is called, too
    }
    // SAFETY: as above.
    unsafe { libc::unsetenv(name.as_ptr()) };
    if !is_parent(summons.giver) {
        fail(&Error::Foreign("request"))
    }
    let arguments = command_line();
    if let Some(program) = arguments.first() {
        name_thread(program.as_encoded_bytes());
    }
    live(summons.role, || {
        // SAFETY: the C library is calling this constructor, and calls no other before it returns, which it does not.
        unsafe { call_the_rest(arguments) };
    })
}

/// Call the constructors behind this one, which set up what the function may need, as they do in the parent.
///
/// # Safety
/// Only this crate's constructor may call it, once.
unsafe fn call_the_rest(arguments: Vec<OsString>) {
    extern "C" {
        static environ: *const *const c_char;
    }
    // SAFETY: the address of this copy's entry, which is being called.
    let rest = unsafe { Image::this().constructors_behind(&raw const ENTRY as usize) };
    // They may keep the pointers.
    let arguments: Vec<_> = arguments
        .into_iter()
        .filter_map(|argument| CString::new(argument.into_vec()).ok())
        .collect();
    let pointers = arguments.leak().iter().map(|argument| argument.as_ptr());
    let pointers = pointers.chain([std::ptr::null()]).collect::<Vec<_>>().leak();
    for constructor in rest {
        // SAFETY: a constructor that the C library would call next, with the same arguments. `environ` is only read.
        unsafe { constructor(pointers.len() as i32 - 1, pointers.as_ptr(), environ) };
    }
}

/// The command line by which this program was executed. It begins with the dynamic linker if that was executed
/// directly; and it is known before `main` where the C library tells the program's arguments only to `main`.
pub(crate) fn command_line() -> Vec<OsString> {
    let Ok(bytes) = std::fs::read("/proc/self/cmdline") else {
        return std::env::args_os().collect();
    };
    let bytes = bytes.strip_suffix(&[0]).unwrap_or(&bytes);
    bytes
        .split(|&byte| byte == 0)
        .map(|word| OsString::from_vec(word.to_vec()))
        .collect()
}

/// Whether `giver` is this process's parent, or was until it ended and the kernel assigned another parent.
fn is_parent(giver: i32) -> bool {
    // SAFETY: a system call without arguments.
    let parent = unsafe { libc::getppid() };
    parent == giver || Child::adopt(giver).is_ok_and(|giver| matches!(giver.try_wait(), Ok(Some(_))))
}

/// Whether this process, which is a child or a fork server, is calling the program's constructors.
static CONSTRUCTING: AtomicBool = AtomicBool::new(false);

/// Refuse to start a process while the constructors of a child run: the new process would call them, too, and start
/// another one.
pub(crate) fn check_constructed() -> Result<(), crate::Error> {
    if CONSTRUCTING.load(Ordering::Relaxed) {
        return Err(crate::Error::Invalid(
            "a constructor of the program, which runs before main, starts a process in a child; start it in main",
        ));
    }
    Ok(())
}

/// Join the family, call the program's constructors, which may use what belongs to the family, and do what the role is.
fn live(role: Role, construct: impl FnOnce()) -> ! {
    let construct = || {
        CONSTRUCTING.store(true, Ordering::Relaxed);
        construct();
        CONSTRUCTING.store(false, Ordering::Relaxed);
    };
    match role {
        Role::Child {
            arena,
            token,
            fork_server,
            fds,
        } => {
            let joined = join(arena).and_then(|()| match fork_server {
                Some((socket, pid)) => attach(own(socket)?, pid),
                None => Ok(()),
            });
            match joined.and_then(|()| fds.into_iter().map(own).collect()) {
                Ok(fds) => {
                    construct();
                    run(token, fds)
                }
                Err(error) => fail(&error),
            }
        }
        Role::ForkServer { arena, server } => {
            let joined = join(arena).and_then(|()| own(server));
            match joined.and_then(|server| serve(server, construct)) {
                Ok(()) => std::process::exit(0),
                Err(error) => fail(&error),
            }
        }
    }
}

fn fail(error: &Error) -> ! {
    let pid = std::process::id();
    report(&format!(
        "procession: process {pid} cannot join the one that started it: {error}"
    ));
    std::process::exit(101)
}

fn join(arena: RawFd) -> Result<()> {
    Family::attach(own(arena)?)?;
    procession_core::liveness::me()?;
    Ok(())
}

/// Take ownership of a descriptor that was passed at this number, and make it close-on-exec.
fn own(fd: RawFd) -> Result<OwnedFd> {
    // SAFETY: sets a flag; fails if the number is not a descriptor.
    if unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
        return Err(Error::os("fcntl", std::io::Error::last_os_error()));
    }
    // SAFETY: open, and passed to this process to own.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Be the fork server: fork on request, until no process is left that could send one.
fn serve(server: OwnedFd, construct: impl FnOnce()) -> Result<()> {
    liveness::set_name("fork server");
    let alone = process::is_alone();
    construct();
    if alone && !process::is_alone() {
        report(
            "procession: a constructor of this program, which runs before main, starts a thread; a process with \
             threads cannot be the fork server; use StartMethod::Spawn",
        );
        std::process::exit(101)
    }
    // Ctrl-C is meant for the processes that work. Blocked, not ignored: a child that is interrupted before it has the
    // mask of its parent takes the signal once it has.
    let mask = block_interrupt();
    let mut server = Server::new(server)?;
    loop {
        let request = match server.next() {
            Ok(ServerCommand::Fork(request)) => request,
            Ok(ServerCommand::Quit) => return Ok(()),
            Err(WaitError::Interrupted) => continue,
            Err(WaitError::Other(error)) => return Err(error),
            Err(_) => return Err(Error::Corrupt("fork server")),
        };
        // SAFETY: no constructor of the program has started a thread.
        match unsafe { libc::fork() } {
            0 => {
                let token = request.token;
                let fds = request.in_child(server);
                // SAFETY: the mask is one that this process had.
                unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const mask, std::ptr::null_mut()) };
                match fds {
                    Ok(Some(fds)) => run(token, fds),
                    Ok(None) => std::process::exit(0),
                    Err(error) => fail(&error),
                }
            }
            pid if pid > 0 => request.forked(&mut server, pid),
            _ => {
                let code = std::io::Error::last_os_error().raw_os_error();
                liveness::abandon_reserved();
                request.failed(code.unwrap_or(libc::EAGAIN));
            }
        }
    }
}

/// Block SIGINT, and return the mask before.
fn block_interrupt() -> libc::sigset_t {
    // SAFETY: the sets are initialised before they are read, one by `sigemptyset`, the other by `pthread_sigmask`.
    unsafe {
        let (mut interrupt, mut before) = (std::mem::zeroed(), std::mem::zeroed());
        libc::sigemptyset(&raw mut interrupt);
        libc::sigaddset(&raw mut interrupt, libc::SIGINT);
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const interrupt, &raw mut before);
        before
    }
}

/// Make `ps` show the program's name, not that of the link through which it was executed.
fn name_thread(program: &[u8]) {
    let name = program.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
    if let Ok(name) = CString::new(name) {
        // SAFETY: the kernel copies at most 16 bytes of the string.
        unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_survive_the_environment() {
        for role in [
            Role::ForkServer { arena: 3, server: 9 },
            Role::Child {
                arena: 3,
                token: u64::MAX,
                fork_server: None,
                fds: vec![],
            },
            Role::Child {
                arena: 3,
                token: 7,
                fork_server: Some((5, 77)),
                fds: vec![8, 9],
            },
        ] {
            let text = role.variable().1.into_string().unwrap();
            let summons = Summons {
                giver: std::process::id() as i32,
                version: env!("CARGO_PKG_VERSION").into(),
                image: Image::this().mark,
                copy: own_copy().expect("it is part of the executable"),
                role,
            };
            assert_eq!(Summons::parse(&text), Some(summons));
        }
        for text in [
            "",
            "child",
            "1 0.1.0 2 3 child 3 4 -1",
            "1 0.1.0 2 3 fork_server 3 x",
            "1 0.1.0 2 3 child 3 4 -1 0 x",
            "1 0.1.0 2 fork_server 3 4",
            "1 fork_server 3 4",
        ] {
            assert_eq!(Summons::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn the_entry_is_in_the_list_of_constructors() {
        let image = Image::this();
        // SAFETY: the list is not being run through, and nothing of it is called.
        let rest = unsafe { image.constructors_behind(&raw const ENTRY as usize) };
        assert!(!rest.is_empty(), "the C library's own constructor is behind it");
        // SAFETY: as above.
        assert!(unsafe { image.constructors_behind(image.base()) }.is_empty());
    }

    #[test]
    fn the_command_line_is_that_of_the_program() {
        assert_eq!(command_line(), std::env::args_os().collect::<Vec<_>>());
    }
}
