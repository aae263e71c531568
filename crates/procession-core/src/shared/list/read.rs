//! Look-ups. They write nothing, and what they read counts only if it is still in use afterwards.

use super::super::bytes::{bytes_of, make_room, no_room, ValueBytes};
use super::layout::{ListHead, ListItem, Page, UnreadableNode, View, DAMAGED, SEALED};
use super::SharedList;
use crate::arena::Token;
use crate::ids::Kind;
use crate::sync::primitive::{fence, Ordering::Acquire};
use crate::Result;
use std::collections::{HashMap, HashSet};
use std::ops::Range;

/// How often a reader begins anew, and how many nodes it copies, before the caller is asked whether it still wants to.
const ROUNDS: usize = 64;
pub(super) const MOST_COPIED: usize = 4096;

/// The content of a list at some moment. Two that are equal are the same content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version(pub(super) Token);

impl Version {
    /// A number that no other content of this list has.
    pub fn to_bits(self) -> u64 {
        self.0 .0
    }
}

/// Items of a list, as they were at one moment.
#[derive(Debug)]
pub struct Items {
    version: Version,
    len: u64,
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Items {
    /// The list's content at that moment.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The number of all items of the list.
    pub fn len_of_list(&self) -> u64 {
        self.len
    }

    /// The values.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &[u8]> + ExactSizeIterator + '_ {
        (0..self.ends.len()).map(|index| {
            let start = if index == 0 { 0 } else { self.ends[index - 1] };
            &self.bytes[start..self.ends[index]]
        })
    }
}

/// A place in a list as Python has it: a negative one counts from the end.
pub(super) fn place_in(index: i64, len: u64) -> Option<u64> {
    let from_start = if index < 0 {
        len.checked_sub(index.unsigned_abs())?
    } else {
        index.unsigned_abs()
    };
    (from_start < len).then_some(from_start)
}

impl SharedList {
    /// The number of items.
    pub fn len(&self) -> Result<u64> {
        let read = |head| match View::find(head, Kind::ListRoot)? {
            Some(root) => usable(checked(
                &root,
                root.is_sealed().and_then(|sealed| Ok((sealed, root.items_of_list()?))),
            )?),
            None => Ok(None),
        };
        Ok(self.0.read_head(read)?.map_or(0, |(_, len)| len))
    }

    /// Whether there are no items.
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.len()? == 0)
    }

    /// The item at an index; a negative one counts from the end. `None` if there is no such item.
    pub fn get(&self, index: i64) -> Result<Option<ValueBytes>> {
        Ok(self.look(index)?.map(|(_, value)| value))
    }

    /// As [`get`](Self::get), and the list's content at that moment.
    pub fn look(&self, index: i64) -> Result<Option<(Version, ValueBytes)>> {
        let found = self.0.read_head(|head| item_of(head, index))?;
        Ok(found.and_then(|(head, value)| Some((Version(head), value?))))
    }

    /// The items that `choose` wants for the list's length, as they were at one moment. `None` if that takes long, or other
    /// processes were faster several times: call it again with the same `known`. Between the calls, the caller can see
    /// whether it still wants them.
    pub fn try_items(&self, known: &mut KnownPages, choose: impl Fn(u64) -> Range<u64>) -> Result<Option<Items>> {
        self.try_items_if(false, known, choose)
    }

    /// The items of a list that is sealed. `None` if that takes long: call it again with the same `known`.
    pub fn try_sealed_items(&self, known: &mut KnownPages) -> Result<Option<Items>> {
        self.try_items_if(true, known, |len| 0..len)
    }

    fn try_items_if(
        &self,
        sealed: bool,
        known: &mut KnownPages,
        choose: impl Fn(u64) -> Range<u64>,
    ) -> Result<Option<Items>> {
        known.left = MOST_COPIED;
        for _ in 0..ROUNDS {
            let head = self.0.head();
            if head.0 == 0 {
                let is_empty = (!sealed).then(|| Some(Items::new(head, 0)));
                return is_empty.ok_or(DAMAGED);
            }
            let Some(root) = Page::open(head, Kind::ListRoot)? else {
                self.0.check_changed(head)?;
                continue;
            };
            match root.intent().seals {
                true if !sealed => return Err(SEALED),
                false if sealed => return Err(DAMAGED),
                _ => {}
            }
            let mut items = Items::new(head, root.items_of_list());
            let range = choose(items.len);
            match known.gather(&root, 0, &range)? {
                Gathered::All => {
                    known.collect(&root, 0, &range, &mut items)?;
                    return Ok(Some(items));
                }
                Gathered::Gone => self.0.check_changed(head)?,
                Gathered::Paused => return Ok(None),
            }
        }
        Ok(None)
    }

    /// As [`try_items`](Self::try_items), however long it takes.
    pub fn items(&self, choose: impl Fn(u64) -> Range<u64>) -> Result<Items> {
        let mut known = KnownPages::default();
        loop {
            if let Some(items) = self.try_items(&mut known, &choose)? {
                return Ok(items);
            }
        }
    }
}

impl ListHead {
    /// What `read` finds through the root that is `head`, until nothing of it is gone. `None` if there is no root yet.
    fn read_head<T>(&self, read: impl Fn(Token) -> Result<Option<T>>) -> Result<Option<(Token, T)>> {
        loop {
            let head = self.head();
            if head.0 == 0 {
                return Ok(None);
            }
            if let Some(found) = read(head)? {
                return Ok(Some((head, found)));
            }
            self.check_changed(head)?;
        }
    }

    /// What a root leads to is gone only if the root was replaced.
    pub(super) fn check_changed(&self, head: Token) -> Result<()> {
        // SYNC: what was found gone was read before `head`.
        fence(Acquire);
        if self.head() == head {
            Err(DAMAGED)
        } else {
            Ok(())
        }
    }
}

/// What was read of a node, if the node is still in use.
fn checked<T>(view: &View, read: Result<T, UnreadableNode>) -> Result<Option<T>> {
    match (view.node.is_in_use(), read) {
        (true, Ok(found)) => Ok(Some(found)),
        (true, Err(UnreadableNode)) => Err(DAMAGED),
        (false, _) => Ok(None),
    }
}

/// What was read of a root, unless the list is sealed.
fn usable<T>(read: Option<(bool, T)>) -> Result<Option<T>> {
    match read {
        Some((true, _)) => Err(SEALED),
        other => Ok(other.map(|(_, found)| found)),
    }
}

/// An item below a root. `None` if something is gone.
#[allow(clippy::option_option)]
fn item_of(head: Token, index: i64) -> Result<Option<Option<ValueBytes>>> {
    let Some(mut view) = View::find(head, Kind::ListRoot)? else {
        return Ok(None);
    };
    let about = view
        .items_of_list()
        .and_then(|len| Ok((view.is_sealed()?, (len, view.level()?))));
    let Some((len, mut level)) = usable(checked(&view, about)?)? else {
        return Ok(None);
    };
    let Some(mut item) = place_in(index, len) else {
        return Ok(Some(None));
    };
    while level > 0 {
        let Some((child, within)) = checked(&view, view.child_with(item))? else {
            return Ok(None);
        };
        let Some(below) = View::find(child, Kind::ListNode)? else {
            return Ok(None);
        };
        (view, item) = (below, within);
        level -= 1;
    }
    let Some((words, len, own)) = checked(&view, view.item(item))? else {
        return Ok(None);
    };
    match own {
        None => Ok(Some(Some(ValueBytes::new(words, len)))),
        Some(token) => Ok(read_value(token)?.map(Some)),
    }
}

/// Copy a value that has a node of its own. `None` if it is gone.
fn read_value(token: Token) -> Result<Option<ValueBytes>> {
    let Some(page) = Page::open(token, Kind::ListValue)? else {
        return Ok(None);
    };
    page.into_value().map(Some)
}

/// Nodes that were copied, in this attempt or in one before: a node never changes.
#[derive(Debug, Default)]
pub struct KnownPages {
    pages: HashMap<u64, Page>,
    /// Those of which all that is below them is known, too: an attempt copies only what has changed since the last one.
    whole: HashSet<u64>,
    /// How many nodes may still be copied before the caller is asked.
    left: usize,
}

/// How far an attempt came.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Gathered {
    /// All is known.
    All,
    /// Something is gone.
    Gone,
    /// The caller is to be asked.
    Paused,
}

impl KnownPages {
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.pages.len()
    }

    /// Take out a node that is known now: [`put_back`](Self::put_back) comes next. `Err` says why it is not known.
    fn take_out(
        &mut self,
        token: Token,
        open: impl FnOnce() -> Result<Option<Page>>,
    ) -> Result<Result<Page, Gathered>> {
        if let Some(page) = self.pages.remove(&token.0) {
            return Ok(Ok(page));
        }
        if self.left == 0 {
            return Ok(Err(Gathered::Paused));
        }
        self.left -= 1;
        Ok(open()?.ok_or(Gathered::Gone))
    }

    /// Know a node again.
    fn put_back(&mut self, token: Token, page: Page) -> Result<()> {
        let room = self.pages.try_reserve(1);
        room.map_err(|_| no_room(size_of::<(u64, Page)>() as u64))?;
        self.pages.insert(token.0, page);
        Ok(())
    }

    /// Copy all nodes below this one that have items of the range. `start` is the number of the node's first item.
    fn gather(&mut self, page: &Page, start: u64, range: &Range<u64>) -> Result<Gathered> {
        if page.level() == 0 {
            for index in items_within(page, start, range) {
                if let ListItem::Large { token, .. } = page.item(index)? {
                    match self.take_out(token, || Page::open(token, Kind::ListValue))? {
                        Ok(value) => self.put_back(token, value)?,
                        Err(why) => return Ok(why),
                    }
                }
            }
            return Ok(Gathered::All);
        }
        let mut end = start;
        for child in page.children() {
            let child = child?;
            let start = end;
            end = start.saturating_add(child.items);
            if start >= range.end || end <= range.start || self.whole.contains(&child.token.0) {
                continue;
            }
            let below = match self.take_out(child.token, || Page::open_below(child.token, page.level()))? {
                Ok(below) => below,
                Err(why) => return Ok(why),
            };
            let gathered = self.gather(&below, start, range)?;
            self.put_back(child.token, below)?;
            match gathered {
                Gathered::All if range.start <= start && end <= range.end => {
                    let room = self.whole.try_reserve(1);
                    room.map_err(|_| no_room(size_of::<u64>() as u64))?;
                    self.whole.insert(child.token.0);
                }
                Gathered::All => {}
                why => return Ok(why),
            }
        }
        Ok(Gathered::All)
    }

    /// Add those items below a node that are in the range. All of it was gathered.
    fn collect(&self, page: &Page, start: u64, range: &Range<u64>, to: &mut Items) -> Result<()> {
        let known = |token: Token| self.pages.get(&token.0).ok_or(DAMAGED);
        if page.level() == 0 {
            for index in items_within(page, start, range) {
                match page.item(index)? {
                    ListItem::Inline(words, len) => to.push(bytes_of(words, len))?,
                    ListItem::Large { token, .. } => to.push(known(token)?.value())?,
                }
            }
            return Ok(());
        }
        let mut end = start;
        for child in page.children() {
            let child = child?;
            let start = end;
            end = start.saturating_add(child.items);
            if start < range.end && end > range.start {
                let below = known(child.token)?;
                // A tree that is damaged must not lead in a circle.
                if below.level() + 1 != page.level() {
                    return Err(DAMAGED);
                }
                self.collect(below, start, range, to)?;
            }
        }
        Ok(())
    }
}

/// Which items of a leaf are in the range. `start` is the number of its first item.
fn items_within(leaf: &Page, start: u64, range: &Range<u64>) -> Range<usize> {
    let within = |end: u64| (end.saturating_sub(start) as usize).min(leaf.count());
    within(range.start)..within(range.end)
}

impl Items {
    fn new(head: Token, len: u64) -> Self {
        Self {
            version: Version(head),
            len,
            bytes: Vec::new(),
            ends: Vec::new(),
        }
    }

    fn push(&mut self, bytes: &[u8]) -> Result<()> {
        make_room(&mut self.bytes, bytes.len())?;
        make_room(&mut self.ends, 1)?;
        self.bytes.extend_from_slice(bytes);
        self.ends.push(self.bytes.len());
        Ok(())
    }
}
