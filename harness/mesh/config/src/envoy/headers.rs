//! HTTP headers in the form in which Envoy's rules see them.

/// Headers in order of arrival, names in lower case, with HTTP/2's pseudo headers (`:method`, `:path`, `:authority`,
/// `:scheme`, `:status`) whatever the protocol on the wire.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers(Vec<(String, String)>);

impl Headers {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// The first value of a name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    /// All values of a name, joined with `,`: what header matchers see (`Http::HeaderUtility::getAllOfHeaderAsString`).
    pub fn joined(&self, name: &str) -> Option<String> {
        let mut values = self.0.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str());
        let first = values.next()?.to_owned();
        Some(values.fold(first, |all, next| all + "," + next))
    }

    /// Add a value after those that the name has.
    pub fn append(&mut self, name: &str, value: impl Into<String>) {
        self.0.push((name.to_ascii_lowercase(), value.into()));
    }

    /// Give a name this one value, in the place of its first.
    pub fn set(&mut self, name: &str, value: impl Into<String>) {
        let Some(first) = self.0.iter().position(|(n, _)| n.eq_ignore_ascii_case(name)) else {
            return self.append(name, value);
        };
        if let Some(place) = self.0.get_mut(first) {
            place.1 = value.into();
        }
        let mut seen = false;
        self.0.retain(|(n, _)| !n.eq_ignore_ascii_case(name) || !std::mem::replace(&mut seen, true));
    }

    /// Take a name out; whether it was there.
    pub fn remove(&mut self, name: &str) -> bool {
        let before = self.0.len();
        self.0.retain(|(n, _)| !n.eq_ignore_ascii_case(name));
        before != self.0.len()
    }

    /// Names and values in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(n, v)| (n.as_str(), v.as_str()))
    }

    /// `:path`, or nothing.
    pub fn path(&self) -> &str {
        self.get(":path").unwrap_or_default()
    }

    /// `:authority`, or nothing.
    pub fn authority(&self) -> &str {
        self.get(":authority").unwrap_or_default()
    }

    /// `:method`, or nothing.
    pub fn method(&self) -> &str {
        self.get(":method").unwrap_or_default()
    }
}

impl<N: AsRef<str>, V: Into<String>> FromIterator<(N, V)> for Headers {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(headers: I) -> Self {
        Self(headers.into_iter().map(|(n, v)| (n.as_ref().to_ascii_lowercase(), v.into())).collect())
    }
}
