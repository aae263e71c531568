//! A two-way pipe of values between two processes.

use crate::error::Ours;
use crate::{codec, Error, Result};
use procession_core::{channel, Deadline};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// One end of a pipe, made by [`pipe`]: what is sent at one end is received at the other.
///
/// It can be sent to another process as an argument of [`spawn`](crate::spawn()), inside an item of a
/// [`Queue`](crate::Queue), and as argument or result of a [`Pool`](crate::Pool)'s task: the descriptor is passed
/// along. In a queue, the descriptor stays with the process that put the item until the item is read; if that process
/// ends before, `get` fails. The other end sees the end of file once every copy of this one is dropped.
///
/// Threads may share an end, and clones of it: they send one at a time, and receive one at a time. Of the *processes*
/// with copies of an end, only one may send at a time, and only one may receive, because large values are written in
/// several pieces. Use a [`Queue`](crate::Queue) for several sending or receiving processes.
///
/// ```
/// fn double(end: procession::Pipe<u32>) {
///     while let Some(n) = end.recv().unwrap() {
///         end.send(&(2 * n)).unwrap();
///     }
/// }
/// let (ours, theirs) = procession::pipe()?;
/// let child = procession::spawn(double, theirs)?;
/// ours.send(&21)?;
/// assert_eq!(ours.recv()?, Some(42));
/// ours.close()?;
/// child.join()?;
/// # Ok::<(), procession::Error>(())
/// ```
pub struct Pipe<T> {
    inner: channel::Pipe,
    turns: Arc<Turns>,
    messages: PhantomData<fn(T) -> T>,
}

/// Held by the thread of this process that sends, or receives, at an end. Nothing is guarded that a panic could leave
/// half changed: a message that was sent in part makes the pipe useless, and the next reader sees that.
#[derive(Default)]
struct Turns {
    sending: Mutex<()>,
    receiving: Mutex<()>,
}

fn turn(mutex: &Mutex<()>) -> MutexGuard<'_, ()> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Create a pipe: two connected ends, each of which sends and receives.
///
/// ```
/// let (ours, theirs) = procession::pipe::<String>()?;
/// ours.send(&"hello".to_string())?;
/// drop(ours);
/// assert_eq!(theirs.recv()?.as_deref(), Some("hello"));
/// assert_eq!(theirs.recv()?, None);
/// # Ok::<(), procession::Error>(())
/// ```
pub fn pipe<T>() -> Result<(Pipe<T>, Pipe<T>)> {
    let (one, other) = channel::Pipe::pair().ours()?;
    Ok((Pipe::from_inner(one), Pipe::from_inner(other)))
}

impl<T> Pipe<T> {
    fn from_inner(inner: channel::Pipe) -> Self {
        Self {
            inner,
            turns: Arc::default(),
            messages: PhantomData,
        }
    }

    /// Duplicate the descriptor of this end.
    ///
    /// ```
    /// let (ours, theirs) = procession::pipe()?;
    /// let copy = ours.try_clone()?; // for another thread
    /// std::thread::spawn(move || copy.send(&1)).join().unwrap()?;
    /// assert_eq!(theirs.recv()?, Some(1));
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn try_clone(&self) -> Result<Self> {
        let copy = self.as_fd().try_clone_to_owned();
        let copy = copy.map_err(dup_failed)?;
        Ok(Self {
            turns: Arc::clone(&self.turns),
            ..Self::from_inner(channel::Pipe::from_fd(copy))
        })
    }

    /// Close the pipe for every process that has a copy of this end: the other end sees the end of file at once. A
    /// child started by [`Fork`](crate::StartMethod::Fork) has copies of all ends that its parent had, including those
    /// that it was not given.
    pub fn close(self) -> Result<()> {
        self.inner.shutdown().ours()
    }

    /// Whether there is a message or the end of file to receive, waiting at most `timeout`.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let (ours, theirs) = procession::pipe::<u8>()?;
    /// assert!(!theirs.poll(Duration::from_millis(1))?);
    /// ours.send(&1)?;
    /// assert!(theirs.poll(Duration::from_secs(60))?);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn poll(&self, timeout: Duration) -> Result<bool> {
        self.inner.poll(Deadline::after(timeout)).ours()
    }
}

impl<T: Serialize> Pipe<T> {
    /// Send a value. Waits while the pipe is full.
    ///
    /// The bytes go through a socket, which keeps nothing alive: a shared object in the value, such as a
    /// [`Queue`](crate::Queue) or a [`Mutex`](crate::Mutex), must stay alive in some process until it is received. An
    /// end of a [`channel`](crate::channel()) or of a pipe is refused with [`Error::Invalid`].
    ///
    /// ```
    /// let (ours, _theirs) = procession::pipe::<procession::Sender<u8>>()?;
    /// let (to, from) = procession::channel()?;
    /// assert!(matches!(ours.send(&to), Err(procession::Error::Invalid(_))));
    /// drop(to);
    /// assert!(matches!(from.recv(), Err(procession::RecvError::Disconnected)));
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn send(&self, value: &T) -> Result<()> {
        let encoded = codec::collect(Vec::new(), value)?;
        if !encoded.fds.is_empty() {
            return Err(Error::Invalid(
                "a pipe's end is sent as an argument of spawn or through a queue, not through a pipe",
            ));
        }
        if encoded.has_end {
            return Err(Error::Invalid(
                "an end of a channel is sent through a channel or a queue, or as an argument of spawn, not through a \
                 pipe: while it is under way there, the channel does not know of it",
            ));
        }
        let _turn = turn(&self.turns.sending);
        self.inner.send(&encoded.bytes).ours()
    }
}

impl<T: DeserializeOwned> Pipe<T> {
    /// Receive a value, waiting for it. `None` at the end of file.
    pub fn recv(&self) -> Result<Option<T>> {
        let frame = {
            let _turn = turn(&self.turns.receiving);
            self.inner.recv().ours()?
        };
        frame.map(|bytes| codec::unpack(&bytes, Vec::new())).transpose()
    }
}

impl<T> fmt::Debug for Pipe<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pipe").field("fd", &self.as_fd()).finish()
    }
}

impl<T> AsFd for Pipe<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.as_fd()
    }
}

fn dup_failed(error: std::io::Error) -> Error {
    Error::engine(procession_core::Error::os("dup", error))
}

impl<T> Serialize for Pipe<T> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        use serde::ser::Error as _;
        let number = codec::fd(self.as_fd());
        let number = number.map_err(|error| S::Error::custom(codec::refuse(dup_failed(error))))?;
        let number = number.ok_or_else(|| S::Error::custom("a pipe's end is sent as an argument of spawn"))?;
        number.serialize(to)
    }
}

impl<'de, T> Deserialize<'de> for Pipe<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        use serde::de::Error as _;
        let number = u32::deserialize(from)?;
        let fd = codec::take_fd(number).map_err(|error| D::Error::custom(codec::refuse(dup_failed(error))))?;
        let fd = fd.ok_or_else(|| D::Error::custom("the message has no descriptor for this pipe's end"))?;
        Ok(Self::from_inner(channel::Pipe::from_fd(fd)))
    }
}
