//! A message: how it is packed, how it rests in shared memory, how it is taken out again. Leaves to the faces what its
//! bytes mean.
//!
//! A small body lies in the header itself. Anything else lies in one block, the *table*: the references that the
//! message holds, then tokens and lengths of the out-of-band buffers, then the body. Blocks change hands in an order
//! that shows a survivor, from the blocks alone, how far a dead process got: `post` hands over the table first, `open`
//! takes it last. The references always belong to the owner of the table.
//!
//! The file is long because each form of a message is written and read here, side by side.

use crate::arena::{copy, Block, Token};
use crate::ids::Handle;
use crate::sync::primitive::{fence, AtomicU64, Ordering};
use crate::{Error, Result};
use Ordering::{Acquire, Relaxed, Release};

/// Words of a header behind its first, which describes them.
const INLINE_WORDS: usize = 13;
/// The largest body that needs no block.
const INLINE: usize = INLINE_WORDS * 8;
/// Bytes of the table per buffer: token, length.
const BUFFER_ENTRY: usize = 16;
/// Bytes of the table per handle.
const HANDLE_ENTRY: usize = 8;
/// The first number of buffers that does not fit the header's first word.
const MAX_BUFFERS: usize = 1 << 24;

/// The parts of a message to send.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outgoing<'a> {
    /// The body, or its first piece.
    pub body: &'a [u8],
    /// Further pieces of the body, in order: the receiver sees one body.
    pub more: &'a [&'a [u8]],
    /// Out-of-band buffers. The receiver gets each as a block of its own.
    pub buffers: &'a [&'a [u8]],
    /// Objects that the body refers to; the message holds a reference to each.
    pub handles: &'a [Handle],
}

impl Outgoing<'_> {
    /// Number of bytes in body and buffers.
    pub fn size(&self) -> usize {
        self.body_len() + self.buffers.iter().map(|buffer| buffer.len()).sum::<usize>()
    }

    /// Length of the whole body.
    fn body_len(&self) -> usize {
        self.body.len() + self.more.iter().map(|piece| piece.len()).sum::<usize>()
    }

    /// Copy the whole body to the beginning of `to`, which must be long enough.
    fn copy_body(&self, to: &mut [u8], copy: impl Fn(&mut [u8], &[u8])) {
        let (first, mut rest) = to.split_at_mut(self.body.len());
        copy(first, self.body);
        for piece in self.more {
            let (next, behind) = rest.split_at_mut(piece.len());
            copy(next, piece);
            rest = behind;
        }
    }
}

/// A packed message that this process still owns; dropping it frees what it holds.
#[derive(Debug)]
pub struct Message {
    form: Form,
    buffers: Vec<Block>,
}

#[derive(Debug)]
enum Form {
    Inline { len: u8, words: [u64; INLINE_WORDS] },
    BlockTable(Block),
}

impl Message {
    /// Copy everything into shared memory. A small body stays here until the message is posted.
    pub fn pack(out: Outgoing<'_>) -> Result<Self> {
        let len = out.body_len();
        if len <= INLINE && out.buffers.is_empty() && out.handles.is_empty() {
            return Ok(Self {
                form: inline(&out, len),
                buffers: Vec::new(),
            });
        }
        if out.buffers.len() >= MAX_BUFFERS || u32::try_from(out.handles.len()).is_err() {
            return Err(Error::Corrupt("a message of more parts than a message can have"));
        }
        let mut buffers = Vec::with_capacity(out.buffers.len());
        for bytes in out.buffers {
            let mut block = Block::alloc(bytes.len())?;
            copy::for_another_core(block.as_mut_slice(), bytes);
            buffers.push(block);
        }
        let prefix = out.buffers.len() * BUFFER_ENTRY + out.handles.len() * HANDLE_ENTRY;
        let mut table = Block::alloc(prefix + len)?;
        let (words, body) = table.as_mut_slice().split_at_mut(prefix);
        let numbers = buffers.iter().flat_map(|block| [block.token().0, block.len() as u64]);
        let words = words.chunks_exact_mut(8).skip(out.handles.len());
        for (word, number) in words.zip(numbers) {
            word.copy_from_slice(&number.to_le_bytes());
        }
        out.copy_body(body, copy::for_another_core);
        table.refer(out.handles)?;
        Ok(Self {
            form: Form::BlockTable(table),
            buffers,
        })
    }

    /// Copy the message into memory of its own.
    pub fn duplicate(&self) -> Result<Self> {
        let table = match &self.form {
            Form::Inline { len, words } => {
                return Ok(Self {
                    form: Form::Inline {
                        len: *len,
                        words: *words,
                    },
                    buffers: Vec::new(),
                })
            }
            Form::BlockTable(table) => table,
        };
        let handles = table.handles();
        let prefix = self.buffers.len() * BUFFER_ENTRY + handles.len() * HANDLE_ENTRY;
        let buffers: Vec<&[u8]> = self.buffers.iter().map(Block::as_slice).collect();
        Self::pack(Outgoing {
            body: &table.as_slice()[prefix..],
            buffers: &buffers,
            handles: &handles,
            ..Outgoing::default()
        })
    }

    /// Number of bytes in body and buffers.
    pub fn size(&self) -> usize {
        let body = match &self.form {
            Form::Inline { len, .. } => *len as usize,
            Form::BlockTable(table) => table.len(),
        };
        body + self.buffers.iter().map(Block::len).sum::<usize>()
    }
}

fn inline(out: &Outgoing<'_>, len: usize) -> Form {
    let mut bytes = [0; INLINE];
    out.copy_body(&mut bytes, <[u8]>::copy_from_slice);
    let mut words = [0; INLINE_WORDS];
    for (word, chunk) in words.iter_mut().zip(bytes.chunks_exact(8)).take(len.div_ceil(8)) {
        *word = u64::from_le_bytes(chunk.try_into().unwrap_or_default());
    }
    Form::Inline { len: len as u8, words }
}

/// The stored form of a message: in a queue slot, a mailbox or a job. 112 bytes, zero = nothing. The caller of a method
/// must hold the claim on the slot that the header lies in. The words are atomic only so that stray writes do no
/// harm.
///
/// First word: kind (8 bits); then the length of an inline body (8 bits), or the number of buffers (24 bits) and of
/// handles (32 bits). In the second case the table's token and length follow.
#[repr(C)]
#[derive(Debug, Default)]
pub struct MessageHeader {
    head: AtomicU64,
    words: [AtomicU64; INLINE_WORDS],
}

const KIND_INLINE: u64 = 1;
const KIND_TABLE: u64 = 2;

impl MessageHeader {
    /// Forget the content without giving anything back: for memory that is used anew.
    pub(super) fn clear(&self) {
        self.head.store(0, Relaxed);
    }

    /// Words that the holder of an empty header may use for something else.
    pub(crate) fn spare_words(&self) -> &[AtomicU64; INLINE_WORDS] {
        &self.words
    }

    /// A body that lies in the header itself, as an observer reads it from a copy.
    pub(crate) fn short_body(&self) -> Option<Vec<u8>> {
        let head = self.head.load(Relaxed);
        let length = (head >> 8) as u8 as usize;
        if head as u8 as u64 != KIND_INLINE || length > INLINE {
            return None;
        }
        let words = self.words.iter().flat_map(|word| word.load(Relaxed).to_le_bytes());
        Some(words.take(length).collect())
    }

    /// SYNC: the head is written last and read first: a process that sees it (after a death, without any stamp) sees
    /// the words that it describes.
    fn head(&self) -> u64 {
        self.head.load(Acquire)
    }

    /// Store `message` and hand its blocks over. Cannot fail. The previous message must have been taken or discarded.
    pub fn post(&self, message: Message) {
        let buffers = message.buffers;
        match message.form {
            Form::Inline { len, words } => {
                let used = (len as usize).div_ceil(8);
                for (slot, word) in self.words.iter().zip(words).take(used) {
                    slot.store(word, Relaxed);
                }
                self.head.store(KIND_INLINE | (len as u64) << 8, Release);
            }
            Form::BlockTable(table) => {
                self.words[0].store(table.token().0, Relaxed);
                self.words[1].store(table.len() as u64, Relaxed);
                let (buffers_in, handles) = (buffers.len() as u64, table.references() as u64);
                self.head.store(KIND_TABLE | buffers_in << 8 | handles << 32, Release);
                // DEATH: before this line this process owns all blocks, and they die with it. From here on the table,
                // with its references, is found through the header; each buffer is still this process's or found
                // through the table.
                table.send();
                for block in buffers {
                    block.send();
                }
            }
        }
    }

    /// Take the message out. Its blocks belong to this process afterwards.
    pub fn open(&self) -> Result<Incoming> {
        let head = self.head();
        match head & 0xff {
            KIND_INLINE => self.open_inline(head),
            KIND_TABLE => self.open_table(head),
            _ => Err(Error::Corrupt("a header without a message")),
        }
    }

    fn open_inline(&self, head: u64) -> Result<Incoming> {
        let len = (head >> 8 & 0xff) as u8;
        if len as usize > INLINE {
            return Err(Error::Corrupt("an inline body longer than its header"));
        }
        let mut words = [0; INLINE_WORDS];
        for (word, slot) in words.iter_mut().zip(&self.words).take((len as usize).div_ceil(8)) {
            *word = slot.load(Relaxed).to_le();
        }
        Ok(Incoming {
            body: Body::Inline { len, words },
            buffers: Vec::new(),
            handles: Vec::new(),
        })
    }

    fn open_table(&self, head: u64) -> Result<Incoming> {
        let table = BlockTable::find(self, head)?;
        // All or nothing: a message that this process has no address space for stays where it is.
        for index in 0..table.buffers {
            let (token, len) = table.buffer(index);
            Block::peek(token, len)?;
        }
        let mut buffers = Vec::with_capacity(table.buffers);
        for index in 0..table.buffers {
            let (token, len) = table.buffer(index);
            buffers.push(Block::take(token, len)?);
        }
        let start = table.prefix();
        // DEATH: until here the table says that this message was being taken; afterwards this process owns all of it.
        let block = Block::take(table.token, table.len)?;
        let handles = block.handles();
        Ok(Incoming {
            body: Body::BlockTable { block, start },
            buffers,
            handles,
        })
    }

    /// Free everything that the message holds. Idempotent: a successor may repeat it after a death in the middle of it.
    /// The table goes last, because it names the buffers.
    pub fn discard(&self) {
        let head = self.head();
        if head & 0xff == KIND_TABLE {
            if let Ok(table) = BlockTable::find(self, head) {
                for index in 0..table.buffers {
                    Block::discard(table.buffer(index).0);
                }
                Block::discard(table.token);
            }
        }
        self.clear();
    }

    /// Read the message. One that is a body of at most `limit` bytes and nothing else is copied: it stays in the
    /// header, for a process that needs to know later what it was. Any other is taken out. In both cases call
    /// [`discard`](Self::discard) before the next message is posted.
    pub fn open_or_copy(&self, limit: usize) -> Result<Incoming> {
        let head = self.head();
        let alone = head & 0xff == KIND_TABLE && head >> 8 == 0;
        if !alone || self.words[1].load(Relaxed) as usize > limit {
            return self.open();
        }
        Ok(Incoming {
            body: Body::Copy(self.copy_body()?),
            buffers: Vec::new(),
            handles: Vec::new(),
        })
    }

    /// Copy the body; the message stays. Any number of processes may do so at a time. [`Stale`](Error::Stale) if the
    /// message's block was taken out or discarded meanwhile. The caller must know that no process posted another
    /// message into the header meanwhile.
    pub fn copy_body(&self) -> Result<Vec<u8>> {
        let head = self.head();
        match head & 0xff {
            KIND_INLINE => Ok(self.open_inline(head)?.body().to_vec()),
            KIND_TABLE => {
                let table = BlockTable::find(self, head)?;
                let body = table.copy_body();
                // SYNC: pairs with the loads of the copy, as in a sequence lock: the block was in transit after the
                // last of them.
                fence(Acquire);
                Block::peek(table.token, table.len)?;
                Ok(body)
            }
            _ => Err(Error::Corrupt("a header without a message")),
        }
    }

    /// Whether the message is complete, even if a process died after it had begun to [`open`](Self::open) it.
    pub fn is_whole(&self) -> bool {
        let head = self.head();
        match head & 0xff {
            KIND_INLINE => true,
            KIND_TABLE => BlockTable::find(self, head).is_ok_and(|table| {
                (0..table.buffers).all(|index| {
                    let (token, len) = table.buffer(index);
                    Block::peek(token, len).is_ok()
                })
            }),
            _ => false,
        }
    }
}

/// The table of a message in transit, read in place.
struct BlockTable {
    words: *const AtomicU64,
    token: Token,
    len: usize,
    buffers: usize,
    handles: usize,
}

impl BlockTable {
    fn find(header: &MessageHeader, head: u64) -> Result<Self> {
        let token = Token(header.words[0].load(Relaxed));
        let len = header.words[1].load(Relaxed) as usize;
        let start = Block::peek(token, len)?;
        let table = Self {
            words: start.cast(),
            token,
            len,
            buffers: (head >> 8 & 0xff_ffff) as usize,
            handles: (head >> 32) as usize,
        };
        if table.prefix() > len {
            return Err(Error::Corrupt("a message table larger than its block"));
        }
        Ok(table)
    }

    fn prefix(&self) -> usize {
        self.buffers * BUFFER_ENTRY + self.handles * HANDLE_ENTRY
    }

    fn word(&self, index: usize) -> &AtomicU64 {
        debug_assert!(index * 8 < self.prefix());
        // SAFETY: `find` checked that the block is in transit, mapped, and as long as the prefix, in which `index`
        // lies; blocks are aligned to 64. The caller holds the claim on the header, so no correct process frees the
        // block meanwhile, and the arena stays mapped.
        unsafe { &*self.words.add(index) }
    }

    /// Copy the bytes behind the prefix. They are valid only if no process freed the block meanwhile, so no reference
    /// to them is formed.
    fn copy_body(&self) -> Vec<u8> {
        let (start, end) = (self.prefix(), self.len);
        let mut body = Vec::with_capacity((end - start).next_multiple_of(8));
        for at in (start..end).step_by(8) {
            // SAFETY: `find` checked that the block holds `len` bytes, and a block's capacity is a multiple of 64; `at`
            // is a multiple of 8, as is the prefix. Blocks are aligned to 64 and stay mapped, whatever process owns
            // them.
            let word = unsafe { &*self.words.add(at / 8) };
            body.extend_from_slice(&word.load(Relaxed).to_ne_bytes());
        }
        body.truncate(end - start);
        body
    }

    fn buffer(&self, index: usize) -> (Token, usize) {
        let first = self.handles + 2 * index;
        let token = self.word(first).load(Relaxed);
        (Token(token), self.word(first + 1).load(Relaxed) as usize)
    }
}

/// A message that was taken out.
#[derive(Debug)]
pub struct Incoming {
    body: Body,
    buffers: Vec<Block>,
    handles: Vec<Handle>,
}

#[derive(Debug)]
enum Body {
    Inline { len: u8, words: [u64; INLINE_WORDS] },
    BlockTable { block: Block, start: usize },
    Copy(Vec<u8>),
}

impl Incoming {
    /// The body.
    pub fn body(&self) -> &[u8] {
        match &self.body {
            Body::Inline { len, words } => {
                // SAFETY: words are plain bytes, and `open_inline` checked that `len` of them are there.
                unsafe { std::slice::from_raw_parts(words.as_ptr().cast(), *len as usize) }
            }
            Body::BlockTable { block, start } => &block.as_slice()[*start..],
            Body::Copy(bytes) => bytes,
        }
    }

    /// Number of bytes in body and buffers.
    pub fn size(&self) -> usize {
        let body = match &self.body {
            Body::Inline { len, .. } => *len as usize,
            Body::BlockTable { block, .. } => block.len(),
            Body::Copy(bytes) => bytes.len(),
        };
        body + self.buffers.iter().map(Block::len).sum::<usize>()
    }

    /// Whether it is a body without buffers and handles.
    pub fn is_lone_body(&self) -> bool {
        self.buffers.is_empty() && self.handles.is_empty()
    }

    /// The block that the body lies in, and where the body starts in it. `None` for a body without a block, and the
    /// second time. The message's references go with the block.
    pub fn take_block(&mut self) -> Option<(Block, usize)> {
        let nothing = Body::Inline {
            len: 0,
            words: [0; INLINE_WORDS],
        };
        match std::mem::replace(&mut self.body, nothing) {
            Body::BlockTable { block, start } => Some((block, start)),
            other => {
                self.body = other;
                None
            }
        }
    }

    /// The out-of-band buffers, in order. Empty the second time.
    pub fn take_buffers(&mut self) -> Vec<Block> {
        std::mem::take(&mut self.buffers)
    }

    /// The objects that the body refers to. The message's references to them last until the `Incoming`, and the block
    /// that was taken from it, are dropped: take your own before.
    pub fn handles(&self) -> &[Handle] {
        &self.handles
    }
}
