//! The primitives between real processes, some of which are killed. Each test needs a process of its own (cargo nextest
//! gives it one).

mod barriers;
mod conditions;
mod counting;
mod deadlocks;
mod holders;
mod locks;

use super::wait::{next_slice, EventCount, Interruptible, SLICE};
use super::*;
use crate::arena::{Object, Ref};
use crate::ids::Kind;
use crate::liveness::tests::{fork, kill, reap, wait_until};
use crate::{Deadline, WaitError};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Shared words in which a test counts.
#[repr(C)]
struct Board([AtomicU64; 16]);

// SAFETY: atomics only.
unsafe impl Object for Board {
    const KIND: Kind = Kind::Event;
    const NAME: &'static str = "test board";
}

impl Board {
    fn get(&self, at: usize) -> u64 {
        self.0[at].load(Ordering::SeqCst)
    }

    fn add(&self, at: usize) -> u64 {
        self.0[at].fetch_add(1, Ordering::SeqCst)
    }
}

fn board() -> Ref<Board> {
    Ref::create().unwrap()
}

fn forever() -> ! {
    loop {
        std::thread::park();
    }
}

/// Long enough never to end in a test that passes.
fn timeout() -> Deadline {
    Deadline::after(Duration::from_secs(30))
}

/// The number of processes of the family that announce a wait for this kind of object.
fn asleep(kind: Kind) -> usize {
    let members = crate::liveness::members();
    members
        .iter()
        .filter(|member| member.waits.iter().any(|wait| wait.0 == kind as u32))
        .count()
}
