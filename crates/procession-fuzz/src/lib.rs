//! Hostile bytes against the engine. Each input is run by one process, which may report errors, but never crashes,
//! panics or waits without end.
//!
//! The fuzzers of `fuzz/` make inputs. `tests/corpus.rs` runs those that are kept in `fuzz/seeds`, and many like them,
//! without a fuzzer.

mod arena;
mod child;
mod choices;
mod handles;
mod objects;
mod requests;

pub use arena::arena;
pub use child::in_child;
pub use choices::{mutated, random};
pub use handles::handles;
pub use requests::requests;
