//! The kinds of objects.

/// The kind of an object. Its number is stored in the object's note.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum Kind {
    Lock = 1,
    RLock = 2,
    Semaphore = 3,
    Condition = 4,
    Event = 5,
    Barrier = 6,
    Queue = 7,
    Shared = 8,
    Child = 9,
    Job = 10,
    Pool = 11,
    Cell = 12,
    ResultSlot = 13,
    BrokeredFd = 14,
    Mailbox = 15,
    Lane = 16,
    Dict = 17,
    DictTable = 18,
    DictSegment = 19,
    DictBucket = 20,
    DictValue = 21,
    List = 22,
    ListRoot = 23,
    ListNode = 24,
    ListValue = 25,
}

impl Kind {
    const ALL: [Self; 25] = [
        Self::Lock,
        Self::RLock,
        Self::Semaphore,
        Self::Condition,
        Self::Event,
        Self::Barrier,
        Self::Queue,
        Self::Shared,
        Self::Child,
        Self::Job,
        Self::Pool,
        Self::Cell,
        Self::ResultSlot,
        Self::BrokeredFd,
        Self::Mailbox,
        Self::Lane,
        Self::Dict,
        Self::DictTable,
        Self::DictSegment,
        Self::DictBucket,
        Self::DictValue,
        Self::List,
        Self::ListRoot,
        Self::ListNode,
        Self::ListValue,
    ];

    /// The kind with this number.
    pub(crate) fn from_number(number: u8) -> Option<Self> {
        let kind = *Self::ALL.get(usize::from(number).checked_sub(1)?)?;
        debug_assert_eq!(kind as u8, number);
        Some(kind)
    }
}
