//! The plots. The page's style sheet has the colours, one set for light and one for dark; here
//! every system has a colour that only marks it.

use anyhow::{Error, Result};
use plotters::chart::ChartBuilder;
use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::prelude::{
    Circle, Color, IntoDrawingArea as _, IntoFont as _, IntoLogRange as _, PathElement, RGBColor,
    Rectangle, SVGBackend,
};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{TRANSPARENT, TextStyle};

use crate::row::Row;
use crate::spec::System;

const SIZE: (u32, u32) = (900, 460);
const FONT: &str = "system-ui, sans-serif";

const INK: RGBColor = RGBColor(1, 0, 0);
const AXIS: RGBColor = RGBColor(2, 0, 0);
const GRID: RGBColor = RGBColor(3, 0, 0);

/// A system's number among all: its class in the style sheet.
pub fn index(system: System) -> usize {
    use clap::ValueEnum as _;
    System::value_variants().iter().position(|&other| other == system).unwrap_or(0)
}

fn color(system: System) -> RGBColor {
    RGBColor(16 + index(system) as u8, 0, 0)
}

/// Replaces the colours by classes of the style sheet.
fn themed(svg: &str) -> String {
    use clap::ValueEnum as _;
    let mut themed = svg
        .replace(r##"fill="#010000""##, r#"class="ink""#)
        .replace(r##"stroke="#020000""##, r#"class="axis""#)
        .replace(r##"stroke="#030000""##, r#"class="grid""#);
    for &system in System::value_variants() {
        let RGBColor(red, ..) = color(system);
        let class = index(system);
        themed = themed
            .replace(&format!("fill=\"#{red:02X}0000\""), &format!("class=\"fill s{class}\""))
            .replace(&format!("stroke=\"#{red:02X}0000\""), &format!("class=\"line s{class}\""));
    }
    themed
}

fn failure(error: impl std::fmt::Display) -> Error {
    Error::msg(format!("cannot draw a plot: {error}"))
}

fn text(pixels: u32) -> TextStyle<'static> {
    (FONT, pixels).into_font().color(&INK)
}

/// A line per system over categories, such as sizes or numbers of readers; the axis of values is
/// logarithmic, marks are at the medians, and bars reach from quartile to quartile.
///
/// # Errors
///
/// When it cannot be drawn.
pub fn lines(
    rows: &[&Row],
    categories: &[String],
    category: impl Fn(&Row) -> usize,
    label: impl Fn(f64) -> String,
) -> Result<String> {
    draw(
        rows,
        categories,
        &label,
        |row| row.spread.value.map(|q| (q.q1, q.q3)),
        |row, _| category(row) as f64 + 0.5,
        false,
    )
}

/// A bar per system in each category, on a logarithmic axis, with the quartiles as lines.
///
/// # Errors
///
/// When it cannot be drawn.
pub fn bars(
    rows: &[&Row],
    categories: &[String],
    category: impl Fn(&Row) -> usize,
    label: impl Fn(f64) -> String,
) -> Result<String> {
    let mut systems: Vec<_> = rows.iter().map(|row| row.system).collect();
    systems.sort_unstable();
    systems.dedup();
    let place = |row: &Row, systems: &[System]| {
        let own = systems.iter().position(|&system| system == row.system).unwrap_or(0) as f64;
        category(row) as f64 + 0.1 + 0.8 * (own + 0.5) / systems.len() as f64
    };
    draw(
        rows,
        categories,
        &label,
        |row| row.spread.value.map(|q| (q.q1, q.q3)),
        |row, _| place(row, &systems),
        true,
    )
}

fn draw(
    rows: &[&Row],
    categories: &[String],
    label: &dyn Fn(f64) -> String,
    spread: impl Fn(&Row) -> Option<(f64, f64)>,
    place: impl Fn(&Row, usize) -> f64,
    as_bars: bool,
) -> Result<String> {
    let values = || rows.iter().filter_map(|row| row.value).filter(|value| *value > 0.0);
    let low = values().fold(f64::INFINITY, f64::min);
    let high = values().fold(0.0, f64::max);
    anyhow::ensure!(low.is_finite() && high > 0.0, "there is nothing to plot");
    let bottom = 10_f64.powf((low / 1.5).log10().floor());
    let top = high * 2.0;
    let mut systems: Vec<_> = rows.iter().map(|row| row.system).collect();
    systems.sort_unstable();
    systems.dedup();
    let width = 0.8 / systems.len() as f64;

    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        let mut chart = ChartBuilder::on(&area)
            .margin(12)
            .margin_bottom(36)
            .y_label_area_size(92)
            .build_cartesian_2d(0.0..categories.len() as f64, (bottom..top).log_scale())
            .map_err(failure)?;
        mesh(&mut chart, label)?;
        for &system in &systems {
            let own: Vec<&&Row> = rows
                .iter()
                .filter(|row| row.system == system && row.value.is_some_and(|value| value > 0.0))
                .collect();
            let thick = if system == System::Seqring { 4 } else { 2 };
            let mut points: Vec<(f64, f64)> =
                own.iter().filter_map(|row| Some((place(row, 0), row.value?))).collect();
            points.sort_by(|a, b| a.0.total_cmp(&b.0));
            if as_bars {
                let half = width * 0.42;
                let rectangles = points.iter().map(|&(x, y)| {
                    Rectangle::new([(x - half, bottom), (x + half, y)], color(system).filled())
                });
                chart.draw_series(rectangles).map_err(failure)?;
            } else {
                chart
                    .draw_series([PathElement::new(
                        points.clone(),
                        color(system).stroke_width(thick),
                    )])
                    .map_err(failure)?;
                let radius = if system == System::Seqring { 6 } else { 4 };
                chart
                    .draw_series(
                        points
                            .iter()
                            .map(|&point| Circle::new(point, radius, color(system).filled())),
                    )
                    .map_err(failure)?;
            }
            let quartiles = own.iter().filter_map(|row| {
                let (q1, q3) = spread(row)?;
                let x = place(row, 0);
                let line =
                    if as_bars { AXIS.stroke_width(2) } else { color(system).stroke_width(2) };
                (q1 > 0.0).then(|| PathElement::new([(x, q1), (x, q3)], line))
            });
            chart.draw_series(quartiles).map_err(failure)?;
        }
        let below = i32::try_from(SIZE.1)? - 18;
        let (pixels, _) = chart.plotting_area().get_pixel_range();
        let step = f64::from(pixels.end - pixels.start) / categories.len() as f64;
        let centered = text(20).pos(Pos::new(HPos::Center, VPos::Center));
        for (index, name) in categories.iter().enumerate() {
            let x = f64::from(pixels.start) + step * (index as f64 + 0.5);
            area.draw_text(name, &centered, (x as i32, below)).map_err(failure)?;
        }
        area.present().map_err(failure)?;
    }
    Ok(themed(&svg))
}

type Chart<'a, 'b, Y> = plotters::chart::ChartContext<
    'a,
    SVGBackend<'b>,
    plotters::prelude::Cartesian2d<plotters::coord::types::RangedCoordf64, Y>,
>;

fn mesh<Y>(chart: &mut Chart<'_, '_, Y>, label: &dyn Fn(f64) -> String) -> Result<()>
where
    Y: AsRangedCoord<Value = f64>
        + plotters::coord::ranged1d::Ranged<ValueType = f64>
        + ValueFormatter<f64>,
{
    chart
        .configure_mesh()
        .disable_x_mesh()
        .disable_x_axis()
        .y_labels(8)
        .y_label_formatter(&|value| label(*value))
        .label_style(text(18))
        .axis_style(AXIS)
        .bold_line_style(GRID)
        .light_line_style(TRANSPARENT)
        .draw()
        .map_err(failure)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::{Series, Unit, rows};

    #[test]
    fn a_plot_has_classes_and_no_colours_of_its_own() {
        let series = |system, bytes, value| Series {
            bench: "latency",
            system,
            payload_bytes: bytes,
            readers: 1,
            mode: "poll".to_owned(),
            unit: Unit::Nanoseconds,
            values: vec![value, value * 1.1],
            floors: Vec::new(),
            quantiles: None,
        };
        let all = [
            series(System::Seqring, 8, 50.0),
            series(System::Seqring, 64, 70.0),
            series(System::Pipe, 8, 9000.0),
        ];
        let rows = rows(&all, &[]);
        let rows: Vec<_> = rows.iter().collect();
        let categories = ["8 B".to_owned(), "64 B".to_owned()];
        let place = |row: &Row| usize::from(row.payload_bytes == 64);
        for svg in [
            lines(&rows, &categories, place, |v| format!("{v} ns")).unwrap(),
            bars(&rows, &categories, place, |v| format!("{v}")).unwrap(),
        ] {
            assert!(svg.contains("64 B") && svg.contains("s0\"") && svg.contains("s5\""), "{svg}");
            assert!(!svg.contains("0000\""), "a colour was left: {svg}");
        }
        assert!(lines(&[], &categories, place, |v| format!("{v}")).is_err(), "a plot of nothing");
    }
}
