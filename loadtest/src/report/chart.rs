//! A line chart as inline SVG: two axes with units, a few lines, nothing else.

use std::fmt::Write as _;

/// A chart.
pub(crate) struct Chart {
    /// How much of the page it takes.
    pub(crate) size: Size,
    /// What it shows, for those who cannot see it.
    pub(crate) title: String,
    /// The horizontal axis.
    pub(crate) x: Axis,
    /// The vertical axis.
    pub(crate) y: Axis,
    /// The lines, later ones over earlier ones.
    pub(crate) lines: Vec<Line>,
}

/// How much of the page a chart takes: letters have the same size in all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Size {
    /// All of its width.
    Wide,
    /// Half of it.
    Half,
}

/// A line: points that have no value are gaps.
pub(crate) struct Line {
    /// The CSS class that gives it its look.
    pub(crate) class: &'static str,
    /// What it is called in the legend.
    pub(crate) name: String,
    /// Its points.
    pub(crate) points: Vec<(f64, Option<f64>)>,
}

/// An axis.
pub(crate) struct Axis {
    /// What is measured, with its unit.
    pub(crate) label: String,
    scale: Scale,
    from: f64,
    to: f64,
    ticks: Vec<(f64, String)>,
}

/// How values become places.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Scale {
    Linear,
    Logarithm,
}

impl Axis {
    /// From 0 to a round number above the largest value.
    pub(crate) fn from_zero(label: &str, values: impl Iterator<Item = f64>) -> Self {
        let largest = values.fold(0.0, f64::max).max(1e-9);
        let step = round_step(largest * 1.05 / 4.0);
        let to = (largest * 1.05 / step).ceil() * step;
        let mut ticks = Vec::new();
        let mut at = 0.0;
        while at <= to + step / 2.0 {
            ticks.push((at, number(at)));
            at += step;
        }
        Self { label: label.to_owned(), scale: Scale::Linear, from: 0.0, to, ticks }
    }

    /// Powers of ten around all values, with 2 and 5 between where there is room.
    pub(crate) fn powers(label: &str, values: impl Iterator<Item = f64>) -> Self {
        let (mut least, mut largest) = (f64::MAX, 0.0_f64);
        for value in values.filter(|value| *value > 0.0) {
            (least, largest) = (least.min(value), largest.max(value));
        }
        let (least, largest) = if largest > 0.0 { (least, largest) } else { (0.1, 10.0) };
        let (from, to) = (below(least), above(largest));
        let few = (to / from).log10() <= 2.5;
        let mut ticks = Vec::new();
        let mut power = 10_f64.powf(from.log10().floor());
        while power <= to {
            for times in [1.0, 2.0, 5.0].into_iter().filter(|times| few || *times < 2.0) {
                let at = power * times;
                if at >= from * 0.999 && at <= to * 1.001 {
                    ticks.push((at, number(at)));
                }
            }
            power *= 10.0;
        }
        Self { label: label.to_owned(), scale: Scale::Logarithm, from, to, ticks }
    }

    /// Time from 0, in seconds up to three minutes, in minutes from there on.
    pub(crate) fn time(seconds: f64) -> Self {
        let (unit, length) = if seconds > 180.0 { ("min", 60.0) } else { ("s", 1.0) };
        let step = time_step(seconds / length / 6.0);
        let mut ticks = Vec::new();
        let mut at = 0.0;
        while at * length <= seconds * 1.001 {
            ticks.push((at * length, number(at)));
            at += step;
        }
        let label = format!("time since measuring began ({unit})");
        Self { label, scale: Scale::Linear, from: 0.0, to: seconds.max(1e-9), ticks }
    }

    /// Percentiles, every further nine as wide as the one before. Values are quantiles.
    pub(crate) fn nines(largest: f64) -> Self {
        let nines = (-(1.0 - largest).max(1e-7).log10()).max(1.0);
        let names = ["0", "90", "99", "99.9", "99.99", "99.999", "99.9999", "99.99999"];
        let mut ticks = Vec::new();
        for (at, name) in names.iter().enumerate() {
            let at = f64::from(u32::try_from(at).unwrap_or_default());
            if at <= nines + 0.01 {
                ticks.push((at, format!("{name} %")));
            }
        }
        ticks.push((2_f64.log10(), "50 %".to_owned()));
        let label = "share of all values that are below".to_owned();
        Self { label, scale: Scale::Linear, from: 0.0, to: nines, ticks }
    }

    /// Where a quantile stands on [`Axis::nines`].
    pub(crate) fn nines_of(quantile: f64) -> f64 {
        -(1.0 - quantile).max(1e-9).log10()
    }

    /// From 0 to 1 along the axis.
    fn place(&self, value: f64) -> f64 {
        let place = match self.scale {
            Scale::Linear => (value - self.from) / (self.to - self.from),
            Scale::Logarithm => {
                (value.max(self.from) / self.from).log10() / (self.to / self.from).log10()
            }
        };
        place.clamp(0.0, 1.0)
    }
}

impl Chart {
    /// As one `<svg>` element.
    pub(crate) fn svg(&self) -> String {
        let mut svg = format!(
            "<svg viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\">\n",
            self.width(),
            self.height(),
            escape(&self.title)
        );
        self.grid(&mut svg);
        for line in &self.lines {
            self.line(&mut svg, line);
        }
        svg.push_str("</svg>\n");
        svg
    }

    /// The ticks, their lines and names.
    fn grid(&self, svg: &mut String) {
        let (bottom, right) = (self.height() - BOTTOM, self.width() - RIGHT);
        for (at, name) in &self.y.ticks {
            let y = self.y_of(*at);
            let _ = writeln!(
                svg,
                "<line class=\"grid\" x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{right}\" y2=\"{y:.1}\"/>\
                 <text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{name}</text>",
                LEFT - 7.0,
                y + 3.5
            );
        }
        for (at, name) in &self.x.ticks {
            let x = self.x_of(*at);
            let _ = writeln!(
                svg,
                "<line class=\"notch\" x1=\"{x:.1}\" y1=\"{bottom}\" x2=\"{x:.1}\" y2=\"{:.1}\"/>\
                 <text class=\"tick\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{name}</text>",
                bottom + 4.0,
                bottom + 17.0
            );
        }
        let _ = writeln!(
            svg,
            "<line class=\"axis\" x1=\"{LEFT}\" y1=\"{bottom}\" x2=\"{right}\" y2=\"{bottom}\"/>\
             <text class=\"label\" x=\"{right}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\
             <text class=\"label\" x=\"4\" y=\"12\">{}</text>",
            self.height() - 6.0,
            escape(&self.x.label),
            escape(&self.y.label)
        );
    }

    /// One line, with gaps where values are missing.
    fn line(&self, svg: &mut String, line: &Line) {
        let mut path = String::new();
        let mut pen = 'M';
        for (x, y) in &line.points {
            let Some(y) = y else {
                pen = 'M';
                continue;
            };
            let _ = write!(path, "{pen}{:.1} {:.1}", self.x_of(*x), self.y_of(*y));
            pen = 'L';
        }
        if !path.is_empty() {
            let _ = writeln!(svg, "<path class=\"{}\" d=\"{path}\"/>", line.class);
        }
    }

    fn width(&self) -> f64 {
        match self.size {
            Size::Wide => 1_032.0,
            Size::Half => 502.0,
        }
    }

    fn height(&self) -> f64 {
        match self.size {
            Size::Wide => 300.0,
            Size::Half => 220.0,
        }
    }

    fn x_of(&self, value: f64) -> f64 {
        LEFT + self.x.place(value) * (self.width() - LEFT - RIGHT)
    }

    fn y_of(&self, value: f64) -> f64 {
        let height = self.height() - TOP - BOTTOM;
        TOP + (1.0 - self.y.place(value)) * height
    }
}

/// Text between tags and in attributes.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A number as people write it: three digits that count, thousands apart.
pub(crate) fn number(value: f64) -> String {
    let digits = match value.abs() {
        size if size < 1e-12 => 0,
        size if size < 0.0995 => 3,
        size if size < 0.995 => 2,
        size if size < 9.95 => 1,
        _ => 0,
    };
    let mut text = format!("{value:.digits$}");
    if digits > 0 {
        text = text.trim_end_matches('0').trim_end_matches('.').to_owned();
    }
    grouped(&text)
}

/// Sets thousands apart.
fn grouped(text: &str) -> String {
    let (whole, rest) = text.split_once('.').map_or((text, ""), |(whole, rest)| (whole, rest));
    let (sign, whole) = whole.strip_prefix('-').map_or(("", whole), |whole| ("-", whole));
    let mut out = sign.to_owned();
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    if rest.is_empty() { out } else { out + "." + rest }
}

/// The next of 1, 2, 5 times a power of ten.
fn round_step(least: f64) -> f64 {
    let power = 10_f64.powf(least.log10().floor());
    let times = [1.0, 2.0, 5.0].into_iter().find(|times| power * times >= least * 0.999);
    power * times.unwrap_or(10.0)
}

/// The next step that a clock has.
fn time_step(least: f64) -> f64 {
    let steps = [1.0, 2.0, 5.0, 10.0, 15.0, 20.0, 30.0, 60.0, 120.0, 240.0];
    steps.into_iter().find(|step| *step >= least).unwrap_or_else(|| round_step(least))
}

/// The next of 1, 2, 5 times a power of ten that is not above.
fn below(value: f64) -> f64 {
    let power = 10_f64.powf(value.log10().floor());
    let times = [5.0, 2.0].into_iter().find(|times| power * times <= value * 1.001);
    power * times.unwrap_or(1.0)
}

/// The next that is not below.
fn above(value: f64) -> f64 {
    round_step(value)
}

const LEFT: f64 = 48.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 26.0;
const BOTTOM: f64 = 42.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_digits_that_count() {
        let written = [0.0, 0.012, 0.25, 3.04, 47.3, 1_234_567.0].map(number);
        assert_eq!(written, ["0", "0.012", "0.25", "3", "47", "1,234,567"]);
        assert_eq!(grouped("-1234.5"), "-1,234.5");
    }

    #[test]
    fn axes_end_at_round_numbers() {
        let axis = Axis::from_zero("x", [37.0, 3.0].into_iter());
        assert_eq!((axis.to, axis.ticks.len()), (40.0, 5));
        let axis = Axis::powers("x", [0.3, 0.0, 7.0].into_iter());
        assert_eq!((axis.from, axis.to), (0.2, 10.0));
        assert!((axis.place(0.2), axis.place(10.0)) == (0.0, 1.0) && axis.place(0.0) == 0.0);
        let axis = Axis::powers("x", std::iter::empty());
        assert!(axis.from > 0.0 && axis.to > axis.from);
        let names: Vec<_> = Axis::time(60.0).ticks.into_iter().map(|tick| tick.1).collect();
        assert_eq!(names, ["0", "10", "20", "30", "40", "50", "60"]);
        assert!(Axis::time(1_200.0).label.contains("(min)"));
    }

    #[test]
    fn a_gap_lifts_the_pen() {
        let points = vec![(0.0, Some(1.0)), (1.0, None), (2.0, Some(1.0))];
        let chart = Chart {
            size: Size::Half,
            title: "a < b".into(),
            x: Axis::time(2.0),
            y: Axis::from_zero("y", [1.0].into_iter()),
            lines: vec![Line { class: "up", name: "up".into(), points }],
        };
        let svg = chart.svg();
        let path = svg.split("d=\"").nth(1).unwrap();
        assert_eq!(path.split('"').next().unwrap().matches('M').count(), 2, "{svg}");
        assert!(svg.contains("a &lt; b"));
    }
}
