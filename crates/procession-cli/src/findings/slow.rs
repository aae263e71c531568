//! Tasks that take far longer than their pool's tasks usually do.

use super::Warning;
use crate::function;
use crate::text::{micros, time};
use procession_core::inspect::FamilySnapshot;

/// What takes less is not slow, however short the other tasks are.
const LEAST_MS: u64 = 1_000;

pub(super) fn tasks(seen: &FamilySnapshot, times: u64) -> Vec<Warning> {
    let mut found = Vec::new();
    for pool in &seen.pools {
        let Some(usual) = pool.p99_us else { continue };
        for worker in &pool.workers {
            let (Some(pid), Some(for_ms)) = (worker.pid, worker.item_ms) else {
                continue;
            };
            if for_ms < LEAST_MS || for_ms.saturating_mul(1_000) < usual.saturating_mul(times) {
                continue;
            }
            let of = worker.function.as_deref().and_then(function::name);
            let of = of.map_or(String::new(), |name| format!(" of {name}"));
            found.push(Warning {
                kind: "slow task",
                text: format!(
                    "worker {pid} of pool {} has run a task{of} for {}; 99% of the last ones took no longer than {}",
                    pool.id,
                    time(for_ms),
                    micros(usual)
                ),
                object: Some(pool.id),
                pids: vec![pid],
            });
        }
    }
    found
}
