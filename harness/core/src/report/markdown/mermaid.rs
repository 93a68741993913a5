//! Paths as Mermaid flowcharts, from access-log lines only.

use std::fmt::Write as _;

use crate::outcome::{AccessLogEntry, HopSeen};
use crate::report::record::{CheckRecord, GatewayRecord};
use crate::report::text::{clean, shorten};
use crate::scenario::INTACT;

/// What a node stands for; two nodes of the same thing are one.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    Caller(String),
    Proxy(String),
    Destination(String),
    Stop(String, String),
}

struct Edge {
    from: usize,
    to: usize,
    /// Each cluster (or what came in), with the routes that led to it.
    labels: Vec<Label>,
    intact: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Label {
    main: String,
    routes: Vec<String>,
}

impl Label {
    fn of(main: String) -> Self {
        Self { main, routes: Vec::new() }
    }
}

/// What a node of a [`Graph`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::report) enum NodeKind {
    Caller,
    Proxy,
    Destination,
    Stop,
}

/// One station; its label may have several lines.
pub(in crate::report) struct GraphNode {
    pub(in crate::report) kind: NodeKind,
    pub(in crate::report) label: String,
}

/// One way between two stations, by their places in [`Graph::nodes`].
pub(in crate::report) struct GraphEdge {
    pub(in crate::report) from: usize,
    pub(in crate::report) to: usize,
    pub(in crate::report) labels: Vec<String>,
    pub(in crate::report) intact: bool,
}

/// Paths as stations and ways, for other drawings than Mermaid's. Texts are as recorded: neither cleaned nor escaped.
pub(in crate::report) struct Graph {
    pub(in crate::report) nodes: Vec<GraphNode>,
    pub(in crate::report) edges: Vec<GraphEdge>,
}

/// Paths of several checks, each part once.
#[derive(Default)]
pub(in crate::report) struct Paths {
    nodes: Vec<(Node, String)>,
    edges: Vec<Edge>,
}

/// Most labels on one arrow.
const LABELS: usize = 5;

fn given(text: &str) -> Option<&str> {
    (!matches!(text.trim(), "" | "-")).then_some(text)
}

impl Paths {
    /// The paths of these checks.
    pub(in crate::report) fn of<'a>(checks: impl IntoIterator<Item = &'a CheckRecord>, gateways: &[GatewayRecord]) -> Self {
        let mut paths = Self::default();
        for check in checks {
            paths.add(check, gateways);
        }
        paths
    }

    /// Whether no log line showed any path.
    pub(in crate::report) fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Whether some arrow was seen in variations only.
    pub(in crate::report) fn has_variations(&self) -> bool {
        self.edges.iter().any(|e| !e.intact && !self.is_known(e))
    }

    /// Whether an arrow of a variation says nothing that the same arrow of the intact state does not.
    fn is_known(&self, edge: &Edge) -> bool {
        let solid = self.edges.iter().find(|e| e.intact && e.from == edge.from && e.to == edge.to);
        solid.is_some_and(|solid| edge.labels.iter().all(|l| solid.labels.contains(l)))
    }

    fn node(&mut self, node: Node, label: String) -> usize {
        if let Some(at) = self.nodes.iter().position(|(n, _)| *n == node) {
            return at;
        }
        self.nodes.push((node, label));
        self.nodes.len() - 1
    }

    fn edge(&mut self, from: usize, to: usize, label: Label, intact: bool) {
        let edge = match self.edges.iter_mut().find(|e| e.from == from && e.to == to && e.intact == intact) {
            Some(edge) => edge,
            None => {
                self.edges.push(Edge { from, to, labels: Vec::new(), intact });
                let last = self.edges.len() - 1;
                &mut self.edges[last]
            }
        };
        match edge.labels.iter_mut().find(|l| l.main == label.main) {
            Some(known) => known.routes.extend(label.routes.into_iter().filter(|r| !known.routes.contains(r)).collect::<Vec<_>>()),
            None => edge.labels.push(label),
        }
    }

    fn add(&mut self, check: &CheckRecord, gateways: &[GatewayRecord]) {
        let intact = check.given == INTACT;
        // Where the path stands, and the label of the arrow that leaves from there; None before the first
        // hop of a call without a known caller, and behind a hop that had no upstream.
        let mut from: Option<(usize, Label)> = None;
        if let (Some(caller), Some(first)) = (&check.caller, check.hops.first()) {
            from = Some((self.node(Node::Caller(caller.clone()), caller.clone()), Label::of(entered(&first.entry))));
        }
        let mut came_by: Option<(usize, Label)> = None;
        for (at, hop) in check.hops.iter().enumerate() {
            let name = hop.proxy.to_string();
            let what = if gateways.iter().any(|g| g.at == hop.proxy) { "gateway" } else { "proxy of" };
            let node = self.node(Node::Proxy(name.clone()), format!("{what}\n{name}"));
            if at > 0 && check.hops[at - 1].proxy == hop.proxy {
                // Two lines of one proxy in a row are two connections side by side, not a loop: the earlier
                // one leads to the upstream in its own line, the later one came in the same way.
                if let Some((earlier, label)) = from.take() {
                    self.destination(earlier, label, &check.hops[at - 1], None, intact);
                }
            } else {
                came_by = from.take();
            }
            if let Some((origin, label)) = &came_by {
                self.edge(*origin, node, label.clone(), intact);
            }
            from = self.upstream(node, &name, &hop.entry, intact);
        }
        if let (Some((at, label)), Some(last)) = (from, check.hops.last()) {
            self.destination(at, label, last, check.destination.as_deref(), intact);
        }
    }

    /// The arrow to what lies behind the last proxy: its name, or the upstream's address in the log line.
    fn destination(&mut self, from: usize, label: Label, hop: &HopSeen, name: Option<&str>, intact: bool) {
        let end = name.unwrap_or(&hop.entry.upstream_host).to_owned();
        let to = self.node(Node::Destination(end.clone()), end);
        self.edge(from, to, label, intact);
    }

    /// The arrow that leaves a proxy; where it had no upstream, the path is ended here.
    fn upstream(&mut self, node: usize, name: &str, entry: &AccessLogEntry, intact: bool) -> Option<(usize, Label)> {
        let mut label = Label::of(given(&entry.cluster).unwrap_or_default().to_owned());
        label.routes.extend(given(&entry.route).map(str::to_owned));
        if given(&entry.upstream_host).is_some() {
            if let Some(flags) = given(&entry.flags) {
                label.main = format!("{}\nflags {flags}", label.main);
            }
            return Some((node, label));
        }
        let mut why: Vec<String> = Vec::new();
        if entry.code != 0 {
            why.push(format!("answered {}", entry.code));
        }
        why.extend(given(&entry.flags).map(|f| format!("flags {f}")));
        let why = if why.is_empty() { "no upstream".to_owned() } else { why.join(", ") };
        let stop = self.node(Node::Stop(name.to_owned(), why.clone()), format!("ends at {name}\n{why}"));
        self.edge(node, stop, label, intact);
        None
    }

    /// The labels of an arrow, at most so many.
    fn labels(edge: &Edge) -> Vec<String> {
        let lines = edge.labels.iter().take(LABELS).map(|l| match l.routes.as_slice() {
            [] => l.main.clone(),
            [one] => format!("{}\nroute {one}", l.main),
            many => format!("{}\nroutes {}", l.main, many.join(", ")),
        });
        let mut lines: Vec<String> = lines.collect();
        if edge.labels.len() > LABELS {
            lines.push(format!("and {} more", edge.labels.len() - LABELS));
        }
        lines
    }

    /// The stations and ways.
    pub(in crate::report) fn graph(&self) -> Graph {
        let kind = |node: &Node| match node {
            Node::Caller(_) => NodeKind::Caller,
            Node::Proxy(_) => NodeKind::Proxy,
            Node::Destination(_) => NodeKind::Destination,
            Node::Stop(..) => NodeKind::Stop,
        };
        let edges = self.edges.iter().filter(|e| e.intact || !self.is_known(e));
        Graph {
            nodes: self.nodes.iter().map(|(node, label)| GraphNode { kind: kind(node), label: label.clone() }).collect(),
            edges: edges.map(|e| GraphEdge { from: e.from, to: e.to, labels: Self::labels(e), intact: e.intact }).collect(),
        }
    }

    /// The Mermaid text in its fence; empty when there is no path.
    pub(super) fn render(&self) -> String {
        if self.is_empty() {
            return String::new();
        }
        let mut out = String::from("```mermaid\nflowchart LR\n");
        for (id, (node, text)) in self.nodes.iter().enumerate() {
            let text = match label(text) {
                // Mermaid refuses a node without a label.
                empty if empty.is_empty() => "unnamed".to_owned(),
                text => text,
            };
            let _ = match node {
                Node::Caller(_) | Node::Destination(_) => writeln!(out, "  n{id}([\"{text}\"])"),
                Node::Proxy(_) => writeln!(out, "  n{id}[\"{text}\"]"),
                Node::Stop(..) => writeln!(out, "  n{id}{{{{\"{text}\"}}}}"),
            };
        }
        for edge in self.edges.iter().filter(|e| e.intact || !self.is_known(e)) {
            let text = label(&Self::labels(edge).join("\n"));
            let (open, close) = if edge.intact { ("--", "-->") } else { ("-.", ".->") };
            let _ = match (text.is_empty(), edge.intact) {
                (true, true) => writeln!(out, "  n{} --> n{}", edge.from, edge.to),
                (true, false) => writeln!(out, "  n{} -.-> n{}", edge.from, edge.to),
                _ => writeln!(out, "  n{} {open} \"{text}\" {close} n{}", edge.from, edge.to),
            };
        }
        out.push_str("```\n");
        out
    }
}

/// What came in at the first proxy.
fn entered(entry: &AccessLogEntry) -> String {
    match (&entry.request, given(&entry.sni), given(&entry.authority)) {
        (Some(_), Some(sni), _) => format!("HTTPS {sni}"),
        (Some(_), None, Some(host)) => format!("HTTP {host}"),
        (Some(_), None, None) => "HTTP".to_owned(),
        (None, Some(sni), _) => format!("TLS, SNI {sni}"),
        (None, None, _) => "TCP".to_owned(),
    }
}

/// Text within the quotes of a label: Mermaid's entity codes for whatever could end it, lines by `<br/>`.
fn label(text: &str) -> String {
    let text = clean(text);
    let lines: Vec<String> = text
        .lines()
        .map(|line| {
            let mut out = String::with_capacity(line.len());
            for c in shorten(line.trim(), 120).chars() {
                match c {
                    '"' | '\'' | '|' | '#' | ';' | '`' | '<' | '>' | '&' | '\\' | '{' | '}' | '[' | ']' | '%' | '*' | '_' | '~' => {
                        let _ = write!(out, "#{};", c as u32);
                    }
                    '\t' => out.push(' '),
                    c => out.push(c),
                }
            }
            out
        })
        .filter(|l| !l.is_empty())
        .collect();
    lines.join("<br/>")
}
