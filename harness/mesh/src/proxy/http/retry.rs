//! How long is waited before a request is sent again, and what a failed attempt counts as.

use std::time::Duration;

use gateproof_mesh_config::envoy::route::{self, RetryPolicy};

use super::super::tasks::Random;
use super::super::upstream::Reset;

/// As the policy sees it. A connection that ended was given the request before.
pub(super) fn kind(reset: Reset) -> route::Reset {
    match reset {
        Reset::ConnectionFailure | Reset::ConnectionTimeout => route::Reset::ConnectFailure,
        Reset::ConnectionTermination | Reset::Stream => route::Reset::Remote { request_sent: true },
        Reset::RefusedStream => route::Reset::RefusedStream,
        Reset::Overflow => route::Reset::Overflow,
        Reset::ProtocolError => route::Reset::ProtocolError,
    }
}

/// How long to wait before the attempt of this number (1: the first retry): up to a bound that doubles
/// (`JitteredExponentialBackOffStrategy`).
pub(super) fn wait(policy: &RetryPolicy, retry: u32, random: &Random) -> Duration {
    let bound = policy.base_interval.saturating_mul(1_u32.checked_shl(retry.saturating_sub(1)).unwrap_or(u32::MAX));
    let bound = u64::try_from(bound.min(policy.max_interval.max(policy.base_interval)).as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis(random.next().checked_rem(bound).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_bounded() {
        let policy =
            RetryPolicy { base_interval: Duration::from_millis(25), max_interval: Duration::from_millis(250), ..RetryPolicy::default() };
        let random = Random::new(1);
        for retry in 1..40 {
            assert!(wait(&policy, retry, &random) < Duration::from_millis(250));
        }
        assert_eq!(wait(&RetryPolicy::default(), 1, &random), Duration::ZERO);
    }
}
