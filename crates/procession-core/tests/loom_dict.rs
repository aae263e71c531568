//! The shared dictionary, compiled from the engine's own files, under every order of its atomic operations that the
//! memory model allows: changes and look-ups of keys beside a table that is replaced.
//!
//! No entry is lost, comes back or is doubled, a cut is one moment, and in the end all memory is given back.
//!
//! A table that is replaced takes some hundred operations on atomics. So there is one preemption, or two where a process
//! only looks keys up, whatever the environment says, and `make test` tries the first schedules only.

#![allow(dead_code, missing_docs, unused_imports)] // a model uses only part of each file
#![allow(clippy::unnecessary_wraps, clippy::unused_self)] // a model keeps the signatures of what it replaces

#[macro_use]
#[path = "model/derived.rs"]
mod derived;
#[path = "model/nodes.rs"]
mod arena;
#[path = "../src/shared/bytes.rs"]
mod bytes;
#[path = "model/loom_futex.rs"]
mod futex;
#[path = "../src/ids/mod.rs"]
mod ids;
#[path = "model/liveness.rs"]
mod liveness;
#[path = "model/loom_words.rs"]
mod words;

mod sync {
    pub mod primitive {
        pub use crate::futex::{fence, AtomicU64, Ordering};
    }
}

pub use liveness::family;
pub use procession_core::{Error, Result};

#[path = "model"]
mod dict {
    #[path = "../../src/shared/dict/bucket.rs"]
    mod bucket;
    #[path = "../../src/shared/dict/change.rs"]
    pub mod change;
    #[path = "../../src/shared/dict/evict.rs"]
    mod evict;
    #[path = "../../src/shared/dict/key.rs"]
    pub mod key;
    #[path = "../../src/shared/dict/layout.rs"]
    pub mod layout;
    #[path = "../../src/shared/dict/making.rs"]
    mod making;
    #[path = "../../src/shared/dict/migrate.rs"]
    mod migrate;
    #[path = "../../src/shared/dict/read.rs"]
    mod read;
    #[path = "../../src/shared/dict/recover.rs"]
    mod recover;
    #[path = "../../src/shared/dict/snapshot.rs"]
    pub mod snapshot;
    #[path = "../../src/shared/dict/table.rs"]
    pub mod table;
    #[path = "../../src/shared/dict/word.rs"]
    mod word;

    use crate::arena::{node, Object, Ref};
    use crate::futex::Ordering::SeqCst;
    use crate::liveness::me;
    use change::Change;
    use key::Key;
    use layout::Dict;
    use snapshot::Snapshot;
    use std::borrow::Cow;
    use table::TablePurpose;

    pub struct SharedDict(Ref<Dict>);

    /// Keys of the first table's first bucket. The first two lie in different buckets of a table that is twice as large.
    fn keys() -> [Key; 3] {
        let all = (0u64..).map(|key| Key::new(0, &key.to_ne_bytes(), b"").expect("a short key"));
        let mut same = all.filter(|key| key.hash & 1 == 0);
        let one = same.find(|key| key.hash & 2 == 0);
        let other = same.find(|key| key.hash & 2 != 0);
        let third = same.find(|key| key.hash & 2 == 0);
        [one, other, third].map(|key| key.expect("there are many"))
    }

    /// A dictionary and its keys.
    pub struct Model {
        dict: SharedDict,
        keys: [Key; 3],
    }

    impl Model {
        /// A dictionary with the first key.
        pub fn new() -> Self {
            node::prepare();
            let dict = Ref::<Dict>::with_shared(size_of::<u64>() * 10);
            dict.handle.store(1, SeqCst);
            let model = Self {
                dict: SharedDict(dict),
                keys: keys(),
            };
            model.set(0, b"a");
            model
        }

        pub fn set(&self, key: usize, value: &[u8]) {
            let change = |_: Option<&[u8]>| Change::Put(Cow::Owned(value.to_vec()));
            self.dict
                .0
                .change(me().unwrap(), &self.keys[key], false, change)
                .unwrap();
        }

        /// Append to a value, in one step.
        pub fn append(&self, key: usize, more: &[u8]) {
            let change = |now: Option<&[u8]>| Change::Put(Cow::Owned([now.unwrap_or_default(), more].concat()));
            self.dict
                .0
                .change(me().unwrap(), &self.keys[key], true, change)
                .unwrap();
        }

        pub fn remove(&self, key: usize) {
            self.dict
                .0
                .change(me().unwrap(), &self.keys[key], false, |_| Change::Remove)
                .unwrap();
        }

        pub fn get(&self, key: usize) -> Option<Vec<u8>> {
            let found = self.dict.0.read(&self.keys[key], true).unwrap();
            found.map(|bytes| bytes.as_slice().to_vec())
        }

        /// Replace the table by one of four buckets.
        pub fn begin_to_grow(&self) {
            let table = self.dict.0.table().unwrap().unwrap();
            self.dict.0.replace_table(Some(&table), 2, TablePurpose::Size).unwrap();
        }

        /// Replace the table by one of four buckets, and take all entries over.
        pub fn grow(&self) {
            self.begin_to_grow();
            self.complete();
        }

        /// Take over all entries that the newest table has not yet.
        pub fn complete(&self) {
            let table = self.dict.0.table().unwrap().unwrap();
            self.dict.0.complete(&table).unwrap();
        }

        pub fn clear(&self) {
            self.dict.clear().unwrap();
        }

        /// Which keys there are at one moment, by freezing the table.
        pub fn cut(&self) -> Vec<bool> {
            self.keys_in(&self.dict.snapshot_by_freezing().unwrap())
        }

        /// Set a key. False if the dictionary is sealed.
        pub fn set_unless_sealed(&self, key: usize) -> bool {
            let change = |_: Option<&[u8]>| Change::Put(Cow::Borrowed(&b"x"[..]));
            match self.dict.0.change(me().unwrap(), &self.keys[key], false, change) {
                Ok(_) => true,
                Err(crate::Error::Sealed(_)) => false,
                Err(error) => panic!("{error}"),
            }
        }

        /// Seal the dictionary, and return which keys there are.
        pub fn seal(&self) -> Vec<bool> {
            while !self.dict.try_seal().unwrap() {}
            let snapshot = self.dict.sealed_snapshot().unwrap();
            self.keys_in(&snapshot)
        }

        /// Check that nothing is left of a sealed dictionary.
        pub fn ends_sealed(&self) {
            assert!(matches!(
                self.dict.0.read(&self.keys[0], true),
                Err(crate::Error::Sealed(_))
            ));
            self.dict.0.destroy();
            assert_eq!(node::in_use(), 0, "not given back");
        }

        fn keys_in(&self, snapshot: &Snapshot) -> Vec<bool> {
            let is_there = |key: &Key| {
                let mut items = snapshot.items().iter();
                items.any(|item| Key::new(0, snapshot.parts(item)[0], b"").expect("short").words[..] == key.words[..])
            };
            self.keys.iter().map(is_there).collect()
        }

        /// Which keys there are, the oldest first.
        pub fn order(&self) -> Vec<usize> {
            let snapshot = self.dict.snapshot().unwrap();
            let name = |item| {
                let found = Key::new(0, snapshot.parts(item)[0], b"").expect("short");
                self.keys.iter().position(|key| key.words[..] == found.words[..])
            };
            snapshot.items().iter().filter_map(name).collect()
        }

        /// Remove the oldest entry. The counts of entries are hints, so a model has no bound.
        pub fn evict(&self) {
            loop {
                let found = self.dict.0.find_oldest().unwrap();
                let Some(oldest) = found.as_deref().and_then(<[_]>::last) else {
                    continue;
                };
                let removed = self.dict.0.remove_numbered(oldest.hash, oldest.number);
                if removed.unwrap() {
                    return;
                }
            }
        }

        /// Check the content, and that nothing is left of it.
        pub fn ends_with(&self, expected: [Option<&[u8]>; 3]) {
            let found = [0, 1, 2].map(|key| self.get(key));
            assert_eq!(found.each_ref().map(Option::as_deref), expected);
            self.complete();
            let found = [0, 1, 2].map(|key| self.get(key));
            assert_eq!(found.each_ref().map(Option::as_deref), expected);
            assert_eq!(self.dict.len().unwrap(), expected.into_iter().flatten().count());
            self.dict.0.destroy();
            assert_eq!(node::in_use(), 0, "not given back");
        }
    }
}

use dict::Model;
use loom::sync::Arc;
use loom::thread::{self, JoinHandle};
use words::check_long;

fn process<T: 'static>(model: &Arc<Model>, body: impl FnOnce(&Model) -> T + 'static) -> JoinHandle<T> {
    let model = model.clone();
    thread::spawn(move || body(&model))
}

#[test]
fn changes_beside_a_growth_are_not_lost() {
    check_long(1, 300, || {
        let model = Arc::new(Model::new());
        let other = process(&model, |model| {
            model.set(1, b"b");
            model.append(0, b"2");
        });
        model.grow();
        other.join().unwrap();
        model.ends_with([Some(b"a2"), Some(b"b"), None]);
    });
}

#[test]
fn what_is_removed_beside_a_growth_does_not_come_back() {
    check_long(1, 300, || {
        let model = Arc::new(Model::new());
        model.set(1, b"b");
        let other = process(&model, |model| {
            model.remove(0);
            assert_eq!(model.get(0), None);
        });
        model.grow();
        other.join().unwrap();
        model.ends_with([None, Some(b"b"), None]);
    });
}

#[test]
fn look_ups_beside_a_growth_find_what_is_there() {
    check_long(2, 300, || {
        let model = Arc::new(Model::new());
        let other = process(&model, |model| {
            assert_eq!(model.get(0).as_deref(), Some(&b"a"[..]));
            assert_eq!(model.get(1), None);
        });
        model.grow();
        model.set(0, b"a");
        other.join().unwrap();
        model.ends_with([Some(b"a"), None, None]);
    });
}

#[test]
fn two_processes_that_migrate_the_same_entries_double_none() {
    check_long(1, 300, || {
        let model = Arc::new(Model::new());
        model.begin_to_grow();
        let other = process(&model, |model| {
            model.complete();
            model.set(1, b"b");
        });
        model.complete();
        other.join().unwrap();
        model.ends_with([Some(b"a"), Some(b"b"), None]);
    });
}

#[test]
fn two_clears_leave_what_comes_after_them() {
    check_long(1, 300, || {
        let model = Arc::new(Model::new());
        let clear = |model: &Model| {
            model.clear();
            assert_eq!(model.get(0), None);
        };
        let other = process(&model, clear);
        clear(&model);
        other.join().unwrap();
        model.set(1, b"b");
        model.ends_with([None, Some(b"b"), None]);
    });
}

#[test]
fn a_clear_beside_changes_is_one_moment() {
    check_long(1, 300, || {
        let model = Arc::new(Model::new());
        let other = process(&model, |model| {
            model.set(1, b"b");
            model.set(2, b"c");
        });
        model.clear();
        other.join().unwrap();
        let there = [0, 1, 2].map(|key| model.get(key).is_some());
        assert!(!there[0] && (there[2] || !there[1]), "{there:?}");
    });
}

#[test]
fn a_cut_beside_changes_is_one_moment() {
    check_long(1, 300, || {
        let model = Arc::new(Model::new());
        let other = process(&model, |model| {
            model.set(1, b"b");
            model.set(2, b"c");
            model.remove(0);
        });
        let there = model.cut();
        let moments = [
            [true, false, false],
            [true, true, false],
            [true, true, true],
            [false, true, true],
        ];
        assert!(moments.iter().any(|moment| there == moment), "{there:?}");
        other.join().unwrap();
        model.ends_with([None, Some(b"b"), Some(b"c")]);
    });
}

#[test]
fn a_sealed_dictionary_has_what_was_set_and_nothing_else() {
    check_long(1, 300, || {
        let model = Arc::new(Model::new());
        let other = process(&model, |model| {
            let first = model.set_unless_sealed(1);
            (first, model.set_unless_sealed(2))
        });
        let there = model.seal();
        let (first, second) = other.join().unwrap();
        assert_eq!(there, [true, first, second]);
        model.ends_sealed();
    });
}

#[test]
fn two_processes_that_seal_find_the_same() {
    check_long(1, 300, || {
        let model = Arc::new(Model::new());
        model.set(1, b"b");
        let other = process(&model, Model::seal);
        let there = model.seal();
        assert_eq!(there, [true, true, false]);
        assert_eq!(other.join().unwrap(), there);
        model.ends_sealed();
    });
}

#[test]
fn a_seal_beside_a_growth_loses_nothing() {
    check_long(1, 300, || {
        let model = Arc::new(Model::new());
        model.begin_to_grow();
        let other = process(&model, |model| model.set_unless_sealed(1));
        let there = model.seal();
        assert_eq!(there, [true, other.join().unwrap(), false]);
        model.ends_sealed();
    });
}

#[test]
fn an_entry_that_is_seen_is_older_than_what_comes_later() {
    check_long(2, 300, || {
        let model = Arc::new(Model::new());
        let other = process(&model, |model| model.set(2, b"c"));
        let is_there = model.get(2).is_some();
        model.set(1, b"b");
        let first = model.order();
        other.join().unwrap();
        let order = model.order();
        assert!(order == [0, 2, 1] || !is_there && order == [0, 1, 2], "{order:?}");
        assert!(
            order == first || first == [0, 1] && order == [0, 1, 2],
            "{first:?} {order:?}"
        );
        model.ends_with([Some(b"a"), Some(b"b"), Some(b"c")]);
    });
}

#[test]
fn a_frozen_snapshot_has_entries_in_their_order() {
    check_long(1, 300, || {
        let model = Arc::new(Model::new());
        let other = process(&model, |model| model.set(2, b"c"));
        let there = model.cut();
        model.set(1, b"b");
        other.join().unwrap();
        let order = model.order();
        assert!(order == [0, 2, 1] || !there[2] && order == [0, 1, 2], "{order:?}");
        model.ends_with([Some(b"a"), Some(b"b"), Some(b"c")]);
    });
}

#[test]
fn what_is_evicted_beside_changes_is_the_oldest() {
    check_long(1, 300, || {
        let model = Arc::new(Model::new());
        let other = process(&model, |model| {
            model.set(1, b"b");
            model.append(0, b"2");
        });
        model.evict();
        other.join().unwrap();
        let order = model.order();
        // The first key is gone, or came again behind the other one.
        assert!([&[1][..], &[1, 0]].contains(&&order[..]), "{order:?}");
    });
}
