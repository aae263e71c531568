//! A `Value` and an `Array` that four processes change.
//!
//! What to see: the value counts all four, and every element of the array is negated and halved.

mod common;
use procession::{spawn, Array, Value};

fn change((number, array, part): (Value<i32>, Array<f64>, i32)) {
    *number.lock().expect("no process dies holding it") += part;
    let first = usize::try_from(part - 1).expect("parts count from 1");
    for item in array
        .lock()
        .expect("no process dies holding it")
        .iter_mut()
        .skip(first)
        .step_by(4)
    {
        *item = -*item / 2.0;
    }
}

fn main() -> common::Outcome {
    common::start_method()?;
    let number = Value::new(100)?;
    let array = Array::new(&(0..12).map(f64::from).collect::<Vec<_>>())?;
    let mut children = Vec::new();
    for part in 1..=4 {
        children.push(spawn(change, (number.clone(), array.clone(), part))?);
    }
    for child in children {
        child.join()?;
    }
    println!("value: {}", number.get()?);
    println!("array: {:?}", array.to_vec()?);
    Ok(())
}
