//! Structs that derive `Plain`. What does not compile is in the examples below, which documentation tests check.

use procession::{Array, Mutex, Plain, RwLock, Shared};

#[derive(Clone, Copy, Debug, PartialEq, Plain)]
#[repr(C)]
struct Particle {
    place: [f64; 3],
    mass: f32,
    kind: u16,
    pair: Pair,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
#[repr(C, packed(1))]
struct Pair(u8, u8);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
#[repr(transparent)]
struct Id(u64);

fn particle(number: u16) -> Particle {
    Particle {
        place: [f64::from(number), 1.0, 2.0],
        mass: 0.5,
        kind: number,
        pair: Pair(3, 4),
    }
}

fn step((all, first, limit): (Array<Particle>, Mutex<Id>, RwLock<Particle>)) -> Shared<[Particle]> {
    let mut all = all.lock().unwrap();
    for one in all.iter_mut() {
        one.place[0] += limit.read().unwrap().place[1];
    }
    first.lock().unwrap().0 += 1;
    Shared::from_slice(&all).unwrap()
}

#[test]
fn structs_lie_in_shared_memory() {
    let all = Array::new(&[particle(0), particle(1)]).unwrap();
    let (first, limit) = (Mutex::new(Id(6)).unwrap(), RwLock::new(particle(9)).unwrap());
    let child = procession::spawn(step, (all.clone(), first.clone(), limit)).unwrap();
    let kept = child.join().unwrap();
    assert_eq!(
        kept[1],
        Particle {
            place: [2.0, 1.0, 2.0],
            ..particle(1)
        }
    );
    assert_eq!(*kept, *all.to_vec().unwrap());
    assert_eq!(first.get().unwrap(), Id(7));
}
