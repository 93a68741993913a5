//! The paths that were seen, as a drawing (inline SVG). Colours are those of the page, so it follows light and dark.

use std::fmt::Write as _;

use super::layout::{Layout, Size, What, layout};
use super::text::escape;
use crate::report::markdown::mermaid::{Graph, NodeKind};
use crate::report::text::{clean, shorten};

/// Width of a character of the drawing's font, and the height of a line.
const CHAR: Size = 7.3;
const LINE: Size = 16.0;
/// Characters on one line of a label.
const WRAP: usize = 34;
/// Larger drawings help nobody.
const MOST: usize = 48;

/// The drawing; empty where there is no path.
pub(super) fn svg(graph: &Graph, about: &str) -> String {
    if graph.nodes.is_empty() {
        return String::new();
    }
    if graph.nodes.len() + graph.edges.len() > MOST {
        return format!("<p class=\"muted\">{} stations and {} ways: too many to draw.</p>\n", graph.nodes.len(), graph.edges.len());
    }
    let nodes: Vec<Vec<String>> = graph.nodes.iter().map(|n| lines(&n.label)).collect();
    let labels: Vec<Vec<String>> = graph.edges.iter().map(|e| e.labels.iter().flat_map(|l| lines(l)).collect()).collect();
    let sizes: Vec<(Size, Size)> = nodes.iter().map(|l| size(l, 28.0, 16.0)).collect();
    let arrows: Vec<_> = graph.edges.iter().zip(&labels).map(|(e, l)| (e.from, e.to, size(l, 10.0, 4.0))).collect();
    let found = layout(&sizes, &arrows);
    let (width, height) = (found.size.0 + 4.0, found.size.1 + 4.0);
    let mut out = format!(
        "<div class=\"drawing\"><svg viewBox=\"-2 -2 {width:.0} {height:.0}\" width=\"{width:.0}\" height=\"{height:.0}\" role=\"img\" \
         aria-label=\"{}\">\n",
        escape(&clean(about).replace('\n', " "))
    );
    for (n, chain) in found.chains.iter().enumerate() {
        let class = if graph.edges[n].intact { "way" } else { "way bent" };
        arrow(&mut out, &found, chain, class);
    }
    for slot in &found.slots {
        match slot.what {
            What::Node(n) => node(&mut out, graph.nodes[n].kind, &nodes[n], slot.at, slot.size),
            What::Label(n) if !labels[n].is_empty() => {
                let (x, y) = (slot.at.0 - slot.size.0 / 2.0, slot.at.1);
                let _ = writeln!(
                    out,
                    "<rect class=\"behind\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{:.1}\"/>",
                    slot.size.0, slot.size.1
                );
                words(&mut out, "by", &labels[n], slot.at, slot.size);
            }
            What::Label(_) | What::Passage => {}
        }
    }
    out.push_str("</svg></div>\n");
    out
}

/// A text as lines that fit, broken where names have joints.
fn lines(text: &str) -> Vec<String> {
    let mut out = Vec::new();
    for line in clean(text).lines().map(str::trim).filter(|l| !l.is_empty()) {
        let mut now = String::new();
        for part in shorten(line, 160).split_inclusive(['|', '.', '/', ' ', ',', '-', '_', ':']) {
            let mut part = part.to_owned();
            while part.chars().count() > WRAP {
                let cut = part.char_indices().nth(WRAP).map_or(part.len(), |(at, _)| at);
                let rest = part.split_off(cut);
                out.extend((!now.is_empty()).then(|| std::mem::take(&mut now)));
                out.push(std::mem::replace(&mut part, rest));
            }
            if now.chars().count() + part.trim_end().chars().count() > WRAP {
                out.push(std::mem::take(&mut now));
            }
            now.push_str(&part);
        }
        out.extend((!now.trim().is_empty()).then_some(now));
    }
    out.iter().map(|l| l.trim().to_owned()).filter(|l| !l.is_empty()).collect()
}

/// How wide a line is: characters of Chinese, Japanese and Korean take two places.
fn width(line: &str) -> Size {
    line.chars().map(|c| if (c as u32) < 0x1100 { CHAR } else { 2.0 * CHAR }).sum()
}

fn size(lines: &[String], beside: Size, above: Size) -> (Size, Size) {
    if lines.is_empty() {
        return (8.0, 12.0);
    }
    let widest = lines.iter().map(|l| width(l)).fold(0.0, Size::max);
    (widest + beside, lines.len() as Size * LINE + above)
}

fn node(out: &mut String, kind: NodeKind, text: &[String], at: (Size, Size), size: (Size, Size)) {
    let (x, y) = (at.0 - size.0 / 2.0, at.1);
    let (class, radius) = match kind {
        NodeKind::Caller => ("node caller", size.1 / 2.0),
        NodeKind::Destination => ("node destination", size.1 / 2.0),
        NodeKind::Proxy => ("node proxy", 5.0),
        NodeKind::Stop => ("node stop", 5.0),
    };
    let _ = writeln!(
        out,
        "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{:.1}\" rx=\"{radius:.1}\"/>",
        size.0, size.1
    );
    words(out, "name", text, at, size);
}

fn words(out: &mut String, class: &str, text: &[String], at: (Size, Size), size: (Size, Size)) {
    let top = at.1 + (size.1 - text.len() as Size * LINE) / 2.0 + 12.0;
    for (n, line) in text.iter().enumerate() {
        let y = top + n as Size * LINE;
        let _ = writeln!(out, "<text class=\"{class}\" x=\"{:.1}\" y=\"{y:.1}\">{}</text>", at.0, escape(line));
    }
}

fn arrow(out: &mut String, found: &Layout, chain: &[usize], class: &str) {
    let (Some(first), Some(last)) = (chain.first(), chain.last()) else { return };
    let slot = |n: usize| &found.slots[n];
    let down = slot(*first).row <= slot(*last).row;
    if first == last {
        let s = slot(*first);
        let (x, y) = (s.at.0 + s.size.0 / 2.0, s.at.1 + s.size.1 / 2.0);
        let _ = writeln!(out, "<path class=\"{class}\" d=\"M{x:.1} {y:.1}c14 -14 14 14 0 4\"/>");
        return;
    }
    let (lower, upper) = (|n: usize| slot(n).at.1 + slot(n).size.1, |n: usize| slot(n).at.1);
    let mut path = String::new();
    let mut end = (0.0, 0.0);
    for (n, pair) in chain.windows(2).enumerate() {
        let (from, to) = (slot(pair[0]), slot(pair[1]));
        // Straight to the edge of the row, over to the next row, and straight on: a bend within a row would cross its labels.
        let (begin, leave, enter, stop) = match down {
            true => (lower(pair[0]), from.band.1, to.band.0, upper(pair[1])),
            false => (upper(pair[0]), from.band.0, to.band.1, lower(pair[1])),
        };
        // The head of the arrow has its own room.
        let tip = if n + 2 == chain.len() { if down { -7.0 } else { 7.0 } } else { 0.0 };
        let middle = (leave + enter) / 2.0;
        let start = if n == 0 { 'M' } else { 'L' };
        let (x, to_x) = (from.at.0, to.at.0);
        let _ = write!(path, "{start}{x:.1} {begin:.1}L{x:.1} {leave:.1}");
        let _ = write!(path, "C{x:.1} {middle:.1} {to_x:.1} {middle:.1} {to_x:.1} {enter:.1}L{to_x:.1} {:.1}", stop + tip);
        end = (to_x, stop);
    }
    let back = if down { -8.0 } else { 8.0 };
    let _ = writeln!(out, "<path class=\"{class}\" d=\"{path}\"/>");
    let _ = writeln!(
        out,
        "<path class=\"head\" d=\"M{:.1} {:.1}L{:.1} {:.1}L{:.1} {:.1}Z\"/>",
        end.0,
        end.1,
        end.0 - 4.5,
        end.1 + back,
        end.0 + 4.5,
        end.1 + back
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::markdown::mermaid::Paths;
    use crate::report::sample;

    #[test]
    fn a_long_name_is_broken_at_its_joints() {
        let text = "outbound|443|httpbin|istio-egressgateway.istio-system.svc.cluster.local";
        let found = lines(text);
        assert_eq!(found.concat(), text);
        assert!(found.len() > 1 && found.iter().all(|l| l.chars().count() <= WRAP), "{found:?}");
        assert!(lines(&"x".repeat(100)).iter().all(|l| l.chars().count() <= WRAP));
    }

    #[test]
    fn every_station_and_every_way_is_drawn() {
        let record = sample::green();
        let egress = &record.scenarios[2];
        let graph = Paths::of(&egress.checks, &record.gateways).graph();
        let drawn = svg(&graph, "a & \"b\"");
        assert_eq!(drawn.matches("<rect class=\"node").count(), graph.nodes.len());
        assert_eq!(drawn.matches("<path class=\"way").count(), graph.edges.len());
        assert!(drawn.contains("class=\"way bent\"") && drawn.contains("aria-label=\"a &amp; &quot;b&quot;\""), "{drawn}");
        assert!(drawn.contains(">mesh-test/sleep</text>") && drawn.contains("httpbin.org</text>"), "{drawn}");
    }
}
