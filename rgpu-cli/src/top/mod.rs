//! `rgpu top`: what a server's sessions, tenants and devices do, live.

mod model;
mod screen;
mod words;

use std::io::Write;
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyEventKind};

use crate::admin::Client;
use model::Snapshot;
use screen::{Screen, Wish};

/// How soon a key or an answer is noticed.
const LOOK: Duration = Duration::from_millis(50);

/// `once`: as plain text, for scripts; else until q is pressed.
pub fn top(client: &Client, interval: Duration, once: bool) -> Result<ExitCode> {
    if once {
        let snapshot = Snapshot::ask(client)?;
        print(&snapshot).context("stdout")?;
        return Ok(ExitCode::SUCCESS);
    }
    // What is wrong with address or token is said before the screen is taken.
    let first = Snapshot::ask(client)?;
    let terminal = ratatui::try_init().context("no terminal; `--once` prints to anything")?;
    let result = live(terminal, client, interval, first);
    ratatui::restore();
    result.map(|()| ExitCode::SUCCESS)
}

/// What comes from the thread that asks.
enum News {
    Told(Result<Snapshot>, Instant),
    Ended(u64, Result<()>),
}

fn live(
    mut terminal: DefaultTerminal,
    client: &Client,
    interval: Duration,
    first: Snapshot,
) -> Result<()> {
    let (orders, taken) = channel();
    let (tell, news) = channel();
    let asking = client.clone();
    std::thread::spawn(move || ask(&asking, interval, &taken, &tell));
    let mut screen = Screen::new(client.address());
    screen.tell(first, Instant::now());
    let mut is_old = true;
    loop {
        if std::mem::take(&mut is_old) {
            terminal.draw(|frame| screen.draw(frame))?;
        }
        let event = match event::poll(LOOK)? {
            true => Some(event::read()?),
            false => None,
        };
        is_old |= event.is_some();
        if let Some(Event::Key(key)) = event
            && key.kind == KeyEventKind::Press
        {
            match screen.key(key) {
                Wish::Quit => return Ok(()),
                Wish::Nothing => {}
                // The thread lives as long as this one.
                Wish::End(session) => drop(orders.send(session)),
            }
        }
        for news in news.try_iter() {
            is_old = true;
            match news {
                News::Told(Ok(snapshot), at) => screen.tell(snapshot, at),
                News::Told(Err(error), _) => screen.say(format!("{error:#}")),
                News::Ended(session, Ok(())) => screen.say(format!("session {session} is ending")),
                News::Ended(session, Err(error)) => {
                    screen.say(format!("session {session}: {error:#}"))
                }
            }
        }
    }
}

/// Asks now and then, and does what is ordered meanwhile; ends with the screen.
fn ask(client: &Client, interval: Duration, orders: &Receiver<u64>, tell: &Sender<News>) {
    loop {
        let news = match orders.recv_timeout(interval) {
            Ok(session) => News::Ended(session, client.delete(&format!("/v1/sessions/{session}"))),
            Err(RecvTimeoutError::Timeout) => News::Told(Snapshot::ask(client), Instant::now()),
            Err(RecvTimeoutError::Disconnected) => return,
        };
        if tell.send(news).is_err() {
            return;
        }
    }
}

/// Plain text: a table each for devices, tenants and sessions, columns separated by tabs.
fn print(it: &Snapshot) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    let number = |value: Option<f64>| value.map_or_else(|| "-".into(), |it| format!("{it:.1}"));
    writeln!(
        out,
        "GPU\tNAME\tUTIL_PERCENT\tMEMORY_TOTAL\tMEMORY_FREE\tMEMORY_HELD\tSESSIONS"
    )?;
    for it in &it.devices {
        let free = it
            .memory_free_bytes
            .map_or_else(|| "-".into(), |free| free.to_string());
        writeln!(
            out,
            "{}\t{}\t{}\t{}\t{free}\t{}\t{}",
            it.ordinal,
            words::printable(&it.name),
            number(it.utilization_percent),
            it.memory_total_bytes,
            it.memory_held_bytes,
            it.sessions
        )?;
    }
    writeln!(
        out,
        "\nTENANT\tPROFILE\tSESSIONS\tWAITING\tMEMORY\tGPU_SECONDS"
    )?;
    for it in &it.tenants {
        writeln!(
            out,
            "{}\t{}\t{}\t{}\t{}\t{}",
            words::printable(&it.tenant),
            words::printable(it.profile.as_deref().unwrap_or("-")),
            it.sessions,
            it.waiting,
            it.memory_bytes,
            number(it.gpu_seconds)
        )?;
    }
    writeln!(
        out,
        "\nSESSION\tTENANT\tPROGRAM\tCLIENT\tSTATE\tMEMORY\tGPU_SECONDS\tCALLS\tBYTES_IN\tBYTES_OUT\tAGE_SECONDS"
    )?;
    for it in &it.sessions {
        writeln!(
            out,
            "{}\t{}\t{}\t{}:{}\t{}\t{}\t{}\t{}\t{}\t{}\t{:.0}",
            it.session,
            words::printable(&it.tenant),
            words::printable(it.function.as_deref().unwrap_or(&it.program)),
            words::printable(&it.host),
            it.pid,
            it.state,
            it.memory_bytes,
            number(it.gpu_seconds),
            it.calls,
            it.bytes_in,
            it.bytes_out,
            it.age_seconds
        )?;
    }
    if it.left_out > 0 {
        writeln!(out, "{} more sessions are left out", it.left_out)?;
    }
    out.flush()
}
