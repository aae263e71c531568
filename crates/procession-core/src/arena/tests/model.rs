//! The allocator against a model: never overlapping, never leaking; and damaged words.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;

use proptest::prelude::*;

use super::{counters, Counter, Counters};
use crate::arena::{cells, Block, Bytes, Ref, Token};
use crate::ids::Handle;
use crate::{family, reclaim};

#[derive(Clone, Debug)]
enum Action {
    Alloc(usize),
    Free(usize),
    Pass(usize),
    Trim(u64),
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        3 => (0..40_000_usize).prop_map(Action::Alloc),
        3 => (30_000..3_000_000_usize).prop_map(Action::Alloc),
        5 => any::<usize>().prop_map(Action::Free),
        2 => any::<usize>().prop_map(Action::Pass),
        1 => (0..4_u64 << 20).prop_map(Action::Trim),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(64), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn blocks_never_overlap_and_all_come_back(actions in prop::collection::vec(action(), 1..120)) {
        let arena = family().unwrap().arena();
        let mut blocks: Vec<(u64, Block)> = Vec::new();
        let mut taken: BTreeMap<usize, usize> = BTreeMap::new();
        for (number, action) in (0..).zip(actions) {
            match action {
                Action::Alloc(len) => {
                    let mut block = Block::alloc(len).unwrap();
                    let start = block.as_ptr() as usize;
                    let below = taken.range(..start + len.max(1)).next_back();
                    prop_assert!(below.is_none_or(|(&at, &length)| at + length <= start));
                    taken.insert(start, len.max(1));
                    mark(&mut block, number);
                    blocks.push((number, block));
                }
                Action::Free(which) if !blocks.is_empty() => {
                    let (mark, block) = blocks.swap_remove(which % blocks.len());
                    prop_assert!(is_marked(&block, mark));
                    taken.remove(&(block.as_ptr() as usize));
                }
                Action::Pass(which) if !blocks.is_empty() => {
                    let (mark, block) = blocks.swap_remove(which % blocks.len());
                    let len = block.len();
                    blocks.push((mark, Block::take(block.send(), len).unwrap()));
                }
                Action::Trim(keep) => arena.trim(keep).unwrap(),
                _ => {}
            }
        }
        for (mark, block) in blocks {
            prop_assert!(is_marked(&block, mark));
        }
        prop_assert_eq!(counters(), Counters::default());
        let bytes = arena.bytes();
        prop_assert_eq!(bytes.used, 0);
        arena.trim(0).unwrap();
        prop_assert_eq!(arena.bytes(), Bytes::default(), "{} bytes were idle", bytes.idle);
    }

    #[test]
    fn tokens_and_handles_of_any_bits_are_refused(bits: u64) {
        let keep = (Ref::<Counter>::create().unwrap(), Block::alloc(100_000).unwrap());
        prop_assert!(Block::take(Token(bits), 1).is_err());
        Block::discard(Token(bits));
        prop_assert!(Block::peek(Token(bits), 1).is_err());
        if let Some(handle) = Handle::from_bits(bits).filter(|&handle| handle != keep.0.handle()) {
            prop_assert!(Ref::<Counter>::attach(handle).is_err());
            prop_assert!(!crate::arena::link(&keep.0.value, handle).unwrap());
        }
        prop_assert!(cells::segment_ptr(bits as u32).is_none());
        cells::free_segment(bits as u32, (bits >> 32) as u32);
    }

    /// Whatever words are damaged, the result is an error or a wrong answer, but no panic, no access outside, no
    /// endless loop.
    #[test]
    fn damaged_words_do_no_more_harm(hits in prop::collection::vec((any::<prop::sample::Index>(), any::<u64>(), 0..8_u8), 1..20)) {
        let family = family().unwrap();
        let arena = family.arena();
        let keep: Vec<_> = (1..20).map(|n| (Block::alloc(n * 7000).unwrap(), Ref::<Counter>::create().unwrap())).collect();
        let words: Vec<&std::sync::atomic::AtomicU64> = arena.table_words_for_tests();
        let saved: Vec<u64> = words.iter().map(|word| word.load(Relaxed)).collect();
        for (index, bits, how) in hits {
            let word = words[index.index(words.len())];
            match how {
                0 => word.store(bits, Relaxed),
                1 => word.store(0, Relaxed),
                2 => word.store(u64::MAX, Relaxed),
                how => { word.fetch_xor(1 << (bits % 64) | u64::from(how & 1), Relaxed); }
            }
        }
        for (block, object) in &keep {
            let _ = Ref::<Counter>::attach(object.handle());
            let _ = Block::take(block.token(), 1).map(std::mem::forget);
        }
        for len in [10, 5000, 100_000] {
            // What a damaged arena hands out is not written to: it may belong to any process.
            let _ = Block::alloc(len).map(Block::send);
        }
        let _ = reclaim::sweep_deferred();
        let _ = arena.bytes();
        let _ = arena.trim(0);
        for (word, bits) in words.iter().zip(&saved) {
            word.store(*bits, Relaxed);
        }
    }
}

fn mark(block: &mut Block, number: u64) {
    let len = block.len();
    for at in (0..len.saturating_sub(8))
        .step_by(4096)
        .chain((len >= 8).then(|| len - 8))
    {
        block.as_mut_slice()[at..at + 8].copy_from_slice(&(number ^ at as u64).to_le_bytes());
    }
}

fn is_marked(block: &Block, number: u64) -> bool {
    let len = block.len();
    // The last mark may overlap the one before it.
    let last = len.saturating_sub(8);
    (0..last)
        .step_by(4096)
        .filter(|at| at + 8 <= last)
        .chain((len >= 8).then_some(last))
        .all(|at| block.as_slice()[at..at + 8] == (number ^ at as u64).to_le_bytes())
}
