//! Reference counts, compiled from the engine's own file, under every order of their atomic operations that the memory
//! model allows, with processes that die before any of them.
//!
//! No process waits for another, and in the end the count equals the number of entries.
//!
//! The models with a death have a fixed number of preemptions. With more, loom lets the reaper read what a helper's
//! compare-and-swap put into an operation although the dead process, which the reaper has joined, overwrote it later:
//! loom does not order a plain store after another thread's compare-and-swap of the value before. No machine does that,
//! and C11 forbids it.

#![allow(dead_code, missing_docs, unused_imports)] // a model uses only part of each file

#[macro_use]
#[path = "model/derived.rs"]
mod derived;
#[path = "../src/ids/mod.rs"]
mod ids;
#[path = "model/loom_words.rs"]
mod words;

#[path = "model/counts.rs"]
mod arena;

mod sys {
    pub mod atomic {
        pub use crate::words::{AtomicU32, AtomicU64};
        pub use loom::sync::atomic::Ordering;
    }
}

use arena::Model;
use loom::sync::Arc;
use loom::thread::{self, JoinHandle};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use words::{check, check_at, live_for};

fn process<T: 'static>(model: &Arc<Model>, body: impl FnOnce(&Model) -> T + 'static) -> JoinHandle<T> {
    let model = model.clone();
    thread::spawn(move || body(&model))
}

/// Run the model once per number of operations after which `victim` dies, until `victim` always reaches its end.
/// `lives` runs at the same time, and `reaps` after the death.
fn at_each_step(needed: bool, victim: fn(&Model), lives: fn(&Model), reaps: fn(&Model)) {
    let died = std::sync::Arc::new(AtomicBool::new(true));
    for steps in 0.. {
        if !died.swap(false, SeqCst) {
            return;
        }
        let died = died.clone();
        check_at(1, move || {
            let model = Arc::new(Model::new(needed));
            let died = died.clone();
            let mortal = process(&model, move |model| {
                if !live_for(steps, || victim(model)) {
                    died.store(true, SeqCst);
                }
            });
            let reaper = process(&model, move |model| {
                mortal.join().unwrap();
                reaps(model);
            });
            lives(&model);
            reaper.join().unwrap();
            model.check_counts();
        });
    }
}

#[test]
fn two_processes_that_change_a_count_lose_no_reference() {
    check(1, || {
        let model = Arc::new(Model::new(false));
        let other = process(&model, |model| {
            assert!(model.acquire(1, 2));
            model.release(1, 2);
        });
        assert!(model.acquire(0, 1));
        model.release(0, 1);
        other.join().unwrap();
        model.check_counts();
        model.release(0, 0);
        model.check_counts();
    });
}

#[test]
fn three_processes_that_change_a_count_lose_no_reference() {
    check(0, || {
        let model = Arc::new(Model::new(true));
        let others = [1, 2].map(|slot| process(&model, move |model| model.acquire(slot, slot + 1)));
        model.release(0, 0);
        for other in others {
            assert!(other.join().unwrap());
        }
        model.check_counts();
    });
}

#[test]
fn a_death_while_acquiring() {
    at_each_step(
        false,
        |model| model.acquire_if_possible(0, 1),
        |model| model.acquire_if_possible(1, 2),
        |model| model.reap(0, 1),
    );
}

#[test]
fn a_death_while_releasing() {
    at_each_step(
        false,
        |model| {
            model.acquire_if_possible(0, 1);
            model.release(0, 1);
        },
        |model| model.acquire_if_possible(1, 2),
        |model| model.reap(0, 1),
    );
}

#[test]
fn a_death_while_the_last_reference_goes() {
    for needed in [false, true] {
        at_each_step(
            needed,
            |model| model.release(0, 0),
            |model| model.acquire_if_possible(1, 2),
            |model| model.reap(0, 0),
        );
    }
}

#[test]
fn a_death_while_undoing() {
    at_each_step(
        false,
        |model| model.acquire_if_possible(0, 1),
        |model| {
            model.occupy(1);
            model.acquire_if_possible(1, 2);
        },
        |model| model.reap(0, 1),
    );
}

#[test]
fn a_process_that_gets_the_slot_of_a_dead_one() {
    at_each_step(
        false,
        |model| model.acquire_if_possible(0, 1),
        |model| model.acquire_if_possible(1, 2),
        |model| {
            model.reap(0, 1);
            assert!(model.acquire(0, 3));
        },
    );
}

#[test]
fn a_death_of_the_reaper_too() {
    for (needed, dies) in [
        (false, (|model| model.acquire_if_possible(0, 1)) as fn(&Model)),
        (true, |model| model.release(0, 0)),
        (false, |model| {
            model.occupy(1);
            model.acquire_if_possible(0, 1);
        }),
    ] {
        // About as many operations as either takes.
        for (steps, more) in (0..12).flat_map(|steps| (0..12).map(move |more| (steps, more))) {
            check_at(0, move || {
                let model = Arc::new(Model::new(needed));
                let mortal = process(&model, move |model| {
                    live_for(steps, || dies(model));
                    live_for(more, || model.reap(0, usize::from(!needed)));
                });
                let reaper = process(&model, move |model| {
                    mortal.join().unwrap();
                    model.reap(0, usize::from(!needed));
                });
                model.acquire_if_possible(1, 2);
                reaper.join().unwrap();
                model.check_counts();
            });
        }
    }
}
