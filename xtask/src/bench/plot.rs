//! Plots as SVG, without fonts of the machine's.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::prelude::*;

use crate::bench::report::{Plot, Shape, short};

const SIZE: (u32, u32) = (720, 400);

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;
type Series = [(String, Vec<(f64, f64)>)];

fn broken(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("cannot plot: {error}")
}

fn color(index: usize) -> RGBColor {
    // Okabe and Ito's, which the colour-blind can tell apart.
    const ALL: [(u8, u8, u8); 7] = [
        (0, 114, 178),
        (213, 94, 0),
        (0, 158, 115),
        (204, 121, 167),
        (230, 159, 0),
        (86, 180, 233),
        (0, 0, 0),
    ];
    let (red, green, blue) = ALL[index % ALL.len()];
    RGBColor(red, green, blue)
}

pub fn write(plot: &Plot, file: &Path) -> Result<()> {
    let area = SVGBackend::new(file, SIZE).into_drawing_area();
    area.fill(&WHITE).map_err(broken)?;
    match &plot.shape {
        Shape::Lines {
            logarithmic: false,
            series,
        } => {
            let (x, y) = ends(series);
            lines(&area, plot, series, 0.0..x.1 * 1.05, 0.0..y.1 * 1.1)?;
        }
        Shape::Lines {
            logarithmic: true,
            series,
        } => {
            let (x, y) = ends(series);
            let x = (x.0 / 1.3..x.1 * 1.3).log_scale();
            lines(&area, plot, series, x, (y.0 / 1.5..y.1 * 1.5).log_scale())?;
        }
        Shape::Stacks { parts, bars } => stacks(&area, plot, parts, bars)?,
    }
    area.present().map_err(broken)
}

/// Least and most of both coordinates.
fn ends(series: &Series) -> ((f64, f64), (f64, f64)) {
    let points = || series.iter().flat_map(|(_, points)| points);
    let of = |value: fn(&(f64, f64)) -> f64| {
        points()
            .map(value)
            .fold((f64::MAX, f64::MIN), |ends, value| {
                (ends.0.min(value), ends.1.max(value))
            })
    };
    match points().next() {
        Some(_) => (of(|point| point.0), of(|point| point.1)),
        None => ((1.0, 2.0), (1.0, 2.0)),
    }
}

fn lines<X, Y>(area: &Area<'_>, plot: &Plot, series: &Series, x: X, y: Y) -> Result<()>
where
    X: AsRangedCoord<Value = f64>,
    Y: AsRangedCoord<Value = f64>,
    X::CoordDescType: ValueFormatter<f64>,
    Y::CoordDescType: ValueFormatter<f64>,
{
    let mut chart = ChartBuilder::on(area)
        .caption(&plot.title, ("sans-serif", 17))
        .margin(8)
        .x_label_area_size(42)
        .y_label_area_size(58)
        .build_cartesian_2d(x, y)
        .map_err(broken)?;
    chart
        .configure_mesh()
        .x_desc(plot.x)
        .y_desc(plot.y)
        .x_label_formatter(&|value| short(*value))
        .y_label_formatter(&|value| short(*value))
        .light_line_style(TRANSPARENT)
        .draw()
        .map_err(broken)?;
    for (index, (name, points)) in series.iter().enumerate() {
        let style = color(index).stroke_width(2);
        chart
            .draw_series(LineSeries::new(points.iter().copied(), style).point_size(3))
            .map_err(broken)?
            .label(name)
            .legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 16, y)], style));
    }
    legend(&mut chart)
}

fn stacks(
    area: &Area<'_>,
    plot: &Plot,
    parts: &[String],
    bars: &[(String, Vec<f64>)],
) -> Result<()> {
    let whole = |bar: &(String, Vec<f64>)| bar.1.iter().sum::<f64>();
    let most = bars.iter().map(whole).fold(0.0, f64::max);
    let name = |value: &f64| {
        let index = (*value - 0.5).round();
        let near = (value - 0.5 - index).abs() < 0.01 && index >= 0.0;
        let bar = near.then(|| bars.get(index as usize)).flatten();
        bar.map_or(String::new(), |bar| bar.0.clone())
    };
    let mut chart = ChartBuilder::on(area)
        .caption(&plot.title, ("sans-serif", 17))
        .margin(8)
        .x_label_area_size(42)
        .y_label_area_size(58)
        .build_cartesian_2d(0.0..bars.len() as f64, 0.0..most * 1.5)
        .map_err(broken)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        // A label in the middle of each bar.
        .x_labels(2 * bars.len() + 1)
        .x_desc(plot.x)
        .y_desc(plot.y)
        .x_label_formatter(&name)
        .y_label_formatter(&|value| short(*value))
        .light_line_style(TRANSPARENT)
        .draw()
        .map_err(broken)?;
    for (index, part) in parts.iter().enumerate() {
        let rectangles = bars.iter().enumerate().map(|(at, (_, values))| {
            let below: f64 = values.iter().take(index).sum();
            let height = values.get(index).copied().unwrap_or(0.0);
            let (left, right) = (at as f64 + 0.2, at as f64 + 0.8);
            Rectangle::new(
                [(left, below), (right, below + height)],
                color(index).filled(),
            )
        });
        chart
            .draw_series(rectangles)
            .map_err(broken)?
            .label(part)
            .legend(move |(x, y)| {
                Rectangle::new([(x, y - 4), (x + 12, y + 4)], color(index).filled())
            });
    }
    legend(&mut chart)
}

fn legend<'a, C>(chart: &mut ChartContext<'a, SVGBackend<'a>, C>) -> Result<()>
where
    C: CoordTranslate,
{
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.2))
        .draw()
        .map_err(broken)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(shape: Shape) -> String {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("plot.svg");
        let plot = Plot {
            file: "plot",
            title: "Title".into(),
            x: "frames",
            y: "seconds",
            shape,
        };
        write(&plot, &file).unwrap();
        std::fs::read_to_string(file).unwrap()
    }

    #[test]
    fn plots_name_what_they_show() {
        let series = vec![("remote".to_owned(), vec![(1.0, 2.0), (3.0, 4.0)])];
        for logarithmic in [false, true] {
            let text = drawn(Shape::Lines {
                logarithmic,
                series: series.clone(),
            });
            for word in ["Title", "frames", "seconds", "remote"] {
                assert!(text.contains(word), "{word} is missing: {text}");
            }
        }
        let text = drawn(Shape::Stacks {
            parts: vec!["imports".into(), "frames".into()],
            bars: vec![
                ("cold".into(), vec![1.0, 2.0]),
                ("warm".into(), vec![0.0, 2.0]),
            ],
        });
        for word in ["imports", "cold", "warm"] {
            assert!(text.contains(word), "{word} is missing: {text}");
        }
    }
}
