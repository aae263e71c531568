//! The screen of `top`.

use super::page;
use super::rows::head;
use super::state::{Shown, State};
use crate::text::{bytes, clean, time};
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Cell, Paragraph, Row, Table, TableState};
use ratatui::Frame;

pub(super) fn draw(frame: &mut Frame<'_>, state: &State, has_colour: bool) {
    let parts = [
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Min(1),
        Constraint::Length(1),
    ];
    let [title, tabs, body, foot] = Layout::vertical(parts).areas(frame.area());
    frame.render_widget(Paragraph::new(title_of(state)), title);
    frame.render_widget(Paragraph::new(tabs_of(state)), tabs);
    let notable = if has_colour {
        Style::new().fg(Color::Yellow)
    } else {
        Style::new().add_modifier(Modifier::BOLD)
    };
    frame.render_widget(Paragraph::new(foot_of(state)), foot);
    if let Some((pid, _)) = state.page {
        let lines = page::lines(state, pid);
        // Lines may have gone since the last key.
        let first = state.row.min(lines.len().saturating_sub(1));
        let lines: Vec<Line<'_>> = lines.into_iter().skip(first).map(Line::from).collect();
        frame.render_widget(Paragraph::new(lines), body);
        return;
    }
    let rows = state.rows();
    let mut chosen = TableState::new().with_selected(state.row.min(rows.len().saturating_sub(1)));
    let rows = rows.into_iter().map(|row| {
        let style = if row.is_notable { notable } else { Style::new() };
        Row::new(row.cells.into_iter().map(|cell| Cell::new(cell.text))).style(style)
    });
    let columns = head(state.shown);
    let names = columns.iter().enumerate().map(|(number, (name, _))| {
        let mark = match (number == state.sorted_by, state.is_reversed) {
            (false, _) => "",
            (true, false) => "^",
            (true, true) => "v",
        };
        Cell::new(format!("{name}{mark}"))
    });
    let widths = columns.iter().map(|&(_, width)| match width {
        0 => Constraint::Fill(1),
        width => Constraint::Length(width),
    });
    let names = Row::new(names).style(Style::new().add_modifier(Modifier::REVERSED));
    let table = Table::new(rows, widths)
        .header(names)
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    frame.render_stateful_widget(table, body, &mut chosen);
}

fn title_of(state: &State) -> Line<'static> {
    let seen = state.seen();
    let root = seen.processes.iter().find(|process| Some(process.pid) == seen.root);
    let program = root
        .or(seen.processes.first())
        .map_or(String::new(), |process| clean(&process.program));
    let age = seen.processes.iter().map(|process| process.age_ms).max().unwrap_or(0);
    Line::from(format!(
        "{program}, {}: {} processes, {} shared, up {}, {} ended",
        seen.root.map_or("first process gone".to_owned(), |pid| pid.to_string()),
        seen.processes.len(),
        bytes(seen.committed_bytes),
        time(age),
        seen.deaths,
    ))
}

fn tabs_of(state: &State) -> Line<'static> {
    let counts = [
        state.seen().processes.len(),
        state.seen().queues.len(),
        state.seen().locks.len(),
        state.seen().pools.len(),
        state.seen().ended.len(),
        state.found().deadlocks.len() + state.found().warnings.len(),
    ];
    let mut spans = Vec::new();
    for (number, (shown, count)) in Shown::ALL.into_iter().zip(counts).enumerate() {
        let is_urgent = shown == Shown::Warnings && !state.found().deadlocks.is_empty();
        let style = if is_urgent && shown != state.shown {
            Style::new().add_modifier(Modifier::REVERSED)
        } else if shown == state.shown {
            Style::new().add_modifier(Modifier::BOLD | Modifier::UNDERLINED)
        } else {
            Style::new()
        };
        spans.push(Span::styled(
            format!(
                "{} {}({count})",
                number + 1,
                if is_urgent { "DEADLOCK" } else { shown.name() }
            ),
            style,
        ));
        spans.push(Span::raw(" "));
    }
    Line::from(spans)
}

fn foot_of(state: &State) -> Line<'static> {
    let filter = clean(&state.filter);
    if state.is_typing {
        return Line::from(format!("filter: {filter}_   Enter keep  Esc clear"));
    }
    if let Some(ended) = &state.ended {
        return Line::from(format!("{}   q quit", clean(ended)));
    }
    if let Some(note) = &state.note {
        return Line::from(format!("{}   q quit", clean(note)));
    }
    let mut text = if state.page.is_some() {
        "Esc back  s stack  t trace  arrows scroll  Space pause  q quit".to_owned()
    } else {
        "q quit  1-6 table  Enter page  s stack  t trace  o r sort  / filter  Space stop".to_owned()
    };
    if state.is_paused() {
        text = format!("PAUSED  {text}");
    }
    if !filter.is_empty() {
        text = format!("[{filter}]  {text}");
    }
    Line::from(text)
}
