//! The workloads with ipc-channel, whose processes procession starts. Its channels have one receiver each.

use crate::{micros, now, rate, Message, Span, LARGE, LARGE_ONES, MESSAGES, TRIPS};
use ipc_channel::ipc::{channel, IpcOneShotServer, IpcReceiver, IpcSender, IpcSharedMemory};
use procession::{spawn, JoinHandle};
use std::time::Instant;

fn send((server, count): (String, u64)) {
    let to = IpcSender::<Message>::connect(server).unwrap();
    for number in 0..count {
        to.send(Message::new(number)).unwrap();
    }
}

/// Receive from a child that is started here.
fn receive(count: u64) -> Span {
    let (server, name) = IpcOneShotServer::<Message>::new().unwrap();
    let child = spawn(send, (name, count)).unwrap();
    let (from, message) = server.accept().unwrap();
    std::hint::black_box(message);
    let first = now();
    for _ in 1..count {
        std::hint::black_box(from.recv().unwrap());
    }
    let last = now();
    child.join().unwrap();
    (first, last, count)
}

pub fn one_to_one() -> f64 {
    rate(&[receive(MESSAGES)]) / 1e6
}

pub fn four_to_four() -> f64 {
    let receivers = [(); 4].map(|()| spawn(receive, MESSAGES / 4).unwrap());
    rate(&receivers.map(|receiver| receiver.join().unwrap())) / 1e6
}

type Ends = (IpcSender<Message>, IpcReceiver<Message>);

fn echo(server: String) {
    let (to, theirs) = channel().unwrap();
    let (back, from) = channel().unwrap();
    let ends = IpcSender::<Ends>::connect(server).unwrap();
    ends.send((to, from)).unwrap();
    while let Ok(message) = theirs.recv() {
        let message: Message = message;
        back.send(message).unwrap();
    }
}

pub fn round_trip() -> f64 {
    let (server, name) = IpcOneShotServer::<Ends>::new().unwrap();
    let child: JoinHandle<()> = spawn(echo, name).unwrap();
    let (_, (to, from)) = server.accept().unwrap();
    let trip = || {
        to.send(Message::new(1)).unwrap();
        from.recv().unwrap()
    };
    trip();
    let begin = Instant::now();
    for _ in 0..TRIPS {
        trip();
    }
    let time = begin.elapsed();
    drop((to, from));
    child.join().unwrap();
    micros(time, TRIPS)
}

fn send_large(server: String) {
    let to = IpcSender::<IpcSharedMemory>::connect(server).unwrap();
    let bytes = vec![1; LARGE];
    for _ in 0..=LARGE_ONES {
        to.send(IpcSharedMemory::from_bytes(&bytes)).unwrap();
    }
}

pub fn large() -> f64 {
    let (server, name) = IpcOneShotServer::<IpcSharedMemory>::new().unwrap();
    let child = spawn(send_large, name).unwrap();
    let (from, first) = server.accept().unwrap();
    drop(first);
    let begin = Instant::now();
    for _ in 0..LARGE_ONES {
        assert_eq!(from.recv().unwrap().to_vec().len(), LARGE);
    }
    let time = begin.elapsed();
    child.join().unwrap();
    micros(time, LARGE_ONES) / 1e3
}
