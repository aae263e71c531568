//! What a death left of a change or of a new table: the process that meets it finishes it.

use super::bucket::{is_written, Bucket};
use super::layout::Dict;
use super::table::DictTable;
use super::word::BucketWord;
use crate::arena::node::{self, Node};
use crate::arena::{look_up, Token};
use crate::ids::{Kind, Owner};
use crate::sync::primitive::Ordering::SeqCst;
use crate::Result;

/// Finish what the maker of a node may not have: free what it replaced, and hand it over to its table. To be called
/// only when the table names the node; it may be repeated.
pub(super) fn settle(node: &Node, bucket: &Bucket) {
    if node.is_owned() {
        let intent = bucket.intent();
        node::free(Token(intent.doomed), Kind::DictValue);
        node::free(Token(intent.before), Kind::DictBucket);
        node.hand_over();
    }
}

/// Settle or free a node that a dead process owned. Its table tells which.
pub(super) fn recover_bucket(node: &Node, dead: Owner) -> Result<()> {
    if !is_written(node) {
        // It names nothing yet, and no table names it.
        free_of(node, dead);
        return Ok(());
    }
    let Some(bucket) = Bucket::copy(node)? else {
        return Ok(());
    };
    let intent = bucket.intent();
    let segment = Node::find(Token(intent.segment), Kind::DictSegment)?;
    let word = segment.and_then(|segment| segment.segment()?.get(intent.slot as usize));
    let is_named = word.is_some_and(|word| {
        let word = BucketWord(word.load(SeqCst));
        word.token() == node.token() && word.count() != 0
    });
    if is_named {
        settle(node, &bucket);
    } else if node.is_owned_by(dead) {
        node::free(Token(intent.fresh), Kind::DictValue);
        if intent.all_fresh {
            bucket.large().for_each(|value| node::free(value, Kind::DictValue));
        }
        node.free();
    }
    Ok(())
}

/// Free a node if a dead process owns it.
fn free_of(node: &Node, dead: Owner) {
    if node.is_owned_by(dead) {
        node.free();
    }
}

/// Keep or free a table that a dead process owned. Its dictionary tells which.
pub(super) fn recover_table(node: &Node, dead: Owner) -> Result<()> {
    if !DictTable::is_written(node) {
        free_of(node, dead);
        return Ok(());
    }
    let Some(table) = DictTable::open(node.token())? else {
        return Ok(());
    };
    let dict = table.dict().map_or(Ok(None), look_up::<Dict>)?;
    if dict.is_some_and(|dict| dict.is_newest(&table)) {
        table.hand_over();
    } else if node.is_owned_by(dead) {
        table.free();
    }
    Ok(())
}
