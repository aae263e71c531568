//! Rust face.
