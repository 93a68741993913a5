//! Tools that take lines and give lines.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::super::{Container, Streams, shell_like};
use super::given::Given;
use super::text::unescape;
use super::{complain, missing};

/// Standard input, or the files that are named. False when one could not be read.
pub(super) async fn input(container: &Container, program: &str, words: &[String], streams: &Streams) -> (Vec<u8>, bool) {
    if words.is_empty() {
        return (streams.stdin.read_all().await, true);
    }
    let (mut all, mut whole) = (Vec::new(), true);
    for word in words {
        match if word == "-" { Ok(streams.stdin.read_all().await.into()) } else { container.files.read(word) } {
            Ok(data) => all.extend_from_slice(&data),
            Err(error) => {
                streams.stderr.line(&format!("{program}: can't open '{word}': {error}"));
                whole = false;
            }
        }
    }
    (all, whole)
}

fn lines(data: &[u8]) -> Vec<String> {
    String::from_utf8_lossy(data).lines().map(str::to_owned).collect()
}

pub(super) async fn grep(container: &Container, given: &Given, streams: &Streams) -> i32 {
    let mut words = given.words.clone();
    let pattern = match given.value('e') {
        Some(pattern) => pattern.to_owned(),
        None if words.is_empty() => return complain(streams, 2, "grep: no pattern"),
        None => words.remove(0),
    };
    if given.values.iter().any(|(l, _)| "ABC".contains(*l)) {
        return missing(streams, "grep", "-A, -B and -C");
    }
    let mut expression = if given.has('F') {
        regex::escape(&pattern)
    } else if given.has('E') {
        pattern
    } else {
        shell_like::basic_to_extended(&pattern)
    };
    if given.has('w') {
        expression = format!(r"\b(?:{expression})\b");
    }
    if given.has('x') {
        expression = format!("^(?:{expression})$");
    }
    let Ok(regex) = regex::RegexBuilder::new(&expression).case_insensitive(given.has('i')).build() else {
        return complain(streams, 2, &format!("grep: bad regex '{expression}'"));
    };
    let limit = given.value('m').and_then(|m| m.parse().ok()).unwrap_or(usize::MAX);
    let (data, whole) = input(container, "grep", &words, streams).await;
    let all = lines(&data);
    let found: Vec<(usize, &String)> = all.iter().enumerate().filter(|(_, l)| regex.is_match(l) != given.has('v')).take(limit).collect();
    if given.has('c') {
        streams.stdout.line(&found.len().to_string());
    } else if !given.has('q') {
        for (number, line) in &found {
            let prefix = if given.has('n') { format!("{}:", number + 1) } else { String::new() };
            if given.has('o') {
                for part in regex.find_iter(line).filter(|m| !m.is_empty()) {
                    streams.stdout.line(&format!("{prefix}{}", part.as_str()));
                }
            } else {
                streams.stdout.line(&format!("{prefix}{line}"));
            }
        }
    }
    match (found.is_empty(), whole) {
        (_, false) => 2,
        (true, true) => 1,
        (false, true) => 0,
    }
}

pub(super) async fn cut_lines(container: &Container, name: &str, given: &Given, streams: &Streams) -> i32 {
    if given.has('f') {
        return missing(streams, name, "-f");
    }
    let by_bytes = given.value('c').is_some();
    let count = given.value('c').or(given.value('n')).unwrap_or("10");
    let Ok(number) = count.trim_start_matches(['-', '+']).parse::<usize>() else {
        return complain(streams, 1, &format!("{name}: invalid number '{count}'"));
    };
    // What is enough is not waited for any longer.
    if name == "head" && given.words.is_empty() && !by_bytes && !count.starts_with('-') {
        for _ in 0..number {
            match streams.stdin.read_line().await {
                Some(line) => drop(streams.stdout.write(line)),
                None => break,
            }
        }
        return 0;
    }
    if name == "head" && given.words.is_empty() && by_bytes && !count.starts_with('-') {
        let mut left = number;
        while left > 0 {
            let Some(bytes) = streams.stdin.read_some().await else { break };
            let taken = bytes.get(..left.min(bytes.len())).unwrap_or_default();
            left -= taken.len();
            if !streams.stdout.write(taken) {
                break;
            }
        }
        return 0;
    }
    let (data, whole) = input(container, name, &given.words, streams).await;
    let pieces: Vec<&[u8]> = if by_bytes { data.chunks(1).collect() } else { data.split_inclusive(|b| *b == b'\n').collect() };
    let all = pieces.len();
    let range = match (name, count.chars().next()) {
        ("head", Some('-')) => 0..all.saturating_sub(number),
        ("head", _) => 0..number.min(all),
        (_, Some('+')) => number.saturating_sub(1).min(all)..all,
        _ => all.saturating_sub(number)..all,
    };
    streams.stdout.write(pieces.get(range).unwrap_or_default().concat());
    i32::from(!whole)
}

/// `cut`, `sort`, `uniq`, `tr`, `base64`.
pub(super) async fn filter(container: &Container, name: &str, given: &Given, streams: &Streams) -> i32 {
    let out = &streams.stdout;
    let files = if name == "tr" { &[][..] } else { given.words.as_slice() };
    let (data, whole) = input(container, name, files, streams).await;
    match name {
        "sort" => {
            let mut all = lines(&data);
            if given.has('n') {
                let number = |l: &String| l.trim().parse::<f64>().unwrap_or(0.0);
                all.sort_by(|a, b| number(a).total_cmp(&number(b)));
            } else {
                all.sort();
            }
            if !given.values.is_empty() {
                return missing(streams, name, "-k and -t");
            }
            if given.has('r') {
                all.reverse();
            }
            if given.has('u') {
                all.dedup();
            }
            all.iter().all(|l| out.line(l));
        }
        "uniq" => {
            let all = lines(&data);
            for group in all.chunk_by(|a, b| a == b) {
                let Some(line) = group.first() else { continue };
                if given.has('d') && group.len() < 2 {
                    continue;
                }
                out.line(&if given.has('c') { format!("{:7} {line}", group.len()) } else { line.clone() });
            }
        }
        "cut" => {
            let numbers: Option<Vec<usize>> =
                given.value('f').or(given.value('c')).map(|list| list.split(',').filter_map(|n| n.parse().ok()).collect());
            let Some(numbers) = numbers.filter(|n| !n.is_empty()) else {
                return missing(streams, name, "anything but a list of numbers after -f or -c");
            };
            let delimiter = given.value('d').unwrap_or("\t");
            for line in lines(&data) {
                let parts: Vec<String> = if given.value('c').is_some() {
                    line.chars().map(String::from).collect()
                } else if line.contains(delimiter) {
                    line.split(delimiter).map(str::to_owned).collect()
                } else {
                    out.line(&line);
                    continue;
                };
                let picked: Vec<&str> = numbers.iter().filter_map(|n| parts.get(n.checked_sub(1)?)).map(String::as_str).collect();
                out.line(&picked.join(if given.value('c').is_some() { "" } else { delimiter }));
            }
        }
        "tr" => {
            let set = |at: usize| given.words.get(at).map(|s| characters(s)).unwrap_or_default();
            let (from, to) = (set(0), set(1));
            let text = String::from_utf8_lossy(&data);
            let mut result = String::new();
            for c in text.chars() {
                match from.iter().position(|f| *f == c) {
                    Some(_) if given.has('d') => {}
                    Some(_) if given.has('s') && to.is_empty() => {
                        if !result.ends_with(c) {
                            result.push(c);
                        }
                    }
                    Some(at) => result.push(to.get(at).or(to.last()).copied().unwrap_or(c)),
                    None => result.push(c),
                }
            }
            out.write(result);
        }
        "base64" if given.has('d') => {
            let text: Vec<u8> = data.into_iter().filter(|b| !b.is_ascii_whitespace()).collect();
            match STANDARD.decode(text) {
                Ok(bytes) => drop(out.write(bytes)),
                Err(_) => return complain(streams, 1, "base64: truncated input"),
            }
        }
        "base64" => {
            let text = STANDARD.encode(&data);
            let width = given.value('w').and_then(|w| w.parse::<usize>().ok()).unwrap_or(76);
            if width == 0 {
                out.write(text);
            } else {
                for line in text.as_bytes().chunks(width) {
                    out.write([line, b"\n"].concat());
                }
            }
        }
        other => return missing(streams, other, "this"),
    }
    i32::from(!whole)
}

/// `a-z`, `\n` and plain characters.
fn characters(set: &str) -> Vec<char> {
    let set = match set {
        "[:upper:]" => "A-Z".to_owned(),
        "[:lower:]" => "a-z".to_owned(),
        "[:digit:]" => "0-9".to_owned(),
        "[:space:]" => " \\t\\n\\r".to_owned(),
        other => other.to_owned(),
    };
    let all: Vec<char> = unescape(&set).chars().collect();
    let mut out = Vec::new();
    let mut at = 0;
    while let Some(c) = all.get(at) {
        match (all.get(at + 1), all.get(at + 2)) {
            (Some('-'), Some(end)) if c <= end => {
                out.extend(*c..=*end);
                at += 3;
            }
            _ => {
                out.push(*c);
                at += 1;
            }
        }
    }
    out
}
