//! `cargo xtask pictures`: the pictures of the documentation, written as SVG.
//!
//! Each picture has a background of its own, so it can be read on light and on dark pages. All
//! coordinates are in pixels of an 800 pixels wide page.

use std::fmt::Write as _;
use std::fs;

use anyhow::{Context, Result, bail};

use crate::places::PICTURES;
use crate::workspace::Workspace;

const WIDTH: f64 = 800.0;

/// Width of a character, in font sizes: an upper estimate for the fonts of [`STYLE`].
const CHARACTER: f64 = 0.53;

const STYLE: &str = "\
text { font-family: Helvetica, Arial, 'Liberation Sans', sans-serif; fill: #1b2733; }
.page { fill: #fbfaf6; stroke: #c9c4b5; }
.frame { fill: #f0eee5; stroke: #8a8470; stroke-dasharray: 6 4; }
.plain { fill: #ffffff; stroke: #5b6673; }
.ready { fill: #cfe5f7; stroke: #2f6ea5; }
.busy { fill: #fbd9a8; stroke: #b36b00; }
.kept { fill: #cfeccb; stroke: #2f7d32; }
.lost { fill: #f6d0cd; stroke: #b3362c; }
.wake { fill: #e5daf5; stroke: #6d48a8; }
.line { fill: none; stroke: #44505c; stroke-width: 1.6; }
.dash { fill: none; stroke: #8a8470; stroke-dasharray: 4 4; }
.head { fill: #44505c; }";

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Write nothing; fail if a picture is missing or out of date
    #[arg(long)]
    check: bool,
}

/// Writes the pictures, or compares them with the files.
pub fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    let directory = workspace.root.join(PICTURES);
    if !args.check {
        fs::create_dir_all(&directory)
            .with_context(|| format!("{} cannot be created", directory.display()))?;
    }
    for (name, picture) in [
        ("ring.svg", ring()),
        ("segment.svg", segment()),
        ("stamp.svg", stamp()),
        ("joining.svg", joining()),
    ] {
        let path = directory.join(name);
        let svg = picture.finish();
        if !args.check {
            fs::write(&path, svg)
                .with_context(|| format!("{} cannot be written", path.display()))?;
            println!("{PICTURES}/{name}");
        } else if fs::read_to_string(&path).ok().as_deref() != Some(&svg) {
            bail!("{PICTURES}/{name} is not what `cargo xtask pictures` writes: run it");
        }
    }
    Ok(())
}

/// A producer, the slots as a ring, and three consumers.
fn ring() -> Picture {
    const SLOTS: u64 = 12;
    const WRITTEN: u64 = 31;
    let mut p = Picture::new(
        440.0,
        "A ring of 12 slots",
        "A producer writes message 31 over message 19. One free consumer is up to date. Another \
         was too slow and is told that it lost 6 messages. A gating consumer keeps message 25: the \
         producer waits before message 37.",
    );
    p.rect(160.0, 20.0, 380.0, 400.0, "frame");
    p.text(350.0, 405.0, 14.0, Anchor::Middle, "named shared memory: /dev/shm/seqring.ticks");

    let (x, y, inner, outer) = (350.0, 215.0, 84.0, 142.0);
    for sequence in WRITTEN + 1 - SLOTS..=WRITTEN {
        // The slot being written is on the left; later messages follow counterclockwise.
        let turns = 0.5 - (sequence as f64 - WRITTEN as f64) / SLOTS as f64;
        let class = match sequence {
            WRITTEN => "busy",
            25.. => "kept",
            _ => "ready",
        };
        let half = 0.5 / SLOTS as f64;
        p.sector((x, y), (inner, outer), (turns - half, turns + half), class);
        let (tx, ty) = polar((x, y), (inner + outer) / 2.0, turns);
        p.text(tx, ty + 5.5, 16.0, Anchor::Middle, &sequence.to_string());
    }
    p.text(x, y - 22.0, 16.0, Anchor::Middle, "12 slots");
    p.text(x, y + 4.0, 13.0, Anchor::Middle, "31 replaces 19");
    p.text(x, y + 24.0, 13.0, Anchor::Middle, "green: kept for the");
    p.text(x, y + 44.0, 13.0, Anchor::Middle, "gating consumer");

    p.labelled(15.0, 180.0, 120.0, 70.0, "busy", &["Producer", "publish(&31)"]);
    p.arrow(&[(135.0, 215.0), (x - outer - 3.0, y)]);

    p.labelled(
        580.0,
        30.0,
        205.0,
        82.0,
        "ready",
        &["Free consumer", "has read 30, polls 31", "nobody waits for it"],
    );
    let newest = polar((x, y), outer + 3.0, 0.5 + 1.0 / SLOTS as f64);
    p.arrow(&[newest, (newest.0, 50.0), (580.0, 50.0)]);

    p.labelled(
        580.0,
        174.0,
        205.0,
        82.0,
        "kept",
        &["Gating consumer", "reads 25 next: the producer", "waits before 37 until then"],
    );
    p.arrow(&[(x + outer + 3.0, y), (580.0, y)]);

    p.labelled(
        580.0,
        318.0,
        205.0,
        82.0,
        "lost",
        &["Free consumer, too slow", "wanted 17: gets Lagged(6)", "and goes on with 23"],
    );
    let resumed = polar((x, y), outer + 3.0, 0.5 + 8.0 / SLOTS as f64);
    p.arrow(&[resumed, (resumed.0, 359.0), (580.0, 359.0)]);
    p
}

/// The parts of a segment, and who may write them.
fn segment() -> Picture {
    let mut p = Picture::new(
        552.0,
        "A segment",
        "The parts of a segment from its first byte to its last, and how each role maps them: a free \
         consumer of a read-only handle reads all, a registered consumer also writes the wake words \
         and the tables, a producer everything.",
    );
    let columns =
        [(515.0, "Free", "consumer"), (605.0, "Registered", "consumer"), (695.0, "Producer", "")];
    for (x, first, second) in columns {
        p.text(x + 40.0, 30.0, 14.0, Anchor::Middle, first);
        p.text(x + 40.0, 48.0, 14.0, Anchor::Middle, second);
    }
    p.text(25.0, 48.0, 14.0, Anchor::Start, "one file in /dev/shm");

    // Title, what it holds, class; and who may write it: free, registered, producer.
    type Part = (&'static str, &'static str, &'static str, [&'static str; 3]);
    let parts: [Part; 6] = [
        ("Header", "sizes, identity: written once, then only read", "plain", ["r", "r", "rw"]),
        ("Control", "state and epoch; the head on a line of its own", "plain", ["r", "r", "rw"]),
        ("Texts", "name, message type, metadata", "plain", ["r", "r", "rw"]),
        ("Wake words", "who sleeps: on the first page of the table", "wake", ["r", "rw", "rw"]),
        ("Reader table", "", "kept", ["r", "rw", "rw"]),
        ("Slots", "", "ready", ["r", "r", "rw"]),
    ];
    let mut y = 62.0;
    for (title, holds, class, access) in parts {
        let height = match title {
            "Reader table" => 128.0,
            "Slots" => 84.0,
            _ => 46.0,
        };
        p.rect(25.0, y, 470.0, height, class);
        p.bold(38.0, y + 28.0, 14.0, title);
        p.text(140.0, y + 28.0, 13.0, Anchor::Start, holds);
        for ((x, ..), access) in columns.iter().zip(access) {
            let class = if access == "r" { "plain" } else { "busy" };
            p.rect(*x, y + 4.0, 80.0, height - 8.0, class);
            p.text(x + 40.0, y + height / 2.0 + 5.0, 15.0, Anchor::Middle, access);
        }
        match title {
            "Reader table" => {
                for (row, text) in [
                    "roster: how many rows are taken",
                    "row: cursor, counters | state, name",
                    "more rows, 1 to 4096 in all",
                    "producer rows: announced sequence",
                ]
                .iter()
                .enumerate()
                {
                    let top = y + 7.0 + row as f64 * 29.0;
                    p.rect(150.0, top, 335.0, 27.0, "plain");
                    p.text(160.0, top + 18.0, 13.0, Anchor::Start, text);
                }
            }
            "Slots" => {
                for (slot, x) in [150.0, 265.0, 380.0].into_iter().enumerate() {
                    let name = ["slot 0", "slot 1", "slot n-1"][slot];
                    p.rect(x, y + 8.0, 105.0, 68.0, "plain");
                    p.rect(x, y + 8.0, 105.0, 24.0, "busy");
                    p.text(x + 52.5, y + 25.0, 13.0, Anchor::Middle, "stamp");
                    p.text(x + 52.5, y + 50.0, 13.0, Anchor::Middle, "payload");
                    p.text(x + 52.5, y + 68.0, 12.0, Anchor::Middle, name);
                }
            }
            _ => {}
        }
        y += height + 6.0;
    }
    p.text(25.0, y + 20.0, 13.0, Anchor::Start, "r: mapped read-only.  rw: mapped writable.");
    p.text(
        25.0,
        y + 40.0,
        13.0,
        Anchor::Start,
        "Free: by open_wait and open_read_only. A handle of Ring::open maps everything rw.",
    );
    p
}

/// The values that the stamp of one slot takes.
fn stamp() -> Picture {
    let mut p = Picture::new(
        370.0,
        "The life of a stamp",
        "The stamp of a slot grows: ready with message s - n, being written with s, ready with s \
         or a tombstone, and then the next lap. Below: what a consumer that expects s does.",
    );
    p.bold(25.0, 32.0, 14.0, "The stamp of one slot of n only grows:");
    let y = 50.0;
    let columns = [25.0, 225.0, 425.0, 625.0];
    p.labelled(columns[0], y, 150.0, 74.0, "plain", &["4(s - n) + 2", "message s - n", "is ready"]);
    p.labelled(columns[1], y, 150.0, 74.0, "busy", &["4s + 1", "message s is", "being written"]);
    p.labelled(columns[2], y, 150.0, 74.0, "kept", &["4s + 2", "message s", "is ready"]);
    p.labelled(columns[3], y, 150.0, 74.0, "lost", &["4(s + n) + 1", "overwritten by", "s + n"]);
    for x in &columns[..3] {
        p.arrow(&[(x + 150.0, y + 37.0), (x + 200.0, y + 37.0)]);
    }
    p.labelled(
        columns[2],
        150.0,
        150.0,
        74.0,
        "wake",
        &["4s + 3", "a tombstone: s will", "never be a message"],
    );
    p.arrow(&[(300.0, 124.0), (300.0, 187.0), (425.0, 187.0)]);
    p.arrow(&[(575.0, 187.0), (700.0, 187.0), (700.0, 124.0)]);
    p.text(25.0, 160.0, 13.0, Anchor::Start, "Tombstones are only in rings of");
    p.text(25.0, 178.0, 13.0, Anchor::Start, "several producers: the producer");
    p.text(25.0, 196.0, 13.0, Anchor::Start, "died over s, or gave it up.");

    p.dash(&[(15.0, 245.0), (785.0, 245.0)]);
    p.bold(25.0, 268.0, 14.0, "What a consumer that expects message s does then:");
    for (x, lines) in columns.into_iter().zip([
        ["not yet:", "Empty, or", "it waits"],
        ["not yet:", "Empty, or", "it waits"],
        ["copies, looks again, and", "accepts if unchanged;", "4s + 3: skips, counts it"],
        ["too late:", "Lagged(n), an", "exact count"],
    ]) {
        for (line, text) in lines.iter().enumerate() {
            p.text(x + 75.0, 298.0 + 20.0 * line as f64, 13.0, Anchor::Middle, text);
        }
    }
    p
}

/// How a gating consumer joins beside a producer that publishes.
fn joining() -> Picture {
    let mut p = Picture::new(
        492.0,
        "How a gating consumer joins",
        "The consumer enters its row, executes a fence and then reads the head. The producer \
         publishes its head, executes a fence and then scans the table. Either the scan sees the \
         row, or the consumer's head is at least that of the scan.",
    );
    for (x, name, class) in [(40.0, "Joining consumer", "kept"), (460.0, "Producer", "busy")] {
        p.labelled(x, 20.0, 300.0, 40.0, class, &[name]);
        p.dash(&[(x + 150.0, 60.0), (x + 150.0, 330.0)]);
    }
    let steps = [
        ("takes the kernel lock of a row", "publishes messages up to head H"),
        ("writes cursor and state: gating", "comes near its limit"),
        ("fence (SeqCst)", "fence (SeqCst)"),
        ("reads the head h", "scans the rows: lowest cursor c"),
        ("starts at h, writes cursor h", "may write below min(c, H) + slots"),
    ];
    for (index, (consumer, producer)) in steps.into_iter().enumerate() {
        let y = 74.0 + 50.0 * index as f64;
        let class = if index == 2 { "wake" } else { "plain" };
        p.labelled(40.0, y, 300.0, 38.0, class, &[consumer]);
        p.labelled(460.0, y, 300.0, 38.0, class, &[producer]);
    }
    p.both_ways((346.0, 193.0), (454.0, 193.0));
    p.text(400.0, 182.0, 12.0, Anchor::Middle, "one comes first");

    p.labelled(
        40.0,
        350.0,
        350.0,
        122.0,
        "kept",
        &[
            "The consumer's fence is first",
            "The scan sees the row. The limit is at",
            "most one lap after the row's cursor:",
            "nothing unread is overwritten.",
        ],
    );
    p.labelled(
        410.0,
        350.0,
        350.0,
        122.0,
        "kept",
        &[
            "The producer's fence is first",
            "The scan may miss the row. But then h >= H,",
            "and the limit is H + slots at most: from h on",
            "nothing is overwritten before the next scan,",
            "and that one sees the row.",
        ],
    );
    p
}

#[derive(Debug, Clone, Copy)]
enum Anchor {
    Start,
    Middle,
}

/// An SVG that grows by shapes and texts.
struct Picture {
    height: f64,
    title: &'static str,
    description: &'static str,
    body: String,
}

impl Picture {
    fn new(height: f64, title: &'static str, description: &'static str) -> Self {
        Self { height, title, description, body: String::new() }
    }

    fn add(&mut self, element: std::fmt::Arguments<'_>) {
        writeln!(self.body, "{element}").expect("a string takes everything");
    }

    /// # Panics
    /// If it would leave the picture.
    fn rect(&mut self, x: f64, y: f64, width: f64, height: f64, class: &str) {
        assert!(x + width <= WIDTH && y + height <= self.height, "a box leaves the picture");
        let size = format!(r#"width="{width:.1}" height="{height:.1}""#);
        self.add(format_args!(r#"<rect class="{class}" x="{x:.1}" y="{y:.1}" {size} rx="5"/>"#));
    }

    /// A line of text, whose baseline is at `y`.
    ///
    /// # Panics
    /// If it would leave the picture.
    fn text(&mut self, x: f64, y: f64, size: f64, anchor: Anchor, text: &str) {
        let width = width_of(text, size);
        let left = match anchor {
            Anchor::Start => x,
            Anchor::Middle => x - width / 2.0,
        };
        assert!(left >= 0.0 && left + width <= WIDTH && y <= self.height, "{text:?} does not fit");
        self.put(x, y, size, anchor, "normal", text);
    }

    fn bold(&mut self, x: f64, y: f64, size: f64, text: &str) {
        self.put(x, y, size, Anchor::Start, "bold", text);
    }

    fn put(&mut self, x: f64, y: f64, size: f64, anchor: Anchor, weight: &str, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
        };
        let font = format!(r#"font-size="{size}" font-weight="{weight}" text-anchor="{anchor}""#);
        let text = escaped(text);
        self.add(format_args!(r#"<text x="{x:.1}" y="{y:.1}" {font}>{text}</text>"#));
    }

    /// A box with lines of text in its middle, the first of them bold if there are more.
    ///
    /// # Panics
    /// If a line is wider than the box, or all are higher.
    fn labelled(&mut self, x: f64, y: f64, width: f64, height: f64, class: &str, lines: &[&str]) {
        const SIZE: f64 = 13.5;
        const LEADING: f64 = 20.0;
        self.rect(x, y, width, height, class);
        let all = lines.len() as f64 * LEADING;
        assert!(all <= height, "{lines:?} is higher than its box");
        for (index, line) in lines.iter().enumerate() {
            assert!(width_of(line, SIZE) <= width - 6.0, "{line:?} is wider than its box");
            let weight = if index == 0 && lines.len() > 1 { "bold" } else { "normal" };
            let y = y + (height - all) / 2.0 + LEADING * (index as f64 + 0.72);
            self.put(x + width / 2.0, y, SIZE, Anchor::Middle, weight, line);
        }
    }

    /// A line through `points`, with an arrowhead at its end.
    fn arrow(&mut self, points: &[(f64, f64)]) {
        let marker = r#" marker-end="url(#arrow)""#;
        self.path(points, "line", marker);
    }

    fn both_ways(&mut self, from: (f64, f64), to: (f64, f64)) {
        let markers = r#" marker-start="url(#arrow)" marker-end="url(#arrow)""#;
        self.path(&[from, to], "line", markers);
    }

    fn dash(&mut self, points: &[(f64, f64)]) {
        self.path(points, "dash", "");
    }

    fn path(&mut self, points: &[(f64, f64)], class: &str, markers: &str) {
        let points: Vec<_> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let points = points.join(" ");
        self.add(format_args!(r#"<polyline class="{class}" points="{points}"{markers}/>"#));
    }

    /// A part of a ring around `centre`, between two radii and two angles in turns.
    fn sector(
        &mut self,
        centre: (f64, f64),
        (inner, outer): (f64, f64),
        (from, to): (f64, f64),
        class: &str,
    ) {
        let [a, b] = [from, to].map(|turns| polar(centre, outer, turns));
        let [c, d] = [to, from].map(|turns| polar(centre, inner, turns));
        let point = |(x, y): (f64, f64)| format!("{x:.1} {y:.1}");
        let [a, b, c, d] = [a, b, c, d].map(point);
        let out = format!("M{a} A{outer} {outer} 0 0 1 {b}");
        let back = format!("L{c} A{inner} {inner} 0 0 0 {d} Z");
        self.add(format_args!(r#"<path class="{class}" d="{out} {back}"/>"#));
    }

    fn finish(self) -> String {
        let Self { height, title, description, body } = self;
        let (title, description) = (escaped(title), escaped(description));
        let (page_width, page_height) = (WIDTH - 2.0, height - 2.0);
        let size = format!(r#"width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}""#);
        format!(
            r##"<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">
<!-- Written by `cargo xtask pictures`. -->
<title>{title}</title>
<desc>{description}</desc>
<style>
{STYLE}
</style>
<defs><marker id="arrow" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7"
orient="auto-start-reverse"><path class="head" d="M0 0 L10 5 L0 10 Z"/></marker></defs>
<rect class="page" x="1" y="1" width="{page_width}" height="{page_height}" rx="8"/>
{body}</svg>
"##
        )
    }
}

/// The point at a distance from `centre`; turns go clockwise from the right.
fn polar(centre: (f64, f64), radius: f64, turns: f64) -> (f64, f64) {
    let (sine, cosine) = (turns * std::f64::consts::TAU).sin_cos();
    (centre.0 + radius * cosine, centre.1 + radius * sine)
}

fn width_of(text: &str, size: f64) -> f64 {
    text.chars().count() as f64 * size * CHARACTER
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pictures_in_the_repository_are_current() {
        let workspace = Workspace::find().expect("the tests run inside the workspace");
        run(&workspace, &Args { check: true }).expect("`cargo xtask pictures` has been run");
    }

    #[test]
    #[should_panic(expected = "is wider than its box")]
    fn a_text_that_leaves_its_box_is_refused() {
        let mut picture = Picture::new(100.0, "", "");
        picture.labelled(0.0, 0.0, 40.0, 40.0, "plain", &["much too long"]);
    }

    #[test]
    fn markup_in_a_text_is_escaped() {
        let mut picture = Picture::new(100.0, "", "");
        picture.text(10.0, 20.0, 10.0, Anchor::Start, "h >= H & c < d");
        assert!(picture.finish().contains(">h &gt;= H &amp; c &lt; d</text>"));
    }
}
