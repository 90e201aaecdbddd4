//! Many clients of one device.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use rgpu_system::daemon::{clean, direct};

use crate::bench::figures::{Figure, Figures};
use crate::bench::link::Link;
use crate::bench::median;
use crate::bench::report::{Plot, Section, Shape, Table, short};
use crate::bench::tools::{Bench, Place, Remote, Said, text};

const TEXT: &str = include_str!("clients.md");
/// How long one client has to begin, and how much longer with each more.
const READY: Duration = Duration::from_millis(900);
const EACH: Duration = Duration::from_millis(120);

/// Of one round: kernels a second, over what one client alone had, and the least client's over its fair part.
#[derive(Clone, Copy)]
struct Shares {
    rate: f64,
    of_one: f64,
    least: f64,
}

/// Kernels of each client.
type Counts = Vec<f64>;

pub fn measure(bench: &Bench<'_>, figures: &mut Figures, at: &dyn Fn(String)) -> Result<Section> {
    let (crowds, rounds, seconds): (&[usize], usize, f64) = match bench.quick {
        true => (&[1, 16], 1, 2.0),
        false => (&[1, 2, 4, 8, 16], 3, 4.0),
    };
    let placement = bench.machine.anywhere();
    let home = bench.new_folder()?;
    let work = bench
        .probe(&["calibrate", "1"], &direct(bench.programs, &home)?)?
        .get("rounds")?;
    let soft = bench.server_over(None, Vec::new(), Link::default())?;
    let pace = bench.new_folder()?.join("pace");
    std::fs::write(&pace, "* 1000\n")?;
    let mut paced: Place = vec![("CUDA_NULLDEV_PACE".into(), text(&pace))];
    paced.push(("CUDA_NULLDEV_HOME".into(), text(&bench.new_folder()?)));
    let paced = bench.server(paced, Link::default())?;
    // Each round runs all of them one after the other, so that what else the machine does meets all.
    let mut all: Vec<[Vec<Shares>; 2]> = vec![Default::default(); crowds.len()];
    for round in 0..rounds {
        let mut alone: [f64; 2] = [f64::NAN; 2];
        for (&count, of_both) in crowds.iter().zip(&mut all) {
            at(format!("{count} clients, round {round}"));
            for (device, remote) in [&soft, &paced].into_iter().enumerate() {
                let counts = together(bench, remote, count, work, seconds)?;
                let whole: f64 = counts.iter().sum();
                ensure!(whole > 0.0, "no kernel ended in time");
                if count == 1 {
                    alone[device] = whole;
                }
                of_both[device].push(Shares {
                    rate: whole / seconds,
                    of_one: whole / alone[device],
                    least: least(&counts),
                });
            }
        }
    }
    let rows: Vec<(usize, [Shares; 2])> = crowds
        .iter()
        .zip(all)
        .map(|(count, both)| (*count, both.map(middle)))
        .collect();
    let mut table = Table::new(
        format!("Kernels of 1 ms a second by shm, medians of {rounds} rounds of {seconds} s"),
        &[
            "clients",
            "softgpu",
            "÷ one client's",
            "least share ÷ fair",
            "paced null device",
            "÷ one client's",
            "least share ÷ fair",
        ],
    );
    for (count, both) in &rows {
        let cells = both
            .iter()
            .flat_map(|each| [each.rate, each.of_one, each.least]);
        table.row(count.to_string(), cells.map(short));
    }
    if let Some((16, [soft, _])) = rows.last() {
        let figure = Figure::at_least("fast.clients16", soft.of_one, "ratio", 0.95);
        figures.add(figure.placed(&placement));
        let figure = Figure::at_least("fast.clients16_min", soft.least, "ratio", 0.5);
        figures.add(figure.placed(&placement));
    }
    let series = |device: usize| {
        let points = rows
            .iter()
            .map(|(count, both)| (*count as f64, both[device].of_one));
        points.collect()
    };
    let plot = Plot {
        file: "clients",
        title: "Kernels of 1 ms, all clients together".into(),
        x: "clients",
        y: "÷ one client's",
        shape: Shape::Lines {
            logarithmic: false,
            series: vec![
                ("softgpu".into(), series(0)),
                ("paced null device".into(), series(1)),
            ],
        },
    };
    Ok(Section {
        name: "clients",
        title: "1 to 16 clients",
        text: TEXT,
        placement,
        tables: vec![table],
        plots: vec![plot],
    })
}

/// The medians over the rounds, each for itself.
fn middle(rounds: Vec<Shares>) -> Shares {
    let of = |value: fn(&Shares) -> f64| median(rounds.iter().map(value).collect());
    Shares {
        rate: of(|shares| shares.rate),
        of_one: of(|shares| shares.of_one),
        least: of(|shares| shares.least),
    }
}

/// The least client's kernels, of what would be its part.
fn least(counts: &Counts) -> f64 {
    let fair = counts.iter().sum::<f64>() / counts.len() as f64;
    counts.iter().copied().fold(f64::INFINITY, f64::min) / fair
}

fn together(
    bench: &Bench<'_>,
    remote: &Remote<'_>,
    count: usize,
    work: f64,
    seconds: f64,
) -> Result<Counts> {
    let place = remote.by("shm")?;
    let begin = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    let begin = begin + READY + EACH * count as u32;
    let start = || -> Result<Child> {
        let mut command = Command::new(&bench.probe);
        clean(&mut command)
            .args(["busy", &work.to_string()])
            .args([begin.as_secs_f64(), seconds].map(|number| number.to_string()))
            .envs(place.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        command.spawn().context("the probe does not start")
    };
    let clients: Result<Vec<Child>> = (0..count).map(|_| start()).collect();
    let said = clients?.into_iter().map(|client| {
        let output = client.wait_with_output()?;
        ensure!(output.status.success(), "a client failed");
        Said::parse(&String::from_utf8_lossy(&output.stdout))?.get("kernels")
    });
    // All are waited for, whatever one says.
    let said: Vec<Result<f64>> = said.collect();
    said.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_of_what_would_be_fair() {
        assert_eq!(least(&vec![4.0, 4.0]), 1.0);
        assert_eq!(least(&vec![2.0, 6.0]), 0.5);
        assert!(least(&Vec::new()).is_nan());
    }
}
