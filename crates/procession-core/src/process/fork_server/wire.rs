//! The request datagram: the record, the mailbox, the client. Descriptors travel beside it, the client's channel last.

use crate::ids::Handle;

/// A request. 24 bytes, in the machine's own byte order: both ends run on one machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Datagram {
    pub record: Handle,
    pub token: u64,
    pub parent: i32,
}

pub(super) const SIZE: usize = 24;
const MARK: u32 = 0x5a79_0001;

impl Datagram {
    pub(super) fn encode(self) -> [u8; SIZE] {
        let mut bytes = [0; SIZE];
        bytes[..8].copy_from_slice(&self.record.to_bits().to_ne_bytes());
        bytes[8..16].copy_from_slice(&self.token.to_ne_bytes());
        bytes[16..20].copy_from_slice(&self.parent.to_ne_bytes());
        bytes[20..].copy_from_slice(&MARK.to_ne_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; SIZE] = bytes.try_into().ok()?;
        let number = |at: usize| u64::from_ne_bytes(std::array::from_fn(|i| bytes[at + i]));
        let half = |at: usize| u32::from_ne_bytes(std::array::from_fn(|i| bytes[at + i]));
        if half(20) != MARK {
            return None;
        }
        Some(Self {
            record: Handle::from_bits(number(0))?,
            token: number(8),
            parent: half(16) as i32,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_malformed_request_is_refused() {
        let datagram = Datagram {
            record: Handle::from_bits(7).expect("not zero"),
            token: 3,
            parent: 12,
        };
        let bytes = datagram.encode();
        assert_eq!(Datagram::decode(&bytes), Some(datagram));
        assert_eq!(Datagram::decode(&bytes[1..]), None);
        assert_eq!(Datagram::decode(&[0; SIZE]), None);
    }
}
