//! What runs before `main`: in a child, its whole life; in any other process, one look at the environment.

use crate::run::run;
use procession_core::process::fork_server::{attach, Server, ServerCommand};
use procession_core::process::{self, Child};
use procession_core::{liveness, Error, Family, Result, WaitError};
use std::ffi::{c_char, c_int, CStr, CString, OsString};
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// The variable that tells a program that it is a child, and how to join its family. Removed before any code of the
/// user's runs.
const VARIABLE: &str = "PROCESSION_CHILD";

/// The content of [`VARIABLE`]: the process that started this one, and the numbers of the descriptors passed to it.
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
        (VARIABLE, format!("{} {text}", std::process::id()).into())
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

    /// The role, preceded by the pid of the process that assigned it.
    fn parse(text: &str) -> Option<(i32, Self)> {
        let (giver, text) = text.split_once(' ')?;
        Some((giver.parse().ok()?, Self::parse_rest(text)?))
    }

    fn parse_rest(text: &str) -> Option<Self> {
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

type Constructor = extern "C" fn(c_int, *const *const c_char, *const *const c_char);

/// Called by the C library when a program that links this crate starts.
#[used]
#[link_section = ".init_array"]
static ENTRY: Constructor = enter;

/// Keeps [`ENTRY`] in every program that can start a process: the linker includes an object file of a library only if
/// something in it is used.
pub(crate) fn keep() {
    std::hint::black_box(&raw const ENTRY);
}

extern "C" fn enter(_argc: c_int, argv: *const *const c_char, _envp: *const *const c_char) {
    // A set-user-id program must not obey its caller's environment.
    if process::is_secure() {
        return;
    }
    let name = CString::new(VARIABLE).expect("a constant without NUL");
    // SAFETY: before main no other thread of this program could change the environment; the value is copied before it
    // is removed.
    let value = unsafe {
        let value = libc::getenv(name.as_ptr());
        if value.is_null() {
            return;
        }
        let value = CStr::from_ptr(value).to_string_lossy().into_owned();
        libc::unsetenv(name.as_ptr());
        value
    };
    name_thread(argv);
    // A program with this variable never continues to main, which would run the program a second time.
    match Role::parse(&value) {
        Some((giver, role)) if is_parent(giver) => live(role),
        Some(_) => fail(&Error::Foreign("request")),
        None => fail(&Error::Corrupt("PROCESSION_CHILD")),
    }
}

/// Whether `giver` is this process's parent, or was until it ended and the kernel assigned another parent.
fn is_parent(giver: i32) -> bool {
    // SAFETY: a system call without arguments.
    let parent = unsafe { libc::getppid() };
    parent == giver || Child::adopt(giver).is_ok_and(|giver| matches!(giver.try_wait(), Ok(Some(_))))
}

fn live(role: Role) -> ! {
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
                Ok(fds) => run(token, fds),
                Err(error) => fail(&error),
            }
        }
        Role::ForkServer { arena, server } => match join(arena).and_then(|()| serve(server)) {
            Ok(()) => std::process::exit(0),
            Err(error) => fail(&error),
        },
    }
}

fn fail(error: &Error) -> ! {
    eprintln!(
        "procession: process {} cannot join the one that started it: {error}",
        std::process::id()
    );
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
fn serve(server: RawFd) -> Result<()> {
    liveness::set_name("fork server");
    // Ctrl-C is meant for the processes that work.
    // SAFETY: dispositions without handlers.
    let interrupt = unsafe { libc::signal(libc::SIGINT, libc::SIG_IGN) };
    let mut server = Server::new(own(server)?)?;
    loop {
        let request = match server.next() {
            Ok(ServerCommand::Fork(request)) => request,
            Ok(ServerCommand::Quit) => return Ok(()),
            Err(WaitError::Interrupted) => continue,
            Err(WaitError::Other(error)) => return Err(error),
            Err(_) => return Err(Error::Corrupt("fork server")),
        };
        // SAFETY: this process has one thread.
        match unsafe { libc::fork() } {
            0 => {
                let token = request.token;
                // SAFETY: as above.
                unsafe { libc::signal(libc::SIGINT, interrupt) };
                match request.in_child(server) {
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

/// Make `ps` show the program's name, not that of the link through which it was executed.
fn name_thread(argv: *const *const c_char) {
    // SAFETY: the C library passes the program's arguments, which end with a null pointer.
    let program = unsafe {
        if argv.is_null() || (*argv).is_null() {
            return;
        }
        CStr::from_ptr(*argv)
    };
    let name = program
        .to_bytes()
        .rsplit(|&byte| byte == b'/')
        .next()
        .unwrap_or_default();
    if let Ok(name) = CString::new(name) {
        // SAFETY: the kernel copies at most 16 bytes of the string.
        unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
    }
}

#[cfg(test)]
mod tests {
    use super::Role;

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
            assert_eq!(Role::parse(&text), Some((std::process::id() as i32, role)));
        }
        for text in [
            "",
            "child",
            "1 child 3 4 -1",
            "1 fork_server 3 x",
            "1 child 3 4 -1 0 x",
            "fork_server 3 4",
        ] {
            assert_eq!(Role::parse(text), None, "{text:?}");
        }
    }
}
