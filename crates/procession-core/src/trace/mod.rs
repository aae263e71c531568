//! What happened when: events that each process writes into a ring of its own in the arena, while the family is traced.
//!
//! A tracer switches it on and off from outside (`inspect`), and reads the rings. The README of this folder has the
//! state machine, the invariants, and what each death leaves behind.

mod event;
mod ring;
pub(crate) mod seen;
#[cfg(test)]
mod tests;

use crate::arena;
use crate::ids::{Handle, Kind};
use std::sync::atomic::Ordering::Relaxed;

pub use event::What;
pub(crate) use ring::{after_fork_child, forget_dead_tracer};

/// Whether the family is traced: one load and a comparison.
#[inline]
pub fn is_on() -> bool {
    arena::tracer().load(Relaxed) != 0
}

/// Write an event, if the family is traced. Never waits. An event that finds no room is counted.
#[inline]
pub(crate) fn note(what: What, object: Handle, detail: u64) {
    if is_on() {
        ring::record(what, object.to_bits(), detail);
    }
}

/// As [`note`], for an event that concerns no object.
#[inline]
pub(crate) fn note_alone(what: What, detail: u64) {
    if is_on() {
        ring::record(what, 0, detail);
    }
}

/// Give the task that this thread began last a name, cut to 64 bytes, if the family is traced.
pub fn label(name: &str) {
    if !is_on() {
        return;
    }
    let end = (0..=name.len().min(64)).rev().find(|&end| name.is_char_boundary(end));
    for piece in name.as_bytes()[..end.unwrap_or(0)].chunks(16) {
        let mut bytes = [0; 16];
        bytes[..piece.len()].copy_from_slice(piece);
        let bits = u128::from_le_bytes(bytes);
        ring::record(What::Label, bits as u64, (bits >> 64) as u64);
    }
}

/// A wait of this thread; its end is an event when this is dropped.
pub(crate) struct TracedWait(Option<(u64, u64)>);

impl TracedWait {
    /// A wait begins, for this object, of this kind.
    #[inline]
    pub(crate) fn begin(kind: Option<Kind>, object: Option<Handle>) -> Self {
        Self(is_on().then(|| {
            let wait = (object.map_or(0, Handle::to_bits), kind.map_or(0, |kind| kind as u64));
            ring::record(What::WaitBegin, wait.0, wait.1);
            wait
        }))
    }
}

impl Drop for TracedWait {
    #[inline]
    fn drop(&mut self) {
        if let Some((object, kind)) = self.0 {
            ring::record(What::WaitEnd, object, kind);
        }
    }
}
