//! Clips in the runner: one by one, and several at once that share a remote device or queue for one of their own.

use std::path::PathBuf;

use anyhow::Result;
use rgpu_system::Faas;
use rgpu_system::faas::Gpu;

use super::function::{Function, timed, workflow};
use super::{Column, Size};
use crate::bench::report::{Plot, Shape, Table, short};
use crate::bench::share::ends_of;
use crate::bench::tools::{Bench, Place, Remote};

pub struct Crowd {
    frames: u32,
    pub exclusive_alone: Column,
    pub remote_alone: Column,
    /// Clips, and seconds until the last has ended.
    shared: Vec<(usize, f64)>,
    /// The same one after the other; where it was not measured, as many times the mean of those that were.
    queued: Vec<(usize, f64)>,
}

struct Runner<'a> {
    faas: Faas,
    folder: PathBuf,
    function: &'a Function<'a>,
    round: u32,
}

impl<'a> Runner<'a> {
    fn start(
        bench: &Bench<'_>,
        function: &'a Function<'a>,
        gpu: Gpu<'_>,
        more: Place,
    ) -> Result<Runner<'a>> {
        let folder = bench.new_folder()?;
        let mut environment = function.environment();
        environment.extend(more);
        let faas = Faas::start(bench.programs, &folder, gpu, &environment)?;
        faas.apply(bench.programs, &workflow().join("function.yaml"))?;
        Ok(Runner {
            faas,
            folder,
            function,
            round: 0,
        })
    }

    /// When each of so many clips has ended.
    fn ends(&mut self, count: usize, frames: u32) -> Result<Vec<f64>> {
        self.round += 1;
        let clips = vec![self.function.clip(frames)?.to_owned(); count];
        ends_of(&self.faas, "paced", &clips, &self.folder, self.round)
    }

    fn alone(&mut self, frames: &[u32], at: &dyn Fn(String)) -> Result<Column> {
        let mut column = Column::default();
        for &frames in frames {
            at(format!("{frames} frames in the runner"));
            let ends = self.ends(1, frames)?;
            column.seconds.push((f64::from(frames), ends[0]));
        }
        Ok(column)
    }
}

impl Crowd {
    pub fn measure(
        function: &Function<'_>,
        bench: &Bench<'_>,
        near: &Remote<'_>,
        size: &Size,
        at: &dyn Fn(String),
    ) -> Result<Crowd> {
        let home = bench.new_folder()?;
        let gpu = Gpu::Exclusive(&bench.null);
        let mut exclusive = Runner::start(bench, function, gpu, timed("", &home))?;
        let gpu = Gpu::Remote(&near.server, "tcp");
        let mut remote = Runner::start(bench, function, gpu, Vec::new())?;
        // A quick run has these from what follows.
        let lengths: &[u32] = if bench.quick { &[] } else { &size.fewer };
        let exclusive_alone = exclusive.alone(lengths, at)?;
        let remote_alone = remote.alone(lengths, at)?;
        at(format!("4 clips of {} frames in a queue", size.crowd));
        let ends = exclusive.ends(4, size.crowd)?;
        let mut shared = Vec::new();
        for &count in &size.crowds {
            at(format!("{count} clips of {} frames at once", size.crowd));
            let ends = remote.ends(count, size.crowd)?;
            shared.push((count, ends.last().copied().unwrap_or(f64::NAN)));
        }
        Ok(Crowd {
            frames: size.crowd,
            exclusive_alone,
            remote_alone,
            queued: size
                .crowds
                .iter()
                .map(|&count| (count, queued(&ends, count)))
                .collect(),
            shared,
        })
    }

    /// Shared against queued.
    pub fn four(&self) -> f64 {
        let of = |all: &[(usize, f64)]| {
            all.iter()
                .find(|(count, _)| *count == 4)
                .map(|(_, time)| *time)
        };
        let both = of(&self.shared).zip(of(&self.queued));
        both.map_or(f64::NAN, |(shared, queued)| shared / queued)
    }

    pub fn table(&self) -> Table {
        let mut table = Table::new(
            format!(
                "Seconds until all clips of {} frames have ended",
                self.frames
            ),
            &[
                "clips at once",
                "one device, exclusive, a queue",
                "one remote device, shared",
                "ratio",
            ],
        );
        for ((count, shared), (_, queued)) in self.shared.iter().zip(&self.queued) {
            let note = if *count > 4 { " (as the four)" } else { "" };
            table.row(
                count.to_string(),
                [
                    short(*queued) + note,
                    short(*shared),
                    format!("{:.3}", shared / queued),
                ],
            );
        }
        table
    }

    pub fn plot(&self) -> Plot {
        let points = |all: &[(usize, f64)]| {
            all.iter()
                .map(|(count, time)| (*count as f64, *time))
                .collect()
        };
        Plot {
            file: "crowd",
            title: format!("Clips of {} frames at once", self.frames),
            x: "clips",
            y: "seconds until the last has ended",
            shape: Shape::Lines {
                logarithmic: false,
                series: vec![
                    ("exclusive, with a queue".into(), points(&self.queued)),
                    ("shared".into(), points(&self.shared)),
                ],
            },
        }
    }
}

/// When as many clips have ended one after the other, of when the first ones had.
fn queued(ends: &[f64], count: usize) -> f64 {
    let measured = ends.get(count.wrapping_sub(1)).copied();
    measured.unwrap_or_else(|| match ends.last() {
        Some(last) => last * count as f64 / ends.len() as f64,
        None => f64::NAN,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_longer_queue_takes_as_much_longer() {
        let ends = [2.0, 3.9, 6.0, 8.0];
        assert_eq!(
            [1, 2, 4, 8].map(|count| queued(&ends, count)),
            [2.0, 3.9, 8.0, 16.0]
        );
        assert!(queued(&[], 1).is_nan());
    }
}
