//! Watches and waits.

use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::Api;
use kube::api::{Patch, PatchParams, WatchEvent, WatchParams};
use kube::runtime::watcher::{self, watcher};
use serde_json::json;

use super::{client, config_map, pod};
use crate::api::{Action, DeleteOptions, Options, Store};

async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(5), future).await.unwrap()
}

#[tokio::test]
async fn a_watch_goes_on_from_a_version() {
    let store = super::store();
    let maps: Api<ConfigMap> = Api::namespaced(client(&store), "default");
    let from = store.version();
    store.create(config_map("a", "1"), "x").unwrap();
    let mut events = maps.watch(&WatchParams::default(), &from.to_string()).await.unwrap().boxed();
    store.modify("ConfigMap", "default", "a", "x", |o| o["data"]["k"] = json!("2")).unwrap();
    store.delete("ConfigMap", "default", "a", &DeleteOptions::default()).unwrap();
    let mut seen = Vec::new();
    for _ in 0..3 {
        seen.push(match soon(events.try_next()).await.unwrap().unwrap() {
            WatchEvent::Added(o) => format!("added {:?}", o.data.unwrap()["k"]),
            WatchEvent::Modified(o) => format!("modified {:?}", o.data.unwrap()["k"]),
            WatchEvent::Deleted(o) => format!("deleted {:?}", o.data.unwrap()["k"]),
            other => format!("{other:?}"),
        });
    }
    assert_eq!(seen, ["added \"1\"", "modified \"2\"", "deleted \"2\""]);
}

#[tokio::test]
async fn a_watch_with_a_selector_sees_objects_come_and_go_by_their_labels() {
    let store = super::store();
    let pods: Api<Pod> = Api::namespaced(client(&store), "default");
    store.create(pod("a"), "x").unwrap();
    let params = WatchParams::default().labels("in=yes");
    let mut events = pods.watch(&params, &store.version().to_string()).await.unwrap().boxed();
    let label =
        |value: &'static str| store.modify("Pod", "default", "a", "x", move |o| o["metadata"]["labels"]["in"] = json!(value)).unwrap();
    label("yes");
    label("no");
    assert!(matches!(soon(events.try_next()).await.unwrap().unwrap(), WatchEvent::Added(_)));
    assert!(matches!(soon(events.try_next()).await.unwrap().unwrap(), WatchEvent::Deleted(_)));
}

#[tokio::test]
async fn what_is_forgotten_is_gone_and_the_watcher_lists_anew() {
    let store = Store::new(Options { history: 3, ..Options::default() });
    let maps: Api<ConfigMap> = Api::namespaced(client(&store), "default");
    for n in 0..9 {
        store.create(config_map(&format!("a{n}"), "1"), "x").unwrap();
    }
    let mut events = maps.watch(&WatchParams::default(), "2").await.unwrap().boxed();
    match soon(events.try_next()).await.unwrap().unwrap() {
        WatchEvent::Error(error) => assert_eq!((error.code, error.reason.as_str()), (410, "Expired")),
        other => panic!("{other:?}"),
    }
    assert!(soon(events.try_next()).await.unwrap().is_none());
}

#[tokio::test]
async fn the_runtimes_watcher_works_both_ways() {
    for config in [watcher::Config::default(), watcher::Config::default().streaming_lists(), watcher::Config::default().page_size(1)] {
        let store = super::store();
        let maps: Api<ConfigMap> = Api::all(client(&store));
        store.create(config_map("a", "1"), "x").unwrap();
        store.create(config_map("b", "1"), "x").unwrap();
        let mut events = watcher(maps, config).boxed();
        let mut begun = 0;
        loop {
            match soon(events.try_next()).await.unwrap().unwrap() {
                watcher::Event::InitApply(_) => begun += 1,
                watcher::Event::InitDone => break,
                _ => {}
            }
        }
        assert_eq!(begun, 2);
        store.create(config_map("c", "1"), "x").unwrap();
        assert!(matches!(soon(events.try_next()).await.unwrap().unwrap(), watcher::Event::Apply(_)));
        store.delete("ConfigMap", "default", "c", &DeleteOptions::default()).unwrap();
        assert!(matches!(soon(events.try_next()).await.unwrap().unwrap(), watcher::Event::Delete(_)));
    }
}

#[tokio::test]
async fn a_watch_ends_after_its_time_with_a_bookmark() {
    let store = super::store();
    let maps: Api<ConfigMap> = Api::namespaced(client(&store), "default");
    let mut events = maps.watch(&WatchParams::default().timeout(1), &store.version().to_string()).await.unwrap().boxed();
    let last = events.try_next().await.unwrap().unwrap();
    assert!(matches!(last, WatchEvent::Bookmark(b) if b.metadata.resource_version == store.version().to_string()));
    assert!(events.try_next().await.unwrap().is_none());
}

#[tokio::test]
async fn controllers_follow_the_store_itself() {
    let store = super::store();
    let (there, mut changes) = store.list_and_watch(&["ConfigMap", "Secret"]);
    assert!(there.is_empty());
    let mut signal = store.changed();
    signal.mark_unchanged();
    store.create(config_map("a", "1"), "x").unwrap();
    store.create(pod("p"), "x").unwrap();
    store.apply(config_map("a", "1"), "y").unwrap();
    soon(signal.changed()).await.unwrap();
    let added = soon(changes.next()).await.unwrap();
    assert_eq!((added.action, added.kind.as_str(), added.name.as_str()), (Action::Added, "ConfigMap", "a"));
    let modified = soon(changes.next()).await.unwrap();
    assert_eq!((modified.action, modified.old.as_deref()), (Action::Modified, Some(&*added.object)));
    assert!(changes.try_next().is_none());
    let (version, objects) = store.snapshot(&["ConfigMap", "Pod"]);
    assert_eq!((version, objects.len()), (store.version(), 2));
}

/// What the harness does with a suite is a few hundred such calls.
#[tokio::test(flavor = "multi_thread")]
async fn hundreds_of_calls_take_no_time() {
    let store = super::store();
    let maps: Api<ConfigMap> = Api::namespaced(client(&store), "default");
    let began = std::time::Instant::now();
    for n in 0..300 {
        let name = format!("a{n}");
        maps.patch(&name, &PatchParams::apply("x").force(), &Patch::Apply(&config_map(&name, "1"))).await.unwrap();
        maps.get(&name).await.unwrap();
    }
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}
