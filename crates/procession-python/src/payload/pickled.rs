//! A pickled object, on its way into a message. Leaves the choice of the pickler to `payload`.

use super::attachments::Attachments;
use super::lone::Lone;
use super::small::Small;
use super::view::{Piece, View};
use super::{dumps_whole, PASSED_ON};
use crate::common::raise;
use procession_core::channel::{Message, Outgoing};
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyList};

/// A pickled object.
pub struct Pickled<'py> {
    pub(super) py: Python<'py>,
    pub(super) body: Body<'py>,
    pub(super) buffers: Vec<View>,
    pub(super) attachments: Attachments,
    /// Whether it holds copies of what is otherwise found by name, because pickle could not carry it.
    pub(super) by_value: bool,
}

/// The body of a message.
pub(super) enum Body<'py> {
    Pickle(Bound<'py, PyBytes>),
    /// A pickle in pieces.
    Pieces(Vec<Piece>),
    Lone(Lone<'py>),
    Small(Small),
}

impl<'py> Pickled<'py> {
    /// The object as a message for `pack`, which copies what it keeps.
    pub fn with<T>(&self, pack: impl FnOnce(Outgoing<'_>) -> procession_core::Result<T>) -> PyResult<T> {
        self.with_parts(pack)?.map_err(raise)
    }

    /// As [`with`](Self::with), but leaves the end of `pack` to the caller.
    pub fn with_parts<T>(&self, pack: impl FnOnce(Outgoing<'_>) -> T) -> PyResult<T> {
        let buffers: Vec<&[u8]> = self.buffers.iter().map(View::as_slice).collect();
        let pieces: Vec<&[u8]>;
        let memory;
        let (body, more) = match &self.body {
            Body::Pickle(body) => (body.as_bytes(), &[][..]),
            Body::Pieces(written) => {
                pieces = written.iter().map(|piece| piece.as_slice(self.py)).collect();
                (&[][..], &pieces[..])
            }
            Body::Lone(lone) => {
                let (head, behind) = lone.pieces()?;
                memory = [behind];
                (head, &memory[..])
            }
            Body::Small(small) => (small.as_slice(), &[][..]),
        };
        Ok(pack(Outgoing {
            body,
            more,
            buffers: &buffers,
            handles: &self.attachments.handles,
        }))
    }

    /// Number of bytes in the message.
    pub fn size(&self) -> PyResult<usize> {
        self.with_parts(|out| out.size())
    }

    /// Whether the message refers to shared objects.
    pub fn has_handles(&self) -> bool {
        !self.attachments.handles.is_empty()
    }

    /// Whether it is more than bytes, such that shared memory alone can carry it.
    pub fn needs_memory(&self) -> bool {
        self.has_handles() || !self.buffers.is_empty()
    }

    /// A pickle that has everything in it. `obj`: what was pickled. Its reducers do not run again, unless it refers to
    /// shared objects.
    pub fn into_whole(self, obj: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
        if self.has_handles() || matches!(self.body, Body::Lone(_) | Body::Small(_)) {
            return dumps_whole(obj);
        }
        if self.buffers.is_empty() {
            return self.body.join(self.py);
        }
        let buffers = self
            .buffers
            .iter()
            .map(|buffer| PyByteArray::new(self.py, buffer.as_slice()));
        let buffers = PyList::new(self.py, buffers.collect::<Vec<_>>())?;
        let join = self
            .py
            .import("procession._connections.framing")?
            .getattr("_joined_pickle")?;
        Ok(join.call1((self.body.join(self.py)?, buffers))?.cast_into()?)
    }

    /// Whether the functions in it are found by name, and so are the same whenever they are pickled.
    pub fn is_by_name(&self) -> bool {
        !self.by_value
    }

    /// The object as a message.
    pub fn pack(&self) -> PyResult<Message> {
        self.with(Message::pack)
    }
}

impl<'py> Body<'py> {
    /// All of the body.
    pub(super) fn join(self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let pieces: Vec<&[u8]> = match &self {
            Self::Pickle(body) => return Ok(body.clone()),
            Self::Pieces(pieces) => pieces.iter().map(|piece| piece.as_slice(py)).collect(),
            Self::Lone(lone) => <[_; 2]>::from(lone.pieces()?).to_vec(),
            Self::Small(small) => vec![small.as_slice()],
        };
        let len = pieces.iter().map(|piece| piece.len()).sum();
        PyBytes::new_with(py, len, |mut bytes| {
            for piece in pieces {
                let (first, rest) = bytes.split_at_mut(piece.len());
                first.copy_from_slice(piece);
                bytes = rest;
            }
            Ok(())
        })
    }

    /// The parts of a pickle that the pickler wrote itself, and perhaps some that it passed on: of protocol 4 and 5, it
    /// begins all that is not short with one of two opcodes.
    pub(super) fn written(&self, py: Python<'py>) -> Vec<Bound<'py, PyBytes>> {
        const PROTO: u8 = 0x80;
        const FRAME: u8 = 0x95;
        match self {
            Self::Pickle(body) => vec![body.clone()],
            Self::Pieces(pieces) => pieces
                .iter()
                .filter_map(Piece::as_bytes)
                .filter(|piece| piece.as_bytes(py).len() < PASSED_ON || [PROTO, FRAME].contains(&piece.as_bytes(py)[0]))
                .map(|piece| piece.bind(py).clone())
                .collect(),
            Self::Lone(_) | Self::Small(_) => Vec::new(),
        }
    }
}
