//! A chart as inline SVG: lines and marks over steps, with axes. Colours come from the page's style, so that they follow light and dark.

use super::text::{Escaped, count};
use core::fmt::Write;

/// Room for the labels of the y axis, of the x axis, and above and beside the plot.
const LEFT: f64 = 58.0;
const BOTTOM: f64 = 26.0;
const TOP: f64 = 10.0;
const RIGHT: f64 = 14.0;

/// Numbers beyond this are no values but accidents, and would overflow what is computed from them.
const LARGEST: f64 = 1e300;

/// A line; points that are not finite leave a gap.
pub(super) struct Line {
    /// Its class in the page's style.
    pub(super) class: &'static str,
    pub(super) points: Vec<(f64, f64)>,
}

/// A point of its own, with what it says when it is pointed at.
pub(super) struct Mark {
    pub(super) class: &'static str,
    pub(super) at: (f64, f64),
    pub(super) label: String,
}

/// What is drawn.
pub(super) struct Chart {
    /// For those who cannot see it.
    pub(super) title: String,
    pub(super) size: (f64, f64),
    pub(super) lines: Vec<Line>,
    pub(super) marks: Vec<Mark>,
}

/// Whether a point can be drawn.
pub(super) fn drawable(&(x, y): &(f64, f64)) -> bool {
    x.abs() <= LARGEST && y.abs() <= LARGEST
}

impl Chart {
    /// Appends the drawing; nothing where there is no point to draw.
    pub(super) fn write(&self, page: &mut String) {
        let points = || self.lines.iter().flat_map(|l| &l.points).chain(self.marks.iter().map(|m| &m.at)).filter(|p| drawable(p));
        let (Some(x), Some(y)) = (Axis::over(points().map(|p| p.0), 0.0), Axis::over(points().map(|p| p.1), 0.04)) else {
            return;
        };
        let (width, height) = self.size;
        let x = x.onto(LEFT, width - RIGHT);
        let y = y.onto(height - BOTTOM, TOP);
        let _ = write!(page, "<svg class=\"chart\" viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{}\">", Escaped(&self.title));
        axes(page, &x, &y, self.size);
        for line in &self.lines {
            let _ = write!(page, "<path class=\"{}\" d=\"{}\"/>", line.class, path(&line.points, &x, &y));
        }
        for mark in self.marks.iter().filter(|m| drawable(&m.at)) {
            let (cx, cy) = (x.place(mark.at.0), y.place(mark.at.1));
            let label = Escaped(&mark.label);
            let _ = write!(page, "<circle class=\"{}\" cx=\"{cx:.1}\" cy=\"{cy:.1}\" r=\"4\"><title>{label}</title></circle>", mark.class);
        }
        page.push_str("</svg>");
    }
}

fn axes(page: &mut String, x: &Axis, y: &Axis, (width, height): (f64, f64)) {
    page.push_str("<g class=\"axes\">");
    let step = y.step(((height / 48.0) as usize).max(2), false);
    for v in y.ticks(step) {
        let at = y.place(v);
        let (end, text, label) = (width - RIGHT, at + 4.0, tick(v, step));
        let _ = write!(page, "<path d=\"M{LEFT} {at:.1}H{end}\"/><text x=\"{}\" y=\"{text:.1}\" class=\"y\">{label}</text>", LEFT - 8.0);
    }
    let step = x.step(((width / 90.0) as usize).max(2), true);
    for v in x.ticks(step) {
        let label = if v.abs() < 1e15 { count(v.max(0.0) as u64) } else { tick(v, step) };
        let _ = write!(page, "<text x=\"{:.1}\" y=\"{}\" class=\"x\">{label}</text>", x.place(v), height - 8.0);
    }
    page.push_str("</g>");
}

/// A path through the points. A point alone between gaps becomes a dot, which round line ends show.
fn path(points: &[(f64, f64)], x: &Axis, y: &Axis) -> String {
    let mut d = String::new();
    let mut run = 0usize;
    for point in points {
        if !drawable(point) {
            if run == 1 {
                d.push_str("h0");
            }
            run = 0;
            continue;
        }
        let command = if run == 0 { 'M' } else { 'L' };
        let _ = write!(d, "{command}{:.1} {:.1}", x.place(point.0), y.place(point.1));
        run += 1;
    }
    if run == 1 {
        d.push_str("h0");
    }
    d
}

/// A range of values and where it lies in the drawing.
struct Axis {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Axis {
    /// The range of the values, widened by a share of itself, and opened where all values are the same.
    fn over(values: impl Iterator<Item = f64>, pad: f64) -> Option<Axis> {
        let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
        if low > high {
            return None;
        }
        let size = low.abs().max(high.abs());
        let pad = if high - low > size * 1e-9 {
            (high - low) * pad
        } else if size > 0.0 {
            size * 0.5
        } else {
            1.0
        };
        Some(Axis { low: low - pad, high: high + pad, from: 0.0, to: 1.0 })
    }

    fn onto(self, from: f64, to: f64) -> Axis {
        Axis { from, to, ..self }
    }

    fn place(&self, v: f64) -> f64 {
        self.from + (v - self.low) / (self.high - self.low) * (self.to - self.from)
    }

    /// The distance between ticks: 1, 2 or 5 times a power of ten, so that there are at most `most`.
    fn step(&self, most: usize, whole: bool) -> f64 {
        let raw = (self.high - self.low) / most as f64;
        let power = 10f64.powf(raw.log10().floor());
        let step = [1.0, 2.0, 5.0].into_iter().map(|m| m * power).find(|&step| step >= raw).unwrap_or(10.0 * power);
        if whole { step.max(1.0) } else { step }
    }

    fn ticks(&self, step: f64) -> impl Iterator<Item = f64> {
        let first = (self.low / step).ceil();
        let (low, high) = (self.low, self.high);
        // A distance that is lost in rounding must not repeat a tick for ever.
        (0..32).map(move |i| (first + f64::from(i)) * step).take_while(move |&v| v <= high).filter(move |&v| v >= low)
    }
}

/// A tick's label, with as many digits as tell it from its neighbours.
fn tick(v: f64, step: f64) -> String {
    let place = step.log10().floor();
    if v.abs() < step * 1e-6 {
        "0".into()
    } else if place >= -3.0 && v.abs() < 1e5 {
        let digits = (-place).max(0.0) as usize;
        format!("{v:.digits$}")
    } else {
        let digits = (v.abs().log10().floor() - place).clamp(0.0, 3.0) as usize;
        format!("{v:.digits$e}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_numbers_within_the_range() {
        let axis = Axis { low: 0.13, high: 2.9, from: 0.0, to: 1.0 };
        let step = axis.step(6, false);
        let ticks: Vec<f64> = axis.ticks(step).collect();
        assert_eq!(ticks, [0.5, 1.0, 1.5, 2.0, 2.5]);
        assert_eq!([tick(0.5, 0.5), tick(1e-4, 5e-5), tick(2000.0, 500.0), tick(0.0, 1.0)], ["0.5", "1.0e-4", "2000", "0"]);
    }

    #[test]
    fn ranges_without_extent_are_opened() {
        for value in [0.0, 1.0, -3.0, 1e-30, 1e300] {
            let axis = Axis::over([value].into_iter(), 0.04).map(|a| a.onto(0.0, 100.0));
            let at = axis.map(|a| (a.place(value), a.ticks(a.step(5, false)).count()));
            assert!(at.is_some_and(|(at, ticks)| (0.0..=100.0).contains(&at) && (1..32).contains(&ticks)), "{value}: {at:?}");
        }
        assert!(Axis::over([].into_iter(), 0.04).is_none());
    }

    #[test]
    fn gaps_break_lines_and_lonely_points_are_dots() {
        let axis = || Axis { low: 0.0, high: 1.0, from: 0.0, to: 1.0 };
        let points = [(0.0, 0.0), (0.5, f64::NAN), (0.6, 1.0), (1.0, 1.0), (1.0, f64::INFINITY)];
        assert_eq!(path(&points, &axis(), &axis()), "M0.0 0.0h0M0.6 1.0L1.0 1.0");
    }
}
