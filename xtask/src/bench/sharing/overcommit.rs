//! Ten functions whose memory is four times the device's: at once, and one after another.

use anyhow::Result;

use super::house::{Client, House, token};
use crate::bench::figures::{Figure, Figures};
use crate::bench::median;
use crate::bench::report::{Section, Table, short};
use crate::bench::tools::Bench;

const TEXT: &str = include_str!("overcommit.md");
const FUNCTIONS: usize = 10;
const DEVICE_MIB: usize = 200;
/// Of each function: 40 % of the device. Its profile has a little more, for what the driver takes itself.
const MEMORY_MIB: usize = DEVICE_MIB * 2 / 5;
const PROFILE_MIB: usize = MEMORY_MIB + 8;
const KERNEL_MS: f64 = 5.0;
const KERNELS: usize = 20;
/// Three times what a phase computes: one that computes on what it reads from elsewhere.
const PAUSE_MS: f64 = 300.0;

fn config() -> String {
    let mut text = format!(
        "[placement]\novercommit = 5.0\n\
         [[profile]]\nname = \"p\"\nmemory_mib = {PROFILE_MIB}\novercommit = true\n"
    );
    for tenant in 0..FUNCTIONS {
        let token = token(tenant);
        text +=
            &format!("[[tenant]]\nname = \"t{tenant}\"\ntoken = \"{token}\"\nprofile = \"p\"\n");
    }
    text
}

pub fn measure(bench: &Bench<'_>, figures: &mut Figures, at: &dyn Fn(String)) -> Result<Section> {
    let (phases, repetitions) = if bench.quick { (4, 1) } else { (8, 3) };
    let memory = ("SOFTGPU_MEMORY", format!("{DEVICE_MIB}MiB"));
    let house = House::with(bench, config(), FUNCTIONS, &[memory], &[])?;
    let rounds = house.calibrate(KERNEL_MS)?;
    let function = |tenant: usize| {
        let words = [
            "hoard".to_owned(),
            MEMORY_MIB.to_string(),
            phases.to_string(),
            KERNELS.to_string(),
            PAUSE_MS.to_string(),
            (tenant + 1).to_string(),
        ];
        Client {
            tenant,
            work: rounds.to_string(),
            words: words.into(),
        }
    };
    let mut table = Table::new(
        format!(
            "Seconds of {FUNCTIONS} functions with {MEMORY_MIB} MiB each of a device of {DEVICE_MIB} MiB, {phases} phases of {KERNELS} kernels of {KERNEL_MS} ms"
        ),
        &["run", "one after another", "at once", "ratio"],
    );
    let mut ratios = Vec::new();
    for repetition in 0..repetitions {
        at(format!("repetition {repetition}, one after another"));
        let mut within = 0.0;
        for tenant in 0..FUNCTIONS {
            within += house.run(&[function(tenant)])?[0].get("end")? / 1000.0;
        }
        at(format!("repetition {repetition}, at once"));
        let all: Vec<Client> = (0..FUNCTIONS).map(function).collect();
        let mut at_once: f64 = 0.0;
        for said in house.run(&all)? {
            at_once = at_once.max(said.get("end")? / 1000.0);
        }
        ratios.push(at_once / within);
        let cells = [within, at_once, at_once / within];
        table.row((repetition + 1).to_string(), cells.map(short));
    }
    let placement = bench.machine.anywhere();
    let figure = Figure::at_most("sharing.overcommit", median(ratios), "ratio", 1.5);
    figures.add(figure.placed(&placement));
    Ok(Section {
        name: "overcommit",
        title: "Four times the device's memory",
        text: TEXT,
        placement,
        tables: vec![table],
        plots: Vec::new(),
    })
}
