//! URLs as curl reads them.

use std::net::IpAddr;

use super::Failure;

/// A URL for HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Url {
    pub(super) is_https: bool,
    pub(super) user: Option<String>,
    /// Without the brackets of an IPv6 address.
    pub(super) host: String,
    pub(super) port: u16,
    /// Path and query, beginning with `/`.
    pub(super) target: String,
}

fn bad() -> Failure {
    Failure::new(3, "URL using bad/illegal format or missing URL")
}

impl Url {
    pub(super) fn parse(text: &str) -> Result<Self, Failure> {
        if text.is_empty() || text.bytes().any(|b| b <= b' ' || b == 0x7f) {
            return Err(bad());
        }
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
        let is_https = match scheme.to_ascii_lowercase().as_str() {
            "http" => false,
            "https" => true,
            other => return Err(Failure::new(1, format!("Protocol \"{other}\" not supported or disabled in libcurl"))),
        };
        let rest = rest.split('#').next().unwrap_or(rest);
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at_checked(end).ok_or_else(bad)?;
        let (user, place) = match authority.rsplit_once('@') {
            Some((user, place)) => (Some(user.to_owned()), place),
            None => (None, authority),
        };
        let (host, port) = split_port(place).ok_or_else(bad)?;
        if host.is_empty() {
            return Err(bad());
        }
        let port = match port {
            None | Some("") => default_port(is_https),
            Some(port) => port.parse::<u16>().map_err(|_| Failure::new(3, "URL using bad/illegal format or missing URL"))?,
        };
        let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
        Ok(Self { is_https, user, host: host.to_owned(), port, target })
    }

    pub(super) fn scheme(&self) -> &'static str {
        if self.is_https { "https" } else { "http" }
    }

    /// As in the `Host` header: with the port unless it is the scheme's own.
    pub(super) fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.port == default_port(self.is_https) { host } else { format!("{host}:{}", self.port) }
    }

    /// What a `Location` means here (RFC 3986, section 5).
    pub(super) fn join(&self, location: &str) -> String {
        if location.contains("://") {
            return location.to_owned();
        }
        let base = format!("{}://{}", self.scheme(), self.authority());
        if let Some(rest) = location.strip_prefix("//") {
            return format!("{}://{rest}", self.scheme());
        }
        if location.starts_with('/') {
            return format!("{base}{location}");
        }
        let path = self.target.split('?').next().unwrap_or_default();
        if location.starts_with('?') {
            return format!("{base}{path}{location}");
        }
        let directory = path.rsplit_once('/').map_or("", |(directory, _)| directory);
        format!("{base}{directory}/{location}")
    }

    pub(super) fn same_server(&self, other: &Self) -> bool {
        self.is_https == other.is_https && self.port == other.port && self.host.eq_ignore_ascii_case(&other.host)
    }
}

fn default_port(is_https: bool) -> u16 {
    if is_https { 443 } else { 80 }
}

/// `host:port`, `[v6]:port`, `host`.
pub(super) fn split_port(place: &str) -> Option<(&str, Option<&str>)> {
    if let Some(rest) = place.strip_prefix('[') {
        let (host, after) = rest.split_once(']')?;
        host.parse::<IpAddr>().ok()?;
        return match after {
            "" => Some((host, None)),
            _ => after.strip_prefix(':').map(|port| (host, Some(port))),
        };
    }
    match place.split_once(':') {
        Some((_, port)) if port.contains(':') => None,
        Some((host, port)) => Some((host, Some(port))),
        None => Some((place, None)),
    }
}

/// `{a,b}` and `[1-3]` of a URL written out. Source: curl's man page, "URL".
pub(super) fn glob(text: &str) -> Result<Vec<String>, Failure> {
    let Some(at) = text.find(['{', '[']) else { return Ok(vec![text.to_owned()]) };
    let unmatched = || Failure::new(3, format!("bad range in URL position {}:\n{text}", at + 1));
    let (before, rest) = text.split_at_checked(at).ok_or_else(unmatched)?;
    let close = if rest.starts_with('{') { '}' } else { ']' };
    let (inner, after) = rest.get(1..).and_then(|r| r.split_once(close)).ok_or_else(unmatched)?;
    let choices: Vec<String> = if close == '}' {
        inner.split(',').map(str::to_owned).collect()
    } else if inner.parse::<IpAddr>().is_ok() {
        vec![format!("[{inner}]")]
    } else {
        let (range, step) = inner.split_once(':').unwrap_or((inner, "1"));
        let (from, to) = range.split_once('-').ok_or_else(unmatched)?;
        let step: usize = step.parse().ok().filter(|s| *s > 0).ok_or_else(unmatched)?;
        match (from.parse::<u32>(), to.parse::<u32>(), from.as_bytes(), to.as_bytes()) {
            (Ok(a), Ok(b), ..) if a <= b && b - a < 100_000 => {
                let width = if from.starts_with('0') { from.len() } else { 0 };
                (a..=b).step_by(step).map(|n| format!("{n:0width$}")).collect()
            }
            (Err(_), Err(_), [a], [b]) if a.is_ascii_alphabetic() && a <= b => {
                (*a..=*b).step_by(step).map(|c| char::from(c).to_string()).collect()
            }
            _ => return Err(unmatched()),
        }
    };
    let tails = glob(after)?;
    Ok(choices.iter().flat_map(|c| tails.iter().map(move |t| format!("{before}{c}{t}"))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_as_curl_does() {
        let url = Url::parse("https://u:p@Web.example:8443/a?b#c").unwrap();
        assert_eq!((url.is_https, url.user.as_deref(), url.host.as_str(), url.port), (true, Some("u:p"), "Web.example", 8443));
        assert_eq!((url.target.as_str(), url.authority().as_str()), ("/a?b", "Web.example:8443"));
        assert_eq!(Url::parse("web?x").unwrap().target, "/?x");
        assert_eq!(Url::parse("http://[::1]:80/").unwrap().authority(), "[::1]");
        for (text, code) in [("", 3), ("http://", 3), ("http://a b/", 3), ("foo://x", 1), ("http://x:y/", 3)] {
            assert_eq!(Url::parse(text).unwrap_err().code, code, "{text}");
        }
    }

    #[test]
    fn locations_are_joined() {
        let url = Url::parse("http://a:81/b/c?d").unwrap();
        for (location, joined) in [
            ("/x", "http://a:81/x"),
            ("x", "http://a:81/b/x"),
            ("?y", "http://a:81/b/c?y"),
            ("//z/", "http://z/"),
            ("https://q", "https://q"),
        ] {
            assert_eq!(url.join(location), joined);
        }
    }

    #[test]
    fn ranges_and_lists_are_written_out() {
        assert_eq!(glob("http://x/[1-3]{a,b}").unwrap().len(), 6);
        assert_eq!(glob("http://[::1]/").unwrap(), ["http://[::1]/"]);
        assert_eq!(glob("http://x/[08-10]").unwrap(), ["http://x/08", "http://x/09", "http://x/10"]);
        assert_eq!(glob("http://x/[").unwrap_err().code, 3);
    }
}
