//! Operations of atomics that are made of other operations, shared by the models' atomics.

macro_rules! derived {
    ($number:ty) => {
        pub fn compare_exchange_weak(
            &self,
            from: $number,
            to: $number,
            done: Ordering,
            failed: Ordering,
        ) -> Result<$number, $number> {
            self.compare_exchange(from, to, done, failed)
        }

        pub fn fetch_update(
            &self,
            done: Ordering,
            failed: Ordering,
            mut change: impl FnMut($number) -> Option<$number>,
        ) -> Result<$number, $number> {
            let mut before = self.load(failed);
            while let Some(after) = change(before) {
                match self.compare_exchange(before, after, done, failed) {
                    Ok(_) => return Ok(before),
                    Err(now) => before = now,
                }
            }
            Err(before)
        }
    };
}
