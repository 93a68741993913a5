//! One URL from beginning to end: redirections, and what goes where.

use std::time::{Duration, Instant};

use super::Failure;
use super::account::Account;
use super::http1;
use super::options::Options;
use super::request::{self, Payload};
use super::transport::{Caller, Phase, Spoken};
use super::url::Url;
use crate::workload::programs::{Container, Out};

/// How many redirections are followed when none is said. Source: curl's man page, `--max-redirs`.
const REDIRECTIONS: u32 = 50;

/// Where the parts of a response go.
pub(super) struct Taking<'a> {
    pub(super) account: &'a mut Account,
    pub(super) options: &'a Options,
    /// The body, and with `-i` the headers.
    pub(super) output: &'a Out,
    pub(super) headers_to: Option<&'a Out>,
    pub(super) stderr: &'a Out,
    pub(super) began: Instant,
    /// A redirection that is followed: its body is of no interest.
    pub(super) skip: bool,
}

impl Taking<'_> {
    pub(super) fn sent(&mut self, head: &str, body: usize) {
        self.account.time_pretransfer = self.began.elapsed();
        self.account.size_request += head.len() as u64;
        self.account.size_upload = body as u64;
        self.lines('>', head);
    }

    fn lines(&self, mark: char, head: &str) {
        if self.options.verbose {
            for line in head.trim_end_matches("\r\n").split("\r\n").chain([""]) {
                self.stderr.line(&format!("{mark} {line}\r"));
            }
        }
    }

    pub(super) fn head(&mut self, text: &str, version: &'static str, code: u16, headers: &[(String, String)]) {
        self.account.time_starttransfer = self.began.elapsed();
        self.account.http_version = version;
        self.account.code = code;
        self.account.headers = headers.to_vec();
        self.account.size_header += text.len() as u64;
        let find = |name: &str| headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.clone());
        self.account.content_type = find("content-type");
        self.lines('<', text);
        if self.options.include || self.options.head {
            self.output.write(text);
        }
        if let Some(out) = self.headers_to {
            out.write(text);
        }
        self.skip = self.options.location && (300..400).contains(&code) && find("location").is_some();
    }

    /// Before the body.
    pub(super) fn begin(&mut self, length: Option<u64>) -> Result<(), Failure> {
        self.account.expected = length;
        self.refused(self.options.fail)
    }

    fn refused(&self, asked: bool) -> Result<(), Failure> {
        if asked && self.account.code >= 400 {
            return Err(Failure::new(22, format!("The requested URL returned error: {}", self.account.code)));
        }
        Ok(())
    }

    pub(super) fn body(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        if self.skip || bytes.is_empty() {
            return Ok(());
        }
        self.account.size_download += bytes.len() as u64;
        if self.output.write(bytes) { Ok(()) } else { Err(Failure::new(23, "Failure writing output to destination")) }
    }
}

/// A connection that may be used again.
pub(super) type Kept = Option<(Url, Spoken)>;

/// What one transfer needs.
pub(super) struct Transfer<'a> {
    pub(super) container: &'a Container,
    pub(super) options: &'a Options,
    pub(super) payload: &'a Payload,
    pub(super) output: &'a Out,
    pub(super) headers_to: Option<&'a Out>,
    pub(super) stderr: &'a Out,
}

impl Transfer<'_> {
    /// Within its time.
    pub(super) async fn run(&self, account: &mut Account, kept: &mut Kept) -> Result<(), Failure> {
        let began = Instant::now();
        let mut phase = Phase::default();
        let result = {
            let work = self.follow(began, account, kept, &mut phase);
            match self.options.max_time {
                None => Some(work.await),
                Some(limit) => tokio::time::timeout(limit, work).await.ok(),
            }
        };
        account.time_total = began.elapsed();
        let result = result.unwrap_or_else(|| {
            *kept = None;
            Err(timed_out(began.elapsed(), phase, account))
        });
        if result.is_err() {
            *kept = None;
        }
        account.ended(&result);
        result
    }

    async fn follow(&self, began: Instant, account: &mut Account, kept: &mut Kept, phase: &mut Phase) -> Result<(), Failure> {
        let options = self.options;
        let caller = Caller { container: self.container, options, stderr: self.stderr, began };
        let mut url = Url::parse(&account.url)?;
        for extra in self.payload.in_query.iter().chain(&options.url_query) {
            let mark = if url.target.contains('?') { '&' } else { '?' };
            url.target.push_str(&format!("{mark}{extra}"));
            account.url_effective = format!("{}://{}{}", url.scheme(), url.authority(), url.target);
        }
        let first = url.clone();
        let mut method = options.method.clone().unwrap_or_else(|| self.payload.default_method.to_owned());
        loop {
            account.method.clone_from(&method);
            account.scheme = url.scheme();
            let spoken = match kept.take() {
                Some((to, spoken)) if to.same_server(&url) && is_usable(&spoken) => {
                    caller.say(&format!("Re-using existing connection #0 with host {}", url.host));
                    spoken
                }
                _ => self.open(&caller, &url, account, phase).await?,
            };
            *phase = Phase::Transfer;
            let request = request::build(options, self.container, self.payload, &url, &method, first.same_server(&url));
            let mut taking =
                Taking { account, options, output: self.output, headers_to: self.headers_to, stderr: self.stderr, began, skip: false };
            match spoken {
                Spoken::One(mut connection) => {
                    if http1::exchange(&mut connection, &request, &mut taking).await? {
                        caller.say(&format!("Connection #0 to host {} left intact", url.host));
                        *kept = Some((url.clone(), Spoken::One(connection)));
                    } else {
                        caller.say("Closing connection 0");
                    }
                }
                Spoken::Two(mut session) => {
                    session.exchange(&request, &mut taking).await?;
                    caller.say(&format!("Connection #0 to host {} left intact", url.host));
                    *kept = Some((url.clone(), Spoken::Two(session)));
                }
            }
            taking.refused(options.fail || options.fail_with_body)?;
            let location = account.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case("location")).map(|(_, v)| url.join(v));
            let location = location.filter(|_| (300..400).contains(&account.code));
            let Some(location) = location else { return Ok(()) };
            if !options.location {
                account.redirect_url = Some(location);
                return Ok(());
            }
            let limit = options.max_redirects.unwrap_or(REDIRECTIONS);
            if account.redirects >= limit {
                account.redirect_url = Some(location);
                return Err(Failure::new(47, format!("Maximum ({limit}) redirects followed")));
            }
            account.redirects += 1;
            account.time_redirect = began.elapsed();
            caller.say(&format!("Issue another request to this URL: '{location}'"));
            // RFC 9110, section 15.4: what was POST is asked for with GET; a method that was said stays.
            let becomes_get = matches!(account.code, 301 | 302) && method == "POST" || account.code == 303 && method != "HEAD";
            if becomes_get && options.method.is_none() {
                "GET".clone_into(&mut method);
            }
            url = Url::parse(&location)?;
            account.url_effective = location;
        }
    }

    async fn open(&self, caller: &Caller<'_>, url: &Url, account: &mut Account, phase: &mut Phase) -> Result<Spoken, Failure> {
        let Some(limit) = self.options.connect_timeout else { return caller.open(url, account, phase).await };
        match tokio::time::timeout(limit, caller.open(url, account, phase)).await {
            Ok(result) => result,
            Err(_) => Err(timed_out(limit, *phase, account)),
        }
    }
}

fn is_usable(spoken: &Spoken) -> bool {
    match spoken {
        Spoken::One(_) => true,
        Spoken::Two(session) => session.is_open(),
    }
}

fn timed_out(after: Duration, phase: Phase, account: &Account) -> Failure {
    let millis = after.as_millis();
    Failure::new(
        28,
        match phase {
            Phase::Connecting => format!("Connection timed out after {millis} milliseconds"),
            Phase::Handshake => "SSL connection timeout".to_owned(),
            Phase::Transfer => match account.expected {
                Some(expected) => {
                    format!(
                        "Operation timed out after {millis} milliseconds with {} out of {expected} bytes received",
                        account.size_download
                    )
                }
                None => format!("Operation timed out after {millis} milliseconds with {} bytes received", account.size_download),
            },
        },
    )
}
