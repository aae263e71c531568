//! This process's channel to its fork server: the client end of a socket pair.
//!
//! It is inherited by fork, passed on by the fork server to the children that it makes, and passed to spawned ones by
//! command line. The fork server itself holds no client end: when the last process that has one is gone, the fork
//! server reads the end of file and leaves.

use crate::sys::atfork::ForkHooks;
use crate::sys::signal::reap;
use crate::sys::{pidfd, scm};
use crate::{Error, Result};
use rustix::event::{poll, PollFd, PollFlags};
use rustix::fs::{fstat, FileType};
use rustix::net::sockopt;
use std::cell::RefCell;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The client end.
#[derive(Debug)]
pub(super) struct Channel {
    /// Only `None` while dropping.
    socket: Option<OwnedFd>,
    /// Inode of the socket. It shows when a program has closed the socket and opened something else under its number.
    inode: u64,
    pid: i32,
    /// The fork server's parent process, if known: only that process reaps it. 0 once it was reaped.
    parent: AtomicU32,
}

impl Channel {
    fn new(socket: OwnedFd, pid: i32, parent: u32) -> Result<Arc<Self>> {
        let inode = socket_inode(socket.as_fd()).ok_or(Error::Corrupt("the fork server's descriptor is no socket"))?;
        Ok(Arc::new(Self {
            socket: Some(socket),
            inode,
            pid,
            parent: AtomicU32::new(parent),
        }))
    }

    /// The socket, if its number still belongs to it.
    pub(super) fn socket(&self) -> Option<BorrowedFd<'_>> {
        let socket = self.socket.as_ref()?.as_fd();
        (socket_inode(socket) == Some(self.inode)).then_some(socket)
    }

    /// Whether a fork server is there to read a request.
    pub(super) fn lives(&self) -> bool {
        let lives = self.socket().is_some_and(|socket| !hung_up(socket)) && process_lives(self.pid);
        if !lives {
            self.reap();
        }
        lives
    }

    /// Whether the fork server has this process's user and group, which its children get. A process that has given up
    /// rights since must not start others that have them still.
    fn has_our_rights(&self) -> bool {
        use rustix::process::{getegid, geteuid};
        // The kernel notes which process made a pair of sockets: the one that started the fork server.
        let maker = self.socket().map(sockopt::socket_peercred);
        !matches!(maker, Some(Ok(maker)) if maker.uid != geteuid() || maker.gid != getegid())
    }

    /// Reap an ended fork server that is this process's own child. Once: afterwards its pid may be another child's.
    fn reap(&self) {
        let me = std::process::id();
        if !process_lives(self.pid) && self.parent.compare_exchange(me, 0, Relaxed, Relaxed).is_ok() {
            reap(self.pid);
        }
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        self.reap();
        if self.socket().is_none() {
            // The number belongs to something else now, or to nothing: do not close it.
            let _ = self.socket.take().map(IntoRawFd::into_raw_fd);
        }
    }
}

fn socket_inode(fd: BorrowedFd<'_>) -> Option<u64> {
    let stat = fstat(fd).ok()?;
    (FileType::from_raw_mode(stat.st_mode) == FileType::Socket).then_some(stat.st_ino)
}

fn hung_up(socket: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::new(&socket, PollFlags::empty())];
    let now = rustix::event::Timespec::default();
    poll(&mut fds, Some(&now)).is_ok() && fds[0].revents().intersects(PollFlags::HUP | PollFlags::ERR)
}

/// Checked beside the hang-up, which does not come while a stray copy of the fork server's end is open somewhere.
fn process_lives(pid: i32) -> bool {
    !pidfd::is_gone(pid.unsigned_abs(), 0, 0)
}

static CURRENT: Mutex<Option<Arc<Channel>>> = Mutex::new(None);
static HOOKS: ForkHooks = ForkHooks::new(before_fork, after_fork, after_fork_child);

/// Lock the current channel. No fork happens while a thread holds the lock, so that no child inherits it held.
fn lock() -> MutexGuard<'static, Option<Arc<Channel>>> {
    // Fails only if memory runs out.
    let _ = HOOKS.install();
    CURRENT.lock().unwrap_or_else(PoisonError::into_inner)
}

thread_local! {
    static FORKING: RefCell<Option<MutexGuard<'static, Option<Arc<Channel>>>>> = const { RefCell::new(None) };
}

extern "C" fn before_fork() {
    // A thread that has already destroyed its thread-locals forks unprotected.
    let _ = FORKING.try_with(|held| {
        held.borrow_mut()
            .get_or_insert_with(|| CURRENT.lock().unwrap_or_else(PoisonError::into_inner));
    });
}

extern "C" fn after_fork() {
    let _ = FORKING.try_with(RefCell::take);
}

extern "C" fn after_fork_child() {
    HOOKS.mark_installed();
    after_fork();
}

fn replace(channel: Option<Arc<Channel>>) {
    let old = std::mem::replace(&mut *lock(), channel);
    drop(old); // after the lock
}

/// The channel, if a fork server with this process's rights listens at its other end.
pub(super) fn living() -> Option<Arc<Channel>> {
    let current = lock().clone();
    current.filter(|channel| channel.has_our_rights() && channel.lives())
}

/// Start a fork server. `launch` gets its end of the channel. It must run the fork server as a child, pass it that
/// descriptor at the same number, and return the child's pid. From then on [`request`](super::request) works in this
/// process and in all children made after it.
pub fn start<E: From<Error>>(launch: impl FnOnce(RawFd) -> Result<i32, E>) -> Result<(), E> {
    let (ours, theirs) = scm::pair()?;
    let pid = launch(theirs.as_raw_fd())?;
    replace(Some(Channel::new(ours, pid, std::process::id())?));
    Ok(())
}

/// Use a channel that a parent passed on, to a fork server with this pid.
pub fn attach(socket: OwnedFd, pid: i32) -> Result<()> {
    replace(Some(Channel::new(socket, pid, 0)?));
    Ok(())
}

/// The descriptor of the channel and the fork server's pid, to be passed on to a spawned child.
pub fn channel() -> Option<(RawFd, i32)> {
    let channel = living()?;
    let socket = channel.socket()?.as_raw_fd();
    Some((socket, channel.pid))
}

/// The pid of the fork server that the next request would go to.
pub fn pid() -> Option<i32> {
    living().map(|channel| channel.pid)
}

/// Close the channel. The fork server leaves when no other process has it open.
pub fn forget() {
    replace(None);
}
