//! The request for a child of the Rust API: it may be damaged anywhere, or may never have been one.

use crate::choices::Choices;
use crate::handles::{handle, varint};
use crate::objects::Objects;
use procession::{codec, current};
use procession_core::channel::{Mailbox, Outgoing};

const STEPS: usize = 40;

/// Run one process that gets nonsense from its parents.
pub fn requests(input: &[u8]) {
    let mut choices = Choices::new(input);
    let mut objects = Objects::build();
    for _ in 0..STEPS {
        if choices.are_over() {
            break;
        }
        let bytes = request(&mut choices, &objects);
        let mailbox = Mailbox::pack(Outgoing {
            body: &bytes,
            ..Outgoing::default()
        });
        let mailbox = mailbox.expect("an arena that is whole has room");
        let _ = procession::inspect(mailbox.token());
    }
    objects.use_all(&mut choices);
}

/// The parts of a request, one after the other: as they are, damaged, or any bytes.
fn request(choices: &mut Choices, objects: &Objects) -> Vec<u8> {
    let mut bytes = Vec::new();
    for part in 0..9 {
        match choices.below(8) {
            0 => bytes.extend(choices.bytes(12)),
            1 => {}
            damage => {
                let start = bytes.len();
                part_of_a_request(part, choices, objects, &mut bytes);
                let length = (bytes.len() - start) as u64;
                if damage == 2 && length > 0 {
                    let at = start + choices.below(length) as usize;
                    bytes[at] ^= choices.below(256) as u8;
                }
            }
        }
    }
    let length = bytes.len() as u64;
    if choices.below(8) == 0 {
        bytes.truncate(choices.below(length) as usize);
    }
    bytes
}

fn part_of_a_request(part: u32, choices: &mut Choices, objects: &Objects, bytes: &mut Vec<u8>) {
    match part {
        // The identities of the child and of its parent.
        0 | 1 => {
            let identity = codec::collect(Vec::new(), current()).expect("a process can be packed");
            bytes.extend(identity.bytes);
        }
        // The slot of its result.
        2 => varint(bytes, handle(choices, objects).to_bits().into()),
        // Start method; how it logs: not, or to a file.
        3 => bytes.push(choices.below(4) as u8),
        4 if choices.below(2) == 0 => bytes.push(0),
        4 => bytes.extend([1, 1, 0, 1, b'x', choices.below(8) as u8]),
        // Which executable, and two places in it.
        5 => varint(bytes, choices.word().into()),
        6 | 7 => varint(bytes, choices.below(1 << 26).into()),
        // Arguments.
        _ => bytes.extend(choices.bytes(20)),
    }
}
