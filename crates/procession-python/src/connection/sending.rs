//! The three ways of a message: by hand, in shared memory and named by a frame, and as a frame.

use super::frames::{self, Fd};
use crate::common::{raise, wait};
use procession_core::arena::Ref;
use procession_core::channel::{Lane, Message, Outgoing};
use procession_core::sync::descriptor::Spinner;
use procession_core::{Deadline, Error};
use pyo3::prelude::*;
use std::time::Duration;

/// How long the sender of a large message waits for room in shared memory. Then it learns from the descriptor whether
/// there is a reader at all.
const ROOM: Duration = Duration::from_millis(25);

/// From this many bytes on, the interpreter's lock is released for the copy.
const LONG: usize = 1 << 20;

/// What to do with a message for which no receiver spins.
pub(super) enum Else<'a> {
    /// Write it to the descriptor.
    Write,
    /// Wait a moment for a receiver, which may be at work on the message before, then write it to the descriptor.
    Wait(&'a Spinner),
    /// Write a frame that names it to the descriptor.
    Name,
}

/// Hand a message to a receiver that spins, or do what `otherwise` says. False if the message must be written to the
/// descriptor.
pub(super) fn put(py: Python<'_>, lane: &Lane, fd: Fd<'_>, out: Outgoing<'_>, otherwise: Else<'_>) -> PyResult<bool> {
    let large = matches!(otherwise, Else::Name);
    if large {
        let bytes = out.size();
        let now = lane.wait_for_room(bytes, Deadline::Now);
        if now.is_err() {
            let deadline = Deadline::after(ROOM);
            wait(py, || lane.wait_for_room(bytes, deadline))?;
        }
    }
    // Other threads run during a long copy, as they do during a long write.
    let packed = if out.size() >= LONG {
        py.detach(|| Message::pack(out))
    } else {
        Message::pack(out)
    };
    let posted = match packed.and_then(|message| lane.post(message)) {
        Ok(Some(posted)) => posted,
        Ok(None) | Err(Error::Exhausted { .. }) => return Ok(false),
        Err(error) => return Err(raise(error)),
    };
    let posted = match (posted.hand_over(), otherwise) {
        (Ok(()), _) => return Ok(true),
        (Err(posted), Else::Name) => posted,
        (Err(posted), Else::Wait(spinner)) => {
            let awaited = || lane.is_awaited().then_some(());
            return Ok(py.detach(|| spinner.run(awaited)).is_some() && posted.hand_over().is_ok());
        }
        (Err(_), Else::Write) => return Ok(false),
    };
    let Ok(named) = posted.announce() else {
        return Ok(false);
    };
    let (written, end) = frames::write_all(py, fd, &[&named.frame()]);
    if written > 0 {
        named.written();
    }
    end.map(|()| true)
}

/// Write a frame.
pub(super) fn write(py: Python<'_>, lane: Option<&Ref<Lane>>, fd: Fd<'_>, body: &[u8]) -> PyResult<()> {
    let announced = lane.and_then(|lane| lane.announce());
    let (head, len) = frames::header(body.len());
    let (written, end) = frames::write_all(py, fd, &[&head[..len], body]);
    if let Some(announced) = announced.filter(|_| written > 0) {
        announced.written();
    }
    end
}
