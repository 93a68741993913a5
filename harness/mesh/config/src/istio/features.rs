//! What istiod's environment switches (`pilot/pkg/features`), as far as it is simulated.

/// Switches of one istiod.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Features {
    /// `PILOT_SCOPE_GATEWAY_TO_NAMESPACE`: a Gateway is for pods of its own namespace alone.
    pub scope_gateways: bool,
}

impl Features {
    /// From the variables of istiod's container, by name. What is no truth value leaves the default (`pkg/env/var.go`).
    pub fn read<'a>(env: impl IntoIterator<Item = (&'a str, &'a str)>) -> Features {
        let mut features = Features::default();
        for (name, value) in env {
            if name == "PILOT_SCOPE_GATEWAY_TO_NAMESPACE" {
                features.scope_gateways = is_true(value);
            }
        }
        features
    }
}

/// As Go's `strconv.ParseBool`.
fn is_true(text: &str) -> bool {
    matches!(text, "1" | "t" | "T" | "TRUE" | "true" | "True")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_switch_is_on_only_where_its_value_is_true() {
        let scope = |value: &str| Features::read([("OTHER", "true"), ("PILOT_SCOPE_GATEWAY_TO_NAMESPACE", value)]).scope_gateways;
        assert_eq!(["true", "1", "false", "yes", ""].map(scope), [true, true, false, false, false]);
        assert_eq!(Features::read([]), Features::default());
    }
}
