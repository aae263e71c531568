//! Slots for the waiters of a condition or a barrier. Each waiter has a word of its own; it sleeps on it and learns
//! from it what was decided.

use super::primitive::{wake_low, AtomicU64, Ordering};
use super::spin::Spin;
use super::wait::{Check, Purpose, Sleeper};
use crate::arena::{self, Object, Ref};
use crate::ids::{Handle, Kind, Owner};
use crate::{Deadline, Error, Result, WaitError};

/// Slots in a chunk: an object that contains one fits 512 bytes.
const SLOTS: usize = 56;
/// Pairs of slots in a chunk.
const PAIRS: usize = SLOTS / 2;
/// Tickets count modulo this.
const TICKETS: u32 = 1 << 30;

/// One waiter's word; zero is a free slot.
///
/// `ticket 30 | broken | asleep | decided | owner 31`. The waiter sleeps on the lower half, which changes only by the
/// decision.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct WaiterWord(pub(super) u64);

const DECIDED: u64 = 1 << 31;
const ASLEEP: u64 = 1 << 32;
const BROKEN: u64 = 1 << 33;

impl WaiterWord {
    fn new(ticket: u32, owner: Owner) -> Self {
        Self(u64::from(ticket % TICKETS) << 34 | u64::from(owner.to_bits()))
    }

    pub(super) fn owner(self) -> Option<Owner> {
        Owner::from_bits(self.0 as u32)
    }

    pub(super) fn is_decided(self) -> bool {
        self.0 & DECIDED != 0
    }

    /// Whether a waiter is there, and nothing was decided for it.
    pub(super) fn is_waiting(self) -> bool {
        self.owner().is_some() && !self.is_decided()
    }

    pub(super) fn is_asleep(self) -> bool {
        self.0 & ASLEEP != 0
    }

    /// The ticket.
    pub(super) fn ticket(self) -> u32 {
        (self.0 >> 34) as u32
    }

    /// How long ago the ticket was drawn, given the next one to draw.
    pub(super) fn age(self, next: u32) -> u32 {
        next.wrapping_sub(self.ticket()) % TICKETS
    }
}

/// A chunk of slots, linked to more when it is full. Zero-filled is empty.
#[repr(C)]
pub(crate) struct Chunk {
    pub(super) slots: [AtomicU64; SLOTS],
    /// Handle of the next chunk, to which this one holds a reference, or zero. Written once.
    pub(super) next: AtomicU64,
}

// SAFETY: atomics only; zero is a chunk of free slots; the liveness of owners comes from the process table, and the
// handle is checked when it is used.
unsafe impl Object for Chunk {
    const KIND: Kind = Kind::Cell;
    const NAME: &'static str = "list of waiters";

    fn destroy(&self) {
        // Fails without a family, and without memory for this process's entry: then the next chunk stays.
        let _ = arena::unlink(&self.next);
    }
}

/// Iterates over a list of chunks. A list that leads back to itself is damaged; the iteration ends where that is
/// noticed.
///
/// It ends with an error where this process has no address space for a further chunk. Chunks are never taken out of a
/// list: a user of the object holds a reference to the first, and each chunk one to the next. So a handle that is stale
/// is damage, and the list ends there. No step waits for another process.
struct Chunks<'a> {
    first: &'a Chunk,
    place: WaiterPlace,
    /// A chunk that was passed, replaced after 1, 2, 4, 8 and so on steps: in a circle the iteration meets it again.
    mark: *const Chunk,
    steps: usize,
}

/// Where an iteration is.
enum WaiterPlace {
    Before,
    First,
    Further(&'static Chunk),
    Over,
}

impl Iterator for Chunks<'_> {
    type Item = Result<Option<&'static Chunk>>;

    fn next(&mut self) -> Option<Self::Item> {
        let here = match self.place {
            WaiterPlace::Before => {
                self.place = WaiterPlace::First;
                return Some(Ok(None));
            }
            WaiterPlace::First => self.first,
            WaiterPlace::Further(chunk) => chunk,
            WaiterPlace::Over => return None,
        };
        self.steps += 1;
        if self.steps.is_power_of_two() {
            self.mark = here;
        }
        let next = Handle::from_bits(here.next.load(Ordering::Acquire)).map(arena::look_up::<Chunk>);
        self.place = WaiterPlace::Over;
        match next? {
            Ok(Some(next)) if !std::ptr::eq(next, self.mark) => {
                self.place = WaiterPlace::Further(next);
                Some(Ok(Some(next)))
            }
            Ok(_) => None,
            Err(error) => Some(Err(error)),
        }
    }
}

/// The slot of a waiter: in the first chunk, or in a further one, which exists as long as the first one does.
#[derive(Clone, Copy)]
pub(super) struct WaiterSlot {
    chunk: Option<&'static Chunk>,
    index: usize,
}

/// The state in which a waiter left its slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Leave {
    /// Nothing was decided.
    Undecided,
    /// It was decided in the meantime.
    Decided {
        /// The barrier broke.
        broken: bool,
    },
}

impl PartialEq for WaiterSlot {
    fn eq(&self, other: &Self) -> bool {
        let chunk = |slot: &Self| slot.chunk.map(std::ptr::from_ref);
        self.index == other.index && chunk(self) == chunk(other)
    }
}

impl Chunk {
    /// Add the words of all slots in use to `found`. Of a list that is partly out of reach these are the words in reach.
    pub(super) fn words(&self, found: &mut Vec<(WaiterSlot, WaiterWord)>) -> Result<()> {
        self.visit(|slot, word| {
            if word.owner().is_some() {
                found.push((slot(), word));
            }
            false
        })
        .map(drop)
    }

    /// The words of all slots in use that are in reach.
    pub(super) fn words_in_reach(&self) -> Vec<(WaiterSlot, WaiterWord)> {
        let mut found = Vec::new();
        let _ = self.words(&mut found);
        found
    }

    /// The number of waiters.
    pub(super) fn waiting(&self) -> Result<usize> {
        let mut count = 0;
        self.visit(|_, word| {
            count += usize::from(word.is_waiting());
            false
        })?;
        Ok(count)
    }

    /// Call `see` with each slot until it returns true; returns whether it did.
    pub(super) fn visit(&self, mut see: impl FnMut(&dyn Fn() -> WaiterSlot, WaiterWord) -> bool) -> Result<bool> {
        for chunk in self.chunks() {
            let chunk = chunk?;
            let slots = chunk.unwrap_or(self).slots.iter().enumerate();
            let mut words = slots.map(|(index, word)| (index, WaiterWord(word.load(Ordering::Acquire))));
            if words.any(|(index, word)| see(&|| WaiterSlot { chunk, index }, word)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The chunks of the list; `None` is this one.
    fn chunks(&self) -> Chunks<'_> {
        Chunks {
            first: self,
            place: WaiterPlace::Before,
            mark: std::ptr::null(),
            steps: 0,
        }
    }

    /// Add a chunk to a list that had no free slot; `seen` is the number of chunks at the previous call.
    pub(super) fn grow(&self, seen: &mut usize) -> Result<()> {
        let (mut count, mut last) = (0, self);
        for chunk in self.chunks() {
            (count, last) = (count + 1, chunk?.unwrap_or(self));
        }
        if count == *seen {
            return Err(Error::Corrupt("a list of waiters"));
        }
        *seen = count;
        let more: Ref<Chunk> = Ref::create()?;
        // Another thread or process may have been first.
        arena::link(&last.next, more.handle())?;
        Ok(())
    }

    /// Fail if a part of the list is out of reach.
    pub(super) fn reach(&self) -> Result<()> {
        self.chunks().try_for_each(|chunk| chunk.map(drop))
    }

    /// The pair of slots of this number; `None` beyond the last chunk. For users that keep words of their own in slots.
    pub(super) fn pair(&self, number: usize) -> Result<Option<[&AtomicU64; 2]>> {
        let first = number % PAIRS * 2;
        for (at, chunk) in self.chunks().enumerate() {
            let chunk = chunk?.unwrap_or(self);
            if at == number / PAIRS {
                return Ok(Some([&chunk.slots[first], &chunk.slots[first + 1]]));
            }
        }
        Ok(None)
    }

    /// All pairs in reach. Those that this process has claimed are.
    pub(super) fn pairs(&self) -> impl Iterator<Item = [&AtomicU64; 2]> {
        let chunks = self.chunks().map_while(|chunk| Some(chunk.ok()?.unwrap_or(self)));
        chunks.flat_map(|chunk| chunk.slots.chunks_exact(2).map(|pair| [&pair[0], &pair[1]]))
    }

    /// Take a free slot.
    pub(super) fn take_slot(&self, ticket: u32, me: Owner) -> Result<WaiterSlot> {
        let mine = WaiterWord::new(ticket, me);
        let mut seen = 0;
        loop {
            let mut slot = None;
            self.visit(|here, word| {
                if word == WaiterWord(0) {
                    let here = here();
                    if self.change(&here, word, mine) {
                        slot = Some(here);
                    }
                }
                slot.is_some()
            })?;
            match slot {
                Some(slot) => return Ok(slot),
                None => self.grow(&mut seen)?,
            }
        }
    }

    fn atomic<'a>(&'a self, slot: &'a WaiterSlot) -> &'a AtomicU64 {
        &slot.chunk.unwrap_or(self).slots[slot.index]
    }

    pub(super) fn word(&self, slot: &WaiterSlot) -> WaiterWord {
        WaiterWord(self.atomic(slot).load(Ordering::Acquire))
    }

    fn change(&self, slot: &WaiterSlot, from: WaiterWord, to: WaiterWord) -> bool {
        self.atomic(slot)
            .compare_exchange(from.0, to.0, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    }

    /// Free the slot of a dead waiter. True for one caller only.
    pub(super) fn clear(&self, slot: &WaiterSlot, dead: WaiterWord) -> bool {
        self.change(slot, dead, WaiterWord(0))
    }

    /// Decide for a waiter, unless it left or was decided for already.
    pub(super) fn decide(&self, slot: &WaiterSlot, mut word: WaiterWord, broken: bool) -> bool {
        let owner = word.owner();
        while word.is_waiting() && word.owner() == owner {
            let decided = WaiterWord(word.0 | DECIDED | if broken { BROKEN } else { 0 });
            if self.change(slot, word, decided) {
                if word.is_asleep() {
                    // DEATH: if we are killed before this wake, the waiter finds the decision in its next slice.
                    wake_low(self.atomic(slot), 1);
                }
                return true;
            }
            // It may have fallen asleep just now: the ticket tells whether it is the same wait.
            let now = self.word(slot);
            if now.0 & !ASLEEP != word.0 & !ASLEEP {
                return false;
            }
            word = now;
        }
        false
    }

    /// Leave the slot.
    pub(super) fn leave(&self, slot: &WaiterSlot) -> Leave {
        loop {
            let word = self.word(slot);
            if self.change(slot, word, WaiterWord(0)) {
                return if word.is_decided() {
                    Leave::Decided {
                        broken: word.0 & BROKEN != 0,
                    }
                } else {
                    Leave::Undecided
                };
            }
        }
    }

    /// Wait until it is decided. The slot is kept; `check_deaths` is called after each slice.
    pub(super) fn wait(
        &self,
        slot: &WaiterSlot,
        spin: &Spin,
        purpose: Purpose,
        deadline: Deadline,
        mut check_deaths: impl FnMut(),
    ) -> Result<(), WaitError> {
        let decided = || self.word(slot).is_decided().then_some(());
        if decided().is_some() || !deadline.is_over() && spin.run(decided).is_some() {
            return Ok(());
        }
        let atomic = self.atomic(slot);
        Sleeper::new(atomic, purpose, deadline).run(|whole| {
            if whole {
                check_deaths();
            }
            // SYNC: either the deciding process sees this bit, or we see the decision.
            let word = WaiterWord(atomic.fetch_or(ASLEEP, Ordering::AcqRel) | ASLEEP);
            Ok(if word.is_decided() {
                Check::Over(())
            } else {
                Check::Sleep(word.0 as u32)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::liveness;

    /// Lists of one and of more chunks, the last of which leads back to each of them in turn.
    #[test]
    fn a_list_that_leads_back_to_itself_is_damage_and_ends() {
        for chunks in 1..5 {
            for back in 0..chunks {
                let first: Ref<Chunk> = Ref::create().unwrap();
                let me = liveness::me().unwrap();
                for ticket in 0..chunks * SLOTS {
                    first.take_slot(ticket as u32, me).unwrap();
                }
                let nth = |n: usize| first.chunks().nth(n).unwrap().unwrap().unwrap_or(&first);
                let to = if back == 0 {
                    first.handle().to_bits()
                } else {
                    nth(back - 1).next.load(Ordering::Relaxed)
                };
                let last = &nth(chunks - 1).next;
                last.store(to, Ordering::Relaxed);
                assert!(first.waiting().unwrap() >= chunks * SLOTS);
                assert!(matches!(first.take_slot(0, me), Err(Error::Corrupt(_))));
                last.store(0, Ordering::Relaxed);
                assert_eq!(first.waiting().unwrap(), chunks * SLOTS);
            }
        }
    }
}
