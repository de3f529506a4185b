//! A sheet to draw on: sizes in points, two pixels to the point, so that figures stay sharp when enlarged.

use std::path::Path;
use std::sync::OnceLock;

use plotters::backend::BitMapBackend;
use plotters::coord::Shift;
use plotters::drawing::{DrawingArea, IntoDrawingArea};
use plotters::element::{Circle, DashedPathElement, PathElement, Rectangle, Text};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, FontDesc, FontFamily, FontStyle, IntoTextStyle, RGBColor, ShapeStyle, register_font};

/// Pixels to the point.
const PIXELS: f64 = 2.0;

/// Name under which the bundled font is registered.
const FONT: &str = "lcr-sans";

/// Colours of lines and tokens, the same as the page's on a light ground.
pub(super) const LINES: [RGBColor; 8] = [
    RGBColor(0x0b, 0x62, 0xa8),
    RGBColor(0xc2, 0x50, 0x0a),
    RGBColor(0x00, 0x80, 0x5c),
    RGBColor(0xa0, 0x55, 0x9a),
    RGBColor(0x8a, 0x6d, 0x00),
    RGBColor(0x3a, 0x9c, 0xc9),
    RGBColor(0x7a, 0x4b, 0x2a),
    RGBColor(0x66, 0x66, 0x66),
];

/// Text.
pub(super) const INK: RGBColor = RGBColor(0x1c, 0x1d, 0x22);

/// Lesser text.
pub(super) const SOFT: RGBColor = RGBColor(0x5d, 0x60, 0x6b);

/// Grid lines.
pub(super) const GRID: RGBColor = RGBColor(0xe4, 0xe4, 0xe2);

/// Cells without a number.
pub(super) const NONE: RGBColor = RGBColor(0xdc, 0xdc, 0xda);

/// The ground.
pub(super) const GROUND: RGBColor = RGBColor(0xff, 0xff, 0xff);

/// What the drawing library said; it has an error type per backend, of which only the text is of use.
pub(super) type Drawn = Result<(), String>;

/// Where a text stands relative to its point.
#[derive(Clone, Copy)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// How a line is drawn.
#[derive(Clone, Copy)]
pub(super) enum Dash {
    Solid,
    Dashed,
    Dotted,
}

/// A PNG file in the making.
pub(super) struct Canvas<'path> {
    area: DrawingArea<BitMapBackend<'path>, Shift>,
}

impl<'path> Canvas<'path> {
    /// A white sheet of so many points, with a title at its head.
    pub(super) fn new(path: &'path Path, width: f64, height: f64, title: &str) -> Result<Self, String> {
        register()?;
        let size = ((width * PIXELS).ceil() as u32, (height * PIXELS).ceil() as u32);
        let area = BitMapBackend::new(path, size).into_drawing_area();
        area.fill(&GROUND).map_err(|fault| fault.to_string())?;
        let canvas = Self { area };
        canvas.text((20.0, 24.0), Anchor::Start, 17.0, INK, title)?;
        Ok(canvas)
    }

    pub(super) fn text(&self, at: (f64, f64), anchor: Anchor, size: f64, color: RGBColor, text: &str) -> Drawn {
        let across = match anchor {
            Anchor::Start => HPos::Left,
            Anchor::Middle => HPos::Center,
            Anchor::End => HPos::Right,
        };
        let font = FontDesc::new(FontFamily::Name(FONT), size * PIXELS, FontStyle::Normal);
        let style = font.into_text_style(&self.area).color(&color).pos(Pos::new(across, VPos::Center));
        // The library centres on the em box, in which lower-case text sits high.
        self.draw(&Text::new(text.to_owned(), pixel((at.0, at.1 + size * 0.1)), style))
    }

    pub(super) fn rect(&self, at: (f64, f64), size: (f64, f64), color: RGBColor) -> Drawn {
        let end = (at.0 + size.0, at.1 + size.1);
        self.draw(&Rectangle::new([pixel(at), pixel(end)], color.filled()))
    }

    pub(super) fn line(&self, points: &[(f64, f64)], color: RGBColor, width: f64, dash: Dash) -> Drawn {
        let points: Vec<(i32, i32)> = points.iter().map(|point| pixel(*point)).collect();
        let style = ShapeStyle { color: color.to_rgba(), filled: false, stroke_width: (width * PIXELS).round() as u32 };
        let (length, gap) = match dash {
            // A dashed element needs two points, and a path of one is a dot that its marker draws anyway.
            _ if points.len() < 2 => return Ok(()),
            Dash::Solid => return self.draw(&PathElement::new(points, style)),
            Dash::Dashed => (6, 4),
            Dash::Dotted => (2, 3),
        };
        let scale = PIXELS as u32;
        self.draw(&DashedPathElement::new(points, length * scale, gap * scale, style))
    }

    /// A filled dot, or a ring.
    pub(super) fn dot(&self, at: (f64, f64), radius: f64, color: RGBColor, filled: bool) -> Drawn {
        let radius = (radius * PIXELS).round() as i32;
        if filled {
            return self.draw(&Circle::new(pixel(at), radius, color.filled()));
        }
        self.draw(&Circle::new(pixel(at), radius, GROUND.filled()))?;
        self.draw(&Circle::new(pixel(at), radius, color.stroke_width(2)))
    }

    fn draw<'element, Element>(&self, element: &'element Element) -> Drawn
    where
        &'element Element: plotters::element::PointCollection<'element, (i32, i32)>,
        Element: plotters::element::Drawable<BitMapBackend<'path>>,
    {
        self.area.draw(element).map_err(|fault| fault.to_string())
    }

    /// Writes the file.
    pub(super) fn save(self) -> Drawn {
        self.area.present().map_err(|fault| fault.to_string())
    }
}

/// Points to pixels.
fn pixel(at: (f64, f64)) -> (i32, i32) {
    ((at.0 * PIXELS).round() as i32, (at.1 * PIXELS).round() as i32)
}

/// Makes the bundled font known, once. Without this every text fails: the library then has no font at all.
fn register() -> Drawn {
    static REGISTERED: OnceLock<bool> = OnceLock::new();
    let done = *REGISTERED.get_or_init(|| {
        let font = include_bytes!("../../fonts/DejaVuSans-subset.ttf");
        register_font(FONT, FontStyle::Normal, font).is_ok()
    });
    if done { Ok(()) } else { Err("the bundled font is damaged".to_owned()) }
}

/// The colour that `#rrggbb` spells; black for anything else.
pub(super) fn color(hex: &str) -> RGBColor {
    let number = hex.strip_prefix('#').and_then(|digits| u32::from_str_radix(digits, 16).ok()).unwrap_or(0);
    RGBColor((number >> 16) as u8, (number >> 8) as u8, number as u8)
}
