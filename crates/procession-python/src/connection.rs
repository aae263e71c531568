//! Bindings of a pipe's lanes: the base class of `procession.connection.Connection`.
//!
//! Where a connection has no lane, or the pipe has left it, these methods call those of the class in Python, which use
//! the descriptor.

use crate::common::{name, poll_deadline, raise, wait};
use crate::descriptor::{borrow, close};
use crate::payload;
use procession_core::channel::lane::{self, Received, Receiver, Sender, Sent};
use procession_core::channel::{Incoming, Message, Outgoing};
use procession_core::ids::Handle;
use procession_core::{family, Error};
use pyo3::buffer::PyUntypedBuffer;
use pyo3::exceptions::{PyEOFError, PyOSError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};
use std::os::fd::{BorrowedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering::Relaxed};
use std::sync::OnceLock;

/// No descriptor: closed, or not open yet.
const CLOSED: RawFd = -1;

/// The parts of a connection that do not depend on how it carries messages, and its lanes.
#[pyclass(frozen, subclass, weakref, module = "procession._procession", name = "Connection")]
pub struct Connection {
    descriptor: AtomicI32,
    readable: AtomicBool,
    writable: AtomicBool,
    outgoing: OnceLock<Sender>,
    incoming: OnceLock<Receiver>,
}

/// So many bytes fit into the descriptor of a pipe that has nothing but bells in it.
const MOVED: usize = 1 << 14;

/// How another process finds the lanes: the family, and the handles of the receiving and of the sending end; 0 = none.
type State = (u128, u64, u64);

impl Connection {
    fn fd(&self) -> PyResult<RawFd> {
        match self.descriptor.load(Relaxed) {
            CLOSED => Err(PyOSError::new_err("handle is closed")),
            fd => Ok(fd),
        }
    }

    fn borrowed_fd(&self) -> PyResult<BorrowedFd<'_>> {
        Ok(borrow(self.fd()?))
    }

    /// The lane to send through, unless the pipe has left it.
    fn sender(&self) -> Option<&Sender> {
        self.outgoing.get().filter(|sender| !sender.is_left())
    }

    /// Leave the lanes: from now on messages go through the descriptor. It also gets the messages that are in the lane,
    /// if the other end is open in this process and they fit for sure.
    fn leave(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        if let Some(sender) = this.outgoing.get() {
            sender.leave();
        }
        let Some(receiver) = this.incoming.get().filter(|receiver| receiver.leave()) else {
            return Ok(());
        };
        if receiver.pending().map_err(raise)?.is_some_and(|bytes| bytes <= MOVED) {
            slf.call_method0(name!(slf.py(), "_move_messages"))?;
        }
        if let Ok(fd) = this.borrowed_fd() {
            receiver.prepare_poll(fd).map_err(raise)?;
        }
        Ok(())
    }

    /// Put a message into the lane. `false` if it must go through the descriptor.
    fn post(&self, py: Python<'_>, sender: &Sender, message: Message) -> PyResult<bool> {
        let fd = self.borrowed_fd()?;
        let mut message = Some(message);
        let sent = match sender.try_send(&mut message, fd).map_err(raise)? {
            Sent::Full => wait(py, || sender.send(&mut message, fd))?.unwrap_or(Sent::Full),
            sent => sent,
        };
        match sent {
            Sent::Done => Ok(true),
            Sent::Full | Sent::Descriptor => Ok(false),
            Sent::Broken => Err(PyOSError::new_err((libc::EPIPE, "Broken pipe"))),
        }
    }

    /// Take the oldest message of the lane, waiting for it. `None` if a frame must be read from the descriptor.
    fn take(&self, py: Python<'_>) -> PyResult<Option<Incoming>> {
        let Some(receiver) = self.incoming.get() else {
            return Ok(None);
        };
        let fd = self.borrowed_fd()?;
        if let Some(incoming) = receiver.try_receive(fd).map_err(raise)? {
            return Ok(Some(incoming));
        }
        let mut idle = false;
        match wait(py, || receiver.receive(fd, &mut idle))? {
            Some(Received::Message(incoming)) => Ok(Some(incoming)),
            Some(Received::Descriptor) | None => Ok(None),
            Some(Received::End) => Err(PyEOFError::new_err(())),
        }
    }

    fn check_readable(&self) -> PyResult<()> {
        self.fd()?;
        if self.readable.load(Relaxed) {
            return Ok(());
        }
        Err(PyOSError::new_err("connection is write-only"))
    }

    fn check_writable(&self) -> PyResult<()> {
        self.fd()?;
        if self.writable.load(Relaxed) {
            return Ok(());
        }
        Err(PyOSError::new_err("connection is read-only"))
    }
}

#[pymethods]
impl Connection {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, pyo3::types::PyDict>>) -> Self {
        Self {
            descriptor: AtomicI32::new(CLOSED),
            readable: AtomicBool::new(false),
            writable: AtomicBool::new(false),
            outgoing: OnceLock::new(),
            incoming: OnceLock::new(),
        }
    }

    /// Send an object, which must be picklable.
    fn send(slf: &Bound<'_, Self>, obj: &Bound<'_, PyAny>) -> PyResult<()> {
        let (py, this) = (slf.py(), slf.get());
        this.check_writable()?;
        if let Some(sender) = this.sender() {
            match payload::dumps(obj)?.with(|out| Ok(Message::pack(out)))? {
                Ok(message) => {
                    if this.post(py, sender, message)? {
                        return Ok(());
                    }
                }
                Err(Error::Exhausted { .. }) => sender.leave(),
                Err(error) => return Err(raise(error)),
            }
        }
        slf.call_method1(name!(py, "_send_object"), (obj,)).map(drop)
    }

    /// Receive one object. Raises `EOFError` when the other end is closed and nothing is left.
    fn recv<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let (py, this) = (slf.py(), slf.get());
        this.check_readable()?;
        match this.take(py)? {
            Some(incoming) => payload::into_object(py, incoming),
            None => slf.call_method0(name!(py, "_recv_object")),
        }
    }

    /// Return whether there is something to receive.
    ///
    /// Waits up to `timeout` seconds (None: forever).
    #[pyo3(signature = (timeout=0.0))]
    fn _poll_lane(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Option<bool>> {
        let Some(receiver) = self.incoming.get() else {
            return Ok(None);
        };
        let fd = self.borrowed_fd()?;
        if receiver.is_ready(fd).map_err(raise)? {
            return Ok(Some(true));
        }
        let deadline = poll_deadline(timeout)?;
        if deadline.is_over() {
            return Ok(Some(false));
        }
        let mut idle = false;
        Ok(Some(
            wait(py, || receiver.wait_until_ready(fd, &mut idle, deadline))?.is_some(),
        ))
    }

    /// Prepare for a poll of the descriptor, which becomes readable with the next message. Return whether there is
    /// something to receive already; None without a lane.
    fn _arm(&self) -> PyResult<Option<bool>> {
        let fd = self.borrowed_fd()?;
        let receiver = self.incoming.get();
        receiver.map(|receiver| receiver.arm(fd)).transpose().map_err(raise)
    }

    /// Return whether there is something to receive. If not, remove stale bells, so that the descriptor is not readable.
    fn _is_ready(&self) -> PyResult<bool> {
        let fd = self.borrowed_fd()?;
        match self.incoming.get() {
            Some(receiver) => receiver.prepare_poll(fd).map_err(raise),
            None => Ok(false),
        }
    }

    /// Send bytes through the lane. Return False if they must go through the descriptor.
    fn _put_bytes(&self, buf: &Bound<'_, PyAny>) -> PyResult<bool> {
        let Some(sender) = self.sender() else {
            return Ok(false);
        };
        let view;
        let body = if let Ok(bytes) = buf.cast_exact::<PyBytes>() {
            bytes.as_bytes()
        } else {
            view = PyUntypedBuffer::get(buf)?;
            if !view.is_c_contiguous() {
                return Ok(false);
            }
            payload::bytes_of(&view)
        };
        let outgoing = Outgoing {
            body: &[payload::RAW],
            more: &[body],
            ..Outgoing::default()
        };
        match Message::pack(outgoing) {
            Ok(message) => self.post(buf.py(), sender, message),
            Err(Error::Exhausted { .. }) => {
                sender.leave();
                Ok(false)
            }
            Err(error) => Err(raise(error)),
        }
    }

    /// Take the oldest message of the lane as bytes, waiting for it if `block`. Return None if a frame must be read
    /// from the descriptor, or if there is no message.
    fn _take_bytes<'py>(&self, py: Python<'py>, block: bool) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let taken = match self.incoming.get() {
            Some(receiver) if !block => receiver.try_receive(self.borrowed_fd()?).map_err(raise)?,
            _ => self.take(py)?,
        };
        taken.map(|incoming| payload::into_bytes(py, incoming)).transpose()
    }

    /// Give the connection its descriptor.
    fn _open(&self, descriptor: RawFd, readable: bool, writable: bool) {
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

    /// Mark the connection as closed, for this process and for those at the other end.
    fn _closed(&self) {
        self.descriptor.store(CLOSED, Relaxed);
        if let Some(sender) = self.outgoing.get() {
            sender.closed();
        }
        if let Some(receiver) = self.incoming.get() {
            receiver.closed();
        }
    }

    /// Make lanes for the pipe of which this is one end and `other` the other: for each direction that both ends allow.
    fn _make_lanes(&self, other: &Self) -> PyResult<()> {
        for (from, to) in [(self, other), (other, self)] {
            if from.writable.load(Relaxed) && to.readable.load(Relaxed) {
                let (sender, receiver) = lane::lane().map_err(raise)?;
                let _ = (from.outgoing.set(sender), to.incoming.set(receiver));
            }
        }
        Ok(())
    }

    /// Return what `_join_lanes` needs in the process that receives the pickle being made. None without lanes, and for
    /// a pickle that may be read anywhere.
    fn _lanes(&self) -> PyResult<Option<State>> {
        let handles = [
            self.incoming.get().map(Receiver::handle),
            self.outgoing.get().map(Sender::handle),
        ];
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
        if let Some(handle) = Handle::from_bits(incoming) {
            let _ = self.incoming.set(Receiver::attach(handle).map_err(raise)?);
        }
        if let Some(handle) = Handle::from_bits(outgoing) {
            let _ = self.outgoing.set(Sender::attach(handle).map_err(raise)?);
        }
        Ok(())
    }

    /// Use the descriptor alone from now on.
    fn _leave_lanes(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::leave(slf)
    }

    fn _check_readable(&self) -> PyResult<()> {
        self.check_readable()
    }

    fn _check_writable(&self) -> PyResult<()> {
        self.check_writable()
    }

    /// Return the descriptor. Raises `OSError` when the connection is closed.
    ///
    /// From then on all messages of a pipe go through its descriptors, so that any process can read or poll them.
    fn fileno(slf: &Bound<'_, Self>) -> PyResult<RawFd> {
        let fd = slf.get().fd()?;
        Self::leave(slf)?;
        Ok(fd)
    }

    /// The descriptor, for the connection's own use. Raises `OSError` when the connection is closed.
    #[getter]
    fn _descriptor(&self) -> PyResult<RawFd> {
        self.fd()
    }

    /// The descriptor, for other code; None when the connection is closed.
    #[getter]
    fn _handle(slf: &Bound<'_, Self>) -> PyResult<Option<RawFd>> {
        Self::leave(slf)?;
        Ok(slf.get().fd().ok())
    }

    #[setter(_handle)]
    fn set_handle(slf: &Bound<'_, Self>, descriptor: Option<RawFd>) -> PyResult<()> {
        Self::leave(slf)?;
        slf.get().descriptor.store(descriptor.unwrap_or(CLOSED), Relaxed);
        Ok(())
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
}
