//! The screen of `top`, on a backend that keeps what is drawn.

use super::state::State;
use super::view::draw;
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use procession_core::inspect::{
    FamilySnapshot, HolderSeen, LockSeen, ObjectId, ProcessSeen, ProcessState, QueueSeen, WaitSeen,
};
use ratatui::backend::TestBackend;
use ratatui::style::Color;
use ratatui::Terminal;
use std::time::{Duration, Instant};

fn process(pid: u32, name: &str, waits: Vec<WaitSeen>) -> ProcessSeen {
    ProcessSeen {
        pid,
        name: name.to_owned(),
        program: "python shop.py".to_owned(),
        parent: None,
        state: ProcessState::Sleeping,
        start_method: Some("fork"),
        role: None,
        age_ms: 65_000,
        cpu_ms: 500,
        threads: 1,
        private_bytes: 5 << 20,
        shared_bytes: 0,
        owned_bytes: 0,
        waits,
    }
}

fn queue(cell: u32, depth: u64, put: u64) -> QueueSeen {
    QueueSeen {
        id: ObjectId::new(cell, 0),
        depth,
        is_depth_exact: true,
        maxsize: 0,
        put,
        tasks_done: 0,
        getters: Vec::new(),
        putters: Vec::new(),
        joiners: Vec::new(),
    }
}

fn family(put: u64) -> FamilySnapshot {
    let lock = ObjectId::new(7, 1);
    let wait = WaitSeen {
        kind: "lock",
        object: Some(lock),
        operation: "acquire",
        for_ms: 5_100,
        endless: true,
    };
    FamilySnapshot {
        root: Some(100),
        processes: vec![
            process(100, "", Vec::new()),
            process(103, "alice\x1b[31m", vec![wait]),
            process(102, "bob", Vec::new()),
        ],
        locks: vec![LockSeen {
            id: lock,
            kind: "lock",
            made: None,
            holder: Some(HolderSeen {
                pid: Some(102),
                name: "bob".to_owned(),
                thread: 102,
            }),
            count: 1,
            waiters_bit: true,
            waiters: vec![103],
        }],
        queues: vec![queue(9, 4, put), queue(8, 12, 12)],
        ..FamilySnapshot::default()
    }
}

/// What is on the screen, a line each; and whether any colour is.
fn screen(state: &State, has_colour: bool, size: (u16, u16)) -> (Vec<String>, bool) {
    let mut terminal = Terminal::new(TestBackend::new(size.0, size.1)).unwrap();
    terminal.draw(|frame| draw(frame, state, has_colour)).unwrap();
    let buffer = terminal.backend().buffer();
    let is_coloured = buffer
        .content()
        .iter()
        .any(|cell| cell.fg != Color::Reset || cell.bg != Color::Reset);
    let lines = buffer.content().chunks(size.0.into());
    let text = |line: &[ratatui::buffer::Cell]| line.iter().map(ratatui::buffer::Cell::symbol).collect::<String>();
    (
        lines.map(|line| text(line).trim_end().to_owned()).collect(),
        is_coloured,
    )
}

fn press(state: &mut State, keys: &str) -> bool {
    keys.chars().any(|char| {
        let code = match char {
            '\n' => KeyCode::Enter,
            '\t' => KeyCode::Tab,
            other => KeyCode::Char(other),
        };
        state.press(KeyEvent::new(code, KeyModifiers::NONE))
    })
}

fn watching() -> State {
    let mut state = State::new();
    let start = Instant::now();
    state.see(family(10), start);
    state.see(family(30), start + Duration::from_secs(2));
    state
}

/// The first words of the rows on the screen.
fn first_words(state: &State) -> Vec<String> {
    let (lines, _) = screen(state, false, (80, 24));
    let rows = lines[3..23].iter().filter(|line| !line.is_empty());
    rows.map(|line| line.split(' ').next().unwrap().to_owned()).collect()
}

#[test]
fn everything_fits_80_columns_and_24_lines_without_colour() {
    let mut state = watching();
    let (lines, is_coloured) = screen(&state, false, (80, 24));
    assert!(!is_coloured);
    assert_eq!(
        lines[0],
        "python shop.py, 100: 3 processes, 0B shared, up 1m05s, 0 ended"
    );
    assert_eq!(lines[1], "1 processes (3)  2 queues (2)  3 locks (1)  4 pools (0)");
    assert_eq!(lines[2], "PID^     NAME             STATE    CPU%   PRIVATE  WAITS FOR");
    assert_eq!(
        lines[5],
        "103      alice?[31m       sleeping 0.0    5.0M     acquire lock 7.1 5.1s (102)"
    );
    assert_eq!(
        lines[23],
        "q quit  1-4 Tab table  s sort  r reverse  / filter  Space pause"
    );
    press(&mut state, "3");
    assert!(!screen(&state, false, (80, 24)).1 && screen(&state, true, (80, 24)).1);
    let (lines, _) = screen(&state, false, (80, 24));
    assert_eq!(lines[3], "7.1        lock   102 bob              103          -");
}

#[test]
fn queues_have_rates() {
    let mut state = watching();
    press(&mut state, "\t");
    let (lines, _) = screen(&state, false, (80, 24));
    let row = lines.iter().find(|line| line.starts_with("9.0")).unwrap();
    let cells: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(cells, ["9.0", "4", "-", "10", "10", "-", "-"]);
}

#[test]
fn rows_are_sorted_reversed_and_filtered() {
    let mut state = watching();
    assert_eq!(first_words(&state), ["100", "102", "103"]);
    press(&mut state, "r");
    assert_eq!(first_words(&state), ["103", "102", "100"]);
    press(&mut state, "2s");
    assert_eq!(first_words(&state), ["9.0", "8.0"], "by depth: 4, 12");
    press(&mut state, "1/BOB\n");
    assert_eq!(first_words(&state), ["102"]);
    let (lines, _) = screen(&state, false, (80, 24));
    assert!(lines[23].starts_with("[BOB]"));
}

#[test]
fn keys_leave_only_where_they_are_no_text() {
    let mut state = watching();
    assert!(!press(&mut state, "/q"));
    assert_eq!(state.filter, "q");
    assert!(!state.press(KeyEvent::new(KeyCode::Esc, KeyModifiers::NONE)));
    assert_eq!(state.filter, "");
    assert!(press(&mut state, "q"));
    assert!(state.press(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)));
}

#[test]
fn an_ended_family_stays_on_the_screen() {
    let mut state = watching();
    state.end("the family of process 100 has ended".to_owned());
    let (lines, _) = screen(&state, false, (80, 24));
    assert!(lines[23].starts_with("the family of process 100 has ended"));
    assert_eq!(first_words(&state).len(), 3);
}

#[test]
fn any_size_of_the_terminal_will_do() {
    let mut state = watching();
    for shown in ["1", "2", "3", "4"] {
        press(&mut state, shown);
        for size in [(1, 1), (10, 3), (30, 5), (250, 80)] {
            screen(&state, true, size);
        }
    }
}
