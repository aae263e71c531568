//! What a message refers to besides its bytes: shared objects and descriptors, collected while an object is pickled.

use crate::common::raise;
use crate::process::borrowed;
use procession_core::channel::{Brokered, BrokeredFd};
use procession_core::ids::Handle;
use procession_core::Error;
use pyo3::prelude::*;
use std::cell::RefCell;
use std::os::fd::{IntoRawFd, RawFd};

/// What a pickle refers to.
#[derive(Default)]
pub(super) struct Attachments {
    pub(super) handles: Vec<Handle>,
    /// The descriptors among them. Until the message refers to them, nothing else does.
    brokered_fds: Vec<Brokered>,
}

thread_local! {
    /// One entry for each `dumps` in progress in this thread.
    static SCOPES: RefCell<Vec<Attachments>> = const { RefCell::new(Vec::new()) };
}

/// Add a reference to an object to the message being made, so that the object lives until the message is received.
/// Called by the `__reduce__` of objects that are pickled as a handle. Returns `false` if no message is being made.
pub fn attach_handle(handle: Handle) -> bool {
    SCOPES.with_borrow_mut(|all| match all.last_mut() {
        Some(attachments) => {
            attachments.handles.push(handle);
            true
        }
        None => false,
    })
}

/// Add a duplicate of a descriptor to the message being made.
///
/// Return the number that `claim_fd` needs in the receiver, or None if no message is being made.
#[pyfunction]
pub fn broker_fd(fd: RawFd) -> PyResult<Option<u64>> {
    if SCOPES.with_borrow(Vec::is_empty) {
        return Ok(None);
    }
    let copy = borrowed(fd)?.try_clone_to_owned()?;
    let brokered = BrokeredFd::create(copy).map_err(raise)?;
    let handle = brokered.handle();
    attach_handle(handle);
    SCOPES.with_borrow_mut(|all| {
        all.last_mut()
            .map(|attachments| attachments.brokered_fds.push(brokered))
    });
    Ok(Some(handle.to_bits()))
}

/// Take the descriptor that `broker_fd` added to a message, while the message is unpickled.
///
/// Raise `ValueError` if the sender has ended.
#[pyfunction]
pub fn claim_fd(py: Python<'_>, number: u64) -> PyResult<RawFd> {
    let handle = Handle::from_bits(number);
    let claimed = py
        .detach(|| handle.map_or(Ok(None), BrokeredFd::claim))
        .map_err(raise)?;
    let fd = claimed.ok_or_else(|| raise(Error::Stale("descriptor in this message")))?;
    Ok(fd.into_raw_fd())
}

/// Collects what one `dumps` refers to.
pub(super) struct PicklingScope;

impl PicklingScope {
    pub(super) fn begin() -> Self {
        SCOPES.with_borrow_mut(|all| all.push(Attachments::default()));
        Self
    }

    /// Discard what the innermost `dumps` has collected.
    pub(super) fn discard() {
        let attachments = SCOPES.with_borrow_mut(|all| all.last_mut().map(std::mem::take));
        drop(attachments); // after the borrow ends
    }

    pub(super) fn end(self) -> Attachments {
        let attachments = SCOPES.with_borrow_mut(|all| all.last_mut().map(std::mem::take).unwrap_or_default());
        drop(self);
        attachments
    }
}

impl Drop for PicklingScope {
    fn drop(&mut self) {
        let attachments = SCOPES.with_borrow_mut(Vec::pop);
        drop(attachments); // after the borrow ends
    }
}
