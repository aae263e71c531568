//! What follows a change: the nodes that it made belong to the list, those that it replaced are freed. Any process may do
//! it, any number of times. So may the process that meets what a death left.

use super::layout::{is_written, origin_of, ListHead, ListIntent, ListItem, Page};
use crate::arena::node::{self, Node};
use crate::arena::{look_up, Object, Token};
use crate::ids::{Handle, Kind, Owner};
use crate::sync::primitive::Ordering::SeqCst;
use crate::Result;

// SAFETY: the field is an atomic, zero is valid, tokens read are checked before they lead anywhere (`Node`).
unsafe impl Object for ListHead {
    const KIND: Kind = Kind::List;
    const NAME: &'static str = "list";

    fn destroy(&self) {
        let head = Token(self.head.load(SeqCst));
        // DEATH: the root is there until everything that it leads to is freed; what is freed twice is stale. Without
        // address space the nodes stay, and are lost.
        let _ = free_list(head);
    }
}

/// Free all that a root leads to, then the root.
fn free_list(head: Token) -> Result<()> {
    let Some(page) = Page::open(head, Kind::ListRoot)? else {
        return Ok(());
    };
    free_replaced(&page.intent())?;
    free_below(&page, 0, (0, u64::MAX), (0, u64::MAX))?;
    node::free(head, Kind::ListRoot);
    Ok(())
}

/// Finish the change by which a root became `head`. To be called only for a root that `head` has named.
pub(super) fn settle(root: &Node, page: &Page) -> Result<()> {
    if root.is_owned() {
        hand_over_fresh(page)?;
        free_replaced(&page.intent())?;
        // DEATH: before this, another process does all of it again.
        root.hand_over();
    }
    Ok(())
}

/// Hand over what is fresh below a node, the lowest nodes first. What is gone was handed over before.
fn hand_over_fresh(page: &Page) -> Result<()> {
    if page.level() == 0 {
        for index in 0..page.count() {
            if let ListItem::Large { token, is_fresh: true } = page.item(index)? {
                if let Some(value) = Node::find(token, Kind::ListValue)? {
                    value.hand_over();
                }
            }
        }
        return Ok(());
    }
    for child in page.children() {
        let child = child?;
        if !child.is_fresh {
            continue;
        }
        let Some(node) = Node::find(child.token, Kind::ListNode)? else {
            continue;
        };
        if node.is_owned() {
            if let Some(below) = Page::open_below(child.token, page.level())? {
                hand_over_fresh(&below)?;
            }
            node.hand_over();
        }
    }
    Ok(())
}

/// Free what a change replaced.
pub(super) fn free_replaced(intent: &ListIntent) -> Result<()> {
    let before = Token(intent.before);
    if let Some(page) = Page::open(before, Kind::ListRoot)? {
        free_below(&page, 0, intent.run, intent.gone)?;
        node::free(before, Kind::ListRoot);
    }
    Ok(())
}

/// Free the nodes below this one that have items of `run`, and the values of the items in `gone`. `start` is the number of
/// the node's first item.
fn free_below(page: &Page, start: u64, run: (u64, u64), gone: (u64, u64)) -> Result<()> {
    if page.level() == 0 {
        return free_values(page, start, gone);
    }
    let mut end = start;
    for child in page.children() {
        let child = child?;
        let start = end;
        end = start.saturating_add(child.items);
        if start < run.1 && end > run.0 {
            if let Some(below) = Page::open_below(child.token, page.level())? {
                free_below(&below, start, run, gone)?;
            }
            // DEATH: what is below is freed before the node is, so that a successor finds it.
            node::free(child.token, Kind::ListNode);
        }
    }
    Ok(())
}

/// Free the values of those items of a leaf that are in `gone`. `start` is the number of the leaf's first item.
pub(super) fn free_values(leaf: &Page, start: u64, gone: (u64, u64)) -> Result<()> {
    let within = |end: u64| (end.saturating_sub(start) as usize).min(leaf.count());
    for index in within(gone.0)..within(gone.1) {
        if let ListItem::Large { token, .. } = leaf.item(index)? {
            node::free(token, Kind::ListValue);
        }
    }
    Ok(())
}

/// Settle or free a node that a dead process owned. The list tells which.
pub(super) fn recover(node: &Node, dead: Owner) -> Result<()> {
    if is_written(node) {
        let Some((list, root)) = origin_of(node) else {
            return Ok(());
        };
        let list = Handle::from_bits(list).map_or(Ok(None), look_up::<ListHead>)?;
        if list.is_some_and(|list| list.head() == root) {
            if let Some(found) = Node::find(root, Kind::ListRoot)? {
                if let Some(page) = Page::copy(&found, Kind::ListRoot)? {
                    settle(&found, &page)?;
                }
            }
            return Ok(());
        }
    }
    // SYNC: no root that was `head` names the node if it is still OWNED now: such a root was settled before another one
    // became `head`.
    if node.is_owned_by(dead) {
        node.free();
    }
    Ok(())
}
