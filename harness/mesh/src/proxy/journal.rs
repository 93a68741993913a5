//! The access log: lines are kept for a moment and written in order.

use std::sync::Arc;
use std::time::Duration;

use gateproof_mesh_config::envoy::access_log::LogSink;
use gateproof_mesh_config::envoy::{AccessLog, CallRecord};
use tokio::sync::mpsc;

use super::tasks::{Random, Tasks};

/// Where lines go.
#[derive(Clone)]
pub(super) struct Journal {
    lines: mpsc::UnboundedSender<String>,
    random: Arc<Random>,
}

impl Journal {
    /// Lines appear after `delay`, as Envoy writes its files in intervals (`access_log_flush_interval`).
    pub(super) fn new(tasks: &Tasks, random: Arc<Random>, delay: Duration, log: Arc<dyn Fn(&str) + Send + Sync>) -> Self {
        let (lines, mut waiting) = mpsc::unbounded_channel::<String>();
        tasks.spawn(async move {
            while let Some(first) = waiting.recv().await {
                tokio::time::sleep(delay).await;
                log(&first);
                while let Ok(next) = waiting.try_recv() {
                    log(&next);
                }
            }
        });
        Self { lines, random }
    }

    /// Writes a call to each log that wants it. Files other than standard output and error are not read by anyone.
    pub(super) fn write(&self, logs: &[AccessLog], call: &CallRecord) {
        for log in logs {
            let shown = match &log.sink {
                LogSink::Stdout | LogSink::Stderr => true,
                LogSink::File(path) => path == "/dev/stdout" || path == "/dev/stderr",
                LogSink::Ignored(_) => false,
            };
            if shown && log.writes(call, self.random.next()) {
                let line = log.format.render(call);
                // The task that reads ends with the proxy.
                let _ = self.lines.send(line.trim_end_matches('\n').to_owned());
            }
        }
    }
}
