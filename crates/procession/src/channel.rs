//! Channels: queues that know whether the other side is still there.
//!
//! Each side has a token, an object in shared memory. Every end holds a reference to its own side's token, and knows the
//! other's by its handle alone. References are counted, also those in messages under way, and those of dead processes
//! are given back: so the token is gone if and only if the side is.

mod errors;
mod iter;
mod look;
mod unreceived;
mod watched;

pub use errors::{RecvError, SendError};
pub use iter::{IntoIter, Iter, TryIter};

use crate::error::Ours;
use crate::waking::Watch;
use crate::{codec, wire, Error, Result};
use procession_core::arena::Ref;
use procession_core::ids::Handle;
use procession_core::{channel as engine, sync, Deadline, WaitError};
use serde::de::DeserializeOwned;
use serde::{de, ser, Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::marker::PhantomData;
use std::sync::atomic::{fence, Ordering};
use std::time::Duration;
use unreceived::{drop_messages, is_gone, Sending};
use watched::WatchedEnd;

/// Create a channel that grows as long as memory lasts.
///
/// Each side may be cloned, and sent to other processes as an argument, as a result, or inside a value that goes
/// through a channel or a [`Queue`](crate::Queue). A [`Pipe`](crate::Pipe) refuses it. What is sent is in shared memory
/// at once, and outlives the process that sent it.
///
/// Once all [`Sender`]s are dropped, or the processes that have them are dead, the receivers get what is left, and then
/// [`RecvError::Disconnected`]. Once all [`Receiver`]s are gone, senders get [`SendError::Disconnected`]. A waiting end
/// learns at once that the last end of the other side is dropped; within about two seconds, that the process that had
/// it is dead (at once if that process's parent waits for it); and within a second, that it was in a message or a
/// queue that is gone. An end that does not wait, but calls `try_recv` or `try_send` again and again, looks for dead
/// processes itself: at most every 200 ms, and 25 ms for each process of the family. A waiting end costs no time that
/// grows with the number of processes. Ends among the arguments of a process that died before it took them are gone only
/// once its parent has joined it, or drops the handle and starts another.
///
/// With the last receiver, the messages that are left are dropped, and the ends in them: a reply that is expected from
/// a receiver that is gone is an error, not an endless wait. If the receivers died, their messages are dropped by a
/// process that can send to them, once it sends, or waits at any channel.
///
/// A child started by [`Fork`](crate::StartMethod::Fork) has copies of all ends that its parent had, including those
/// that it was not given, until it ends.
///
/// ```
/// fn count((to, upto): (procession::Sender<u32>, u32)) {
///     for n in 0..upto {
///         to.send(&n).unwrap();
///     }
/// }
/// let (to, from) = procession::channel()?;
/// procession::spawn(count, (to, 3))?;
/// let numbers: Vec<u32> = from.iter().collect::<Result<_, _>>()?;
/// assert_eq!(numbers, [0, 1, 2]); // and then the child is gone
/// # Ok::<(), procession::Error>(())
/// ```
pub fn channel<T>() -> Result<(Sender<T>, Receiver<T>)> {
    create(0)
}

/// Create a channel for at most `capacity` values: [`send`](Sender::send) waits while it is full.
///
/// ```
/// use procession::{bounded, SendError};
///
/// let (to, from) = bounded(1)?;
/// to.send(&"first".to_owned())?;
/// assert!(matches!(to.try_send(&"second".to_owned()), Err(SendError::Full)));
/// assert_eq!(from.recv()?, "first");
/// # Ok::<(), procession::Error>(())
/// ```
pub fn bounded<T>(capacity: u64) -> Result<(Sender<T>, Receiver<T>)> {
    if capacity == 0 {
        return Err(Error::Invalid("a bounded channel needs a capacity of at least 1"));
    }
    create(capacity)
}

fn create<T>(capacity: u64) -> Result<(Sender<T>, Receiver<T>)> {
    let queue = engine::Queue::create(capacity).ours()?;
    let (senders, receivers) = (sync::Event::create().ours()?, sync::Event::create().ours()?);
    let (sending, receiving) = (senders.handle(), receivers.handle());
    Ok((
        Sender(End::new(queue.clone(), senders, receiving, true), PhantomData),
        Receiver(End::new(queue, receivers, sending, false), PhantomData),
    ))
}

/// An end of either side.
struct End {
    queue: Ref<engine::Queue>,
    /// This side's token. `None` only while dropping.
    token: Option<sync::Event>,
    /// The other side's token.
    other: Handle,
    /// For senders.
    sending: Option<Sending>,
    watch: Watch<WatchedEnd>,
}

impl End {
    fn new(queue: Ref<engine::Queue>, token: sync::Event, other: Handle, sends: bool) -> Self {
        let sending = sends.then(|| Sending::new(&queue, other));
        Self {
            queue,
            token: Some(token),
            other,
            sending,
            watch: Watch::default(),
        }
    }

    /// Whether the other side is gone.
    fn is_alone(&self) -> bool {
        is_gone(self.other)
    }

    /// Leave this side. The last receiver drops the messages that are left.
    fn leave(&mut self) {
        self.watch.end();
        let token = self.token.take().map(|token| token.handle());
        if self.sending.is_none() && token.is_some_and(is_gone) {
            fence(Ordering::SeqCst); // as in `drop_if_alone`
            drop_messages(&self.queue);
        }
    }

    /// Drop a message that was put after the last receiver left.
    fn drop_if_alone(&self) {
        // Either this sees that the receivers are gone, or the last of them, which looks afterwards, sees the message.
        fence(Ordering::SeqCst);
        if self.is_alone() {
            drop_messages(&self.queue);
        }
    }

    fn is_left_alone(&self) -> bool {
        is_left_by(self.other)
    }

    /// As [`is_left_alone`](Self::is_left_alone), for an end that need not have slept: also looks for dead processes
    /// now and then.
    fn is_surely_left_alone(&self) -> bool {
        self.is_left_alone() || look::at_processes() && self.is_alone()
    }
}

/// Whether the side with this token is gone, for an end that sleeps in between: looks now and then at this process's
/// other channels, whose lost messages may hold the last end of that side. Call it without a lock of this crate's.
pub(crate) fn is_left_by(token: Handle) -> bool {
    is_gone(token) || look::at_channels() && is_gone(token)
}

impl Clone for End {
    fn clone(&self) -> Self {
        Self {
            queue: self.queue.clone(),
            token: self.token.clone(),
            other: self.other,
            sending: self.sending.clone(),
            watch: Watch::default(),
        }
    }
}

impl Serialize for End {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let token = self
            .token
            .as_ref()
            .ok_or_else(|| ser::Error::custom("the end is being dropped"))?;
        if !codec::note_end() {
            let text = "an end of a channel is sent as an argument, or through a channel or a queue";
            return Err(ser::Error::custom(text));
        }
        (ByHandle(&self.queue), ByHandle(token), self.other.to_bits()).serialize(to)
    }
}

struct ByHandle<'a, T>(&'a T);

impl<T: wire::SharedObject> Serialize for ByHandle<'_, T> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        wire::serialize(self.0, to)
    }
}

struct Own<T>(T);

impl<'de, T: wire::SharedObject> Deserialize<'de> for Own<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        wire::deserialize(from).map(Self)
    }
}

impl End {
    fn deserialize<'de, D: Deserializer<'de>>(from: D, sends: bool) -> Result<Self, D::Error> {
        let (Own(queue), Own(token), other) = <(Own<Ref<engine::Queue>>, Own<sync::Event>, u64)>::deserialize(from)?;
        let gone = || codec::refuse(Error::engine(procession_core::Error::Stale("channel")));
        let other = Handle::from_bits(other).ok_or_else(|| de::Error::custom(gone()))?;
        Ok(Self::new(queue, token, other, sends))
    }
}

/// The side of a [`channel`] that sends. Clones are more senders of the same channel.
///
/// ```
/// let (to, from) = procession::bounded(2)?;
/// let another: procession::Sender<u8> = to.clone();
/// to.send(&1)?;
/// another.send(&2)?;
/// assert!(to.is_full()?);
/// assert_eq!((from.recv()?, from.recv()?), (1, 2));
/// # Ok::<(), procession::Error>(())
/// ```
pub struct Sender<T>(End, PhantomData<fn(T)>);

/// The side of a [`channel`] that receives. Clones are more receivers of the same channel: each value goes to one of
/// them.
///
/// ```
/// use std::time::Duration;
///
/// let (to, from) = procession::channel::<String>()?;
/// let another: procession::Receiver<String> = from.clone();
/// to.send(&"for one of them".to_owned())?;
/// assert_eq!(another.recv()?, "for one of them");
/// assert!(from.recv_timeout(Duration::from_millis(1)).is_err());
/// # Ok::<(), procession::Error>(())
/// ```
pub struct Receiver<T>(End, PhantomData<fn() -> T>);

impl<T: Serialize> Sender<T> {
    /// Send a value. Waits while the channel is full.
    pub fn send(&self, value: &T) -> Result<(), SendError> {
        self.send_until(value, Deadline::Never)
    }

    /// Send a value if there is room. [`SendError::Full`] if the channel is full.
    pub fn try_send(&self, value: &T) -> Result<(), SendError> {
        self.send_until(value, Deadline::Now)
    }

    /// Send a value, waiting no longer than `timeout` for room. [`SendError::Timeout`] if the channel is full then.
    ///
    /// ```
    /// use std::time::Duration;
    /// use procession::SendError;
    ///
    /// let (to, _from) = procession::bounded(1)?;
    /// to.send(&1)?;
    /// let late = to.send_timeout(&2, Duration::from_millis(1));
    /// assert!(matches!(late, Err(SendError::Timeout)));
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn send_timeout(&self, value: &T, timeout: Duration) -> Result<(), SendError> {
        self.send_until(value, Deadline::after(timeout))
    }

    fn send_until(&self, value: &T, deadline: Deadline) -> Result<(), SendError> {
        if self.0.is_alone() {
            return Err(SendError::Disconnected);
        }
        let message = wire::pack(value).map_err(SendError::Failed)?;
        self.put(&mut Some(message), deadline)
    }
}

impl<T> Sender<T> {
    /// Send a packed message. It stays in `message` if that fails.
    pub(crate) fn put(&self, message: &mut Option<engine::Message>, deadline: Deadline) -> Result<(), SendError> {
        loop {
            match self.0.queue.put_or(message, deadline, || self.0.is_left_alone()) {
                Ok(()) => {
                    self.0.drop_if_alone();
                    return Ok(());
                }
                Err(WaitError::Interrupted | WaitError::TimedOut) if self.0.is_surely_left_alone() => {
                    drop_messages(&self.0.queue);
                    return Err(SendError::Disconnected);
                }
                Err(WaitError::Interrupted) => {}
                Err(WaitError::TimedOut) if matches!(deadline, Deadline::Now) => return Err(SendError::Full),
                Err(WaitError::TimedOut) => return Err(SendError::Timeout),
                Err(error) => return Err(SendError::Failed(Error::wait(error))),
            }
        }
    }
}

impl<T: DeserializeOwned> Receiver<T> {
    /// Receive the oldest value, waiting until there is one.
    pub fn recv(&self) -> Result<T, RecvError> {
        self.recv_until(Deadline::Never)
    }

    /// Receive the oldest value if there is one. [`RecvError::Empty`] if there is none.
    ///
    /// ```
    /// use procession::RecvError;
    ///
    /// let (to, from) = procession::channel::<u8>()?;
    /// assert!(matches!(from.try_recv(), Err(RecvError::Empty)));
    /// drop(to);
    /// assert!(matches!(from.try_recv(), Err(RecvError::Disconnected)));
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn try_recv(&self) -> Result<T, RecvError> {
        self.recv_until(Deadline::Now)
    }

    /// Receive the oldest value, waiting no longer than `timeout`. [`RecvError::Timeout`] if there is none then.
    pub fn recv_timeout(&self, timeout: Duration) -> Result<T, RecvError> {
        self.recv_until(Deadline::after(timeout))
    }

    fn recv_until(&self, deadline: Deadline) -> Result<T, RecvError> {
        loop {
            match self.0.queue.get_or(deadline, || self.0.is_left_alone()) {
                Ok(incoming) => return wire::unpack(&incoming).map_err(RecvError::Failed),
                Err(WaitError::Interrupted | WaitError::TimedOut) if self.0.is_surely_left_alone() => {
                    return self.last()
                }
                Err(WaitError::Interrupted) => {}
                Err(WaitError::TimedOut) if matches!(deadline, Deadline::Now) => return Err(RecvError::Empty),
                Err(WaitError::TimedOut) => return Err(RecvError::Timeout),
                Err(error) => return Err(RecvError::Failed(Error::wait(error))),
            }
        }
    }

    /// What a sender sent before it was gone.
    fn last(&self) -> Result<T, RecvError> {
        match self.0.queue.get(Deadline::Now) {
            Ok(incoming) => wire::unpack(&incoming).map_err(RecvError::Failed),
            Err(WaitError::TimedOut | WaitError::Interrupted) => Err(RecvError::Disconnected),
            Err(error) => Err(RecvError::Failed(Error::wait(error))),
        }
    }

    /// The values, waiting for each, until the channel is empty and disconnected.
    pub fn iter(&self) -> Iter<'_, T> {
        Iter(self)
    }

    /// The values that are there, without waiting.
    ///
    /// ```
    /// let (to, from) = procession::channel()?;
    /// (0..3).try_for_each(|n| to.send(&n))?;
    /// assert_eq!(from.try_iter().collect::<Result<Vec<i32>, _>>()?, [0, 1, 2]);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn try_iter(&self) -> TryIter<'_, T> {
        TryIter(self)
    }
}

macro_rules! sides {
    ($side:ident, $wake_others:ident, $sends:literal) => {
        impl<T> $side<T> {
            /// The number of values in the channel.
            pub fn len(&self) -> Result<u64> {
                self.0.queue.len().ours()
            }

            /// Whether there is no value in the channel.
            pub fn is_empty(&self) -> Result<bool> {
                self.0.queue.is_empty().ours()
            }

            /// Whether a `send` would have to wait.
            pub fn is_full(&self) -> Result<bool> {
                self.0.queue.is_full().ours()
            }

            /// The capacity; `None` if the channel is not bounded.
            ///
            /// ```
            /// let (to, from) = procession::bounded::<u8>(3)?;
            /// to.send(&1)?;
            /// assert_eq!((to.capacity(), from.len()?, from.is_empty()?), (Some(3), 1, false));
            /// assert_eq!(procession::channel::<u8>()?.0.capacity(), None);
            /// # Ok::<(), procession::Error>(())
            /// ```
            pub fn capacity(&self) -> Option<u64> {
                Some(self.0.queue.maxsize()).filter(|&size| size > 0)
            }
        }

        impl<T> Clone for $side<T> {
            fn clone(&self) -> Self {
                Self(self.0.clone(), PhantomData)
            }
        }

        impl<T> Drop for $side<T> {
            fn drop(&mut self) {
                self.0.leave();
                // They look whether this was the last of its side.
                self.0.queue.$wake_others();
            }
        }

        impl<T> fmt::Debug for $side<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let len = self.0.queue.len().ok();
                f.debug_struct(stringify!($side))
                    .field("len", &len)
                    .finish_non_exhaustive()
            }
        }

        impl<T> Serialize for $side<T> {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                self.0.serialize(to)
            }
        }

        impl<'de, T> Deserialize<'de> for $side<T> {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                End::deserialize(from, $sends).map(|end| Self(end, PhantomData))
            }
        }
    };
}
sides!(Sender, wake_consumers, true);
sides!(Receiver, wake_producers, false);
