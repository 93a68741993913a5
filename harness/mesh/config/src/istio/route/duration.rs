//! Durations as Istio's objects write them and as Envoy's dump prints them.

use std::fmt;
use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// A duration that an object gives as a string, such as `5s` or `1.5s`. Istio reads it with Go's `time.ParseDuration`, so
/// `500ms` and `1m30s` are durations too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProtoDuration(pub Duration);

impl ProtoDuration {
    /// Reads one; `None` for anything that is no duration, and for negative ones, which no field here allows.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text == "0" {
            return Some(Self(Duration::ZERO));
        }
        if text.is_empty() {
            return None;
        }
        let mut rest = text;
        let mut nanos: u128 = 0;
        while !rest.is_empty() {
            let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
            let (number, tail) = rest.split_at(end);
            let unit_end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
            let (unit, tail) = tail.split_at(unit_end);
            let factor: u128 = match unit {
                "h" => 3_600_000_000_000,
                "m" => 60_000_000_000,
                "s" => 1_000_000_000,
                "ms" => 1_000_000,
                "us" | "µs" => 1_000,
                "ns" => 1,
                _ => return None,
            };
            nanos = nanos.checked_add(scaled(number, factor)?)?;
            rest = tail;
        }
        let seconds = u64::try_from(nanos / 1_000_000_000).ok()?;
        let subsec = u32::try_from(nanos % 1_000_000_000).ok()?;
        Some(Self(Duration::new(seconds, subsec)))
    }

    /// Whether it is none at all.
    #[must_use]
    pub fn is_zero(self) -> bool {
        self.0.is_zero()
    }

    /// As a value of Envoy's dump.
    #[must_use]
    pub fn json(self) -> Value {
        Value::String(self.to_string())
    }
}

/// `1.5` times a factor, without floating point.
fn scaled(number: &str, factor: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.len() > 30 || fraction.contains('.') {
        return None;
    }
    let whole = if whole.is_empty() { 0 } else { whole.parse::<u128>().ok()? };
    let mut result = whole.checked_mul(factor)?;
    if !fraction.is_empty() {
        let scale = 10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
        result = result.checked_add(fraction.parse::<u128>().ok()?.checked_mul(factor)? / scale)?;
    }
    Some(result)
}

/// In protobuf's JSON form: seconds, and 3, 6 or 9 digits behind them where they are not whole.
impl fmt::Display for ProtoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, nanos) = (self.0.as_secs(), self.0.subsec_nanos());
        if nanos == 0 {
            write!(f, "{seconds}s")
        } else if nanos % 1_000_000 == 0 {
            write!(f, "{seconds}.{:03}s", nanos / 1_000_000)
        } else if nanos % 1_000 == 0 {
            write!(f, "{seconds}.{:06}s", nanos / 1_000)
        } else {
            write!(f, "{seconds}.{nanos:09}s")
        }
    }
}

impl<'de> Deserialize<'de> for ProtoDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| D::Error::custom(format!("invalid duration {text:?}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_reads_them_and_printed_as_protobuf_prints_them() {
        for (text, printed) in [
            ("5s", "5s"),
            ("0s", "0s"),
            ("0", "0s"),
            ("500ms", "0.500s"),
            ("1.5s", "1.500s"),
            ("1m30s", "90s"),
            ("1h", "3600s"),
            ("0.000001s", "0.000001s"),
            ("1ns", "0.000000001s"),
        ] {
            assert_eq!(ProtoDuration::parse(text).map(|d| d.to_string()).as_deref(), Some(printed), "{text}");
        }
        for text in ["", "s", "5", "5x", "-1s", "1.2.3s", "ten seconds", "9999999999999999999999999999999999999999h"] {
            assert_eq!(ProtoDuration::parse(text), None, "{text}");
        }
    }
}
