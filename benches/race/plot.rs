//! The ratios as a picture: one row a line of the table, one mark a baseline, and how far the
//! ratio moved from round to round.

use std::path::Path;

use plotters::element::PathElement;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::figures::Series;

const WIDTH: u32 = 900;
const ROW: u32 = 26;
/// Title, axis and legend.
const AROUND: u32 = 150;
const FONT: &str = "sans-serif";
/// Where the axis has a line.
const TIMES: [f64; 9] = [0.2, 0.3, 0.5, 1.0, 2.0, 3.0, 5.0, 8.0, 12.0];
const COLOURS: [RGBColor; 3] = [RGBColor(0, 114, 178), RGBColor(213, 94, 0), RGBColor(0, 158, 115)];

/// Writes the picture as SVG.
pub(crate) fn draw(file: &Path, all: &[Series], settings: &str) {
    let mut rows: Vec<&str> = Vec::new();
    for point in all.iter().flat_map(|it| &it.points) {
        if !rows.contains(&point.what.as_str()) {
            rows.push(&point.what);
        }
    }
    let count = u32::try_from(rows.len()).expect("a table has few lines");
    let root = SVGBackend::new(file, (WIDTH, AROUND + ROW * count)).into_drawing_area();
    paint(&root, all, &rows, settings).expect("an SVG can be drawn");
    root.present().expect("the picture can be written");
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

fn paint(
    root: &Area<'_>,
    all: &[Series],
    rows: &[&str],
    settings: &str,
) -> Result<(), Box<dyn std::error::Error>> {
    root.fill(&WHITE)?;
    let every = || all.iter().flat_map(|it| &it.points).flat_map(|it| &it.rounds).copied();
    let least = every().fold(0.8, f64::min) * 0.9;
    let most = every().fold(4.0, f64::max) * 1.15;
    let bottom = f64::from(u32::try_from(rows.len())?);
    let mut chart = ChartBuilder::on(root)
        .caption("How many times better than etcd", (FONT, 22))
        .margin(12)
        .x_label_area_size(56)
        .y_label_area_size(250)
        .build_cartesian_2d((least..most).log_scale(), bottom..0.0)?;
    chart
        .configure_mesh()
        .disable_mesh()
        .y_labels(0)
        .x_labels(0)
        .x_desc(settings)
        .axis_desc_style((FONT, 14))
        .draw()?;
    let number = (FONT, 16).into_text_style(root).pos(Pos::new(HPos::Center, VPos::Top));
    let line = |times, style| PathElement::new(vec![(times, bottom), (times, 0.0)], style);
    chart.draw_series([line(1.0, BLACK.stroke_width(2))])?;
    for times in TIMES.into_iter().filter(|it| (least..most).contains(it)) {
        chart.draw_series([line(times, BLACK.mix(0.2).into())])?;
        let place = chart.backend_coord(&(times, bottom));
        root.draw_text(&format!("{times}x"), &number, (place.0, place.1 + 8))?;
    }
    let label = (FONT, 16).into_text_style(root).pos(Pos::new(HPos::Right, VPos::Center));
    for (at, what) in (0_u32..).zip(rows) {
        let middle = f64::from(at) + 0.5;
        let place = chart.backend_coord(&(least, middle));
        root.draw_text(what, &label, (place.0 - 8, place.1))?;
    }
    for (at, (series, colour)) in (0_u32..).zip(all.iter().zip(COLOURS)) {
        // Marks of one row beside each other.
        let lane = (f64::from(at) + 1.0) / (f64::from(u32::try_from(all.len())?) + 1.0);
        let mut marks = Vec::new();
        for point in &series.points {
            let row = rows.iter().position(|it| *it == point.what).unwrap_or_default();
            let y = f64::from(u32::try_from(row)?) + lane;
            let from = point.rounds.iter().copied().fold(point.times, f64::min);
            let to = point.rounds.iter().copied().fold(point.times, f64::max);
            let span = PathElement::new(vec![(from, y), (to, y)], colour.stroke_width(2));
            chart.draw_series([span])?;
            marks.push((point.times, y));
        }
        chart
            .draw_series(marks.into_iter().map(|it| Circle::new(it, 4, colour.filled())))?
            .label(series.title.as_str())
            .legend(move |(x, y)| Circle::new((x + 8, y), 4, colour.filled()));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .label_font((FONT, 16))
        .background_style(WHITE)
        .border_style(BLACK.mix(0.3))
        .draw()?;
    Ok(())
}
