//! A map that processes share.

use crate::codec;
use crate::error::Ours;
use crate::{Error, Portable, Result};
use procession_core::shared::{Change, Key, SharedDict};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::{Borrow, Cow};
use std::fmt;
use std::marker::PhantomData;
use std::panic::{catch_unwind, resume_unwind, AssertUnwindSafe, RefUnwindSafe, UnwindSafe};

/// A hash map that any number of processes read and change at once, without a lock: the engine's shared dictionary. The
/// interface is that of [`std::collections::HashMap`], with values copied in and out.
///
/// Each call is one step, which no other comes between, and a process that dies in the middle of one leaves it done or
/// not done. Entries are kept in the order in which their keys came in.
///
/// Keys and values are of any serde type. Keys are equal if they are serialized alike, so a key must not contain a
/// `HashMap` or a `HashSet`, whose order differs, and `0.0` and `-0.0` are two keys. A serialized key has up to 1 MiB. Shared
/// objects (locks, queues, other maps) cannot be values: a map would not keep them alive.
///
/// ```
/// use procession::SharedMap;
///
/// fn count((words, text): (SharedMap<String, u32>, String)) {
///     for word in text.split(' ') {
///         words.update(word, |count| Some(count.unwrap_or(0) + 1)).unwrap();
///     }
/// }
/// let words = SharedMap::<String, u32>::new()?;
/// let texts = ["the quick brown fox", "the lazy dog and the fox"];
/// let children = texts.map(|text| procession::spawn(count, (words.clone(), text.to_owned())));
/// for child in children {
///     child?.join()?;
/// }
/// assert_eq!((words.get("the")?, words.get("cat")?, words.len()?), (Some(3), None, 7));
/// # Ok::<(), procession::Error>(())
/// ```
pub struct SharedMap<K, V> {
    inner: SharedDict,
    entries: PhantomData<fn() -> (K, V)>,
}

crate::wire::shared!(SharedDict, "map");

impl<K, V> UnwindSafe for SharedMap<K, V> {}
impl<K, V> RefUnwindSafe for SharedMap<K, V> {}

impl<K, V> Clone for SharedMap<K, V> {
    fn clone(&self) -> Self {
        Self::over(self.inner.clone())
    }
}

impl<K, V> SharedMap<K, V> {
    fn over(inner: SharedDict) -> Self {
        let entries = PhantomData;
        Self { inner, entries }
    }
}

/// A value as bytes.
fn pack<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>> {
    let encoded = codec::collect(Vec::new(), value)?;
    if encoded.handles.is_empty() && encoded.fds.is_empty() && !encoded.has_end {
        Ok(encoded.bytes)
    } else {
        Err(Error::Invalid(
            "a SharedMap keeps copies of values; it would not keep a shared object alive",
        ))
    }
}

fn unpack<T: Portable>(bytes: &[u8]) -> Result<T> {
    codec::unpack(bytes, Vec::new())
}

impl<K: Portable, V: Portable> SharedMap<K, V> {
    /// Create an empty map.
    pub fn new() -> Result<Self> {
        SharedDict::create().ours().map(Self::over)
    }

    /// Create an empty map that keeps at most `most` entries: the oldest is removed for a new one. While several
    /// processes insert at the same time, there may be one more for each.
    ///
    /// ```
    /// let recent = procession::SharedMap::<u32, String>::bounded(2)?;
    /// for key in 0..3 {
    ///     recent.insert(&key, &format!("value {key}"))?;
    /// }
    /// assert_eq!(recent.keys()?, [1, 2]);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn bounded(most: u64) -> Result<Self> {
        if most == 0 {
            return Err(Error::Invalid("a bounded map needs room for at least 1 entry"));
        }
        SharedDict::bounded(most).ours().map(Self::over)
    }

    fn key<Q: Serialize + ?Sized>(&self, key: &Q) -> Result<Key> {
        self.inner.key(&pack(key)?, &[]).ours()
    }

    /// The value of a key. The key may be borrowed, as in a `HashMap`: a `&str` for a `String`.
    ///
    /// ```
    /// let ages = procession::SharedMap::<String, u8>::new()?;
    /// ages.insert(&"Ada".to_owned(), &36)?;
    /// assert_eq!((ages.get("Ada")?, ages.get("Alan")?), (Some(36), None));
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn get<Q>(&self, key: &Q) -> Result<Option<V>>
    where
        K: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        let value = self.inner.get(&self.key(key)?).ours()?;
        value.map(|value| unpack(value.as_slice())).transpose()
    }

    /// Whether there is a value for a key.
    pub fn contains_key<Q>(&self, key: &Q) -> Result<bool>
    where
        K: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        self.inner.contains(&self.key(key)?).ours()
    }

    /// Give a key a value. Returns the value that it had before.
    ///
    /// ```
    /// let ages = procession::SharedMap::<String, u8>::new()?;
    /// assert_eq!(ages.insert(&"Ada".to_owned(), &36)?, None);
    /// assert_eq!(ages.insert(&"Ada".to_owned(), &37)?, Some(36));
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn insert(&self, key: &K, value: &V) -> Result<Option<V>> {
        let new = pack(value)?;
        let old = self.change(&self.key(key)?, |_| Ok(Some(Cow::Borrowed(&new))))?;
        old.map(|old| unpack(&old)).transpose()
    }

    /// Give a key a value if it has none. Returns the value that it has afterwards: its own, or the new one.
    ///
    /// ```
    /// let first = procession::SharedMap::<u8, String>::new()?;
    /// assert_eq!(first.get_or_insert(&1, &"one".to_owned())?, "one");
    /// assert_eq!(first.get_or_insert(&1, &"other".to_owned())?, "one");
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn get_or_insert(&self, key: &K, value: &V) -> Result<V> {
        let new = pack(value)?;
        let mut kept = None;
        let keep = |old: Option<&[u8]>| {
            kept = old.map(<[u8]>::to_vec);
            match old {
                Some(_) => Change::Keep,
                None => Change::Put(Cow::Borrowed(&new)),
            }
        };
        self.inner.change(&self.key(key)?, keep).ours()?;
        unpack(&kept.unwrap_or_else(|| new.clone()))
    }

    /// Remove a key. Returns its value.
    ///
    /// ```
    /// let ages = procession::SharedMap::<String, u8>::new()?;
    /// ages.insert(&"Ada".to_owned(), &36)?;
    /// assert_eq!(ages.remove("Ada")?, Some(36));
    /// assert!(!ages.contains_key("Ada")?);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn remove<Q>(&self, key: &Q) -> Result<Option<V>>
    where
        K: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        let old = self.change(&self.key(key)?, |_| Ok(None))?;
        old.map(|old| unpack(&old)).transpose()
    }

    /// Replace a key's value by what `f` makes of it, in one step. `None` stands for no value: returned, it removes the
    /// key. Returns what `f` returned.
    ///
    /// If another process changes the entry meanwhile, `f` is called again with the new value. If `f` panics, the entry
    /// stays as it is.
    ///
    /// ```
    /// let stock = procession::SharedMap::<String, u32>::new()?;
    /// stock.insert(&"apples".to_owned(), &1)?;
    /// let take = |left: Option<u32>| left.map(|left| left - 1).filter(|&left| left > 0);
    /// assert_eq!(stock.update("apples", take)?, None);
    /// assert!(stock.is_empty()?);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn update<Q>(&self, key: &Q, mut f: impl FnMut(Option<V>) -> Option<V>) -> Result<Option<V>>
    where
        K: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        let mut new = None;
        self.change(&self.key(key)?, |old| {
            new = f(old.map(unpack).transpose()?);
            new.as_ref().map(pack).transpose().map(|new| new.map(Cow::Owned))
        })?;
        Ok(new)
    }

    /// Change an entry; `None` removes it. Returns the bytes that it had before.
    fn change<'a>(
        &self,
        key: &Key,
        mut decide: impl FnMut(Option<&[u8]>) -> Result<Option<Cow<'a, [u8]>>>,
    ) -> Result<Option<Vec<u8>>> {
        let (mut before, mut failed, mut panicked) = (None, None, None);
        let decided = |old: Option<&[u8]>| {
            before = old.map(<[u8]>::to_vec);
            failed = None;
            match catch_unwind(AssertUnwindSafe(|| decide(old))) {
                Ok(Ok(Some(new))) => Change::Put(new),
                Ok(Ok(None)) => Change::Remove,
                Ok(Err(error)) => {
                    failed = Some(error);
                    Change::Keep
                }
                Err(panic) => {
                    panicked = Some(panic);
                    Change::Keep
                }
            }
        };
        let done = self.inner.change(key, decided);
        if let Some(panic) = panicked {
            resume_unwind(panic);
        }
        done.ours()?;
        failed.map_or(Ok(before), Err)
    }

    /// The number of entries.
    pub fn len(&self) -> Result<usize> {
        self.inner.len().ours()
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> Result<bool> {
        self.inner.is_empty().ours()
    }

    /// Remove all entries, in one step.
    ///
    /// ```
    /// let ages = procession::SharedMap::<String, u8>::new()?;
    /// ages.insert(&"Ada".to_owned(), &36)?;
    /// ages.clear()?;
    /// assert!(ages.is_empty()?);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn clear(&self) -> Result<()> {
        self.inner.clear().ours()
    }

    /// All entries as they were at one moment during this call, the oldest first.
    ///
    /// ```
    /// let ages = procession::SharedMap::<String, u8>::new()?;
    /// for (name, age) in [("Ada", 36), ("Alan", 41)] {
    ///     ages.insert(&name.to_owned(), &age)?;
    /// }
    /// assert_eq!(ages.to_vec()?, [("Ada".to_owned(), 36), ("Alan".to_owned(), 41)]);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn to_vec(&self) -> Result<Vec<(K, V)>> {
        self.entries(|[key, _, value]| Ok((unpack(key)?, unpack(value)?)))
    }

    /// All keys as they were at one moment during this call, the oldest first.
    pub fn keys(&self) -> Result<Vec<K>> {
        self.entries(|[key, _, _]| unpack(key))
    }

    fn entries<T>(&self, each: impl Fn([&[u8]; 3]) -> Result<T>) -> Result<Vec<T>> {
        let all = self.inner.snapshot().ours()?;
        all.items().iter().map(|item| each(all.parts(item))).collect()
    }
}

impl<K, V> fmt::Debug for SharedMap<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let len = self.inner.len().ok();
        f.debug_struct("SharedMap").field("len", &len).finish_non_exhaustive()
    }
}

impl<K, V> Serialize for SharedMap<K, V> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        crate::wire::serialize(&self.inner, to)
    }
}

impl<'de, K, V> Deserialize<'de> for SharedMap<K, V> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        crate::wire::deserialize(from).map(Self::over)
    }
}
