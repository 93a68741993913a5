//! What can be wrong with an object.

use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Value, json};

/// One thing that is done to an object, at a place that is counted through all of its fields.
#[derive(Debug, Clone)]
pub(crate) enum Change {
    /// The field is gone.
    Remove(Index),
    /// The field holds this.
    Put(Index, Value),
    /// A field that no one knows is beside it.
    Add(Index, Value),
    /// The field is called otherwise.
    Rename(Index),
    /// It holds what another object has somewhere.
    Borrow(Index, Index),
    /// Two places change what they hold.
    Swap(Index, Index),
    /// An element of a list is there twice.
    Repeat(Index),
    /// It is wrapped into itself so many times.
    Nest(Index, u8),
    /// The object is there twice.
    Twice,
}

/// Some change.
pub(crate) fn change() -> impl Strategy<Value = Change> {
    let at = any::<Index>;
    prop_oneof![
        3 => at().prop_map(Change::Remove),
        5 => (at(), odd()).prop_map(|(at, value)| Change::Put(at, value)),
        1 => (at(), odd()).prop_map(|(at, value)| Change::Add(at, value)),
        1 => at().prop_map(Change::Rename),
        4 => (at(), at()).prop_map(|(at, from)| Change::Borrow(at, from)),
        3 => (at(), at()).prop_map(|(one, other)| Change::Swap(one, other)),
        2 => at().prop_map(Change::Repeat),
        1 => (at(), 1..60u8).prop_map(|(at, times)| Change::Nest(at, times)),
        1 => Just(Change::Twice),
    ]
}

/// What is not meant to be there.
fn odd() -> impl Strategy<Value = Value> {
    let texts = [
        "",
        " ",
        "*",
        "*.",
        ".",
        "..",
        "/",
        "//",
        "~/*",
        "./*",
        "*/*",
        "a/",
        "é.",
        "\u{0}",
        "\u{202e}x",
        "{*}",
        "{**}",
        "%",
        "%REQ(%",
        "(",
        "(a+)+$",
        "[",
        ".{0,100000}",
        "1.2.3.4",
        "1.2.3.4/33",
        "0.0.0.0/0",
        "::/0",
        "::1",
        "fe80::1%eth0",
        "256.1.1.1",
        "0",
        "-1",
        "65536",
        "9999999999999999999",
        "1h",
        "-5s",
        "0s",
        "1e9s",
        "9999999999999999s",
        "0.0000000000001s",
        "true",
        "MUTUAL",
        "PASSTHROUGH",
        "AUTO_PASSTHROUGH",
        "ISTIO_MUTUAL",
        "NONE",
        "mesh",
        "====",
        "-----BEGIN CERTIFICATE-----",
        "kubernetes://",
        "sds://",
        "file:///",
        "2020-13-45T99:99:99Z",
        "web.shop.svc.cluster.local",
        "*.svc.cluster.local",
        "default/gateway",
        "outbound|80||web.shop.svc.cluster.local",
    ];
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        Just(json!([])),
        Just(json!({})),
        Just(json!([null])),
        Just(json!([[], {}, "*", 1])),
        proptest::sample::select(vec![
            json!(0),
            json!(-1),
            json!(1),
            json!(80),
            json!(15001),
            json!(65535),
            json!(65536),
            json!(i64::MIN),
            json!(u64::MAX),
            json!(1e308),
            json!(-0.0),
            json!(0.5)
        ]),
        proptest::sample::select(texts.to_vec()).prop_map(Value::from),
        proptest::sample::select(texts.to_vec()).prop_map(|text| json!([text, text])),
        "\\PC{0,12}".prop_map(Value::from),
        (1..400usize).prop_map(|length| Value::from("a.".repeat(length))),
    ]
}

impl Change {
    /// Changes an object; `donor` is another.
    pub(crate) fn apply(&self, object: &mut Value, donor: &Value) {
        let places = places(object);
        let at = |index: &Index| index.get(places.as_slice()).as_str();
        match self {
            Change::Remove(place) => remove(object, at(place)),
            Change::Put(place, value) => put(object, at(place), value.clone()),
            Change::Add(place, value) => {
                if let Some(Value::Object(fields)) = object.pointer_mut(at(place)) {
                    fields.insert("unheardOf".to_owned(), value.clone());
                }
            }
            Change::Rename(place) => {
                if let Some(Value::Object(fields)) = object.pointer_mut(at(place))
                    && let Some(key) = fields.keys().next().cloned()
                    && let Some(value) = fields.remove(&key)
                {
                    fields.insert(key.to_uppercase(), value);
                }
            }
            Change::Borrow(place, from) => {
                let theirs = self::places(donor);
                let from: &String = from.get(theirs.as_slice());
                let value = donor.pointer(from).cloned().unwrap_or_default();
                put(object, at(place), value);
            }
            Change::Swap(one, other) => {
                let (one, other) = (at(one), at(other));
                let (first, second) = (object.pointer(one).cloned(), object.pointer(other).cloned());
                if let (Some(first), Some(second)) = (first, second) {
                    put(object, one, second);
                    put(object, other, first);
                }
            }
            Change::Repeat(place) => {
                let lists: Vec<&String> = places.iter().filter(|at| object.pointer(at).is_some_and(Value::is_array)).collect();
                let Some(at) = (!lists.is_empty()).then(|| (*place.get(lists.as_slice())).clone()) else { return };
                if let Some(Value::Array(list)) = object.pointer_mut(&at) {
                    let copy = list.clone();
                    list.extend(copy);
                }
            }
            Change::Nest(place, times) => {
                let place = at(place);
                let Some(mut value) = object.pointer(place).cloned() else { return };
                for _ in 0..*times {
                    value = json!([value]);
                }
                put(object, place, value);
            }
            Change::Twice => {}
        }
    }
}

/// Every place in a value by its pointer, itself first.
fn places(value: &Value) -> Vec<String> {
    let mut out = Vec::new();
    walk(value, &mut String::new(), &mut out);
    out
}

fn walk(value: &Value, at: &mut String, out: &mut Vec<String>) {
    out.push(at.clone());
    let mut step = |name: &str, inner: &Value| {
        let length = at.len();
        at.push('/');
        at.push_str(&name.replace('~', "~0").replace('/', "~1"));
        walk(inner, at, out);
        at.truncate(length);
    };
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, inner)| step(name, inner)),
        Value::Array(list) => list.iter().enumerate().for_each(|(index, inner)| step(&index.to_string(), inner)),
        _ => {}
    }
}

fn put(object: &mut Value, at: &str, value: Value) {
    if let Some(place) = object.pointer_mut(at) {
        *place = value;
    }
}

fn remove(object: &mut Value, at: &str) {
    let Some((parent, last)) = at.rsplit_once('/') else {
        *object = Value::Null;
        return;
    };
    let last = last.replace("~1", "/").replace("~0", "~");
    match object.pointer_mut(parent) {
        Some(Value::Object(fields)) => drop(fields.remove(&last)),
        Some(Value::Array(list)) => {
            if let Some(index) = last.parse::<usize>().ok().filter(|index| *index < list.len()) {
                list.remove(index);
            }
        }
        _ => {}
    }
}
