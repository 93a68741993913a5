//! Which endpoint takes a call (`source/common/upstream/load_balancer_context_base.cc`, `load_balancer_impl.cc`).

use std::collections::BTreeMap;

use super::cluster::{Cluster, Endpoint, Health};

/// Whether an endpoint is used before others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    Healthy,
    Degraded,
    Unhealthy,
}

impl Endpoint {
    fn state(&self, out: bool) -> State {
        match self.health {
            _ if out => State::Unhealthy,
            Health::Unknown | Health::Healthy => State::Healthy,
            Health::Degraded => State::Degraded,
            Health::Unhealthy | Health::Draining | Health::Timeout => State::Unhealthy,
        }
    }
}

impl Cluster {
    /// The endpoints among which one is chosen, by their places in the list, in the order of the list.
    ///
    /// A priority takes calls in proportion to its healthy share times the overprovisioning factor; what it cannot take goes
    /// to the next. Where all together cannot take all, and a priority's healthy share is below the panic threshold, every
    /// endpoint of it counts, healthy or not. `out` says which are put out by outlier detection; `random` is the caller's.
    pub fn candidates(&self, endpoints: &[Endpoint], overprovisioning_factor: u32, out: &dyn Fn(usize) -> bool, random: u64) -> Vec<usize> {
        let mut priorities: BTreeMap<u32, Vec<(usize, State)>> = BTreeMap::new();
        for (index, endpoint) in endpoints.iter().enumerate() {
            priorities.entry(endpoint.priority).or_default().push((index, endpoint.state(out(index))));
        }
        let count = |list: &[(usize, State)], state: State| list.iter().filter(|(_, s)| *s == state).count();
        let capacity = |list: &[(usize, State)], state: State| {
            let share = (count(list, state) as u64) * u64::from(overprovisioning_factor.max(1)) / (list.len().max(1) as u64);
            share.min(100)
        };
        let total: u64 = priorities.values().map(|list| (capacity(list, State::Healthy) + capacity(list, State::Degraded)).min(100)).sum();
        // Below 100 all shares grow until they are 100 together (`normalized_total_availability`).
        let normal = total.min(100);
        if normal == 0 {
            let first = priorities.into_values().next().unwrap_or_default();
            return if self.panicking(&first) { first.iter().map(|(index, _)| *index).collect() } else { Vec::new() };
        }
        let mut left = random % 100;
        let mut last = Vec::new();
        let mut spent = 0;
        for state in [State::Healthy, State::Degraded] {
            for list in priorities.values() {
                let load = (capacity(list, state) * 100 / normal).min(100 - spent);
                if load == 0 {
                    continue;
                }
                spent += load;
                let chosen = || list.iter().filter(|(_, s)| *s == state).map(|(index, _)| *index).collect::<Vec<_>>();
                last = if total < 100 && self.panicking(list) { list.iter().map(|(index, _)| *index).collect() } else { chosen() };
                match left.checked_sub(load) {
                    None => return last,
                    Some(rest) => left = rest,
                }
            }
        }
        last
    }

    /// Whether too few of a priority are usable; a threshold of 0 turns panic off.
    fn panicking(&self, list: &[(usize, State)]) -> bool {
        let usable = list.iter().filter(|(_, state)| *state != State::Unhealthy).count();
        !list.is_empty() && (usable as u64) * 100 < u64::from(self.healthy_panic_threshold) * (list.len() as u64)
    }
}

/// One of some endpoints by weight, as a random load balancer would: `random` is the caller's.
pub fn by_weight(endpoints: &[Endpoint], candidates: &[usize], random: u64) -> Option<usize> {
    let weight = |index: usize| endpoints.get(index).map_or(0, |endpoint| u64::from(endpoint.weight));
    let total: u64 = candidates.iter().map(|index| weight(*index)).sum();
    let mut left = random.checked_rem(total)?;
    candidates.iter().copied().find(|index| match left.checked_sub(weight(*index)) {
        None => true,
        Some(rest) => {
            left = rest;
            false
        }
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::envoy::Address;

    fn endpoint(health: Health, priority: u32) -> Endpoint {
        Endpoint {
            address: Address::Name("x".to_owned(), 1),
            hostname: String::new(),
            health,
            weight: 1,
            metadata: BTreeMap::new(),
            priority,
            locality: String::new(),
            locality_weight: None,
        }
    }

    fn cluster(threshold: u32) -> Cluster {
        Cluster::read(&json!({"name": "c", "common_lb_config": {"healthy_panic_threshold": {"value": threshold}}})).unwrap()
    }

    fn of(threshold: u32, endpoints: &[Endpoint], random: u64) -> Vec<usize> {
        cluster(threshold).candidates(endpoints, 140, &|_| false, random)
    }

    #[test]
    fn only_the_healthy_are_chosen() {
        let endpoints =
            [endpoint(Health::Healthy, 0), endpoint(Health::Unhealthy, 0), endpoint(Health::Unknown, 0), endpoint(Health::Draining, 0)];
        assert_eq!(of(0, &endpoints, 50), [0, 2]);
        assert_eq!(cluster(0).candidates(&endpoints, 140, &|index| index == 0, 0), [2]);
        assert_eq!(of(0, &endpoints[1..2], 0), [] as [usize; 0]);
        assert_eq!(of(0, &[], 0), [] as [usize; 0]);
    }

    #[test]
    fn below_the_threshold_all_are_chosen() {
        let endpoints = [endpoint(Health::Unhealthy, 0), endpoint(Health::Unhealthy, 0)];
        assert_eq!(of(50, &endpoints, 0), [0, 1]);
        assert_eq!(of(0, &endpoints, 0), [] as [usize; 0]);
        let some = [endpoint(Health::Healthy, 0), endpoint(Health::Unhealthy, 0), endpoint(Health::Unhealthy, 0)];
        assert_eq!(of(50, &some, 0), [0, 1, 2]);
    }

    #[test]
    fn what_a_priority_cannot_take_goes_to_the_next() {
        let endpoints = [endpoint(Health::Healthy, 0), endpoint(Health::Unhealthy, 0), endpoint(Health::Healthy, 1)];
        // Half of 140 per cent: 70 calls of 100 stay.
        assert_eq!((of(0, &endpoints, 69), of(0, &endpoints, 70)), (vec![0], vec![2]));
        let gone = [endpoint(Health::Unhealthy, 0), endpoint(Health::Healthy, 1)];
        assert_eq!(of(0, &gone, 0), [1]);
    }

    #[test]
    fn weights_count() {
        let mut endpoints = [endpoint(Health::Healthy, 0), endpoint(Health::Healthy, 0)];
        endpoints[1].weight = 3;
        let drawn: Vec<_> = (0..5).map(|random| by_weight(&endpoints, &[0, 1], random).unwrap()).collect();
        assert_eq!(drawn, [0, 1, 1, 1, 0]);
        assert_eq!(by_weight(&endpoints, &[], 1), None);
    }
}
