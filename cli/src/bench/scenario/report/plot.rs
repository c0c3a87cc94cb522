//! The plots: one category per scenario, in it one bar or mark per engine.

use std::ops::Range;

use anyhow::{Error, Result};
use plotters::chart::ChartContext;
use plotters::coord::Shift;
use plotters::coord::ranged1d::{AsRangedCoord, Ranged, ValueFormatter};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::{
    Cartesian2d, ChartBuilder, Circle, Color, DrawingArea, IntoDrawingArea as _, IntoFont as _,
    IntoLogRange as _, PathElement, RGBColor, Rectangle, SVGBackend,
};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{TRANSPARENT, TextStyle};

use crate::bench::scenario::figure;
use crate::bench::scenario::outcome::Outcome;
use crate::engine::Engine;

const SIZE: (u32, u32) = (1000, 360);
const FONT: &str = "system-ui, sans-serif";

// The page's style sheet has the real colours, one set for light and one for
// dark. These only have to differ, so that `themed` can tell them apart.
const INK: RGBColor = RGBColor(1, 0, 0);
const AXIS: RGBColor = RGBColor(2, 0, 0);
const GRID: RGBColor = RGBColor(3, 0, 0);
const RING: RGBColor = RGBColor(4, 0, 0);
const LOCKED: RGBColor = RGBColor(5, 0, 0);

/// Replaces the colours by classes of the style sheet.
fn themed(svg: &str) -> String {
    [
        (r##"fill="#010000""##, r#"class="ink""#),
        (r##"stroke="#020000""##, r#"class="axis""#),
        (r##"stroke="#030000""##, r#"class="grid""#),
        (r##"fill="#040000""##, r#"class="ring""#),
        (r##"fill="#050000""##, r#"class="locked""#),
        (r##"stroke="#040000""##, r#"class="ring-line""#),
        (r##"stroke="#050000""##, r#"class="locked-line""#),
    ]
    .into_iter()
    .fold(svg.to_owned(), |svg, (color, class)| svg.replace(color, class))
}

fn color(engine: Engine) -> RGBColor {
    match engine {
        Engine::Ring => RING,
        Engine::Locked => LOCKED,
    }
}

fn text(pixels: u32) -> TextStyle<'static> {
    (FONT, pixels).into_font().color(&INK)
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Chart<'a, Y> = ChartContext<'a, SVGBackend<'a>, Cartesian2d<RangedCoordf64, Y>>;

/// Where the engines and scenarios are on the horizontal axis.
struct Places {
    scenarios: Vec<String>,
    engines: Vec<Engine>,
}

impl Places {
    fn of(outcomes: &[Outcome]) -> Self {
        let mut places = Self { scenarios: Vec::new(), engines: Vec::new() };
        for outcome in outcomes {
            if !places.scenarios.contains(&outcome.preset) {
                places.scenarios.push(outcome.preset.clone());
            }
            if !places.engines.contains(&outcome.engine) {
                places.engines.push(outcome.engine);
            }
        }
        places
    }

    /// The stretch of the axis that belongs to a run.
    fn of_run(&self, outcome: &Outcome) -> Range<f64> {
        let scenario = self.scenarios.iter().position(|name| *name == outcome.preset).unwrap_or(0);
        let engine = self.engines.iter().position(|engine| *engine == outcome.engine).unwrap_or(0);
        let engines = self.engines.len() as f64;
        // An eighth of the plot is wide enough, however few there are.
        let width = (0.8 / engines).min(self.scenarios.len() as f64 / 8.0);
        let start = scenario as f64 + 0.5 + (engine as f64 - engines / 2.0) * width;
        start + 0.1 * width..start + 0.9 * width
    }
}

/// A value in the middle of a stretch.
fn middle(range: &Range<f64>) -> f64 {
    f64::midpoint(range.start, range.end)
}

/// Draws axes, grid and the names of the scenarios, and lets `draw` do the rest.
fn plot<Y>(
    outcomes: &[Outcome],
    values: Y,
    label: fn(&f64) -> String,
    draw: impl FnOnce(&mut Chart<'_, Y::CoordDescType>, &Places, &Area<'_>) -> Result<()>,
) -> Result<String>
where
    Y: AsRangedCoord<Value = f64>,
    Y::CoordDescType: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    let places = Places::of(outcomes);
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        let mut chart = ChartBuilder::on(&area)
            .margin(12)
            .margin_bottom(34)
            .y_label_area_size(80)
            .build_cartesian_2d(0.0..places.scenarios.len() as f64, values)
            .map_err(failure)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .disable_x_axis()
            .y_labels(8)
            .y_label_formatter(&label)
            .label_style(text(17))
            .axis_style(AXIS)
            .bold_line_style(GRID)
            .light_line_style(TRANSPARENT)
            .draw()
            .map_err(failure)?;
        draw(&mut chart, &places, &area)?;
        let below = i32::try_from(SIZE.1)? - 14;
        let centered = text(19).pos(Pos::new(HPos::Center, VPos::Center));
        let (pixels, _) = chart.plotting_area().get_pixel_range();
        let width = f64::from(pixels.end - pixels.start) / places.scenarios.len() as f64;
        for (index, name) in places.scenarios.iter().enumerate() {
            let x = f64::from(pixels.start) + width * (index as f64 + 0.5);
            area.draw_text(name, &centered, (x as i32, below)).map_err(failure)?;
        }
        area.present().map_err(failure)?;
    }
    Ok(themed(&svg))
}

/// The errors of plotters borrow from the drawing.
fn failure(error: impl std::fmt::Display) -> Error {
    Error::msg(format!("cannot draw a plot: {error}"))
}

/// Stacked bars, one per run, with a text at the end of each.
fn bars(
    outcomes: &[Outcome],
    label: fn(&f64) -> String,
    parts: fn(&Outcome) -> Vec<f64>,
    note: fn(&Outcome) -> String,
) -> Result<String> {
    let ends = outcomes.iter().map(|run| parts(run).iter().sum::<f64>());
    let (low, high) =
        ends.fold((0.0_f64, 0.0_f64), |(low, high), end| (low.min(end), high.max(end)));
    // Room for the notes at either end; a plot of nothing but zeros needs some height too.
    let span = (high - low).max(1.0);
    let range = low - if low < 0.0 { 0.15 * span } else { 0.0 }..high + 0.15 * span;
    plot(outcomes, range, label, |chart, places, area| {
        for run in outcomes {
            let place = places.of_run(run);
            let mut base = 0.0;
            for (index, part) in parts(run).into_iter().enumerate() {
                let opacity = if index == 0 { 1.0 } else { 0.45 };
                let style = color(run.engine).mix(opacity).filled();
                let bar = Rectangle::new([(place.start, base), (place.end, base + part)], style);
                chart.draw_series([bar]).map_err(failure)?;
                base += part;
            }
            // Next to a bar that can be seen, above the axis otherwise.
            let (end, v_pos, shift) = if base < -0.02 * span {
                (base, VPos::Top, 4)
            } else {
                (base.max(0.0), VPos::Bottom, -4)
            };
            let (x, y) = chart.backend_coord(&(middle(&place), end));
            let style = text(16).pos(Pos::new(HPos::Center, v_pos));
            area.draw_text(&note(run), &style, (x, y + shift)).map_err(failure)?;
        }
        Ok(())
    })
}

/// A grid line at zero may be computed as a little less.
fn unsigned_zero(value: f64) -> f64 {
    if value.abs() < 1e-9 { 0.0 } else { value }
}

/// The writer's rate relative to its target.
///
/// # Errors
///
/// When it cannot be drawn; so for the others.
pub fn versus_target(outcomes: &[Outcome]) -> Result<String> {
    bars(
        outcomes,
        |value| format!("{:.2} %", unsigned_zero(*value)),
        |run| vec![run.percent_vs_target],
        |run| figure::percent(run.percent_vs_target),
    )
}

/// The percentage of messages that readers lost.
pub fn loss(outcomes: &[Outcome]) -> Result<String> {
    bars(
        outcomes,
        |value| format!("{value:.2} %"),
        |run| vec![run.lost_percent()],
        |run| format!("{:.2} %", run.lost_percent()),
    )
}

/// The CPU seconds of writer and readers per second of the run.
pub fn cpu(outcomes: &[Outcome]) -> Result<String> {
    fn parts(run: &Outcome) -> Vec<f64> {
        [run.writer_cpu_seconds, run.readers_cpu_seconds]
            .map(|cpu| cpu / run.duration_seconds)
            .to_vec()
    }
    bars(
        outcomes,
        |value| format!("{value:.1}"),
        parts,
        |run| format!("{:.2}", parts(run).iter().sum::<f64>()),
    )
}

/// The power of ten next to a value.
fn decade(value: f64, round: fn(f64) -> f64) -> f64 {
    10_f64.powf(round(value.log10()))
}

/// The latencies on a logarithmic scale.
pub fn latency(outcomes: &[Outcome]) -> Result<String> {
    let points = |run: &Outcome| -> Vec<f64> {
        let latency = run.latency_ns;
        let points = [latency.p50, latency.p99, latency.p999, latency.max];
        // A logarithm needs more than nothing.
        points.into_iter().flatten().map(|nanoseconds| nanoseconds.max(1) as f64).collect()
    };
    let all: Vec<f64> = outcomes.iter().flat_map(points).collect();
    let low = all.iter().copied().fold(f64::INFINITY, f64::min);
    let high = all.iter().copied().fold(0.0, f64::max);
    // Whole decades, with room for the texts.
    let range = if all.is_empty() {
        1e3..1e9
    } else {
        decade(low / 3.0, f64::floor)..decade(high * 3.0, f64::ceil)
    };
    plot(
        outcomes,
        range.log_scale(),
        |value| figure::latency(Some(value.round() as u64)),
        |chart, places, area| {
            for run in outcomes {
                let points = points(run);
                let (Some(first), Some(last)) = (points.first(), points.last()) else { continue };
                let place = places.of_run(run);
                let x = middle(&place);
                let line = color(run.engine).stroke_width(2);
                chart
                    .draw_series([PathElement::new([(x, *first), (x, *last)], line)])
                    .map_err(failure)?;
                for (point, radius) in points.iter().zip([8, 6, 5, 4]) {
                    chart
                        .draw_series([Circle::new((x, *point), radius, color(run.engine).filled())])
                        .map_err(failure)?;
                }
                // Apart even when the marks are not.
                for (nanoseconds, v_pos, shift) in
                    [(run.latency_ns.p50, VPos::Top, 12), (run.latency_ns.max, VPos::Bottom, -8)]
                {
                    let point = nanoseconds.map_or(1.0, |nanoseconds| nanoseconds.max(1) as f64);
                    let (x, y) = chart.backend_coord(&(x, point));
                    let style = text(16).pos(Pos::new(HPos::Center, v_pos));
                    area.draw_text(&figure::latency(nanoseconds), &style, (x, y + shift))
                        .map_err(failure)?;
                }
            }
            Ok(())
        },
    )
}
