//! The report as one self-contained HTML page: nothing is fetched, nothing is executed, light and dark, narrow and wide.
//!
//! The page's own policy forbids scripts and anything from elsewhere; the filter and the folds need neither.

mod check;
mod drawing;
mod layout;
mod markdown;
mod text;

use std::fmt::Write as _;

use self::text::{block, code, escape, folded, line, list, prose, table};
use super::markdown::changes;
use super::markdown::closing::says;
use super::markdown::mermaid::Paths;
use super::record::{RunRecord, ScenarioRecord, Tally};
use super::text::{clean, joined, plain, shorten, url};
use super::verdict::{self, Verdict, counts, minute, plural, seconds};
use crate::outcome::Outcome;

const STYLE: &str = include_str!("style.css");

/// The whole page. `previous` is the record of the last report, for "what changed".
///
/// Links to scenarios lead from `reports/`, as those of the Markdown page do; the page is to be saved beside it.
#[must_use]
pub fn html(record: &RunRecord, previous: Option<&RunRecord>) -> String {
    let run = Verdict::of_run(record);
    let red = verdict::checks(record).filter(|(_, c)| check::needs_a_look(&c.outcome)).count();
    let title = title(record);
    let mut out = String::with_capacity(256 * 1024);
    let _ = write!(
        out,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{}: {}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n",
        run.word(),
        line(&title)
    );
    // Before everything that they decide about: then no script is needed.
    out.push_str("<input type=\"radio\" name=\"show\" id=\"show-all\" checked>\n<input type=\"radio\" name=\"show\" id=\"show-red\">\n");
    head(&mut out, record, run, &title);
    let all = verdict::checks(record).count();
    let _ = write!(
        out,
        "<nav class=\"bar\"><div class=\"inner\"><span class=\"filter\"><label for=\"show-all\">All {all}</label>\
         <label for=\"show-red\">Not passed {red}</label></span><span class=\"links\">\
         <a href=\"#scenarios\">Scenarios</a> <a href=\"#not-tested\">Not tested</a> <a href=\"#ran-on\">Ran on</a> \
         <a href=\"#changes\">Changes</a> <a href=\"#repeat\">Repeat</a></span></div></nav>\n<main>\n"
    );
    if red == 0 {
        out.push_str("<p class=\"only-red note\">No check failed, and none needed a second attempt.</p>\n");
    }
    attention(&mut out, record);
    overview(&mut out, record);
    for (at, scenario) in record.scenarios.iter().enumerate() {
        section(&mut out, record, at, scenario);
    }
    closing(&mut out, record, previous);
    out.push_str("</main>\n<footer><p>Made from the JSON record beside this page: the same name, ending in <code>.json</code>.</p></footer>\n</body>\n</html>\n");
    out
}

fn title(record: &RunRecord) -> String {
    match record.scenarios.as_slice() {
        [one] => plain(&one.title),
        many => format!("{} on {}", plural(many.len(), "scenario"), verdict::provider(record)),
    }
}

/// The class that colours a verdict.
fn tone(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Passed => "passed",
        Verdict::Flaky | Verdict::Quarantined => "flaky",
        Verdict::Failed | Verdict::NotJudged | Verdict::Incomplete => "failed",
        Verdict::NothingAsked => "skipped",
    }
}

fn head(out: &mut String, record: &RunRecord, run: Verdict, title: &str) {
    let _ = write!(
        out,
        "<header class=\"top {}\"><div class=\"inner\">\n<p class=\"verdict\">{}</p>\n<h1>{}</h1>\n<p class=\"facts\">",
        tone(run),
        run.word(),
        line(title)
    );
    let took = verdict::took(record).map(seconds);
    let facts = [Some(format!("gateproof {}", record.gateproof)), Some(verdict::provider(record)), Some(minute(&record.started)), took];
    let facts: Vec<String> = facts.iter().flatten().map(|f| format!("<span>{}</span>", line(f))).collect();
    let _ = writeln!(out, "{}</p>\n<p class=\"counts\">{}</p>", facts.concat(), escape(&counts(verdict::tally(record))));
    if record.provider.name == "embedded" {
        out.push_str(
            "<p class=\"note\">The mesh was simulated inside gateproof. No Envoy and no istiod ran, so this is no proof about a real Istio.</p>\n",
        );
    }
    let meaning = match run {
        Verdict::Flaky => "Every check came out as expected in the end, but not each at its first attempt. A flaky check is not a pass.",
        Verdict::Quarantined => "Green but for checks in quarantine: what they show is wrong, known, and not counted until their last day.",
        Verdict::NothingAsked => "No check was asked. This run proves nothing.",
        Verdict::NotJudged => "Nothing was seen to be wrong, but not everything could be looked at. This is no pass.",
        Verdict::Passed | Verdict::Failed | Verdict::Incomplete => "",
    };
    if !meaning.is_empty() {
        let _ = writeln!(out, "<p class=\"note\">{meaning}</p>");
    }
    match (&record.finished, &record.ended_early) {
        (_, Some(why)) => {
            let _ = writeln!(out, "<p class=\"note\"><strong>The run ended early:</strong> {}</p>", prose(why));
        }
        (None, None) => {
            out.push_str(
                "<p class=\"note\"><strong>The run did not end.</strong> It died, or was still under way when this page was written.</p>\n",
            );
        }
        (Some(_), None) => {}
    }
    out.push_str("</div></header>\n");
}

/// What is red or flaky, in a line or two each, before everything else.
fn attention(out: &mut String, record: &RunRecord) {
    let mut items = String::new();
    for told in verdict::told(record) {
        for (n, (c, check)) in told.checks.iter().enumerate() {
            let why = match &check.outcome {
                Outcome::Failed { mismatches } => mismatches.first().map(|m| {
                    let [expected, observed] = [&m.expected, &m.observed].map(|t| prose(&shorten(&plain(t), 240)));
                    format!("{}: expected {expected}, observed {observed}", code(&m.what))
                }),
                Outcome::Error { message } => Some(format!("could not be judged: {}", prose(&shorten(&plain(message), 240)))),
                Outcome::Flaky => Some(format!("flaky: as expected only at attempt {}", check.attempts.len())),
                Outcome::Passed | Outcome::Skipped { .. } => None,
            };
            let Some(why) = why else { continue };
            // Of several checks with one cause the first has it, and the others say so.
            let first = match &check.cause {
                Some(cause) if n == 0 => format!("<br><strong>Likely cause:</strong> {}", prose(&cause.sentences())),
                Some(_) => "<br><span class=\"muted\">The same likely cause.</span>".to_owned(),
                None => check.diagnosis.first().map(|d| format!("<br><span class=\"muted\">{}</span>", prose(d))).unwrap_or_default(),
            };
            let _ = writeln!(
                items,
                "<li class=\"{}\"><a href=\"#{}\">{} / {}</a><br>{why}{first}</li>",
                check::tone(&check.outcome),
                check::anchor(told.at, *c),
                line(told.scenario.id.as_str()),
                line(&check.name)
            );
        }
    }
    if !items.is_empty() {
        let _ = writeln!(out, "<section class=\"attention\"><h2>Needs a look</h2>\n<ul>\n{items}</ul></section>");
    }
    if !record.warnings.is_empty() {
        let _ = writeln!(out, "<section class=\"warnings\"><h2>Warnings</h2>\n{}</section>", list(&record.warnings));
    }
}

fn overview(out: &mut String, record: &RunRecord) {
    let rows = record.scenarios.iter().enumerate().map(|(at, s)| {
        let verdict = Verdict::of_scenario(record, s);
        [
            format!("<a href=\"#{}\">{}</a>", scenario_anchor(at), line(s.id.as_str())),
            prose(&s.title),
            format!("<span class=\"pill {}\">{}</span>", tone(verdict), verdict.word().to_lowercase()),
            escape(&counts(Tally::of(&s.checks))),
        ]
    });
    let table = table(["scenario", "about", "verdict", "checks"], rows);
    let _ = writeln!(out, "<section id=\"scenarios\"><h2>Scenarios</h2>\n{table}</section>");
}

fn scenario_anchor(at: usize) -> String {
    format!("scenario-{}", at + 1)
}

fn section(out: &mut String, record: &RunRecord, at: usize, scenario: &ScenarioRecord) {
    let verdict = Verdict::of_scenario(record, scenario);
    let red = scenario.checks.iter().any(|c| check::needs_a_look(&c.outcome));
    let _ = write!(
        out,
        "<section class=\"scenario{}\" id=\"{}\">\n<h2><span class=\"id\">{}</span> {} <span class=\"pill {}\">{}</span></h2>\n",
        if red { "" } else { " quiet" },
        scenario_anchor(at),
        line(scenario.id.as_str()),
        prose(&scenario.title),
        tone(verdict),
        verdict.word().to_lowercase()
    );
    let tags: String = scenario.tags.iter().map(|t| format!("<span class=\"tag\">{}</span>", line(t))).collect();
    let needs: Vec<String> = scenario.needs.iter().map(|n| code(n.as_str())).collect();
    let stood = if needs.is_empty() { String::new() } else { format!(" stood on {}", needs.join(", ")) };
    let _ = writeln!(out, "<p class=\"muted\">{}. {tags}{stood}</p>", escape(&counts(Tally::of(&scenario.checks))));
    if !verdict::ended(record) && (scenario.checks.is_empty() || verdict == Verdict::Incomplete) {
        out.push_str("<p class=\"note\">The run did not reach its end, so checks of this scenario may be missing.</p>\n");
    }
    let base = format!("../{}/", clean(&scenario.folder).trim_matches('/'));
    out.push_str("<div class=\"context\">\n");
    out.push_str(&folded("How it works", &markdown::html(&scenario.mechanism, &base)));
    let values = scenario.values.iter().map(|v| [code(&v.name), code(&v.value), escape(v.source.words()), prose(&v.about)]);
    out.push_str(&folded("Values", &table(["value", "used", "from", "what it is for"], values)));
    let manifests = scenario.manifests.iter().map(|m| {
        let objects: Vec<String> = m.objects.iter().map(|o| code(o)).collect();
        [format!("<a href=\"{}\">{}</a>", escape(&url(&format!("{base}{}", m.file))), code(&m.file)), objects.join("<br>")]
    });
    out.push_str(&folded("Manifests", &table(["file", "objects"], manifests)));
    out.push_str(&folded("States", &states(scenario)));
    let corrections = scenario.corrections.iter().map(|(claim, instead)| [prose(claim), prose(instead)]);
    out.push_str(&folded("Corrections", &table(["what an earlier document claimed", "what is so"], corrections)));
    out.push_str("</div>\n");
    let paths = Paths::of(&scenario.checks, &record.gateways);
    if !paths.is_empty() {
        let dashed = if paths.has_variations() { " Dashed ways were seen only while the scenario was changed on purpose." } else { "" };
        let _ = write!(
            out,
            "<figure class=\"paths\"><figcaption>The paths that the access logs showed. Nothing is drawn that no line showed.{dashed}</figcaption>\n{}</figure>\n",
            drawing::svg(&paths.graph(), &format!("paths of {}", scenario.id))
        );
    }
    for (c, checked) in scenario.checks.iter().enumerate() {
        check::card(out, record, (at, c), scenario, checked);
    }
    if scenario.checks.is_empty() {
        out.push_str("<p class=\"muted\">No outcome of a check of this scenario was recorded.</p>\n");
    }
    out.push_str("</section>\n");
}

fn states(scenario: &ScenarioRecord) -> String {
    let rows = scenario.stages.iter().map(|s| {
        let about = if s.about.trim().is_empty() { "nothing departs".to_owned() } else { prose(&s.about) };
        let lines = |title: &str, lines: &[String]| {
            if lines.is_empty() { String::new() } else { format!("<p class=\"muted\">{title}</p>{}", list(lines)) }
        };
        [
            code(&s.state),
            format!("{about}{}{}{}", lines("notices", &s.notices), lines("applied", &s.applied), lines("removed", &s.removed)),
            format!("{}<br>proxies had it {} later", seconds(s.apply_took), seconds(s.gate_took)),
            list(&s.gate_facts),
        ]
    });
    table(["state", "what departs, and why", "applied in", "what showed that the proxies had it"], rows)
}

fn closing(out: &mut String, record: &RunRecord, previous: Option<&RunRecord>) {
    let not_tested = record.scenarios.iter().flat_map(|s| s.not_tested.iter().map(move |(what, why)| (s, what, why)));
    let not_tested = table(["scenario", "what", "why"], not_tested.map(|(s, what, why)| [code(s.id.as_str()), prose(what), prose(why)]));
    let not_tested = if not_tested.is_empty() { "<p class=\"muted\">The scenarios name nothing.</p>\n".to_owned() } else { not_tested };
    let _ = writeln!(out, "<section id=\"not-tested\"><h2>Deliberately not tested</h2>\n{not_tested}</section>");
    let per_scenario = |of: &dyn Fn(&ScenarioRecord) -> &Vec<String>| -> String {
        let items =
            record.scenarios.iter().flat_map(|s| of(s).iter().map(move |t| format!("<li>{}: {}</li>", code(s.id.as_str()), prose(t))));
        items.collect::<Vec<_>>().join("\n")
    };
    let lists = [
        ("Key points", per_scenario(&|s| &s.key_points)),
        ("What you might be missing", per_scenario(&|s| &s.might_be_missing)),
        ("Next work", per_scenario(&|s| &s.next_work)),
    ];
    for (title, items) in lists.iter().filter(|(_, items)| !items.is_empty()) {
        let _ = writeln!(out, "<section><h2>{title}</h2>\n<ul>\n{items}\n</ul></section>");
    }
    let _ = writeln!(out, "<section id=\"ran-on\"><h2>What it ran on</h2>\n{}</section>", ran_on(record));
    let _ = writeln!(
        out,
        "<section id=\"changes\"><h2>What changed since the last report</h2>\n{}</section>",
        markdown::html(&changes::body(record, previous), "")
    );
    let mut again = String::new();
    let commands = joined(&record.reproduce);
    if !commands.trim().is_empty() {
        let _ = write!(again, "<p>{}</p>\n{}", prose(says(record)), block("bash", &commands));
    }
    if !record.invoked.trim().is_empty() {
        let _ = write!(again, "<p>The same run again, checks included:</p>\n{}", block("bash", &record.invoked));
    }
    if let Some(folder) = &record.diagnostics {
        let _ = writeln!(again, "<p>Diagnostics of what failed: <a href=\"{}\">{}</a></p>", escape(&url(folder)), line(folder));
    }
    let _ = writeln!(out, "<section id=\"repeat\"><h2>Repeat it</h2>\n{again}</section>");
}

fn ran_on(record: &RunRecord) -> String {
    let provider = &record.provider;
    let facts = [
        ("provider", line(&verdict::provider(record))),
        ("why this one", prose(&provider.chosen)),
        ("cluster", format!("{} {}", code(&provider.cluster), prose(&provider.origin))),
        ("context", code(&provider.context)),
        ("started", line(&minute(&record.started))),
        ("ended", record.finished.as_ref().map_or("<strong>not ended</strong>".to_owned(), |t| line(&minute(t)))),
    ];
    let mut out = table(["what", "value"], facts.map(|(what, value)| [what.to_owned(), value]));
    let versions = record.versions.iter().map(|v| {
        let bare = |s: &str| clean(s).trim().trim_start_matches('v').to_owned();
        let declared = match &v.declared {
            None => String::new(),
            Some(d) if bare(d) == bare(&v.observed) => line(d),
            Some(d) => format!("{} <strong>differs</strong>", line(d)),
        };
        [line(&v.what), line(&v.observed), declared]
    });
    out.push_str(&table(["version of", "observed", "declared"], versions));
    let gateways = record.gateways.iter().map(|g| {
        let labels: Vec<String> = g.labels.iter().map(|l| code(l)).collect();
        [code(&g.at.to_string()), labels.join("<br>"), prose(&g.reached)]
    });
    out.push_str(&table(["gateway", "labels", "reached at"], gateways));
    let outside = record.outside.iter().map(|o| [code(&o.host), line(&o.kind), list(&o.addresses), prose(&o.served_by)]);
    out.push_str(&table(["host outside the mesh", "stand-in or real", "addresses", "served by"], outside));
    let looked =
        record.preflight.iter().map(|p| [prose(&p.what), prose(&p.observed), if p.ok { "yes" } else { "<strong>no</strong>" }.to_owned()]);
    out.push_str(&table(["looked at before anything was touched", "seen", "good enough"], looked));
    let steps = record.steps.iter().map(|s| [prose(&s.name), seconds(s.began), seconds(s.took)]);
    out.push_str(&folded("Time of each step", &table(["step", "began after", "took"], steps)));
    out
}
