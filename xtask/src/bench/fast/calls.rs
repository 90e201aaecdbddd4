//! Single calls by class, copies by size, and a model of thousands of tiny kernels, by transport.

use anyhow::Result;
use rgpu_system::agreement::SCHEMES;

use super::resident::bytes;
use crate::bench::figures::Figures;
use crate::bench::link::Link;
use crate::bench::report::{Plot, Section, Shape, Table, short};
use crate::bench::tools::{Bench, Place, Said};

const TEXT: &str = include_str!("calls.md");
const KERNELS: &str = "5000";

/// One of the ways to the device.
struct Way {
    name: &'static str,
    place: Place,
}

pub fn measure(bench: &Bench<'_>, _figures: &mut Figures, at: &dyn Fn(String)) -> Result<Section> {
    let remote = bench.server(Vec::new(), Link::default())?;
    let mut ways = vec![Way {
        name: "direct",
        place: bench.directly(),
    }];
    for name in SCHEMES {
        let place = remote.by(name)?;
        ways.push(Way { name, place });
    }
    let said = |arguments: &[&str]| -> Result<Vec<Said>> {
        let each = ways.iter().map(|way| bench.probe(arguments, &way.place));
        each.collect()
    };
    let names: Vec<&str> = ways.iter().map(|way| way.name).collect();
    let head = |first: &'static str| [&[first][..], &names].concat();

    at("single calls".into());
    let rounds = if bench.quick { "400" } else { "4000" };
    let classes = said(&["classes", rounds])?;
    let mut calls = Table::new("A call in the calling thread, µs (medians)", &head("call"));
    let first: Vec<&str> = classes[0].all().map(|(name, _)| name).collect();
    for name in first {
        let cells: Result<Vec<String>> = classes
            .iter()
            .map(|said| Ok(short(said.get(name)?)))
            .collect();
        calls.row(name.replacen('.', ": ", 1), cells?);
    }

    at("a model of tiny kernels".into());
    let tiny = said(&["tiny", KERNELS])?;
    let mut model = Table::new(
        format!("A step of {KERNELS} tiny kernels and one wait, ms"),
        &head(""),
    );
    for (name, value) in [
        ("launch by launch", "launches_us"),
        ("as one graph", "graph_us"),
    ] {
        let cells: Result<Vec<String>> = tiny
            .iter()
            .map(|said| Ok(short(said.get(value)? / 1000.0)))
            .collect();
        model.row(name, cells?);
    }

    at("copies".into());
    let sizes: &[usize] = match bench.quick {
        true => &[4 << 10, 1 << 20, 64 << 20],
        false => &[4 << 10, 64 << 10, 1 << 20, 16 << 20, 64 << 20, 256 << 20],
    };
    let list: Vec<String> = sizes.iter().map(usize::to_string).collect();
    let copies = said(&["bulk", &list.join(",")])?;
    let mut bulk = Table::new(
        "Copies, GB/s",
        &[&["copy", "memory", "size"][..], &names].concat(),
    );
    let mut plots = Vec::new();
    for (way, name) in [("there", "in"), ("back", "out")] {
        for kind in ["pageable", "pinned"] {
            for &size in sizes {
                let speeds: Result<Vec<String>> = copies
                    .iter()
                    .map(|said| Ok(short(said.get(&format!("{way}.{kind}.{size}"))?)))
                    .collect();
                let cells = [kind.to_owned(), bytes(size)].into_iter().chain(speeds?);
                bulk.row(name, cells);
            }
        }
        plots.push(plot(way, name, sizes, &names, &copies)?);
    }
    Ok(Section {
        name: "calls",
        title: "Calls, copies and launches by transport",
        text: TEXT,
        placement: bench.machine.anywhere(),
        tables: vec![calls, model, bulk],
        plots,
    })
}

fn plot(
    way: &str,
    name: &'static str,
    sizes: &[usize],
    names: &[&str],
    copies: &[Said],
) -> Result<Plot> {
    let mut series = Vec::new();
    for (transport, said) in names.iter().zip(copies) {
        let points: Result<Vec<(f64, f64)>> = sizes
            .iter()
            .map(|size| {
                let speed = said.get(&format!("{way}.pageable.{size}"))?;
                // What is too slow for three digits has no place on a logarithmic axis.
                Ok((*size as f64 / 1024.0, speed.max(0.001)))
            })
            .collect();
        series.push(((*transport).to_owned(), points?));
    }
    Ok(Plot {
        file: if name == "in" {
            "copies-in"
        } else {
            "copies-out"
        },
        title: format!("Copies {name} of pageable memory"),
        x: "KiB",
        y: "GB/s",
        shape: Shape::Lines {
            logarithmic: true,
            series,
        },
    })
}
