//! Which threads can never go on, given what each waits for. Knows nothing of locks, processes or shared memory.

use std::collections::{BTreeMap, BTreeSet};

/// How many threads are followed. Beyond, nothing is found.
const MOST: usize = 4096;

/// What a thread waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Awaits<N> {
    /// It runs, or waits for something that may come without any of the threads that wait.
    MayGoOn,
    /// It goes on only after one of these has gone on. Of a lock that is its holder; of a process, all of its threads.
    OneOf(Vec<N>),
}

/// The deadlock of which `start` is a member: all of its members, in order. A member is a thread that waits for another
/// one, directly or through others, which in the same way waits for it. None of them, and none of those for which they
/// wait besides, can go on.
pub(crate) fn deadlock_of<N: Copy + Ord>(start: N, mut awaits: impl FnMut(N) -> Awaits<N>) -> Option<Vec<N>> {
    let mut awaited: BTreeMap<N, Vec<N>> = BTreeMap::new();
    let mut next = vec![start];
    while let Some(thread) = next.pop() {
        if awaited.contains_key(&thread) {
            continue;
        }
        let Awaits::OneOf(others) = awaits(thread) else {
            return None;
        };
        if others.is_empty() || awaited.len() >= MOST {
            return None;
        }
        next.extend(&others);
        awaited.insert(thread, others);
    }
    // All that were reached are stuck. Members are those that reach `start` in turn.
    let mut waiting: BTreeMap<N, Vec<N>> = BTreeMap::new();
    for (&thread, others) in &awaited {
        for &other in others {
            waiting.entry(other).or_default().push(thread);
        }
    }
    let mut members = BTreeSet::new();
    let mut next = waiting.get(&start)?.clone();
    while let Some(thread) = next.pop() {
        if members.insert(thread) {
            next.extend(waiting.get(&thread).into_iter().flatten());
        }
    }
    members.contains(&start).then(|| members.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Graph = Vec<Awaits<usize>>;

    /// By rounds: a thread may go on if one of those may for which it waits. Those that never may are stuck.
    fn stuck(graph: &Graph) -> Vec<bool> {
        let mut moves = vec![false; graph.len()];
        for _ in 0..=graph.len() {
            for (thread, awaits) in graph.iter().enumerate() {
                moves[thread] |= match awaits {
                    Awaits::MayGoOn => true,
                    Awaits::OneOf(others) => others.is_empty() || others.iter().any(|&other| moves[other]),
                };
            }
        }
        moves.into_iter().map(|moves| !moves).collect()
    }

    /// By squaring a matrix: which thread waits for which, directly or not.
    fn reach(graph: &Graph) -> Vec<Vec<bool>> {
        let n = graph.len();
        let mut reach = vec![vec![false; n]; n];
        for (thread, awaits) in graph.iter().enumerate() {
            if let Awaits::OneOf(others) = awaits {
                for &other in others {
                    reach[thread][other] = true;
                }
            }
        }
        for via in 0..n {
            for from in 0..n {
                for to in 0..n {
                    reach[from][to] |= reach[from][via] && reach[via][to];
                }
            }
        }
        reach
    }

    fn graphs() -> impl Strategy<Value = Graph> {
        (2..10_usize).prop_flat_map(|threads| {
            let awaits = prop_oneof![
                1 => Just(Awaits::MayGoOn),
                5 => (0..threads).prop_map(|other| Awaits::OneOf(vec![other])),
                2 => prop::collection::vec(0..threads, 0..4).prop_map(Awaits::OneOf),
            ];
            prop::collection::vec(awaits, threads)
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 20_000, ..ProptestConfig::default() })]

        #[test]
        fn what_is_found_is_what_brute_force_finds(graph in graphs()) {
            let (stuck, reach) = (stuck(&graph), reach(&graph));
            for start in 0..graph.len() {
                let expected = (stuck[start] && reach[start][start]).then(|| {
                    let members = (0..graph.len()).filter(|&other| reach[start][other] && reach[other][start]);
                    members.collect::<Vec<_>>()
                });
                prop_assert_eq!(deadlock_of(start, |thread| graph[thread].clone()), expected);
            }
        }
    }

    #[test]
    fn circles_of_every_size_are_found_by_each_member() {
        for size in 1..=8 {
            let circle = |thread: usize| Awaits::OneOf(vec![(thread + 1) % size]);
            for start in 0..size {
                assert_eq!(deadlock_of(start, circle), Some((0..size).collect()));
            }
        }
    }

    #[test]
    fn a_thread_that_waits_for_a_deadlock_is_no_member_of_it() {
        let awaits = |thread: usize| Awaits::OneOf(vec![[1, 2, 1][thread]]);
        assert_eq!(deadlock_of(0, awaits), None);
        assert_eq!(deadlock_of(1, awaits), Some(vec![1, 2]));
    }

    #[test]
    fn more_threads_than_are_followed_are_none() {
        let size = MOST + 1;
        assert_eq!(
            deadlock_of(0, |thread: usize| Awaits::OneOf(vec![(thread + 1) % size])),
            None
        );
        let fits = |thread: usize| Awaits::OneOf(vec![(thread + 1) % MOST]);
        assert_eq!(deadlock_of(0, fits).map(|members| members.len()), Some(MOST));
    }
}
