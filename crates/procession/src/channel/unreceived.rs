//! Messages that no one can receive any more. They may hold ends of other channels, which must not stay for them.

use procession_core::arena::{exists, Ref};
use procession_core::channel::Queue;
use procession_core::ids::Handle;
use procession_core::{Deadline, WaitError};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A channel: the bits of its queue's handle, and of that of its receivers' token.
type Key = (u64, u64);

/// The channels to which this process can send, and how many senders each has here. The receivers of these may die with
/// messages left, and another process may not learn of it.
static CHANNELS: Mutex<BTreeMap<Key, usize>> = Mutex::new(BTreeMap::new());

fn channels() -> MutexGuard<'static, BTreeMap<Key, usize>> {
    CHANNELS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An entry in [`CHANNELS`] for one sender.
pub(super) struct Sending(Key);

impl Sending {
    pub(super) fn new(queue: &Ref<Queue>, receivers: Handle) -> Self {
        Self::of((queue.handle().to_bits(), receivers.to_bits()))
    }

    fn of(key: Key) -> Self {
        *channels().entry(key).or_default() += 1;
        Self(key)
    }
}

impl Clone for Sending {
    fn clone(&self) -> Self {
        Self::of(self.0)
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        let mut channels = channels();
        if let Some(count) = channels.get_mut(&self.0) {
            *count -= 1;
            if *count == 0 {
                channels.remove(&self.0);
            }
        }
    }
}

/// Drop the messages of the channels to which this process can send and which have no receivers.
pub(super) fn drop_all() {
    let all: Vec<Key> = channels().keys().copied().collect();
    for (queue, receivers) in all {
        let gone = Handle::from_bits(receivers).is_some_and(is_gone);
        // It may be gone meanwhile, with its messages.
        let queue = Handle::from_bits(queue).filter(|_| gone).map(Ref::attach);
        if let Some(Ok(queue)) = queue {
            drop_messages(&queue);
        }
    }
}

/// Whether a side is gone, of which this is the token.
pub(super) fn is_gone(token: Handle) -> bool {
    // Without address space to look, nothing is known.
    !exists(token).unwrap_or(true)
}

/// Drop the messages of a queue whose receivers are gone. What a sender puts meanwhile, it drops itself.
pub(super) fn drop_messages(queue: &Queue) {
    while matches!(queue.get(Deadline::Now), Ok(_) | Err(WaitError::Interrupted)) {}
}
