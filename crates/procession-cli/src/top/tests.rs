//! The screen of `top`, on a backend that keeps what is drawn.

use super::state::{State, Wish};
use super::view::draw;
use crate::findings::Limits;
use crate::samples::{deadlocked, family, pool};
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use procession_core::inspect::EndedProcess;
use ratatui::backend::TestBackend;
use ratatui::style::Color;
use ratatui::Terminal;
use std::time::{Duration, Instant};

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
    let mut state = State::new(Limits::default());
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
    assert_eq!(
        lines[1],
        "1 processes(3) 2 queues(2) 3 locks(1) 4 pools(0) 5 deaths(0) 6 warnings(0)"
    );
    assert_eq!(
        lines[2],
        "PID^    NAME             STATE    CPU%  PRIVATE SHARED RUNS, WAITS FOR"
    );
    assert_eq!(
        lines[5],
        "103     alice?[31m       sleeping 0.0   5.0M    0B     lock 7.1 5.1s (102)"
    );
    assert_eq!(
        lines[23],
        "q quit  1-6 table  Enter page  s stack  t trace  o r sort  / filter  Space stop"
    );
    press(&mut state, "3");
    assert!(!screen(&state, false, (80, 24)).1 && screen(&state, true, (80, 24)).1);
    let (lines, _) = screen(&state, false, (80, 24));
    assert_eq!(
        lines[3],
        "7.1        lock   102 bob              103          5.1s    -"
    );
}

#[test]
fn queues_have_rates() {
    let mut state = watching();
    press(&mut state, "\t");
    let (lines, _) = screen(&state, false, (80, 24));
    let row = lines.iter().find(|line| line.starts_with("9.0")).unwrap();
    let cells: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(cells, ["9.0", "4", "-", "10", "10", "-", "-", "-"]);
}

#[test]
fn rows_are_sorted_reversed_and_filtered() {
    let mut state = watching();
    assert_eq!(first_words(&state), ["100", "102", "103"]);
    press(&mut state, "r");
    assert_eq!(first_words(&state), ["103", "102", "100"]);
    press(&mut state, "2o");
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
    for shown in ["1", "2", "3", "4", "5", "6"] {
        press(&mut state, shown);
        for size in [(1, 1), (10, 3), (30, 5), (250, 80)] {
            screen(&state, true, size);
        }
    }
}

#[test]
fn a_deadlock_is_shown_on_every_table() {
    let mut state = State::new(Limits::default());
    let start = Instant::now();
    state.see(deadlocked(100_000), start);
    assert!(!screen(&state, false, (80, 24)).0[1].contains("DEADLOCK"));
    state.see(deadlocked(101_000), start + Duration::from_secs(1));
    let (lines, _) = screen(&state, false, (80, 24));
    assert!(lines[1].ends_with("6 DEADLOCK(1)"), "{}", lines[1]);
    press(&mut state, "6");
    let (lines, _) = screen(&state, false, (80, 24));
    let rows = &lines[3..5];
    assert_eq!(
        rows,
        [
            "deadlock             alice?[31m (103) holds lock 8.1; bob (102) waits 6.1s",
            "deadlock             bob (102) holds lock 7.1; alice?[31m (103) waits 6.1s",
        ]
    );
}

#[test]
fn wide_characters_keep_the_columns() {
    let mut seen = family(10);
    seen.processes[0].name = "\u{5b57}\u{5b57}\u{1f600}e\u{301}".to_owned();
    let mut state = State::new(Limits::default());
    state.see(seen, Instant::now());
    let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
    terminal.draw(|frame| draw(frame, &state, false)).unwrap();
    let buffer = terminal.backend().buffer();
    let at = |line: u16, column: u16| buffer.cell((column, line)).unwrap().symbol();
    // Behind the name's 16 columns: the state.
    assert_eq!((at(3, 25), at(4, 25), at(3, 8)), ("s", "s", "\u{5b57}"));
}

#[test]
fn a_process_has_a_page() {
    let mut state = watching();
    state.press(KeyEvent::new(KeyCode::Down, KeyModifiers::NONE));
    press(&mut state, "\n");
    let (lines, is_coloured) = screen(&state, false, (80, 24));
    assert!(!is_coloured);
    assert_eq!(lines[2], "process    bob (102)");
    assert!(
        lines.contains(&"holds      lock 7.1, 1 waiting".to_owned()),
        "{lines:?}"
    );
    assert!(lines[23].starts_with("Esc back"));
    press(&mut state, "s");
    assert_eq!(state.take_wish(), Some(Wish::Stack(102)));
    assert!(screen(&state, false, (80, 24))
        .0
        .contains(&"stacks: looking".to_owned()));
    state.set_stack(103, Err("another's".to_owned()));
    state.set_stack(102, Err("no python".to_owned()));
    let lines = screen(&state, false, (80, 24)).0;
    assert!(lines.contains(&"  no stack: no python".to_owned()), "{lines:?}");
    let mut seen = family(40);
    seen.processes.truncate(1);
    state.see(seen, Instant::now());
    assert_eq!(screen(&state, false, (80, 24)).0[2], "process 102 is gone");
    assert!(!state.press(KeyEvent::new(KeyCode::Esc, KeyModifiers::NONE)));
    assert_eq!(first_words(&state), ["100"]);
}

#[test]
fn pools_show_times_and_failures_and_workers_what_they_run() {
    let mut seen = family(10);
    let mut pool = pool(&[102, 103]);
    (pool.done, pool.failed, pool.workers_ended) = (12, 3, 1);
    (pool.median_us, pool.p99_us) = (Some(900), Some(2_000_000));
    pool.workers[0].item_ms = Some(4_000);
    pool.workers[0].function = Some(b"\x80\x05\x8c\x04shop\x94\x8c\x05serve\x94\x93\x94K\0\x86\x94.".to_vec());
    pool.workers[1].item_ms = Some(7_000);
    seen.pools = vec![pool];
    let mut state = State::new(Limits::default());
    state.see(seen, Instant::now());
    let (lines, _) = screen(&state, false, (80, 24));
    assert!(lines[4].ends_with("serve() 4.0s"), "{}", lines[4]);
    assert!(lines[5].ends_with("lock 7.1 5.1s (102) in ta"), "{}", lines[5]);
    press(&mut state, "4");
    let (lines, _) = screen(&state, false, (80, 24));
    let cells: Vec<&str> = lines[3].split_whitespace().collect();
    assert_eq!(
        cells,
        ["5.0", "running", "0", "0", "12", "3", "-", "900us", "2.0s", "2/2", "1", "-"]
    );
}

#[test]
fn deaths_have_a_cause() {
    let mut seen = family(10);
    let ended = |pid, exit_code| EndedProcess {
        pid,
        name: "clerk".to_owned(),
        exit_code,
    };
    seen.ended = vec![ended(7, Some(0)), ended(8, Some(3)), ended(9, None)];
    let mut state = State::new(Limits::default());
    state.see(seen, Instant::now());
    press(&mut state, "5");
    let (lines, _) = screen(&state, false, (80, 24));
    assert_eq!(lines[4], "8        clerk                    failed: exit code 3");
    assert!(lines[5].ends_with("killed, or ended without its exit code noted"));
}

#[test]
fn the_chosen_row_stays_on_the_screen() {
    let mut seen = family(10);
    let process = |pid| crate::samples::process(pid, "clerk", Vec::new());
    seen.processes = (1_000..1_100).map(process).collect();
    let mut state = State::new(Limits::default());
    state.see(seen, Instant::now());
    for _ in 0..60 {
        state.press(KeyEvent::new(KeyCode::Down, KeyModifiers::NONE));
    }
    assert!(first_words(&state).contains(&"1060".to_owned()));
    state.press(KeyEvent::new(KeyCode::Home, KeyModifiers::NONE));
    assert_eq!(first_words(&state)[0], "1000");
}
