//! Allocation without room for another slab: a free slab becomes one of another class, or a larger cell than necessary
//! is used.

use super::class::{bytes_of, cells_of, is_convertible, BUCKETS, CLASSES, SEGMENTS};
use super::descriptor::join;
use super::extent::claim;
use super::slab::{Cell, Slab};
use super::word::{is_unused, CellState, OwnerWord};
use super::Arena;
use crate::ids::Owner;
use crate::sys::atomic::Ordering::{AcqRel, Acquire, Relaxed};

impl Arena {
    /// A cell of an existing slab, for what fits into one of `class`.
    #[cold]
    pub(super) fn alloc_other(&self, class: usize, me: Owner) -> Option<(Cell, OwnerWord)> {
        let convert_one = |reached: bool| {
            let slabs = (0..self.slab_count()).filter_map(|number| self.slab(number));
            let others = slabs.filter(|slab| slab.class != class && is_convertible(slab.class));
            let mut others = others.filter(|slab| self.is_reached(slab.base, bytes_of(class)) == reached);
            others.find_map(|slab| {
                let number = self.convert(&slab, class, me).then_some(slab.number)?;
                self.alloc_in(number, class, me)
            })
        };
        let converted = || convert_one(true).or_else(|| convert_one(false));
        // Segments, and parts of tables, share their classes with nothing else.
        let is_apart = |class: usize| class == SEGMENTS || class == BUCKETS;
        let mut larger = (class + 1..CLASSES).filter(|&other| !is_apart(class) && !is_apart(other));
        let found = is_convertible(class).then(converted).flatten();
        found.or_else(|| larger.find_map(|class| self.alloc_anywhere(class, me)))
    }

    /// Turn an unused slab into one of another class, of the same slab size. False if the slab is in use.
    fn convert(&self, slab: &Slab, class: usize, me: Owner) -> bool {
        let cells = |class: usize| (0..cells_of(class)).map(|number| slab.cell(number));
        let is_unused = |cell: Cell| is_unused(cell.word.load(Relaxed));
        if !cells(slab.class).all(is_unused) {
            return false;
        }
        // DEATH: the reaper finds what is still ours through the footprint.
        self.add_to_footprint(slab.number, me);
        let claimed = cells(slab.class).take_while(|cell| claim(cell, me)).count();
        // DEATH: a reclaimer frees what is still ours, even a cell of the former class.
        let done = claimed == cells_of(slab.class) as usize
            && cells(slab.class).all(|cell| self.give_back_extent(&cell).is_ok())
            && slab
                .descriptor
                .place
                .compare_exchange(join(slab.base, slab.class), join(slab.base, class), AcqRel, Acquire)
                .is_ok();
        for cell in cells(slab.class).take(claimed) {
            let word = OwnerWord::decode(cell.word.load(Relaxed));
            if word.state == CellState::Owned(me) {
                // With the next generation, so that a process that looked at the slab as it was does not get a cell of
                // it.
                cell.word
                    .store(word.freed().encode(), std::sync::atomic::Ordering::Release);
                self.hint_free(&cell);
            }
        }
        if done {
            let (word, bit) = self.partial(class, slab.number);
            word.fetch_or(bit, AcqRel);
        }
        done
    }
}
