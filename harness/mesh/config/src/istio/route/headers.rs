//! Headers that a route or one of its destinations sets, adds and removes.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::spec::Headers;

/// Envoy's four lists, and the host name that the request is to carry, if one was given as a header.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Operations {
    pub(super) request_add: Vec<Value>,
    pub(super) request_remove: Vec<Value>,
    pub(super) response_add: Vec<Value>,
    pub(super) response_remove: Vec<Value>,
    pub(super) authority: String,
}

impl Operations {
    /// What the object says, in Envoy's form: what is set comes before what is added.
    pub(super) fn of(headers: &Headers) -> Self {
        let (mut request_add, set_authority) = changes(&headers.request.set, false);
        let (added, add_authority) = changes(&headers.request.add, true);
        request_add.extend(added);
        let (mut response_add, _) = changes(&headers.response.set, false);
        response_add.extend(changes(&headers.response.add, true).0);
        Self {
            request_add,
            request_remove: removable(&headers.request.remove),
            response_add,
            response_remove: removable(&headers.response.remove),
            authority: if set_authority.is_empty() { add_authority } else { set_authority },
        }
    }

    /// Puts them behind those that the route has already.
    pub(super) fn extend(&mut self, other: Self) {
        self.request_add.extend(other.request_add);
        self.request_remove.extend(other.request_remove);
        self.response_add.extend(other.response_add);
        self.response_remove.extend(other.response_remove);
    }

    /// Writes the lists that are not empty; routes and weighted clusters name them alike.
    pub(super) fn write(self, out: &mut Map<String, Value>) {
        for (field, list) in [
            ("request_headers_to_add", self.request_add),
            ("request_headers_to_remove", self.request_remove),
            ("response_headers_to_add", self.response_add),
            ("response_headers_to_remove", self.response_remove),
        ] {
            if !list.is_empty() {
                out.insert(field.to_owned(), Value::Array(list));
            }
        }
    }
}

/// Envoy refuses to change these as headers; the host is changed otherwise.
fn is_internal(name: &str) -> bool {
    name.starts_with(':') || name.eq_ignore_ascii_case("host")
}

fn is_authority(name: &str) -> bool {
    name.eq_ignore_ascii_case(":authority") || name.eq_ignore_ascii_case("host")
}

/// The changes, and the host among them. Adding to what may be there is Envoy's default and is not printed.
fn changes(headers: &BTreeMap<String, String>, append: bool) -> (Vec<Value>, String) {
    let mut authority = String::new();
    let mut list = Vec::new();
    for (name, value) in headers {
        if is_authority(name) {
            authority.clone_from(value);
        }
        if is_internal(name) {
            continue;
        }
        // An empty text is protobuf's default and is left out of a dump.
        let header = if value.is_empty() { json!({"key": name}) } else { json!({"key": name, "value": value}) };
        list.push(if append {
            json!({"header": header})
        } else {
            json!({"header": header, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"})
        });
    }
    (list, authority)
}

fn removable(names: &[String]) -> Vec<Value> {
    names.iter().filter(|name| !is_internal(name)).map(|name| json!(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_replaces_and_what_is_added_appends() {
        let headers: Headers = serde_json::from_value(json!({
            "request": {"set": {"x-b": "1", "x-a": ""}, "add": {"x-c": "2", "Host": "added.example"}, "remove": ["x-d", ":path", "host"]},
            "response": {"remove": ["server"]},
        }))
        .expect("headers");
        let mut out = Map::new();
        let operations = Operations::of(&headers);
        assert_eq!(operations.authority, "added.example");
        operations.write(&mut out);
        assert_eq!(
            Value::Object(out),
            json!({
                "request_headers_to_add": [
                    {"header": {"key": "x-a"}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"},
                    {"header": {"key": "x-b", "value": "1"}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"},
                    {"header": {"key": "x-c", "value": "2"}},
                ],
                "request_headers_to_remove": ["x-d"],
                "response_headers_to_remove": ["server"],
            })
        );
    }
}
