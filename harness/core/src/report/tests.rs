//! Golden pages (bless with `INSTA_UPDATE=always cargo test -p gateproof-core`), and what holds for any text.

use proptest::prelude::*;

use super::record::*;
use super::{PastRun, github_summary, html, junit, note_history, record_json, render, sample, stable_lines, summary};
use crate::outcome::{EvidenceKind, Mismatch, Outcome};
use crate::scenario::{ScenarioValue, ValueSource};

#[test]
fn green_page() {
    insta::assert_snapshot!(render(&sample::green(), None));
}

#[test]
fn red_page_after_a_green_one() {
    insta::assert_snapshot!(render(&sample::red(), Some(&sample::green())));
}

#[test]
fn flaky_page() {
    insta::assert_snapshot!(render(&sample::flaky(), Some(&sample::red())));
}

#[test]
fn unfinished_page() {
    insta::assert_snapshot!(render(&sample::unfinished(), Some(&sample::green())));
}

#[test]
fn embedded_page() {
    insta::assert_snapshot!(render(&sample::embedded(), None));
}

#[test]
fn a_quarantined_failure_is_named_in_every_form_and_makes_no_run_red() {
    let record = sample::quarantined();
    assert!(Tally::of(record.scenarios.iter().flat_map(|s| &s.checks)).is_green());
    for text in [render(&record, None), summary(&record, None), github_summary(&record), junit(&record), html(&record, None)] {
        assert!(text.contains("failed, quarantined") || text.contains("FAILED, QUARANTINED"), "{text}");
        assert!(text.contains("in quarantine until 2026-12-31: the stand-in is slow to begin"), "{text}");
        assert!(!text.contains("PASSED** on"), "{text}");
    }
    assert!(
        summary(&record, None).contains("GREEN BUT FOR QUARANTINE: 5 passed, 0 failed, 1 quarantined, 1 skipped"),
        "{}",
        summary(&record, None)
    );
    let xml = junit(&record);
    assert!(xml.contains("failures=\"0\" errors=\"0\" skipped=\"2\"") && !xml.contains("<failure"), "{xml}");
    assert!(record_json(&record).unwrap().contains("\"quarantined\": {"));
    // One that passes says that it may be due to end.
    let mut mended = sample::quarantined();
    mended.scenarios[2].checks[0].outcome = Outcome::Passed;
    assert!(junit(&mended).contains("it passed, so it may be due to end"));
}

#[test]
fn a_flaky_check_shows_each_attempt_in_every_form() {
    let mut record = sample::flaky();
    let past = [sample::flaky(), sample::green()].map(|r| PastRun::read(record_json(&r).unwrap().as_bytes(), Some("kind")).unwrap());
    note_history(&mut record, &past);
    for text in [render(&record, None), summary(&record, None), github_summary(&record), junit(&record), html(&record, None)] {
        assert!(text.to_lowercase().contains("flaky"), "{text}");
        assert!(text.contains("status: expected 200, observed 503"), "{text}");
        assert!(text.contains("flaky in 2 of its last 3 runs"), "{text}");
    }
}

#[test]
fn the_page_says_since_when_a_check_fails_and_what_drifted() {
    let mut record = sample::red();
    let mut before = sample::red();
    before.started = "2026-11-20T01:48:00Z".to_owned();
    note_history(&mut record, &[PastRun::read(record_json(&before).unwrap().as_bytes(), Some("kind")).unwrap()]);
    for (run, mode) in [(&mut record, "STATIC"), (&mut before, "EDS")] {
        let digest = serde_json::from_value(serde_json::json!({"cluster c": {"type": mode}})).unwrap();
        run.scenarios[1].stages[0].proxies.insert("a/x".to_owned(), digest);
    }
    let page = render(&record, Some(&before));
    assert!(page.contains("**Still failing**"), "{page}");
    assert!(page.contains("red in 2 runs in a row, since the run of 2026-11-20 01:48 UTC; as expected in no run that is known"), "{page}");
    assert!(page.contains("**Configuration of the proxies that drifted** (1 difference)"), "{page}");
    assert!(page.contains("+  \"type\": \"STATIC\""), "{page}");
}

#[test]
fn short_forms_of_a_red_run() {
    insta::assert_snapshot!("terminal", summary(&sample::red(), Some("reports/2026-11-22-kind-3-scenarios.md")));
    insta::assert_snapshot!("github", github_summary(&sample::red()));
    insta::assert_snapshot!("junit", junit(&sample::red()));
    insta::assert_snapshot!("stable-lines", stable_lines(&sample::red()).join("\n"));
}

#[test]
fn several_checks_with_one_cause_have_it_once_and_each_its_own_mismatches() {
    let mut record = sample::red();
    let checks = &mut record.scenarios[2].checks;
    let (cause, first) = (checks[0].cause.clone().unwrap(), checks[0].clone());
    let status = Mismatch { what: "status".into(), expected: "201".into(), observed: "503".into(), by: EvidenceKind::Traffic };
    checks[1] = CheckRecord { name: checks[1].name.clone(), outcome: Outcome::Failed { mismatches: vec![status] }, ..first };
    let text = summary(&record, None);
    let lines: Vec<&str> = text.lines().collect();
    let at = lines.iter().position(|l| *l == "FAILED: 20-egress::traffic leaves through the egress gateway").unwrap();
    assert_eq!(lines[at + 1], "FAILED: 20-egress::without the VirtualService it does not", "{text}");
    assert_eq!(lines[at + 2], format!("  cause: {}", cause.text), "{text}");
    assert_eq!(lines[at + 3], format!("  look at {}", cause.look_at[0]), "{text}");
    assert!(text.contains("  of without the VirtualService it does not: status: expected 201, observed 503"), "{text}");
    assert_eq!(text.matches(&cause.text).count(), 1, "{text}");
    let page = render(&record, None);
    let head = page.split("## Contents").next().unwrap();
    assert_eq!(head.matches("does not exist").count(), 1, "{head}");
    assert!(
        head.contains(">   - [20-egress / without the VirtualService it does not](#evidence-3-2): status: expected 201, observed 503"),
        "{head}"
    );
    for form in [github_summary(&record), html(&record, None), page.clone()] {
        assert!(form.contains("status") && form.contains("201") && form.contains("503"), "{form}");
    }
    assert_eq!(junit(&record).matches("<failure message=\"VirtualService mesh-test/egress names the gateway").count(), 2);
    // A cause in another state's words, or a check in quarantine, stands by itself.
    record.scenarios[2].checks[1].cause = None;
    assert_eq!(summary(&record, None).matches("\n\nFAILED: 20-egress::").count(), 2);
}

#[test]
fn a_state_that_was_not_reached_is_told_once_with_all_its_checks() {
    let mut record = sample::red();
    for check in &mut record.scenarios[1].checks {
        check.outcome = Outcome::Error { message: "the API refused it".to_owned() };
        check.diagnosis = vec!["First broken layer: accepted by the API (1 of 7).".to_owned()];
    }
    let text = summary(&record, None);
    assert_eq!(text.matches("the API refused it").count(), 1, "{text}");
    assert_eq!(text.matches("COULD NOT BE JUDGED: 10-ingress::").count(), 4, "{text}");
    assert_eq!(text.matches("accepted by the API").count(), 1, "{text}");
}

#[test]
fn no_page_of_a_red_run_says_that_the_run_passed() {
    for (record, word) in [(sample::red(), "FAILED"), (sample::flaky(), "FLAKY"), (sample::unfinished(), "INCOMPLETE")] {
        for text in [render(&record, None), summary(&record, None), github_summary(&record), html(&record, None)] {
            assert!(text.contains(word), "{text}");
            assert!(!text.contains("<p class=\"verdict\">PASSED"), "{text}");
            assert!(!text.contains("**PASSED** on"), "{text}");
        }
    }
}

#[test]
fn a_run_that_asked_nothing_or_was_interrupted_is_not_green() {
    let mut nothing = sample::green();
    nothing.scenarios.clear();
    assert!(render(&nothing, None).contains("> [!CAUTION]\n> **NOTHING WAS ASKED**"));
    assert!(junit(&nothing).contains("no check was asked"));
    let mut interrupted = sample::green();
    interrupted.ended_early = Some("interrupted".to_owned());
    assert!(render(&interrupted, None).contains("> [!CAUTION]\n> **INCOMPLETE**"));
    assert!(junit(&interrupted).contains("<error message=\"the run ended early: interrupted\""));
}

#[test]
fn the_same_run_on_another_day_has_the_same_stable_lines() {
    let mut later = sample::green();
    for check in later.scenarios.iter_mut().flat_map(|s| &mut s.checks) {
        check.took *= 3.0;
        for hop in &mut check.hops {
            hop.pod = "istio-egressgateway-7c8d9f6b5b-zz9vd".to_owned();
            hop.entry.upstream_host = "10.9.9.9:443".to_owned();
        }
    }
    assert_eq!(stable_lines(&sample::green()), stable_lines(&later));
    assert!(render(&later, Some(&sample::green())).contains("What was observed is the same"));
}

#[test]
fn no_secret_reaches_any_form() {
    let mut record = sample::red();
    let secret =
        "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY----- Authorization: Bearer c2VjcmV0 eyJhbGciOi.eyJzdWIi.c2VjcmV0";
    everywhere(&mut record, secret);
    // A block over the lines of one field, too.
    let lines: Vec<String> = secret.lines().map(str::to_owned).collect();
    record.scenarios[1].checks[0].observed = lines.clone();
    record.scenarios[1].checks[1].expected = lines.clone();
    record.reproduce = lines;
    for text in all_forms(&record) {
        let leak = text.lines().find(|l| l.contains("c2VjcmV0"));
        assert_eq!(leak, None);
    }
}

#[test]
fn what_a_run_was_given_is_in_both_pages_and_in_the_record() {
    let mut record = sample::red();
    let value = ScenarioValue {
        name: "host".into(),
        value: "shop.example".into(),
        source: ValueSource::CommandLine,
        about: "who is called".into(),
    };
    record.scenarios[0].values = vec![ValueRecord::of(&value)];
    assert!(render(&record, None).contains("| `host` | `shop.example` | --value | who is called |"), "{}", render(&record, None));
    let page = html(&record, None);
    assert!(page.contains("Values") && page.contains("shop.example") && page.contains("who is called"));
    assert!(record_json(&record).unwrap().contains("\"source\": \"command-line\""));
    assert!(!html(&sample::red(), None).contains(">Values<"), "a scenario without values has no such table");
}

#[test]
fn the_job_page_stays_within_its_limit() {
    let mut record = sample::red();
    let check = &mut record.scenarios[2].checks[0];
    let Outcome::Failed { mismatches } = &mut check.outcome else { panic!() };
    mismatches[0].observed = "|".repeat(100_000);
    let many: Vec<CheckRecord> = (0..2000).map(|_| check.clone()).collect();
    record.scenarios[2].checks = many;
    let text = github_summary(&record);
    assert!(text.len() < 1024 * 1024, "{}", text.len());
    assert!(text.contains("They are in the report."));
}

#[test]
fn the_json_reads_back_as_the_same_record() {
    let mut record = sample::red();
    record.reproduce = vec!["echo -----BEGIN PRIVATE KEY-----".to_owned(), "secret".to_owned()];
    let text = record_json(&record).unwrap();
    let back: RunRecord = serde_json::from_str(&text).unwrap();
    assert_eq!(back.reproduce, ["echo [removed: PEM PRIVATE KEY]"]);
    assert_eq!(render(&back, None), render(&record, None));
}

fn all_forms(record: &RunRecord) -> Vec<String> {
    vec![
        render(record, Some(record)),
        html(record, Some(record)),
        summary(record, None),
        github_summary(record),
        junit(record),
        record_json(record).unwrap(),
        stable_lines(record).join("\n"),
    ]
}

/// Puts a text into every free field of a record.
fn everywhere(record: &mut RunRecord, text: &str) {
    let t = || text.to_owned();
    let v = || vec![t(), t()];
    let p = || vec![(t(), t())];
    (record.gateproof, record.invoked, record.warnings, record.reproduce) = (t(), t(), v(), v());
    (record.ended_early, record.diagnostics) = (Some(t()), Some(t()));
    record.provider = ProviderRecord { name: t(), chosen: t(), cluster: t(), context: t(), origin: t() };
    record.versions = vec![VersionRecord { what: t(), observed: t(), declared: Some(t()) }];
    record.outside = vec![OutsideRecord { host: t(), kind: t(), addresses: v(), served_by: t() }];
    record.preflight = vec![PreflightRecord { what: t(), observed: t(), ok: false }];
    record.steps = vec![StepRecord { name: t(), began: f64::NAN, took: f64::INFINITY }];
    for gateway in &mut record.gateways {
        (gateway.labels, gateway.reached) = (v(), t());
    }
    for s in &mut record.scenarios {
        (s.title, s.mechanism, s.tags, s.folder) = (t(), t(), v(), t());
        s.values = vec![ValueRecord { name: t(), value: t(), source: ValueSource::Environment, about: t() }];
        s.manifests = vec![ManifestRecord { file: t(), objects: v() }];
        for stage in &mut s.stages {
            (stage.state, stage.about, stage.gate_facts) = (t(), t(), v());
            (stage.applied, stage.removed, stage.notices) = (v(), v(), v());
        }
        (s.not_tested, s.corrections) = (p(), p());
        (s.key_points, s.might_be_missing, s.next_work) = (v(), v(), v());
        for (at, c) in s.checks.iter_mut().enumerate() {
            (c.name, c.proves, c.given, c.command) = (t(), t(), t(), t());
            (c.expected, c.observed, c.diagnosis) = (v(), v(), v());
            c.cause = Some(CauseRecord { text: t(), look_at: v() });
            (c.caller, c.destination) = (Some(t()), Some(t()));
            c.attempts = vec![AttemptRecord { after: 0.1, seen: t(), at: t(), wrong: v() }];
            c.quarantined = (at % 2 == 0).then(|| QuarantineRecord { reason: t(), until: t() });
            c.history = Some(CheckHistory { red_since: Some(t()), red_runs: 2, last_green: Some(t()), flaky_runs: 1, runs: 3 });
            c.evidence = vec![EvidenceRecord { title: t(), language: t(), text: t() }];
            c.outcome = match at % 4 {
                0 => Outcome::Failed { mismatches: vec![Mismatch { what: t(), expected: t(), observed: t(), by: EvidenceKind::Log }] },
                1 => Outcome::Error { message: t() },
                2 => Outcome::Skipped { reason: t() },
                _ => Outcome::Flaky,
            };
            for hop in &mut c.hops {
                (hop.pod, hop.joined_by) = (t(), t());
                let e = &mut hop.entry;
                (e.line, e.cluster, e.route, e.sni, e.authority, e.flags) = (t(), t(), t(), t(), t(), t());
                (e.upstream_host, e.request) = (t(), Some(t()));
            }
        }
    }
}

/// Pipes that divide cells: those behind an even number of backslashes.
fn pipes(row: &str) -> usize {
    let mut backslashes = 0;
    let mut found = 0;
    for c in row.chars() {
        found += usize::from(c == '|' && backslashes % 2 == 0);
        backslashes = if c == '\\' { backslashes + 1 } else { 0 };
    }
    found
}

/// Walks a page as a renderer does: fences first, then tables and Mermaid.
fn holds_together(page: &str) -> Result<(), TestCaseError> {
    let mut fence: Option<(char, usize, bool)> = None;
    let mut columns: Option<usize> = None;
    let mut details = 0_i32;
    let mut tables = 0;
    let lines: Vec<&str> = page.lines().collect();
    for (at, line) in lines.iter().copied().enumerate() {
        let trimmed = line.trim_start();
        let mark = if trimmed.starts_with('~') { '~' } else { '`' };
        let ticks = trimmed.chars().take_while(|c| *c == mark).count();
        match fence {
            Some((kind, open, _)) if kind == mark && ticks >= open && trimmed.trim_end().len() == ticks => fence = None,
            Some((_, _, true)) => {
                if trimmed == "flowchart LR" {
                    continue;
                }
                prop_assert!(trimmed.starts_with('n'), "not a statement: {line}");
                let quotes = trimmed.matches('"').count();
                prop_assert!(quotes == 2 || (quotes == 0 && trimmed.contains("> n")), "{line}");
                if let (Some(a), Some(b)) = (trimmed.find('"'), trimmed.rfind('"')) {
                    let label = trimmed[a + 1..b.max(a + 1)].replace("<br/>", "");
                    prop_assert!(!label.is_empty(), "{line}");
                    prop_assert!(!label.contains(['|', '<', '>', '`', '[', ']', '{', '}']), "{line}");
                }
            }
            Some(_) => {}
            None if ticks >= 3 && (mark == '~' || !trimmed[ticks..].contains('`')) => {
                fence = Some((mark, ticks, trimmed[ticks..].starts_with("mermaid")))
            }
            // A scenario's own Markdown may hold any pipes; a table is what has a divider below its first row.
            None if line.starts_with('|') && (columns.is_some() || lines.get(at + 1).is_some_and(|l| l.starts_with("| ---"))) => {
                tables += usize::from(columns.is_none());
                let wanted = *columns.get_or_insert(pipes(line));
                prop_assert_eq!(pipes(line), wanted, "{}", line);
                prop_assert!(line.ends_with('|'), "{}", line);
                continue;
            }
            None => {
                details += i32::from(trimmed.starts_with("<details>")) - i32::from(trimmed == "</details>");
                prop_assert!((0..=1).contains(&details), "{line}");
            }
        }
        columns = None;
    }
    prop_assert!(fence.is_none(), "a fence is left open");
    prop_assert_eq!(details, 0);
    prop_assert!(tables > 5);
    Ok(())
}

/// Walks an HTML page: every tag is one of ours, closed in order, and every attribute one that we write.
fn is_sound_html(page: &str) -> Result<(), TestCaseError> {
    const EMPTY: [&str; 6] = ["meta", "input", "br", "hr", "rect", "path"];
    const TAGS: &str = "html head title style body header nav main section footer div span p h1 h2 h4 h5 h6 a ul ol li code pre \
        strong em details summary table thead tbody tr th td figure figcaption blockquote label svg text";
    const ATTRIBUTES: &str = "lang charset name content http-equiv type id checked class for href rel open viewBox width height role \
        aria-label x y rx d";
    let (_, page) = page.split_once("<!doctype html>").ok_or_else(|| TestCaseError::fail("no doctype"))?;
    let (before, rest) = page.split_once("<style>").ok_or_else(|| TestCaseError::fail("no style"))?;
    let (_, after) = rest.split_once("</style>").ok_or_else(|| TestCaseError::fail("style is left open"))?;
    let page = format!("{before}<style></style>{after}");
    let mut open: Vec<String> = Vec::new();
    let mut parts = page.split('<');
    prop_assert!(!parts.next().unwrap_or_default().contains('>'));
    for part in parts {
        // A `>` in an attribute is escaped, so the first one ends the tag, and text has none.
        let (tag, text) = part.split_once('>').ok_or_else(|| TestCaseError::fail(part.to_owned()))?;
        prop_assert!(!text.contains('>') && !text.contains('"'), "unescaped: {}", text);
        if let Some(name) = tag.strip_prefix('/') {
            let opened = open.pop();
            prop_assert_eq!(opened.as_deref(), Some(name), "{}", tag);
            continue;
        }
        let tag = tag.trim_end_matches('/');
        let name: String = tag.chars().take_while(|c| c.is_ascii_alphanumeric()).collect();
        let known = TAGS.split_whitespace().chain(EMPTY).any(|t| t == name);
        prop_assert!(known, "<{}>", tag);
        let mut rest = tag[name.len()..].trim_start();
        while !rest.is_empty() {
            let key: String = rest.chars().take_while(|c| c.is_ascii_alphabetic() || *c == '-').collect();
            prop_assert!(ATTRIBUTES.split_whitespace().any(|a| a == key), "{} of <{}>", key, tag);
            rest = &rest[key.len()..];
            if let Some(value) = rest.strip_prefix("=\"") {
                let (value, behind) = value.split_once('"').ok_or_else(|| TestCaseError::fail(tag.to_owned()))?;
                let to_elsewhere = key == "href" && value.contains(':') && !value.starts_with("http");
                prop_assert!(!to_elsewhere, "{}", tag);
                rest = behind;
            }
            rest = rest.trim_start();
        }
        if !EMPTY.contains(&name.as_str()) {
            open.push(name);
        }
    }
    prop_assert!(open.is_empty(), "left open: {:?}", open);
    prop_assert!(!page.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\t')));
    Ok(())
}

#[test]
fn the_html_page_is_sound_and_fetches_and_executes_nothing() {
    for record in [sample::green(), sample::red(), sample::flaky(), sample::unfinished(), sample::embedded()] {
        let page = html(&record, Some(&sample::red()));
        is_sound_html(&page).unwrap();
        for word in ["<script", "<link", "<img", "<iframe", "src=", "@import", "url(", "onload", " style="] {
            assert!(!page.contains(word), "{word}");
        }
        assert!(page.contains("default-src 'none'"));
        assert!(page.contains("prefers-color-scheme: dark") && page.contains("width=device-width"));
    }
}

#[test]
fn an_html_page_has_every_check_and_shows_the_red_ones_first() {
    let record = sample::red();
    let page = html(&record, None);
    let cards = page.matches("<details class=\"check ").count();
    assert_eq!(cards, record.scenarios.iter().map(|s| s.checks.len()).sum::<usize>());
    let first = page.find("traffic leaves through the egress gateway").unwrap();
    assert!(first < page.find("id=\"scenarios\"").unwrap(), "a failure is told before the overview");
    assert_eq!(page.matches("\" open>").count(), 2, "what failed or could not be judged is open");
    assert!(page.contains("no line of this call in 1 replica, read 2.1 s past it") && page.contains("Not passed 2"));
    assert!(page.contains("<svg ") && page.contains("PassthroughCluster"), "paths are drawn");
}

/// Texts that are likely to break something, and any others.
fn nasty() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        "|",
        "\\",
        "\\|",
        "`",
        "``",
        "```",
        "~~~",
        "\n",
        "\r\n",
        "\u{2028}",
        "\t",
        "\"",
        "'",
        "<",
        ">",
        "<details>",
        "</details>",
        "<!--",
        "-->",
        "#",
        "---",
        "===",
        "- ",
        "> ",
        "1. ",
        "[a](b)",
        "![",
        "]",
        "*",
        "_",
        "$",
        "&",
        ";",
        ":",
        "%%",
        "{{",
        "}}",
        "\u{1b}[31m",
        "\u{0}",
        "\u{feff}",
        "word",
        " ",
        "漢",
        "🙂",
        "\u{202e}",
        "end",
        "true",
        "]]>",
        "<script>alert(1)</script>",
        "\" onload=\"alert(1)",
        "</style>",
        "[x](javascript:alert(1))",
        "&#60;b&#62;",
        "outbound|443||httpbin.org",
    ]);
    prop_oneof![prop::collection::vec(pieces, 0..12).prop_map(|p| p.concat()), any::<String>()]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_breaks_a_page(text in nasty()) {
        let mut record = sample::green();
        everywhere(&mut record, &text);
        let page = render(&record, Some(&sample::red()));
        holds_together(&page)?;
        let front = page.strip_prefix("---\n").and_then(|p| p.split_once("\n---\n")).map(|(front, _)| front).unwrap();
        let yaml: serde_json::Value = serde_saphyr::from_str(front).map_err(|e| TestCaseError::fail(format!("{e}\n{front}")))?;
        prop_assert_eq!(&yaml["type"], "report");
        prop_assert_eq!(&yaml["created"], "2026-11-21");
        prop_assert!(yaml["tags"].as_array().unwrap().iter().all(serde_json::Value::is_string), "{}", front);
    }

    #[test]
    fn no_text_breaks_html(text in nasty()) {
        let mut record = sample::green();
        everywhere(&mut record, &text);
        is_sound_html(&html(&record, Some(&sample::red())))?;
    }

    #[test]
    fn no_text_breaks_xml(text in nasty()) {
        let mut record = sample::green();
        everywhere(&mut record, &text);
        let xml = junit(&record);
        prop_assert!(!xml.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\t')));
        // Tags are the only `<`, and each opens or closes one of ours; quotes come in pairs on each of them.
        for tag in xml.split('<').skip(1) {
            let (inside, _) = tag.split_once('>').ok_or_else(|| TestCaseError::fail(tag.to_owned()))?;
            let name: String = inside.trim_start_matches(['/', '?']).chars().take_while(char::is_ascii_alphanumeric).collect();
            let ours = ["xml", "testsuites", "testsuite", "properties", "property", "testcase", "failure", "error", "skipped", "flakyFailure"];
            prop_assert!(ours.contains(&name.as_str()), "{}", tag);
            prop_assert_eq!(inside.matches('"').count() % 2, 0, "{}", tag);
        }
    }
}
