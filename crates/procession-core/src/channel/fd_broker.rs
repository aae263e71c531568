//! Descriptors inside messages: the sender keeps a descriptor until the message is read, and hands it to the reader
//! over a socket.
//!
//! The arena object names the sender's socket and the key; the message holds the only lasting reference to it. So the
//! brokered descriptor ends with the object: a thread of the sender looks for descriptors whose object is gone, because
//! the message was read or never will be, and closes them. The thread and the socket last as long as a descriptor is
//! kept.
//!
//! If the sender ends before the message is read, the descriptor is gone, and [`BrokeredFd::claim`] fails.

use crate::arena::{look_up, Object, Ref};
use crate::ids::{Handle, Kind};
use crate::sys::atfork::ForkHooks;
use crate::sys::memory::random_id;
use crate::sys::{scm, threads};
use crate::{family, Error, Result};
use rustix::event::{poll, PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use std::cell::RefCell;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

const NAME: &str = "descriptor in a message";
/// The longest sleep between two checks for descriptors that can be closed.
const SLICE: Duration = Duration::from_secs(1);
/// The first sleep after a descriptor was handed out.
const SOON: Duration = Duration::from_millis(1);
/// How long the peer of a connection may be silent.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The arena object: where the descriptor is. Both words are written once, before another process knows the handle.
#[repr(C)]
pub struct BrokeredFd {
    /// Names the sender's socket.
    service: AtomicU64,
    /// The key that the sender asks for.
    key: AtomicU64,
}

// SAFETY: any two numbers are a value: at worst no socket or no descriptor has them; 16 bytes.
unsafe impl Object for BrokeredFd {
    const KIND: Kind = Kind::BrokeredFd;
    const NAME: &'static str = NAME;
}

/// The sender's own reference to a descriptor that it keeps. Dropped when a message refers to the descriptor; if none
/// does, the descriptor is closed.
#[derive(Debug)]
pub struct Brokered {
    handle: Handle,
    object: Option<Ref<BrokeredFd>>,
}

impl Brokered {
    /// The handle to pack into a message.
    pub fn handle(&self) -> Handle {
        self.handle
    }
}

impl Drop for Brokered {
    fn drop(&mut self) {
        self.object = None;
        if matches!(look_up::<BrokeredFd>(self.handle), Ok(None)) {
            lock_broker().kept.retain(|kept| kept.handle != self.handle);
        }
    }
}

impl BrokeredFd {
    /// Keep `fd`. Pack the handle into a message, then drop what this returns.
    pub fn create(fd: OwnedFd) -> Result<Brokered> {
        let object = Ref::<Self>::create()?;
        let key = random_id()? as u64;
        let mut broker = lock_broker();
        let service = match &broker.service {
            Some(service) => service.number,
            None => broker.open()?,
        };
        object.service.store(service, Relaxed);
        object.key.store(key, Release);
        broker.kept.push(Kept {
            key,
            fd,
            handle: object.handle(),
        });
        Ok(Brokered {
            handle: object.handle(),
            object: Some(object),
        })
    }

    /// The descriptor behind a handle out of a message. The message must not be dropped before. `None` if the handle is
    /// that of another kind of object.
    pub fn claim(handle: Handle) -> Result<Option<OwnedFd>> {
        match Ref::<Self>::attach(handle) {
            Ok(object) => object.fetch().map(Some),
            Err(Error::Stale(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Fetch a duplicate of the descriptor.
    pub fn fetch(&self) -> Result<OwnedFd> {
        let (key, service) = (self.key.load(Acquire), self.service.load(Relaxed));
        let broker = lock_broker();
        let own = broker.kept.iter().find(|kept| kept.key == key);
        let own = own.map(|kept| kept.fd.try_clone().map_err(|error| Error::os("dup", error)));
        drop(broker);
        let gone = |_| Error::Stale("descriptor in this message (its sender has ended)");
        let socket = socket()?;
        retrying(|| net::connect(&socket, &address(service)?)).map_err(gone)?;
        if let Some(fd) = own {
            return fd; // the thread was woken, and checks whether this was the last use
        }
        set_timeouts(&socket)?;
        retrying(|| scm::send(socket.as_fd(), &key.to_ne_bytes(), &[])).map_err(gone)?;
        let (_, mut fds) = retrying(|| scm::receive(socket.as_fd(), &mut [0])).map_err(gone)?;
        fds.pop().ok_or_else(|| gone(Errno::NOENT))
    }
}

fn retrying<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}

fn socket() -> Result<OwnedFd> {
    net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .map_err(|error| Error::os("socket", error))
}

/// In the abstract name space: a death leaves nothing there to clean up.
fn address(service: u64) -> Result<SocketAddrUnix, Errno> {
    let id = family().map_err(|_| Errno::NOENT)?.id();
    SocketAddrUnix::new_abstract_name(format!("procession-{id:032x}-{service:016x}").as_bytes())
}

fn set_timeouts(socket: &OwnedFd) -> Result<()> {
    for side in [net::sockopt::Timeout::Recv, net::sockopt::Timeout::Send] {
        net::sockopt::set_socket_timeout(socket, side, Some(TIMEOUT))
            .map_err(|error| Error::os("setsockopt", error))?;
    }
    Ok(())
}

#[derive(Debug)]
struct Kept {
    key: u64,
    fd: OwnedFd,
    handle: Handle,
}

/// What this process keeps for readers.
#[derive(Debug)]
struct Broker {
    kept: Vec<Kept>,
    service: Option<Service>,
}

/// The socket. It belongs to the thread that serves it.
#[derive(Debug)]
struct Service {
    number: u64,
    listener: i32,
}

static BROKER: Mutex<Broker> = Mutex::new(Broker {
    kept: Vec::new(),
    service: None,
});

static HOOKS: ForkHooks = ForkHooks::new(before_fork, after_fork, after_fork_child);

/// Lock the broker. No fork happens while a thread holds the lock.
fn lock_broker() -> MutexGuard<'static, Broker> {
    // Fails only if memory runs out; a child of fork then keeps copies of what is kept here.
    let _ = HOOKS.install();
    BROKER.lock().unwrap_or_else(PoisonError::into_inner)
}

thread_local! {
    static FORKING: RefCell<Option<MutexGuard<'static, Broker>>> = const { RefCell::new(None) };
}

extern "C" fn before_fork() {
    let _ = FORKING.try_with(|held| {
        held.borrow_mut()
            .get_or_insert_with(|| BROKER.lock().unwrap_or_else(PoisonError::into_inner));
    });
}

extern "C" fn after_fork() {
    let _ = FORKING.try_with(RefCell::take);
}

extern "C" fn after_fork_child() {
    HOOKS.mark_installed();
    let _ = FORKING.try_with(|held| {
        let Some(mut broker) = held.take() else { return };
        let listener = broker.service.take().map(|service| service.listener);
        for fd in broker.kept.iter().map(|kept| kept.fd.as_raw_fd()).chain(listener) {
            // SAFETY: a copy of a descriptor whose number only the parent's thread, or its list, knows.
            unsafe { libc::close(fd) };
        }
        // Not dropped: freeing memory is not allowed in a child of fork.
        std::mem::forget(std::mem::take(&mut broker.kept));
    });
}

impl Broker {
    fn open(&mut self) -> Result<u64> {
        let number = random_id()? as u64;
        let listener = socket()?;
        address(number)
            .and_then(|address| net::bind(&listener, &address))
            .and_then(|()| net::listen(&listener, 64))
            .map_err(|error| Error::os("bind", error))?;
        self.service = Some(Service {
            number,
            listener: listener.as_raw_fd(),
        });
        if let Err(error) = threads::helper("procession-fds", move || serve(&listener)) {
            self.service = None;
            return Err(error);
        }
        Ok(number)
    }

    /// Close the descriptors that no message refers to any more.
    fn clear(&mut self) {
        // One that this process has no address space to look for is kept.
        self.kept
            .retain(|kept| !matches!(look_up::<BrokeredFd>(kept.handle), Ok(None)));
    }
}

fn serve(listener: &OwnedFd) {
    let mut sleep = SLICE;
    loop {
        let asked = poll(
            &mut [PollFd::new(listener, PollFlags::IN)],
            Timespec::try_from(sleep).ok().as_ref(),
        );
        sleep = (2 * sleep).min(SLICE);
        if asked == Ok(1) {
            // A wrong request gets no answer.
            let _ = net::accept_with(listener, SocketFlags::CLOEXEC).map(|peer| send_descriptor(&peer));
            sleep = SOON;
        }
        let mut broker = lock_broker();
        broker.clear();
        if broker.kept.is_empty() && sleep == SLICE {
            broker.service = None;
            return;
        }
    }
}

fn send_descriptor(peer: &OwnedFd) -> Result<()> {
    let credentials = net::sockopt::socket_peercred(peer).map_err(|error| Error::os("getsockopt", error))?;
    if credentials.uid != rustix::process::geteuid() && !credentials.uid.is_root() {
        return Ok(());
    }
    set_timeouts(peer)?;
    let mut key = [0; 8];
    let (got, _) = scm::receive(peer.as_fd(), &mut key).map_err(|error| Error::os("recvmsg", error))?;
    let broker = lock_broker();
    let wanted = |kept: &&Kept| got == key.len() && kept.key == u64::from_ne_bytes(key);
    let Some(kept) = broker.kept.iter().find(wanted) else {
        return Ok(());
    };
    scm::send(peer.as_fd(), &[1], &[kept.fd.as_fd()]).map_err(|error| Error::os("sendmsg", error))
}
