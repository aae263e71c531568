//! What may lie in shared memory by itself.

/// Plain data: a type of which any bytes are a valid value, without padding, references and `bool`.
///
/// Another process of the family could write any bytes into shared memory, so only such types are shared by
/// [`Mutex`](crate::Mutex) and [`Array`](crate::Array). They are the types that implement `Pod` of the crate
/// [bytemuck](https://docs.rs/bytemuck): numbers, arrays of plain data, and structs that derive it. With the feature
/// `derive`, `#[derive(Clone, Copy, procession::Plain)]` with `#[repr(C)]` does the same without that crate. A struct
/// with padding, or with a field that is not plain, does not compile.
///
/// ```
/// use bytemuck::{Pod, Zeroable};
///
/// #[derive(Clone, Copy, Pod, Zeroable)]
/// #[repr(C)]
/// struct Point {
///     x: f64,
///     y: f64,
/// }
///
/// let place = procession::Mutex::new(Point { x: 1.0, y: 2.0 })?;
/// place.lock()?.x += 1.0;
/// assert_eq!(place.get()?.x, 2.0);
/// # Ok::<(), procession::Error>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not plain data, and cannot lie in shared memory",
    label = "another process could write bytes that are no `{Self}`",
    note = "plain are numbers, arrays of them, and structs with `#[derive(Clone, Copy, bytemuck::Pod, \
            bytemuck::Zeroable)]` and `#[repr(C)]`",
    note = "for other types use a `Queue` or a channel, which copy a value"
)]
pub trait Plain: sealed::PlainData {}

#[diagnostic::do_not_recommend]
impl<T: sealed::PlainData> Plain for T {}

/// What does not derive `Plain`.
///
/// ```
/// #[derive(Clone, Copy, procession::Plain)]
/// #[repr(C)]
/// struct Whole(u32, [u8; 3], u8);
/// ```
/// ```compile_fail,E0080
/// #[derive(Clone, Copy, procession::Plain)]
/// #[repr(C)]
/// struct Padded(u32, u8);
/// ```
/// ```compile_fail,E0277
/// #[derive(Clone, Copy, procession::Plain)]
/// #[repr(C)]
/// struct Flag(bool);
/// ```
/// ```compile_fail
/// #[derive(Clone, Copy, procession::Plain)]
/// struct Unordered(u32, u32);
/// ```
/// ```compile_fail
/// #[derive(Clone, Copy, procession::Plain)]
/// #[repr(C)]
/// struct Generic<T>(T);
/// ```
/// ```compile_fail
/// #[derive(Clone, Copy, procession::Plain)]
/// #[repr(u8)]
/// enum Kind { One, Two }
/// ```
/// ```compile_fail,E0277
/// #[derive(procession::Plain)]
/// #[repr(C)]
/// struct Moved(u32);
/// ```
#[cfg(all(doctest, feature = "derive"))]
struct Derived;

pub(crate) mod sealed {
    /// Keeps the crate that says which types are plain out of this crate's signatures.
    pub trait PlainData: bytemuck::Pod {}

    impl<T: bytemuck::Pod> PlainData for T {}
}
