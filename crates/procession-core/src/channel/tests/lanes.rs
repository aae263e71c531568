//! Lanes: what the descriptor shows, and what deaths leave.

use super::super::lane::{lane, Received, Receiver, Sender, Sent, BELL_FRAME};
use super::super::{Message, Outgoing};
use super::{child, end, in_a_child_that_dies};
use crate::{Deadline, WaitError};
use std::io::{PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

struct Pipe {
    sender: Sender,
    receiver: Receiver,
    to: OwnedFd,
    from: OwnedFd,
}

fn pipes() -> [Pipe; 2] {
    let stream = UnixStream::pair().unwrap();
    let plain: (PipeReader, PipeWriter) = std::io::pipe().unwrap();
    let fds: [(OwnedFd, OwnedFd); 2] = [(stream.0.into(), stream.1.into()), (plain.0.into(), plain.1.into())];
    fds.map(|(from, to)| {
        let (sender, receiver) = lane().unwrap();
        Pipe {
            sender,
            receiver,
            to,
            from,
        }
    })
}

fn message(body: &[u8]) -> Message {
    let out = Outgoing {
        body,
        ..Outgoing::default()
    };
    Message::pack(out).unwrap()
}

fn is_readable(fd: BorrowedFd<'_>) -> bool {
    let mut fds = [rustix::event::PollFd::new(&fd, rustix::event::PollFlags::IN)];
    let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    rustix::event::poll(&mut fds, Some(&now)).unwrap() > 0
}

impl Pipe {
    fn send(&self, body: &[u8]) {
        let sent = self.sender.try_send(&mut Some(message(body)), self.to.as_fd()).unwrap();
        assert_eq!(sent, Sent::Done);
    }

    fn receive(&self) -> Option<Vec<u8>> {
        match self.receiver.receive(self.from.as_fd(), &mut false).unwrap() {
            Received::Message(incoming) => Some(incoming.body().to_vec()),
            Received::End => None,
            Received::Descriptor => panic!("the lane was left"),
        }
    }

    fn shows(&self) -> bool {
        is_readable(self.from.as_fd())
    }

    fn prepare_poll(&self) -> bool {
        self.receiver.prepare_poll(self.from.as_fd()).unwrap()
    }
}

#[test]
fn one_bell_is_enough_for_all_messages_until_it_is_taken_away() {
    for pipe in pipes() {
        for _ in 0..3 {
            pipe.send(b"a");
            pipe.send(b"b");
            assert!(pipe.shows() && pipe.prepare_poll());
            assert_eq!(pipe.receive().unwrap(), b"a");
            assert_eq!(pipe.receive().unwrap(), b"b");
            pipe.send(b"c");
            assert_eq!(pipe.receive().unwrap(), b"c");
        }
        let mut bytes = [0; 64];
        let got = std::fs::File::from(pipe.from.try_clone().unwrap())
            .read(&mut bytes)
            .unwrap();
        // The looks took the flag away, so each of them let another bell in.
        assert!(got <= 3 * BELL_FRAME.len() && bytes[..got].chunks(4).all(|one| one == BELL_FRAME));
    }
}

#[test]
fn without_messages_the_descriptor_shows_nothing() {
    for pipe in pipes() {
        assert!(!pipe.prepare_poll() && !pipe.shows());
        pipe.send(b"a");
        assert_eq!(pipe.receive().unwrap(), b"a");
        assert!(!pipe.prepare_poll() && !pipe.shows());
        pipe.send(b"b");
        assert!(pipe.shows());
    }
}

#[test]
fn after_the_lane_is_left_what_is_in_it_comes_first() {
    for pipe in pipes() {
        pipe.send(b"a");
        assert!(pipe.receiver.leave() && !pipe.receiver.leave());
        assert_eq!(pipe.receiver.pending().unwrap(), Some(1));
        let sent = pipe.sender.try_send(&mut Some(message(b"b")), pipe.to.as_fd()).unwrap();
        assert_eq!(sent, Sent::Descriptor);
        assert!(pipe.shows());
        assert_eq!(pipe.receive().unwrap(), b"a");
        assert!(!pipe.shows());
        let frame = b"\0\0\0\x01b";
        std::fs::File::from(pipe.to.try_clone().unwrap())
            .write_all(frame)
            .unwrap();
        let received = pipe.receiver.receive(pipe.from.as_fd(), &mut false).unwrap();
        assert!(matches!(received, Received::Descriptor));
        assert!(pipe.prepare_poll());
    }
}

#[test]
fn a_sender_that_dies_leaves_its_messages_and_then_the_end() {
    for pipe in pipes() {
        in_a_child_that_dies(|| {
            pipe.send(b"a");
            pipe.send(b"b");
        });
        let Pipe { to, .. } = pipe;
        drop(to);
        let fd = pipe.from.as_fd();
        for body in [b"a", b"b"] {
            let received = pipe.receiver.receive(fd, &mut false).unwrap();
            assert!(matches!(received, Received::Message(one) if one.body() == body));
        }
        assert!(matches!(pipe.receiver.receive(fd, &mut false).unwrap(), Received::End));
    }
}

#[test]
fn a_receiver_that_waits_sees_the_end_without_a_close() {
    for pipe in pipes() {
        let pid = child(|| {
            // The parent closes its copy meanwhile; this one goes with the process.
            pipe.send(b"a");
        });
        let Pipe { to, .. } = pipe;
        drop(to);
        let fd = pipe.from.as_fd();
        assert!(matches!(
            pipe.receiver.receive(fd, &mut false).unwrap(),
            Received::Message(_)
        ));
        assert!(matches!(pipe.receiver.receive(fd, &mut false).unwrap(), Received::End));
        end(pid);
    }
}

#[test]
fn a_close_of_the_last_receiver_is_seen_by_the_next_send() {
    for pipe in pipes() {
        pipe.send(b"a");
        let Pipe { from, .. } = pipe;
        drop(from);
        pipe.receiver.closed();
        for _ in 0..2 {
            let sent = pipe.sender.try_send(&mut Some(message(b"b")), pipe.to.as_fd()).unwrap();
            assert_eq!(sent, Sent::Broken);
        }
    }
}

#[test]
fn the_longer_the_messages_the_fewer_fit() {
    for pipe in pipes() {
        for (length, limit) in [(8, 1024), (1 << 16, 16), (3 << 20, 2)] {
            let body = vec![7; length];
            for _ in 0..limit {
                pipe.send(&body);
            }
            let sent = pipe
                .sender
                .try_send(&mut Some(message(&body)), pipe.to.as_fd())
                .unwrap();
            assert_eq!(sent, Sent::Full);
            for _ in 0..limit {
                assert_eq!(pipe.receive().unwrap(), body);
            }
        }
    }
}

#[test]
fn a_bell_that_a_dead_sender_did_not_ring_costs_a_slice() {
    for pipe in pipes() {
        // A sender that dies between the message and the bell.
        pipe.sender.claim_the_bell();
        let pid = child(|| pipe.send(b"a"));
        let mut idle = true;
        let received = pipe.receiver.receive(pipe.from.as_fd(), &mut idle).unwrap();
        assert!(matches!(received, Received::Message(_)));
        end(pid);
    }
}

#[test]
fn polls_end_with_their_deadline() {
    for pipe in pipes() {
        let fd = pipe.from.as_fd();
        for idle in [false, true] {
            let deadline = Deadline::after(std::time::Duration::from_millis(30));
            let waited = pipe.receiver.wait_until_ready(fd, &mut idle.clone(), deadline);
            assert!(matches!(waited, Err(WaitError::TimedOut)));
        }
        let pid = child(|| pipe.send(b"a"));
        pipe.receiver.wait_until_ready(fd, &mut false, Deadline::Never).unwrap();
        end(pid);
        pipe.receiver.wait_until_ready(fd, &mut true, Deadline::Never).unwrap();
        assert_eq!(pipe.receive().unwrap(), b"a");
    }
}
