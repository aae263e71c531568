//! What can be an argument or a result of a function that runs in another process.

use serde::{de::DeserializeOwned, Serialize};

/// A value that can be copied to another process: it implements serde's `Serialize` and `Deserialize`.
///
/// Arguments and results of [`spawn`](crate::spawn()) and of a [`Pool`](crate::Pool)'s functions are portable. It is
/// implemented for every type that implements serde's traits and borrows nothing.
///
/// ```
/// fn count<T: procession::Portable>(items: Vec<T>) -> usize {
///     items.len()
/// }
/// assert_eq!(procession::spawn(count::<String>, vec!["one".to_owned()])?.join()?, 1);
/// # Ok::<(), procession::Error>(())
/// ```
///
/// # What the compiler says if a type is not portable
///
/// Of a type that does not implement serde's traits, that it "cannot be sent to another process", with advice:
///
/// ```compile_fail,E0277
/// fn size(path: String) -> std::io::Result<u64> {
///     Ok(std::fs::metadata(path)?.len())
/// }
/// procession::spawn(size, "a file".to_owned())?; // return a `Result<u64, String>` instead
/// # Ok::<(), procession::Error>(())
/// ```
///
/// Of a reference, in words that no crate can change, that an "implementation of `Deserialize` is not general enough":
///
/// ```compile_fail
/// fn count(text: &str) -> usize {
///     text.len()
/// }
/// procession::spawn(count, "a text")?; // take a `String` instead
/// # Ok::<(), procession::Error>(())
/// ```
///
/// Of a closure that uses variables around it, that it "can only be coerced to `fn` types if \[it does\] not capture any
/// variables", with the variable's name. Send the variable along, in a tuple with the other arguments.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be sent to another process",
    label = "an argument or a result of another process's function must implement serde's traits",
    note = "for a type of this program, derive `serde::Serialize` and `serde::Deserialize`",
    note = "a reference would point into this process's memory: send a `String` instead of a `&str`, and a `Vec<_>` \
            instead of a `&[_]`",
    note = "`std::io::Error` and boxed errors do not implement serde's traits: return `Result<_, String>`, with \
            `.map_err(|error| error.to_string())`",
    note = "several arguments are one tuple: `fn add((a, b): (u32, u32))`"
)]
pub trait Portable: Serialize + DeserializeOwned {}

#[diagnostic::do_not_recommend]
impl<T: Serialize + DeserializeOwned> Portable for T {}
