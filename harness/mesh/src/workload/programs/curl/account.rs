//! curl's own account of a transfer: what `--write-out` prints. Source: curl's man page, "--write-out".

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::Failure;
use crate::workload::programs::Out;

/// What is known of a transfer.
#[derive(Debug, Clone, Default)]
pub(super) struct Account {
    pub(super) url: String,
    pub(super) url_effective: String,
    pub(super) number: usize,
    pub(super) method: String,
    pub(super) scheme: &'static str,
    pub(super) local: Option<SocketAddr>,
    pub(super) remote: Option<SocketAddr>,
    pub(super) http_version: &'static str,
    pub(super) code: u16,
    /// Of the last response, in order.
    pub(super) headers: Vec<(String, String)>,
    pub(super) content_type: Option<String>,
    pub(super) redirect_url: Option<String>,
    pub(super) referer: Option<String>,
    pub(super) filename: Option<String>,
    pub(super) certs: String,
    pub(super) certs_number: usize,
    pub(super) verify_result: u32,
    pub(super) connects: u32,
    pub(super) redirects: u32,
    pub(super) size_download: u64,
    pub(super) size_upload: u64,
    pub(super) size_header: u64,
    pub(super) size_request: u64,
    pub(super) time_namelookup: Duration,
    pub(super) time_connect: Duration,
    pub(super) time_appconnect: Duration,
    pub(super) time_pretransfer: Duration,
    pub(super) time_starttransfer: Duration,
    pub(super) time_redirect: Duration,
    pub(super) time_total: Duration,
    pub(super) exit_code: i32,
    pub(super) error: Option<String>,
    /// How curl names itself.
    pub(super) curl_version: String,
    /// The body's length, when the server said it.
    pub(super) expected: Option<u64>,
}

/// The names in the order of `%{json}`.
const NAMES: &[&str] = &[
    "certs",
    "content_type",
    "errormsg",
    "exitcode",
    "filename_effective",
    "ftp_entry_path",
    "http_code",
    "http_connect",
    "http_version",
    "local_ip",
    "local_port",
    "method",
    "num_certs",
    "num_connects",
    "num_headers",
    "num_redirects",
    "proxy_ssl_verify_result",
    "redirect_url",
    "referer",
    "remote_ip",
    "remote_port",
    "response_code",
    "scheme",
    "size_download",
    "size_header",
    "size_request",
    "size_upload",
    "speed_download",
    "speed_upload",
    "ssl_verify_result",
    "time_appconnect",
    "time_connect",
    "time_namelookup",
    "time_pretransfer",
    "time_redirect",
    "time_starttransfer",
    "time_total",
    "url",
    "url_effective",
    "urlnum",
];

impl Account {
    /// A transfer's end.
    pub(super) fn ended(&mut self, result: &Result<(), Failure>) {
        if let Err(failure) = result {
            self.exit_code = failure.code;
            // The advice on lines of its own is for people.
            self.error = Some(failure.message.lines().next().unwrap_or_default().to_owned());
        }
    }

    fn value(&self, name: &str) -> Option<Value> {
        let ip = |at: Option<SocketAddr>| json!(at.map(|a| a.ip().to_string()).unwrap_or_default());
        let port = |at: Option<SocketAddr>| json!(at.map_or(0, |a| a.port()));
        let speed = |bytes: u64| {
            let seconds = self.time_total.as_secs_f64();
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
            let rate = if seconds > 0.0 { (bytes as f64 / seconds) as u64 } else { 0 };
            json!(rate)
        };
        Some(match name {
            "certs" => json!(self.certs),
            "content_type" => json!(self.content_type),
            "errormsg" => json!(self.error),
            "exitcode" => json!(self.exit_code),
            "filename_effective" => json!(self.filename),
            "ftp_entry_path" => Value::Null,
            "http_code" | "response_code" => json!(self.code),
            "http_connect" | "proxy_ssl_verify_result" => json!(0),
            "http_version" => json!(if self.http_version.is_empty() { "0" } else { self.http_version }),
            "local_ip" => ip(self.local),
            "local_port" => port(self.local),
            "method" => json!(self.method),
            "num_certs" => json!(self.certs_number),
            "num_connects" => json!(self.connects),
            "num_headers" => json!(self.headers.len()),
            "num_redirects" => json!(self.redirects),
            "redirect_url" => json!(self.redirect_url),
            "referer" => json!(self.referer),
            "remote_ip" => ip(self.remote),
            "remote_port" => port(self.remote),
            "scheme" => json!((!self.scheme.is_empty()).then(|| self.scheme.to_ascii_uppercase())),
            "size_download" => json!(self.size_download),
            "size_header" => json!(self.size_header),
            "size_request" => json!(self.size_request),
            "size_upload" => json!(self.size_upload),
            "speed_download" => speed(self.size_download),
            "speed_upload" => speed(self.size_upload),
            "ssl_verify_result" => json!(self.verify_result),
            "url" => json!(self.url),
            "url_effective" => json!(self.url_effective),
            "urlnum" => json!(self.number),
            time => json!(self.time(time)?.as_secs_f64()),
        })
    }

    fn time(&self, name: &str) -> Option<Duration> {
        Some(match name {
            "time_appconnect" => self.time_appconnect,
            "time_connect" => self.time_connect,
            "time_namelookup" => self.time_namelookup,
            "time_pretransfer" => self.time_pretransfer,
            "time_redirect" => self.time_redirect,
            "time_starttransfer" => self.time_starttransfer,
            "time_total" => self.time_total,
            _ => return None,
        })
    }

    fn json(&self) -> String {
        let one = |name: &str| match self.time(name) {
            Some(time) => format!("{:.6}", time.as_secs_f64()),
            None => self.value(name).unwrap_or_default().to_string(),
        };
        let mut all: Vec<String> = NAMES.iter().map(|name| format!("\"{name}\":{}", one(name))).collect();
        all.push(format!("\"curl_version\":{}", Value::from(self.curl_version.as_str())));
        format!("{{{}}}", all.join(","))
    }

    fn header_json(&self) -> String {
        let mut map = Map::new();
        for (name, value) in &self.headers {
            let list = map.entry(name.to_ascii_lowercase()).or_insert_with(|| json!([]));
            if let Some(list) = list.as_array_mut() {
                list.push(json!(value));
            }
        }
        serde_json::to_string_pretty(&map).unwrap_or_default()
    }

    fn plain(&self, name: &str) -> Option<String> {
        if let Some(time) = self.time(name) {
            return Some(format!("{:.6}", time.as_secs_f64()));
        }
        match name {
            "http_code" | "response_code" | "http_connect" => Some(format!("{:03}", if name == "http_connect" { 0 } else { self.code })),
            "json" => Some(self.json()),
            "header_json" => Some(self.header_json()),
            "num_retries" => Some("0".to_owned()),
            "url.host" | "url.port" | "url.scheme" | "url.path" => None,
            _ => self.value(name).map(|value| match value {
                Value::String(text) => text,
                Value::Null => String::new(),
                other => other.to_string(),
            }),
        }
    }

    /// Prints a `--write-out` format.
    pub(super) fn write(&self, format: &str, stdout: &Out, stderr: &Out) {
        let mut to = stdout;
        let mut rest = format;
        let mut text = String::new();
        while let Some(first) = rest.chars().next() {
            let after = rest.get(first.len_utf8()..).unwrap_or_default();
            rest = match (first, after.chars().next()) {
                ('%', Some('%')) => {
                    text.push('%');
                    after.get(1..).unwrap_or_default()
                }
                ('%', Some('{')) => match after.get(1..).and_then(|r| r.split_once('}')) {
                    Some((name, tail)) => {
                        match name {
                            "stdout" | "stderr" => {
                                to.write(&text);
                                text.clear();
                                to = if name == "stderr" { stderr } else { stdout };
                            }
                            "onerror" if self.exit_code == 0 => break,
                            "onerror" => {}
                            name => match self.plain(name) {
                                Some(value) => text.push_str(&value),
                                None => {
                                    stderr.line(&format!("curl: unknown --write-out variable: '{name}'"));
                                }
                            },
                        }
                        tail
                    }
                    None => {
                        text.push_str("%{");
                        after.get(1..).unwrap_or_default()
                    }
                },
                ('%', Some('h')) if after.starts_with("header{") => match after.get(7..).and_then(|r| r.split_once('}')) {
                    Some((name, tail)) => {
                        let found = self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name));
                        text.push_str(found.map_or("", |(_, v)| v));
                        tail
                    }
                    None => after,
                },
                ('\\', Some(escaped)) => {
                    match escaped {
                        'n' => text.push('\n'),
                        't' => text.push('\t'),
                        'r' => text.push('\r'),
                        other => text.extend(['\\', other]),
                    }
                    after.get(escaped.len_utf8()..).unwrap_or_default()
                }
                _ => {
                    text.push(first);
                    after
                }
            };
        }
        to.write(&text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_format_is_printed_to_both_streams() {
        let account = Account {
            code: 200,
            http_version: "1.1",
            headers: vec![("Server".to_owned(), "envoy".to_owned())],
            local: Some("10.0.0.1:4000".parse().unwrap()),
            ..Account::default()
        };
        let ((out, stdout), (err, stderr)) = (Out::kept(), Out::kept());
        account.write("%{http_code} %{local_ip}:%{local_port} %header{server} 100%%\\n%{stderr}\\n@ %{json}\\n%{onerror}no", &out, &err);
        assert_eq!(String::from_utf8_lossy(&stdout.lock().unwrap()), "200 10.0.0.1:4000 envoy 100%\n");
        let said = String::from_utf8_lossy(&stderr.lock().unwrap()).into_owned();
        let json: Value = serde_json::from_str(said.trim().strip_prefix("@ ").unwrap()).unwrap();
        assert_eq!((&json["response_code"], &json["errormsg"], &json["local_port"]), (&json!(200), &Value::Null, &json!(4000)));
    }
}
