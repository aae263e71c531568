//! Reads bytes as a sequence of choices, and makes inputs without a fuzzer.

/// The rest of an input; yields zeros once it is used up.
pub(crate) struct Choices<'a>(&'a [u8]);

impl<'a> Choices<'a> {
    pub fn new(input: &'a [u8]) -> Self {
        Self(input)
    }

    pub fn are_over(&self) -> bool {
        self.0.is_empty()
    }

    /// Up to `length` bytes as they are.
    pub fn bytes(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// A number of `length` bytes.
    fn number(&mut self, length: usize) -> u64 {
        let mut padded = [0; 8];
        let taken = self.bytes(length);
        padded[..taken.len()].copy_from_slice(taken);
        u64::from_le_bytes(padded)
    }

    pub fn word(&mut self) -> u64 {
        self.number(8)
    }

    /// A number below `end`, read from as few bytes as that needs.
    pub fn below(&mut self, end: u64) -> u64 {
        let end = end.max(1);
        let bits = u64::BITS - (end - 1).leading_zeros();
        self.number(bits.div_ceil(8) as usize) % end
    }

    pub fn pick<'b, T>(&mut self, from: &'b [T]) -> Option<&'b T> {
        let at = self.below(from.len() as u64) as usize;
        from.get(at)
    }
}

/// `SplitMix64` (Steele, Lea, Flood 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }
}

/// Up to 768 bytes that follow from `seed`.
pub fn random(seed: u64) -> Vec<u8> {
    let mut random = Random(seed);
    let words = 1 + random.below(96);
    (0..words).flat_map(|_| random.next().to_le_bytes()).collect()
}

/// An input like `input`: a few bytes are changed, removed, added or repeated.
pub fn mutated(input: &[u8], seed: u64) -> Vec<u8> {
    let mut random = Random(seed);
    let mut bytes = input.to_vec();
    for _ in 0..=random.below(6) {
        let at = random.below(bytes.len() + 1);
        let end = (at + 1 + random.below(8)).min(bytes.len());
        match random.below(5) {
            0 if at < end => drop(bytes.drain(at..end)),
            1 => drop(bytes.splice(at..at, random.next().to_le_bytes())),
            2 if at < end => {
                let again = bytes[at..end].to_vec();
                let to = random.below(bytes.len() + 1);
                drop(bytes.splice(to..to, again));
            }
            3 if at < end => bytes[at] ^= 1 << random.below(8),
            _ if at < end => bytes[at] = random.next() as u8,
            _ => bytes.push(random.next() as u8),
        }
    }
    bytes
}
