//! Parcels that lose their packer or receiver: a parcel that no process can take any more is given back.

mod common;

use common::{child, kill, wait};
use procession_core::arena::{census, Census};
use procession_core::channel::{Outgoing, Parcel};
use procession_core::roll::sweep;
use procession_core::sync::Lock;
use procession_core::{family, sweep_limbo};
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

/// A process that has packed a parcel with everything that one can contain, reported its token, and named its receiver.
fn packer(receiver: Option<i32>) -> (i32, u64) {
    let lock = Lock::create().unwrap();
    let (mut tell, mut told) = UnixStream::pair().unwrap();
    let process = one_that_stays(|| {
        let out = Outgoing {
            body: &[7; 200],
            buffers: &[&vec![8; 100_000]],
            handles: &[lock.handle()],
        };
        let parcel = std::mem::ManuallyDrop::new(Parcel::pack(out).unwrap());
        let token = parcel.token();
        if let Some(pid) = receiver {
            parcel.address(pid);
        }
        tell.write_all(&token.to_ne_bytes()).unwrap();
    });
    let mut bytes = [0; 8];
    told.read_exact(&mut bytes).unwrap();
    (process, u64::from_ne_bytes(bytes))
}

fn in_use() -> Census {
    sweep_limbo().unwrap();
    census().unwrap()
}

/// What is in use at rest; the first lock leaves holdings behind.
fn at_rest() -> Census {
    family().unwrap();
    drop(Lock::create().unwrap());
    in_use()
}

#[test]
fn a_parcel_is_had_once() {
    let order = Outgoing {
        body: b"what to do",
        ..Outgoing::default()
    };
    let parcel = Parcel::pack(order).unwrap();
    let token = parcel.token();
    let pid = child(|| assert_eq!(Parcel::take(token).unwrap().body(), b"what to do"));
    assert_eq!(wait(pid), 0);
    assert!(Parcel::take(token).is_err());
    drop(parcel);

    let parcel = Parcel::pack(order).unwrap();
    let token = parcel.token();
    drop(parcel);
    assert!(Parcel::take(token).is_err());
}

#[test]
fn a_parcel_whose_receiver_never_came_to_be_goes_with_its_packer() {
    let before = at_rest();
    let (packer, token) = packer(None);
    assert_ne!(in_use(), before);
    end(packer);
    assert_eq!(in_use(), before);
    assert!(Parcel::take(token).is_err());
}

#[test]
fn a_parcel_outlives_its_packer_for_the_receiver() {
    let before = at_rest();
    let (mut tell, mut told) = UnixStream::pair().unwrap();
    let receiver = child(|| {
        let mut token = [0; 8];
        told.read_exact(&mut token).unwrap();
        let mut incoming = Parcel::take(u64::from_ne_bytes(token)).expect("the parcel");
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
fn a_parcel_goes_with_a_receiver_that_never_took_it() {
    let before = at_rest();
    let receiver = one_that_stays(|| {});
    let (packer, token) = packer(Some(receiver));
    end(packer);
    assert_ne!(in_use(), before);
    end(receiver);
    assert_eq!(in_use(), before);
    assert!(Parcel::take(token).is_err());
}

#[test]
fn a_parcel_goes_with_a_receiver_that_never_joined_the_family() {
    let before = at_rest();
    let mut receiver = Command::new("/bin/cat").stdin(Stdio::piped()).spawn().unwrap();
    let (packer, _) = packer(Some(receiver.id() as i32));
    end(packer);
    assert_ne!(in_use(), before);
    receiver.kill().unwrap();
    receiver.wait().unwrap();
    assert_eq!(in_use(), before);
}
