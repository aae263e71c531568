//! Children that are lent what they need, and are joined; and the macro for functions that name what they capture.

use crate::children::Running;
use crate::{wire, Builder, JoinError, JoinHandle, Portable, Result};
use serde::de::DeserializeOwned;
use serde::Serialize;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::panic::{catch_unwind, resume_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Start processes that are all joined before this returns, shaped on [`std::thread::scope`].
///
/// The children are lent their arguments: [`Scope::spawn`] takes references, so nothing has to be cloned for each of
/// them. A reference to a shared object arrives as the same object, any other as a copy of the value.
///
/// Returns what `f` returns, or the error of the first child that failed and that `f` did not join itself. If `f` panics,
/// the children are joined, and the panic goes on.
///
/// ```
/// use procession::{Mutex, Sender};
///
/// fn work((total, done): (Mutex<u64>, Sender<u32>)) {
///     *total.lock().unwrap() += 1;
///     done.send(&std::process::id()).unwrap();
/// }
/// let total = Mutex::new(0)?;
/// let (done, from) = procession::channel()?;
/// procession::scope(|scope| {
///     for _ in 0..3 {
///         scope.spawn(work, (&total, &done))?;
///     }
///     Ok(())
/// })?;
/// assert_eq!((total.get()?, from.len()?), (3, 3)); // all are done
/// # Ok::<(), procession::Error>(())
/// ```
pub fn scope<T>(f: impl FnOnce(&Scope) -> Result<T>) -> Result<T> {
    let scope = Scope::default();
    let result = catch_unwind(AssertUnwindSafe(|| f(&scope)));
    let ended = scope.end();
    match result {
        Ok(result) => result.and_then(|result| ended.map(|()| result).map_err(Into::into)),
        Err(panic) => resume_unwind(panic),
    }
}

/// Starts the children of a [`scope`](scope()).
///
/// ```
/// fn len(text: String) -> usize {
///     text.len()
/// }
/// let text = "lent, not given".to_owned();
/// let lengths = procession::scope(|scope: &procession::Scope| {
///     let children = [scope.spawn(len, &text)?, scope.spawn(len, &text)?];
///     children.into_iter().map(|child| Ok(child.join()?)).collect::<procession::Result<Vec<_>>>()
/// })?;
/// assert_eq!(lengths, [text.len(); 2]);
/// # Ok::<(), procession::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct Scope {
    children: Mutex<Vec<Arc<Scoped>>>,
}

#[derive(Debug)]
struct Scoped {
    running: Arc<Running>,
    /// The program has joined it, or does so.
    joined: AtomicBool,
}

impl Scope {
    /// Start a process that calls `f` with what is lent: a reference, or a tuple of references.
    ///
    /// ```
    /// use procession::SharedMap;
    ///
    /// fn put((map, key): (SharedMap<String, usize>, String)) {
    ///     map.insert(&key, &key.len()).unwrap();
    /// }
    /// let map = SharedMap::new()?;
    /// let words = ["one", "three"].map(str::to_owned);
    /// procession::scope(|scope| {
    ///     words.iter().try_for_each(|word| scope.spawn(put, (&map, word)).map(drop))
    /// })?;
    /// assert_eq!((map.get("one")?, map.get("three")?), (Some(3), Some(5)));
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn spawn<L, R>(&self, f: fn(L::Owned) -> R, args: L) -> Result<ScopedJoinHandle<'_, R>>
    where
        L: Lend,
        R: Portable,
    {
        self.spawn_by(Builder::new(), f, args)
    }

    /// As [`spawn`](Self::spawn), with a name, a start method and so on.
    ///
    /// ```
    /// use procession::Builder;
    ///
    /// procession::scope(|scope| {
    ///     let child = scope.spawn_by(Builder::new().name("adder"), |(a, b): (u8, u8)| a + b, (&1, &2))?;
    ///     assert_eq!(child.name(), "adder");
    ///     assert_eq!(child.join()?, 3);
    ///     Ok(())
    /// })?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn spawn_by<L, R>(&self, builder: Builder, f: fn(L::Owned) -> R, args: L) -> Result<ScopedJoinHandle<'_, R>>
    where
        L: Lend,
        R: Portable,
    {
        let own = |args: L| wire::copy(&args);
        let handle = builder.start(f, args, own)?;
        let child = Arc::new(Scoped {
            running: Arc::clone(handle.running()),
            joined: AtomicBool::new(false),
        });
        let mut children = self.children.lock().unwrap_or_else(PoisonError::into_inner);
        children.push(Arc::clone(&child));
        let scope = PhantomData;
        Ok(ScopedJoinHandle { handle, child, scope })
    }

    /// Join the children that the program has not joined. Returns the error of the first one.
    fn end(self) -> Result<(), JoinError> {
        let children = self.children.into_inner().unwrap_or_else(PoisonError::into_inner);
        let left = children.iter().filter(|child| !child.joined.load(Ordering::SeqCst));
        let ends = left.map(|child| JoinHandle::new(Arc::clone(&child.running)).end());
        ends.fold(Ok(()), Result::and)
    }
}

/// A handle of a child of a [`scope`](scope()). Dropped, it leaves the joining to the scope.
///
/// It dereferences to a [`JoinHandle`], for all that does not take the handle. It cannot leave its scope:
///
/// ```compile_fail
/// procession::scope(|scope| scope.spawn(|n: u64| n * n, &7));
/// ```
///
/// ```
/// procession::scope(|scope| {
///     let child = scope.spawn(|n: u64| n * n, &7)?;
///     assert!(child.pid() > 0);
///     assert_eq!(child.join()?, 49);
///     Ok(())
/// })?;
/// # Ok::<(), procession::Error>(())
/// ```
pub struct ScopedJoinHandle<'scope, R> {
    handle: JoinHandle<R>,
    child: Arc<Scoped>,
    scope: PhantomData<&'scope Scope>,
}

impl<R: DeserializeOwned> ScopedJoinHandle<'_, R> {
    /// Wait for the process to end and return what its function returned.
    pub fn join(self) -> Result<R, JoinError> {
        let end = self.handle.join();
        self.child.joined.store(true, Ordering::SeqCst);
        end
    }
}

impl<R> Deref for ScopedJoinHandle<'_, R> {
    type Target = JoinHandle<R>;
    fn deref(&self) -> &JoinHandle<R> {
        &self.handle
    }
}

impl<R> fmt::Debug for ScopedJoinHandle<'_, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.handle.fmt(f)
    }
}

/// What a child of a [`scope`](scope()) is lent: a reference, or a tuple of references.
///
/// ```
/// fn describe<L: procession::Lend<Owned = (String, u32)>>(args: L) -> procession::Result<String> {
///     procession::scope(|scope| Ok(scope.spawn(|(name, age)| format!("{name}: {age}"), args)?.join()?))
/// }
/// assert_eq!(describe((&"Ada".to_owned(), &36))?, "Ada: 36");
/// # Ok::<(), procession::Error>(())
/// ```
pub trait Lend: Serialize + sealed::Lent {
    /// What arrives in the child.
    type Owned: Portable;
}

mod sealed {
    pub trait Lent {}
}

impl<T: Portable> Lend for &T {
    type Owned = T;
}

impl<T> sealed::Lent for &T {}

macro_rules! lend {
    ($($name:ident)*) => {
        impl<$($name: Portable),*> Lend for ($(&$name,)*) {
            type Owned = ($($name,)*);
        }

        impl<$($name),*> sealed::Lent for ($(&$name,)*) {}
    };
}
lend!(A);
lend!(A B);
lend!(A B C);
lend!(A B C D);
lend!(A B C D E);
lend!(A B C D E F);
lend!(A B C D E F G);
lend!(A B C D E F G H);

/// Start a process that runs a block which names the variables that it captures.
///
/// A captured variable is sent to the child: `name` gives it away, `&name` sends a clone, and `name = value` sends a value
/// under this name. All are serialized; a shared object is the same object there. Up to 16 may be captured. What is not
/// named is not known in the block, and the compiler says so. A [`Builder`] may come first. The result is that of
/// [`spawn`](crate::spawn()).
///
/// ```
/// use procession::{spawn, Builder, Mutex};
///
/// let (total, words) = (Mutex::new(0)?, vec!["some", "words"].join(" "));
/// let child = spawn!([&total, words, factor = 2] => {
///     *total.lock().unwrap() += words.len() * factor;
///     words.to_uppercase()
/// })?;
/// assert_eq!(child.join()?, "SOME WORDS");
/// assert_eq!(total.get()?, 20);
///
/// let named = spawn!(Builder::new().name("adder"), [a = 1, b = 2] => a + b)?;
/// assert_eq!(named.join()?, 3);
/// # Ok::<(), procession::Error>(())
/// ```
///
/// ```compile_fail,E0308
/// let forgotten = 5;
/// procession::spawn!([] => forgotten + 1)?;
/// # Ok::<(), procession::Error>(())
/// ```
#[macro_export]
macro_rules! spawn {
    (@ $builder:expr, ($($names:ident)*) ($($values:expr,)*) [$(,)?] $body:expr) => {
        $builder.spawn(|($($names,)*)| $body, ($($values,)*))
    };
    (@ $builder:expr, ($($names:ident)*) ($($values:expr,)*) [$name:ident = $value:expr $(, $($rest:tt)*)?] $body:expr) => {
        $crate::spawn!(@ $builder, ($($names)* $name) ($($values,)* $value,) [$($($rest)*)?] $body)
    };
    (@ $builder:expr, ($($names:ident)*) ($($values:expr,)*) [& $name:ident $(, $($rest:tt)*)?] $body:expr) => {
        $crate::spawn!(
            @ $builder, ($($names)* $name) ($($values,)* ::core::clone::Clone::clone(&$name),) [$($($rest)*)?] $body
        )
    };
    (@ $builder:expr, ($($names:ident)*) ($($values:expr,)*) [$name:ident $(, $($rest:tt)*)?] $body:expr) => {
        $crate::spawn!(@ $builder, ($($names)* $name) ($($values,)* $name,) [$($($rest)*)?] $body)
    };
    ([$($captures:tt)*] => $body:expr) => {
        $crate::spawn!(@ $crate::Builder::new(), () () [$($captures)*] $body)
    };
    ($builder:expr, [$($captures:tt)*] => $body:expr) => {
        $crate::spawn!(@ $builder, () () [$($captures)*] $body)
    };
}
