//! Tools that read and write text and files.

use super::super::{Container, Streams};
use super::condition::test;
use super::given::{Given, given};
use super::lines::{cut_lines, filter, grep, input};
use super::{complain, missing};

/// `\n`, `\t`, `\033` and the like.
pub(super) fn unescape(text: &str) -> String {
    let mut out = String::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('n') => out.push('\n'),
            Some('t') => out.push('\t'),
            Some('r') => out.push('\r'),
            Some('a') => out.push('\x07'),
            Some('e') => out.push('\x1b'),
            Some('\\') | None => out.push('\\'),
            Some('0') => {
                let mut code = 0_u32;
                for _ in 0..3 {
                    match chars.next_if(|c| c.is_digit(8)).and_then(|c| c.to_digit(8)) {
                        Some(digit) => code = code * 8 + digit,
                        None => break,
                    }
                }
                out.extend(char::from_u32(code));
            }
            Some(other) => out.extend(['\\', other]),
        }
    }
    out
}

/// Flags that each program takes.
fn flags(name: &str) -> (&'static str, &'static str) {
    match name {
        "cat" => ("nu", ""),
        "ls" => ("la1Ah", ""),
        "grep" => ("iqvnEFcoswxh", "eABCm"),
        "head" | "tail" => ("qf", "nc"),
        "wc" => ("lwc", ""),
        "rm" => ("rRf", ""),
        "mkdir" => ("p", "m"),
        "cp" | "mv" => ("rRfpa", ""),
        "cut" => ("s", "dfc"),
        "sort" => ("nru", "kt"),
        "uniq" => ("cd", ""),
        "tr" => ("ds", ""),
        "tee" => ("a", ""),
        "base64" => ("d", "w"),
        "mktemp" => ("dq", "p"),
        "uname" => ("asrnm", ""),
        "id" => ("ugn", ""),
        "chmod" | "touch" => ("Rfv", ""),
        "hostname" => ("fis", ""),
        "date" => ("uRI", "d"),
        _ => ("", ""),
    }
}

pub(super) async fn run(container: &Container, name: &str, args: &[String], streams: &Streams) -> i32 {
    let out = &streams.stdout;
    match name {
        "true" => return 0,
        "false" => return 1,
        "echo" => return i32::from(!out.write(super::echo(args))),
        "printf" => return printf(args, streams),
        "test" | "[" => return test(container, name, args, streams),
        "seq" => return seq(args, streams),
        "yes" => {
            while out.line(args.first().map_or("y", String::as_str)) {
                tokio::task::yield_now().await;
            }
            return 141;
        }
        _ => {}
    }
    let (known, with_value) = flags(name);
    // `head -3`
    let short = |a: &String| {
        let count = a.strip_prefix('-').filter(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
        count.filter(|_| matches!(name, "head" | "tail")).map_or_else(|| a.clone(), |n| format!("-n{n}"))
    };
    let args: Vec<String> = args.iter().map(short).collect();
    let given = given(&args, with_value);
    if let Some(option) = given.unknown(known) {
        return missing(streams, name, &option);
    }
    let words = &given.words;
    match name {
        "cat" => {
            if words.is_empty() {
                while let Some(bytes) = streams.stdin.read_some().await {
                    if !out.write(bytes) {
                        return 141;
                    }
                }
                return 0;
            }
            let mut code = 0;
            for word in words {
                let (data, whole) = input(container, name, std::slice::from_ref(word), streams).await;
                out.write(data);
                code |= i32::from(!whole);
            }
            code
        }
        "printenv" => match words.first() {
            None => {
                for (name, value) in &container.env {
                    out.line(&format!("{name}={value}"));
                }
                0
            }
            Some(name) => match container.env.get(name) {
                Some(value) => i32::from(!out.line(value)),
                None => 1,
            },
        },
        "ls" => ls(container, &given, streams),
        "grep" => grep(container, &given, streams).await,
        "head" | "tail" => cut_lines(container, name, &given, streams).await,
        "wc" => {
            let (data, whole) = input(container, name, words, streams).await;
            let text = String::from_utf8_lossy(&data);
            let counts = [('l', data.iter().filter(|b| **b == b'\n').count()), ('w', text.split_whitespace().count()), ('c', data.len())];
            let shown: Vec<String> =
                counts.iter().filter(|(l, _)| given.flags.is_empty() || given.has(*l)).map(|(_, n)| n.to_string()).collect();
            out.line(&[shown, words.clone()].concat().join(" "));
            i32::from(!whole)
        }
        "date" => date(&given, streams),
        "hostname" => {
            out.line(&if given.has('i') { container.host.ip().to_string() } else { container.hostname.clone() });
            0
        }
        "id" | "whoami" => {
            let text = match (name, given.has('u'), given.has('n')) {
                ("id", false, _) => "uid=0(root) gid=0(root) groups=0(root)",
                ("id", true, false) => "0",
                _ => "root",
            };
            out.line(text);
            0
        }
        "uname" => {
            out.line(&if given.has('a') {
                format!("Linux {} 6.0.0 #1 SMP x86_64 Linux", container.hostname)
            } else if given.has('n') {
                container.hostname.clone()
            } else if given.has('m') {
                "x86_64".to_owned()
            } else if given.has('r') {
                "6.0.0".to_owned()
            } else {
                "Linux".to_owned()
            });
            0
        }
        "pwd" => i32::from(!out.line(&container.files.directory())),
        "tty" => i32::from(out.line("not a tty")),
        "which" => {
            let mut code = 0;
            for word in words {
                match super::path(container, word) {
                    Some(path) => drop(out.line(&path)),
                    None => code = 1,
                }
            }
            code
        }
        "mktemp" | "chmod" | "rm" | "mkdir" | "touch" | "cp" | "mv" => files(container, name, &given, streams),
        "basename" => {
            let path = words.first().map(|w| w.trim_end_matches('/')).unwrap_or_default();
            let base = path.rsplit('/').next().unwrap_or(path);
            out.line(words.get(1).and_then(|s| base.strip_suffix(s.as_str())).unwrap_or(base));
            0
        }
        "dirname" => {
            let path = words.first().map(String::as_str).unwrap_or_default();
            out.line(match path.rsplit_once('/') {
                Some(("", _)) => "/",
                Some((directory, _)) => directory,
                None => ".",
            });
            0
        }
        "tee" => {
            let data = streams.stdin.read_all().await;
            out.write(&data);
            let mut code = 0;
            for word in words {
                if let Err(error) = container.files.write(word, &data, given.has('a')) {
                    code = complain(streams, 1, &format!("tee: {word}: {error}"));
                }
            }
            code
        }
        _ => filter(container, name, &given, streams).await,
    }
}

fn printf(args: &[String], streams: &Streams) -> i32 {
    let Some((format, values)) = args.split_first() else { return complain(streams, 1, "printf: usage: printf FORMAT [ARGUMENT]...") };
    let mut values = values.iter();
    let mut out = String::new();
    loop {
        let left = values.len();
        let mut chars = format.chars().peekable();
        let mut plain = String::new();
        while let Some(c) = chars.next() {
            if c != '%' {
                plain.push(c);
                continue;
            }
            out.push_str(&unescape(&std::mem::take(&mut plain)));
            let mut width = String::new();
            while let Some(c) = chars.next_if(|c| c.is_ascii_digit() || "-.".contains(*c)) {
                width.push(c);
            }
            let Some(kind) = chars.next() else { break };
            let text = match kind {
                '%' => "%".to_owned(),
                's' => values.next().cloned().unwrap_or_default(),
                'b' => unescape(&values.next().cloned().unwrap_or_default()),
                'd' | 'i' | 'u' => values.next().map_or(0, |v| v.trim().parse::<i64>().unwrap_or(0)).to_string(),
                'x' => format!("{:x}", values.next().map_or(0, |v| v.trim().parse::<i64>().unwrap_or(0))),
                'f' => {
                    let digits = width.split_once('.').and_then(|(_, d)| d.parse().ok()).unwrap_or(6);
                    format!("{:.digits$}", values.next().map_or(0.0, |v| v.trim().parse::<f64>().unwrap_or(0.0)))
                }
                other => return missing(streams, "printf", &format!("%{other}")),
            };
            let columns: usize = width.trim_start_matches('-').split('.').next().and_then(|w| w.parse().ok()).unwrap_or(0);
            let zero = width.starts_with('0') && kind != 's';
            out.push_str(&match (width.starts_with('-'), zero) {
                (true, _) => format!("{text:<columns$}"),
                (false, true) => format!("{text:0>columns$}"),
                (false, false) => format!("{text:>columns$}"),
            });
        }
        out.push_str(&unescape(&plain));
        // The format is used again while it takes values.
        if values.len() == 0 || values.len() == left {
            break;
        }
    }
    i32::from(!streams.stdout.write(out))
}

fn seq(args: &[String], streams: &Streams) -> i32 {
    let numbers: Option<Vec<i64>> = args.iter().map(|a| a.parse().ok()).collect();
    let (from, step, to) = match numbers.as_deref() {
        Some([to]) => (1, 1, *to),
        Some([from, to]) => (*from, 1, *to),
        Some([from, step, to]) if *step != 0 => (*from, *step, *to),
        _ => return complain(streams, 1, "seq: invalid argument"),
    };
    let mut at = from;
    while (step > 0 && at <= to) || (step < 0 && at >= to) {
        if !streams.stdout.line(&at.to_string()) {
            return 141;
        }
        let Some(next) = at.checked_add(step) else { break };
        at = next;
    }
    0
}

fn ls(container: &Container, given: &Given, streams: &Streams) -> i32 {
    let here = vec![".".to_owned()];
    let words = if given.words.is_empty() { &here } else { &given.words };
    let mut code = 0;
    for word in words {
        let names = match container.files.list(word) {
            Ok(names) => names.into_iter().filter(|n| given.has('a') || given.has('A') || !n.starts_with('.')).collect(),
            Err(_) if container.files.read(word).is_ok() => vec![word.clone()],
            Err(error) => {
                code = complain(streams, 1, &format!("ls: {word}: {error}"));
                continue;
            }
        };
        if words.len() > 1 {
            streams.stdout.line(&format!("{word}:"));
        }
        for name in names {
            let path = format!("{word}/{name}");
            let size = container.files.read(&path).map_or(4096, |d| d.len());
            let kind = if container.files.is_directory(&path) { "drwxr-xr-x" } else { "-rw-r--r--" };
            streams.stdout.line(&if given.has('l') { format!("{kind}    1 root     root     {size:9} Jan  1 00:00 {name}") } else { name });
        }
    }
    code
}

fn date(given: &Given, streams: &Streams) -> i32 {
    if given.value('d').is_some() {
        return missing(streams, "date", "-d");
    }
    let now = jiff::Timestamp::now();
    let format = given.words.iter().find_map(|w| w.strip_prefix('+'));
    let text = match format {
        Some(format) => {
            let broken = jiff::fmt::strtime::format(
                format.replace("%N", &format!("{:09}", now.subsec_nanosecond())),
                &now.to_zoned(jiff::tz::TimeZone::UTC),
            );
            match broken {
                Ok(text) => text,
                Err(error) => return complain(streams, 1, &format!("date: {error}")),
            }
        }
        None if given.has('I') => now.strftime("%Y-%m-%d").to_string(),
        None => now.strftime("%a %b %e %H:%M:%S UTC %Y").to_string(),
    };
    i32::from(!streams.stdout.line(&text))
}

fn files(container: &Container, name: &str, given: &Given, streams: &Streams) -> i32 {
    let fs = &container.files;
    let words = &given.words;
    let mut code = 0;
    let mut failed = |word: &str, error: super::super::FileError| code = complain(streams, 1, &format!("{name}: {word}: {error}"));
    match name {
        "mktemp" => {
            let directory = given.value('p').unwrap_or("/tmp");
            let template = words.first().cloned().unwrap_or_else(|| format!("{directory}/tmp.XXXXXX"));
            for number in 0..100_000 {
                let path = template.replacen("XXXXXX", &format!("{number:06}"), 1);
                if fs.read(&path).is_err() && !fs.is_directory(&path) {
                    let made = if given.has('d') { fs.make_directory(&path, false) } else { fs.write(&path, b"", false) };
                    match made {
                        Ok(()) => drop(streams.stdout.line(&path)),
                        Err(error) => failed(&path, error),
                    }
                    break;
                }
            }
        }
        "chmod" => {
            // Everybody may do everything here; a file that is not there is still an error.
            for word in words.iter().skip(1).filter(|w| fs.read(w).is_err() && !fs.is_directory(w)) {
                failed(word, super::super::FileError::NotFound);
            }
        }
        "rm" => {
            for word in words {
                match fs.remove(word, given.has('r') || given.has('R')) {
                    Err(super::super::FileError::NotFound) if given.has('f') => {}
                    Err(error) => failed(word, error),
                    Ok(()) => {}
                }
            }
        }
        "mkdir" => words.iter().for_each(|word| {
            if let Err(error) = fs.make_directory(word, given.has('p')) {
                failed(word, error);
            }
        }),
        "touch" => words.iter().for_each(|word| {
            if let Err(error) = fs.write(word, b"", true) {
                failed(word, error);
            }
        }),
        _ => match words.as_slice() {
            [from, to] => {
                let to = if fs.is_directory(to) { format!("{to}/{}", from.rsplit('/').next().unwrap_or(from)) } else { to.clone() };
                match fs.read(from).and_then(|data| fs.write(&to, &data, false)) {
                    Ok(()) if name == "mv" => {
                        if let Err(error) = fs.remove(from, false) {
                            failed(from, error);
                        }
                    }
                    Ok(()) => {}
                    Err(error) => failed(from, error),
                }
            }
            _ => return missing(streams, name, "anything but one source and one target"),
        },
    }
    code
}
