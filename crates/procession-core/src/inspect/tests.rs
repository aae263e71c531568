//! An observer against families in use, and against damaged copies of their memory.

use super::budget::Budget;
use super::deadlock::{deadlocks, may_be_deadlocked, self_waits};
use super::error::InspectError;
use super::file::ArenaFile;
use super::find::Inspector;
use super::listing::list;
use super::objects::{Content, Objects};
use super::processes::Processes;
use super::snapshot::{FamilySnapshot, ObjectId};
use crate::arena::{Label, Ref};
use crate::channel::{Outgoing, Queue};
use crate::sync::{Barrier, Condition, Event, Lock, Options, RLock, Semaphore};
use crate::{family, Deadline};
use rustix::fs::{MemfdFlags, SeekFrom};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Objects of every kind that is listed. They live as long as this does.
struct Scene {
    _locks: (Lock, RLock),
    _others: (Semaphore, Event, Condition, Barrier),
    queue: Ref<Queue>,
}

/// The options of a lock that this line made.
fn made_at(made: Option<(&str, u32)>) -> Options<'_> {
    let label = Label { name: None, made };
    Options { silent: false, label }
}

fn scene() -> Scene {
    let made = Some(("/srv/shop.py", 17));
    let lock = Lock::with(made_at(made)).unwrap();
    let rlock = RLock::create().unwrap();
    lock.acquire(Deadline::Never).unwrap();
    rlock.acquire(Deadline::Never).unwrap();
    rlock.acquire(Deadline::Never).unwrap();
    let named = |name, made| Label { name: Some(name), made };
    let event = Event::labelled(named("go\u{1b}", made)).unwrap();
    event.set();
    let queue = Queue::labelled(1000, named("orders", None)).unwrap();
    for number in 0..100_u8 {
        let body = [number; 16];
        queue
            .send(
                Outgoing {
                    body: &body,
                    ..Outgoing::default()
                },
                Deadline::Never,
            )
            .unwrap();
    }
    for _ in 0..10 {
        queue.get(Deadline::Never).unwrap();
    }
    Scene {
        _locks: (lock, rlock),
        _others: (
            Semaphore::create(3, 5).unwrap(),
            event,
            Condition::create().unwrap(),
            Barrier::create(4).unwrap(),
        ),
        queue,
    }
}

fn arena_fd() -> BorrowedFd<'static> {
    family().unwrap().arena_fd().unwrap()
}

/// The parts of a file that are not holes.
fn parts(fd: impl AsFd) -> Vec<(u64, Vec<u8>)> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Ok(begin) = rustix::fs::seek(&fd, SeekFrom::Data(at)) {
        let end = rustix::fs::seek(&fd, SeekFrom::Hole(begin)).unwrap();
        let mut bytes = vec![0; (end - begin) as usize];
        assert_eq!(rustix::io::pread(&fd, &mut bytes, begin).unwrap(), bytes.len());
        found.push((begin, bytes));
        at = end;
    }
    found
}

/// A file with the same content as this family's arena.
fn copy() -> OwnedFd {
    let file = rustix::fs::memfd_create("copy", MemfdFlags::CLOEXEC).unwrap();
    let size = rustix::fs::fstat(arena_fd()).unwrap().st_size;
    rustix::fs::ftruncate(&file, size as u64).unwrap();
    for (at, bytes) in parts(arena_fd()) {
        assert_eq!(rustix::io::pwrite(&file, &bytes, at).unwrap(), bytes.len());
    }
    file
}

fn look(file: &ArenaFile) -> Result<FamilySnapshot, InspectError> {
    let header = file.header()?;
    let mut processes = Processes::read(file, &header)?;
    let objects = Objects::read(file, &header, &processes.awaited(), Budget::default())?;
    let mut snapshot = FamilySnapshot::default();
    list(&objects, &processes, &mut snapshot);
    processes.resolve_waits(&objects);
    processes.enter(&mut snapshot);
    snapshot.add_waiters();
    Ok(snapshot)
}

#[test]
fn every_kind_of_object_is_seen_as_it_is() {
    let scene = scene();
    let me = std::process::id();
    let seen = Inspector::own().unwrap().snapshot().unwrap();
    assert_eq!((seen.root, seen.damaged, seen.left_out), (Some(me), 0, 0));
    let [process] = &seen.processes[..] else {
        panic!("{:?}", seen.processes)
    };
    assert_eq!((process.pid, process.start_method), (me, Some("root")));
    assert!(process.private_bytes > 0 && process.threads > 0);

    let lock = seen.locks.iter().find(|lock| lock.kind == "lock").unwrap();
    assert_eq!(lock.made.as_ref().unwrap().to_string(), "/srv/shop.py:17");
    assert_eq!(lock.holder.as_ref().unwrap().pid, Some(me));
    let rlock = seen.locks.iter().find(|lock| lock.kind == "rlock").unwrap();
    let thread = rustix::thread::gettid().as_raw_nonzero().get() as u32;
    assert_eq!((rlock.count, rlock.holder.as_ref().unwrap().thread), (2, thread));
    assert_eq!((seen.semaphores[0].value, seen.semaphores[0].bound), (3, 5));
    assert!(seen.events[0].is_set && seen.conditions[0].waiters.is_empty());
    assert_eq!(seen.name(seen.events[0].id), Some("go\u{1b}"));
    assert_eq!(seen.made(lock.id), lock.made.as_ref());
    let queue = &seen.queues[0];
    assert_eq!((seen.name(queue.id), seen.made(queue.id)), (Some("orders"), None));
    assert_eq!((seen.barriers[0].parties, seen.barriers[0].is_broken), (4, false));

    let queue = &seen.queues[0];
    assert_eq!((queue.depth, queue.is_depth_exact), (scene.queue.len().unwrap(), true));
    assert_eq!((queue.depth, queue.put, queue.maxsize), (90, 100, 1000));
    let lock_use = seen.memory.iter().find(|usage| usage.kind == "lock").unwrap();
    assert_eq!((lock_use.count, lock_use.bytes), (1, 64));
}

#[test]
fn a_waiting_thread_is_seen_with_what_it_waits_for() {
    let (lock, queue, event) = (
        Lock::create().unwrap(),
        Queue::create(1).unwrap(),
        Event::create().unwrap(),
    );
    lock.acquire(Deadline::Never).unwrap();
    let inspector = Inspector::own().unwrap();
    let waits = |kind: &str, operation: &str| loop {
        let seen = inspector.snapshot().unwrap();
        let waits = &seen.processes[0].waits;
        if let Some(wait) = waits
            .iter()
            .find(|wait| wait.kind == kind && wait.operation == operation)
        {
            assert!(wait.endless);
            return (wait.object.unwrap(), seen);
        }
        std::thread::yield_now();
    };
    let me = std::process::id();
    std::thread::scope(|scope| {
        scope.spawn(|| lock.acquire(Deadline::Never).unwrap());
        let (id, seen) = waits("lock", "acquire");
        assert_eq!((seen.locks[0].id, &seen.locks[0].waiters), (id, &vec![me]));
        lock.release();
    });
    std::thread::scope(|scope| {
        scope.spawn(|| queue.get(Deadline::Never).unwrap());
        let (id, seen) = waits("queue", "get");
        assert_eq!((seen.queues[0].id, &seen.queues[0].getters), (id, &vec![me]));
        queue.send(Outgoing::default(), Deadline::Never).unwrap();
    });
    queue.send(Outgoing::default(), Deadline::Never).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| queue.send(Outgoing::default(), Deadline::Never).unwrap());
        let (_, seen) = waits("queue", "put");
        assert_eq!(seen.queues[0].putters, [me]);
        queue.get(Deadline::Never).unwrap();
    });
    std::thread::scope(|scope| {
        scope.spawn(|| event.wait(event.begin(), Deadline::Never).unwrap());
        let (_, seen) = waits("event", "wait");
        assert_eq!(seen.events[0].waiters, [me]);
        event.set();
    });
}

/// Look twice, again and again, until `found` is what two looks show.
fn look_until<T>(inspector: &Inspector, found: impl Fn(&FamilySnapshot, &FamilySnapshot) -> Option<T>) -> T {
    let mut before = inspector.snapshot().unwrap();
    loop {
        let after = inspector.snapshot().unwrap();
        if let Some(found) = found(&before, &after) {
            return found;
        }
        before = after;
    }
}

#[test]
fn threads_that_wait_for_each_other_are_a_deadlock_until_one_lock_is_released() {
    let made = Some(("/srv/shop.py", 17));
    let first = Lock::with(made_at(made)).unwrap();
    let second = RLock::create().unwrap();
    let inspector = Inspector::own().unwrap();
    let ready = std::sync::Barrier::new(2);
    let tid = || rustix::thread::gettid().as_raw_nonzero().get() as u32;
    let (one, other) = std::thread::scope(|scope| {
        let one = scope.spawn(|| {
            first.acquire(Deadline::Never).unwrap();
            ready.wait();
            second.acquire(Deadline::Never).unwrap();
            second.release();
            tid()
        });
        let other = scope.spawn(|| {
            second.acquire(Deadline::Never).unwrap();
            ready.wait();
            first.acquire(Deadline::Never).unwrap();
            second.release();
            tid()
        });
        let found = look_until(&inspector, |before, after| {
            let found = deadlocks(before, after);
            assert!(found.is_empty() || may_be_deadlocked(after, &[]));
            (!found.is_empty()).then_some(found)
        });
        // Any thread may release a plain lock.
        first.release();
        let threads = (one.join().unwrap(), other.join().unwrap());
        let [deadlock] = &found[..] else { panic!("{found:?}") };
        let mut seen: Vec<_> = deadlock.members.iter().map(|one| (one.thread, one.kind)).collect();
        seen.sort_unstable();
        let mut expected = vec![(threads.0, "rlock"), (threads.1, "lock")];
        expected.sort_unstable();
        assert_eq!(seen, expected);
        let made = deadlock.members.iter().find_map(|one| one.made.clone());
        assert_eq!(made.unwrap().to_string(), "/srv/shop.py:17");
        threads
    });
    assert_ne!(one, other);
    let seen = inspector.snapshot().unwrap();
    assert!(!may_be_deadlocked(&seen, &[]));
}

#[test]
fn a_thread_that_waits_for_its_own_lock_is_no_deadlock_but_is_named() {
    let lock = Lock::create().unwrap();
    let inspector = Inspector::own().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            lock.acquire(Deadline::Never).unwrap();
            lock.acquire(Deadline::Never).unwrap();
        });
        let found = look_until(&inspector, |before, after| {
            assert_eq!(deadlocks(before, after), []);
            self_waits(before, after).pop()
        });
        assert_eq!((found.kind, found.pid), ("lock", std::process::id()));
        lock.release();
    });
}

#[test]
fn a_wait_with_a_timeout_is_no_part_of_a_deadlock() {
    let (first, second) = (Lock::create().unwrap(), Lock::create().unwrap());
    let inspector = Inspector::own().unwrap();
    let ready = std::sync::Barrier::new(2);
    let hold_and_wait = |held: &Lock, wanted: &Lock, deadline| {
        held.acquire(Deadline::Never).unwrap();
        ready.wait();
        wanted.acquire(deadline).unwrap();
    };
    let hour = Deadline::after(std::time::Duration::from_secs(3600));
    std::thread::scope(|scope| {
        scope.spawn(|| hold_and_wait(&first, &second, Deadline::Never));
        scope.spawn(|| hold_and_wait(&second, &first, hour));
        look_until(&inspector, |before, after| {
            assert_eq!(deadlocks(before, after), []);
            let old = |wait: &&super::snapshot::WaitSeen| wait.since_ms + 100 < before.taken_ms;
            (after.processes[0].waits.iter().filter(old).count() == 2).then_some(())
        });
        first.release();
        second.release();
    });
}

#[test]
fn a_long_queue_has_an_upper_bound() {
    let queue = Queue::create(0).unwrap();
    for _ in 0..20_000 {
        queue.send(Outgoing::default(), Deadline::Never).unwrap();
    }
    let seen = Inspector::own().unwrap().snapshot().unwrap();
    assert_eq!((seen.queues[0].depth, seen.queues[0].is_depth_exact), (20_000, false));
    assert!(seen.queues[0].is_long);
}

#[test]
fn nothing_is_written_and_nothing_committed() {
    let _scene = scene();
    let before = (parts(arena_fd()), rustix::fs::fstat(arena_fd()).unwrap().st_blocks);
    let inspector = Inspector::own().unwrap();
    inspector.snapshot().unwrap();
    inspector.processes().unwrap();
    let after = (parts(arena_fd()), rustix::fs::fstat(arena_fd()).unwrap().st_blocks);
    assert!(before == after, "a look changed the arena");
}

#[test]
fn another_version_and_another_file_are_named() {
    let _scene = scene();
    let me = std::process::id();
    let check = |file: OwnedFd| ArenaFile::check(file, me).err().unwrap().to_string();
    let file = copy();
    let version = std::mem::offset_of!(crate::arena::seen::Header, version) as u64;
    rustix::io::pwrite(&file, &77_u32.to_le_bytes(), version).unwrap();
    let text = check(file);
    assert!(text.contains("another version") && text.contains("format 77"), "{text}");
    let file = copy();
    rustix::io::pwrite(&file, &[0; 8], 0).unwrap();
    assert!(check(file).contains("does not begin as an arena does"));
    let file = rustix::fs::memfd_create("short", MemfdFlags::CLOEXEC).unwrap();
    assert!(check(file).contains("size is none of an arena"));
    assert!(matches!(
        Inspector::of(u32::MAX).err().unwrap(),
        InspectError::NoProcess(_)
    ));
}

/// Each round overwrites some words of a copy of an arena in use, mostly with values that look like valid ones, and looks
/// at it. It ends with a snapshot or an error, never with a panic and never without an end.
#[test]
fn overwritten_words_do_no_harm() {
    let _scene = scene();
    let file = copy();
    let words: Vec<(u64, [u8; 8])> = parts(&file)
        .into_iter()
        .flat_map(|(at, bytes)| {
            let words = bytes.chunks_exact(8).enumerate();
            let used = words.filter(|(_, word)| word.iter().any(|&byte| byte != 0));
            used.map(|(number, word)| (at + number as u64 * 8, word.try_into().unwrap()))
                .collect::<Vec<_>>()
        })
        .collect();
    assert!(words.len() > 500);
    let arena = ArenaFile::check(rustix::io::fcntl_dupfd_cloexec(&file, 0).unwrap(), std::process::id()).unwrap();
    let mut seed = 1_u64;
    let mut random = || {
        // xorshift64*
        seed ^= seed >> 12;
        seed ^= seed << 25;
        seed ^= seed >> 27;
        seed.wrapping_mul(0x2545_f491_4f6c_dd1d)
    };
    let mut outcomes = (0, 0);
    for _ in 0..400 {
        let mut undo = Vec::new();
        for _ in 0..=random() % 8 {
            let (at, old) = words[random() as usize % words.len()];
            let value = match random() % 4 {
                0 => random(),
                1 => u64::from_le_bytes(old) ^ 1 << (random() % 64),
                2 => u64::from_le_bytes(words[random() as usize % words.len()].1),
                _ => u64::MAX,
            };
            rustix::io::pwrite(&file, &value.to_le_bytes(), at).unwrap();
            undo.push((at, old));
        }
        match look(&arena) {
            Ok(_) => outcomes.0 += 1,
            Err(InspectError::Damaged { .. }) => outcomes.1 += 1,
            Err(other) => panic!("{other}"),
        }
        for (at, old) in undo {
            rustix::io::pwrite(&file, &old, at).unwrap();
        }
    }
    assert!(outcomes.0 > 100, "{outcomes:?}");
    assert_eq!(look(&arena).unwrap().queues[0].depth, 90);
}

#[test]
fn the_parts_of_all_objects_have_one_bound() {
    let queues = [Queue::create(0).unwrap(), Queue::create(0).unwrap()];
    for queue in &queues {
        for _ in 0..2_000 {
            queue.send(Outgoing::default(), Deadline::Never).unwrap();
        }
        queue.get(Deadline::Never).unwrap();
    }
    let arena = ArenaFile::check(copy(), std::process::id()).unwrap();
    let header = arena.header().unwrap();
    // Under plain `cargo test` the family has objects of other tests, too.
    let ours = [&queues[0], &queues[1]].map(|queue| {
        let (cell, generation) = queue.handle().split().unwrap();
        ObjectId::new(cell, generation)
    });
    let are_exact = |budget| {
        let objects = Objects::read(&arena, &header, &[], budget).unwrap();
        let exact = |(id, content): &_| match content {
            Content::Queue(seen) if ours.contains(id) => Some(seen.is_depth_exact),
            _ => None,
        };
        objects.contents.iter().filter_map(exact).collect::<Vec<_>>()
    };
    assert_eq!(are_exact(Budget::default()), [true, true]);
    assert_eq!(are_exact(Budget::of(0)), [false, false]);
    let parts = (0..10_000)
        .find(|&parts| are_exact(Budget::of(parts)).contains(&true))
        .unwrap();
    assert!(are_exact(Budget::of(parts)).contains(&false));
}

#[test]
fn of_many_locks_those_in_use_are_listed_and_all_other_kinds() {
    let free: Vec<_> = (0..20_100).map(|_| Lock::create().unwrap()).collect();
    let (held, awaited) = (Lock::create().unwrap(), Lock::create().unwrap());
    let (queue, event) = (Queue::create(0).unwrap(), Event::create().unwrap());
    held.acquire(Deadline::Never).unwrap();
    awaited.acquire(Deadline::Never).unwrap();
    let inspector = Inspector::own().unwrap();
    let me = std::process::id();
    std::thread::scope(|scope| {
        scope.spawn(|| awaited.acquire(Deadline::Never).unwrap());
        let seen = loop {
            let seen = inspector.snapshot().unwrap();
            if !seen.processes[0].waits.is_empty() {
                break seen;
            }
            std::thread::yield_now();
        };
        awaited.release();
        assert_eq!((seen.locks.len(), seen.left_out), (20_002, 100));
        let in_use = seen.locks.iter().filter(|lock| lock.holder.is_some());
        let waiters: Vec<_> = in_use.map(|lock| lock.waiters.clone()).collect();
        assert!(waiters.len() == 2 && waiters.contains(&vec![me]), "{waiters:?}");
        assert_eq!((seen.queues.len(), seen.events.len()), (1, 1));
    });
    drop((free, held, queue, event));
}
