//! Links from loopback to far and lossy: an inference step that is recorded as a graph, and a large copy.

use std::path::Path;
use std::process::Command;

use anyhow::Result;
use rgpu_system::python;

use crate::bench::figures::{Figure, Figures};
use crate::bench::link::Link;
use crate::bench::report::{Plot, Section, Shape, Table, short};
use crate::bench::tools::{Bench, text};
use crate::workspace_root;

const TEXT: &str = include_str!("far.md");
/// 20 ms and 1 % loss.
const JUDGED: Link = Link {
    rtt_us: 20_000,
    gbits: None,
    loss: 0.01,
};
/// Of the copy that shows what a line's rate leaves.
const COPY: &str = "16777216";
/// Frames of the clip whose pictures are sent: the usual share of black and noisy ones is among them.
const CLIP: u32 = 120;

fn links(quick: bool) -> Vec<Link> {
    if quick {
        return vec![Link::default(), JUDGED];
    }
    let lossy = |rtt_us| Link { rtt_us, ..JUDGED };
    let rated = |gbits| Link {
        gbits: Some(gbits),
        ..Link::rtt(50)
    };
    let mut links: Vec<Link> = [0, 50, 200, 1000].map(Link::rtt).into();
    links.extend([rated(10.0), rated(1.0)]);
    links.extend([lossy(5_000), JUDGED, lossy(50_000)]);
    links
}

/// As many frames as take some seconds; more where one in six meets a loss, and the mean is judged.
fn frames(link: &Link, quick: bool) -> u32 {
    let is_judged = link.rtt_us == JUDGED.rtt_us;
    let seconds = match quick {
        true => 3e6,
        false if is_judged => 21e6,
        false => 8e6,
    };
    ((seconds / f64::from(link.rtt_us + 1000)) as u32).clamp(20, 1000)
}

/// By one transport at the end of one link; microseconds, and GB/s in and out.
struct Frame {
    mean: f64,
    median: f64,
    speeds: [String; 2],
}

impl Frame {
    fn measure(
        bench: &Bench<'_>,
        link: &Link,
        pictures: &str,
        place: &[(String, String)],
    ) -> Result<Frame> {
        let count = frames(link, bench.quick).to_string();
        let said = bench.probe(&["frames", &count, pictures], place)?;
        let speeds = match bench.quick {
            true => ["–".to_owned(), "–".to_owned()],
            false => {
                let said = bench.probe(&["bulk", COPY], place)?;
                let speed = |way: &str| said.get(&format!("{way}.pinned.{COPY}")).map(short);
                [speed("there")?, speed("back")?]
            }
        };
        Ok(Frame {
            mean: said.get("frame_us")?,
            median: said.get("frame_median_us")?,
            speeds,
        })
    }
}

/// The pictures that the example's function sends for a clip, in a file.
fn pictures(python: &Path, folder: &Path) -> Result<String> {
    let clip = python::clips(python, folder, &[CLIP])?.remove(0);
    let file = folder.join("pictures");
    let mut command = Command::new(python);
    command
        .arg(workspace_root().join("bench/workflow/frames.py"))
        .args([&clip, &file])
        .env("ECHO_HOME", workspace_root().join("examples/echo"));
    python::run(&mut command, "cannot write the clip's pictures")?;
    Ok(text(&file))
}

pub fn measure(bench: &Bench<'_>, figures: &mut Figures, at: &dyn Fn(String)) -> Result<Section> {
    let placement = bench.machine.anywhere();
    let pictures = pictures(&bench.python, &bench.new_folder()?)?;
    let direct = bench
        .probe(&["frames", "1000", &pictures], &bench.directly())?
        .get("frame_us")?;
    let mut table = Table::new(
        format!(
            "A frame of a recorded graph, and a pinned copy of 16 MiB (a frame directly: {} µs)",
            short(direct)
        ),
        &[
            "link",
            "by",
            "frame, ms (mean)",
            "median",
            "round trips a frame",
            "copy in, GB/s",
            "copy out, GB/s",
        ],
    );
    let (mut points, mut judged) = (Vec::new(), f64::NEG_INFINITY);
    for link in links(bench.quick) {
        let remote = bench.server(Vec::new(), link)?;
        for transport in ["tcp", "quic"] {
            let (place, _relay) = match transport {
                "quic" if !link.carries_datagrams() => continue,
                "quic" => remote.by_datagrams()?,
                other => (remote.by(other)?, None),
            };
            at(format!("{}, {transport}", link.name()));
            let frame = Frame::measure(bench, &link, &pictures, &place)?;
            let trips = (frame.mean - direct) / f64::from(link.rtt_us);
            if link.rtt_us >= 1000 && transport == "tcp" {
                points.push((f64::from(link.rtt_us) / 1000.0, frame.mean / 1000.0));
            }
            if link.rtt_us == JUDGED.rtt_us {
                judged = judged.max(trips);
            }
            let trips = if link.rtt_us == 0 {
                "–".into()
            } else {
                short(trips)
            };
            let times = [frame.mean / 1000.0, frame.median / 1000.0].map(short);
            let cells = std::iter::once(transport.to_owned())
                .chain(times)
                .chain([trips]);
            table.row(link.name(), cells.chain(frame.speeds));
        }
    }
    let figure = Figure::at_most("fast.far.graph_rtts", judged, "round trips", 1.2);
    figures.add(figure.placed(&placement));
    let ideal = points
        .iter()
        .map(|(rtt, _)| (*rtt, *rtt + direct / 1000.0))
        .collect();
    let plots = match bench.quick {
        true => Vec::new(),
        false => vec![Plot {
            file: "far",
            title: "A frame of a recorded graph, by round trip".into(),
            x: "round trip, ms",
            y: "a frame, ms",
            shape: Shape::Lines {
                logarithmic: true,
                series: vec![("tcp".into(), points), ("one round trip".into(), ideal)],
            },
        }],
    };
    Ok(Section {
        name: "far",
        title: "Far and lossy links",
        text: TEXT,
        placement,
        tables: vec![table],
        plots,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_judged_link_is_always_there_once() {
        for quick in [false, true] {
            let judged = links(quick);
            let judged = judged.iter().filter(|link| link.rtt_us == JUDGED.rtt_us);
            assert_eq!(judged.count(), 1);
        }
        assert_eq!(frames(&Link::default(), false), 1000);
        assert_eq!(frames(&JUDGED, false), 1000);
    }
}
