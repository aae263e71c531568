//! The crate's codec against those of other crates: time to pack and unpack, and bytes, of a few kinds of values.
//! Prints one row for each. `make bench-rust` runs it.

use serde::{de::DeserializeOwned, Deserialize, Serialize};
use std::hint::black_box;
use std::time::{Duration, Instant};

/// The codec's own files: its functions are not public.
#[path = "../../../../crates/procession/src/codec"]
mod codec {
    mod de;
    mod format;
    mod names;
    mod scalar;
    mod ser;

    use serde::{de::DeserializeOwned, Serialize};

    pub fn pack<T: Serialize>(value: &T) -> Vec<u8> {
        let mut writer = ser::Writer::new(Vec::new());
        value.serialize(&mut writer).unwrap();
        writer.into_bytes()
    }

    pub fn unpack<T: DeserializeOwned>(bytes: &[u8]) -> T {
        let mut reader = de::Reader::new(bytes);
        let value = T::deserialize(&mut reader).unwrap();
        assert!(reader.rest().is_empty());
        value
    }
}

#[derive(Clone, Serialize, Deserialize)]
struct Sample {
    time: u64,
    sequence: u64,
    position: [f64; 3],
    sensor: u32,
    flags: u32,
    level: f32,
    valid: bool,
}

#[derive(Clone, Serialize, Deserialize)]
enum Event {
    Opened { path: String, size: u64 },
    Closed(u64),
    Idle,
}

fn main() {
    let sample = Sample {
        time: 1_700_000_000_000_000,
        sequence: 77_777,
        position: [1.5, -2.5, 1e9],
        sensor: 3,
        flags: 0xffff_0000,
        level: 0.5,
        valid: true,
    };
    let opened = Event::Opened {
        path: "/var/log/messages".into(),
        size: 1 << 33,
    };
    println!(
        "{:28} {:>12} {:>9} {:>9} {:>9}",
        "value", "codec", "bytes", "pack", "unpack"
    );
    compare("[u8; 64] as Vec<u8>", &(0..64).map(|n| n * 3).collect::<Vec<u8>>());
    compare("[u64; 8]", &[1_u64 << 40; 8]);
    compare("struct of 64 bytes", &sample);
    compare("the same, Compact", &procession::Compact(sample.clone()));
    compare("3 enums", &[opened, Event::Closed(9), Event::Idle]);
    compare("1000 structs", &vec![sample; 1000]);
    compare(
        "1 MB as Vec<u8>",
        &(0..1_000_000_u32).map(|n| n as u8).collect::<Vec<u8>>(),
    );
    compare("100,000 f64", &(0..100_000).map(f64::from).collect::<Vec<f64>>());
}

fn compare<T: Serialize + DeserializeOwned>(value: &str, one: &T) {
    row(value, "procession", one, codec::pack, codec::unpack);
    row(
        value,
        "postcard",
        one,
        |one| postcard::to_allocvec(one).unwrap(),
        |bytes| postcard::from_bytes(bytes).unwrap(),
    );
    row(
        value,
        "rmp named",
        one,
        |one| rmp_serde::to_vec_named(one).unwrap(),
        |bytes| rmp_serde::from_slice(bytes).unwrap(),
    );
    let to_cbor = |one: &T| {
        let mut bytes = Vec::new();
        ciborium::into_writer(one, &mut bytes).unwrap();
        bytes
    };
    row(value, "ciborium", one, to_cbor, |bytes| {
        ciborium::from_reader(bytes).unwrap()
    });
}

fn row<T>(value: &str, codec: &str, one: &T, pack: impl Fn(&T) -> Vec<u8>, unpack: impl Fn(&[u8]) -> T) {
    let bytes = pack(one);
    let packing = time(|| drop(black_box(pack(black_box(one)))));
    let unpacking = time(|| drop(black_box(unpack(black_box(&bytes)))));
    println!(
        "{value:28} {codec:>12} {:>9} {packing:>9.0?} {unpacking:>9.0?}",
        bytes.len()
    );
}

/// The best of several runs of 20 ms.
fn time(mut f: impl FnMut()) -> Duration {
    let mut rounds = 1;
    let mut best = Duration::MAX;
    for _ in 0..8 {
        loop {
            let begin = Instant::now();
            for _ in 0..rounds {
                f();
            }
            let took = begin.elapsed();
            best = best.min(took / rounds);
            if took > Duration::from_millis(20) {
                break;
            }
            rounds *= 2;
        }
    }
    best
}
