//! The screen as it looks, on a terminal that is none.

use super::*;
use crate::top::model::{Readings, Tenant};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use std::time::Duration;

const MIB: u64 = 1 << 20;

fn session(number: u64, tenant: &str, memory: u64) -> Session {
    Session {
        session: number,
        tenant: tenant.into(),
        program: "python3".into(),
        host: "node".into(),
        pid: 40 + number as u32,
        state: "running".into(),
        age_seconds: 75.0,
        devices: vec![0],
        memory_bytes: memory * MIB,
        memory_limit_bytes: Some(2048 * MIB),
        calls: 1000,
        ..Session::default()
    }
}

fn snapshot() -> Snapshot {
    Snapshot {
        sessions: vec![session(3, "alice", 100), session(5, "bob", 512)],
        tenants: vec![Tenant {
            tenant: "alice".into(),
            sessions: 1,
            sessions_limit: Some(4),
            memory_bytes: 100 * MIB,
            ..Tenant::default()
        }],
        devices: vec![Device {
            name: "NVIDIA H100 80GB HBM3".into(),
            memory_total_bytes: 80 << 30,
            memory_free_bytes: Some(60 << 30),
            sessions: 2,
            utilization_percent: Some(40.0),
            readings: Some(Readings {
                temperature_celsius: Some(51),
                power_watts: Some(300.4),
            }),
            ..Device::default()
        }],
        queue: 1,
        ..Snapshot::default()
    }
}

fn drawn(screen: &mut Screen, width: u16, height: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| screen.draw(frame)).unwrap();
    let buffer = terminal.backend().buffer();
    let line = |y| {
        (0..width)
            .map(|x| buffer[(x, y)].symbol())
            .collect::<String>()
    };
    (0..height).map(|y| line(y).trim_end().to_owned()).collect()
}

fn press(screen: &mut Screen, code: KeyCode) -> Wish {
    screen.key(KeyEvent::new(code, KeyModifiers::NONE))
}

fn started() -> Screen {
    let mut screen = Screen::new("tcp://gpuhost:9470");
    screen.tell(snapshot(), Instant::now());
    screen
}

#[test]
fn the_whole_screen() {
    let start = Instant::now();
    let mut screen = Screen::new("tcp://gpuhost:9470");
    screen.tell(snapshot(), start);
    let mut later = snapshot();
    later.sessions[0].calls += 500;
    later.sessions[0].bytes_in += 3 * MIB;
    screen.tell(later, start + Duration::from_secs(2));
    let lines = drawn(&mut screen, 120, 14);
    let expected = [
        "rgpu top  tcp://gpuhost:9470  2 sessions  1 waiting",
        "GPU 0 NVIDIA H100 80GB HBM [######          ]  40 %  [####            ] 20 GiB / 80 GiB  51 °C  300 W  2 sessions",
        " tenants ───────────────────────────────────────────────────────────────────────────────────────────────────────────────",
        "TENANT           PROFILE        SESSIONS  WAITING  MEMORY     GPU s",
        "alice            -              1/4       0        100 MiB    -",
        " sessions by memory ────────────────────────────────────────────────────────────────────────────────────────────────────",
        "SESSION TENANT       PROGRAM                     GPU  TIME   MEMORY              CALLS/s  IN/s       OUT/s      AGE",
        "5       bob          python3 node:45             0    -      512 MiB / 2.0 GiB   0        0 B        0 B        1 min",
        "3       alice        python3 node:43             0    -      100 MiB / 2.0 GiB   250      1.5 MiB    0 B        1 min",
        "",
        "",
        "",
        "",
        "q quit  s sort  ↑↓ choose  k end the chosen session",
    ];
    assert_eq!(lines, expected, "\n{}", lines.join("\n"));
}

#[test]
fn a_session_is_ended_only_when_that_is_confirmed() {
    let mut screen = started();
    // Nothing is chosen.
    assert_eq!(press(&mut screen, KeyCode::Char('k')), Wish::Nothing);
    assert_eq!(press(&mut screen, KeyCode::Char('y')), Wish::Nothing);
    press(&mut screen, KeyCode::Down);
    press(&mut screen, KeyCode::Down);
    press(&mut screen, KeyCode::Char('k'));
    let lines = drawn(&mut screen, 100, 20);
    let asked = lines
        .iter()
        .any(|line| line.contains("End session 3 (python3 of alice)? y / n"));
    assert!(asked, "{}", lines.join("\n"));
    assert_eq!(press(&mut screen, KeyCode::Char('n')), Wish::Nothing);
    press(&mut screen, KeyCode::Char('k'));
    assert_eq!(press(&mut screen, KeyCode::Char('y')), Wish::End(3));
    assert_eq!(press(&mut screen, KeyCode::Char('y')), Wish::Nothing);
}

#[test]
fn what_is_chosen_stays_chosen_when_it_moves() {
    let mut screen = started();
    press(&mut screen, KeyCode::Down);
    assert_eq!(screen.chosen, Some(5));
    let mut more = snapshot();
    more.sessions.push(session(9, "alice", 900));
    screen.tell(more, Instant::now());
    assert_eq!((screen.chosen, screen.table.selected()), (Some(5), Some(1)));
    press(&mut screen, KeyCode::Char('s'));
    assert_eq!(screen.chosen, Some(5));
    // It has gone: its place is another's.
    let mut fewer = snapshot();
    fewer.sessions.remove(1);
    screen.tell(fewer, Instant::now());
    assert_eq!(screen.chosen, Some(3));
    screen.tell(Snapshot::default(), Instant::now());
    assert_eq!(screen.chosen, None);
    press(&mut screen, KeyCode::PageDown);
    assert_eq!(screen.chosen, None);
}

#[test]
fn any_size_of_terminal_can_be_drawn_on() {
    let mut screen = started();
    for (width, height) in [(1, 1), (5, 3), (20, 8), (79, 24), (300, 100)] {
        press(&mut screen, KeyCode::Down);
        press(&mut screen, KeyCode::Char('k'));
        drawn(&mut screen, width, height);
        press(&mut screen, KeyCode::Char('n'));
    }
    assert_eq!(press(&mut screen, KeyCode::Char('q')), Wish::Quit);
    let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert_eq!(screen.key(interrupt), Wish::Quit);
}

#[test]
fn an_error_is_shown_beside_what_was_told_last() {
    let mut screen = started();
    screen.say("no answer\x1b[2J");
    let lines = drawn(&mut screen, 100, 14);
    assert_eq!(lines[13], "no answer?[2J");
    assert!(lines.iter().any(|line| line.starts_with("5       bob")));
}
