//! Which calls are written.

use super::{CallRecord, Comparison, LogFilter};
use crate::envoy::http_filter::Fraction;

impl Comparison {
    fn holds(self, left: u64, right: u64) -> bool {
        match self {
            Self::Eq => left == right,
            Self::Ge => left >= right,
            Self::Le => left <= right,
            Self::Ne => left != right,
        }
    }
}

impl LogFilter {
    /// Whether a call is written, by the caller's random value.
    pub fn holds(&self, call: &CallRecord, random: u64) -> bool {
        match self {
            Self::Flags(flags) if flags.is_empty() => !call.flags.is_empty(),
            Self::Flags(flags) => flags.iter().any(|flag| call.flags.has(*flag)),
            Self::Status(op, value) => op.holds(call.response_code.map_or(0, u64::from), *value),
            Self::Duration(op, value) => {
                call.duration.is_some_and(|time| op.holds(u64::try_from(time.as_millis()).unwrap_or(u64::MAX), *value))
            }
            Self::NotHealthCheck => !call.health_check,
            Self::Traceable => false,
            Self::Runtime(share) => share.draws(random),
            Self::And(filters) => filters.iter().all(|f| f.holds(call, random)),
            Self::Or(filters) => filters.iter().any(|f| f.holds(call, random)),
            Self::Header(matcher) => matcher.matches(&call.request),
            Self::Metadata(None, otherwise) => *otherwise,
            Self::Metadata(Some(matcher), otherwise) => {
                let mut value = call.metadata.get(&matcher.filter);
                for key in &matcher.path {
                    value = value.and_then(|v| v.get(key));
                }
                if value.is_some() { matcher.matches(&call.metadata) } else { *otherwise }
            }
        }
    }
}

impl Fraction {
    /// Whether a random value falls into the share (`ProtobufPercentHelper::evaluateFractionalPercent`).
    pub fn draws(self, random: u64) -> bool {
        random % u64::from(self.denominator.max(1)) < u64::from(self.numerator)
    }
}
