//! The shared list, compiled from the engine's own files, under every order of its atomic operations that the memory model
//! allows. A leaf has two items, an inner node two children.
//!
//! No change is lost, each look is one moment, and in the end all memory is given back: by then every change has been
//! settled, by the process that made it or by another.

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
mod list {
    #[path = "../../src/shared/list/layout.rs"]
    mod layout;
    #[path = "../../src/shared/list/packed.rs"]
    mod packed;
    #[path = "../../src/shared/list/read.rs"]
    pub mod read;
    #[path = "../../src/shared/list/settle.rs"]
    mod settle;
    #[path = "../../src/shared/list/splice.rs"]
    mod splice;

    use crate::arena::{node, Object, Ref};
    use crate::ids::Handle;
    use layout::ListHead;
    use read::{KnownPages, Version};
    use std::ops::Range;

    pub struct SharedList(Ref<ListHead>);

    impl SharedList {
        fn handle(&self) -> Handle {
            Handle::from_bits(1).expect("a handle")
        }
    }

    /// A list of values that begin with a letter.
    pub struct Model(SharedList);

    impl Model {
        pub fn new(letters: &str) -> Self {
            node::prepare();
            let model = Self(SharedList(Ref::<ListHead>::with_shared(size_of::<u64>())));
            if !letters.is_empty() {
                model.splice(0..0, letters);
            }
            model
        }

        /// Put a value for each letter in the place of a range; a capital one is a value that has a node of its own.
        pub fn splice(&self, range: Range<u64>, letters: &str) {
            let value = |letter: u8| vec![letter; if letter.is_ascii_uppercase() { 130 } else { 1 }];
            let values: Vec<_> = letters.bytes().map(value).collect();
            let done = self
                .0
                .splice(&values, |_, len| Some(range.start.min(len)..range.end.min(len)));
            assert!(done.unwrap());
        }

        /// Append a value. False if the list is sealed.
        pub fn append_unless_sealed(&self, letter: u8) -> bool {
            match self.0.splice(&[[letter]], |_, len| Some(len..len)) {
                Ok(done) => done,
                Err(crate::Error::Sealed(_)) => false,
                Err(error) => panic!("{error}"),
            }
        }

        /// Seal the list, and return its content.
        pub fn seal(&self) -> String {
            while !self.0.try_seal().unwrap() {}
            let items = self.0.try_sealed_items(&mut KnownPages::default()).unwrap().unwrap();
            items.iter().map(|bytes| char::from(bytes[0])).collect()
        }

        /// Check that nothing is left of a sealed list.
        pub fn ends_sealed(&self) {
            assert!(matches!(self.0.get(0), Err(crate::Error::Sealed(_))));
            self.0 .0.destroy();
            assert_eq!(node::in_use(), 0, "not given back");
        }

        pub fn all(&self) -> String {
            let items = self.0.items(|len| 0..len).unwrap();
            assert_eq!(items.len_of_list() as usize, items.iter().len());
            items.iter().map(|bytes| char::from(bytes[0])).collect()
        }

        pub fn get(&self, index: i64) -> Option<char> {
            let found = self.0.get(index).unwrap();
            found.map(|bytes| char::from(bytes.as_slice()[0]))
        }

        /// Replace the first item, if nothing has changed since it was read.
        pub fn replace_first(&self, letter: u8) -> bool {
            let (seen, _) = self.0.look(0).unwrap().unwrap();
            self.0
                .splice(&[[letter]], |now: Version, _| (now == seen).then_some(0..1))
                .unwrap()
        }

        /// Check the content, and that nothing is left of it.
        pub fn ends_with(&self, expected: &[&str]) {
            let all = self.all();
            assert!(expected.contains(&&all[..]), "{all}");
            self.0 .0.destroy();
            assert_eq!(node::in_use(), 0, "not given back");
        }
    }
}

use list::Model;
use loom::sync::Arc;
use loom::thread::{self, JoinHandle};
use words::check_long;

fn process<T: 'static>(model: &Arc<Model>, body: impl FnOnce(&Model) -> T + 'static) -> JoinHandle<T> {
    let model = model.clone();
    thread::spawn(move || body(&model))
}

#[test]
fn the_first_items_of_two_processes_are_both_there() {
    check_long(2, 2000, || {
        let model = Arc::new(Model::new(""));
        let other = process(&model, |model| model.splice(9..9, "B"));
        model.splice(9..9, "a");
        other.join().unwrap();
        model.ends_with(&["aB", "Ba"]);
    });
}

#[test]
fn changes_of_different_leaves_are_both_made() {
    check_long(2, 1000, || {
        let model = Arc::new(Model::new("aBc"));
        let other = process(&model, |model| model.splice(1..2, "X"));
        model.splice(2..3, "yz");
        other.join().unwrap();
        model.ends_with(&["aXyz"]);
    });
}

#[test]
fn a_leaf_that_is_emptied_beside_another_change() {
    check_long(2, 1000, || {
        let model = Arc::new(Model::new("abC"));
        let other = process(&model, |model| model.splice(2..3, ""));
        model.splice(0..1, "X");
        other.join().unwrap();
        model.ends_with(&["Xb"]);
    });
}

#[test]
fn a_look_beside_changes_is_one_moment() {
    check_long(2, 1000, || {
        let model = Arc::new(Model::new("aBc"));
        let other = process(&model, |model| {
            model.splice(1..2, "X");
            model.splice(0..3, "Y");
        });
        let all = model.all();
        assert!(["aBc", "aXc", "Y"].contains(&&all[..]), "{all}");
        other.join().unwrap();
        model.ends_with(&["Y"]);
    });
}

#[test]
fn an_item_beside_changes_is_one_that_was_there() {
    check_long(2, 1000, || {
        let model = Arc::new(Model::new("aBc"));
        let other = process(&model, |model| {
            model.splice(1..2, "X");
            model.splice(0..1, "");
        });
        let found = model.get(-2);
        assert!(matches!(found, Some('B' | 'X')), "{found:?}");
        other.join().unwrap();
        model.ends_with(&["Xc"]);
    });
}

#[test]
fn one_of_two_replacements_of_the_same_content_is_made() {
    check_long(2, 1000, || {
        let model = Arc::new(Model::new("ab"));
        let other = process(&model, |model| model.replace_first(b'x'));
        let mine = model.replace_first(b'y');
        let others = other.join().unwrap();
        assert!(mine || others);
        // Both, if one process looked after the other had made its change.
        model.ends_with(if mine && others {
            &["xb", "yb"]
        } else if mine {
            &["yb"]
        } else {
            &["xb"]
        });
    });
}

#[test]
fn a_sealed_list_has_what_was_appended_and_nothing_else() {
    for begin in ["", "aB"] {
        check_long(2, 1000, move || {
            let model = Arc::new(Model::new(begin));
            let other = process(&model, |model| model.append_unless_sealed(b'x'));
            let sealed = model.seal();
            let expected = if other.join().unwrap() { "x" } else { "" };
            assert_eq!(sealed, format!("{begin}{expected}"));
            model.ends_sealed();
        });
    }
}

#[test]
fn two_processes_that_seal_a_list_find_the_same() {
    check_long(2, 1000, || {
        let model = Arc::new(Model::new("aBc"));
        let other = process(&model, Model::seal);
        assert_eq!(model.seal(), "aBc");
        assert_eq!(other.join().unwrap(), "aBc");
        model.ends_sealed();
    });
}
