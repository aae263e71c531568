//! What is shared without a guard: constants, atomics, and a map.

mod atomic;
mod constant;
mod map;
mod tagged;

pub use atomic::atomics;
pub use constant::{Bytes, Shared};
pub use map::SharedMap;
pub(crate) use tagged::{check, Tag, Tagged};
