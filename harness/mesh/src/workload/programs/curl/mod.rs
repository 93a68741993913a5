//! curl, as far as people use it in a pod. Exit codes and words are those of curl with OpenSSL; what it has not, it
//! refuses by name.

mod account;
mod http1;
mod http2;
mod options;
mod request;
mod tls;
mod transfer;
mod transport;
mod url;

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

pub(crate) use tls::SYSTEM_BUNDLE;

use super::{Container, In, Out};
use account::Account;
use options::Options;
use transfer::{Kept, Transfer};

/// What `curl/` is followed by when the image's tag is no version.
pub(crate) const DEFAULT_VERSION: &str = "8.17.0";
/// Statuses that `--retry` takes for passing. Source: curl's man page.
const PASSING: &[u16] = &[408, 429, 500, 502, 503, 504];

/// Why curl failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// curl's exit code.
    pub(crate) code: i32,
    /// Its words after `curl: (CODE) `.
    pub(crate) message: String,
    is_usage: bool,
}

impl Failure {
    fn new(code: i32, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), is_usage: false }
    }

    /// A command line that cannot be used.
    fn usage(message: String) -> Self {
        Self { code: 2, message, is_usage: true }
    }
}

/// Runs curl. `args` is without the program's name. Gives the exit code.
pub(crate) async fn run(container: &Container, args: &[String], stdin: &In, stdout: &Out, stderr: &Out) -> i32 {
    let options = match Options::parse(args) {
        Ok(options) => options,
        Err(failure) => return complain(&failure, stderr),
    };
    if options.show_version {
        stdout.line(&format!(
            "curl {0} (x86_64-pc-linux-gnu) libcurl/{0} OpenSSL/3.0.19\nProtocols: http https\nFeatures: alt-svc HTTP2 SSL",
            container.curl_version
        ));
        return 0;
    }
    if options.show_help {
        stdout.line("Usage: curl [options...] <url>\nThis is the curl of a simulated mesh; what it does not have it refuses by name.");
        return 0;
    }
    let errors = match options.stderr.as_deref() {
        None => stderr.clone(),
        Some("-") => stdout.clone(),
        Some(path) => file(container, path, stdout, stderr),
    };
    if options.urls.is_empty() {
        return complain(&Failure::usage("(2) no URL specified".to_owned()), &errors);
    }
    let mut urls = Vec::new();
    for url in &options.urls {
        match if options.glob_off { Ok(vec![url.clone()]) } else { url::glob(url) } {
            Ok(all) => urls.extend(all),
            Err(failure) => return report(&options, &failure, &errors),
        }
    }
    let payload = match request::payload(&options, container, stdin).await {
        Ok(payload) => payload,
        Err(failure) if failure.is_usage => return complain(&failure, &errors),
        Err(failure) => return report(&options, &failure, &errors),
    };
    let headers_to = options.dump_header.as_deref().map(|path| file(container, path, stdout, &errors));
    let mut kept: Kept = None;
    let mut code = 0;
    for (number, url) in urls.iter().enumerate() {
        let (output, filename) = match options.outputs.get(number) {
            Some(Some(path)) => (file(container, path, stdout, &errors), Some(path.clone())),
            Some(None) => {
                let name = url.split(['?', '#']).next().and_then(|u| u.rsplit('/').next()).unwrap_or_default().to_owned();
                if name.is_empty() {
                    code = report(&options, &Failure::new(23, "Remote file name has no length"), &errors);
                    continue;
                }
                (file(container, &name, stdout, &errors), Some(name))
            }
            None => (stdout.clone(), None),
        };
        let transfer =
            Transfer { container, options: &options, payload: &payload, output: &output, headers_to: headers_to.as_ref(), stderr: &errors };
        let (account, result) = with_retries(&transfer, url, number, filename, &mut kept).await;
        code = match &result {
            Ok(()) => 0,
            Err(failure) => report(&options, failure, &errors),
        };
        if let Some(format) = &options.write_out {
            let format = match format.strip_prefix('@') {
                Some("-") => String::from_utf8_lossy(&stdin.read_all().await).into_owned(),
                Some(path) => container.files.read(path).map(|d| String::from_utf8_lossy(&d).into_owned()).unwrap_or_default(),
                None => format.clone(),
            };
            account.write(&format, stdout, &errors);
        }
        if code != 0 && options.fail_early {
            break;
        }
    }
    code
}

async fn with_retries(
    transfer: &Transfer<'_>,
    url: &str,
    number: usize,
    filename: Option<String>,
    kept: &mut Kept,
) -> (Account, Result<(), Failure>) {
    let options = transfer.options;
    let began = Instant::now();
    let mut pause = options.retry_delay.unwrap_or(Duration::from_secs(1));
    let mut left = options.retry;
    loop {
        let mut account = Account {
            url: url.to_owned(),
            url_effective: if url.contains("://") { url.to_owned() } else { format!("http://{url}") },
            number,
            filename: filename.clone(),
            referer: options.referer.clone(),
            curl_version: format!("libcurl/{} OpenSSL/3.0.19", transfer.container.curl_version),
            ..Account::default()
        };
        if !account.url_effective.split_once("://").is_some_and(|(_, rest)| rest.contains(['/', '?'])) {
            account.url_effective.push('/');
        }
        let meter = options.progress && !options.silent && filename.is_some();
        if meter {
            transfer.stderr.line("  % Total    % Received % Xferd  Average Speed   Time    Time     Time  Current\n                                 Dload  Upload   Total   Spent    Left  Speed");
        }
        let result = transfer.run(&mut account, kept).await;
        if meter {
            let n = account.size_download;
            transfer.stderr.line(&format!("\r100 {n:5}  100 {n:5}    0     0      0      0 --:--:-- --:--:-- --:--:--     0"));
        }
        let passing = match &result {
            Ok(()) => PASSING.contains(&account.code),
            Err(failure) => {
                failure.code == 28
                    || (failure.code == 22 && PASSING.contains(&account.code))
                    || (failure.code == 7 && options.retry_refused)
                    || options.retry_all
            }
        };
        let in_time = options.retry_max_time.is_none_or(|limit| began.elapsed() + pause < limit);
        if left == 0 || !passing || !in_time {
            return (account, result);
        }
        if !options.silent || options.show_error {
            let what = match &result {
                Ok(()) => format!("HTTP error {}", account.code),
                Err(failure) => failure.message.lines().next().unwrap_or_default().to_owned(),
            };
            transfer.stderr.line(&format!("Warning: Problem: {what}. Will retry in {} seconds. {left} retries left.", pause.as_secs()));
        }
        tokio::time::sleep(pause).await;
        left -= 1;
        if options.retry_delay.is_none() {
            pause = (pause * 2).min(Duration::from_secs(600));
        }
    }
}

/// A file as an output. What cannot be written is told when it is written to.
fn file(container: &Container, path: &str, stdout: &Out, stderr: &Out) -> Out {
    match path {
        "-" | "/dev/stdout" => stdout.clone(),
        "/dev/stderr" => stderr.clone(),
        "/dev/null" => Out::null(),
        path => {
            let (files, path, stderr) = (container.files.clone(), path.to_owned(), stderr.clone());
            let first = Mutex::new(true);
            Out::new(move |bytes| {
                let mut first = first.lock().unwrap_or_else(PoisonError::into_inner);
                let written = files.write(&path, bytes, !*first);
                if let (Err(error), true) = (written, *first) {
                    stderr.line(&format!("Warning: Failed to open the file {path}: {error}"));
                }
                *first = false;
                written.is_ok()
            })
        }
    }
}

fn complain(failure: &Failure, stderr: &Out) -> i32 {
    let words = match failure.message.strip_prefix("(2) ") {
        Some(rest) => format!("curl: (2) {rest}"),
        None => format!("curl: {}", failure.message),
    };
    stderr.line(&format!("{words}\ncurl: try 'curl --help' or 'curl --manual' for more information"));
    failure.code
}

fn report(options: &Options, failure: &Failure, stderr: &Out) -> i32 {
    if !options.silent || options.show_error {
        stderr.line(&format!("curl: ({}) {}", failure.code, failure.message));
    }
    failure.code
}

#[cfg(test)]
mod tests;
