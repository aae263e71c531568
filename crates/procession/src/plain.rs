//! What may lie in shared memory by itself.

/// Plain data: a type of which any bytes are a valid value, without padding, references and `bool`.
///
/// Another process of the family could write any bytes into shared memory, so only such types are shared by
/// [`Mutex`](crate::Mutex) and [`Array`](crate::Array). They are the types that implement `Pod` of the crate
/// [bytemuck](https://docs.rs/bytemuck): numbers, arrays of plain data, and structs that derive it.
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

pub(crate) mod sealed {
    /// Keeps the crate that says which types are plain out of this crate's signatures.
    pub trait PlainData: bytemuck::Pod {}

    impl<T: bytemuck::Pod> PlainData for T {}
}
