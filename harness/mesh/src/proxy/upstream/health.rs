//! Which endpoints may be used: what the control plane says, and what outlier detection saw.

use std::sync::Arc;
use std::time::{Duration, Instant};

use gateproof_mesh_config::envoy::cluster::{Health, OutlierDetection};

use super::super::lock;
use super::UpstreamHost;

/// What outlier detection remembers of an endpoint.
#[derive(Debug, Default)]
pub(super) struct Record {
    server_errors: u32,
    gateway_errors: u32,
    out_until: Option<Instant>,
    times_out: u32,
}

/// The longest time out (`max_ejection_time`), if the first is not longer.
const LONGEST_EJECTION: Duration = Duration::from_secs(300);

impl UpstreamHost {
    /// What the control plane says.
    pub(super) fn configured_healthy(&self) -> bool {
        matches!(self.endpoint.health, Health::Unknown | Health::Healthy | Health::Degraded)
    }

    /// Whether it was put out and is not back yet.
    pub(super) fn ejected(&self) -> bool {
        lock(&self.health).out_until.is_some_and(|until| Instant::now() < until)
    }

    /// Whether it may be chosen.
    pub(in super::super) fn usable(&self) -> bool {
        self.configured_healthy() && !self.ejected()
    }

    /// Notes a status; whether the endpoint is put out by it (`source/common/upstream/outlier_detection_impl.cc`).
    pub(super) fn note(&self, rules: &OutlierDetection, status: u16, all: &[Arc<UpstreamHost>]) -> bool {
        let out = all.iter().filter(|h| h.ejected()).count();
        let mut record = lock(&self.health);
        record.server_errors = if status >= 500 { record.server_errors.saturating_add(1) } else { 0 };
        record.gateway_errors = if (502..=504).contains(&status) { record.gateway_errors.saturating_add(1) } else { 0 };
        let reached = |count: u32, limit: u32, enforced: u32| limit > 0 && count >= limit && enforced > 0;
        let over = reached(record.server_errors, rules.consecutive_5xx, rules.enforcing_consecutive_5xx)
            || reached(record.gateway_errors, rules.consecutive_gateway_failure, rules.enforcing_consecutive_gateway_failure);
        // At least one may go out whatever the percentage says.
        let share = all.len().saturating_mul(rules.max_ejection_percent as usize) / 100;
        if !over || (out > 0 && out >= share) || rules.max_ejection_percent == 0 {
            return false;
        }
        record.times_out = record.times_out.saturating_add(1);
        let time = rules.base_ejection_time.saturating_mul(record.times_out).min(LONGEST_EJECTION.max(rules.base_ejection_time));
        record.out_until = Some(Instant::now() + time);
        (record.server_errors, record.gateway_errors) = (0, 0);
        true
    }
}
