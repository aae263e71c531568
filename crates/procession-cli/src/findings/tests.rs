//! Warnings, on made-up families.

use super::*;
use crate::samples::{deadlocked, family, pool, queue};
use procession_core::inspect::EndedProcess;

fn watch(looks: Vec<FamilySnapshot>) -> Findings {
    let mut watch = Watch::new(Limits::default());
    for seen in looks {
        watch.see(seen);
    }
    watch.found
}

/// Kind and text of each warning.
fn said(looks: Vec<FamilySnapshot>) -> Vec<(&'static str, String)> {
    let found = watch(looks).warnings.into_iter();
    found.map(|warning| (warning.kind, warning.text)).collect()
}

fn at(taken_ms: u64) -> FamilySnapshot {
    FamilySnapshot { taken_ms, ..family(10) }
}

fn with_depth(taken_ms: u64, depth: u64) -> FamilySnapshot {
    let mut seen = at(taken_ms);
    seen.queues = vec![queue(9, depth, depth)];
    seen
}

fn with_workers(taken_ms: u64, pids: &[u32], ended: &[(u32, Option<i32>)]) -> FamilySnapshot {
    let mut seen = at(taken_ms);
    seen.pools = vec![pool(pids)];
    let ended = ended.iter().map(|&(pid, exit_code)| EndedProcess {
        pid,
        name: String::new(),
        exit_code,
    });
    seen.ended = ended.collect();
    seen
}

#[test]
fn an_ordinary_family_has_no_warnings() {
    assert_eq!(said(vec![at(100_000), at(101_000), at(102_000)]), []);
}

#[test]
fn a_queue_grows_if_it_never_shrinks() {
    let text = "queue 9.0 only grows: from 20 to 150 items in 2.0s".to_owned();
    let looks = |depths: &[u64]| {
        let each = depths.iter().enumerate();
        said(
            each.map(|(number, &depth)| with_depth(100_000 + 1_000 * number as u64, depth))
                .collect(),
        )
    };
    assert_eq!(looks(&[500, 20, 60, 150]), [("queue grows", text)]);
    assert_eq!(looks(&[20, 150, 149]), []);
    assert_eq!(looks(&[20, 60, 119]), [], "less than the limit");
    assert_eq!(looks(&[5_000]), [], "one look shows no growth");
}

#[test]
fn looks_of_more_than_a_minute_ago_do_not_count() {
    let looks = (0..100)
        .map(|second| with_depth(100_000 + 1_000 * second, 3 * second))
        .collect();
    let found = said(looks);
    assert_eq!(
        found,
        [(
            "queue grows",
            "queue 9.0 only grows: from 117 to 297 items in 1m00s".to_owned()
        )]
    );
}

#[test]
fn a_lock_is_held_for_long_if_something_waits_for_long() {
    let mut seen = at(100_000);
    seen.processes[1].waits[0].for_ms = 12_000;
    let found = said(vec![seen.clone()]);
    let text = "lock 7.1 is held by bob (102); alice?[31m (103) has waited for it for 12.0s";
    assert_eq!(found, [("lock held long", text.to_owned())]);
    seen.processes[2].state = ProcessState::Stopped;
    seen.processes[1].waits[0].for_ms = 1;
    let found = said(vec![seen]);
    let text = "bob (102) is stopped and holds lock 7.1; alice?[31m (103) has waited for it for 1ms";
    assert_eq!(found[1..], [("stopped holder", text.to_owned())]);
    assert_eq!(found[0], ("stopped", "stopped: 102".to_owned()));
}

#[test]
fn a_deadlock_is_told_as_such_and_not_as_a_long_wait() {
    let found = watch(vec![deadlocked(200_000), deadlocked(201_000)]);
    assert_eq!((found.deadlocks.len(), found.warnings.len()), (1, 0));
    assert_eq!(found.phrases(), ["deadlock: bob (102), alice?[31m (103)"]);
    let [bob, alice] = &text::deadlock(&found.deadlocks[0])[..] else {
        panic!()
    };
    assert_eq!(
        bob,
        "bob (102) has waited 1m46s for lock 8.1, held by alice?[31m (103) for at least 1m46s"
    );
    assert!(alice.starts_with("alice?[31m (103) has waited 1m46s for lock 7.1, held by bob (102)"));
    let one = watch(vec![deadlocked(200_000)]);
    assert!(
        one.deadlocks.is_empty() && one.warnings.len() == 2,
        "a single look shows long waits only"
    );
}

#[test]
fn a_thread_that_waits_for_its_own_lock_is_a_warning() {
    let look = |taken_ms| {
        let mut seen = deadlocked(taken_ms);
        seen.processes[2].waits.clear();
        let holder = seen.locks[1].holder.clone();
        seen.locks[0].holder = holder;
        seen
    };
    let found = watch(vec![look(200_000), look(201_000)]);
    assert_eq!((found.deadlocks.len(), found.warnings.len()), (0, 1));
    assert_eq!(found.warnings[0].kind, "own lock");
}

#[test]
fn workers_that_are_replaced_count_if_they_are_known_to_have_failed() {
    let looks = |code| {
        said(vec![
            with_workers(100_000, &[1, 2], &[]),
            with_workers(101_000, &[3, 4], &[(1, code), (2, code)]),
            with_workers(102_000, &[3, 5], &[(1, code), (2, code), (4, code)]),
        ])
    };
    let text = "pool 5.0: 3 workers or more have failed in 2.0s".to_owned();
    assert_eq!(looks(None), [("workers replaced", text.clone())]);
    assert_eq!(looks(Some(1)), [("workers replaced", text)]);
    assert_eq!(looks(Some(0)), []);
    let unknown = [(100_000, [1, 2]), (101_000, [3, 4]), (102_000, [5, 6])];
    let unknown = unknown.iter().map(|(at, pids)| with_workers(*at, pids, &[]));
    assert_eq!(said(unknown.collect()), [], "their entries are in use again");
    // Looks that follow each other closely are kept as one, and nothing is lost.
    let close = [
        with_workers(100_000, &[1, 2], &[]),
        with_workers(100_050, &[3, 4], &[(1, None), (2, None)]),
        with_workers(100_100, &[3, 5], &[(1, None), (2, None), (4, None)]),
    ];
    assert_eq!(said(close.to_vec()).len(), 1);
}

#[test]
fn the_number_of_samples_is_bounded() {
    let mut watch = Watch::new(Limits::default());
    for number in 0..10_000 {
        watch.see(with_depth(100_000 + 10 * number, number));
        assert!(watch.samples.len() <= 130);
    }
    // The last minute is still compared.
    let [warning] = &watch.found.warnings[..] else { panic!() };
    assert!(warning.text.contains(" 9999 items in 59."), "{}", warning.text);
}

#[test]
fn depths_that_are_not_exact_do_not_count() {
    let mut looks = vec![with_depth(100_000, 10), with_depth(101_000, 5_000)];
    assert_eq!(said(looks.clone()).len(), 1);
    looks[1].queues[0].is_depth_exact = false;
    assert_eq!(said(looks), []);
}

#[test]
fn a_deadlock_does_not_flicker_while_a_thread_is_awake() {
    let mut awake = deadlocked(202_000);
    awake.processes[1].waits[0].thread = None;
    let looks = vec![deadlocked(200_000), deadlocked(201_000), awake.clone()];
    let found = watch(looks.clone());
    assert_eq!((found.deadlocks.len(), found.warnings.len()), (1, 0));
    let mut looks = looks;
    looks.push(deadlocked(203_000));
    assert_eq!(watch(looks.clone()).deadlocks.len(), 1, "once");
    awake.processes[1].waits.clear();
    looks.push(awake.clone());
    assert_eq!(watch(looks.clone()).deadlocks, []);
    // It is there again with the first look that shows its waits again, and gone for good after two that do not.
    let mut again = looks.clone();
    again.push(deadlocked(204_000));
    assert_eq!(watch(again).deadlocks.len(), 1);
    looks.push(awake);
    looks.push(deadlocked(205_000));
    assert_eq!(watch(looks).deadlocks, [], "two further looks find it anew");
}

#[test]
fn a_deadlock_that_a_look_does_not_show_is_looked_for_again() {
    let mut watch = Watch::new(Limits::default());
    watch.see(deadlocked(200_000));
    watch.see(deadlocked(201_000));
    assert_eq!(watch.wants_pause(), None);
    let mut awake = deadlocked(202_000);
    awake.processes[1].waits.clear();
    watch.see(awake.clone());
    assert!(watch.wants_pause().is_some());
    watch.see(awake);
    assert_eq!(watch.wants_pause(), None);
}

#[test]
fn memory_is_near_its_limit_from_90_per_cent_on() {
    let with = |committed_bytes| FamilySnapshot {
        committed_bytes,
        limit_bytes: 1_000 << 20,
        ..at(100_000)
    };
    assert_eq!(said(vec![with(899 << 20)]), []);
    let text = "90% of the shared memory are used: 900M of 1.0G".to_owned();
    assert_eq!(said(vec![with(900 << 20)]), [("memory near limit", text)]);
}

#[test]
fn a_task_is_slow_beside_the_others() {
    let busy = |item_ms, p99_us| {
        let mut seen = with_workers(100_000, &[200, 201], &[]);
        let pool = &mut seen.pools[0];
        pool.p99_us = p99_us;
        pool.workers[1].item_ms = Some(item_ms);
        pool.workers[1].function = Some(b"\x80\x05\x8c\x04shop\x94\x8c\x05serve\x94\x93\x94K\0\x86\x94.".to_vec());
        said(vec![seen])
    };
    let text =
        "worker 201 of pool 5.0 has run a task of shop.serve for 5.0s; 99% of the last ones took no longer than 500ms";
    assert_eq!(busy(5_000, Some(500_000)), [("slow task", text.to_owned())]);
    assert_eq!(busy(4_999, Some(500_000)), []);
    assert_eq!(busy(999, Some(10)), [], "nobody waits for long");
    assert_eq!(busy(500_000, None), [], "it is not known what is usual");
}

#[test]
fn a_queue_that_is_too_long_to_be_counted_grows_as_well() {
    let looks = |is_long| {
        let long = |taken_ms, depth| {
            let mut seen = with_depth(taken_ms, depth);
            (seen.queues[0].is_depth_exact, seen.queues[0].is_long) = (false, is_long);
            seen
        };
        watch(vec![long(100_000, 20_000), long(102_000, 30_000)])
    };
    let found = looks(true);
    assert_eq!(found.warnings[0].kind, "queue grows");
    assert_eq!(found.oldest[&ObjectId::new(9, 0)], 2_000);
    let found = looks(false);
    assert!(
        found.warnings.is_empty() && found.oldest.is_empty(),
        "its list has changed on the way"
    );
}
