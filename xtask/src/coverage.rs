//! `cargo xtask coverage`: how much of cuda.h and of the runtime API is served or refused for a reason; the instruction forms that
//! softgpu's engine accepts, and those of them that were compared with independent values; and what is the same remoted as directly.

use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use rgpu_system::Programs;
use rgpu_system::agreement::Agreement;
use rgpu_system::facts::PROGRAMS;

use crate::bench::figures::{Figure, Figures};
use crate::clients::{remote_equal, rounded_down};
use crate::codegen::table::Table;
use crate::codegen::{coverage, cudart};
use crate::progress::step;
use crate::workspace_root;

const TEST: &str = "coverage::every_accepted_form_gives_what_it_should";

/// Of the base names of cuda.h.
const SERVED: f64 = 415.0;

pub fn coverage() -> Result<()> {
    let mut figures = Figures::default();
    let api = coverage::count(&Table::read(&workspace_root())?);
    for name in &api.unexplained {
        println!("neither served nor refused: {name}");
    }
    println!(
        "{} of {} base names of cuda.h are served",
        api.base_names, api.all_base_names
    );
    let served = api.base_names as f64;
    let unexplained = api.unexplained.len() as f64;
    figures.add(Figure::at_least("coverage.served", served, "names", SERVED));
    figures.add(Figure::at_most(
        "coverage.unexplained",
        unexplained,
        "names",
        0.0,
    ));
    let run = crate::cargo()
        .current_dir(workspace_root())
        .args(["test", "-p", "softgpu-engine", "--test", "suite", "--"])
        .args(["--exact", TEST, "--nocapture"])
        .stderr(Stdio::inherit())
        .output()
        .context("cargo test")?;
    let text = String::from_utf8_lossy(&run.stdout);
    let (tested, accepted) = text
        .lines()
        .find_map(counts)
        .context("the test says no counts")?;
    for line in text.lines().filter(|line| line.starts_with("not tested")) {
        println!("{line}");
    }
    println!("{tested} of {accepted} forms are tested");
    let share = rounded_down(tested as usize, accepted as usize);
    figures.add(Figure::at_least(
        "softgpu.forms_tested",
        share,
        "share",
        1.0,
    ));
    let (served, names) = cudart::count(&cudart::Row::read(&workspace_root())?);
    println!("{served} of the {names} names of libcudart.so.13 are served");
    figures.add(Figure::at_least(
        "coverage.cudart",
        served as f64,
        "names",
        380.0,
    ));
    figures.add(error_codes_equal()?);
    match remote_equal() {
        Some(figure) => figures.add(figure),
        None => println!("no suite of `cargo xtask clients` has been run at both places here"),
    }
    figures.write("cargo xtask coverage")?;
    ensure!(
        run.status.success(),
        "a form does not give what it should, or is not tested"
    );
    Ok(())
}

/// Of the facts that the conformance programs say: those that are the same directly, by unix and by tcp.
fn error_codes_equal() -> Result<Figure> {
    let programs = Programs::for_tests()?;
    let (mut equal, mut all) = (0, 0);
    for (name, environment) in PROGRAMS {
        let agreement = step(name, |_| Agreement::of(&programs, name, &[], environment))?;
        for difference in agreement.differences() {
            println!("{name}: {difference}");
        }
        let (same, said) = agreement.count();
        equal += same;
        all += said;
    }
    println!("{equal} of {all} facts are the same remoted as directly");
    let share = rounded_down(equal, all);
    Ok(Figure::at_least(
        "coverage.error_codes_equal",
        share,
        "share",
        1.0,
    ))
}

/// `forms tested 10 accepted 12`, maybe behind what the test's harness writes.
fn counts(line: &str) -> Option<(u64, u64)> {
    let (_, counts) = line.split_once("forms tested ")?;
    let (tested, accepted) = counts.split_once(" accepted ")?;
    Some((tested.parse().ok()?, accepted.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read() {
        assert_eq!(counts("forms tested 10 accepted 12"), Some((10, 12)));
        assert_eq!(
            counts("test a::b ... forms tested 1 accepted 2"),
            Some((1, 2))
        );
        assert_eq!(counts("forms tested x accepted 12"), None);
    }
}
