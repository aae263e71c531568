//! A family as JSON. The names of the fields are stable, and documented in `docs/reference/command.md`.

use crate::findings::{Findings, Warning};
use crate::function;
use crate::text::{self, steers};
use procession_core::inspect::{Deadlock, HolderSeen, LockSeen, ObjectId, PoolSeen, ProcessSeen, QueueSeen, WaitSeen};
use serde_json::{json, Value};
use std::fmt::Write;

/// JSON as text. A character that a terminal would obey is escaped; only strings can have one.
pub(crate) fn text(value: &Value) -> String {
    let mut text = String::new();
    for char in format!("{value:#}").chars() {
        if char != '\n' && steers(char) {
            for unit in char.encode_utf16(&mut [0; 2]) {
                // Writing to a string does not fail.
                let _ = write!(text, "\\u{unit:04x}");
            }
        } else {
            text.push(char);
        }
    }
    text
}

/// A whole snapshot, and what is wrong in it.
pub fn family(found: &Findings) -> Value {
    let mut value = snapshot(found);
    if let Some(fields) = value.as_object_mut() {
        let deadlocks = found.deadlocks.iter().map(deadlock).collect();
        fields.insert("deadlocks".to_owned(), Value::Array(deadlocks));
        let warnings = found.warnings.iter().map(warning).collect();
        fields.insert("warnings".to_owned(), Value::Array(warnings));
    }
    value
}

fn deadlock(found: &Deadlock) -> Value {
    let sentences = text::deadlock(found);
    json!({
        "text": sentences.join("; "),
        "sentences": sentences,
        "members": found.members.iter().map(|member| json!({
            "pid": member.pid,
            "name": member.name,
            "thread": member.thread,
            "lock": member.lock.map(|id| id.to_string()),
            "lock_name": member.lock_name,
            "kind": member.kind,
            "made": member.made.as_ref().map(ToString::to_string),
            "for_ms": member.for_ms,
        })).collect::<Vec<_>>(),
    })
}

fn warning(found: &Warning) -> Value {
    json!({
        "kind": found.kind,
        "text": found.text,
        "object": found.object.map(|id| id.to_string()),
        "pids": found.pids,
    })
}

fn snapshot(found: &Findings) -> Value {
    let seen = &found.seen;
    let labelled = |id: ObjectId, mut object: Value| {
        object["name"] = json!(seen.name(id));
        object["made"] = json!(seen.made(id).map(ToString::to_string));
        object
    };
    let waiting = |id: ObjectId, fields: Value, waiters: &[u32]| {
        let mut object = labelled(id, json!({ "id": id.to_string(), "waiters": waiters }));
        if let (Some(object), Some(fields)) = (object.as_object_mut(), fields.as_object()) {
            object.extend(fields.clone());
        }
        object
    };
    json!({
        "root": seen.root,
        "processes": seen.processes.iter().map(process).collect::<Vec<_>>(),
        "ended": seen.ended.iter().map(|ended| json!({
            "pid": ended.pid,
            "name": ended.name,
            "exit_code": ended.exit_code,
        })).collect::<Vec<_>>(),
        "deaths": seen.deaths,
        "locks": seen.locks.iter().map(|one| labelled(one.id, lock(one))).collect::<Vec<_>>(),
        "semaphores": seen.semaphores.iter().map(|one| waiting(
            one.id,
            json!({ "value": one.value, "bound": one.bound }),
            &one.waiters,
        )).collect::<Vec<_>>(),
        "events": seen.events.iter().map(|one| waiting(
            one.id,
            json!({ "is_set": one.is_set }),
            &one.waiters,
        )).collect::<Vec<_>>(),
        "conditions": seen.conditions.iter().map(|one| waiting(
            one.id,
            json!({}),
            &one.waiters,
        )).collect::<Vec<_>>(),
        "barriers": seen.barriers.iter().map(|one| waiting(
            one.id,
            json!({ "parties": one.parties, "is_broken": one.is_broken }),
            &one.waiters,
        )).collect::<Vec<_>>(),
        "queues": seen.queues.iter().map(|one| labelled(one.id, queue(one, found.oldest.get(&one.id)))).collect::<Vec<_>>(),
        "pools": seen.pools.iter().map(|one| labelled(one.id, pool(one))).collect::<Vec<_>>(),
        "collections": seen.collections.iter().map(|one| labelled(
            one.id,
            json!({ "id": one.id.to_string(), "kind": one.kind }),
        )).collect::<Vec<_>>(),
        "memory": seen.memory.iter().map(|usage| json!({
            "kind": usage.kind,
            "count": usage.count,
            "bytes": usage.bytes,
        })).collect::<Vec<_>>(),
        "committed_bytes": seen.committed_bytes,
        "limit_bytes": seen.limit_bytes,
        "damaged": seen.damaged,
        "left_out": seen.left_out,
    })
}

fn process(seen: &ProcessSeen) -> Value {
    json!({
        "pid": seen.pid,
        "name": seen.name,
        "program": seen.program,
        "parent": seen.parent,
        "state": seen.state.name(),
        "start_method": seen.start_method,
        "role": seen.role,
        "age_ms": seen.age_ms,
        "cpu_ms": seen.cpu_ms,
        "threads": seen.threads,
        "private_bytes": seen.private_bytes,
        "shared_bytes": seen.shared_bytes,
        "owned_bytes": seen.owned_bytes,
        "waits": seen.waits.iter().map(wait).collect::<Vec<_>>(),
    })
}

fn wait(seen: &WaitSeen) -> Value {
    json!({
        "kind": seen.kind,
        "object": seen.object.map(|id| id.to_string()),
        "operation": seen.operation,
        "for_ms": seen.for_ms,
        "endless": seen.endless,
        "thread": seen.thread,
    })
}

fn lock(seen: &LockSeen) -> Value {
    json!({
        "id": seen.id.to_string(),
        "kind": seen.kind,
        "holder": seen.holder.as_ref().map(holder),
        "count": seen.count,
        "waiters": seen.waiters,
    })
}

fn holder(seen: &HolderSeen) -> Value {
    json!({ "pid": seen.pid, "name": seen.name, "thread": seen.thread })
}

fn queue(seen: &QueueSeen, oldest_ms: Option<&u64>) -> Value {
    json!({
        "id": seen.id.to_string(),
        "depth": seen.depth,
        "is_depth_exact": seen.is_depth_exact,
        "maxsize": seen.maxsize,
        "put": seen.put,
        "oldest_ms": oldest_ms,
        "tasks_done": seen.tasks_done,
        "getters": seen.getters,
        "putters": seen.putters,
        "joiners": seen.joiners,
    })
}

fn pool(seen: &PoolSeen) -> Value {
    let ms = |micros: u64| micros as f64 / 1_000.0;
    json!({
        "id": seen.id.to_string(),
        "state": seen.state,
        "queued": seen.queued,
        "running": seen.running,
        "uncollected": seen.uncollected,
        "done": seen.done,
        "failed": seen.failed,
        "median_ms": seen.median_us.map(ms),
        "p99_ms": seen.p99_us.map(ms),
        "workers_ended": seen.workers_ended,
        "is_complete": seen.is_complete,
        "workers": seen.workers.iter().map(|worker| json!({
            "pid": worker.pid,
            "is_ready": worker.is_ready,
            "tasks_done": worker.tasks_done,
            "item_ms": worker.item_ms,
            "busy_ms": worker.busy_ms,
            "tasks_failed": worker.tasks_failed,
            "function": worker.function.as_deref().and_then(function::name),
        })).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_steer_the_terminal() {
        let value = json!({ "name": "a\u{9b}\u{7f}\u{202e}\u{e0001}\u{1b}é" });
        let text = text(&value);
        assert_eq!(
            text,
            "{\n  \"name\": \"a\\u009b\\u007f\\u202e\\udb40\\udc01\\u001bé\"\n}"
        );
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
    }
}
