//! Atomics for `loom` in memory that is valid when it is zero-filled, as the engine's is: a word is identified by its
//! address.
//!
//! A word that was not [adopted](adopt) is a static, of which each process has its own.

use loom::sync::atomic::{AtomicU64 as Modelled, Ordering};
use std::cell::{RefCell, UnsafeCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

#[derive(Default)]
struct Words {
    shared: HashMap<usize, Rc<Modelled>>,
    statics: HashMap<(loom::thread::ThreadId, usize), u64>,
}

std::thread_local! {
    /// All threads of a model run in one OS thread.
    static WORDS: RefCell<Words> = RefCell::default();
    /// How many operations on words are left to each thread that is to die.
    static OPERATIONS_LEFT: RefCell<HashMap<loom::thread::ThreadId, u32>> = RefCell::default();
}

/// Run `life` for this number of operations on words; it dies before the next one. Returns whether it ran to its end.
pub fn live_for(operations: u32, life: impl FnOnce()) -> bool {
    let me = loom::thread::current().id();
    OPERATIONS_LEFT.with_borrow_mut(|all| all.insert(me, operations));
    let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(life));
    OPERATIONS_LEFT.with_borrow_mut(|all| all.remove(&me));
    match ended {
        Ok(()) => true,
        Err(how) if how.is::<Died>() => false,
        Err(how) => std::panic::resume_unwind(how),
    }
}

struct Died;

fn count_operation() {
    let me = loom::thread::current().id();
    let dies = OPERATIONS_LEFT.with_borrow_mut(|all| match all.get_mut(&me) {
        Some(left) => {
            let dies = *left == 0;
            *left = left.saturating_sub(1);
            dies
        }
        None => false,
    });
    if dies {
        std::panic::resume_unwind(Box::new(Died));
    }
}

/// Run a model under all schedules with at most this number of preemptions of a thread that could go on;
/// `PROCESSION_PREEMPTIONS` overrides the number.
pub fn check(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let asked = std::env::var("PROCESSION_PREEMPTIONS").ok();
    check_at(asked.map_or(preemptions, |text| text.parse().expect("a number")), model);
}

/// As [`check`], with this number of preemptions whatever the environment says.
pub fn check_at(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    check_some(preemptions, None, model);
}

/// As [`check_at`] for a long model: under the first schedules only, but under all if the environment has
/// `PROCESSION_PREEMPTIONS`.
pub fn check_long(preemptions: usize, schedules: usize, model: impl Fn() + Sync + Send + 'static) {
    let is_asked = std::env::var_os("PROCESSION_PREEMPTIONS").is_some();
    check_some(preemptions, (!is_asked).then_some(schedules), model);
}

fn check_some(preemptions: usize, schedules: Option<usize>, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_permutations = schedules;
    // The bound is looked at after each of these intervals.
    builder.checkpoint_interval = schedules.unwrap_or(builder.checkpoint_interval);
    builder.max_branches = 5_000;
    builder.check(move || {
        WORDS.with_borrow_mut(|words| *words = Words::default());
        OPERATIONS_LEFT.with_borrow_mut(HashMap::clear);
        model();
    });
}

/// Zero-filled memory, shared by all threads.
pub fn zeroed<T>() -> Arc<T> {
    let mut memory = Arc::<T>::new_uninit();
    let slot = Arc::get_mut(&mut memory).expect("not shared yet");
    adopt(slot.as_mut_ptr().cast(), size_of::<T>());
    // SAFETY: the caller asks only for types for which zeros are valid.
    unsafe {
        slot.as_mut_ptr().write_bytes(0, 1);
        memory.assume_init()
    }
}

/// Make the words of some memory shared, before any other thread sees it.
pub fn adopt(memory: *mut u8, bytes: usize) {
    for address in (memory as usize..memory as usize + bytes).step_by(4) {
        let word = Rc::new(Modelled::new(0));
        WORDS.with_borrow_mut(|words| words.shared.insert(address, word));
    }
}

fn shared(address: usize) -> Option<Rc<Modelled>> {
    count_operation();
    WORDS.with_borrow(|words| words.shared.get(&address).cloned())
}

/// Change a static.
fn change(address: usize, change: impl FnOnce(u64) -> Option<u64>) -> (u64, bool) {
    let mine = (loom::thread::current().id(), address);
    WORDS.with_borrow_mut(|words| {
        let word = words.statics.entry(mine).or_default();
        let before = *word;
        let after = change(before);
        *word = after.unwrap_or(before);
        (before, after.is_some())
    })
}

macro_rules! atomic {
    ($name:ident, $number:ty) => {
        #[derive(Debug, Default)]
        #[repr(transparent)]
        pub struct $name(UnsafeCell<$number>);

        // SAFETY: the number is never read nor written; only its address counts.
        unsafe impl Sync for $name {}

        impl $name {
            pub const fn new(zero: $number) -> Self {
                assert!(zero == 0);
                Self(UnsafeCell::new(0))
            }

            fn address(&self) -> usize {
                self.0.get() as usize
            }

            pub fn load(&self, order: Ordering) -> $number {
                let read = match shared(self.address()) {
                    Some(word) => word.load(order),
                    None => change(self.address(), Some).0,
                };
                read as $number
            }

            pub fn store(&self, value: $number, order: Ordering) {
                match shared(self.address()) {
                    Some(word) => word.store(value.into(), order),
                    None => drop(change(self.address(), |_| Some(value.into()))),
                }
            }

            pub fn swap(&self, value: $number, order: Ordering) -> $number {
                self.modify(|word| word.swap(value.into(), order), |_| value.into())
            }

            pub fn fetch_add(&self, value: $number, order: Ordering) -> $number {
                self.modify(
                    |word| word.fetch_add(value.into(), order),
                    |before| before.wrapping_add(u64::from(value)),
                )
            }

            pub fn fetch_or(&self, value: $number, order: Ordering) -> $number {
                self.modify(
                    |word| word.fetch_or(value.into(), order),
                    |before| before | u64::from(value),
                )
            }

            pub fn fetch_and(&self, value: $number, order: Ordering) -> $number {
                self.modify(
                    |word| word.fetch_and(value.into(), order),
                    |before| before & u64::from(value),
                )
            }

            pub fn fetch_max(&self, value: $number, order: Ordering) -> $number {
                self.modify(
                    |word| word.fetch_max(value.into(), order),
                    |before| before.max(value.into()),
                )
            }

            fn modify(&self, modelled: impl FnOnce(&Modelled) -> u64, own: impl FnOnce(u64) -> u64) -> $number {
                let before = match shared(self.address()) {
                    Some(word) => modelled(&word),
                    None => change(self.address(), |before| Some(own(before))).0,
                };
                before as $number
            }

            pub fn compare_exchange(
                &self,
                from: $number,
                to: $number,
                done: Ordering,
                failed: Ordering,
            ) -> Result<$number, $number> {
                let (from, to) = (from.into(), to.into());
                let result = match shared(self.address()) {
                    Some(word) => word.compare_exchange(from, to, done, failed),
                    None => match change(self.address(), |before| (before == from).then_some(to)) {
                        (before, true) => Ok(before),
                        (before, false) => Err(before),
                    },
                };
                result
                    .map(|before| before as $number)
                    .map_err(|before| before as $number)
            }

            derived!($number);
        }
    };
}

atomic!(AtomicU32, u32);
atomic!(AtomicU64, u64);
