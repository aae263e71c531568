//! Who polls a queue by a descriptor, and whether it says already what is in the queue: a thread sets it, a moment after the put.
//!
//! Leaves the descriptors to `ready`, and to `last_words` that a process does not end within that moment.

use crate::roll::Owner;
use crate::sync::primitive::{fence, AtomicU32, Ordering};
use crate::sync::wait::EventCount;
use Ordering::{Relaxed, SeqCst};

/// Further watchers of one queue go unannounced.
const PLACES: usize = 8;
/// The descriptor is readable; or nobody's, in a place that somebody left.
const SHOWN: u32 = 1 << 31;

/// The watchers of a queue. Zero-filled is none, ever.
#[repr(C)]
pub(super) struct Watchers {
    /// Told when one of them may be behind no longer.
    pub caught_up: EventCount,
    /// `shown 1 | owner 31`. Taken from the first on, and never zero again: so the first tells whether there ever was one.
    places: [AtomicU32; PLACES],
}

/// A watcher, by its place if it has one.
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

    /// The owners, other than `me`, of descriptors that are not readable. Ask after having put: the descriptors of all others show the message, and are
    /// not cleared without a look for it.
    pub fn behind(&self, me: Owner) -> impl Iterator<Item = Owner> + '_ {
        let words = self.places.iter().map(|place| place.load(SeqCst));
        let behind = words.filter(|word| word & SHOWN == 0).filter_map(Owner::from_bits);
        behind.filter(move |owner| *owner != me)
    }

    /// A watcher whose descriptor is not readable: it is to look at the queue afterwards.
    pub fn join(&self, owner: Owner, is_alive: impl Fn(Owner) -> bool) -> Watcher {
        let place = self.places.iter().position(|place| {
            let word = place.load(SeqCst);
            // DEATH: a watcher that died counts until its place is taken; who waits for it asks the roll.
            let free = Owner::from_bits(word).is_none_or(|before| !is_alive(before));
            free && place.compare_exchange(word, owner.to_bits(), SeqCst, Relaxed).is_ok()
        });
        fence(SeqCst);
        Watcher { owner, place }
    }

    /// The watcher's descriptor is readable now.
    pub fn show(&self, watcher: Watcher) {
        self.say(watcher, SHOWN | watcher.owner.to_bits());
    }

    /// Whether the watcher's descriptor may be cleared, because the queue is empty.
    pub fn may_clear(&self, watcher: Watcher, is_empty: impl FnOnce() -> bool) -> bool {
        if let Some(place) = watcher.place {
            self.places[place].store(watcher.owner.to_bits(), SeqCst);
        }
        // SYNC: before the look. What was put before it is seen by it; who puts later sees that the descriptor does not show it.
        fence(SeqCst);
        let empty = is_empty();
        if !empty {
            self.show(watcher);
        }
        empty
    }

    /// The watcher is one no longer.
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
