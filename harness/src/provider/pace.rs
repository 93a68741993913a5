//! How fast a cluster is: pauses that are made for a real one are shortened where everything is in this process.

use std::time::Duration;

/// Divides the pauses between two looks, and those in which something that was begun may still show.
///
/// Limits are not divided: they say when to give up, and nobody waits for them when all is well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace(u32);

impl Pace {
    /// That of a real cluster.
    pub const REAL: Self = Self(1);

    /// So many times faster than a real cluster.
    #[must_use]
    pub const fn faster(times: u32) -> Self {
        Self(if times == 0 { 1 } else { times })
    }

    /// A pause at this pace.
    #[must_use]
    pub fn pause(self, on_a_real_cluster: Duration) -> Duration {
        // Below a millisecond, looking takes more than waiting.
        (on_a_real_cluster / self.0).max(on_a_real_cluster.min(Duration::from_millis(1)))
    }
}

impl Default for Pace {
    fn default() -> Self {
        Self::REAL
    }
}
