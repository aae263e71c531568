//! The one change there is: some items in the place of others. It takes effect by one compare-and-swap of `head`.
//! The file is long because finding, building and publishing the new nodes are parts of that one change.

use super::super::bytes::{make_room, room};
use super::layout::{
    make, make_value, ListChild, ListContent, ListHead, ListIntent, ListItem, NewNode, Page, DAMAGED, LARGEST_INLINE,
    SEALED, WIDTH,
};
use super::packed::Packed;
use super::read::Version;
use super::settle::{free_replaced, free_values, settle};
use super::SharedList;
use crate::arena::node::{self, Node};
use crate::arena::Token;
use crate::ids::Kind;
use crate::sync::primitive::Ordering::{Relaxed, SeqCst};
use crate::Result;
use std::ops::Range;
use std::rc::Rc;

/// How often a change begins anew before the caller is asked whether it still wants it.
const ROUNDS: usize = 64;
/// A leaf that loses items, and would have less than this, is joined with its neighbour.
const LEAST: usize = WIDTH.div_ceil(4);
/// The most levels of a tree that is built.
const MOST_LEVELS: u64 = 30;

impl SharedList {
    /// Put the values in the place of those items that `choose` names, when asked last, of the content and its length.
    /// Returns false if it named none, `None` if others were faster several times: call again if it is still wanted.
    pub fn try_splice<V: AsRef<[u8]>>(
        &self,
        values: &[V],
        choose: impl FnMut(Version, u64) -> Option<Range<u64>>,
    ) -> Result<Option<bool>> {
        self.try_change(values, choose, false)
    }

    /// End all use of the list, at one moment: every other call of any process fails with `Error::Sealed` from then on, and
    /// `try_sealed_items` has what the calls before left. False if other processes were faster several times: then it is
    /// not sealed, and this is to be called again.
    pub fn try_seal(&self) -> Result<bool> {
        let done = self.try_change::<&[u8]>(&[], |_, _| Some(0..0), true)?;
        Ok(done.is_some())
    }

    fn try_change<V: AsRef<[u8]>>(
        &self,
        values: &[V],
        mut choose: impl FnMut(Version, u64) -> Option<Range<u64>>,
        seals: bool,
    ) -> Result<Option<bool>> {
        let list = self.handle().0;
        let mut draft = ListDraft::default();
        let packed = Packed::of(values)?;
        for _ in 0..ROUNDS {
            let head = self.0.head();
            let Some(root) = self.0.settled(head)? else { continue };
            if root.as_ref().is_some_and(|root| root.intent().seals) {
                return if seals { Ok(Some(true)) } else { Err(SEALED) };
            }
            let len = root.as_ref().map_or(0, |root| root.items_of_list());
            let Some(range) = choose(Version(head), len) else {
                return Ok(Some(false));
            };
            let range = range.start.min(len)..range.end.clamp(range.start.min(len), len);
            if range.is_empty() && values.is_empty() && !seals {
                return Ok(Some(true));
            }
            let Some(run) = LeafRun::find(head, root, &range, values.len())? else {
                self.0.check_changed(head)?;
                continue;
            };
            if draft.values.is_empty() {
                let large = values
                    .iter()
                    .map(AsRef::as_ref)
                    .filter(|bytes| bytes.len() > LARGEST_INLINE);
                for bytes in large {
                    make_room(&mut draft.values, 1)?;
                    draft.values.push(make_value(list, bytes)?);
                }
            }
            let intent = ListIntent {
                before: head.0,
                gone: (range.start, range.end),
                run: run.items(),
                seals,
            };
            draft.build(list, &run, &packed, &range, intent)?;
            if draft.publish(&self.0, head, &intent, &run) {
                return Ok(Some(true));
            }
        }
        Ok(None)
    }

    /// As [`try_splice`](Self::try_splice), however often other processes are faster.
    pub fn splice<V: AsRef<[u8]>>(
        &self,
        values: &[V],
        mut choose: impl FnMut(Version, u64) -> Option<Range<u64>>,
    ) -> Result<bool> {
        loop {
            if let Some(done) = self.try_splice(values, &mut choose)? {
                return Ok(done);
            }
        }
    }
}

impl ListHead {
    /// The root that is `head`, if any, and its change settled. `None` if it was replaced.
    #[allow(clippy::option_option)]
    fn settled(&self, head: Token) -> Result<Option<Option<Rc<Page>>>> {
        if head.0 == 0 {
            return Ok(Some(None));
        }
        if let Some(node) = Node::find(head, Kind::ListRoot)? {
            if let Some(page) = Page::copy(&node, Kind::ListRoot)? {
                settle(&node, &page)?;
                return Ok(Some(Some(Rc::new(page))));
            }
        }
        self.check_changed(head)?;
        Ok(None)
    }
}

/// A node on the way from the root to a leaf: which of its children, or items, is meant, and its first item's number.
#[derive(Clone)]
struct ListStep {
    page: Rc<Page>,
    token: Token,
    index: usize,
    start: u64,
}

impl ListStep {
    fn is_last(&self) -> bool {
        self.index + 1 >= self.page.count()
    }
}

/// The way from the root to an item's leaf, or to that of the last item. `None` if something is gone.
fn way_to(head: Token, root: &Rc<Page>, item: u64) -> Result<Option<Rc<Vec<ListStep>>>> {
    let mut way = Vec::with_capacity(6);
    let (mut token, mut page, mut start) = (head, root.clone(), 0u64);
    while page.level() > 0 {
        let (mut index, mut from) = (0, start);
        let mut child = page.child(0)?;
        while index + 1 < page.count() && from.saturating_add(child.items) <= item {
            from = from.saturating_add(child.items);
            index += 1;
            child = page.child(index)?;
        }
        let Some(below) = Page::open_below(child.token, page.level())? else {
            return Ok(None);
        };
        way.push(ListStep {
            page,
            token,
            index,
            start,
        });
        (token, page, start) = (child.token, Rc::new(below), from);
    }
    let index = (item.saturating_sub(start) as usize).min(page.count());
    way.push(ListStep {
        page,
        token,
        index,
        start,
    });
    Ok(Some(Rc::new(way)))
}

/// The leaves that a change makes anew.
#[derive(Default)]
struct LeafRun {
    /// The ways to the first and to the last of them.
    first: Rc<Vec<ListStep>>,
    last: Rc<Vec<ListStep>>,
    /// Those of them, in order, that have other items than those of the range.
    edges: Vec<(u64, Rc<Page>)>,
    /// Number of items of the list.
    len: u64,
}

impl LeafRun {
    /// The leaves that have the items of a range, and a neighbour if they would have too few. `None` if one is gone.
    fn find(head: Token, root: Option<Rc<Page>>, range: &Range<u64>, new: usize) -> Result<Option<Self>> {
        let Some(root) = root else {
            return Ok(Some(Self::default()));
        };
        let mut run = Self {
            len: root.items_of_list(),
            ..Self::default()
        };
        let Some(first) = way_to(head, &root, range.start)? else {
            return Ok(None);
        };
        run.add(first);
        if range.end > run.items().1 {
            let Some(last) = way_to(head, &root, range.end - 1)? else {
                return Ok(None);
            };
            run.add(last);
        }
        let (start, end) = run.items();
        let lost = range.end - range.start;
        let left = (end - start).saturating_sub(lost).saturating_add(new as u64);
        if (new as u64) < lost && left < LEAST as u64 && (start > 0 || end < run.len) {
            let neighbour = if end < run.len { end } else { start - 1 };
            let Some(way) = way_to(head, &root, neighbour)? else {
                return Ok(None);
            };
            run.add(way);
        }
        Ok(Some(run))
    }

    /// Add a leaf before or behind those that are there.
    fn add(&mut self, way: Rc<Vec<ListStep>>) {
        let Some(leaf) = way.last() else { return };
        let edge = (leaf.start, leaf.page.clone());
        if self.edges.is_empty() {
            (self.first, self.last) = (way.clone(), way);
            self.edges.push(edge);
        } else if edge.0 < self.items().0 {
            self.first = way;
            self.edges.insert(0, edge);
        } else {
            self.last = way;
            self.edges.push(edge);
        }
    }

    /// The items of these leaves.
    fn items(&self) -> (u64, u64) {
        match (self.first.last(), self.last.last()) {
            (Some(first), Some(last)) => (first.start, last.start.saturating_add(last.page.count() as u64)),
            _ => (0, 0),
        }
    }

    /// Free what a change of these leaves replaced.
    fn free(&self, intent: &ListIntent) -> Result<()> {
        let is_known = match &self.edges[..] {
            [one] => intent.run == (one.0, one.0 + one.1.count() as u64),
            [one, other] => one.0 + one.1.count() as u64 == other.0,
            _ => false,
        };
        if !is_known {
            return free_replaced(intent);
        }
        for (start, leaf) in &self.edges {
            free_values(leaf, *start, intent.gone)?;
        }
        for (first, last) in self.first.iter().zip(self.last.iter()).rev() {
            let kind = if first.token.0 == intent.before {
                Kind::ListRoot
            } else {
                Kind::ListNode
            };
            node::free(first.token, kind);
            if last.token != first.token {
                node::free(last.token, kind);
            }
        }
        Ok(())
    }

    /// Whether there is nothing besides these leaves, and the nodes above them down to a depth.
    fn is_all(&self, depth: usize) -> bool {
        let mut steps = self.first.iter().zip(self.last.iter()).take(depth);
        steps.all(|(first, last)| first.index == 0 && last.is_last())
    }

    /// All items of the leaves that become part of the new ones, with the new items in the place of a range.
    fn replaced<'a>(
        &'a self,
        range: &Range<u64>,
        new: impl Iterator<Item = ListItem<'a>>,
        count: usize,
    ) -> Result<Vec<ListItem<'a>>> {
        let mut items = room(2 * WIDTH + count)?;
        let within = |leaf: &(u64, Rc<Page>), end: u64| (end.saturating_sub(leaf.0) as usize).min(leaf.1.count());
        for leaf in &self.edges {
            for index in 0..within(leaf, range.start) {
                items.push(kept(leaf.1.item(index)?));
            }
        }
        items.extend(new);
        for leaf in &self.edges {
            for index in within(leaf, range.end)..leaf.1.count() {
                items.push(kept(leaf.1.item(index)?));
            }
        }
        Ok(items)
    }

    /// All children of the nodes at a depth, with new ones in the place of those that were made anew.
    fn with_siblings(&self, depth: usize, new: Vec<ListChild>) -> Result<Vec<ListChild>> {
        let (first, last) = (&self.first[depth], &self.last[depth]);
        let mut all = room(2 * WIDTH + new.len())?;
        for child in first.page.children().take(first.index) {
            all.push(ListChild {
                is_fresh: false,
                ..child?
            });
        }
        all.extend(new);
        for child in last.page.children().skip(last.index + 1) {
            all.push(ListChild {
                is_fresh: false,
                ..child?
            });
        }
        Ok(all)
    }
}

/// An item that was in the list before.
fn kept(item: ListItem<'_>) -> ListItem<'_> {
    match item {
        ListItem::Large { token, .. } => ListItem::Large { token, is_fresh: false },
        inline @ ListItem::Inline(..) => inline,
    }
}

/// What an attempt has made and `head` does not name. Freed when dropped: until then this process owns it.
#[derive(Default)]
struct ListDraft {
    /// Values of the new items that have nodes of their own. They serve all attempts.
    values: Vec<NewNode>,
    nodes: Vec<NewNode>,
    root: Option<NewNode>,
}

impl Drop for ListDraft {
    fn drop(&mut self) {
        self.drop_nodes();
        self.values.iter().for_each(|new| new.node.free());
    }
}

impl ListDraft {
    fn drop_nodes(&mut self) {
        let nodes = self.nodes.drain(..).chain(self.root.take());
        nodes.for_each(|new| new.node.free());
    }

    /// Make the tree in which the new items are in the place of a range.
    fn build(
        &mut self,
        list: u64,
        run: &LeafRun,
        values: &Packed,
        range: &Range<u64>,
        intent: ListIntent,
    ) -> Result<()> {
        let items = run.replaced(range, values.items(&self.values), values.lens.len())?;
        // What is appended fills the leaves; elsewhere there is to be room for more.
        let fills = range.end == run.len;
        let len = run.len - (range.end - range.start) + values.lens.len() as u64;
        let mut depth = run.first.len().saturating_sub(1);
        let mut children;
        let mut content = ListContent::Items(&items);
        for level in 0..MOST_LEVELS {
            if content.len() <= WIDTH && run.is_all(depth) {
                let root = make(list, content, level, Some((intent, len)))?;
                self.root = Some(root);
                return Ok(());
            }
            let new = make_level(&mut self.nodes, list, content, level, fills)?;
            if depth > 0 {
                depth -= 1;
                children = run.with_siblings(depth, new)?;
            } else {
                children = new;
            }
            content = ListContent::Children(&children);
        }
        Err(DAMAGED)
    }

    /// Make the tree the list's, if `head` has not changed. What was replaced is freed, or else the draft.
    fn publish(&mut self, list: &ListHead, head: Token, intent: &ListIntent, run: &LeafRun) -> bool {
        let Some(root) = self.root else { return false };
        let token = root.node.token();
        self.values
            .iter()
            .chain(&self.nodes)
            .chain([&root])
            .for_each(|new| new.stamp(token));
        // SYNC: sequentially consistent, as the load: the root before was settled by then.
        if list.head.compare_exchange(head.0, token.0, SeqCst, Relaxed).is_err() {
            self.drop_nodes();
            return false;
        }
        self.root = None;
        // Those below before those above: see `settle`.
        let nodes = self.values.drain(..).chain(self.nodes.drain(..));
        nodes.for_each(|new| new.node.hand_over());
        // The change is made. What cannot be freed without address space, the next change frees.
        if run.free(intent).is_ok() {
            root.node.hand_over();
        }
        true
    }
}

/// Make the nodes of a level. The draft that has them owns them.
fn make_level(
    nodes: &mut Vec<NewNode>,
    list: u64,
    content: ListContent<'_>,
    level: u64,
    fills: bool,
) -> Result<Vec<ListChild>> {
    let (count, mut start) = (content.len(), 0);
    let mut pieces = count.div_ceil(WIDTH);
    let mut children = room(pieces)?;
    make_room(nodes, pieces)?;
    while start < count {
        let size = if fills { WIDTH } else { (count - start).div_ceil(pieces) };
        let end = (start + size).min(count);
        let piece = content.part(start..end);
        let new = make(list, piece, level, None)?;
        nodes.push(new);
        children.push(ListChild {
            token: new.node.token(),
            is_fresh: true,
            items: piece.items(),
        });
        (start, pieces) = (end, pieces.saturating_sub(1).max(1));
    }
    Ok(children)
}
