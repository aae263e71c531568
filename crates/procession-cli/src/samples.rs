//! Made-up families, for tests.

use procession_core::inspect::{
    FamilySnapshot, HolderSeen, LockSeen, ObjectId, PoolSeen, PoolWorkerSeen, ProcessSeen, ProcessState, QueueSeen,
    WaitSeen,
};

pub(crate) fn process(pid: u32, name: &str, waits: Vec<WaitSeen>) -> ProcessSeen {
    ProcessSeen {
        pid,
        name: name.to_owned(),
        program: "python shop.py".to_owned(),
        parent: None,
        state: ProcessState::Sleeping,
        start_method: Some("fork"),
        role: None,
        age_ms: 65_000,
        cpu_ms: 500,
        threads: 1,
        private_bytes: 5 << 20,
        shared_bytes: 0,
        owned_bytes: 0,
        waits,
    }
}

pub(crate) fn queue(cell: u32, depth: u64, put: u64) -> QueueSeen {
    QueueSeen {
        id: ObjectId::new(cell, 0),
        depth,
        is_depth_exact: true,
        is_long: false,
        maxsize: 0,
        put,
        tasks_done: 0,
        getters: Vec::new(),
        putters: Vec::new(),
        joiners: Vec::new(),
    }
}

/// A pool whose workers are these processes, all of them idle.
pub(crate) fn pool(pids: &[u32]) -> PoolSeen {
    let worker = |&pid: &u32| PoolWorkerSeen {
        pid: Some(pid),
        is_ready: true,
        tasks_done: 0,
        tasks_failed: 0,
        item_ms: None,
        busy_ms: 0,
        function: None,
    };
    PoolSeen {
        id: ObjectId::new(5, 0),
        state: "running",
        queued: 0,
        running: 0,
        uncollected: 0,
        done: 0,
        failed: 0,
        workers_ended: 0,
        median_us: None,
        p99_us: None,
        is_complete: true,
        workers: pids.iter().map(worker).collect(),
    }
}

pub(crate) fn family(put: u64) -> FamilySnapshot {
    let lock = ObjectId::new(7, 1);
    let wait = WaitSeen {
        kind: "lock",
        object: Some(lock),
        operation: "acquire",
        for_ms: 5_100,
        since_ms: 94_900,
        thread: Some(103),
        joined: None,
        endless: true,
    };
    FamilySnapshot {
        root: Some(100),
        taken_ms: 100_000,
        limit_bytes: 1 << 40,
        processes: vec![
            process(100, "", Vec::new()),
            process(103, "alice\x1b[31m", vec![wait]),
            process(102, "bob", Vec::new()),
        ],
        locks: vec![LockSeen {
            id: lock,
            kind: "lock",
            made: None,
            holder: Some(HolderSeen {
                pid: Some(102),
                name: "bob".to_owned(),
                thread: 102,
            }),
            count: 1,
            waiters_bit: true,
            waiters: vec![103],
        }],
        queues: vec![queue(9, 4, put), queue(8, 12, 12)],
        ..FamilySnapshot::default()
    }
}

/// As [`family`], at this time and in a deadlock: each of two processes waits for a lock that the other holds.
pub(crate) fn deadlocked(taken_ms: u64) -> FamilySnapshot {
    let mut seen = family(10);
    let mut lock = seen.locks[0].clone();
    lock.id = ObjectId::new(8, 1);
    lock.holder = Some(HolderSeen {
        pid: Some(103),
        name: seen.processes[1].name.clone(),
        thread: 103,
    });
    lock.waiters = vec![102];
    let mut wait = seen.processes[1].waits[0].clone();
    (wait.object, wait.thread) = (Some(lock.id), Some(102));
    seen.processes[2].waits.push(wait);
    seen.locks.push(lock);
    seen.taken_ms = taken_ms;
    for wait in seen.processes.iter_mut().flat_map(|process| &mut process.waits) {
        wait.for_ms = taken_ms - wait.since_ms;
    }
    seen
}
