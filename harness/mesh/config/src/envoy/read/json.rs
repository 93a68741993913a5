//! Protobuf's JSON mapping, as `config_dump` prints it. A wrong type is refused in plain words: such a resource never
//! reaches a real Envoy, which gets protobuf.

use std::time::Duration;

use serde_json::{Map, Value};

use crate::envoy::refusal::Refusal;

pub(super) type Read<T> = Result<T, Refusal>;

/// One message.
#[derive(Debug, Clone, Copy)]
pub(super) struct Message<'a>(&'a Map<String, Value>);

fn wrong(field: &str, wanted: &str) -> Refusal {
    Refusal::rejected(format!("INVALID_ARGUMENT: {field}: {wanted} expected"))
}

/// A value violates a rule of the API (`protoc-gen-validate`); `MESSAGE.Field: why`.
pub(super) fn constraint(what: &str) -> Refusal {
    let (message, rest) = what.split_once('.').unwrap_or((what, ""));
    Refusal::rejected(format!("Proto constraint validation failed ({message}ValidationError.{rest})"))
}

/// An extension that Envoy does not have (`Config::Utility::getAndCheckFactory`).
pub(super) fn unknown_extension(name: &str, type_url: &str) -> Refusal {
    let type_url = type_url.rsplit('/').next().unwrap_or_default();
    Refusal::rejected(format!("Didn't find a registered implementation for '{name}' with type URL: '{type_url}'"))
}

impl<'a> Message<'a> {
    pub(super) fn of(value: &'a Value, what: &str) -> Read<Self> {
        value.as_object().map(Self).ok_or_else(|| wrong(what, "a message"))
    }

    /// A field that is set.
    pub(super) fn get(self, field: &str) -> Option<&'a Value> {
        self.0.get(field).filter(|value| !value.is_null())
    }

    pub(super) fn has(self, field: &str) -> bool {
        self.get(field).is_some()
    }

    pub(super) fn text(self, field: &str) -> Read<&'a str> {
        Ok(self.some_text(field)?.unwrap_or_default())
    }

    pub(super) fn some_text(self, field: &str) -> Read<Option<&'a str>> {
        self.get(field).map(|value| value.as_str().ok_or_else(|| wrong(field, "a string"))).transpose()
    }

    pub(super) fn flag(self, field: &str, default: bool) -> Read<bool> {
        Ok(self.some_flag(field)?.unwrap_or(default))
    }

    pub(super) fn some_flag(self, field: &str) -> Read<Option<bool>> {
        self.get(field).map(|value| value.as_bool().ok_or_else(|| wrong(field, "true or false"))).transpose()
    }

    /// 64 bit numbers are strings in JSON.
    pub(super) fn integer(self, field: &str) -> Read<Option<i128>> {
        let Some(value) = self.get(field) else { return Ok(None) };
        let number = match value {
            Value::String(text) => text.parse().ok(),
            Value::Number(number) => number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from)),
            _ => None,
        };
        number.map(Some).ok_or_else(|| wrong(field, "a whole number"))
    }

    pub(super) fn number<T: TryFrom<i128>>(self, field: &str) -> Read<Option<T>> {
        self.integer(field)?.map(|number| T::try_from(number).map_err(|_| wrong(field, "a number in range"))).transpose()
    }

    pub(super) fn float(self, field: &str) -> Read<Option<f64>> {
        self.get(field).map(|value| value.as_f64().ok_or_else(|| wrong(field, "a number"))).transpose()
    }

    pub(super) fn duration(self, field: &str) -> Read<Option<Duration>> {
        let Some(text) = self.some_text(field)? else { return Ok(None) };
        duration(text).map(Some).ok_or_else(|| wrong(field, "a duration"))
    }

    /// A duration where zero means that there is no bound.
    pub(super) fn bound(self, field: &str, default: Option<Duration>) -> Read<Option<Duration>> {
        Ok(match self.duration(field)? {
            None => default,
            Some(Duration::ZERO) => None,
            set => set,
        })
    }

    pub(super) fn message(self, field: &str) -> Read<Option<Message<'a>>> {
        self.get(field).map(|value| Self::of(value, field)).transpose()
    }

    /// A message that may be missing, as an empty one.
    pub(super) fn part(self, field: &str) -> Read<Message<'a>> {
        static EMPTY: std::sync::LazyLock<Map<String, Value>> = std::sync::LazyLock::new(Map::new);
        Ok(self.message(field)?.unwrap_or(Message(&EMPTY)))
    }

    pub(super) fn list(self, field: &str) -> Read<&'a [Value]> {
        match self.get(field) {
            None => Ok(&[]),
            Some(value) => value.as_array().map(Vec::as_slice).ok_or_else(|| wrong(field, "a list")),
        }
    }

    pub(super) fn messages(self, field: &str) -> Read<Vec<Message<'a>>> {
        self.list(field)?.iter().map(|value| Self::of(value, field)).collect()
    }

    pub(super) fn texts(self, field: &str) -> Read<Vec<String>> {
        self.list(field)?.iter().map(|value| value.as_str().map(str::to_owned).ok_or_else(|| wrong(field, "strings"))).collect()
    }

    /// A map's entries.
    pub(super) fn entries(self, field: &str) -> Read<Vec<(&'a str, &'a Value)>> {
        Ok(self.message(field)?.map(|map| map.0.iter().map(|(k, v)| (k.as_str(), v)).collect()).unwrap_or_default())
    }

    /// The message within an `Any`: its type without the URL before it, and itself. A `TypedStruct` is looked into.
    pub(super) fn any(self, field: &str) -> Read<Option<(&'a str, Message<'a>)>> {
        self.message(field)?.map(Self::unpacked).transpose()
    }

    /// The type of a message within an `Any`, and the message.
    pub(super) fn unpacked(self) -> Read<(&'a str, Message<'a>)> {
        let name = |url: &'a str| url.rsplit('/').next().unwrap_or_default();
        let url = self.text("@type")?;
        match name(url) {
            "udpa.type.v1.TypedStruct" | "xds.type.v3.TypedStruct" => Ok((name(self.text("type_url")?), self.part("value")?)),
            found => Ok((found, self)),
        }
    }
}

/// `10s`, `0.250s`.
fn duration(text: &str) -> Option<Duration> {
    let number = text.strip_suffix('s')?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if fraction.len() > 9 || !fraction.bytes().all(|b| b.is_ascii_digit()) || !whole.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let nanos: u32 = format!("{fraction:0<9}").parse().ok()?;
    // Protobuf's own bound: about 10 000 years.
    whole.parse::<u64>().ok().filter(|seconds| *seconds <= 315_576_000_000).map(|seconds| Duration::new(seconds, nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_protobuf_writes_them() {
        assert_eq!(duration("10s"), Some(Duration::from_secs(10)));
        assert_eq!(duration("0.250s"), Some(Duration::from_millis(250)));
        assert_eq!(duration("0.000000001s"), Some(Duration::from_nanos(1)));
        for wrong in ["10", "-1s", "1.s.s", "", "s s", "99999999999999s", "1.0000000000s"] {
            assert_eq!(duration(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn numbers_of_64_bits_are_strings() {
        let value = serde_json::json!({"a": "5", "b": 5, "c": -1, "d": "x"});
        let message = Message::of(&value, "").unwrap();
        assert_eq!(message.number::<u32>("a").unwrap(), Some(5));
        assert_eq!(message.number::<u32>("b").unwrap(), Some(5));
        assert!(message.number::<u32>("c").is_err());
        assert!(message.number::<u32>("d").is_err());
    }
}
