//! Queues and pipes between processes, and what remains in them when one of the processes is killed. The file is long
//! because each file of tests is a program of its own to link.

mod common;

use common::{by, kill, until_asleep, METHODS};
use procession::{pipe, Error, Pipe, Pool, Queue};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Item {
    Number(u64),
    Text { words: Vec<String>, long: String },
    Last,
}

fn items() -> Vec<Item> {
    let text = |size: usize| Item::Text {
        words: vec!["ä".into(), String::new()],
        long: "0123456789".repeat(size / 10),
    };
    vec![
        Item::Number(u64::MAX),
        text(0),
        text(100),
        text(100_000),
        text(1_000_000),
    ]
}

fn echo((from, to): (Queue<Item>, Queue<Item>)) {
    loop {
        let item = from.get().unwrap();
        to.put(&item).unwrap();
        if item == Item::Last {
            return;
        }
    }
}

#[test]
fn items_go_and_come_back_in_order() {
    for method in METHODS {
        let (there, back) = (Queue::new().unwrap(), Queue::bounded(1).unwrap());
        let child = by(method).spawn(echo, (there.clone(), back.clone())).unwrap();
        for item in items() {
            there.put(&item).unwrap();
        }
        there.put(&Item::Last).unwrap();
        let arrived: Vec<Item> = std::iter::repeat_with(|| back.get().unwrap())
            .take_while(|item| *item != Item::Last)
            .collect();
        assert!(arrived == items(), "{method:?}");
        child.join().unwrap();
        assert!(there.is_empty().unwrap() && back.is_empty().unwrap());
    }
}

fn put_numbers((queue, count): (Queue<u64>, u64)) {
    for number in 0..count {
        queue.put(&number).unwrap();
    }
}

fn put_runs((queue, count): (Queue<u64>, u64)) {
    let numbers: Vec<_> = (0..count).collect();
    for run in numbers.chunks(70) {
        queue.put_many(run).unwrap();
    }
}

#[test]
fn runs_of_items_arrive_in_order() {
    for method in METHODS {
        let queue = Queue::bounded(100).unwrap();
        let child = by(method).spawn(put_runs, (queue.clone(), 5000)).unwrap();
        let mut got = Vec::new();
        while got.len() < 5000 {
            let run = queue.get_many(60).unwrap();
            assert!((1..=60).contains(&run.len()));
            got.extend(run);
        }
        child.join().unwrap();
        assert!(got.into_iter().eq(0..5000), "{method:?}");
        assert!(queue.is_empty().unwrap());
    }
}

/// An item whose deserialization puts another one.
struct Again;

static AGAIN: OnceLock<Queue<Again>> = OnceLock::new();

impl Serialize for Again {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_unit()
    }
}

impl<'de> Deserialize<'de> for Again {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <()>::deserialize(deserializer)?;
        AGAIN.get().expect("the queue").put(&Again).map_err(D::Error::custom)?;
        Ok(Again)
    }
}

#[test]
fn items_that_are_put_meanwhile_are_left_for_the_next() {
    let queue = AGAIN.get_or_init(|| Queue::new().unwrap());
    for _ in 0..3 {
        queue.put(&Again).unwrap();
    }
    for _ in 0..50 {
        assert_eq!(queue.get_many(1000).unwrap().len(), 3);
    }
}

#[test]
fn a_run_of_items_is_cut_where_the_queue_is_full_or_empty() {
    let queue = Queue::bounded(3).unwrap();
    assert_eq!(queue.try_put_many(&[1, 2, 3, 4, 5]).unwrap(), 3);
    assert_eq!(queue.put_many_timeout(&[4, 5], Duration::from_millis(1)).unwrap(), 0);
    assert_eq!(queue.try_get_many(2).unwrap(), [1, 2]);
    assert_eq!(queue.put_many_timeout(&[4, 5], Duration::from_millis(1)).unwrap(), 2);
    assert_eq!(queue.get_many(usize::MAX).unwrap(), [3, 4, 5]);
    assert!(queue.try_get_many(9).unwrap().is_empty());
    let end = queue.get_many_timeout(9, Duration::from_millis(1));
    assert!(matches!(end, Err(Error::TimedOut)));
    assert!(matches!(queue.get_many(0), Err(Error::Invalid(_))));
    queue.put_many(&[]).unwrap();
    assert!(queue.is_empty().unwrap());
}

#[test]
fn what_a_process_put_outlives_it() {
    for method in METHODS {
        let queue = Queue::new().unwrap();
        by(method)
            .spawn(put_numbers, (queue.clone(), 5000))
            .unwrap()
            .join()
            .unwrap();
        assert_eq!(queue.len().unwrap(), 5000, "{method:?}");
        for number in 0..5000 {
            assert_eq!(queue.try_get().unwrap(), Some(number));
        }
        assert_eq!(queue.try_get().unwrap(), None);
    }
}

fn put_until_killed(queue: Queue<u64>) {
    put_numbers((queue, u64::MAX));
}

#[test]
fn a_killed_producer_leaves_whole_items_without_gaps() {
    for method in METHODS {
        let queue = Queue::new().unwrap();
        let child = by(method).spawn(put_until_killed, queue.clone()).unwrap();
        for number in 0..1000 {
            assert_eq!(queue.get().unwrap(), number, "{method:?}");
        }
        kill(child);
        let mut next = 1000;
        while let Some(number) = queue.try_get().unwrap() {
            assert_eq!(number, next, "{method:?}");
            next += 1;
        }
        queue.put(&7).unwrap();
        assert_eq!(queue.get().unwrap(), 7);
    }
}

fn get_one(queue: Queue<u64>) -> u64 {
    queue.get().unwrap()
}

#[test]
fn a_consumer_killed_while_it_waits_takes_nothing_along() {
    for method in METHODS {
        let queue = Queue::new().unwrap();
        let victim = by(method).spawn(get_one, queue.clone()).unwrap();
        until_asleep(&victim);
        let survivor = by(method).spawn(get_one, queue.clone()).unwrap();
        until_asleep(&survivor);
        kill(victim);
        queue.put(&5).unwrap();
        assert_eq!(survivor.join(), Ok(5), "{method:?}");
    }
}

fn answer_inside(requests: Queue<(u64, Queue<u64>)>) {
    let (number, answers) = requests.get().unwrap();
    answers.put(&(number * 2)).unwrap();
}

#[test]
fn a_queue_is_sent_inside_an_item() {
    for method in METHODS {
        let requests = Queue::new().unwrap();
        let answers = Queue::new().unwrap();
        requests.put(&(21, answers.clone())).unwrap();
        let child = by(method).spawn(answer_inside, requests).unwrap();
        assert_eq!(answers.get().unwrap(), 42, "{method:?}");
        child.join().unwrap();
    }
    // Only the item keeps the inner queue alive.
    let outer = Queue::new().unwrap();
    let inner = Queue::new().unwrap();
    inner.put(&1).unwrap();
    outer.put(&inner).unwrap();
    drop(inner);
    let inner: Queue<u64> = outer.get().unwrap();
    assert_eq!(inner.get().unwrap(), 1);
}

#[test]
fn a_bounded_queue_says_when_it_is_full() {
    let queue = Queue::bounded(2).unwrap();
    queue.put(&1).unwrap();
    queue.try_put(&2).unwrap();
    assert!(queue.is_full().unwrap());
    assert!(matches!(queue.try_put(&3), Err(Error::TimedOut)));
    let brief = Duration::from_millis(10);
    assert!(matches!(queue.put_timeout(&3, brief), Err(Error::TimedOut)));
    let child = procession::spawn(put_numbers, (queue.clone(), 1)).unwrap();
    until_asleep(&child);
    assert_eq!(queue.get().unwrap(), 1);
    child.join().unwrap();
    assert_eq!((queue.get().unwrap(), queue.get().unwrap()), (2, 0));
    assert!(matches!(queue.get_timeout(brief), Err(Error::TimedOut)));
    let error = Queue::<u8>::bounded(0).map(drop).unwrap_err();
    assert_eq!(error.to_string(), "a bounded queue needs a capacity of at least 1");
}

fn work_off(queue: Queue<u64>) {
    while queue.get().unwrap() != 0 {
        queue.task_done().unwrap();
    }
    queue.task_done().unwrap();
}

#[test]
fn join_waits_until_every_task_is_done() {
    let queue = Queue::new().unwrap();
    for number in [3, 2, 1, 0] {
        queue.put(&number).unwrap();
    }
    let child = procession::spawn(work_off, queue.clone()).unwrap();
    queue.join().unwrap();
    assert!(queue.is_empty().unwrap());
    let error = queue.task_done().unwrap_err().to_string();
    assert_eq!(error, "task_done() called too many times");
    child.join().unwrap();
}

fn shout(end: Pipe<Item>) -> usize {
    let mut count = 0;
    while let Some(item) = end.recv().unwrap() {
        end.send(&item).unwrap();
        count += 1;
    }
    count
}

#[test]
fn a_pipe_goes_both_ways_and_ends() {
    for method in METHODS {
        let (ours, theirs) = pipe::<Item>().unwrap();
        let child = by(method).spawn(shout, theirs).unwrap();
        for item in items() {
            ours.send(&item).unwrap();
            assert!(ours.recv().unwrap() == Some(item), "{method:?}");
        }
        assert!(!ours.poll(Duration::ZERO).unwrap());
        ours.close().unwrap();
        assert_eq!(child.join(), Ok(items().len()), "{method:?}");
    }
}

fn receive_for_ever(end: Pipe<u64>) {
    end.send(&1).unwrap();
    while end.recv().unwrap() != Some(0) {}
}

#[test]
fn the_death_of_a_process_is_the_end_of_its_pipe() {
    for method in METHODS {
        let (ours, theirs) = pipe::<u64>().unwrap();
        let child = by(method).spawn(receive_for_ever, theirs).unwrap();
        assert_eq!(ours.recv().unwrap(), Some(1));
        kill(child);
        assert_eq!(ours.recv().unwrap(), None, "{method:?}");
        assert!(ours.send(&1).is_err(), "and no signal");
    }
}

fn answer_all(ends: Queue<Option<(u64, Pipe<u64>)>>) -> u64 {
    let mut answered = 0;
    while let Some((number, end)) = ends.get().unwrap() {
        assert_eq!(end.recv().unwrap(), Some(number));
        end.send(&(number * 2)).unwrap();
        answered += 1;
    }
    answered
}

#[test]
fn ends_of_pipes_go_through_queues() {
    for method in METHODS {
        let queue = Queue::new().unwrap();
        let child = by(method).spawn(answer_all, queue.clone()).unwrap();
        let ours: Vec<_> = (0..5)
            .map(|number| {
                let (ours, theirs) = pipe::<u64>().unwrap();
                queue.put(&Some((number, theirs))).unwrap();
                ours.send(&number).unwrap();
                ours
            })
            .collect();
        queue.put(&None).unwrap();
        for (number, end) in ours.iter().enumerate() {
            assert_eq!(end.recv().unwrap(), Some(2 * number as u64), "{method:?}");
            assert_eq!(end.recv().unwrap(), None, "no copy is left open: {method:?}");
        }
        assert_eq!(child.join(), Ok(5));
    }
}

#[test]
fn a_process_may_take_back_what_it_sent() {
    let queue = Queue::new().unwrap();
    let (ours, theirs) = pipe::<u64>().unwrap();
    queue.put(&vec![theirs]).unwrap();
    let back = queue.get().unwrap();
    back[0].send(&5).unwrap();
    drop(back);
    assert_eq!((ours.recv().unwrap(), ours.recv().unwrap()), (Some(5), None));
}

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn what_is_never_read_is_closed() {
    let queue = Queue::new().unwrap(); // opens the descriptors that every family has
    let before = open_descriptors();
    let others: Vec<_> = (0..20)
        .map(|_| {
            let (ours, theirs) = pipe::<u64>().unwrap();
            queue.put(&theirs).unwrap();
            ours
        })
        .collect();
    assert!(open_descriptors() >= before + 40);
    drop(queue);
    for end in &others {
        assert_eq!(end.recv().unwrap(), None);
    }
    drop(others);
    // The socket of these descriptors closes some time after them.
    let deadline = Instant::now() + Duration::from_secs(20);
    while open_descriptors() > before {
        assert!(Instant::now() < deadline, "{} are left", open_descriptors() - before);
        std::thread::yield_now();
    }
}

fn put_one(queue: Queue<Pipe<u64>>) {
    queue.put(&pipe().unwrap().0).unwrap();
}

#[test]
fn unread_ends_are_lost_with_their_sender() {
    for method in METHODS {
        let queue = Queue::new().unwrap();
        by(method).spawn(put_one, queue.clone()).unwrap().join().unwrap();
        let error = queue.get().unwrap_err().to_string();
        assert!(error.contains("its sender has ended"), "{error}");
    }
}

fn relay((number, end): (u64, Pipe<u64>)) -> (u64, Pipe<u64>) {
    end.send(&number).unwrap();
    (number + 1, end)
}

#[test]
fn ends_of_pipes_are_arguments_and_results_of_pool_tasks() {
    let pool = Pool::new(2).unwrap();
    let (ours, theirs): (Vec<_>, Vec<_>) = (0..6).map(|_| pipe::<u64>().unwrap()).unzip();
    let back = pool
        .map(relay, theirs.into_iter().zip(0..).map(|(end, number)| (number, end)))
        .unwrap();
    for (number, (end, (next, returned))) in ours.iter().zip(back).enumerate() {
        assert_eq!((end.recv().unwrap(), next), (Some(number as u64), number as u64 + 1));
        returned.send(&7).unwrap();
        assert_eq!(end.recv().unwrap(), Some(7));
    }
}

#[test]
fn threads_share_an_end_of_a_pipe_and_lose_nothing() {
    // Longer than a pipe takes at once: without turns, the pieces of two messages would mix.
    let message = |number: u32| (number, vec![number as u8; 300_000]);
    let (ours, theirs) = procession::pipe::<(u32, Vec<u8>)>().unwrap();
    let copy = ours.try_clone().unwrap();
    let mut numbers = std::thread::scope(|threads| {
        for (pipe, first) in [(&ours, 0), (&ours, 10), (&copy, 20)] {
            threads.spawn(move || (first..first + 10).for_each(|number| pipe.send(&message(number)).unwrap()));
        }
        let receive = || {
            let take = |_| theirs.recv().unwrap().unwrap();
            (0..15)
                .map(take)
                .map(|got| (got == message(got.0)).then_some(got.0))
                .collect::<Vec<_>>()
        };
        let receivers = [threads.spawn(receive), threads.spawn(receive)];
        receivers.map(|receiver| receiver.join().unwrap()).concat()
    });
    numbers.sort_unstable();
    assert_eq!(numbers, (0..30).map(Some).collect::<Vec<_>>());
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Either {
    More { end: Pipe<u8>, more: u8 },
    Less { end: Pipe<u8> },
}

#[test]
fn a_variant_that_does_not_fit_leaves_the_descriptor_to_the_next() {
    let queue = Queue::new().unwrap();
    for more in [true, false] {
        let (ours, end) = pipe::<u8>().unwrap();
        queue
            .put(&if more {
                Either::More { end, more: 1 }
            } else {
                Either::Less { end }
            })
            .unwrap();
        let (Either::More { end, .. } | Either::Less { end }) = queue.get().unwrap();
        end.send(&3).unwrap();
        drop(end);
        assert_eq!(ours.recv().unwrap(), Some(3));
        assert_eq!(ours.recv().unwrap(), None, "no copy is left");
    }
}
