//! Whether an attempt is followed by another (`RetryStateImpl::wouldRetryFromHeaders`, `wouldRetryFromReset`).

use super::RetryPolicy;
use crate::envoy::headers::Headers;

/// How a stream to an upstream ended without a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reset {
    /// There was no connection.
    ConnectFailure,
    /// The upstream did not take the stream (HTTP/2 `REFUSED_STREAM`).
    RefusedStream,
    /// The stream or its connection was ended by the upstream.
    Remote {
        /// The request had been sent, at least in part.
        request_sent: bool,
    },
    /// The HTTP that came was wrong.
    ProtocolError,
    /// The attempt took longer than it may.
    PerTryTimeout,
    /// A circuit breaker is open: never tried again.
    Overflow,
}

impl RetryPolicy {
    /// Whether requests of this kind are retried at all.
    pub fn applies(&self, request: &Headers) -> bool {
        self.retriable_request_headers.is_empty() || self.retriable_request_headers.iter().any(|matcher| matcher.matches(request))
    }

    fn on(&self, condition: &str) -> bool {
        self.retry_on.iter().any(|wanted| wanted == condition)
    }

    /// Whether a response is followed by another attempt.
    pub fn after_response(&self, response: &Headers) -> bool {
        if response.get("x-envoy-overloaded").is_some() {
            return false;
        }
        if response.get("x-envoy-ratelimited").is_some() {
            return self.on("envoy-ratelimited");
        }
        let status: u16 = response.get(":status").and_then(|status| status.parse().ok()).unwrap_or_default();
        let grpc = |number: &str| response.get("grpc-status") == Some(number);
        (self.on("5xx") && (500..600).contains(&status))
            || (self.on("gateway-error") && (502..=504).contains(&status))
            || (self.on("retriable-4xx") && status == 409)
            || (self.on("retriable-status-codes") && self.retriable_status_codes.contains(&status))
            || (self.on("retriable-headers") && self.retriable_headers.iter().any(|matcher| matcher.matches(response)))
            || (self.on("cancelled") && grpc("1"))
            || (self.on("deadline-exceeded") && grpc("4"))
            || (self.on("resource-exhausted") && grpc("8"))
            || (self.on("internal") && grpc("13"))
            || (self.on("unavailable") && grpc("14"))
    }

    /// Whether a reset is followed by another attempt. A reset counts as a 5xx, since it would become one.
    pub fn after_reset(&self, reset: Reset) -> bool {
        match reset {
            Reset::Overflow => false,
            _ if self.on("5xx") || self.on("gateway-error") || self.on("reset") => true,
            Reset::ConnectFailure => self.on("connect-failure") || self.on("reset-before-request"),
            Reset::RefusedStream => self.on("refused-stream"),
            Reset::Remote { request_sent: false } => self.on("reset-before-request"),
            Reset::Remote { request_sent: true } | Reset::ProtocolError | Reset::PerTryTimeout => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(on: &[&str]) -> RetryPolicy {
        RetryPolicy {
            retry_on: on.iter().map(|on| (*on).to_owned()).collect(),
            retriable_status_codes: vec![418],
            ..RetryPolicy::default()
        }
    }

    fn status(status: &str) -> Headers {
        Headers::from_iter([(":status", status)])
    }

    #[test]
    fn istios_default_retries_what_did_not_arrive() {
        let policy = policy(&["connect-failure", "refused-stream", "unavailable", "cancelled", "retriable-status-codes"]);
        assert!(policy.after_reset(Reset::ConnectFailure) && policy.after_reset(Reset::RefusedStream));
        assert!(!policy.after_reset(Reset::Remote { request_sent: true }) && !policy.after_reset(Reset::PerTryTimeout));
        assert!(policy.after_response(&status("418")) && !policy.after_response(&status("503")));
        assert!(policy.after_response(&Headers::from_iter([(":status", "200"), ("grpc-status", "14")])));
    }

    #[test]
    fn a_sidecar_before_its_application_retries_only_before_the_request() {
        let policy = policy(&["reset-before-request"]);
        assert!(policy.after_reset(Reset::Remote { request_sent: false }));
        assert!(!policy.after_reset(Reset::Remote { request_sent: true }));
    }

    #[test]
    fn errors_count_where_they_are_named() {
        assert!(policy(&["5xx"]).after_response(&status("500")) && policy(&["5xx"]).after_reset(Reset::PerTryTimeout));
        assert!(!policy(&["gateway-error"]).after_response(&status("500")) && policy(&["gateway-error"]).after_response(&status("504")));
        assert!(!policy(&["5xx"]).after_reset(Reset::Overflow));
        assert!(!policy(&["5xx"]).after_response(&Headers::from_iter([(":status", "503"), ("x-envoy-ratelimited", "true")])));
    }
}
