//! Channels, and what an end learns of the other side's: dropped, under way, dead in the middle of something.

mod common;

use common::{by, kill, until_asleep, METHODS};
use procession::{bounded, channel, JoinHandle, Queue, Receiver, RecvError, SendError, Sender, StartMethod};
use std::time::Duration;

const LONG: Duration = Duration::from_secs(60);

#[test]
fn full_and_empty_are_errors_and_so_is_a_missing_side() {
    let (to, from) = bounded::<u8>(2).unwrap();
    assert!(matches!(from.try_recv(), Err(RecvError::Empty)));
    assert!(matches!(
        from.recv_timeout(Duration::from_millis(1)),
        Err(RecvError::Timeout)
    ));
    to.send(&1).unwrap();
    to.try_send(&2).unwrap();
    assert!(matches!(to.try_send(&3), Err(SendError::Full)));
    assert!(matches!(
        to.send_timeout(&3, Duration::from_millis(1)),
        Err(SendError::Timeout)
    ));
    assert_eq!(
        (to.len().unwrap(), from.is_full().unwrap(), from.capacity()),
        (2, true, Some(2))
    );
    assert_eq!(channel::<u8>().unwrap().0.capacity(), None);
    assert!(bounded::<u8>(0).is_err());
    let another = from.clone();
    drop(from);
    assert_eq!(another.recv().unwrap(), 1);
    drop(another);
    for error in [to.send(&4), to.try_send(&4), to.send_timeout(&4, LONG)] {
        assert!(matches!(error, Err(SendError::Disconnected)));
    }
}

#[test]
fn what_was_sent_arrives_before_the_end_is_seen() {
    let (to, from) = channel::<String>().unwrap();
    let another = to.clone();
    to.send(&"one".into()).unwrap();
    drop(to);
    another.send(&"two".into()).unwrap();
    assert_eq!(from.try_iter().collect::<Result<Vec<_>, _>>().unwrap(), ["one", "two"]);
    another.send(&"three".into()).unwrap();
    drop(another);
    assert_eq!(from.iter().collect::<Result<Vec<_>, _>>().unwrap(), ["three"]);
    assert!(matches!(from.try_recv(), Err(RecvError::Disconnected)));
    assert!(matches!(from.recv_timeout(LONG), Err(RecvError::Disconnected)));
    assert_eq!(from.into_iter().count(), 0);
}

fn send_all((to, numbers): (Sender<u32>, std::ops::Range<u32>)) {
    for number in numbers {
        to.send(&number).unwrap();
    }
}

fn sum(from: Receiver<u32>) -> u32 {
    from.into_iter().map(Result::unwrap).sum()
}

#[test]
fn receivers_learn_that_all_senders_are_gone() {
    for method in METHODS {
        let (to, from) = bounded(4).unwrap();
        let senders = [0, 100, 200].map(|first| by(method).spawn(send_all, (to.clone(), first..first + 100)).unwrap());
        drop(to);
        assert_eq!(sum(from), (0..300).sum::<u32>(), "{method:?}");
        for sender in senders {
            sender.join().unwrap();
        }
    }
}

#[test]
fn receivers_in_other_processes_learn_it_too() {
    // By fork they would have copies of the sender, as of a pipe's other end.
    for method in [StartMethod::Spawn, StartMethod::Forkserver] {
        let (to, from) = channel().unwrap();
        let receivers = [(); 2].map(|()| by(method).spawn(sum, from.clone()).unwrap());
        drop(from);
        receivers.iter().for_each(until_asleep);
        (0..100).for_each(|number| to.send(&number).unwrap());
        drop(to);
        let sums = receivers.map(|receiver| receiver.join().unwrap());
        assert_eq!(sums.iter().sum::<u32>(), 4950, "{method:?}");
    }
}

#[test]
fn an_end_under_way_counts() {
    let (to, from) = channel::<u8>().unwrap();
    let parcel = Queue::new().unwrap();
    parcel.put(&to).unwrap();
    drop(to);
    assert!(
        matches!(from.try_recv(), Err(RecvError::Empty)),
        "a sender is in the queue"
    );
    let to: Sender<u8> = parcel.get().unwrap();
    to.send(&1).unwrap();
    parcel.put(&to).unwrap();
    drop((to, parcel));
    assert_eq!(from.recv().unwrap(), 1);
    assert!(
        matches!(from.recv(), Err(RecvError::Disconnected)),
        "it was lost with the queue"
    );
}

#[test]
fn an_end_that_would_not_count_under_way_is_refused() {
    let (ours, theirs) = procession::pipe::<Result<u8, Vec<Receiver<u8>>>>().unwrap();
    let (to, from) = channel().unwrap();
    let error = ours.send(&Err(vec![from.clone()])).unwrap_err().to_string();
    assert!(error.contains("not through a pipe"), "{error}");
    ours.send(&Ok(7)).unwrap();
    assert!(matches!(theirs.recv(), Ok(Some(Ok(7)))), "nothing of it was sent");
    let error = serde_json::to_string(&to).unwrap_err().to_string();
    assert!(error.contains("as an argument, or through a channel"), "{error}");
    drop(from);
    assert!(matches!(to.send(&1), Err(SendError::Disconnected)));
}

fn send_for_ever(to: Sender<(u64, Vec<u8>)>) {
    for number in 0.. {
        let message = (number, vec![number as u8; number as usize * 7 % 300]);
        if to.send(&message).is_err() {
            return;
        }
    }
}

#[test]
fn the_death_of_the_last_sender_is_an_error_of_the_receiver() {
    for method in METHODS {
        // What a child of fork inherited is given back when a process looks, now and then.
        let rounds = if method == StartMethod::Fork { 2 } else { 10 };
        for round in 0..rounds {
            let (to, from) = channel().unwrap();
            let sender = by(method).spawn(send_for_ever, to).unwrap();
            for number in 0..round * 10 {
                assert_eq!(from.recv().unwrap().0, number);
            }
            kill(sender); // wherever it is
            let mut next = round * 10;
            let end = loop {
                match from.recv() {
                    Ok((number, bytes)) => assert_eq!((number, bytes.len()), (next, next as usize * 7 % 300)),
                    Err(error) => break error,
                }
                next += 1;
            };
            assert!(matches!(end, RecvError::Disconnected), "{method:?}: {end}");
        }
    }
}

#[test]
fn the_death_of_the_last_receiver_is_an_error_of_a_sender_that_waits() {
    fn take_and_hang((from, count): (Receiver<u32>, u32)) {
        from.iter()
            .take(count as usize)
            .for_each(|number| assert!(number.is_ok()));
        loop {
            std::thread::park();
        }
    }
    for method in METHODS {
        let (to, from) = bounded(2).unwrap();
        let receiver = by(method).spawn(take_and_hang, (from, 3)).unwrap();
        (0..5).for_each(|number| to.send(&number).unwrap());
        std::thread::scope(|threads| {
            let waits = threads.spawn(|| to.send(&5));
            while !procession_core::liveness::members()
                .iter()
                .any(|one| one.pid == std::process::id() && !one.waits.is_empty())
            {
                std::thread::yield_now();
            }
            kill(receiver);
            let end = waits.join().unwrap();
            assert!(matches!(end, Err(SendError::Disconnected)), "{method:?}: {end:?}");
        });
    }
}

#[test]
fn a_killed_process_of_several_changes_nothing_for_the_others() {
    let (to, from) = channel().unwrap();
    let (victim, other) = (to.clone(), to);
    let victim = procession::spawn(send_for_ever, victim).unwrap();
    from.recv().unwrap();
    kill(victim);
    while from.try_recv().is_ok() {}
    assert!(matches!(from.try_recv(), Err(RecvError::Empty)));
    other.send(&(7, Vec::new())).unwrap();
    assert_eq!(from.recv().unwrap().0, 7);
}

type Request = (u32, Sender<u32>);

#[test]
fn a_reply_of_a_receiver_that_is_dropped_is_an_error() {
    let (requests, server) = channel::<Request>().unwrap();
    let (reply, from) = channel().unwrap();
    requests.send(&(1, reply)).unwrap();
    drop(server.clone());
    assert_eq!(requests.len().unwrap(), 1, "there is another receiver");
    drop(server);
    assert_eq!(requests.len().unwrap(), 0);
    assert!(matches!(from.recv(), Err(RecvError::Disconnected)));
}

fn answer_once(server: Receiver<Request>) {
    let (number, to) = server.recv().unwrap();
    to.send(&number).unwrap();
    std::process::abort();
}

#[test]
fn a_reply_of_a_receiver_that_is_dead_is_an_error() {
    for method in METHODS {
        let (requests, server) = channel::<Request>().unwrap();
        let (reply, first) = channel().unwrap();
        let (other, second) = channel().unwrap();
        requests.send(&(1, reply)).unwrap();
        requests.send(&(2, other)).unwrap();
        let child = by(method).spawn(answer_once, server).unwrap();
        assert_eq!(first.recv().unwrap(), 1, "{method:?}");
        assert!(matches!(second.recv(), Err(RecvError::Disconnected)), "{method:?}");
        assert_eq!(child.join().unwrap_err().signal(), Some(libc::SIGABRT));
    }
}

#[test]
fn arguments_that_a_dead_process_never_took_are_gone_once_it_is_joined() {
    fn hang(_: Sender<u8>) {
        loop {
            std::thread::park();
        }
    }
    for method in METHODS {
        for _ in 0..5 {
            let (to, from) = channel().unwrap();
            let child: JoinHandle<()> = by(method).spawn(hang, to).unwrap();
            kill(child); // most often before it has taken them
            assert!(matches!(from.recv(), Err(RecvError::Disconnected)), "{method:?}");
        }
    }
}
