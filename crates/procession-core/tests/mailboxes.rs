//! Mailboxes that lose their packer or receiver: a mailbox that no process can take any more is given back.

mod common;

use common::{child, kill, wait};
use procession_core::arena::{counters, Counters};
use procession_core::channel::{Mailbox, Outgoing};
use procession_core::liveness::sweep;
use procession_core::sync::Lock;
use procession_core::{family, sweep_deferred};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

/// A process that runs `work`, and then waits to be killed.
fn one_that_stays(work: impl FnOnce()) -> i32 {
    child(|| {
        work();
        loop {
            // SAFETY: sleeps.
            unsafe { libc::pause() };
        }
    })
}

/// Kill it, and reap it.
fn end(pid: i32) {
    kill(pid);
    sweep();
}

/// A process that has packed a mailbox with everything that one can contain, reported its token, and named its
/// receiver.
fn packer(receiver: Option<i32>) -> (i32, u64) {
    let lock = Lock::create().unwrap();
    let (mut tell, mut told) = UnixStream::pair().unwrap();
    let process = one_that_stays(|| {
        let out = Outgoing {
            body: &[7; 200],
            buffers: &[&vec![8; 100_000]],
            handles: &[lock.handle()],
            ..Outgoing::default()
        };
        let mailbox = std::mem::ManuallyDrop::new(Mailbox::pack(out).unwrap());
        let token = mailbox.token();
        if let Some(pid) = receiver {
            mailbox.address(pid);
        }
        tell.write_all(&token.to_ne_bytes()).unwrap();
    });
    let mut bytes = [0; 8];
    told.read_exact(&mut bytes).unwrap();
    (process, u64::from_ne_bytes(bytes))
}

fn in_use() -> Counters {
    sweep_deferred().unwrap();
    counters().unwrap()
}

/// What is in use at rest; the first lock leaves a reference log behind.
fn at_rest() -> Counters {
    family().unwrap();
    drop(Lock::create().unwrap());
    in_use()
}

#[test]
fn a_mailbox_is_emptied_once() {
    let out = Outgoing {
        body: b"what to do",
        ..Outgoing::default()
    };
    let mailbox = Mailbox::pack(out).unwrap();
    let token = mailbox.token();
    let pid = child(|| assert_eq!(Mailbox::take(token).unwrap().body(), b"what to do"));
    assert_eq!(wait(pid), 0);
    assert!(Mailbox::take(token).is_err());
    drop(mailbox);

    let mailbox = Mailbox::pack(out).unwrap();
    let token = mailbox.token();
    drop(mailbox);
    assert!(Mailbox::take(token).is_err());
}

#[test]
fn a_mailbox_whose_receiver_never_starts_ends_with_its_sender() {
    let before = at_rest();
    let (packer, token) = packer(None);
    assert_ne!(in_use(), before);
    end(packer);
    assert_eq!(in_use(), before);
    assert!(Mailbox::take(token).is_err());
}

#[test]
fn a_mailbox_outlives_its_sender_for_the_receiver() {
    let before = at_rest();
    let (mut tell, mut told) = UnixStream::pair().unwrap();
    let receiver = child(|| {
        let mut token = [0; 8];
        told.read_exact(&mut token).unwrap();
        let mut incoming = Mailbox::take(u64::from_ne_bytes(token)).expect("the mailbox");
        assert_eq!(incoming.body(), [7; 200]);
        assert_eq!(incoming.take_buffers()[0].as_slice(), vec![8; 100_000]);
        assert!(Lock::attach(incoming.handles()[0]).unwrap().try_acquire().unwrap());
    });
    let (packer, token) = packer(Some(receiver));
    end(packer);
    tell.write_all(&token.to_ne_bytes()).unwrap();
    assert_eq!(wait(receiver), 0);
    sweep();
    assert_eq!(in_use(), before);
}

#[test]
fn a_mailbox_ends_with_a_receiver_that_never_took_it() {
    let before = at_rest();
    let receiver = one_that_stays(|| {});
    let (packer, token) = packer(Some(receiver));
    end(packer);
    assert_ne!(in_use(), before);
    end(receiver);
    assert_eq!(in_use(), before);
    assert!(Mailbox::take(token).is_err());
}

#[test]
fn a_mailbox_ends_with_a_receiver_that_never_joined_the_family() {
    let before = at_rest();
    let mut receiver = Command::new("/bin/cat").stdin(Stdio::piped()).spawn().unwrap();
    let (packer, _) = packer(Some(receiver.id() as i32));
    end(packer);
    assert_ne!(in_use(), before);
    receiver.kill().unwrap();
    receiver.wait().unwrap();
    assert_eq!(in_use(), before);
}

/// The receiver may expect a mailbox whose packer has not named it, and never will.
#[test]
fn a_mailbox_that_was_expected_outlives_its_sender() {
    let before = at_rest();
    let (mut tell, mut told) = UnixStream::pair().unwrap();
    let receiver = child(|| {
        let mut token = [0; 8];
        told.read_exact(&mut token).unwrap();
        let token = u64::from_ne_bytes(token);
        Mailbox::expect(token).unwrap();
        told.write_all(&[1]).unwrap();
        told.read_exact(&mut [0]).unwrap();
        assert_eq!(Mailbox::take(token).expect("the mailbox").body(), [7; 200]);
        assert!(Mailbox::expect(token).is_err());
    });
    let (packer, token) = packer(None);
    tell.write_all(&token.to_ne_bytes()).unwrap();
    tell.read_exact(&mut [0]).unwrap();
    end(packer);
    tell.write_all(&[1]).unwrap();
    assert_eq!(wait(receiver), 0);
    sweep();
    assert_eq!(in_use(), before);
    assert!(Mailbox::expect(token).is_err());
}
