//! The metrics of made-up families.

use super::*;
use crate::samples::{family, queue};
use procession_core::inspect::FamilySnapshot;

fn page(seen: FamilySnapshot) -> String {
    text(&Findings {
        seen,
        deadlocks: Vec::new(),
        warnings: Vec::new(),
        oldest: std::collections::HashMap::new(),
    })
}

#[test]
fn labels_are_escaped_and_steer_nothing() {
    let mut seen = family(10);
    seen.processes[0].name = "a\"b\\c\nd\u{202e}".to_owned();
    let text = page(seen);
    assert!(text.contains("pid=\"100\",name=\"a\\\"b\\\\c?d?\"}"), "{text}");
}

#[test]
fn the_number_of_series_is_bounded() {
    let mut seen = family(10);
    let process = |pid| ProcessSeen {
        pid,
        ..seen.processes[0].clone()
    };
    seen.processes = (1..=5_000).map(process).collect();
    seen.queues = (0..5_000).map(|cell| queue(cell, 0, 0)).collect();
    let text = page(seen);
    let series = text.lines().filter(|line| !line.starts_with('#')).count();
    assert!(series < 1_200, "{series}");
    assert!(text.contains("procession_left_out{root=\"100\",kind=\"queue\"} 4900\n"));
    assert!(text.contains("procession_left_out{root=\"100\",kind=\"process\"} 4900\n"));
}

#[test]
fn no_series_comes_twice() {
    let mut seen = family(10);
    let with = |pid, state| ProcessSeen {
        pid,
        state,
        ..seen.processes[0].clone()
    };
    let more = [
        with(0, ProcessState::Starting),
        with(0, ProcessState::Starting),
        with(200, ProcessState::Dead),
        with(200, ProcessState::Sleeping),
        with(200, ProcessState::Dead),
    ];
    seen.processes.extend(more);
    let text = page(seen);
    let series: Vec<&str> = text.lines().filter_map(|line| Some(line.rsplit_once(' ')?.0)).collect();
    let different: std::collections::HashSet<&&str> = series.iter().collect();
    assert_eq!(series.len(), different.len());
    assert!(text.contains("pid=\"200\"") && !text.contains("pid=\"0\""));
}
