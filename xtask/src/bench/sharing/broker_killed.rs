//! Busy sessions whose daemon is killed, twice, and followed by another.

use std::time::Instant;

use anyhow::{Result, ensure};
use rgpu_system::c::compile;
use rgpu_system::session::Session;
use rgpu_system::{Server, ServerOptions};

use crate::bench::figures::{Figure, Figures};
use crate::bench::report::{Section, Table, short};
use crate::bench::tools::Bench;

const TEXT: &str = include_str!("broker_killed.md");
const KILLS: usize = 2;
/// By which way, and what it does until the next word: kernels that count on the device, or copies that are compared.
const SESSIONS: [(&str, &str, &str); 4] = [
    ("shm", "count", "counting"),
    ("unix", "copy 64", "copying"),
    ("tcp", "count", "counting"),
    ("tcp", "copy 64", "copying"),
];

pub fn measure(bench: &Bench<'_>, figures: &mut Figures, at: &dyn Fn(String)) -> Result<Section> {
    let folder = bench.new_folder()?;
    let program = compile(&folder, "session")?;
    let mut server = Server::start(bench.programs, &folder, &ServerOptions::default())?;
    let mut sessions = Vec::new();
    for (scheme, word, begun) in SESSIONS {
        let mut session = Session::start(&program, server.client(bench.programs, scheme)?)?;
        session.tell(word)?;
        ensure!(session.answer(begun)? == [0], "{word} does not begin");
        sessions.push((session, word));
    }
    let mut away = Vec::new();
    for kill in 0..KILLS {
        at(format!("kill {kill}"));
        let since = Instant::now();
        server.daemon.kill();
        server.start_again()?;
        away.push(since.elapsed().as_secs_f64() * 1000.0);
    }
    let mut table = Table::new(
        format!("Sessions that were busy while their daemon was killed {KILLS} times"),
        &["by", "work", "finishes right"],
    );
    let mut right = 0;
    for ((mut session, word), (scheme, ..)) in sessions.into_iter().zip(SESSIONS) {
        // The next word ends what it is at, and is done, too.
        let finishes = session.tell("compute").is_ok()
            && session.answer(word).is_ok_and(|said| said == [0])
            && session.answer("compute").is_ok_and(|said| said == [0])
            && session.end().is_ok_and(|(status, _)| status.success());
        right += usize::from(finishes);
        let said = if finishes { "yes" } else { "no" };
        table.row(scheme, [word.to_owned(), said.to_owned()]);
    }
    let longest = away.into_iter().fold(0.0, f64::max);
    table.row(
        "longest without a daemon",
        [short(longest), "ms".to_owned()],
    );
    let placement = bench.machine.anywhere();
    let figure = Figure::at_least("sharing.broker_killed_ok", right as f64, "sessions", 4.0);
    figures.add(figure.placed(&placement));
    Ok(Section {
        name: "broker_killed",
        title: "A daemon that is killed",
        text: TEXT,
        placement,
        tables: vec![table],
        plots: Vec::new(),
    })
}
