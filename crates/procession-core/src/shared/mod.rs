//! The shared room.
