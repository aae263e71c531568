//! A list's memory: the word that its users share, and the nodes of its tree. Leaves what is done with them to `read`,
//! `splice` and `settle`. The file is long because each word of a node is written and checked here.

use super::super::bytes::{bytes_of, pack, room, ValueBytes, Words};
pub(super) use crate::arena::node::TREE_WIDTH as WIDTH;
use crate::arena::node::{Node, TOKEN_BITS};
use crate::arena::Token;
use crate::ids::Kind;
use crate::sync::primitive::{AtomicU64, Ordering::SeqCst};
use crate::{Error, Result};
use std::ops::Range;

/// Values of more bytes than this have a node of their own.
pub(super) const LARGEST_INLINE: usize = 128;
/// The most levels of nodes: of trees that changes build, all but a few levels have more than one node.
const MOST_LEVELS: u64 = 40;
/// Words of a header: the list's handle; the token of the root that the node was made for; number of words, level and the
/// node's generation + 1, written last; number of items, of children, or of a value's bytes.
const HEADER: usize = 4;
/// A root's header has more: the root before, the number of all items, and what the change replaced.
const ROOT_HEADER: usize = 10;
const LEVEL_SHIFT: u32 = 32;
const GENERATION_SHIFT: u32 = 39;
const USED: u64 = (1 << LEVEL_SHIFT) - 1;
const LEVEL: u64 = (1 << (GENERATION_SHIFT - LEVEL_SHIFT)) - 1;
const TOKEN: u64 = (1 << TOKEN_BITS) - 1;
/// Of a reference to a child or to a value's node: it was made for the same root as the node that has the reference.
const FRESH: u64 = 1 << 62;
/// Of the root before, in a root's header: this root seals the list.
const SEAL: u64 = 1 << 63;
/// Of an item: its value has a node of its own. Otherwise the item's word says where the value lies in the leaf
/// (upper half), and how long it is.
const LARGE: u64 = 1 << 63;

pub(super) const DAMAGED: Error = Error::Corrupt("a list's node");
pub(super) const SEALED: Error = Error::Sealed("list");

/// A list in the arena. Zero-filled is an empty one.
#[repr(C, align(64))]
pub struct ListHead {
    /// Token of the root; 0 = no item was ever added.
    pub(super) head: AtomicU64,
}

impl ListHead {
    pub(super) fn head(&self) -> Token {
        // SYNC: a survivor looks at the owner of a node after this.
        Token(self.head.load(SeqCst))
    }
}

/// What a change replaced, as its root's header names it. Items are numbered as in the tree before.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ListIntent {
    /// The root before; 0 = none.
    pub before: u64,
    /// The items that are gone: the first, and the one after the last.
    pub gone: (u64, u64),
    /// The items of all leaves that were made anew.
    pub run: (u64, u64),
    /// The list is sealed: no other root comes after this one.
    pub seals: bool,
}

/// The value of an item, where it lies or where it is to be written.
#[derive(Clone, Copy, Debug)]
pub(super) enum ListItem<'a> {
    /// The words of a value, and its number of bytes.
    Inline(&'a [u64], usize),
    Large {
        token: Token,
        is_fresh: bool,
    },
}

/// A child of an inner node, and the number of items below it.
#[derive(Clone, Copy, Debug)]
pub(super) struct ListChild {
    pub token: Token,
    pub is_fresh: bool,
    pub items: u64,
}

/// What a node has, or what several nodes of a level are to have.
#[derive(Clone, Copy)]
pub(super) enum ListContent<'a> {
    Items(&'a [ListItem<'a>]),
    Children(&'a [ListChild]),
}

impl ListContent<'_> {
    pub fn len(&self) -> usize {
        match self {
            Self::Items(items) => items.len(),
            Self::Children(children) => children.len(),
        }
    }

    /// Number of items in it, or below it.
    pub fn items(&self) -> u64 {
        match self {
            Self::Items(items) => items.len() as u64,
            Self::Children(children) => children.iter().fold(0, |sum, child| sum.saturating_add(child.items)),
        }
    }

    pub fn part(&self, range: Range<usize>) -> Self {
        match self {
            Self::Items(items) => Self::Items(&items[range]),
            Self::Children(children) => Self::Children(&children[range]),
        }
    }
}

fn reference(token: Token, is_fresh: bool) -> u64 {
    token.0 & TOKEN | if is_fresh { FRESH } else { 0 }
}

/// Words before a node's content.
fn header_of(kind: Kind) -> usize {
    if kind == Kind::ListRoot {
        ROOT_HEADER
    } else {
        HEADER
    }
}

/// The words of a node make no sense: it is damaged, or no longer in use.
pub(super) struct UnreadableNode;

/// A node whose words are read where they lie. What is returned counts only if the node is in use afterwards.
pub(super) struct View {
    pub node: Node,
    header: usize,
}

impl View {
    /// The node of this kind that a token names. `None` if it is gone.
    pub fn find(token: Token, kind: Kind) -> Result<Option<Self>> {
        let header = header_of(kind);
        Ok(Node::find(token, kind)?.map(|node| Self { node, header }))
    }

    #[inline]
    fn word(&self, index: usize) -> Result<u64, UnreadableNode> {
        self.node.load(index).ok_or(UnreadableNode)
    }

    /// Number of items in the list whose root this is.
    pub fn items_of_list(&self) -> Result<u64, UnreadableNode> {
        self.word(5)
    }

    /// Whether the list whose root this is is sealed.
    pub fn is_sealed(&self) -> Result<bool, UnreadableNode> {
        Ok(self.word(4)? & SEAL != 0)
    }

    /// How many levels are below this node.
    pub fn level(&self) -> Result<u64, UnreadableNode> {
        Ok(self.word(2)? >> LEVEL_SHIFT & LEVEL)
    }

    /// The child that has an item, and the item's number in it.
    pub fn child_with(&self, item: u64) -> Result<(Token, u64), UnreadableNode> {
        let count = self.word(3)? as usize;
        if count > WIDTH {
            return Err(UnreadableNode);
        }
        let (mut low, mut high) = (0, count);
        while low < high {
            let middle = usize::midpoint(low, high);
            if self.word(self.header + middle)? <= item {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        if low >= count {
            return Err(UnreadableNode);
        }
        let start = if low == 0 { 0 } else { self.word(self.header + low - 1)? };
        let token = Token(self.word(self.header + count + low)? & TOKEN);
        Ok((token, item.checked_sub(start).ok_or(UnreadableNode)?))
    }

    /// A copy of an item's value, or the token of the value's own node.
    pub fn item(&self, item: u64) -> Result<(Words, usize, Option<Token>), UnreadableNode> {
        if item >= self.word(3)? || item >= WIDTH as u64 {
            return Err(UnreadableNode);
        }
        let word = self.word(self.header + item as usize)?;
        if word & LARGE != 0 {
            return Ok((Words::zeros(0), 0, Some(Token(word & TOKEN))));
        }
        let (start, len) = place_of(word);
        let mut words = Words::zeros(len.min(LARGEST_INLINE).div_ceil(8));
        let is_whole = len <= LARGEST_INLINE && self.node.read(start, words.as_mut());
        is_whole.then_some((words, len, None)).ok_or(UnreadableNode)
    }
}

/// Where a value lies in its leaf, and how long it is.
fn place_of(word: u64) -> (usize, usize) {
    ((word >> 32) as usize, word as u32 as usize)
}

/// A copy of a node's words.
#[derive(Debug)]
pub(super) struct Page {
    words: Vec<u64>,
    header: usize,
}

impl Page {
    /// Copy a node. `None` if it is no longer in use.
    pub fn open(token: Token, kind: Kind) -> Result<Option<Self>> {
        let Some(node) = Node::find(token, kind)? else {
            return Ok(None);
        };
        Self::copy(&node, kind)
    }

    /// As [`open`](Self::open), of a child of a node on this level.
    pub fn open_below(token: Token, level: u64) -> Result<Option<Self>> {
        let page = Self::open(token, Kind::ListNode)?;
        // A tree that is damaged must not lead in a circle.
        let fits = page.as_ref().is_none_or(|page| page.level() + 1 == level);
        fits.then_some(page).ok_or(DAMAGED)
    }

    pub fn copy(node: &Node, kind: Kind) -> Result<Option<Self>> {
        let header = header_of(kind);
        let is_damaged = || if node.is_in_use() { Err(DAMAGED) } else { Ok(None) };
        let (Some(word), Some(count)) = (node.load(2), node.load(3)) else {
            return is_damaged();
        };
        let used = if kind == Kind::ListValue {
            (count.div_ceil(8) as usize).saturating_add(header)
        } else {
            (word & USED) as usize
        };
        if !(header..=node.len()).contains(&used) {
            return is_damaged();
        }
        let mut words = room(used)?;
        words.resize(used, 0);
        node.read(0, &mut words);
        let page = Self { words, header };
        let fits = kind == Kind::ListValue || page.count() <= WIDTH && page.level() < MOST_LEVELS;
        if !fits {
            return is_damaged();
        }
        Ok(node.is_in_use().then_some(page))
    }

    pub fn level(&self) -> u64 {
        self.words[2] >> LEVEL_SHIFT & LEVEL
    }

    /// Number of items, or of children.
    pub fn count(&self) -> usize {
        self.words[3] as usize
    }

    /// The bytes of a value's node.
    pub fn value(&self) -> &[u8] {
        bytes_of(&self.words[HEADER..], self.count())
    }

    /// The bytes of a value's node, of which nothing else is needed.
    pub fn into_value(self) -> Result<ValueBytes> {
        let bytes = self.value();
        let mut words = Words::try_zeros(bytes.len().div_ceil(8))?;
        pack(bytes, words.as_mut());
        Ok(ValueBytes::new(words, bytes.len()))
    }

    fn of_root(&self, index: usize) -> u64 {
        if self.header == ROOT_HEADER {
            self.words[index]
        } else {
            0
        }
    }

    pub fn items_of_list(&self) -> u64 {
        self.of_root(5)
    }

    pub fn intent(&self) -> ListIntent {
        ListIntent {
            before: self.of_root(4) & TOKEN,
            gone: (self.of_root(6), self.of_root(7)),
            run: (self.of_root(8), self.of_root(9)),
            seals: self.of_root(4) & SEAL != 0,
        }
    }

    /// The value of an item of a leaf.
    #[inline]
    pub fn item(&self, index: usize) -> Result<ListItem<'_>> {
        let word = self.words.get(self.header + index).filter(|_| index < self.count());
        let word = *word.ok_or(DAMAGED)?;
        if word & LARGE != 0 {
            return Ok(ListItem::Large {
                token: Token(word & TOKEN),
                is_fresh: word & FRESH != 0,
            });
        }
        let (start, len) = place_of(word);
        let words = self.words.get(start..start.saturating_add(len.div_ceil(8)));
        Ok(ListItem::Inline(words.ok_or(DAMAGED)?, len))
    }

    /// A child of an inner node.
    #[inline]
    pub fn child(&self, index: usize) -> Result<ListChild> {
        let count = self.count();
        let word = |at: usize| self.words.get(self.header + at).copied().ok_or(DAMAGED);
        if index >= count {
            return Err(DAMAGED);
        }
        let start = if index == 0 { 0 } else { word(index - 1)? };
        let (end, token) = (word(index)?, word(count + index)?);
        Ok(ListChild {
            token: Token(token & TOKEN),
            is_fresh: token & FRESH != 0,
            items: end.checked_sub(start).ok_or(DAMAGED)?,
        })
    }

    /// All children of an inner node.
    pub fn children(&self) -> impl Iterator<Item = Result<ListChild>> + '_ {
        (0..self.count()).map(|index| self.child(index))
    }
}

/// Make a node of a tree, or a root with what its header says. This process owns it. It is not written before
/// [`stamp`] is called.
pub(super) fn make(
    list: u64,
    content: ListContent<'_>,
    level: u64,
    root: Option<(ListIntent, u64)>,
) -> Result<NewNode> {
    let kind = if root.is_some() { Kind::ListRoot } else { Kind::ListNode };
    let header = header_of(kind);
    let count = content.len();
    let used = match content {
        ListContent::Children(_) => header + 2 * count,
        ListContent::Items(items) => header + count + items.iter().map(words_of).sum::<usize>(),
    };
    let node = Node::alloc(used, kind)?;
    node.store(0, list);
    node.store(3, count as u64);
    if let Some((intent, items)) = root {
        let words = [
            intent.before | if intent.seals { SEAL } else { 0 },
            items,
            intent.gone.0,
            intent.gone.1,
            intent.run.0,
            intent.run.1,
        ];
        node.write(HEADER, &words);
    }
    match content {
        ListContent::Children(children) => {
            let mut end = 0;
            for (index, child) in children.iter().enumerate() {
                end = child.items.saturating_add(end);
                node.store(header + index, end);
                node.store(header + count + index, reference(child.token, child.is_fresh));
            }
        }
        ListContent::Items(items) => write_items(&node, header, items),
    }
    let mark = generation_of(&node) | level << LEVEL_SHIFT | used as u64;
    Ok(NewNode { node, mark })
}

fn words_of(item: &ListItem<'_>) -> usize {
    match item {
        ListItem::Inline(words, _) => words.len(),
        ListItem::Large { .. } => 0,
    }
}

fn write_items(node: &Node, header: usize, items: &[ListItem<'_>]) {
    let mut at = header + items.len();
    for (index, item) in items.iter().enumerate() {
        match *item {
            ListItem::Large { token, is_fresh } => node.store(header + index, LARGE | reference(token, is_fresh)),
            ListItem::Inline(words, len) => {
                node.store(header + index, (at as u64) << 32 | len as u64);
                node.write(at, words);
                at += words.len();
            }
        }
    }
}

/// Copy a value into a node of its own. This process owns it.
pub(super) fn make_value(list: u64, bytes: &[u8]) -> Result<NewNode> {
    let node = Node::alloc(HEADER + bytes.len().div_ceil(8), Kind::ListValue)?;
    node.store(0, list);
    node.store(3, bytes.len() as u64);
    let mut buffer = [0; 64];
    for (number, chunk) in bytes.chunks(512).enumerate() {
        let words = chunk.len().div_ceil(8);
        pack(chunk, &mut buffer[..words]);
        node.write(HEADER + number * 64, &buffer[..words]);
    }
    let mark = generation_of(&node);
    Ok(NewNode { node, mark })
}

/// A node that no root names yet. It is written when it is stamped.
#[derive(Clone, Copy)]
pub(super) struct NewNode {
    pub node: Node,
    /// The header's third word.
    mark: u64,
}

impl NewNode {
    /// Say for which root the node is made. May be repeated with the root of another attempt.
    pub fn stamp(&self, root: Token) {
        self.node.store(1, root.0);
        // DEATH: before this, a survivor frees the node and looks for no root. If the node had another root, that one was
        // never `head`.
        self.node.store_last(2, self.mark);
    }
}

fn generation_of(node: &Node) -> u64 {
    (u64::from(node.generation()) + 1) << GENERATION_SHIFT
}

/// Whether the node's maker has written all of it. Otherwise its words are those of an earlier use of the cell, or zeros.
pub(super) fn is_written(node: &Node) -> bool {
    let word = node.load(2).unwrap_or(0);
    word >> GENERATION_SHIFT << GENERATION_SHIFT == generation_of(node)
}

/// The handle of the list, and the root that a node was made for. `None` if it is no longer in use.
pub(super) fn origin_of(node: &Node) -> Option<(u64, Token)> {
    let (list, root) = (node.load(0)?, node.load(1)?);
    node.is_in_use().then_some((list, Token(root & TOKEN)))
}
