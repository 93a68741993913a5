//! Objects as text, written once: the same object is in list after list.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;

use super::respond::InVersion;

/// Beyond so many, all are forgotten and written anew.
const AT_MOST: usize = 600;

/// Texts of objects in a version. An entry holds its object, so that its address stands for nothing else meanwhile.
#[derive(Debug, Default)]
pub(super) struct Texts(Mutex<HashMap<(usize, String), Known>>);

/// An object and its text.
type Known = (Arc<Value>, Arc<str>);

impl Texts {
    /// The JSON text of an object.
    pub(super) fn of(&self, object: &Arc<Value>, api_version: &str) -> Arc<str> {
        let place = (Arc::as_ptr(object) as usize, api_version.to_owned());
        let lock = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, text)) = lock().get(&place) {
            return text.clone();
        }
        // What has only strings for keys can be written.
        let text: Arc<str> = serde_json::to_string(&InVersion::new(object, api_version)).unwrap_or_default().into();
        let mut known = lock();
        if known.len() >= AT_MOST {
            known.clear();
        }
        known.insert(place, (object.clone(), text.clone()));
        text
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_text_is_of_one_version_of_one_object() {
        let texts = Texts::default();
        let object = Arc::new(json!({"apiVersion": "x/v1", "kind": "K", "n": 1}));
        assert_eq!(&*texts.of(&object, "x/v1"), r#"{"apiVersion":"x/v1","kind":"K","n":1}"#);
        assert_eq!(&*texts.of(&object, "x/v1beta1"), r#"{"apiVersion":"x/v1beta1","kind":"K","n":1}"#);
        assert!(Arc::ptr_eq(&texts.of(&object, "x/v1"), &texts.of(&object, "x/v1")));
        // More than are kept: an address that comes again is not taken for the object that was there.
        for n in 0..2 * AT_MOST {
            let object = Arc::new(json!({"n": n}));
            assert_eq!(&*texts.of(&object, "x/v1"), format!("{{\"n\":{n}}}"));
        }
    }
}
