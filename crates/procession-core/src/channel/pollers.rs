//! The processes that poll a queue by a descriptor, and whether each descriptor already shows what is in the queue: a
//! thread sets it, a moment after the put.
//!
//! Leaves the descriptors to `poll_descriptor`. Leaves it to `flush_before_exit` to keep a process from exiting within
//! that moment.

use crate::ids::Owner;
use crate::sync::primitive::{fence, AtomicU32, Ordering};
use crate::sync::wait::EventCount;
use Ordering::{Relaxed, SeqCst};

/// Number of pollers that a queue announces; further ones go unannounced.
const SLOTS: usize = 8;
/// The descriptor is readable. In a word without an owner: the poller has left this slot.
const SHOWN: u32 = 1 << 31;

/// The pollers of a queue. Zero-filled: there never was one.
#[repr(C)]
pub(super) struct Pollers {
    /// Notified when a poller may no longer be behind.
    pub caught_up: EventCount,
    /// `shown 1 | owner 31`. Slots are taken from the first on and are never zero again, so the first tells whether
    /// there ever was a poller.
    slots: [AtomicU32; SLOTS],
}

/// A poller, with its slot if it has one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Poller {
    owner: Owner,
    slot: Option<usize>,
}

impl Pollers {
    /// Whether there ever was a poller.
    #[inline]
    pub fn ever_joined(&self) -> bool {
        self.slots[0].load(Relaxed) != 0
    }

    /// The owners, other than `me`, of descriptors that are not readable. Call it after the put: then all other
    /// descriptors show the message, and are not cleared without a look for it.
    pub fn behind(&self, me: Owner) -> impl Iterator<Item = Owner> + '_ {
        let words = self.slots.iter().map(|slot| slot.load(SeqCst));
        let behind = words.filter(|word| word & SHOWN == 0).filter_map(Owner::from_bits);
        behind.filter(move |owner| *owner != me)
    }

    /// Add a poller whose descriptor is not readable. It must look at the queue afterwards.
    pub fn join(&self, owner: Owner, is_alive: impl Fn(Owner) -> bool) -> Poller {
        let slot = self.slots.iter().position(|slot| {
            let word = slot.load(SeqCst);
            // DEATH: a dead poller counts until its slot is taken; a process that waits for it asks the process table.
            let free = Owner::from_bits(word).is_none_or(|before| !is_alive(before));
            free && slot.compare_exchange(word, owner.to_bits(), SeqCst, Relaxed).is_ok()
        });
        fence(SeqCst);
        Poller { owner, slot }
    }

    /// Record that the poller's descriptor is readable now.
    pub fn show(&self, poller: Poller) {
        self.store(poller, SHOWN | poller.owner.to_bits());
    }

    /// Whether the poller's descriptor may be cleared, because the queue is empty.
    pub fn may_clear(&self, poller: Poller, is_empty: impl FnOnce() -> bool) -> bool {
        if let Some(slot) = poller.slot {
            self.slots[slot].store(poller.owner.to_bits(), SeqCst);
        }
        // SYNC: the store comes before the look. The look sees what was put before the store; a later producer sees
        // that the descriptor does not show its message.
        fence(SeqCst);
        let empty = is_empty();
        if !empty {
            self.show(poller);
        }
        empty
    }

    /// Remove the poller.
    pub fn leave(&self, poller: Poller) {
        self.store(poller, SHOWN);
    }

    fn store(&self, poller: Poller, word: u32) {
        if let Some(slot) = poller.slot {
            self.slots[slot].store(word, SeqCst);
            self.caught_up.notify_all();
        }
    }
}
