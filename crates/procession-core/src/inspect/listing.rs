//! The objects of a family, entered in a snapshot with the names of their processes.

use super::objects::{Content, Objects};
use super::processes::Processes;
use super::snapshot::{BarrierSeen, CollectionSeen, ConditionSeen, EventSeen, FamilySnapshot, LockSeen, SemaphoreSeen};
use crate::ids::Owner;

/// List the objects in a snapshot.
pub(super) fn list(objects: &Objects, processes: &Processes, snapshot: &mut FamilySnapshot) {
    let pids = |owners: &[Owner]| owners.iter().filter_map(|&owner| processes.pid(owner)).collect();
    snapshot.memory = objects.usage.values().copied().collect();
    snapshot.labels.clone_from(&objects.labels);
    snapshot.left_out = objects.left_out;
    snapshot.damaged += objects.usage.get("damaged").map_or(0, |usage| usage.count);
    for (id, content) in &objects.contents {
        let id = *id;
        match content {
            Content::Lock(kind, word, made, count) => snapshot.locks.push(LockSeen {
                id,
                kind,
                made: made.clone(),
                holder: word.holder.map(|holder| processes.holder(holder)),
                count: *count,
                waiters_bit: word.waiters_bit,
                waiters: Vec::new(),
            }),
            Content::Semaphore(value, bound) => snapshot.semaphores.push(SemaphoreSeen {
                id,
                value: *value,
                bound: *bound,
                waiters: Vec::new(),
            }),
            Content::Event(is_set) => snapshot.events.push(EventSeen {
                id,
                is_set: *is_set,
                waiters: Vec::new(),
            }),
            Content::Condition(waiting) => snapshot.conditions.push(ConditionSeen {
                id,
                waiters: pids(waiting),
            }),
            Content::Barrier(parties, broken, waiting) => snapshot.barriers.push(BarrierSeen {
                id,
                parties: *parties,
                is_broken: *broken,
                waiters: pids(waiting),
            }),
            Content::Queue(seen) => snapshot.queues.push(seen.clone()),
            Content::Collection(kind) => snapshot.collections.push(CollectionSeen { id, kind }),
            Content::Pool(seen, counts) => {
                let mut seen = seen.clone();
                for (worker, counted) in seen.workers.iter_mut().zip(&counts.workers) {
                    worker.pid = counted.owner.and_then(|owner| processes.pid(owner));
                }
                snapshot.pools.push(seen);
            }
        }
    }
}
