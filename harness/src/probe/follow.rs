//! One container's log, followed across the ends of its streams.
//!
//! A stream that ends says nothing of the log's end: the log of a pod that is on no node yet is empty and closed (Kubernetes,
//! `pkg/registry/core/pod/rest/log.go`), the kubelet closes a stream when the container ends and may start it again, and a
//! connection may break. Only a pod that has gone writes no more. A stream that is opened again begins at the second of the last
//! line, and lines that were read already are told by their time stamps.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::{AsyncBufRead, AsyncBufReadExt};
use k8s_openapi::jiff::Timestamp;
use kube::api::LogParams;

/// Before a stream is opened again; twice as long each time that it brought nothing.
const AGAIN: Duration = Duration::from_millis(50);
const AGAIN_AT_MOST: Duration = Duration::from_millis(250);
/// How long stamps are remembered: a stream that is opened again begins at most a second before the newest of them, and the lines of a
/// container's two outputs may come a little out of order.
const REMEMBERED: Duration = Duration::from_secs(2);

/// How far a log has been read.
#[derive(Debug, Default)]
struct Place {
    /// The latest time stamps, and how many lines bore each.
    stamps: BTreeMap<Timestamp, usize>,
    /// Of those, what a stream that was opened again has not brought again yet.
    again: BTreeMap<Timestamp, usize>,
    /// What lies before has been read, or is not asked for.
    from: Timestamp,
    /// The last line without a stamp: what the container's runtime says in place of a log, each time it is asked.
    unstamped: Option<String>,
}

/// A line that was not there before.
#[derive(Debug, PartialEq, Eq)]
struct New {
    text: String,
    stamped: bool,
}

impl Place {
    /// A stream is opened (again): what it begins with may have been read. Gives the time that it has to begin at, in whole
    /// seconds: kube's client rounds, and would leave out what came after the half of one.
    fn open(&mut self, since: Timestamp) -> Timestamp {
        self.again.clone_from(&self.stamps);
        let newest = self.stamps.last_key_value().map_or(since, |(stamp, _)| since.max(*stamp));
        self.from = Timestamp::from_second(newest.as_second()).unwrap_or(newest);
        self.from
    }

    /// The line without its stamp, unless it has been read before.
    fn read(&mut self, line: String) -> Option<New> {
        let stamped = line.split_once(' ').and_then(|(stamp, text)| Some((stamp.parse::<Timestamp>().ok()?, text)));
        let Some((stamp, text)) = stamped else {
            if self.unstamped.as_ref() == Some(&line) {
                return None;
            }
            self.unstamped = Some(line.clone());
            return Some(New { text: line, stamped: false });
        };
        if let Some(left) = self.again.get_mut(&stamp).filter(|left| **left > 0) {
            *left -= 1;
            return None;
        }
        // All stamps of the time that is asked for are remembered, so that what is older alone may have been read.
        if stamp < self.from {
            return None;
        }
        *self.stamps.entry(stamp).or_default() += 1;
        let newest = self.stamps.last_key_value().map_or(stamp, |(newest, _)| *newest);
        if let Ok(from) = newest.checked_sub(REMEMBERED) {
            self.stamps = self.stamps.split_off(&from);
        }
        Some(New { text: text.to_owned(), stamped: true })
    }
}

/// Hands every line since then to `take`, until the pod has gone. `open` opens a stream of the container's log; `gone` says whether the
/// API has no such pod: that its log is not found says less, since a kubelet may not know the pod yet.
pub(super) async fn follow<S: AsyncBufRead + Unpin, F: Future<Output = kube::Result<S>>, G: Future<Output = bool>>(
    open: impl Fn(LogParams) -> F,
    gone: impl Fn() -> G,
    container: &str,
    since: Timestamp,
    mut take: impl FnMut(String),
) {
    let mut place = Place::default();
    let mut pause = AGAIN;
    loop {
        let parameters = LogParams {
            container: Some(container.to_owned()),
            follow: true,
            timestamps: true,
            since_time: Some(place.open(since)),
            ..LogParams::default()
        };
        match open(parameters).await {
            Ok(mut stream) => {
                let mut line = Vec::new();
                // Bytes, since a log may hold what is no text: a line that cannot be read would hide all after it.
                while matches!(stream.read_until(b'\n', &mut line).await, Ok(1..)) {
                    let text = String::from_utf8_lossy(&line);
                    let new = place.read(text.trim_end_matches(['\n', '\r']).to_owned());
                    line.clear();
                    if let Some(new) = new {
                        if new.stamped {
                            pause = AGAIN;
                        }
                        take(new.text);
                    }
                }
            }
            Err(kube::Error::Api(status)) if status.code == 404 => {
                if gone().await {
                    return;
                }
            }
            // A container that waits to be started has no log yet.
            Err(_) => {}
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(AGAIN_AT_MOST);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use futures::io::Cursor;
    use kube::core::{Request, Status};

    use super::*;

    fn stamped(nanos: u32, text: &str) -> String {
        format!("2026-11-21T10:00:00.{nanos:09}Z {text}\n")
    }

    fn refused(code: u16) -> kube::Error {
        kube::Error::Api(Box::new(Status::failure("refused", "").with_code(code)))
    }

    /// What comes of a log whose streams are these, one after another; after the last the pod has gone. With the times that the API
    /// server is told.
    async fn followed<B: AsRef<[u8]> + Unpin>(answers: Vec<Result<B, u16>>) -> (Vec<String>, Vec<String>) {
        let answers = Mutex::new(answers.into_iter());
        let asked = Mutex::new(Vec::new());
        let open = |parameters: LogParams| {
            let request = Request::new("/api/v1/namespaces/n/pods").logs("p", &parameters).unwrap();
            let query = request.uri().query().unwrap().to_owned();
            assert!(query.contains("container=c") && query.contains("follow=true") && query.contains("timestamps=true"), "{query}");
            let since = query.split('&').find_map(|part| part.strip_prefix("sinceTime=")).unwrap();
            asked.lock().unwrap().push(since.replace("%3A", ":"));
            std::future::ready(answers.lock().unwrap().next().unwrap_or(Err(404)).map(Cursor::new).map_err(refused))
        };
        let gone = || std::future::ready(answers.lock().unwrap().len() == 0);
        let mut lines = Vec::new();
        let since = "2026-11-21T09:00:00Z".parse().unwrap();
        let limit = Duration::from_secs(20);
        tokio::time::timeout(limit, follow(open, gone, "c", since, |line| lines.push(line))).await.unwrap();
        (lines, asked.into_inner().unwrap())
    }

    #[tokio::test]
    async fn a_log_that_was_asked_for_before_the_container_began_is_read_all_the_same() {
        // Empty: the pod is on no node yet. 404: its kubelet does not know it yet. 400: the container waits to be started.
        let (lines, asked) = followed(vec![Ok(String::new()), Err(404), Err(400), Ok(stamped(1, "first"))]).await;
        assert_eq!(lines, ["first"]);
        assert_eq!(asked.len(), 5, "until the pod has gone: {asked:?}");
    }

    #[tokio::test]
    async fn a_stream_that_is_opened_again_brings_no_line_twice_and_loses_none() {
        let first = [stamped(1, "a"), stamped(700_000_000, "b"), stamped(700_000_000, "c")].concat();
        // From the second on: all of it again, a line of the same nanosecond, one of the other output that is older, a newer one.
        let again = [first.clone(), stamped(700_000_000, "d"), stamped(690_000_000, "e"), stamped(900_000_000, "f")].concat();
        let (lines, asked) = followed(vec![Ok(first), Ok(again)]).await;
        assert_eq!(lines, ["a", "b", "c", "d", "e", "f"]);
        assert_eq!(asked, ["2026-11-21T09:00:00Z", "2026-11-21T10:00:00Z", "2026-11-21T10:00:00Z"]);
    }

    #[tokio::test]
    async fn what_comes_late_of_the_other_output_and_what_is_no_text_hide_nothing() {
        let again = [stamped(690_000_000, "late"), stamped(700_000_000, "first")].concat();
        let (lines, _) = followed(vec![Ok(stamped(700_000_000, "first")), Ok(again)]).await;
        assert_eq!(lines, ["first", "late"]);
        let bytes = [b"2026-11-21T10:00:01Z a \xff b\n".as_slice(), b"2026-11-21T10:00:02Z next\r\n"].concat();
        let (lines, _) = followed(vec![Ok(bytes)]).await;
        assert_eq!(lines, ["a \u{fffd} b", "next"]);
    }

    #[tokio::test]
    async fn what_is_said_in_place_of_a_log_is_said_once() {
        let no_log = || Ok("unable to retrieve container logs for containerd://abc\n".to_owned());
        let (lines, _) = followed(vec![no_log(), no_log(), Ok(stamped(1, "")), no_log()]).await;
        assert_eq!(lines, ["unable to retrieve container logs for containerd://abc", ""]);
    }

    #[test]
    fn only_so_many_stamps_are_remembered() {
        let mut place = Place::default();
        for second in 0..60 {
            assert!(place.read(format!("2026-11-21T10:00:{second:02}Z line")).is_some());
        }
        assert_eq!(place.stamps.len(), 3);
        place.open(Timestamp::UNIX_EPOCH);
        assert_eq!(place.read("2026-11-21T10:00:10Z line".to_owned()), None, "it was read long ago");
    }
}
