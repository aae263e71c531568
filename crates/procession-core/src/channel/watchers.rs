//! The processes that poll a queue by a descriptor, and whether each descriptor already shows what is in the queue: a
//! thread sets it, a moment after the put.
//!
//! Leaves the descriptors to `ready`. Leaves it to `last_words` to keep a process from exiting within that moment.

use crate::roll::Owner;
use crate::sync::primitive::{fence, AtomicU32, Ordering};
use crate::sync::wait::EventCount;
use Ordering::{Relaxed, SeqCst};

/// Number of watchers that a queue announces; further ones go unannounced.
const PLACES: usize = 8;
/// The descriptor is readable. In a word without an owner: the watcher has left this place.
const SHOWN: u32 = 1 << 31;

/// The watchers of a queue. Zero-filled: there never was one.
#[repr(C)]
pub(super) struct Watchers {
    /// Notified when a watcher may no longer be behind.
    pub caught_up: EventCount,
    /// `shown 1 | owner 31`. Places are taken from the first on and are never zero again, so the first tells whether
    /// there ever was a watcher.
    places: [AtomicU32; PLACES],
}

/// A watcher, with its place if it has one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Watcher {
    owner: Owner,
    place: Option<usize>,
}

impl Watchers {
    /// Whether there ever was a watcher.
    #[inline]
    pub fn were_there(&self) -> bool {
        self.places[0].load(Relaxed) != 0
    }

    /// The owners, other than `me`, of descriptors that are not readable. Call it after the put: then all other
    /// descriptors show the message, and are not cleared without a look for it.
    pub fn behind(&self, me: Owner) -> impl Iterator<Item = Owner> + '_ {
        let words = self.places.iter().map(|place| place.load(SeqCst));
        let behind = words.filter(|word| word & SHOWN == 0).filter_map(Owner::from_bits);
        behind.filter(move |owner| *owner != me)
    }

    /// Add a watcher whose descriptor is not readable. It must look at the queue afterwards.
    pub fn join(&self, owner: Owner, is_alive: impl Fn(Owner) -> bool) -> Watcher {
        let place = self.places.iter().position(|place| {
            let word = place.load(SeqCst);
            // DEATH: a dead watcher counts until its place is taken; a process that waits for it asks the roll.
            let free = Owner::from_bits(word).is_none_or(|before| !is_alive(before));
            free && place.compare_exchange(word, owner.to_bits(), SeqCst, Relaxed).is_ok()
        });
        fence(SeqCst);
        Watcher { owner, place }
    }

    /// Record that the watcher's descriptor is readable now.
    pub fn show(&self, watcher: Watcher) {
        self.say(watcher, SHOWN | watcher.owner.to_bits());
    }

    /// Whether the watcher's descriptor may be cleared, because the queue is empty.
    pub fn may_clear(&self, watcher: Watcher, is_empty: impl FnOnce() -> bool) -> bool {
        if let Some(place) = watcher.place {
            self.places[place].store(watcher.owner.to_bits(), SeqCst);
        }
        // SYNC: the store comes before the look. The look sees what was put before the store; a later producer sees
        // that the descriptor does not show its message.
        fence(SeqCst);
        let empty = is_empty();
        if !empty {
            self.show(watcher);
        }
        empty
    }

    /// Remove the watcher.
    pub fn leave(&self, watcher: Watcher) {
        self.say(watcher, SHOWN);
    }

    fn say(&self, watcher: Watcher, word: u32) {
        if let Some(place) = watcher.place {
            self.places[place].store(word, SeqCst);
            self.caught_up.notify_all();
        }
    }
}
