//! Decoders: messages, mailboxes, handles, tokens, requests to a fork server, frames of a pipe and values of the Rust
//! API, all made from the input's bytes.

use crate::choices::Choices;
use crate::objects::{attach_as, Objects};
use procession::{codec, sync, Array, Pipe, Queue, Value};
use procession_core::arena::{Block, Token};
use procession_core::channel::{BrokeredFd, Incoming, Mailbox, MessageHeader};
use procession_core::ids::Handle;
use procession_core::process::fork_server::{self, Server, ServerCommand};
use procession_core::sys::scm;
use procession_core::{channel, family, Deadline};
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

const STEPS: usize = 60;
/// How long to wait for a lock that another process may hold.
const MOMENT: Duration = Duration::from_micros(50);

/// Run one process with peers that send it nonsense. The arena itself is intact.
pub fn handles(input: &[u8]) {
    let mut choices = Choices::new(input);
    let mut objects = Objects::build();
    for _ in 0..STEPS {
        if choices.are_over() {
            break;
        }
        match choices.below(8) {
            0 => mailbox(&mut choices, &objects),
            1 => token(&mut choices),
            2 => {
                let handle = handle(&mut choices, &objects);
                attach_as(&mut choices, handle);
                let _ = BrokeredFd::claim(handle);
            }
            3 => request(&mut choices),
            4 => frames(&mut choices),
            5 | 6 => value(&mut choices, &objects),
            _ => drop(objects.use_once(&mut choices)),
        }
    }
    objects.use_all(&mut choices);
}

/// The handle of an existing object, one like it, or any number.
pub(crate) fn handle(choices: &mut Choices, objects: &Objects) -> Handle {
    let real = choices
        .pick(&objects.handles)
        .expect("there are some, once all are built")
        .to_bits();
    let bits = match choices.below(4) {
        0 => choices.word(),
        1 => real ^ 1 << choices.below(64),
        _ => real,
    };
    Handle::from_bits(bits.max(1)).expect("not zero")
}

/// A block in transit, full of words: handles and tokens among them.
fn table(choices: &mut Choices, objects: &Objects) -> (Token, usize) {
    let words = choices.below(24) as usize;
    let mut block = Block::alloc(words * 8).expect("an arena that is whole has room");
    let mut inner = Vec::new();
    for place in block.as_mut_slice().chunks_exact_mut(8) {
        let word = match choices.below(4) {
            0 => {
                let length = choices.below(40_000) as usize;
                let token = Block::alloc(length).expect("an arena that is whole has room").send();
                inner.push(token.to_bits());
                token.to_bits()
            }
            1 => handle(choices, objects).to_bits(),
            2 => choices.pick(&inner).copied().unwrap_or_default(),
            _ => choices.below(1 << 17),
        };
        place.copy_from_slice(&word.to_ne_bytes());
    }
    (block.send(), words * 8)
}

/// A message header of any words, in a mailbox.
fn mailbox(choices: &mut Choices, objects: &Objects) {
    let mut block = Block::alloc(size_of::<MessageHeader>()).expect("an arena that is whole has room");
    let words: &mut [u8] = block.as_mut_slice();
    words.fill(0);
    let inline = choices.below(2) == 0;
    let head = match choices.below(4) {
        0 => choices.word(),
        _ if inline => 1 | choices.below(120) << 8,
        _ => 2 | choices.below(8) << 8 | choices.below(16) << 32,
    };
    words[..8].copy_from_slice(&head.to_ne_bytes());
    if inline {
        let rest = choices.bytes(words.len() - 8);
        words[8..8 + rest.len()].copy_from_slice(rest);
    } else {
        let (token, length) = table(choices, objects);
        let length = match choices.below(3) {
            0 => choices.word(),
            1 => choices.below(1 << 17),
            _ => length as u64,
        };
        words[8..16].copy_from_slice(&token.to_bits().to_ne_bytes());
        words[16..24].copy_from_slice(&length.to_ne_bytes());
    }
    let token = block.send();
    if let Ok(incoming) = Mailbox::take(token.to_bits()) {
        look(incoming);
    }
}

/// Read everything that a receiver may read.
fn look(mut incoming: Incoming) {
    let sum = |bytes: &[u8]| bytes.iter().fold(0u8, |sum, byte| sum ^ byte);
    let mut seen = sum(incoming.body());
    for &handle in incoming.handles() {
        let _ = BrokeredFd::claim(handle);
    }
    seen ^= incoming.size() as u8;
    if let Some((block, start)) = incoming.take_block() {
        seen ^= sum(&block.as_slice()[start..]);
    }
    for block in incoming.take_buffers() {
        seen ^= sum(block.as_slice());
    }
    std::hint::black_box(seen);
}

fn token(choices: &mut Choices) {
    let real = Block::alloc(choices.below(1 << 17) as usize).map_or(1, |block| block.send().to_bits());
    let bits = if choices.below(2) == 0 {
        choices.word()
    } else {
        real ^ choices.below(2) << choices.below(64)
    };
    let length = choices.below(1 << 20) as usize;
    match choices.below(3) {
        0 => Block::discard(Token::from_bits(bits)),
        1 => drop(Mailbox::take(bits)),
        _ => {
            if let Ok(block) = Block::take(Token::from_bits(bits), length) {
                std::hint::black_box(block.as_slice().iter().fold(0u8, |sum, byte| sum ^ byte));
            }
        }
    }
}

/// Datagrams to a fork server: a real request, changed here and there, and any bytes.
fn request(choices: &mut Choices) {
    let real = real_request();
    let (ours, theirs) = scm::pair().expect("descriptors");
    let Ok(mut server) = Server::new(theirs) else { return };
    for _ in 0..=choices.below(3) {
        let mut bytes = real.clone();
        match choices.below(3) {
            0 => bytes = choices.bytes(40).to_vec(),
            1 => {
                let at = choices.below(bytes.len() as u64) as usize;
                bytes[at] ^= choices.below(256) as u8;
            }
            _ => {}
        }
        let fds: Vec<BorrowedFd<'_>> = (0..choices.below(4)).map(|_| ours.as_fd()).collect();
        // An empty datagram cannot be told from the end.
        if !bytes.is_empty() {
            scm::send(ours.as_fd(), &bytes, &fds).expect("a socket takes a few datagrams");
        }
    }
    // The datagrams carry copies of `ours`, which keep the server from seeing the end: shut the socket down.
    end_of_file(&ours);
    while let Ok(ServerCommand::Fork(request)) = server.next() {
        request.failed(libc::EAGAIN);
    }
}

fn end_of_file(socket: &OwnedFd) {
    use std::os::fd::AsRawFd;
    // SAFETY: a plain system call on a socket that is ours.
    unsafe { libc::shutdown(socket.as_raw_fd(), libc::SHUT_WR) };
}

/// The request that a process sends to get a child.
fn real_request() -> Vec<u8> {
    let mut listening = None;
    let started: procession_core::Result<()> = fork_server::start(|end| {
        // SAFETY: the descriptor is open during this call.
        let end = unsafe { BorrowedFd::borrow_raw(end) };
        listening = end.try_clone_to_owned().ok();
        Ok(std::process::id() as i32)
    });
    let (Ok(()), Some(listening)) = (started, listening) else {
        return vec![0; 24];
    };
    let Ok(Some(pending)) = fork_server::request(1, &[]) else {
        return vec![0; 24];
    };
    let mut bytes = [0; 64];
    let length = scm::receive(listening.as_fd(), &mut bytes).map_or(24, |(length, _)| length);
    // The record of the request stays: dropping `pending` would withdraw it.
    std::mem::forget(pending);
    bytes[..length].to_vec()
}

/// A stream of bytes as frames.
fn frames(choices: &mut Choices) {
    let (mut writer, reader) = UnixStream::pair().expect("descriptors");
    let length = choices.below(256) as usize;
    writer
        .write_all(choices.bytes(length))
        .expect("a socket takes some bytes");
    drop(writer);
    let pipe = channel::Pipe::from_fd(reader.into());
    while pipe.poll(Deadline::Now).is_ok_and(|ready| ready) {
        match pipe.recv() {
            Ok(Some(frame)) => drop(std::hint::black_box(frame)),
            _ => break,
        }
    }
}

/// Bytes as values of the types that carry handles, descriptors, or lengths.
fn value(choices: &mut Choices, objects: &Objects) {
    let mut bytes = Vec::new();
    if choices.below(4) != 0 {
        // How a shared object is sent: the family's identity in two halves, and a handle.
        let id = family().expect("there is one").id();
        for _ in 0..=choices.below(2) {
            let object = ((id >> 64) as u64, id as u64, handle(choices, objects).to_bits());
            bytes = codec::collect(bytes, &object).expect("numbers").bytes;
        }
    }
    if choices.below(2) == 0 {
        bytes.extend(choices.bytes(64));
    }
    let bytes = &bytes[..];
    let fds = || {
        let (one, other) = UnixStream::pair().expect("descriptors");
        vec![OwnedFd::from(one), OwnedFd::from(other)]
    };
    match choices.below(14) {
        0 => drop(codec::unpack::<Vec<String>>(bytes, vec![])),
        1 => drop(codec::unpack::<(u8, i64, f64, Option<char>, Vec<Vec<u8>>)>(
            bytes,
            vec![],
        )),
        2 => drop(codec::unpack::<Queue<Vec<u8>>>(bytes, vec![]).map(|queue| (queue.len(), queue.try_get()))),
        3 => drop(codec::unpack::<Pipe<String>>(bytes, fds())),
        4 => drop(codec::unpack::<sync::Lock>(bytes, vec![]).map(|lock| drop(lock.try_lock()))),
        5 => drop(codec::unpack::<sync::Mutex<u64>>(bytes, vec![]).map(|mutex| drop(mutex.lock_timeout(MOMENT)))),
        6 => drop(codec::unpack::<Value<[u64; 40]>>(bytes, vec![]).map(|value| drop(value.lock_timeout(MOMENT)))),
        7 => drop(codec::unpack::<Array<u32>>(bytes, vec![]).map(|array| look_at_array(&array))),
        8 => drop(codec::unpack::<sync::Barrier>(bytes, vec![]).map(|barrier| barrier.is_broken())),
        9 => drop(codec::unpack::<sync::Condvar>(bytes, vec![]).map(|condvar| condvar.notify_all())),
        10 => drop(codec::unpack::<sync::Event>(bytes, vec![]).map(|event| event.set())),
        11 => drop(codec::unpack::<sync::Semaphore>(bytes, vec![])),
        12 => drop(codec::unpack::<(Queue<u8>, Pipe<u8>, sync::Lock)>(bytes, fds())),
        _ => drop(codec::unpack::<procession::Process>(bytes, vec![])),
    }
}

fn look_at_array(array: &Array<u32>) {
    if let Ok(items) = array.lock_timeout(MOMENT) {
        std::hint::black_box(items.iter().fold(0, |sum, item| sum ^ item));
    }
}
