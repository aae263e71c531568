//! What a compact message has instead of the names of a struct's fields: a number made of them.

/// The number of the names so far.
///
/// Two lists of names have different numbers, but for one in four billion. The texts, their lengths and their order
/// count.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Names(u64);

impl Names {
    pub(super) fn of(names: &[&str]) -> Self {
        let mut all = Self::default();
        for name in names {
            all.add(name);
        }
        all
    }

    #[inline]
    pub(super) fn add(&mut self, name: &str) {
        let mut number = self.0 ^ (name.len() as u64 + 1);
        for chunk in name.as_bytes().chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            // The multiplier of Fibonacci hashing: 2^64 divided by the golden ratio.
            number = (number.rotate_left(29) ^ u64::from_le_bytes(word)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
        self.0 = number.rotate_left(29).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    pub(super) fn to_bytes(self) -> [u8; 4] {
        ((self.0 >> 32) as u32).to_le_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{append, unpack, Compact};
    use super::Names;
    use serde::de::IgnoredAny;
    use serde::{Deserialize, Serialize};

    #[derive(Debug, Serialize, Deserialize, PartialEq)]
    struct SkipsOnOneSide {
        #[serde(skip_serializing, default)]
        a: u32,
        b: u32,
        #[serde(skip_deserializing)]
        c: u32,
    }

    #[derive(Debug, Serialize, Deserialize, PartialEq)]
    enum Renamed {
        Struct {
            #[serde(rename(serialize = "there"))]
            here: u8,
        },
    }

    /// A type that writes what others read.
    #[derive(Serialize)]
    struct TwoNamed {
        a: u32,
        b: u32,
    }

    /// [`TwoNamed`] with its fields in another order.
    #[derive(Debug, Deserialize, PartialEq)]
    struct Turned {
        b: u32,
        a: u32,
    }

    #[test]
    fn a_compact_with_other_fields_is_refused_even_if_their_number_is_right() {
        let refused = |error: crate::Error, name: &str| {
            let (error, start) = (error.to_string(), format!("a compact {name} has other fields"));
            assert!(error.contains(&start), "{error}");
        };
        let skips = SkipsOnOneSide { a: 1, b: 2, c: 3 };
        let bytes = append(Vec::new(), &skips).unwrap();
        assert_eq!(
            unpack::<SkipsOnOneSide>(&bytes, Vec::new()).unwrap(),
            SkipsOnOneSide { a: 0, b: 2, c: 0 }
        );
        let bytes = append(Vec::new(), &Compact(skips)).unwrap();
        refused(
            unpack::<SkipsOnOneSide>(&bytes, Vec::new()).unwrap_err(),
            "SkipsOnOneSide",
        );
        let bytes = append(Vec::new(), &Compact(Renamed::Struct { here: 1 })).unwrap();
        refused(unpack::<Renamed>(&bytes, Vec::new()).unwrap_err(), "variant");
        let bytes = append(Vec::new(), &Compact(TwoNamed { a: 1, b: 2 })).unwrap();
        refused(unpack::<Turned>(&bytes, Vec::new()).unwrap_err(), "Turned");
        let bytes = append(Vec::new(), &(Compact(TwoNamed { a: 1, b: 2 }), 3)).unwrap();
        let (IgnoredAny, three): (_, u8) = unpack(&bytes, Vec::new()).unwrap();
        assert_eq!(three, 3);
    }

    #[test]
    fn lists_of_names_have_different_numbers() {
        let lists: [&[&str]; 9] = [
            &[],
            &[""],
            &["", ""],
            &["a", "b"],
            &["b", "a"],
            &["ab"],
            &["ab", ""],
            &["a name of 18 bytes"],
            &["a name of 18 byteS"],
        ];
        let mut numbers = lists.map(|list| Names::of(list).to_bytes());
        numbers.sort_unstable();
        assert!(numbers.windows(2).all(|two| two[0] != two[1]), "{numbers:?}");
    }
}
