//! No JSON makes a reader panic, and the same connection always meets the same chain.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::envoy::listener::ConnectionFacts;
use crate::envoy::{Cluster, Endpoints, Format, RouteTable};

/// Some JSON, with the names that readers look for.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[ -~]{0,12}".prop_map(Value::from),
        Just(json!("1.2.3.4")),
        Just(json!("10s")),
    ];
    let key = prop_oneof![
        Just("name"),
        Just("address"),
        Just("socket_address"),
        Just("port_value"),
        Just("filter_chains"),
        Just("filter_chain_match"),
        Just("filters"),
        Just("typed_config"),
        Just("@type"),
        Just("virtual_hosts"),
        Just("domains"),
        Just("routes"),
        Just("match"),
        Just("route"),
        Just("safe_regex"),
        Just("regex"),
        Just("prefix"),
        Just("load_assignment"),
        Just("endpoints"),
        Just("lb_endpoints"),
        Just("prefix_ranges"),
        Just("server_names"),
        Just("type"),
        Just("value"),
        Just("access_log"),
        Just("headers"),
    ];
    leaf.prop_recursive(5, 64, 6, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(key.clone().prop_map(str::to_owned), inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// A place within a captured resource is given another value.
fn spoil(value: &mut Value, path: &[usize], with: Value) {
    let Some((step, rest)) = path.split_first() else {
        *value = with;
        return;
    };
    let inner = match value {
        Value::Object(map) if !map.is_empty() => {
            let nth = step % map.len();
            map.values_mut().nth(nth)
        }
        Value::Array(list) if !list.is_empty() => {
            let nth = step % list.len();
            list.get_mut(nth)
        }
        _ => None,
    };
    match inner {
        Some(inner) => spoil(inner, rest, with),
        None => *value = with,
    }
}

fn read_all(value: &Value) {
    let _ = Listener::read(value);
    let _ = RouteTable::read(value);
    let _ = Cluster::read(value);
    let _ = Endpoints::read(value);
    let _ = Format::parse_json(value);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn no_json_panics_a_reader(value in any_json()) {
        read_all(&value);
    }

    #[test]
    fn no_spoilt_resource_panics_a_reader(which in any::<usize>(), path in proptest::collection::vec(any::<usize>(), 1..12), with in any_json()) {
        let resources = gateway_in();
        let all: Vec<_> = resources.listeners.values().chain(resources.routes.values()).chain(resources.clusters.values()).collect();
        let mut value = (**all[which % all.len()]).clone();
        spoil(&mut value, &path, with);
        read_all(&value);
    }

    #[test]
    fn no_text_panics_a_format(text in "[%A-Z_():?a-z0-9{} é]{0,40}") {
        if let Ok(format) = Format::parse(&text) {
            format.render(&crate::envoy::CallRecord::default());
        }
    }

    #[test]
    fn a_chain_does_not_depend_on_the_order_of_chains(
        ports in proptest::collection::vec(0_u16..3, 4), names in proptest::collection::vec(0_usize..4, 4), at in 0_u16..3, name in 0_usize..4,
        turn in 0_usize..4,
    ) {
        const NAMES: [&str; 4] = ["", "*.test", "*.a.test", "b.a.test"];
        let mut chains: Vec<Value> = ports.iter().zip(&names).enumerate().map(|(index, (port, name))| {
            let mut matches = json!({});
            if *port > 0 {
                matches["destination_port"] = json!(port);
            }
            if *name > 0 {
                matches["server_names"] = json!([NAMES[*name]]);
            }
            chain(&index.to_string(), matches)
        }).collect();
        let facts = ConnectionFacts {
            destination: ([1, 2, 3, 4], at).into(),
            source: ([9, 9, 9, 9], 1).into(),
            direct_source: ([9, 9, 9, 9], 1).into(),
            server_name: ["", "x.test", "x.a.test", "b.a.test"][name].to_owned(),
            transport_protocol: "tls".to_owned(),
            application_protocols: vec![],
        };
        let found = |chains: &[Value]| listener(chains.to_vec()).ok().map(|l| l.chain(&facts).map(|c| c.name.clone()));
        let first = found(&chains);
        prop_assert_eq!(&first, &found(&chains));
        chains.rotate_left(turn);
        prop_assert_eq!(first, found(&chains));
    }
}
