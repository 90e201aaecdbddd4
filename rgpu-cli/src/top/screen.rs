//! The screen: what is shown, what keys do. Knows neither terminal nor server.

use std::collections::HashMap;
use std::time::Instant;

use ratatui::Frame;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Cell, Clear, Paragraph, Row, Table, TableState};

use super::model::{self, Device, Rates, Session, Snapshot, Sort};
use super::words::{age, bytes, printable};

/// What a key asks for beyond another look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    Nothing,
    Quit,
    /// End this session.
    End(u64),
}

pub struct Screen {
    server: String,
    now: Snapshot,
    told: Option<Instant>,
    rates: HashMap<u64, Rates>,
    sort: Sort,
    table: TableState,
    /// The chosen session, whatever place it moves to.
    chosen: Option<u64>,
    /// A session that is to be ended, once that has been confirmed.
    doomed: Option<u64>,
    /// What went wrong last, or was done.
    word: String,
}

impl Screen {
    pub fn new(server: &str) -> Screen {
        Screen {
            server: server.to_owned(),
            now: Snapshot::default(),
            told: None,
            rates: HashMap::new(),
            sort: Sort::default(),
            table: TableState::default(),
            chosen: None,
            doomed: None,
            word: "asking …".into(),
        }
    }

    pub fn tell(&mut self, snapshot: Snapshot, at: Instant) {
        if let Some(before) = self.told {
            let apart = at.saturating_duration_since(before);
            self.rates = model::rates(&self.now, &snapshot, apart);
        }
        self.now = snapshot;
        self.told = Some(at);
        self.word.clear();
        self.arrange();
    }

    /// What was told last stays on the screen beside this.
    pub fn say(&mut self, word: impl Into<String>) {
        self.word = word.into();
    }

    /// Sorts, and keeps the chosen session chosen.
    fn arrange(&mut self) {
        self.sort.apply(&mut self.now.sessions, &self.rates);
        let place = |number| self.now.sessions.iter().position(|it| it.session == number);
        let at = self.chosen.and_then(place).or(self.table.selected());
        let last = self.now.sessions.len().checked_sub(1);
        self.choose(at.zip(last).map(|(at, last)| at.min(last)));
    }

    fn choose(&mut self, at: Option<usize>) {
        self.table.select(at);
        self.chosen = at
            .and_then(|at| self.now.sessions.get(at))
            .map(|it| it.session);
    }

    fn step(&mut self, by: isize) {
        let last = self.now.sessions.len().checked_sub(1);
        let at = match self.table.selected() {
            Some(at) => at.saturating_add_signed(by),
            None => 0,
        };
        self.choose(last.map(|last| at.min(last)));
    }

    pub fn key(&mut self, key: KeyEvent) -> Wish {
        if key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c') {
            return Wish::Quit;
        }
        if let Some(doomed) = self.doomed.take() {
            return match key.code {
                KeyCode::Char('y' | 'Y') => Wish::End(doomed),
                _ => Wish::Nothing,
            };
        }
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => return Wish::Quit,
            KeyCode::Char('s') => {
                self.sort = self.sort.next();
                self.arrange();
            }
            KeyCode::Up => self.step(-1),
            KeyCode::Down => self.step(1),
            KeyCode::PageUp => self.step(-10),
            KeyCode::PageDown => self.step(10),
            KeyCode::Home => self.step(isize::MIN),
            KeyCode::End => self.step(isize::MAX),
            KeyCode::Char('k') => self.doomed = self.chosen,
            _ => {}
        }
        Wish::Nothing
    }

    pub fn draw(&mut self, frame: &mut Frame<'_>) {
        let devices = self.now.devices.len().clamp(1, 8) as u16;
        let tenants = self.now.tenants.len().clamp(1, 6) as u16;
        let [head, gpus, theirs, sessions, foot] = Layout::vertical([
            Constraint::Length(1),
            Constraint::Length(devices),
            Constraint::Length(tenants + 2),
            Constraint::Min(4),
            Constraint::Length(1),
        ])
        .areas(frame.area());
        frame.render_widget(Line::from(self.head()).style(Modifier::REVERSED), head);
        self.devices(frame, gpus);
        self.tenants(frame, theirs);
        self.sessions(frame, sessions);
        let keys = "q quit  s sort  ↑↓ choose  k end the chosen session";
        let foot_text = match self.word.is_empty() {
            true => keys.to_owned(),
            false => printable(&self.word),
        };
        frame.render_widget(Line::from(foot_text), foot);
        if let Some(doomed) = self.doomed {
            confirm(frame, doomed, &self.now.sessions);
        }
    }

    fn head(&self) -> String {
        let left_out = match self.now.left_out {
            0 => String::new(),
            more => format!(" (+{more})"),
        };
        format!(
            "rgpu top  {}  {} sessions{left_out}  {} waiting",
            printable(&self.server),
            self.now.sessions.len(),
            self.now.queue
        )
    }

    fn devices(&self, frame: &mut Frame<'_>, area: Rect) {
        let lines: Vec<Line<'_>> = match self.now.devices.is_empty() {
            true => vec![Line::from("no device is known yet")],
            false => self.now.devices.iter().map(device).collect(),
        };
        frame.render_widget(Paragraph::new(lines), area);
    }

    fn tenants(&self, frame: &mut Frame<'_>, area: Rect) {
        let rows = self.now.tenants.iter().map(|it| {
            let limit = it
                .sessions_limit
                .map_or(String::new(), |limit| format!("/{limit}"));
            Row::new([
                printable(&it.tenant),
                it.profile.as_deref().map_or_else(|| "-".into(), printable),
                format!("{}{limit}", it.sessions),
                it.waiting.to_string(),
                bytes(it.memory_bytes as f64),
                it.gpu_seconds
                    .map_or_else(|| "-".into(), |s| format!("{s:.1}")),
            ])
        });
        let widths = [16, 14, 9, 8, 10, 10].map(Constraint::Length);
        let header = bold([
            "TENANT", "PROFILE", "SESSIONS", "WAITING", "MEMORY", "GPU s",
        ]);
        let block = Block::new().borders(Borders::TOP).title(" tenants ");
        frame.render_widget(Table::new(rows, widths).header(header).block(block), area);
    }

    fn sessions(&mut self, frame: &mut Frame<'_>, area: Rect) {
        let rows = self.now.sessions.iter().map(|it| {
            let rates = self.rates.get(&it.session).copied();
            Row::new(cells(it, rates))
        });
        let widths = [
            Constraint::Length(7),
            Constraint::Length(12),
            Constraint::Fill(1),
            Constraint::Length(4),
            Constraint::Length(6),
            Constraint::Length(19),
            Constraint::Length(8),
            Constraint::Length(10),
            Constraint::Length(10),
            Constraint::Length(8),
        ];
        let header = bold([
            "SESSION", "TENANT", "PROGRAM", "GPU", "TIME", "MEMORY", "CALLS/s", "IN/s", "OUT/s",
            "AGE",
        ]);
        let title = format!(" sessions by {} ", self.sort.name());
        let block = Block::new().borders(Borders::TOP).title(title);
        let table = Table::new(rows, widths)
            .header(header)
            .block(block)
            .row_highlight_style(Modifier::REVERSED);
        frame.render_stateful_widget(table, area, &mut self.table);
    }
}

fn bold<const N: usize>(names: [&'static str; N]) -> Row<'static> {
    Row::new(names).style(Style::new().add_modifier(Modifier::BOLD))
}

/// One line of ten columns.
pub fn cells(it: &Session, rates: Option<Rates>) -> [Cell<'static>; 10] {
    let name = it.function.as_deref().unwrap_or(&it.program);
    let gpus: Vec<String> = it.devices.iter().map(u32::to_string).collect();
    let limit = it
        .memory_limit_bytes
        .map_or(String::new(), |limit| format!(" / {}", bytes(limit as f64)));
    let rate = |text: &dyn Fn(Rates) -> String| rates.map_or_else(|| "-".into(), text);
    let state = if it.state == "ending" {
        " (ending)"
    } else {
        ""
    };
    [
        it.session.to_string(),
        printable(&it.tenant),
        format!(
            "{} {}:{}{state}",
            printable(name),
            printable(&it.host),
            it.pid
        ),
        gpus.join(","),
        rates
            .and_then(|it| it.gpu)
            .map_or_else(|| "-".into(), |gpu| format!("{gpu:.0} %")),
        format!("{}{limit}", bytes(it.memory_bytes as f64)),
        rate(&|it| format!("{:.0}", it.calls)),
        rate(&|it| bytes(it.bytes_in)),
        rate(&|it| bytes(it.bytes_out)),
        age(it.age_seconds),
    ]
    .map(Cell::from)
}

fn device(it: &Device) -> Line<'static> {
    const WIDTH: usize = 16;
    let bar = |share: f64| {
        let full = (share.clamp(0.0, 1.0) * WIDTH as f64).round() as usize;
        format!("[{}{}]", "#".repeat(full), " ".repeat(WIDTH - full))
    };
    let busy = match it.utilization_percent {
        Some(percent) => format!("{} {percent:3.0} %", bar(percent / 100.0)),
        None => format!("{}   ? %", bar(0.0)),
    };
    let total = it.memory_total_bytes;
    // Where the device cannot be asked, at least what this server's sessions hold.
    let used = it
        .memory_free_bytes
        .map_or(it.memory_held_bytes, |free| total.saturating_sub(free));
    let memory = format!(
        "{} {} / {}",
        bar(used as f64 / total.max(1) as f64),
        bytes(used as f64),
        bytes(total as f64)
    );
    let readings = it.readings.clone().unwrap_or_default();
    let heat = readings
        .temperature_celsius
        .map_or(String::new(), |it| format!("  {it} °C"));
    let power = readings
        .power_watts
        .map_or(String::new(), |it| format!("  {it:.0} W"));
    Line::from(vec![
        Span::styled(format!("GPU {} ", it.ordinal), Modifier::BOLD),
        Span::raw(format!("{:<20.20} ", printable(&it.name))),
        Span::raw(format!(
            "{busy}  {memory}{heat}{power}  {} sessions",
            it.sessions
        )),
    ])
}

fn confirm(frame: &mut Frame<'_>, doomed: u64, sessions: &[Session]) {
    let of = sessions.iter().find(|it| it.session == doomed);
    let name = of.map_or_else(String::new, |it| {
        format!(" ({} of {})", printable(&it.program), printable(&it.tenant))
    });
    let text = format!("End session {doomed}{name}? y / n");
    let whole = frame.area();
    let width = (text.chars().count() as u16 + 4).min(whole.width);
    let height = 3.min(whole.height);
    let area = Rect {
        x: (whole.width - width) / 2,
        y: (whole.height - height) / 2,
        width,
        height,
    };
    frame.render_widget(Clear, area);
    frame.render_widget(
        Paragraph::new(text).centered().block(Block::bordered()),
        area,
    );
}

#[cfg(test)]
mod tests;
