//! curl's command line. Source: curl's man page.

use std::time::Duration;

use super::Failure;

/// Options without a value.
const FLAGS: &[(&str, char)] = &[
    ("silent", 's'),
    ("show-error", 'S'),
    ("insecure", 'k'),
    ("verbose", 'v'),
    ("head", 'I'),
    ("location", 'L'),
    ("location-trusted", ' '),
    ("include", 'i'),
    ("show-headers", ' '),
    ("fail", 'f'),
    ("fail-with-body", ' '),
    ("fail-early", ' '),
    ("get", 'G'),
    ("remote-name", 'O'),
    ("no-buffer", 'N'),
    ("globoff", 'g'),
    ("http1.0", '0'),
    ("http1.1", ' '),
    ("http2", ' '),
    ("http2-prior-knowledge", ' '),
    ("tlsv1", '1'),
    ("tlsv1.0", ' '),
    ("tlsv1.1", ' '),
    ("tlsv1.2", ' '),
    ("tlsv1.3", ' '),
    ("ipv4", '4'),
    ("ipv6", '6'),
    ("retry-connrefused", ' '),
    ("retry-all-errors", ' '),
    ("disable", 'q'),
    ("no-progress-meter", ' '),
    ("progress-bar", '#'),
    ("no-keepalive", ' '),
    ("path-as-is", ' '),
    ("create-dirs", ' '),
    ("version", 'V'),
    ("help", 'h'),
];

/// Options with a value.
const VALUES: &[(&str, char)] = &[
    ("output", 'o'),
    ("write-out", 'w'),
    ("header", 'H'),
    ("request", 'X'),
    ("data", 'd'),
    ("data-ascii", ' '),
    ("data-raw", ' '),
    ("data-binary", ' '),
    ("data-urlencode", ' '),
    ("json", ' '),
    ("form", 'F'),
    ("user-agent", 'A'),
    ("user", 'u'),
    ("oauth2-bearer", ' '),
    ("cookie", 'b'),
    ("referer", 'e'),
    ("range", 'r'),
    ("resolve", ' '),
    ("connect-to", ' '),
    ("cacert", ' '),
    ("cert", 'E'),
    ("key", ' '),
    ("tls-max", ' '),
    ("max-time", 'm'),
    ("connect-timeout", ' '),
    ("max-redirs", ' '),
    ("retry", ' '),
    ("retry-delay", ' '),
    ("retry-max-time", ' '),
    ("dump-header", 'D'),
    ("upload-file", 'T'),
    ("url", ' '),
    ("url-query", ' '),
    ("stderr", ' '),
    ("keepalive-time", ' '),
];

/// Options that curl has and this one has not: they are named as such, never ignored.
const MISSING: &[(&str, char)] = &[
    ("compressed", ' '),
    ("proxy", 'x'),
    ("interface", ' '),
    ("config", 'K'),
    ("cookie-jar", 'c'),
    ("parallel", 'Z'),
    ("next", ':'),
    ("netrc", 'n'),
    ("unix-socket", ' '),
    ("limit-rate", ' '),
    ("continue-at", 'C'),
    ("quote", 'Q'),
    ("socks5", ' '),
    ("proxytunnel", 'p'),
    ("capath", ' '),
    ("ciphers", ' '),
    ("tls13-ciphers", ' '),
    ("cert-type", ' '),
    ("key-type", ' '),
    ("pass", ' '),
    ("digest", ' '),
    ("ntlm", ' '),
    ("negotiate", ' '),
    ("haproxy-protocol", ' '),
    ("http3", ' '),
    ("trace", ' '),
    ("trace-ascii", ' '),
    ("remote-header-name", 'J'),
    ("remote-time", 'R'),
    ("time-cond", 'z'),
    ("speed-limit", 'Y'),
    ("speed-time", 'y'),
    ("noproxy", ' '),
];

/// Which HTTP is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Version {
    /// HTTP/2 where TLS agrees on it.
    #[default]
    Default,
    One0,
    One1,
    /// The same, and without TLS an offer to upgrade.
    Two,
    /// HTTP/2 from the first byte.
    TwoAtOnce,
}

/// Where a body's bytes come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Data {
    /// As given; `@file` names a file, whose line ends go.
    Ascii(String),
    Raw(String),
    /// `@file` names a file.
    Binary(String),
    UrlEncode(String),
}

/// What is asked for.
#[derive(Debug, Clone, Default)]
pub(super) struct Options {
    pub(super) urls: Vec<String>,
    pub(super) silent: bool,
    pub(super) show_error: bool,
    pub(super) progress: bool,
    pub(super) insecure: bool,
    pub(super) verbose: bool,
    pub(super) head: bool,
    pub(super) location: bool,
    pub(super) location_trusted: bool,
    pub(super) include: bool,
    pub(super) fail: bool,
    pub(super) fail_with_body: bool,
    pub(super) fail_early: bool,
    pub(super) get: bool,
    pub(super) glob_off: bool,
    pub(super) version: Version,
    pub(super) tls_min: u8,
    pub(super) tls_max: u8,
    pub(super) retry_refused: bool,
    pub(super) retry_all: bool,
    pub(super) outputs: Vec<Option<String>>,
    pub(super) write_out: Option<String>,
    pub(super) headers: Vec<String>,
    pub(super) method: Option<String>,
    pub(super) data: Vec<Data>,
    pub(super) is_json: bool,
    pub(super) form: Vec<String>,
    pub(super) user_agent: Option<String>,
    pub(super) user: Option<String>,
    pub(super) bearer: Option<String>,
    pub(super) cookies: Vec<String>,
    pub(super) referer: Option<String>,
    pub(super) range: Option<String>,
    pub(super) resolve: Vec<String>,
    pub(super) connect_to: Vec<String>,
    pub(super) cacert: Option<String>,
    pub(super) cert: Option<String>,
    pub(super) key: Option<String>,
    pub(super) max_time: Option<Duration>,
    pub(super) connect_timeout: Option<Duration>,
    pub(super) max_redirects: Option<u32>,
    pub(super) retry: u32,
    pub(super) retry_delay: Option<Duration>,
    pub(super) retry_max_time: Option<Duration>,
    pub(super) dump_header: Option<String>,
    pub(super) upload: Option<String>,
    pub(super) url_query: Vec<String>,
    pub(super) stderr: Option<String>,
    pub(super) show_version: bool,
    pub(super) show_help: bool,
}

enum Found {
    Flag(&'static str),
    Value(&'static str),
}

fn unusable(option: &str, why: &str) -> Failure {
    Failure::usage(format!("option {option}: {why}"))
}

fn long(name: &str, shown: &str) -> Result<Found, Failure> {
    let exact = |table: &'static [(&'static str, char)]| table.iter().find(|(n, _)| *n == name).map(|(n, _)| *n);
    if let Some(found) = exact(FLAGS) {
        return Ok(Found::Flag(found));
    }
    if let Some(found) = exact(VALUES) {
        return Ok(Found::Value(found));
    }
    if exact(MISSING).is_some() {
        return Err(unusable(shown, "curl has it, but not the one of this simulated mesh"));
    }
    // An unambiguous beginning will do.
    let all: Vec<&'static str> = FLAGS.iter().chain(VALUES).chain(MISSING).map(|(n, _)| *n).filter(|n| n.starts_with(name)).collect();
    match all.as_slice() {
        [one] if !name.is_empty() => long(one, shown),
        [_, _, ..] if !name.is_empty() => Err(unusable(shown, "is ambiguous")),
        _ => Err(unusable(shown, "is unknown")),
    }
}

fn short(letter: char) -> Result<Found, Failure> {
    let by_letter = |table: &'static [(&'static str, char)]| table.iter().find(|(_, c)| *c == letter && letter != ' ').map(|(n, _)| *n);
    if let Some(found) = by_letter(FLAGS) {
        return Ok(Found::Flag(found));
    }
    if let Some(found) = by_letter(VALUES) {
        return Ok(Found::Value(found));
    }
    let shown = format!("-{letter}");
    if by_letter(MISSING).is_some() {
        return Err(unusable(&shown, "curl has it, but not the one of this simulated mesh"));
    }
    Err(unusable(&shown, "is unknown"))
}

impl Options {
    /// Reads a command line without the program's name.
    pub(super) fn parse(args: &[String]) -> Result<Self, Failure> {
        let mut options = Self { progress: true, ..Self::default() };
        let mut words = args.iter();
        let mut only_urls = false;
        while let Some(word) = words.next() {
            if only_urls || !word.starts_with('-') || word == "-" {
                options.urls.push(word.clone());
            } else if word == "--" {
                only_urls = true;
            } else if let Some(name) = word.strip_prefix("--") {
                if let Some(positive) = name.strip_prefix("no-").filter(|n| FLAGS.iter().any(|(f, _)| f == n)) {
                    options.flag(positive, false)?;
                    continue;
                }
                match long(name, word)? {
                    Found::Flag(flag) => options.flag(flag, true)?,
                    Found::Value(option) => {
                        let value = words.next().ok_or_else(|| unusable(word, "requires parameter"))?;
                        options.value(option, word, value)?;
                    }
                }
            } else {
                let letters = word.get(1..).unwrap_or_default();
                for (at, letter) in letters.char_indices() {
                    match short(letter)? {
                        Found::Flag(flag) => options.flag(flag, true)?,
                        Found::Value(option) => {
                            let rest = letters.get(at + letter.len_utf8()..).unwrap_or_default();
                            let shown = format!("-{letter}");
                            let value = if rest.is_empty() {
                                words.next().cloned().ok_or_else(|| unusable(&shown, "requires parameter"))?
                            } else {
                                rest.to_owned()
                            };
                            options.value(option, &shown, &value)?;
                            break;
                        }
                    }
                }
            }
        }
        Ok(options)
    }

    fn flag(&mut self, flag: &str, on: bool) -> Result<(), Failure> {
        match flag {
            "silent" => self.silent = on,
            "show-error" => self.show_error = on,
            "progress-bar" => self.progress = on,
            "no-progress-meter" => self.progress = !on,
            "insecure" => self.insecure = on,
            "verbose" => self.verbose = on,
            "head" => self.head = on,
            "location" => self.location = on,
            "location-trusted" => (self.location, self.location_trusted) = (on, on),
            "include" | "show-headers" => self.include = on,
            "fail" => self.fail = on,
            "fail-with-body" => self.fail_with_body = on,
            "fail-early" => self.fail_early = on,
            "get" => self.get = on,
            "remote-name" => self.outputs.push(None),
            "globoff" => self.glob_off = on,
            "http1.0" => self.version = Version::One0,
            "http1.1" => self.version = Version::One1,
            "http2" => self.version = Version::Two,
            "http2-prior-knowledge" => self.version = Version::TwoAtOnce,
            "tlsv1.2" => self.tls_min = 2,
            "tlsv1.3" => self.tls_min = 3,
            "retry-connrefused" => self.retry_refused = on,
            "retry-all-errors" => self.retry_all = on,
            "version" => self.show_version = true,
            "help" => self.show_help = true,
            "ipv6" => return Err(unusable("--ipv6", "this simulated mesh has IPv4 only")),
            // Older protocols are what curl would take at the least, and newer ones are agreed on all the same; IPv4 is
            // all there is; output is never held back; directories and keep-alives make no difference here.
            _ => {}
        }
        Ok(())
    }

    fn value(&mut self, option: &str, shown: &str, value: &str) -> Result<(), Failure> {
        let text = || Some(value.to_owned());
        let number = || value.parse::<u32>().map_err(|_| unusable(shown, "expected a proper numerical parameter"));
        let seconds = || {
            let seconds: f64 = value.parse().map_err(|_| unusable(shown, "expected a proper numerical parameter"))?;
            Duration::try_from_secs_f64(seconds)
                .map(|d| (!d.is_zero()).then_some(d))
                .map_err(|_| unusable(shown, "expected a positive numerical parameter"))
        };
        match option {
            "output" => self.outputs.push(text()),
            "write-out" => self.write_out = text(),
            "header" => self.headers.push(value.to_owned()),
            "request" => self.method = text(),
            "data" | "data-ascii" => self.data.push(Data::Ascii(value.to_owned())),
            "data-raw" => self.data.push(Data::Raw(value.to_owned())),
            "data-binary" => self.data.push(Data::Binary(value.to_owned())),
            "data-urlencode" => self.data.push(Data::UrlEncode(value.to_owned())),
            "json" => {
                self.is_json = true;
                self.data.push(Data::Binary(value.to_owned()));
            }
            "form" => self.form.push(value.to_owned()),
            "user-agent" => self.user_agent = text(),
            "user" => self.user = text(),
            "oauth2-bearer" => self.bearer = text(),
            "cookie" => self.cookies.push(value.to_owned()),
            "referer" => self.referer = text(),
            "range" => self.range = text(),
            "resolve" => self.resolve.push(value.to_owned()),
            "connect-to" => self.connect_to.push(value.to_owned()),
            "cacert" => self.cacert = text(),
            "cert" => self.cert = text(),
            "key" => self.key = text(),
            "tls-max" => {
                self.tls_max = match value {
                    "default" | "1.3" => 0,
                    "1.2" => 2,
                    _ => return Err(unusable(shown, "this simulated mesh speaks TLS 1.2 and 1.3")),
                }
            }
            "max-time" => self.max_time = seconds()?,
            "connect-timeout" => self.connect_timeout = seconds()?,
            "max-redirs" => self.max_redirects = if value == "-1" { Some(u32::MAX) } else { Some(number()?) },
            "retry" => self.retry = number()?,
            "retry-delay" => self.retry_delay = seconds()?,
            "retry-max-time" => self.retry_max_time = seconds()?,
            "dump-header" => self.dump_header = text(),
            "upload-file" => self.upload = text(),
            "url" => self.urls.push(value.to_owned()),
            "url-query" => self.url_query.push(value.to_owned()),
            "stderr" => self.stderr = text(),
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Options, String> {
        let words: Vec<String> = text.split(' ').map(str::to_owned).collect();
        Options::parse(&words).map_err(|f| f.message)
    }

    #[test]
    fn short_flags_are_joined_and_the_last_takes_the_rest_or_the_next() {
        let options = parse("-sSko /dev/null -XPOST -w%{http_code} -m 2.5 http://x --max-redirs 3").unwrap();
        assert!(options.silent && options.show_error && options.insecure);
        assert_eq!(options.outputs, [Some("/dev/null".to_owned())]);
        assert_eq!((options.method.as_deref(), options.write_out.as_deref()), (Some("POST"), Some("%{http_code}")));
        assert_eq!((options.max_time, options.max_redirects), (Some(Duration::from_millis(2500)), Some(3)));
        assert_eq!(options.urls, ["http://x"]);
    }

    #[test]
    fn what_cannot_be_done_is_named() {
        assert_eq!(parse("--bogus").unwrap_err(), "option --bogus: is unknown");
        assert_eq!(parse("-X").unwrap_err(), "option -X: requires parameter");
        assert!(parse("-s --compressed http://x").unwrap_err().contains("--compressed"));
        assert_eq!(parse("--max-t 1 -u a:b x").unwrap().max_time, Some(Duration::from_secs(1)));
    }
}
