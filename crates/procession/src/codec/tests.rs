//! Values to bytes and back, and what is sent along. The file is long because its values, of every kind of serde's
//! model, are used by several tests.

use super::*;
use rustix::pipe::{pipe_with, PipeFlags};
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer, Serializer};
use std::os::fd::AsFd;

/// Sends a descriptor and a handle along, as a shared type would.
struct Both(OwnedFd);

impl Serialize for Both {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        assert!(handle(Handle::from_bits(77).expect("not zero")));
        let number = fd(self.0.as_fd())
            .expect("it can be duplicated")
            .expect("a message is being packed");
        number.serialize(to)
    }
}

impl<'de> Deserialize<'de> for Both {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let number = u32::deserialize(from)?;
        let fd = take_fd(number).map_err(serde::de::Error::custom)?;
        fd.map(Self)
            .ok_or_else(|| serde::de::Error::custom("no such descriptor"))
    }
}

#[test]
fn handles_and_descriptors_go_along() {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    let encoded = collect(vec![9], &(1u8, Both(writer), "text")).unwrap();
    assert_eq!(encoded.bytes[0], 9);
    assert_eq!(encoded.handles, [Handle::from_bits(77).unwrap()]);
    assert_eq!(encoded.fds.len(), 1);
    let (one, both, text): (u8, Both, String) = unpack(&encoded.bytes[1..], encoded.fds).unwrap();
    assert_eq!((one, text.as_str()), (1, "text"));
    drop(both);
    assert_eq!(
        std::io::read_to_string(std::fs::File::from(reader)).unwrap(),
        "",
        "the end of the file: no other copy is open"
    );
}

#[test]
fn nothing_is_attached_without_a_message() {
    assert!(!handle(Handle::from_bits(1).unwrap()));
    assert_eq!(fd(std::io::stdin().as_fd()).unwrap(), None);
    assert!(take_fd(0).unwrap().is_none());
    assert!(matches!(
        unpack::<String>(&[format::END], Vec::new()),
        Err(Error::Decode { .. })
    ));
}

/// Bytes and back; nothing may be left.
fn again<T: Serialize + DeserializeOwned>(value: &T) -> T {
    let bytes = append(Vec::new(), value).unwrap();
    let skipped = take::<IgnoredAny>(&bytes).unwrap();
    assert!(skipped.1.is_empty(), "passing over reads as far as reading");
    unpack(&bytes, Vec::new()).unwrap()
}

fn same<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(value: T) {
    assert_eq!(again(&value), value);
    let bytes = append(Vec::new(), &Compact(&value)).unwrap();
    let Compact(compact) = unpack::<Compact<T>>(&bytes, Vec::new()).unwrap();
    assert_eq!(compact, value);
}

#[derive(Debug, PartialEq, Default, Serialize, Deserialize)]
struct Skips {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    a: Option<u32>,
    b: u32,
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    c: Vec<u32>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Ordinary {
    number: i64,
    text: String,
    unit: (),
    nested: Option<Box<Ordinary>>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Unit;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Wrapped(u8);

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Pair(u8, String);

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Plainly {
    Unit,
    New(u64),
    Tuple(u8, u8),
    Struct { a: u8, b: Option<Unit> },
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Untagged {
    Number(i64),
    Flag(bool),
    Text(String),
    Struct(Ordinary),
    Nothing,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind")]
enum Internal {
    Empty,
    Address { of: std::net::IpAddr },
    Struct(Ordinary),
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "data")]
enum Adjacent {
    Empty,
    Number(u64),
    Struct { a: u8 },
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Flattened {
    first: u8,
    #[serde(flatten)]
    plain: Ordinary,
    #[serde(flatten)]
    rest: std::collections::BTreeMap<String, Plainly>,
}

fn plain() -> Ordinary {
    let nested = Ordinary {
        number: i64::MIN,
        text: String::new(),
        unit: (),
        nested: None,
    };
    Ordinary {
        number: 300,
        text: "ä".repeat(100),
        unit: (),
        nested: Some(Box::new(nested)),
    }
}

#[test]
fn values_of_all_types_arrive() {
    same((u8::MAX, u16::MAX, u32::MAX, u64::MAX, u128::MAX));
    same((i8::MIN, i16::MIN, i32::MIN, i64::MIN, i128::MIN));
    same((0_u8, 127_u8, 128_u8, -1_i8, 127_i32, 128_i32, i128::MAX, 1_i128));
    same((1.5_f32, -0.0_f64, f64::INFINITY, true, false, 'ä', "text".to_owned()));
    assert!(again(&f64::NAN).is_nan());
    same(((), Unit, Wrapped(200), Pair(1, "b".into()), [1_u16; 3]));
    same((None::<u8>, Some(1_u8), Some(None::<u8>), Some(Some(())), Some(Unit)));
    same(plain());
    same(vec![Plainly::Unit, Plainly::New(1 << 40), Plainly::Tuple(1, 2)]);
    same([
        Plainly::Struct { a: 9, b: Some(Unit) },
        Plainly::Struct { a: 9, b: None },
    ]);
    same(std::collections::HashMap::from([(
        (1, 'a'),
        vec![Ok::<u8, String>(1), Err("e".into())],
    )]));
    same((
        std::time::Duration::from_nanos(5),
        std::time::SystemTime::now(),
        "::1".parse::<std::net::IpAddr>().unwrap(),
    ));
    same((std::ffi::OsString::from("name"), std::path::PathBuf::from("/a")));
}

#[test]
fn types_that_name_themselves_arrive() {
    for value in [
        Untagged::Number(-7),
        Untagged::Flag(true),
        Untagged::Text("t".into()),
        Untagged::Struct(plain()),
        Untagged::Nothing,
    ] {
        assert_eq!(again(&value), value);
    }
    let of = "10.0.0.1".parse().unwrap();
    for value in [Internal::Empty, Internal::Address { of }, Internal::Struct(plain())] {
        assert_eq!(again(&value), value);
    }
    for value in [Adjacent::Empty, Adjacent::Number(7), Adjacent::Struct { a: 1 }] {
        assert_eq!(again(&value), value);
    }
    let rest = [
        ("u", Plainly::Unit),
        ("n", Plainly::New(3)),
        ("s", Plainly::Struct { a: 1, b: None }),
        ("t", Plainly::Tuple(1, 2)),
    ];
    let value = Flattened {
        first: 1,
        plain: plain(),
        rest: rest.into_iter().map(|(key, value)| (key.to_owned(), value)).collect(),
    };
    assert_eq!(again(&value), value);
    let json: serde_json::Value =
        serde_json::from_str(r#"{"a": [1, -2, 3.5, null, true, "x"], "b": {"c": {}}}"#).unwrap();
    assert_eq!(again(&json), json);
    assert_eq!(again(&vec![Some(json.clone()), None]), [Some(json), None]);
}

#[test]
fn a_field_that_is_left_out_changes_no_other() {
    let left_out = Skips {
        a: None,
        b: 0,
        c: vec![1, 7],
    };
    assert_eq!(
        again(&left_out),
        left_out,
        "postcard makes of it {{ a: None, b: 2, c: [7] }}"
    );
    same(Skips {
        a: Some(1),
        b: 2,
        c: vec![3],
    });
    let error = append(Vec::new(), &Compact(left_out)).unwrap_err().to_string();
    assert_eq!(error, "the field `a` is left out, which a Compact cannot express");
}

/// As [`Skips`] is written by a type of another shape.
#[derive(Serialize)]
struct Two {
    a: u32,
    b: u32,
}

#[test]
fn a_compact_that_depends_on_names_is_refused() {
    let refused = |bytes: Vec<u8>, text: &str| {
        let error = unpack::<Untagged>(&bytes, Vec::new()).unwrap_err().to_string();
        assert!(error.contains(text), "{error}");
    };
    refused(
        append(Vec::new(), &Compact(Untagged::Struct(plain()))).unwrap(),
        "a Compact carries no flattened struct",
    );
    let bytes = append(Vec::new(), &Compact(Two { a: 1, b: 2 })).unwrap();
    let error = unpack::<Skips>(&bytes, Vec::new()).unwrap_err().to_string();
    assert!(error.contains("a compact Skips has 2 fields instead of 3"), "{error}");
}

/// A sequence of two items, which announces `0` of them.
struct Announces(Option<usize>);

impl Serialize for Announces {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeSeq;
        let mut items = to.serialize_seq(self.0)?;
        items.serialize_element(&1_u8)?;
        items.serialize_element("two")?;
        items.end()
    }
}

#[test]
fn sequences_need_not_know_their_length_but_must_not_lie() {
    let read = |announced| {
        let bytes = append(Vec::new(), &Announces(announced)).unwrap();
        unpack::<(u8, String)>(&bytes, Vec::new()).unwrap()
    };
    assert_eq!(read(None), (1, "two".into()));
    assert_eq!(read(Some(2)), (1, "two".into()), "a byte, then none");
    for wrong in [0, 1, 3] {
        let error = append(Vec::new(), &Announces(Some(wrong))).unwrap_err().to_string();
        assert!(
            error.contains(&format!("announces {wrong} parts and writes 2")),
            "{error}"
        );
    }
}

#[test]
fn bytes_take_a_byte_each() {
    for length in [0, 1, 127, 128, 70_000] {
        let bytes: Vec<u8> = (0..length).map(|n| n as u8).collect();
        let packed = append(Vec::new(), &bytes).unwrap();
        assert!(packed.len() <= bytes.len() + 4);
        assert_eq!(unpack::<Vec<u8>>(&packed, Vec::new()).unwrap(), bytes);
    }
    same([7_u8; 32]);
    same(vec![Wrapped(1), Wrapped(255)]);
    same(vec![true, false]);
    same(vec![-1_i8, 1]);
    same(vec![Plainly::Unit]);
    // serde knows a tuple of bytes and texts from a sequence only by its items.
    same((1_u8, 255_u8, "text".to_owned(), 2_u8));
}

#[test]
fn numbers_of_one_type_take_their_width_each() {
    fn run<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(items: Vec<T>) {
        let bytes = append(Vec::new(), &items).unwrap();
        let header = if items.len() < 128 { 2 } else { 3 };
        assert_eq!(bytes.len(), header + std::mem::size_of_val(&items[..]));
        same(items);
    }

    for length in [1, 2, 9000] {
        let numbers = || (0..length).map(|number: u64| number.wrapping_mul(0x0123_4567_89ab_cdef));
        run(numbers().map(|number| number as u8).collect());
        run(numbers().map(|number| number as u16).collect());
        run(numbers().map(|number| number as u32).collect());
        run(numbers().collect());
        run(numbers().map(|number| number as i8).collect());
        run(numbers().map(|number| number as i16).collect());
        run(numbers().map(|number| number as i32).collect());
        run(numbers().map(|number| number as i64).collect());
        run(numbers().map(|number| number as usize).collect());
        run(numbers().map(|number| number as isize).collect());
        run(numbers().map(|number| number as f32).collect());
        run(numbers().map(|number| number as f64).collect());
    }
    same((vec![0_u64; 0], vec![u128::MAX, 1], vec![i128::MIN, 1], vec!['a', 'b']));
    same([f64::MIN, 0.0, f64::MAX]);
    same(std::collections::BTreeSet::from([-1_i16, 0, 300]));
    same(std::collections::VecDeque::from([1_u32, 2]));
}

/// Numbers of a type that the receiver does not name arrive as they do one by one.
#[test]
fn a_run_arrives_as_any_sequence() {
    let read = |bytes: Vec<u8>| unpack::<serde_json::Value>(&bytes, Vec::new()).unwrap();
    let both = [i64::MIN, -1, 0, 1, i64::MAX];
    assert_eq!(read(append(Vec::new(), &both).unwrap()), serde_json::json!(both));
    let floats = vec![0.5_f32, -1.5];
    assert_eq!(read(append(Vec::new(), &floats).unwrap()), serde_json::json!(floats));
    let bytes = append(Vec::new(), &vec![200_u8, 1]).unwrap();
    assert_eq!(
        unpack::<Vec<Option<u64>>>(&bytes, Vec::new()).unwrap(),
        [Some(200), Some(1)]
    );
    assert_eq!(
        unpack::<Vec<Wrapped>>(&bytes, Vec::new()).unwrap(),
        [Wrapped(200), Wrapped(1)]
    );
    assert_eq!(
        unpack::<Vec<Untagged>>(&bytes, Vec::new()).unwrap()[1],
        Untagged::Number(1)
    );
    assert_eq!(unpack::<(IgnoredAny, u8)>(&bytes, Vec::new()).unwrap().1, 1);
    assert!(unpack::<Vec<i8>>(&bytes, Vec::new()).is_err(), "200 is no i8");
    assert!(unpack::<Vec<String>>(&bytes, Vec::new()).is_err());
    assert!(unpack::<[u8; 1]>(&bytes, Vec::new()).is_err());
    assert!(unpack::<[u8; 3]>(&bytes, Vec::new()).is_err());
}

/// Tuples begin like runs up to the first item of another type, wherever it is.
#[test]
fn a_run_that_ends_early_is_a_sequence_of_values() {
    same((7_u64, 0.5_f64, 2_u32));
    same((-7_i64, 300_i64, -70_000_i64, "text".to_owned()));
    same((-7_i16, 300_i16, 3_i32, -4_i32));
    same((-7_i8, 7_i8, ()));
    same((1_u16, 1000_u16, 1_u32));
    same((1_u32, 1 << 31_u32, 1_u64));
    same((0.5_f32, 1.5_f32, 0.5_f64));
    same((0.5_f64, 1.5_f64, Some(1)));
}

#[test]
fn a_run_that_is_cut_or_counts_too_much_is_an_error() {
    let bytes = append(Vec::new(), &vec![1_u64, 2, 3]).unwrap();
    for length in 0..bytes.len() {
        assert!(unpack::<Vec<u64>>(&bytes[..length], Vec::new()).is_err());
        assert!(take::<IgnoredAny>(&bytes[..length]).is_err());
    }
    for count in [4, 24, 127] {
        let mut bytes = bytes.clone();
        bytes[1] = count;
        assert!(unpack::<Vec<u64>>(&bytes, Vec::new()).is_err());
    }
    let mut endless = vec![format::U64 | format::RUN];
    endless.extend([0xff; 8]);
    endless.extend([0x7f; 100]);
    assert!(unpack::<Vec<u64>>(&endless, Vec::new()).is_err());
    for tag in [format::U128, format::CHAR, format::SEQ, format::END] {
        assert!(
            unpack::<Vec<u64>>(&[tag | format::RUN, 0], Vec::new()).is_err(),
            "no runs of {tag:#x}"
        );
    }
}

/// An iterator's items, which `Serialize` hands on with a hint that is wrong.
struct Hints(usize);

impl Serialize for Hints {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        struct WrongHint(usize, u64);
        impl Iterator for WrongHint {
            type Item = u64;
            fn next(&mut self) -> Option<u64> {
                self.1 = self.1.checked_sub(1)?;
                Some(self.1)
            }
            fn size_hint(&self) -> (usize, Option<usize>) {
                (self.0, Some(self.0))
            }
        }
        to.collect_seq(WrongHint(self.0, 5))
    }
}

#[test]
fn an_iterator_must_not_lie_about_its_length() {
    assert_eq!(
        unpack::<Vec<u64>>(&append(Vec::new(), &Hints(5)).unwrap(), Vec::new()).unwrap(),
        [4, 3, 2, 1, 0]
    );
    for wrong in [0, 1, 4, 6, usize::MAX] {
        let error = append(Vec::new(), &Hints(wrong)).unwrap_err().to_string();
        assert!(
            error.contains(&format!("announces {wrong} parts and writes 5")),
            "{error}"
        );
    }
}

#[test]
fn the_texts_of_errors_arrive() {
    #[derive(Debug)]
    struct Picky;

    impl Serialize for Picky {
        fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("not on a Monday"))
        }
    }

    impl<'de> Deserialize<'de> for Picky {
        fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
            Err(serde::de::Error::custom("nor on a Friday"))
        }
    }

    let error = collect(Vec::new(), &Picky).unwrap_err().to_string();
    assert!(
        error.contains("Picky cannot be sent to another process: not on a Monday"),
        "{error}"
    );
    let error = unpack::<Picky>(&[0], Vec::new()).unwrap_err().to_string();
    assert!(error.contains("Picky: nor on a Friday"), "{error}");
    let error = unpack::<(u8, u8)>(&append(Vec::new(), &(1, 2, 3)).unwrap(), Vec::new())
        .unwrap_err()
        .to_string();
    assert!(error.contains("it has more items than expected"), "{error}");
    let error = unpack::<u8>(&append(Vec::new(), &256).unwrap(), Vec::new())
        .unwrap_err()
        .to_string();
    assert!(error.contains("invalid value: integer `256`, expected u8"), "{error}");
}

fn json() -> impl proptest::strategy::Strategy<Value = serde_json::Value> {
    use proptest::prelude::*;
    use serde_json::Value;
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<u8>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        (-1e300..1e300).prop_map(|float: f64| Value::from(float)),
        ".{0,9}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
            prop::collection::btree_map(".{0,5}", inner, 0..8).prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

type Types = (serde_json::Value, Ordinary, Plainly, Option<Vec<f64>>);

proptest::proptest! {
    #[test]
    fn any_value_arrives(value in json()) {
        proptest::prop_assert_eq!(again(&value), value);
    }

    #[test]
    fn changed_bytes_are_a_value_or_an_error(value in json(), at in 0..1000_usize, byte: u8) {
        let mut bytes = append(Vec::new(), &(value, plain(), Plainly::Tuple(1, 2), Some(vec![1.5_f64, 2.5]))).unwrap();
        let at = at % bytes.len();
        bytes[at] = byte;
        // Whatever it is, nothing but this one value was read, and passing over it ends, too.
        let _ = unpack::<Types>(&bytes, Vec::new());
        let _ = unpack::<Flattened>(&bytes, Vec::new());
        let _ = take::<IgnoredAny>(&bytes);
        bytes.truncate(at);
        proptest::prop_assert!(unpack::<Types>(&bytes, Vec::new()).is_err());
    }
}

#[test]
fn a_deep_value_is_passed_over_without_recursion() {
    let mut bytes = vec![format::SOME; 1_000_000];
    bytes.push(0);
    assert!(take::<IgnoredAny>(&bytes).unwrap().1.is_empty());
    assert!(take::<IgnoredAny>(&bytes[1..1_000_000]).is_err());
}
