//! Kinds of text in a scenario, as its JSON schema says them. A value may stand anywhere in most: `$(value:NAMESPACE)/shop`.

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::json;

macro_rules! schema_alias {
    ($($(#[doc = $doc:literal])* $name:ident = $schema:expr;)*) => {$(
        $(#[doc = $doc])*
        pub(super) struct $name;
        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                Schema::try_from($schema).unwrap_or_default()
            }
        }
    )*};
}
pub(super) use schema_alias;
schema_alias! {
    /// Any scalar: `200` and `"200"` are the same text.
    Text = json!({"type": ["string", "number", "boolean"]});
    /// `NAMESPACE/NAME`.
    NamespacedName = json!({"type": "string", "pattern": "^[a-z0-9][a-z0-9-]*/[a-z0-9][a-z0-9.-]*$|\\$\\(value:"});
    /// A scenario's path.
    ScenarioPath = json!({"type": "string", "pattern": "^[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*$"});
    /// A host name.
    Host = json!({"type": "string", "pattern": "^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$|\\$\\(value:"});
    /// A time.
    Time = json!({"type": "string", "pattern": "^[0-9]+(ms|s|m)$|\\$\\(value:"});
    /// An object.
    ObjectName = json!({"type": "string", "pattern": "^[A-Z][A-Za-z0-9]* ([a-z0-9][a-z0-9-]*/)?[^\\s/]+$|\\$\\(value:"});
    /// The name of a value or of a row.
    ValueName = json!({"type": "string", "pattern": "^[a-z]([a-z0-9-]*[a-z0-9])?$"});
    /// A partial structure.
    Structure = json!({"type": "object"});
}
