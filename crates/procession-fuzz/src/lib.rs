//! Hostile bytes against the engine: each input is one process's life, which may end in errors, but never in a crash, a panic or a wait without end.
//!
//! The fuzzers of `fuzz/` think of inputs; `tests/corpus.rs` runs those that are kept in `fuzz/seeds`, and many like them, without a fuzzer.

mod arena;
mod child;
mod choices;
mod handles;
mod house;
mod orders;

pub use arena::arena;
pub use child::in_child;
pub use choices::{mutated, random};
pub use handles::handles;
pub use orders::orders;
