//! Tasks that end when the proxy is dropped, and randomness that a seed decides.

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;

/// Starts tasks. Once the [`Lifeline`] is dropped they are dropped at their next step, with the connections they hold:
/// the other ends see what they see when a process is killed.
#[derive(Clone)]
pub(super) struct Tasks {
    alive: watch::Receiver<()>,
}

/// Holds the tasks' lives.
pub(super) struct Lifeline(#[expect(dead_code, reason = "its end is what tells")] watch::Sender<()>);

impl Tasks {
    pub(super) fn new() -> (Lifeline, Self) {
        let (sender, alive) = watch::channel(());
        (Lifeline(sender), Self { alive })
    }

    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let mut alive = self.alive.clone();
        tokio::spawn(async move {
            tokio::select! {
                biased;
                _ = alive.changed() => {}
                () = work => {}
            }
        });
    }
}

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Tasks {
    fn execute(&self, work: F) {
        self.spawn(work);
    }
}

/// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
pub(super) struct Random(AtomicU64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    pub(super) fn next(&self) -> u64 {
        let mut z = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed).wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A request id: a random UUID, whose 15th character says that nothing is traced
    /// (`UUIDRequestIDExtension::setTraceReason`).
    pub(super) fn uuid(&self) -> String {
        let (a, b) = (self.next(), self.next());
        let variant = 8 + (b >> 62);
        format!(
            "{:08x}-{:04x}-4{:03x}-{variant:x}{:03x}-{:012x}",
            a >> 32,
            (a >> 16) & 0xffff,
            a & 0xfff,
            (b >> 48) & 0xfff,
            b & 0xffff_ffff_ffff
        )
    }
}
