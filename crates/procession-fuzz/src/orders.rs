//! The order for a child of the Rust face: it may be damaged anywhere, or may never have been one.

use crate::choices::Choices;
use crate::handles::{handle, varint};
use crate::house::House;
use procession::{current, travel};
use procession_core::channel::{Outgoing, Parcel};

const STEPS: usize = 40;

/// Run one process that gets nonsense from its parents.
pub fn orders(input: &[u8]) {
    let mut choices = Choices::new(input);
    let mut house = House::build();
    for _ in 0..STEPS {
        if choices.are_over() {
            break;
        }
        let bytes = order(&mut choices, &house);
        let parcel = Parcel::pack(Outgoing {
            body: &bytes,
            ..Outgoing::default()
        });
        let parcel = parcel.expect("an arena that is whole has room");
        let _ = procession::peruse(parcel.token());
    }
    house.use_all(&mut choices);
}

/// The parts of an order, one after the other: as they are, damaged, or any bytes.
fn order(choices: &mut Choices, house: &House) -> Vec<u8> {
    let mut bytes = Vec::new();
    for part in 0..9 {
        match choices.below(8) {
            0 => bytes.extend(choices.bytes(12)),
            1 => {}
            damage => {
                let start = bytes.len();
                part_of_an_order(part, choices, house, &mut bytes);
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

fn part_of_an_order(part: u32, choices: &mut Choices, house: &House, bytes: &mut Vec<u8>) {
    match part {
        // The identities of the child and of its parent.
        0 | 1 => {
            let who = travel::collect(Vec::new(), current()).expect("a process can be packed");
            bytes.extend(who.bytes);
        }
        // Where its result goes.
        2 => varint(bytes, handle(choices, house).to_bits().into()),
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
