//! What curl sends.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::Failure;
use super::options::{Data, Options, Version};
use super::url::Url;
use crate::workload::programs::{Container, In};

/// The boundary of a form's parts; curl's is random, and nothing depends on it.
const BOUNDARY: &str = "------------------------d74496d66958873e";

/// A request, ready to be sent.
#[derive(Debug, Clone, Default)]
pub(super) struct Request {
    pub(super) method: String,
    pub(super) target: String,
    /// In order, `Host` first.
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
    /// `-I`: no body is read, whatever the method.
    pub(super) no_body: bool,
    pub(super) is_1_0: bool,
}

impl Request {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    /// The head as HTTP/1 has it.
    pub(super) fn head(&self) -> String {
        let version = if self.is_1_0 { "1.0" } else { "1.1" };
        let mut out = format!("{} {} HTTP/{version}\r\n", self.method, self.target);
        for (name, value) in &self.headers {
            out.push_str(&if value.is_empty() { format!("{name}:\r\n") } else { format!("{name}: {value}\r\n") });
        }
        out + "\r\n"
    }
}

/// A body and its content type.
#[derive(Debug, Clone, Default)]
pub(super) struct Payload {
    pub(super) bytes: Vec<u8>,
    pub(super) kind: Option<String>,
    /// For `-G`: goes into the URL.
    pub(super) in_query: Option<String>,
    pub(super) default_method: &'static str,
}

async fn file_or(container: &Container, stdin: &In, path: &str) -> Result<Vec<u8>, Failure> {
    match path {
        "-" => Ok(stdin.read_all().await),
        path => container.files.read(path).map(|data| data.to_vec()).map_err(|_| Failure::new(26, format!("Failed to open {path}"))),
    }
}

/// `a b` as `a%20b`.
pub(super) fn escape(bytes: &[u8]) -> String {
    let one = |b: &u8| if b.is_ascii_alphanumeric() || b"-._~".contains(b) { char::from(*b).to_string() } else { format!("%{b:02X}") };
    bytes.iter().map(one).collect()
}

async fn url_encoded(container: &Container, stdin: &In, text: &str) -> Result<Vec<u8>, Failure> {
    // content | =content | name=content | @file | name@file
    Ok(match text.find(['=', '@']) {
        None => escape(text.as_bytes()).into_bytes(),
        Some(at) => {
            let (name, rest) = text.split_at_checked(at).unwrap_or((text, ""));
            let content = match rest.strip_prefix('@') {
                Some(path) => file_or(container, stdin, path).await?,
                None => rest.get(1..).unwrap_or_default().as_bytes().to_vec(),
            };
            let value = escape(&content);
            if name.is_empty() { value } else { format!("{name}={value}") }.into_bytes()
        }
    })
}

/// Reads what is to be sent.
pub(super) async fn payload(options: &Options, container: &Container, stdin: &In) -> Result<Payload, Failure> {
    let mut payload = Payload { default_method: if options.head { "HEAD" } else { "GET" }, ..Payload::default() };
    if !options.data.is_empty() {
        let mut parts: Vec<Vec<u8>> = Vec::new();
        for data in &options.data {
            parts.push(match data {
                Data::Ascii(text) => match text.strip_prefix('@') {
                    Some(path) => file_or(container, stdin, path).await?.into_iter().filter(|b| !b"\r\n\0".contains(b)).collect(),
                    None => text.as_bytes().to_vec(),
                },
                Data::Raw(text) => text.as_bytes().to_vec(),
                Data::Binary(text) => match text.strip_prefix('@') {
                    Some(path) => file_or(container, stdin, path).await?,
                    None => text.as_bytes().to_vec(),
                },
                Data::UrlEncode(text) => url_encoded(container, stdin, text).await?,
            });
        }
        // --json parts follow each other as they are.
        let body = parts.join(if options.is_json { &b""[..] } else { &b"&"[..] });
        if options.get {
            payload.in_query = Some(String::from_utf8_lossy(&body).into_owned());
        } else if options.head {
            return Err(Failure::usage("You can only select one HTTP request method!".to_owned()));
        } else {
            payload.bytes = body;
            payload.kind = Some(if options.is_json { "application/json" } else { "application/x-www-form-urlencoded" }.to_owned());
            payload.default_method = "POST";
        }
    } else if !options.form.is_empty() {
        let mut body = Vec::new();
        for part in &options.form {
            let (name, value) = part.split_once('=').ok_or_else(|| Failure::usage(format!("Illegally formatted input field: {part}")))?;
            body.extend_from_slice(format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"").as_bytes());
            match value.strip_prefix('@') {
                Some(path) => {
                    let file = path.rsplit('/').next().unwrap_or(path);
                    body.extend_from_slice(format!("; filename=\"{file}\"\r\nContent-Type: application/octet-stream\r\n\r\n").as_bytes());
                    body.extend_from_slice(&file_or(container, stdin, path).await?);
                }
                None => {
                    body.extend_from_slice(b"\r\n\r\n");
                    body.extend_from_slice(value.as_bytes());
                }
            }
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(format!("--{BOUNDARY}--\r\n").as_bytes());
        payload.bytes = body;
        payload.kind = Some(format!("multipart/form-data; boundary={BOUNDARY}"));
        payload.default_method = "POST";
    } else if let Some(path) = &options.upload {
        payload.bytes = file_or(container, stdin, path).await?;
        payload.default_method = "PUT";
    }
    Ok(payload)
}

/// The request for one URL. `is_first` is false once a redirection led to another server, which gets no credentials.
pub(super) fn build(options: &Options, container: &Container, payload: &Payload, url: &Url, method: &str, same_server: bool) -> Request {
    let custom: Vec<(&str, Option<&str>)> = options
        .headers
        .iter()
        .filter_map(|line| match line.split_once(':') {
            Some((name, value)) if value.trim().is_empty() => Some((name.trim(), None)),
            Some((name, value)) => Some((name.trim(), Some(value.trim()))),
            // `Name;` sends the header without a value.
            None => line.strip_suffix(';').map(|name| (name.trim(), Some(""))),
        })
        .collect();
    let find = |name: &str| custom.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| *value);
    let mut headers: Vec<(String, String)> = Vec::new();
    let mut add = |name: &str, default: Option<String>| match find(name) {
        Some(Some(_)) | None if default.is_none() => {}
        Some(given) => headers.extend(given.map(|v| (name.to_owned(), v.to_owned()))),
        None => headers.extend(default.map(|v| (name.to_owned(), v))),
    };
    let host = if same_server { find("host").flatten().map_or_else(|| url.authority(), str::to_owned) } else { url.authority() };
    add("Host", Some(host));
    let credentials = same_server || options.location_trusted;
    let user = options.user.clone().or_else(|| url.user.clone());
    let authorization = match (&options.bearer, user) {
        (Some(token), _) => Some(format!("Bearer {token}")),
        (None, Some(user)) => {
            let user = if user.contains(':') { user } else { format!("{user}:") };
            Some(format!("Basic {}", STANDARD.encode(user)))
        }
        (None, None) => None,
    };
    add("Authorization", authorization.filter(|_| credentials));
    add("Range", options.range.as_ref().map(|r| format!("bytes={r}")));
    let agent = options.user_agent.clone().unwrap_or_else(|| format!("curl/{}", container.curl_version));
    add("User-Agent", (!agent.is_empty()).then_some(agent));
    add("Accept", Some(if options.is_json { "application/json" } else { "*/*" }.to_owned()));
    add("Referer", options.referer.as_ref().map(|r| r.trim_end_matches(";auto").to_owned()));
    let cookies: Vec<&str> = options.cookies.iter().map(String::as_str).filter(|c| c.contains('=')).collect();
    add("Cookie", (!cookies.is_empty() && credentials).then(|| cookies.join("; ")));
    let has_body = !payload.bytes.is_empty() || payload.kind.is_some() || payload.default_method == "PUT";
    let sends_body = has_body && !matches!(method, "GET" | "HEAD" if options.method.is_none());
    if sends_body {
        add("Content-Length", Some(payload.bytes.len().to_string()));
        add("Content-Type", payload.kind.clone());
    }
    if options.version == Version::Two && !url.is_https {
        add("Connection", Some("Upgrade, HTTP2-Settings".to_owned()));
        add("Upgrade", Some("h2c".to_owned()));
        add("HTTP2-Settings", Some("AAMAAABkAAQCAAAAAAIAAAAA".to_owned()));
    }
    for (name, value) in &custom {
        let is_secret = name.eq_ignore_ascii_case("authorization") || name.eq_ignore_ascii_case("cookie");
        if let Some(value) = value
            && !headers.iter().any(|(n, _)| n.eq_ignore_ascii_case(name) && (*n == "Host" || is_default(name)))
            && (credentials || !is_secret)
        {
            headers.push(((*name).to_owned(), (*value).to_owned()));
        }
    }
    Request {
        method: method.to_owned(),
        target: url.target.clone(),
        headers,
        body: if sends_body { payload.bytes.clone() } else { Vec::new() },
        no_body: options.head,
        is_1_0: options.version == Version::One0,
    }
}

/// Headers that curl writes itself, so that one given takes their place and is not written twice.
fn is_default(name: &str) -> bool {
    const OWN: &[&str] =
        &["authorization", "range", "user-agent", "accept", "referer", "cookie", "content-length", "content-type", "connection", "upgrade"];
    OWN.iter().any(|own| name.eq_ignore_ascii_case(own))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::programs::testing::container;

    fn built(args: &str, url: &str) -> String {
        let words: Vec<String> = args.split(' ').filter(|w| !w.is_empty()).map(|w| w.replace('~', " ")).collect();
        let options = Options::parse(&words).unwrap();
        let payload = Payload { default_method: "GET", ..Payload::default() };
        build(&options, &container(), &payload, &Url::parse(url).unwrap(), "GET", true).head()
    }

    #[test]
    fn defaults_are_replaced_and_taken_away() {
        let version = container().curl_version;
        assert_eq!(built("", "http://x/"), format!("GET / HTTP/1.1\r\nHost: x\r\nUser-Agent: curl/{version}\r\nAccept: */*\r\n\r\n"));
        assert_eq!(
            built("-H Host:~other -H accept: -A me -H x-a:~1 -H x-a:~2 -H empty;", "http://x:81/"),
            "GET / HTTP/1.1\r\nHost: other\r\nUser-Agent: me\r\nx-a: 1\r\nx-a: 2\r\nempty:\r\n\r\n"
        );
        assert!(built("-u a:b -A ~", "http://x/").contains("Authorization: Basic YTpi\r\n"));
        assert_eq!(
            built("-H Cookie:~a=b -H User-Agent:~z", "http://x/"),
            "GET / HTTP/1.1\r\nHost: x\r\nUser-Agent: z\r\nAccept: */*\r\nCookie: a=b\r\n\r\n"
        );
    }
}
