//! The base class of `procession.connection.Connection`: messages in shared memory, and frames over the descriptor.
//!
//! The methods here are for connections that are exactly of that class, of which no method was replaced. Any others
//! have methods of the class in Python called, which call what a program may override, and use the descriptor alone.
//!
//! The file is long because the methods of one class stand in one block.

mod frames;
mod kept;
mod sending;
mod stream;
mod untouched;

use crate::common::{name, poll_deadline, raise, wait};
use crate::descriptor::{borrow, capacity, close, Source};
use crate::payload::{self, Pickled};
use frames::{Frame, Use};
use procession_core::arena::Ref;
use procession_core::channel::{Incoming, Lane, Outgoing};
use procession_core::ids::Handle;
use procession_core::sync::descriptor::{until, Direction, Spinner};
use procession_core::{family, Error};
use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString, PyTuple};
use sending::Else;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicUsize, Ordering::Relaxed};
use std::sync::OnceLock;
use untouched::{is_untouched, OF_CONNECTION};

pub use stream::ObjectStream;
pub use untouched::seal_connection;

/// Create the class that the module does not export. Otherwise it is created at first use, under a lock of `PyO3`'s.
pub fn install(py: Python<'_>) {
    py.get_type::<kept::Lent>();
}

/// No descriptor: closed, or not open yet.
const CLOSED: RawFd = -1;

/// The length before the bytes of a frame, at least.
const FRAME_HEADER: usize = 4;

/// From so many bytes on, a message may lie in shared memory, such that only a short frame goes through the descriptor.
const LARGE: usize = (1 << 16) - FRAME_HEADER;

/// Attributes that change what the methods do when an instance has its own, besides those `OF_CONNECTION`.
const REPLACEABLE: [&str; 8] = [
    "__class__",
    "_close",
    "fileno",
    "poll",
    "recv",
    "recv_bytes",
    "send",
    "send_bytes",
];

/// How another process finds the lanes: the family, and the handles of what arrives and what is sent; 0 = none.
type State = (u128, u64, u64);

/// What a connection holds, whatever carries its messages.
#[pyclass(frozen, subclass, weakref, module = "procession._procession", name = "Connection")]
pub struct Connection {
    descriptor: AtomicI32,
    readable: AtomicBool,
    writable: AtomicBool,
    /// An attribute of the instance hides a method of the class.
    replaced: AtomicBool,
    /// The descriptor is not the pipe's any more.
    parted: AtomicBool,
    /// More than the descriptor holds without a reader; 0 = not known yet.
    capacity: AtomicUsize,
    /// Whether it paid lately to wait until the receiver of a large message spins.
    patience: Spinner,
    outgoing: OnceLock<Ref<Lane>>,
    incoming: OnceLock<Ref<Lane>>,
}

/// What arrived.
enum Received<'py> {
    /// A frame.
    Bytes(Bound<'py, PyBytes>),
    /// A frame that is only unpickled.
    Pickle(Vec<u8>),
    /// A message in shared memory.
    Message(Incoming),
}

impl Connection {
    fn fd(&self) -> PyResult<RawFd> {
        match self.descriptor.load(Relaxed) {
            CLOSED => Err(PyOSError::new_err("handle is closed")),
            fd => Ok(fd),
        }
    }

    fn outgoing(&self) -> Option<&Ref<Lane>> {
        self.outgoing.get().filter(|_| !self.parted.load(Relaxed))
    }

    fn incoming(&self) -> Option<&Ref<Lane>> {
        self.incoming.get().filter(|_| !self.parted.load(Relaxed))
    }

    /// What to do with a message of so many bytes if no receiver takes it by hand. `None`: do not try, but write it to the
    /// descriptor.
    fn otherwise(&self, size: usize, awaited: bool) -> PyResult<Option<Else<'_>>> {
        Ok(if self.is_named(size, awaited)? {
            Some(Else::Name)
        } else if awaited {
            Some(Else::Write)
        } else {
            (size >= LARGE && self.patience.seems_worth_it()).then_some(Else::Wait(&self.patience))
        })
    }

    /// Whether only a frame that names it goes through the descriptor, instead of a message of so many bytes that is not
    /// handed over: if the descriptor could not hold its frame, so that only a receiver at work takes it, or if there is
    /// one.
    fn is_named(&self, size: usize, awaited: bool) -> PyResult<bool> {
        if size < LARGE || awaited {
            return Ok(size >= LARGE);
        }
        let capacity = match self.capacity.load(Relaxed) {
            0 => capacity(self.writable_fd()?),
            known => known,
        };
        self.capacity.store(capacity, Relaxed);
        Ok(size + FRAME_HEADER > capacity)
    }

    /// From now on, messages of both directions go through the descriptor as any program would write them.
    fn go_plain(&self) {
        for lane in [self.outgoing.get(), self.incoming.get()].into_iter().flatten() {
            lane.go_plain();
        }
    }

    /// Whether the methods here may do what those of the class in Python would. If not, the connection is plain.
    fn is_direct(slf: &Bound<'_, Self>) -> PyResult<bool> {
        let this = slf.get();
        if !this.replaced.load(Relaxed) && is_untouched(slf)? {
            return Ok(true);
        }
        this.go_plain();
        Ok(false)
    }

    fn readable_fd(&self) -> PyResult<RawFd> {
        let fd = self.fd()?;
        if self.readable.load(Relaxed) {
            return Ok(fd);
        }
        Err(PyOSError::new_err("connection is write-only"))
    }

    fn writable_fd(&self) -> PyResult<RawFd> {
        let fd = self.fd()?;
        if self.writable.load(Relaxed) {
            return Ok(fd);
        }
        Err(PyOSError::new_err("connection is read-only"))
    }

    /// Receive a message.
    fn receive<'py>(slf: &Bound<'py, Self>, then: Use) -> PyResult<Received<'py>> {
        let (py, this) = (slf.py(), slf.get());
        this.readable_fd()?;
        let lane = this.incoming();
        if let Some(lane) = lane.filter(|lane| !lane.is_pending()) {
            if let Some(incoming) = py.detach(|| lane.receive()).map_err(raise)? {
                return Ok(Received::Message(incoming));
            }
            // A signal may have come while the interpreter's lock was released.
            py.check_signals()?;
        }
        let received = match frames::read(py, &|| this.readable_fd(), lane.map(|lane| &**lane), then)? {
            Frame::Left(incoming) => return Ok(Received::Message(incoming)),
            Frame::Bytes(bytes) => Received::Bytes(bytes),
            Frame::Kept(bytes) => Received::Pickle(bytes),
            Frame::Longer(size) => {
                let rest = slf.call_method1(name!(py, "_recv_long"), (size,))?;
                Received::Bytes(rest.cast_into()?)
            }
            Frame::Named(header) => Received::Message(Self::open(slf, header)?),
            Frame::Refused => return Err(bad_length(slf)),
        };
        if let Some(lane) = lane {
            lane.settle();
        }
        Ok(received)
    }

    /// The message that a frame names.
    fn open(slf: &Bound<'_, Self>, header: i32) -> PyResult<Incoming> {
        match slf.get().incoming().map(|lane| lane.open(header)) {
            Some(Ok(incoming)) => Ok(incoming),
            Some(Err(error @ Error::Exhausted { .. })) => Err(raise(error)),
            Some(Err(_)) | None => Err(bad_length(slf)),
        }
    }

    fn receive_bytes<'py>(slf: &Bound<'py, Self>, most: Option<u64>) -> PyResult<Bound<'py, PyBytes>> {
        let bytes = match Self::receive(slf, Use::Bytes(most))? {
            Received::Bytes(bytes) => return Ok(bytes),
            Received::Pickle(pickle) => PyBytes::new(slf.py(), &pickle),
            Received::Message(incoming) => payload::into_bytes(slf.py(), incoming)?,
        };
        if most.is_some_and(|most| bytes.as_bytes().len() as u64 > most) {
            return Err(bad_length(slf));
        }
        Ok(bytes)
    }
}

/// End reading from a connection whose place in the stream is lost.
#[cold]
fn bad_length(slf: &Bound<'_, Connection>) -> PyErr {
    match slf.call_method0(name!(slf.py(), "_bad_message_length")) {
        Ok(_) => PyOSError::new_err("bad message length"),
        Err(error) => error,
    }
}

#[pymethods]
impl Connection {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self {
            descriptor: AtomicI32::new(CLOSED),
            readable: AtomicBool::new(false),
            writable: AtomicBool::new(false),
            replaced: AtomicBool::new(false),
            parted: AtomicBool::new(false),
            capacity: AtomicUsize::new(0),
            patience: Spinner::default(),
            outgoing: OnceLock::new(),
            incoming: OnceLock::new(),
        }
    }

    /// Send an object, which must be picklable.
    fn send(slf: &Bound<'_, Self>, obj: &Bound<'_, PyAny>) -> PyResult<()> {
        let (py, this) = (slf.py(), slf.get());
        if !Self::is_direct(slf)? || !untouched::is_pickler_untouched(py)? {
            return slf.call_method1(name!(py, "_send_object"), (obj,)).map(drop);
        }
        this.writable_fd()?;
        let fd = || this.writable_fd();
        let lane = this.outgoing().filter(|lane| !lane.is_plain());
        let Some(lane) = lane else {
            return sending::write(py, None, &fd, payload::dumps_whole(obj)?.as_bytes());
        };
        // Decided before the object is pickled, because its reducers run once.
        let awaited = lane.is_awaited();
        let pickled: Pickled<'_> = if awaited {
            payload::dumps_registered(obj)?
        } else {
            payload::dumps_whole_or_large(obj, LARGE)?
        };
        let otherwise = if pickled.needs_memory() {
            Some(Else::Name)
        } else {
            this.otherwise(pickled.size()?, awaited)?
        };
        if let Some(otherwise) = otherwise {
            if pickled.with_parts(|out| sending::put(py, lane, &fd, out, otherwise))?? {
                return Ok(());
            }
        }
        sending::write(py, Some(lane), &fd, pickled.into_whole(obj)?.as_bytes())
    }

    /// Send bytes of a buffer as one message: `size` from `offset` on, by default all.
    #[pyo3(signature = (buf, offset=0, size=None))]
    fn send_bytes(slf: &Bound<'_, Self>, buf: &Bound<'_, PyAny>, offset: isize, size: Option<isize>) -> PyResult<()> {
        let (py, this) = (slf.py(), slf.get());
        if !Self::is_direct(slf)? {
            return slf.call_method1(name!(py, "_send_part"), (buf, offset, size)).map(drop);
        }
        this.writable_fd()?;
        let fd = || this.writable_fd();
        let Ok(source) = Source::of(buf) else {
            // Raises the error of the standard library.
            return slf.call_method1(name!(py, "_send_part"), (buf, offset, size)).map(drop);
        };
        let bytes = frames::part(source.bytes(), offset, size).map_err(PyValueError::new_err)?;
        let lane = this.outgoing().filter(|lane| !lane.is_plain());
        if let Some(lane) = lane {
            if let Some(otherwise) = this.otherwise(bytes.len(), lane.is_awaited())? {
                let out = Outgoing {
                    body: &[payload::RAW],
                    more: &[bytes],
                    ..Outgoing::default()
                };
                if sending::put(py, lane, &fd, out, otherwise)? {
                    return Ok(());
                }
            }
        }
        sending::write(py, lane, &fd, bytes)
    }

    /// Receive one object. Raises `EOFError` when the other end is closed and nothing is left.
    fn recv<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        if !Self::is_direct(slf)? || !untouched::is_pickler_untouched(py)? {
            return slf.call_method0(name!(py, "_recv_object"));
        }
        match Self::receive(slf, Use::Pickle)? {
            Received::Bytes(bytes) => payload::load_pickle(&bytes),
            Received::Pickle(pickle) => kept::load_pickle(py, pickle),
            Received::Message(incoming) => payload::into_object(py, incoming),
        }
    }

    /// Receive one message as bytes.
    ///
    /// Raises `EOFError` when the other end is closed and nothing is left. Raises `OSError` when the message is longer
    /// than `maxlength` bytes; the connection is then no longer readable.
    #[pyo3(signature = (maxlength=None))]
    fn recv_bytes<'py>(slf: &Bound<'py, Self>, maxlength: Option<&Bound<'py, PyAny>>) -> PyResult<Bound<'py, PyAny>> {
        if Self::is_direct(slf)? {
            slf.get().readable_fd()?;
            // A bound of another type, or out of range, is compared as Python does.
            if let Ok(most) = maxlength.map(PyAnyMethods::extract::<u64>).transpose() {
                return Self::receive_bytes(slf, most).map(Bound::into_any);
            }
        }
        slf.call_method1(name!(slf.py(), "_recv_part"), (maxlength,))
    }

    /// Return whether there is something to receive.
    ///
    /// Waits up to `timeout` seconds (None: forever).
    #[pyo3(signature = (timeout=Some(0.0)), text_signature = "($self, timeout=0.0)")]
    fn poll(slf: &Bound<'_, Self>, timeout: Option<f64>) -> PyResult<bool> {
        let (py, this) = (slf.py(), slf.get());
        if !Self::is_direct(slf)? || timeout.is_some_and(f64::is_nan) {
            return slf.call_method1(name!(py, "_poll_object"), (timeout,))?.is_truthy();
        }
        let fd = borrow(this.readable_fd()?);
        let deadline = poll_deadline(timeout)?;
        let lane = this.incoming();
        let has_left = || lane.is_some_and(|lane| lane.has_left());
        let ready = wait(py, || {
            if has_left() {
                Ok(true)
            } else {
                until(fd, Direction::Reading, deadline)
            }
        })?;
        Ok(ready.unwrap_or(false))
    }

    /// Return the descriptor. Raises `OSError` when the connection is closed.
    ///
    /// From then on, all messages of a pipe go through its descriptors, for any program that reads or polls them.
    fn fileno(&self) -> PyResult<RawFd> {
        let fd = self.fd()?;
        self.go_plain();
        Ok(fd)
    }

    /// The descriptor, for this package, which does not read from it. Raises `OSError` when the connection is closed.
    #[getter]
    fn _descriptor(&self) -> PyResult<RawFd> {
        self.fd()
    }

    /// Whether an attribute of the instance hides a method of the class.
    #[getter]
    fn _replaced(&self) -> bool {
        self.replaced.load(Relaxed)
    }

    /// Whether there is a message to receive that the descriptor does not show: its receiver died.
    fn _has_left(&self) -> bool {
        self.incoming().is_some_and(|lane| lane.has_left())
    }

    /// Take such a message as bytes, or the one that a frame with this header names.
    #[pyo3(signature = (header=None))]
    fn _take_bytes<'py>(slf: &Bound<'py, Self>, header: Option<i32>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let this = slf.get();
        let incoming = match header {
            Some(header) => Some(Self::open(slf, header)?),
            None => this
                .incoming()
                .map_or(Ok(None), |lane| lane.take_left())
                .map_err(raise)?,
        };
        incoming
            .map(|incoming| payload::into_bytes(slf.py(), incoming))
            .transpose()
    }

    /// Receive one message as bytes.
    fn _receive<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        if Self::is_direct(slf)? {
            return Self::receive_bytes(slf, None).map(Bound::into_any);
        }
        slf.call_method0(name!(slf.py(), "_recv_bytes"))
    }

    /// Give the connection its descriptor.
    fn _open(&self, descriptor: RawFd, readable: bool, writable: bool) {
        // `__init__` of an end of a pipe was called again.
        self.go_plain();
        self.parted
            .store(self.outgoing.get().is_some() || self.incoming.get().is_some(), Relaxed);
        self.readable.store(readable, Relaxed);
        self.writable.store(writable, Relaxed);
        self.descriptor.store(descriptor, Relaxed);
    }

    /// Close the descriptor, once, whatever interrupts the caller.
    fn _shut(&self) -> PyResult<()> {
        match self.descriptor.swap(CLOSED, Relaxed) {
            CLOSED => Ok(()),
            fd => close(fd),
        }
    }

    /// Mark the connection as closed.
    fn _forget(&self) {
        self.descriptor.store(CLOSED, Relaxed);
    }

    /// Make lanes for the pipe of which this is one end and `other` the other: for each direction that both ends allow.
    /// Without memory for them the pipe is plain.
    fn _make_lanes(&self, other: &Self) {
        for (from, to) in [(self, other), (other, self)] {
            if from.writable.load(Relaxed) && to.readable.load(Relaxed) {
                let Ok(lane) = Lane::create() else { continue };
                let _ = (from.outgoing.set(lane.clone()), to.incoming.set(lane));
            }
        }
    }

    /// Return what `_join_lanes` needs in the process that receives the pickle being made. None without lanes, and for
    /// a pickle that may be read anywhere.
    fn _lanes(&self) -> PyResult<Option<State>> {
        let handles = [self.incoming(), self.outgoing()].map(|lane| lane.map(Ref::handle));
        let mut there = handles.iter().flatten().peekable();
        if there.peek().is_none() || !there.all(|handle| payload::attach_handle(*handle)) {
            return Ok(None);
        }
        let [incoming, outgoing] = handles.map(|handle| handle.map_or(0, Handle::to_bits));
        Ok(Some((family().map_err(raise)?.id(), incoming, outgoing)))
    }

    /// Use the lanes of a pipe that was sent.
    fn _join_lanes(&self, state: State) -> PyResult<()> {
        let (id, incoming, outgoing) = state;
        if id != family().map_err(raise)?.id() {
            return Err(raise(Error::Foreign("pipe")));
        }
        for (lane, handle) in [(&self.incoming, incoming), (&self.outgoing, outgoing)] {
            if let Some(handle) = Handle::from_bits(handle) {
                let _ = lane.set(Ref::attach(handle).map_err(raise)?);
            }
        }
        Ok(())
    }

    fn _check_readable(&self) -> PyResult<()> {
        self.readable_fd().map(drop)
    }

    fn _check_writable(&self) -> PyResult<()> {
        self.writable_fd().map(drop)
    }

    /// The descriptor, for other code; None when the connection is closed.
    #[getter]
    fn _handle(&self) -> Option<RawFd> {
        self.go_plain();
        self.fd().ok()
    }

    #[setter(_handle)]
    fn set_handle(&self, descriptor: Option<RawFd>) {
        self.go_plain();
        let descriptor = descriptor.unwrap_or(CLOSED);
        if self.descriptor.swap(descriptor, Relaxed) != descriptor {
            self.parted.store(true, Relaxed);
        }
    }

    #[getter]
    fn _readable(&self) -> bool {
        self.readable.load(Relaxed)
    }

    #[setter(_readable)]
    fn set_readable(&self, readable: bool) {
        self.readable.store(readable, Relaxed);
    }

    #[getter]
    fn _writable(&self) -> bool {
        self.writable.load(Relaxed)
    }

    #[setter(_writable)]
    fn set_writable(&self, writable: bool) {
        self.writable.store(writable, Relaxed);
    }

    /// True if the connection is closed.
    #[getter]
    fn closed(&self) -> bool {
        self.descriptor.load(Relaxed) == CLOSED
    }

    /// True if messages can be received.
    #[getter]
    fn readable(&self) -> bool {
        self.readable.load(Relaxed)
    }

    /// True if messages can be sent.
    #[getter]
    fn writable(&self) -> bool {
        self.writable.load(Relaxed)
    }

    /// Notes an attribute that hides a method: the methods here are then not called any more.
    fn _note_attribute(&self, name: &Bound<'_, PyString>) -> PyResult<()> {
        let name = name.to_cow()?;
        if REPLACEABLE.contains(&&*name) || OF_CONNECTION.contains(&&*name) {
            self.replaced.store(true, Relaxed);
            self.go_plain();
        }
        Ok(())
    }
}
