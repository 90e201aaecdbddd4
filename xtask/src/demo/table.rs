//! The demo's last page: where the time of each clip went, and what crossed the wire.

use std::fmt::Write;

use super::Run;

const PHASES: [(&str, &str); 4] = [
    ("input/output", "input_output"),
    ("import modules", "import_modules"),
    ("load model", "load_model"),
    ("processing", "processing"),
];

pub fn render(remote: &[Run], direct: &[Run]) -> String {
    let mut header = vec!["clip".to_owned(), "device".into(), "initialise".into()];
    header.extend(PHASES.iter().map(|(title, _)| (*title).to_owned()));
    header.extend(["ms a frame", "whole job"].map(str::to_owned));
    let mut times = vec![header];
    let mut wire = vec![
        [
            "clip",
            "answer",
            "calls",
            "waits",
            "copies out",
            "modules",
            "other waits",
            "bytes out",
            "bytes in",
            "connect ms",
        ]
        .map(str::to_owned)
        .to_vec(),
    ];
    for (remote, direct) in remote.iter().zip(direct) {
        times.push(row(remote, "remote", &remote.clip));
        times.push(row(direct, "direct", ""));
        if let Some(stats) = &remote.stats {
            let (copies, modules) = (stats.copies_out(), stats.modules());
            wire.push(vec![
                remote.clip.clone(),
                remote.class.clone(),
                stats.calls.to_string(),
                stats.waits.to_string(),
                copies.to_string(),
                modules.to_string(),
                stats.waits.saturating_sub(copies + modules).to_string(),
                bytes(stats.bytes_out),
                bytes(stats.bytes_in),
                format!("{:.1}", stats.connect_ms),
            ]);
        }
    }
    let mut out = String::new();
    let _ = writeln!(
        out,
        "\nSeconds in each phase. Remote: {} at once on one shared GPU. Direct: one after another, each with its own.\n\n{}",
        remote.len(),
        align(&times)
    );
    let _ = write!(out, "What was forwarded.\n\n{}", align(&wire));
    for run in remote {
        let unsupported = run.stats.iter().flat_map(|stats| &stats.unsupported);
        for (call, count) in unsupported {
            let _ = writeln!(
                out,
                "{}: {call} is not served, called {count} times",
                run.clip
            );
        }
    }
    out
}

fn row(run: &Run, device: &str, clip: &str) -> Vec<String> {
    let between = |from: &str, to: &str| {
        let (from, to) = (run.job.time(from)?, run.job.time(to)?);
        Some(to - from)
    };
    let seconds = |value: Option<f64>| value.map_or("?".into(), |value| format!("{value:.3}"));
    let mut row = vec![
        clip.to_owned(),
        device.to_owned(),
        // The thesis' first phase: until the function's process runs.
        seconds(between("t_submitted", "t_running")),
    ];
    row.extend(PHASES.iter().map(|(_, name)| seconds(run.job.phase(name))));
    let frame = run.job.0["phases"]["ms_per_frame"].as_f64();
    row.push(frame.map_or("?".into(), |ms| format!("{ms:.2}")));
    row.push(seconds(between("t_submitted", "t_end")));
    row
}

fn bytes(count: u64) -> String {
    match count {
        0..10_000 => format!("{count} B"),
        10_000..10_000_000 => format!("{} kB", count / 1000),
        _ => format!("{} MB", count / 1_000_000),
    }
}

/// Columns as wide as their widest cell; the first two to the left.
fn align(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|at| {
            let cells = rows.iter().filter_map(|row| row.get(at));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        })
        .collect();
    let mut out = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).enumerate();
        let line: Vec<String> = cells
            .map(|(at, (cell, width))| match at {
                0 | 1 => format!("{cell:<width$}"),
                _ => format!("{cell:>width$}"),
            })
            .collect();
        let _ = writeln!(out, "{}", line.join("  ").trim_end());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = [vec!["a", "b", "long"], vec!["wide", "b", "1"]];
        let rows: Vec<Vec<String>> = rows
            .into_iter()
            .map(|row| row.into_iter().map(str::to_owned).collect())
            .collect();
        assert_eq!(align(&rows), "a     b  long\nwide  b     1\n");
        assert_eq!(
            (bytes(9999), bytes(123_456)),
            ("9999 B".into(), "123 kB".into())
        );
    }
}
