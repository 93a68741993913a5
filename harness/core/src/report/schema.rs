//! The JSON schema of a run's record, for who reads the JSON beside a report.

use serde_json::{Value, json};

use super::record::RunRecord;

/// The schema, as committed at `reports/record.schema.json`. A field may be added within a version of the record
/// ([`RECORD_SCHEMA`](super::RECORD_SCHEMA)); none goes, and none changes its meaning.
#[must_use]
pub fn record_schema() -> Value {
    let mut schema = schemars::schema_for!(RunRecord).to_value();
    if let Some(map) = schema.as_object_mut() {
        map.insert("title".to_owned(), json!("gateproof record of a run"));
    }
    schema
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{record_json, sample};

    /// `GATEPROOF_BLESS=1 cargo test -p gateproof-core` writes the file anew.
    #[test]
    fn the_committed_schema_is_this_one() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../reports/record.schema.json");
        let current = format!("{:#}\n", record_schema());
        if std::env::var_os("GATEPROOF_BLESS").is_some() {
            std::fs::write(path, &current).unwrap();
        }
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        assert!(committed == current, "reports/record.schema.json is out of date: run with GATEPROOF_BLESS=1");
    }

    #[test]
    fn every_record_is_of_the_schema_and_other_json_is_not() {
        let validator = jsonschema::validator_for(&record_schema()).unwrap();
        for record in [sample::green(), sample::red(), sample::flaky(), sample::unfinished(), sample::embedded(), sample::quarantined()] {
            let value: Value = serde_json::from_str(&record_json(&record).unwrap()).unwrap();
            let wrong: Vec<String> = validator.iter_errors(&value).map(|e| format!("{} {e}", e.instance_path())).collect();
            assert_eq!(wrong, Vec::<String>::new());
            let mut bent = value.clone();
            bent["scenarios"][0]["checks"] = json!("none");
            assert!(!validator.is_valid(&bent));
        }
    }

    #[test]
    fn every_field_is_described() {
        let schema = record_schema();
        for (name, shape) in schema["$defs"].as_object().unwrap() {
            for (key, field) in shape["properties"].as_object().into_iter().flatten() {
                assert!(field.get("description").is_some(), "{name}.{key}");
            }
        }
    }
}
