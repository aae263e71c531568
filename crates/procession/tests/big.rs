//! A message of more than 4 GB. Runs only with `PROCESSION_BIG_TESTS` in the environment: it takes 11 GB of memory.

use procession::Queue;
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

const LENGTH: usize = 5 << 30;
const MARKS: [(usize, u8); 3] = [(0, 1), (3 << 30, 2), (LENGTH - 1, 3)];

/// Zeros with three marks among them. The receiver checks the bytes in place instead of copying them.
#[derive(Debug, PartialEq)]
enum Long {
    Sent(Vec<u8>),
    /// The length received, and the number of its megabytes that were not all zeros.
    Received {
        length: usize,
        marked: usize,
    },
}

impl Serialize for Long {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Sent(bytes) => to.serialize_bytes(bytes),
            Self::Received { .. } => unreachable!("it is sent once"),
        }
    }
}

impl<'de> Deserialize<'de> for Long {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_bytes(Look)
    }
}

struct Look;

impl Visitor<'_> for Look {
    type Value = Long;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bytes")
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Long, E> {
        if MARKS.iter().any(|&(at, mark)| bytes.get(at) != Some(&mark)) {
            return Err(E::custom("a mark is not where it was"));
        }
        let zeros = vec![0; 1 << 20];
        let is_marked = |part: &&[u8]| *part != &zeros[..part.len()];
        Ok(Long::Received {
            length: bytes.len(),
            marked: bytes.chunks(zeros.len()).filter(is_marked).count(),
        })
    }
}

/// Bytes of available memory.
fn available() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap();
    let line = text.lines().find(|line| line.starts_with("MemAvailable:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}

#[test]
fn a_message_of_5_gb_passes() {
    if std::env::var_os("PROCESSION_BIG_TESTS").is_none() || available() < 11 << 30 {
        eprintln!("not run: PROCESSION_BIG_TESTS=1, and 11 GB of free memory");
        return;
    }
    let queue = Queue::new().unwrap();
    let mut bytes = vec![0; LENGTH];
    for (at, mark) in MARKS {
        bytes[at] = mark;
    }
    queue.put(&Long::Sent(bytes)).unwrap();
    let received = queue.get().unwrap();
    let whole = Long::Received {
        length: LENGTH,
        marked: MARKS.len(),
    };
    assert_eq!(received, whole);
    assert!(queue.is_empty().unwrap());
    queue.put(&Long::Sent(vec![1; 100])).unwrap();
    assert!(queue.get().is_err(), "the marks are missing, and the queue works on");
}
