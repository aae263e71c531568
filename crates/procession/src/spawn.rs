//! Starting a process: the builder, and the three start methods.

use crate::children::Running;
use crate::entry::{self, Role};
use crate::error::{wait, Ours};
use crate::image::Image;
use crate::panic::want_backtraces;
use crate::process::{here, Here};
use crate::request::{call, returned, Call, SpawnRequest};
use crate::run::run_forked;
use crate::surroundings::Surroundings;
use crate::sync::any_guard;
use crate::{codec, forward, logging, start_method, Error, JoinHandle, Portable, Process, Result, StartMethod};
use procession_core::arena::Ref;
use procession_core::channel::{Mailbox, Message, Outgoing};
use procession_core::process::{self, fork_server, Child, Forked, ResultSlot};
use procession_core::{family, Deadline};
use serde::Serialize;
use std::any::type_name;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;

/// Start a process that calls `f(args)`.
///
/// ```
/// fn add((a, b): (i32, i32)) -> i32 {
///     a + b
/// }
/// let sum = procession::spawn(add, (1, 2))?.join()?;
/// assert_eq!(sum, 3);
/// # Ok::<(), procession::Error>(())
/// ```
pub fn spawn<A, R>(f: fn(A) -> R, args: A) -> Result<JoinHandle<R>>
where
    A: Portable,
    R: Portable,
{
    Builder::new().spawn(f, args)
}

/// Settings of a process to start: name, daemon flag, start method.
///
/// ```
/// use procession::{Builder, StartMethod};
///
/// fn name((): ()) -> String {
///     procession::current().name().to_owned()
/// }
/// let child = Builder::new().name("counter").start_method(StartMethod::Spawn).spawn(name, ())?;
/// assert_eq!(child.join()?, "counter");
/// # Ok::<(), procession::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
#[must_use]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of its own")]
pub struct Builder {
    name: Option<String>,
    daemon: bool,
    die_with_parent: bool,
    worker: bool,
    ignore_interrupts: bool,
    method: Option<StartMethod>,
    backtrace: bool,
    beside_threads: bool,
}

impl Builder {
    /// Settings for a non-daemonic process with a generated name, started by the default start method.
    pub fn new() -> Self {
        Self::default()
    }

    /// Set the process's name.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Set whether the process is daemonic. A daemonic process is terminated when its parent exits, and ends within a
    /// second when its parent dies, even if it is busy. It must not have children. The parent of any other process
    /// waits for it before it exits.
    pub fn daemon(mut self, daemon: bool) -> Self {
        self.daemon = daemon;
        self
    }

    /// Set whether the process ends within a second when its parent dies, even if it is busy, as daemonic processes do.
    /// A parent that exits still waits for it.
    ///
    /// ```
    /// let child = procession::Builder::new().die_with_parent(true).spawn(|n: u32| n + 1, 1)?;
    /// assert!(!child.is_daemon()); // it may have children
    /// assert_eq!(child.join()?, 2);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn die_with_parent(mut self, die: bool) -> Self {
        self.die_with_parent = die;
        self
    }

    /// Set whether the process ignores SIGINT, which Ctrl-C at a terminal sends to all processes of a program: then the
    /// program decides alone what an interrupt means for its children, and those of a [`Pool`](crate::Pool) finish their
    /// tasks meanwhile. Programs that the process executes ignore it, too.
    ///
    /// ```
    /// let (done, wait) = (procession::Event::new()?, procession::Event::new()?);
    /// let child = procession::Builder::new().ignore_interrupts(true).spawn(
    ///     |(ready, go): (procession::Event, procession::Event)| {
    ///         ready.set();
    ///         go.wait().unwrap();
    ///     },
    ///     (done.clone(), wait.clone()),
    /// )?;
    /// done.wait()?;
    /// child.interrupt()?; // as Ctrl-C does
    /// wait.set();
    /// child.join()?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn ignore_interrupts(mut self, ignore: bool) -> Self {
        self.ignore_interrupts = ignore;
        self
    }

    /// Settings for a worker of a pool: daemonic, but with children of its own.
    pub(crate) fn worker(mut self) -> Self {
        self.worker = true;
        self.daemon(true)
    }

    /// Set how the process is started.
    pub fn start_method(mut self, method: StartMethod) -> Self {
        self.method = Some(method);
        self
    }

    /// Set whether a panic that ends the function is reported with a backtrace, although neither `RUST_BACKTRACE` nor
    /// `RUST_LIB_BACKTRACE` asks for it. The first backtrace of a process takes tens of milliseconds.
    ///
    /// ```
    /// use procession::{Builder, JoinError};
    ///
    /// fn fail((): ()) {
    ///     panic!("at once");
    /// }
    /// let error = Builder::new().backtrace(true).spawn(fail, ())?.join().unwrap_err();
    /// assert!(matches!(error, JoinError::Panicked { backtrace: Some(text), .. } if text.contains("fail")));
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn backtrace(mut self, backtrace: bool) -> Self {
        self.backtrace = backtrace;
        self
    }

    /// Let [`StartMethod::Fork`] copy this process although it has other threads.
    ///
    /// ```
    /// use procession::{Builder, StartMethod};
    ///
    /// let (to, from) = std::sync::mpsc::channel::<()>();
    /// let thread = std::thread::spawn(move || from.recv().is_err());
    /// // SAFETY: the function uses nothing that the other thread may be changing.
    /// let builder = unsafe { Builder::new().start_method(StartMethod::Fork).fork_beside_threads() };
    /// assert_eq!(builder.spawn(|n: u32| n + 1, 1)?.join()?, 2);
    /// drop(to);
    /// assert!(thread.join().unwrap());
    /// # Ok::<(), procession::Error>(())
    /// ```
    ///
    /// # Safety
    /// Only the calling thread exists in the child. What the child runs, including the function and every destructor,
    /// must not rely on anything that another thread may be changing at the moment of the fork: a lock that another
    /// thread holds stays locked for ever, and what it guards stays half-changed. No thread may hold a guard of this
    /// crate.
    pub unsafe fn fork_beside_threads(mut self) -> Self {
        self.beside_threads = true;
        self
    }

    /// Replace the start method `Fork`, given or by default, with `Forkserver`.
    pub(crate) fn without_fork(mut self) -> Self {
        let method = self.method.unwrap_or_else(start_method);
        self.method = Some(match method {
            StartMethod::Fork => StartMethod::Forkserver,
            other => other,
        });
        self
    }

    /// The name that was set.
    pub(crate) fn given_name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// The name that was set, or `default`.
    pub(crate) fn name_or<'a>(&'a self, default: &'a str) -> &'a str {
        self.name.as_deref().unwrap_or(default)
    }

    /// Start the process.
    ///
    /// ```
    /// let child = procession::Builder::new().daemon(true).spawn(|n: u32| n + 1, 4)?;
    /// assert!(child.is_daemon());
    /// assert_eq!(child.join()?, 5);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn spawn<A, R>(self, f: fn(A) -> R, args: A) -> Result<JoinHandle<R>>
    where
        A: Portable,
        R: Portable,
    {
        self.start(f, args, |args| Ok(args))
    }

    /// Start the process. The arguments are serialized as an `A`; a child by `Fork` has them from `own`.
    pub(crate) fn start<L, A, R>(
        self,
        f: fn(A) -> R,
        args: L,
        own: impl FnOnce(L) -> Result<A>,
    ) -> Result<JoinHandle<R>>
    where
        L: Serialize,
        A: Portable,
        R: Portable,
    {
        entry::keep();
        entry::check_constructed()?;
        let here = here();
        if here.me.daemon && !here.me.worker {
            return Err(Error::Daemon);
        }
        here.children.forget_ended();
        let mut identity = here.next_child(self.name, self.daemon);
        identity.dies_with_parent |= self.die_with_parent;
        identity.worker = self.worker;
        identity.ignores_interrupts = self.ignore_interrupts;
        let result_slot = Ref::<ResultSlot>::create().ours()?;
        let method = self.method.unwrap_or_else(start_method);
        let (child, mailbox) = if method == StartMethod::Fork {
            if !self.beside_threads && !process::is_alone() {
                return Err(Error::Threads);
            }
            if any_guard() {
                return Err(Error::Guards);
            }
            let function = || {
                want_backtraces(self.backtrace);
                returned(&f(own(args)?))
            };
            (fork(here, &identity, &result_slot, function)?, None)
        } else {
            if process::is_secure() {
                return Err(Error::Secure);
            }
            let place = |address: usize, name| Image::this().place(address).ok_or(Error::Elsewhere(name));
            let (surroundings, mut fds) = match method {
                StartMethod::Forkserver => {
                    let (surroundings, fds) = Surroundings::of_this_process()?;
                    (Some(surroundings), fds)
                }
                _ => (None, Vec::new()),
            };
            let request = SpawnRequest {
                me: identity.clone(),
                parent: here.me.clone(),
                result_slot: result_slot.handle().to_bits(),
                start_method: start_method(),
                backtrace: self.backtrace,
                surroundings,
                log: logging::setting(),
                forward: forward::link(),
                image: Image::this().mark,
                call: place(call::<A, R> as Call as usize, "this function's type")?,
                function: place(f as usize, type_name::<fn(A) -> R>())?,
            };
            send(method, &request, &result_slot, &args, &mut fds)?
        };
        let running = Arc::new(Running {
            identity,
            child,
            result_slot,
            mailbox,
        });
        here.children.add(Arc::clone(&running));
        Ok(JoinHandle::new(running))
    }
}

fn fork(
    here: &Here,
    identity: &Process,
    result_slot: &Ref<ResultSlot>,
    f: impl FnOnce() -> Result<Message>,
) -> Result<Child> {
    let (me, parent) = (identity.clone(), here.me.clone());
    // The locks are held over the fork, so that no other thread of this process holds them in the child. The buffer is
    // flushed first, so that its content is not written twice.
    let (mut out, err) = (std::io::stdout().lock(), std::io::stderr().lock());
    let _ = out.flush();
    // SAFETY: there are no other threads but the engine's, or the caller of `fork_beside_threads` promised that the
    // child does not rely on them.
    match unsafe { process::fork() }.ours()? {
        Forked::Parent(child) => Ok(child),
        Forked::Child => {
            drop((out, err));
            run_forked(me, parent, result_slot, f)
        }
    }
}

/// Pack the request and the arguments, and start a child that takes them.
fn send<A: Serialize>(
    method: StartMethod,
    request: &SpawnRequest,
    result_slot: &Ref<ResultSlot>,
    args: &A,
    own_fds: &mut Vec<OwnedFd>,
) -> Result<(Child, Option<Mailbox>)> {
    let head = codec::collect(Vec::new(), request)?;
    let mut encoded = codec::collect(head.bytes, args)?;
    encoded.handles.extend(head.handles);
    encoded.fds.append(own_fds);
    encoded.handles.push(result_slot.handle());
    let out = Outgoing {
        body: &encoded.bytes,
        handles: &encoded.handles,
        ..Outgoing::default()
    };
    let mailbox = Mailbox::pack(out).ours()?;
    // The parent's output so far comes before the child's.
    let _ = std::io::stdout().flush();
    let child = match method {
        StartMethod::Spawn => execute(&Role::Child {
            arena: family().ours()?.arena_fd().ours()?.as_raw_fd(),
            token: mailbox.token(),
            fork_server: fork_server::channel(),
            fds: encoded.fds.iter().map(AsRawFd::as_raw_fd).collect(),
        })?,
        _ => ask(mailbox.token(), &encoded.fds)?,
    };
    mailbox.address(child.pid());
    Ok((child, Some(mailbox)))
}

/// Execute this program again in the given role.
fn execute(role: &Role) -> Result<Child> {
    process::spawn(
        "/proc/self/exe".as_ref(),
        &entry::command_line(),
        &[role.variable()],
        &role.descriptors(),
    )
    .ours()
}

/// Why the fork server was not started.
struct NotStarted(Error);

impl From<procession_core::Error> for NotStarted {
    fn from(error: procession_core::Error) -> Self {
        Self(Error::engine(error))
    }
}

/// Request the child from the fork server; start one if there is none.
fn ask(token: u64, fds: &[OwnedFd]) -> Result<Child> {
    let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
    for _ in 0..3 {
        if let Some(pending) = wait(|| fork_server::request(token, &fds)).ours()? {
            if let Some(child) = wait(|| pending.wait(Deadline::Never)).ours()? {
                return Ok(child);
            }
        }
        let _one = here().fork_server.lock();
        if fork_server::pid().is_none() {
            let started = fork_server::start(|server| {
                let arena = family()?.arena_fd()?.as_raw_fd();
                let child = execute(&Role::ForkServer { arena, server }).map_err(NotStarted)?;
                Ok(child.pid())
            });
            started.map_err(|NotStarted(error)| error)?;
        }
    }
    Err(Error::ForkServer)
}
