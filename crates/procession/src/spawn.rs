//! Starting a process.

use crate::children::Running;
use crate::entry::{self, Role};
use crate::error::wait;
use crate::image::Image;
use crate::order::{call, returned, Call, Order};
use crate::process::{here, Here};
use crate::run::run_forked;
use crate::sync::any_guard;
use crate::{logging, start_method, travel, Error, JoinHandle, Process, Result, StartMethod};
use procession_core::arena::Ref;
use procession_core::channel::{Outgoing, Parcel};
use procession_core::process::{self, zygote, Child, Forked, Outcome};
use procession_core::{family, Deadline};
use serde::{de::DeserializeOwned, Serialize};
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
    A: Serialize + DeserializeOwned,
    R: Serialize + DeserializeOwned,
{
    Builder::new().spawn(f, args)
}

/// A process to be: name, daemon, start method.
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
pub struct Builder {
    name: Option<String>,
    daemon: bool,
    die_with_parent: bool,
    method: Option<StartMethod>,
    beside_threads: bool,
}

impl Builder {
    /// A process with a name made for it, not daemonic, by the default start method.
    pub fn new() -> Self {
        Self::default()
    }

    /// Its name.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Whether it ends with its parent: when that exits it is terminated, and when that dies it leaves within a second, even if it is
    /// busy. It may not have children. Otherwise the parent, exiting, waits for it.
    pub fn daemon(mut self, daemon: bool) -> Self {
        self.daemon = daemon;
        self
    }

    /// Whether it leaves within a second when its parent dies, even if it is busy, as daemonic ones do. When the parent exits, it is waited
    /// for all the same.
    pub fn die_with_parent(mut self, die: bool) -> Self {
        self.die_with_parent = die;
        self
    }

    /// How it is started.
    pub fn start_method(mut self, method: StartMethod) -> Self {
        self.method = Some(method);
        self
    }

    /// Let [`StartMethod::Fork`] copy this process although it has other threads.
    ///
    /// # Safety
    /// Of the threads only the calling one exists in the child. What the child calls, the function and all that it drops included, must not rely on
    /// anything that another thread may be changing at that moment: a lock that one holds stays locked for ever, and what it guards stays
    /// half-changed. No thread may hold a guard of this crate.
    pub unsafe fn fork_beside_threads(mut self) -> Self {
        self.beside_threads = true;
        self
    }

    /// The start method, unless that is `Fork`: then `Forkserver`.
    pub(crate) fn without_fork(mut self) -> Self {
        let method = self.method.unwrap_or_else(start_method);
        self.method = Some(match method {
            StartMethod::Fork => StartMethod::Forkserver,
            other => other,
        });
        self
    }

    /// Its name, or this one if it was given none.
    pub(crate) fn name_or<'a>(&'a self, default: &'a str) -> &'a str {
        self.name.as_deref().unwrap_or(default)
    }

    /// Start it.
    pub fn spawn<A, R>(self, f: fn(A) -> R, args: A) -> Result<JoinHandle<R>>
    where
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
    {
        entry::keep();
        let here = here();
        if here.me.daemon {
            return Err(Error::Daemon);
        }
        here.children.forget_ended();
        let mut who = here.next_child(self.name, self.daemon);
        who.dies_with_parent |= self.die_with_parent;
        let outcome = Ref::<Outcome>::create()?;
        let method = self.method.unwrap_or_else(start_method);
        let (child, parcel) = if method == StartMethod::Fork {
            if !self.beside_threads && !process::is_alone() {
                return Err(Error::Threads);
            }
            if any_guard() {
                return Err(Error::Guards);
            }
            (fork(here, &who, &outcome, || returned(&f(args)))?, None)
        } else {
            if process::is_secure() {
                return Err(Error::Secure);
            }
            let place = |address: usize, name| Image::this().place(address).ok_or(Error::Elsewhere(name));
            let order = Order {
                me: who.clone(),
                parent: here.me.clone(),
                outcome: outcome.handle().to_bits(),
                start_method: start_method(),
                log: logging::setting(),
                image: Image::this().mark,
                call: place(call::<A, R> as Call as usize, "this function's type")?,
                function: place(f as usize, type_name::<fn(A) -> R>())?,
            };
            send(method, &order, &outcome, &args)?
        };
        let running = Arc::new(Running {
            who,
            child,
            outcome,
            parcel,
        });
        here.children.add(Arc::clone(&running));
        Ok(JoinHandle::new(running))
    }
}

fn fork(
    here: &Here,
    who: &Process,
    outcome: &Ref<Outcome>,
    f: impl FnOnce() -> Result<travel::Cargo>,
) -> Result<Child> {
    let (me, parent) = (who.clone(), here.me.clone());
    // Held over the fork, so that no other thread of ours holds them in it, and written out, so that nothing is written twice.
    let (mut out, err) = (std::io::stdout().lock(), std::io::stderr().lock());
    let _ = out.flush();
    // SAFETY: there are no other threads but the engine's, or the caller of `fork_beside_threads` promised that the child does not rely on them.
    match unsafe { process::fork() }? {
        Forked::Parent(child) => Ok(child),
        Forked::Child => {
            drop((out, err));
            run_forked(me, parent, outcome, f)
        }
    }
}

/// Pack order and arguments, and have a child made that takes them.
fn send<A: Serialize>(
    method: StartMethod,
    order: &Order,
    outcome: &Ref<Outcome>,
    args: &A,
) -> Result<(Child, Option<Parcel>)> {
    let head = postcard::to_stdvec(order).map_err(|source| Error::Encode { kind: "order", source })?;
    let mut cargo = travel::collect(head, args)?;
    cargo.handles.push(outcome.handle());
    let out = Outgoing {
        body: &cargo.bytes,
        handles: &cargo.handles,
        ..Outgoing::default()
    };
    let parcel = Parcel::pack(out)?;
    // Lines of the parent come before those of the child.
    let _ = std::io::stdout().flush();
    let child = match method {
        StartMethod::Spawn => execute(&Role::Child {
            arena: family()?.arena_fd()?.as_raw_fd(),
            token: parcel.token(),
            zygote: zygote::channel(),
            fds: cargo.fds.iter().map(AsRawFd::as_raw_fd).collect(),
        })?,
        _ => ask(parcel.token(), &cargo.fds)?,
    };
    parcel.address(child.pid());
    Ok((child, Some(parcel)))
}

/// Run this program once more, to be that.
fn execute(role: &Role) -> Result<Child> {
    let argv: Vec<_> = std::env::args_os().collect();
    Ok(process::spawn(
        "/proc/self/exe".as_ref(),
        &argv,
        &[role.variable()],
        &role.descriptors(),
    )?)
}

/// Have a zygote make the child, starting one if there is none.
fn ask(token: u64, fds: &[OwnedFd]) -> Result<Child> {
    let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
    for _ in 0..3 {
        if let Some(pending) = wait(|| zygote::request(token, &fds))? {
            if let Some(child) = wait(|| pending.wait(Deadline::Never))? {
                return Ok(child);
            }
        }
        let _one = here().zygote.lock();
        if zygote::pid().is_none() {
            zygote::start(|server| {
                let arena = family()?.arena_fd()?.as_raw_fd();
                execute(&Role::Zygote { arena, server }).map(|child| child.pid())
            })?;
        }
    }
    Err(Error::Zygote)
}
