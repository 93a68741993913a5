//! Retries (`pilot/pkg/networking/core/route/retry/retry.go`).

use serde_json::{Map, Value, json};

use super::spec::Retries;

/// When Istio retries unless told otherwise: nothing has reached the application, or the other side asks for it.
const DEFAULT_RETRY_ON: &str = "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes";
/// What makes Envoy also look at [`retriable_status_codes`](https://www.envoyproxy.io/docs/envoy/latest/api-v3/config/route/v3/route_components.proto).
const STATUS_CODES: &str = "retriable-status-codes";

/// A route's `retry_policy`; `None` where retries are switched off. With consistent hashing a retry goes to the same host.
pub(super) fn policy(retries: Option<&Retries>, consistent_hash: bool) -> Option<Value> {
    let mut out = Map::new();
    out.insert("host_selection_retry_max_attempts".to_owned(), json!("5"));
    let mut avoid_previous = !consistent_hash;
    let mut retry_on = DEFAULT_RETRY_ON.to_owned();
    let mut attempts = 2;
    if let Some(retries) = retries {
        attempts = u32::try_from(retries.attempts).ok().filter(|attempts| *attempts > 0)?;
        if !retries.retry_on.is_empty() {
            let (conditions, codes) = split(&retries.retry_on);
            retry_on = conditions;
            if !codes.is_empty() {
                if !retry_on.contains(STATUS_CODES) {
                    retry_on = format!("{retry_on},{STATUS_CODES}");
                }
                out.insert("retriable_status_codes".to_owned(), json!(codes));
            }
        }
        if let Some(timeout) = retries.per_try_timeout {
            out.insert("per_try_timeout".to_owned(), timeout.json());
        }
        avoid_previous = retries.retry_ignore_previous_hosts.unwrap_or(avoid_previous);
        if retries.retry_remote_localities == Some(true) {
            out.insert("retry_priority".to_owned(), previous_priorities());
        }
        if let Some(backoff) = retries.backoff {
            out.insert("retry_back_off".to_owned(), json!({"base_interval": backoff.json()}));
        }
    }
    if avoid_previous {
        out.insert("retry_host_predicate".to_owned(), json!([previous_hosts()]));
    }
    out.insert("num_retries".to_owned(), json!(attempts));
    if !retry_on.is_empty() {
        out.insert("retry_on".to_owned(), json!(retry_on));
    }
    Some(Value::Object(out))
}

/// Conditions and status codes stand in one list; a number that is no status code stays a condition.
fn split(list: &str) -> (String, Vec<u16>) {
    let mut conditions = Vec::new();
    let mut codes = Vec::new();
    for part in list.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        match part.parse::<u16>().ok().filter(|code| has_status_text(*code)) {
            Some(code) => codes.push(code),
            None => conditions.push(part),
        }
    }
    (conditions.join(","), codes)
}

/// The status codes that Go's `net/http` has a name for.
fn has_status_text(code: u16) -> bool {
    matches!(code, 100..=103 | 200..=208 | 226 | 300..=305 | 307 | 308 | 400..=418 | 421..=426 | 428 | 429 | 431 | 451 | 500..=508 | 510 | 511)
}

fn previous_hosts() -> Value {
    json!({
        "name": "envoy.retry_host_predicates.previous_hosts",
        "typed_config": {"@type": "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"},
    })
}

fn previous_priorities() -> Value {
    json!({
        "name": "envoy.retry_priorities.previous_priorities",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig",
            "update_frequency": 2,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(spec: Value) -> Option<Value> {
        policy(Some(&serde_json::from_value(spec).expect("retries")), false)
    }

    #[test]
    fn two_retries_unless_told_otherwise() {
        let default = policy(None, false).expect("a policy");
        assert_eq!(default["num_retries"], 2);
        assert_eq!(default["retry_on"], DEFAULT_RETRY_ON);
        assert_eq!(default["host_selection_retry_max_attempts"], "5");
        assert_eq!(default["retry_host_predicate"][0]["name"], "envoy.retry_host_predicates.previous_hosts");
        assert!(policy(None, true).expect("a policy").get("retry_host_predicate").is_none());
        assert_eq!(of(json!({"attempts": 0})), None);
        assert_eq!(of(json!({"attempts": -1})), None);
    }

    #[test]
    fn status_codes_are_taken_out_of_the_list_of_conditions() {
        let got = of(json!({"attempts": 3, "retryOn": "gateway-error, 503,429,999", "perTryTimeout": "2s"})).expect("a policy");
        assert_eq!(got["retry_on"], "gateway-error,999,retriable-status-codes");
        assert_eq!(got["retriable_status_codes"], json!([503, 429]));
        assert_eq!(got["per_try_timeout"], "2s");
        assert_eq!(got["num_retries"], 3);
        let got = of(json!({"attempts": 1, "retryOn": "5xx", "retryRemoteLocalities": true, "retryIgnorePreviousHosts": false}))
            .expect("a policy");
        assert_eq!(got["retry_on"], "5xx");
        assert!(got.get("retriable_status_codes").is_none() && got.get("retry_host_predicate").is_none());
        assert_eq!(got["retry_priority"]["name"], "envoy.retry_priorities.previous_priorities");
    }
}
