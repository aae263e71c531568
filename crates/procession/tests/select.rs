//! `Select`: what is ready, what wakes it, what it costs, and what is left of it.

mod common;

use common::{by, METHODS};
use procession::{bounded, channel, Error, Event, JoinHandle, Receiver, RecvError, Select, SendError, Sender};
use std::collections::HashSet;
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

fn threads(name: &str) -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).ok());
    names.filter(|comm| comm.trim() == &name[..name.len().min(15)]).count()
}

fn until(mut holds: impl FnMut() -> bool) {
    while !holds() {
        thread::yield_now();
    }
}

fn send_all((to, count): (Sender<u32>, u32)) {
    (0..count).for_each(|number| to.send(&number).unwrap());
}

fn wait_for_value(from: Receiver<()>) -> u32 {
    from.recv().unwrap();
    5
}

#[test]
fn all_values_of_several_channels_and_then_their_ends() {
    for method in METHODS {
        let (mut ends, mut children) = (Vec::new(), Vec::new());
        for _ in 0..3 {
            let (to, from) = bounded(2).unwrap();
            children.push(by(method).spawn(send_all, (to, 50)).unwrap());
            ends.push(from);
        }
        let (mut received, mut open) = (vec![Vec::new(); 3], 3);
        let mut done = [false; 3];
        while open > 0 {
            let mut select = Select::new();
            let listening: Vec<usize> = (0..3).filter(|&at| !done[at]).collect();
            for &at in &listening {
                select.recv(&ends[at]);
            }
            let at = listening[select.ready().unwrap()];
            match ends[at].try_recv() {
                Ok(number) => received[at].push(number),
                Err(RecvError::Disconnected) => (done[at], open) = (true, open - 1),
                Err(error) => panic!("{method:?}: {error}"),
            }
        }
        for numbers in received {
            assert!(numbers.into_iter().eq(0..50), "{method:?}");
        }
        for end in procession::wait_all(children) {
            end.unwrap();
        }
    }
}

#[test]
fn the_end_of_a_child_beside_a_quiet_channel() {
    for method in METHODS {
        let (_quiet, words) = channel::<String>().unwrap();
        let (to, held) = channel().unwrap();
        let children: [JoinHandle<u32>; 2] = [
            by(method).spawn(wait_for_value, held.clone()).unwrap(),
            by(method).spawn(wait_for_value, held).unwrap(),
        ];
        let mut select = Select::new();
        assert_eq!(select.recv(&words), 0);
        assert_eq!((select.join(&children[0]), select.join(&children[1])), (1, 2));
        assert_eq!(select.try_ready(), None);
        assert_eq!(select.ready_timeout(Duration::from_millis(5)).unwrap(), None);
        children[1].kill().unwrap();
        assert_eq!(select.ready().unwrap(), 2, "{method:?}");
        drop(select);
        to.send(&()).unwrap();
        let [first, second] = children;
        let mut select = Select::new();
        select.join(&first);
        assert_eq!(select.ready().unwrap(), 0);
        drop(select);
        assert_eq!(first.join(), Ok(5));
        assert_eq!(second.join().unwrap_err().signal(), Some(libc::SIGKILL));
    }
}

#[test]
fn the_death_of_the_last_sender_is_ready() {
    fn hang((_to, ready): (Sender<u8>, Sender<()>)) {
        ready.send(&()).unwrap();
        loop {
            thread::park();
        }
    }
    for method in METHODS {
        let (to, from) = channel::<u8>().unwrap();
        let (ready, is_ready) = channel().unwrap();
        let child: JoinHandle<()> = by(method).spawn(hang, (to, ready)).unwrap();
        is_ready.recv().unwrap();
        thread::scope(|scope| {
            let wait = scope.spawn(|| {
                let mut select = Select::new();
                select.recv(&from);
                select.ready()
            });
            child.kill().unwrap();
            assert_eq!(wait.join().unwrap().unwrap(), 0, "{method:?}");
        });
        assert!(matches!(from.try_recv(), Err(RecvError::Disconnected)));
        assert!(child.join().is_err());
    }
}

#[test]
fn each_that_is_ready_has_its_turn() {
    let ends: Vec<_> = (0..4).map(|_| channel().unwrap()).collect();
    let mut select = Select::new();
    for (to, from) in &ends {
        to.send(&1).unwrap();
        select.recv::<u8>(from);
    }
    let found: HashSet<usize> = (0..4).map(|_| select.ready().unwrap()).collect();
    assert_eq!(found.len(), 4);
}

#[test]
fn a_value_is_for_one_of_several_waits() {
    let (to, from) = channel::<u32>().unwrap();
    let (stop, stopped) = channel::<()>().unwrap();
    let begin = Barrier::new(5);
    let received: Vec<u32> = thread::scope(|scope| {
        let waits: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut mine = Vec::new();
                    let mut select = Select::new();
                    let (values, end) = (select.recv(&from), select.recv(&stopped));
                    begin.wait();
                    loop {
                        let ready = select.ready().unwrap();
                        match from.try_recv() {
                            Ok(number) => mine.push(number),
                            Err(RecvError::Empty) if ready == end => return mine,
                            Err(RecvError::Empty) => assert_eq!(ready, values),
                            Err(error) => panic!("{error}"),
                        }
                    }
                })
            })
            .collect();
        begin.wait();
        (0..400).for_each(|number| to.send(&number).unwrap());
        drop(stop);
        waits.into_iter().flat_map(|wait| wait.join().unwrap()).collect()
    });
    let all: HashSet<u32> = received.iter().copied().collect();
    assert_eq!((received.len(), all.len()), (400, 400));
}

#[test]
fn a_thread_for_each_receiver_and_one_for_all_children() {
    let (_to, first) = channel::<u8>().unwrap();
    let (_other, second) = channel::<u8>().unwrap();
    let (to, held) = channel::<()>().unwrap();
    let children: Vec<JoinHandle<u32>> = (0..3)
        .map(|_| procession::spawn(wait_for_value, held.clone()).unwrap())
        .collect();
    for _ in 0..20 {
        let mut select = Select::new();
        select.recv(&first);
        select.recv(&second);
        for child in &children {
            select.join(child);
        }
        assert_eq!(select.ready_timeout(Duration::from_millis(1)).unwrap(), None);
    }
    until(|| (threads("procession-recv"), threads("procession-join")) == (2, 1)); // a thread names itself
    drop((first, second));
    until(|| threads("procession-recv") == 0);
    (0..3).for_each(|_| to.send(&()).unwrap());
    assert!(procession::wait_all(children).into_iter().all(|end| end == Ok(5)));
}

#[test]
fn nothing_to_wait_for() {
    assert_eq!(Select::new().try_ready(), None);
    assert!(matches!(Select::new().ready(), Err(Error::Invalid(_))));
}

#[test]
fn an_event_that_a_child_sets_is_ready() {
    fn set((event, clear): (Event, bool)) {
        event.set();
        if clear {
            event.clear();
        }
    }
    for method in METHODS {
        for clear in [false, true] {
            let (_quiet, words) = channel::<String>().unwrap();
            let (event, other) = (Event::new().unwrap(), Event::new().unwrap());
            let mut select = Select::new();
            let places = (select.recv(&words), select.event(&other), select.event(&event));
            assert_eq!(places, (0, 1, 2));
            assert_eq!(select.ready_timeout(Duration::from_millis(1)).unwrap(), None);
            let child = by(method).spawn(set, (event.clone(), clear)).unwrap();
            assert_eq!(select.ready().unwrap(), 2, "{method:?}");
            child.join().unwrap();
            // Ready while it is set.
            if clear {
                while select.try_ready().is_some() {}
                assert_eq!(select.ready_timeout(Duration::from_millis(1)).unwrap(), None);
            } else {
                assert_eq!(select.ready().unwrap(), 2);
            }
        }
    }
    until(|| threads("procession-set") == 0);
}

#[test]
fn room_in_a_channel_is_ready_and_so_is_the_end_of_its_receivers() {
    fn take((from, count): (Receiver<u32>, u32)) {
        (0..count).for_each(|number| assert_eq!(from.recv().unwrap(), number));
    }
    for method in METHODS {
        let (to, from) = bounded(1).unwrap();
        let (_quiet, words) = channel::<String>().unwrap();
        let child = by(method).spawn(take, (from, 50)).unwrap();
        let mut select = Select::new();
        select.recv(&words);
        let room = select.send(&to);
        let mut next = 0;
        loop {
            assert_eq!(select.ready().unwrap(), room, "{method:?}");
            match to.try_send(&next) {
                Ok(()) => next += 1,
                Err(SendError::Disconnected) => break,
                Err(error) => assert!(matches!(error, SendError::Full), "{error}"),
            }
        }
        assert!((50..=51).contains(&next), "{method:?}: {next}");
        child.join().unwrap();
    }
}
