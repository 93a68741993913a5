//! One container's log, followed across the ends of its streams.
//!
//! A stream that ends says nothing of the log's end: the log of a pod that is on no node yet is empty and closed (Kubernetes,
//! `pkg/registry/core/pod/rest/log.go`), the kubelet closes a stream when the container ends and may start it again, and a
//! connection may break. Only a pod that has gone writes no more. A stream that is opened again begins at the second of the last
//! line, and lines that were read already are told by their time stamps.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::{AsyncBufRead, AsyncBufReadExt, TryStreamExt};
use k8s_openapi::jiff::Timestamp;
use kube::api::LogParams;

/// Before a stream is opened again; twice as long each time that it brought nothing.
const AGAIN: Duration = Duration::from_millis(50);
const AGAIN_AT_MOST: Duration = Duration::from_secs(1);

/// How far a log has been read.
#[derive(Debug, Clone, Default)]
pub(super) struct Place {
    /// The newest time stamp, and how many lines bore it.
    newest: Option<(Timestamp, usize)>,
    /// In a stream that was opened again: what the one before had read, and how many of the lines with its stamp have come again.
    again: Option<(Timestamp, usize, usize)>,
}

impl Place {
    /// A stream is opened (again): what it begins with may have been read. Gives the time that it has to begin at.
    fn open(&mut self, since: Timestamp) -> Timestamp {
        self.again = self.newest.map(|(stamp, lines)| (stamp, lines, 0));
        self.newest.map_or(since, |(stamp, _)| stamp.max(since))
    }

    /// The line without its stamp, unless it has been read before.
    fn read(&mut self, line: String) -> Option<String> {
        let stamped = line.split_once(' ').and_then(|(stamp, text)| Some((stamp.parse::<Timestamp>().ok()?, text)));
        // Not in the kubelet's form: shown as it is, rather than lost.
        let Some((stamp, text)) = stamped else { return Some(line) };
        if let Some((newest, lines, repeated)) = &mut self.again {
            if stamp < *newest {
                return None;
            }
            if stamp == *newest && repeated < lines {
                *repeated += 1;
                return None;
            }
            // Past what was known. The lines of two streams of a container may come a little out of order: no reason to drop one.
            self.again = None;
        }
        self.newest = match self.newest {
            Some((newest, lines)) if newest == stamp => Some((newest, lines + 1)),
            Some((newest, lines)) if newest > stamp => Some((newest, lines)),
            _ => Some((stamp, 1)),
        };
        Some(text.to_owned())
    }
}

/// Hands every line since then to `take`, until the pod has gone. `open` opens a stream of the container's log.
pub(super) async fn follow<S: AsyncBufRead + Unpin, F: Future<Output = kube::Result<S>>>(
    open: impl Fn(LogParams) -> F,
    container: &str,
    since: Timestamp,
    place: &Arc<Mutex<Place>>,
    mut take: impl FnMut(String),
) {
    let place = || place.lock().unwrap_or_else(PoisonError::into_inner);
    let mut pause = AGAIN;
    loop {
        let since = place().open(since);
        let parameters = LogParams {
            container: Some(container.to_owned()),
            follow: true,
            timestamps: true,
            since_time: Some(since),
            ..LogParams::default()
        };
        match open(parameters).await {
            Ok(stream) => {
                let mut lines = stream.lines();
                while let Ok(Some(line)) = lines.try_next().await {
                    let new = place().read(line);
                    if let Some(line) = new {
                        take(line);
                        pause = AGAIN;
                    }
                }
            }
            Err(kube::Error::Api(status)) if status.code == 404 => return,
            // A container that waits to be started has no log yet.
            Err(_) => {}
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(AGAIN_AT_MOST);
    }
}

#[cfg(test)]
mod tests {
    use futures::io::Cursor;
    use kube::core::Status;

    use super::*;

    fn stamped(nanos: u32, text: &str) -> String {
        format!("2026-11-21T10:00:00.{nanos:09}Z {text}\n")
    }

    fn refused(code: u16) -> kube::Error {
        kube::Error::Api(Box::new(Status::failure("refused", "").with_code(code)))
    }

    /// What comes of a log whose streams are these, one after another; after the last the pod has gone. With the times they were opened at.
    async fn followed(answers: Vec<Result<String, u16>>) -> (Vec<String>, Vec<String>) {
        let answers = Mutex::new(answers.into_iter());
        let asked = Mutex::new(Vec::new());
        let open = |parameters: LogParams| {
            assert!(parameters.follow && parameters.timestamps && parameters.container.as_deref() == Some("c"));
            asked.lock().unwrap().push(parameters.since_time.unwrap().to_string());
            std::future::ready(answers.lock().unwrap().next().unwrap_or(Err(404)).map(Cursor::new).map_err(refused))
        };
        let mut lines = Vec::new();
        let since = "2026-11-21T09:00:00Z".parse().unwrap();
        let limit = Duration::from_secs(20);
        tokio::time::timeout(limit, follow(open, "c", since, &Arc::default(), |line| lines.push(line))).await.unwrap();
        (lines, asked.into_inner().unwrap())
    }

    #[tokio::test]
    async fn a_log_that_was_asked_for_before_the_container_began_is_read_all_the_same() {
        // Empty: the pod is on no node yet. 400: the container waits to be started.
        let (lines, asked) = followed(vec![Ok(String::new()), Err(400), Ok(stamped(1, "first"))]).await;
        assert_eq!(lines, ["first"]);
        assert_eq!(asked.len(), 4, "until the pod has gone: {asked:?}");
    }

    #[tokio::test]
    async fn a_stream_that_is_opened_again_brings_no_line_twice_and_loses_none() {
        let first = [stamped(1, "a"), stamped(5, "b"), stamped(5, "c")].concat();
        // The kubelet begins at the second: all of it again, then a line of the same nanosecond, then an older one of the other stream.
        let again = format!("{first}{}{}{}", stamped(5, "d"), stamped(9, "e"), stamped(8, "f"));
        let (lines, asked) = followed(vec![Ok(first), Ok(again)]).await;
        assert_eq!(lines, ["a", "b", "c", "d", "e", "f"]);
        assert_eq!(asked, ["2026-11-21T09:00:00Z", "2026-11-21T10:00:00.000000005Z", "2026-11-21T10:00:00.000000009Z"]);
    }

    #[test]
    fn a_line_without_a_stamp_is_kept_as_it_is() {
        let mut place = Place::default();
        assert_eq!(place.read("failed to try resolving symlinks".to_owned()).as_deref(), Some("failed to try resolving symlinks"));
        assert_eq!(place.read(stamped(1, "").trim_end_matches('\n').to_owned()).as_deref(), Some(""));
    }
}
