//! Scopes, and the macro for blocks that name what they capture.

mod common;

use common::{by, METHODS};
use procession::{
    channel, pipe, scope, spawn, Builder, Error, Event, JoinError, Mutex, Pipe, Receiver, Result, Sender, SharedMap,
};
use std::panic::{catch_unwind, AssertUnwindSafe};

fn work((total, to, step): (Mutex<u64>, Sender<u64>, u64)) -> u64 {
    let mut total = total.lock().unwrap();
    *total += step;
    to.send(&step).unwrap();
    *total
}

#[test]
fn children_are_lent_their_arguments_and_are_joined() {
    for method in METHODS {
        let total = Mutex::new(0_u64).unwrap();
        let (to, from) = channel().unwrap();
        let last = scope(|scope| {
            for step in 1..=4_u64 {
                scope.spawn_by(by(method), work, (&total, &to, &step)).unwrap();
            }
            Ok(scope.spawn_by(by(method), work, (&total, &to, &0))?.join()?)
        });
        assert!(last.unwrap() <= 10);
        assert_eq!((total.get().unwrap(), from.len().unwrap()), (10, 5), "{method:?}");
    }
}

#[test]
fn an_end_that_is_lent_stays_with_the_parent() {
    fn echo((from, to, socket): (Receiver<u8>, Sender<u8>, Pipe<u8>)) {
        socket.send(&9).unwrap();
        to.send(&from.recv().unwrap()).unwrap();
    }
    for method in METHODS {
        let ((to, theirs), (back, from)) = (channel().unwrap(), channel().unwrap());
        let (mine, socket) = pipe().unwrap();
        scope(|scope| {
            scope.spawn_by(by(method), echo, (&theirs, &back, &socket)).unwrap();
            assert_eq!(mine.recv().unwrap(), Some(9));
            to.send(&3).unwrap();
            assert_eq!(from.recv().unwrap(), 3, "{method:?}");
            Ok(())
        })
        .unwrap();
        drop(back);
        assert!(from.recv().is_err(), "the child's sender is gone with it");
    }
}

#[test]
fn a_child_that_failed_is_an_error_of_the_scope_unless_it_was_joined() {
    fn fail(number: u32) -> String {
        assert!(number > 1, "too small: {number}");
        std::process::exit(3)
    }
    for method in METHODS {
        let error = scope(|scope| {
            scope
                .spawn_by(by(method), |text: String| text, &"fine".to_owned())
                .unwrap();
            scope.spawn_by(by(method), fail, &1).unwrap();
            scope.spawn_by(by(method), fail, &2).map(drop)
        });
        assert!(matches!(error, Err(Error::Join(JoinError::Panicked { message, .. })) if message == "too small: 1"));
        let joined = scope(|scope| Ok(scope.spawn_by(by(method), fail, &2)?.join()));
        assert_eq!(joined.unwrap().unwrap_err().code(), Some(3), "{method:?}");
    }
}

#[test]
fn a_panic_goes_on_once_the_children_have_ended() {
    fn wait((go, done): (Event, Mutex<u8>)) {
        go.wait().unwrap();
        done.set(1).unwrap();
    }
    let (go, done) = (Event::new().unwrap(), Mutex::new(0).unwrap());
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        scope(|scope| {
            scope.spawn(wait, (&go, &done)).unwrap();
            go.set();
            panic!("in the scope");
        })
    }));
    let panic = panicked.map(|end: Result<()>| end.unwrap()).unwrap_err();
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"in the scope"));
    assert_eq!(done.get().unwrap(), 1);
}

#[test]
fn a_block_gets_what_it_names() {
    let (map, base) = (SharedMap::<String, u64>::new().unwrap(), 40_u64);
    for method in METHODS {
        let name = format!("{method:?}");
        let child = spawn!(by(method), [&map, &name, base, more = base / 20,] => {
            map.insert(&name, &(base + more)).unwrap();
            name
        });
        assert_eq!(child.unwrap().join().unwrap(), name);
        assert_eq!(map.get(&name).unwrap(), Some(42));
    }
    assert_eq!(spawn!([] => 1 + 1).unwrap().join(), Ok(2));
    let many = spawn!(
        [a = 1, b = 2, c = 3, d = 4, e = 5, f = 6, g = 7, h = 8, i = 9, j = 10, k = 11, l = 12, m = 13, n = 14, o = 15, p = 16]
        => a + b + c + d + e + f + g + h + i + j + k + l + m + n + o + p
    );
    assert_eq!(many.unwrap().join(), Ok(136));
    let child = spawn!(Builder::new().name("block"), [] => procession::current().name().to_owned());
    assert_eq!(child.unwrap().join().unwrap(), "block");
}
