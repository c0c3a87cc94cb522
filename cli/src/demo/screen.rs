//! The demo on a terminal.

use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::sys::signal::{Signal, raise};
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::layout::{Alignment, Constraint, Layout};
use ratatui::style::{Color, Modifier, Style, Stylize as _};
use ratatui::text::Line;
use ratatui::widgets::{Block, Cell, Gauge, Paragraph, Row, Table, Wrap};
use ratatui::{DefaultTerminal, Frame};

use super::crew::Member;
use super::live::{Scene, Show};
use crate::bench::output::{figure, nanoseconds};

/// The whole terminal. Dropping this gives it back; so does a panic.
#[derive(Debug)]
pub struct Screen {
    terminal: DefaultTerminal,
}

impl Screen {
    /// Takes the terminal.
    ///
    /// # Errors
    ///
    /// When it is none.
    pub fn open() -> Result<Self> {
        Ok(Self {
            terminal: ratatui::try_init().context("cannot take over the terminal; try --plain")?,
        })
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

impl Show for Screen {
    fn show(&mut self, scene: &Scene, patience: Duration) -> Result<bool> {
        self.terminal.draw(|frame| draw(frame, scene)).context("cannot draw on the terminal")?;
        if !event::poll(patience).context("cannot read from the terminal")? {
            return Ok(false);
        }
        let Event::Key(key) = event::read().context("cannot read from the terminal")? else {
            return Ok(false);
        };
        if key.kind != KeyEventKind::Press {
            return Ok(false);
        }
        if key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL) {
            // The terminal does not make a signal of it in raw mode.
            raise(Signal::SIGINT).context("cannot raise SIGINT")?;
        }
        Ok(matches!(key.code, KeyCode::Char('q' | 'Q') | KeyCode::Esc))
    }
}

fn draw(frame: &mut Frame<'_>, scene: &Scene) {
    let rows = scene.readers.len() as u16 + 1;
    let [title, table, events, gauge] = Layout::vertical([
        Constraint::Length(2),
        // The header and the border.
        Constraint::Length(rows + 3),
        Constraint::Min(3),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    let heading = Line::from(vec![
        "seqring".bold().cyan(),
        format!(
            "  one producer, many readers, one ring of {} x {} B in shared memory",
            scene.slots, scene.message_bytes
        )
        .into(),
    ]);
    let says = "Readers sleep until the producer wakes them. None gates: slow or dead, the producer and the others do not notice.".dim();
    frame.render_widget(Paragraph::new(vec![heading, says.into()]), title);
    frame.render_widget(processes(scene), table);

    // The newest events are the ones that must be seen.
    let width = usize::from(events.width.saturating_sub(2)).max(1);
    let mut room = usize::from(events.height.saturating_sub(2));
    let mut lines: Vec<_> = scene
        .events
        .iter()
        .rev()
        .map(|(seconds, event)| format!("{seconds:5.1} s  {event}"))
        .take_while(|line| {
            let height = line.chars().count().div_ceil(width);
            let fits = height <= room;
            room = room.saturating_sub(height);
            fits
        })
        .map(Line::from)
        .collect();
    lines.reverse();
    frame.render_widget(
        Paragraph::new(lines).wrap(Wrap { trim: false }).block(Block::bordered().title(" events ")),
        events,
    );

    let left = (scene.total_seconds - scene.elapsed_seconds).max(0.0);
    let ratio = (scene.elapsed_seconds / scene.total_seconds).clamp(0.0, 1.0);
    let label = format!("{left:.0} s, then beside a locked queue    q: end");
    frame.render_widget(
        Gauge::default()
            .ratio(ratio)
            .label(label)
            .gauge_style(Style::new().fg(Color::Cyan).bg(Color::Black)),
        gauge,
    );
}

fn processes(scene: &Scene) -> Table<'_> {
    let header = ["process", "pid", "messages/s", "lag", "lost", "sleeps", "p50", "p99"];
    let right = |text: String| Cell::from(Line::from(text).alignment(Alignment::Right));
    let row = |member: &Member, is_reader: bool| {
        let stats = member.stats().unwrap_or_default();
        let of_reader = |text: String| right(if is_reader { text } else { String::new() });
        let mut cells = vec![Cell::from(member.name.clone()), right(member.process().to_string())];
        if member.is_killed() {
            cells.push(right("killed".to_owned()));
            return Row::new(cells).style(Style::new().fg(Color::Red).add_modifier(Modifier::DIM));
        }
        cells.extend([
            right(figure(member.rate())),
            of_reader(stats.lag.to_string()),
            of_reader(stats.lost.to_string()),
            of_reader(stats.sleeps.to_string()),
            of_reader(nanoseconds(stats.p50_ns as f64)),
            of_reader(nanoseconds(stats.p99_ns as f64)),
        ]);
        let style = match (is_reader, stats.lost) {
            (false, _) => Style::new().fg(Color::Cyan),
            (true, 0) => Style::new().fg(Color::Green),
            (true, _) => Style::new().fg(Color::Yellow),
        };
        Row::new(cells).style(style)
    };
    let rows = std::iter::once(row(&scene.producer, false))
        .chain(scene.readers.iter().map(|reader| row(reader, true)));
    let head = header
        .iter()
        .enumerate()
        .map(|(column, &text)| if column == 0 { Cell::from(text) } else { right(text.to_owned()) });
    let widths = [
        Constraint::Length(12),
        Constraint::Length(8),
        Constraint::Length(11),
        Constraint::Length(7),
        Constraint::Length(10),
        Constraint::Length(8),
        Constraint::Length(10),
        Constraint::Length(10),
    ];
    Table::new(rows, widths)
        .header(Row::new(head).bold())
        .block(Block::bordered().title(" processes "))
}
