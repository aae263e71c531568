//! A message header, compiled from the engine's own file, read by a survivor that has seen no stamp: everything that
//! the head refers to is there.

#![allow(dead_code, missing_docs, unused_imports)] // a model uses only part of each file
#![allow(clippy::unnecessary_wraps, clippy::unused_self, clippy::needless_pass_by_value)] // keeps replaced signatures

#[path = "../src/arena/copy.rs"]
mod copy;
#[macro_use]
#[path = "model/derived.rs"]
mod derived;
#[path = "model/loom_futex.rs"]
mod futex;
#[path = "../src/channel/message.rs"]
mod message;
#[path = "model/loom_words.rs"]
mod words;

mod sync {
    pub mod primitive {
        pub use crate::futex::{fence, AtomicU64, Ordering};
    }
}

/// Blocks that all have the same token; a peek expects one length.
mod arena {
    pub(crate) use crate::copy;
    use crate::{Error, Result};
    pub use procession_core::ids::Handle;

    pub const TOKEN: Token = Token(77);

    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Token(pub u64);

    #[derive(Debug)]
    pub struct Block(Vec<u8>);

    impl Block {
        pub fn alloc(length: usize) -> Result<Self> {
            Ok(Self(vec![0; length]))
        }

        pub fn as_slice(&self) -> &[u8] {
            &self.0
        }

        pub fn as_mut_slice(&mut self) -> &mut [u8] {
            &mut self.0
        }

        pub fn len(&self) -> usize {
            self.0.len()
        }

        pub fn token(&self) -> Token {
            TOKEN
        }

        pub fn refer(&mut self, _handles: &[Handle]) -> Result<()> {
            Ok(())
        }

        pub fn handles(&self) -> Vec<Handle> {
            Vec::new()
        }

        pub fn references(&self) -> usize {
            0
        }

        pub fn send(self) {}

        pub fn take(_token: Token, _length: usize) -> Result<Self> {
            Err(Error::Stale("block"))
        }

        pub fn discard(_token: Token) {}

        /// Called only by a process that has seen a head.
        pub fn peek(token: Token, length: usize) -> Result<*const u8> {
            assert_eq!(
                (token, length),
                (TOKEN, crate::LONG),
                "the head was written before what it refers to"
            );
            Err(Error::Stale("block"))
        }
    }
}

mod ids {
    pub use procession_core::ids::{Handle, Kind, Owner};
}
pub use procession_core::{Error, Result};

use message::{Message, MessageHeader, Outgoing};

/// A body that needs a block.
pub const LONG: usize = 300;

/// One process posts; another inspects the header as a survivor does after a death.
fn while_posted(body: &'static [u8], inspect: fn(&MessageHeader)) {
    words::check(3, move || {
        let header = words::zeroed::<MessageHeader>();
        let poster = {
            let header = header.clone();
            loom::thread::spawn(move || {
                let out = Outgoing {
                    body,
                    ..Outgoing::default()
                };
                header.post(Message::pack(out).unwrap());
            })
        };
        inspect(&header);
        poster.join().unwrap();
    });
}

#[test]
fn a_complete_message_in_a_header_is_read_completely() {
    while_posted(&[7; 24], |header| {
        if header.is_whole() {
            assert_eq!(header.open().unwrap().body(), [7; 24]);
        }
        if let Ok(body) = header.copy_body() {
            assert_eq!(body, [7; 24]);
        }
    });
}

#[test]
fn a_table_that_the_head_refers_to_is_there() {
    while_posted(&[7; LONG], |header| {
        assert!(!header.is_whole());
        header.discard();
    });
}
