//! Resources as text, written once: the same resource is printed in dump after dump.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::Value;

use crate::proxy::any;

/// Texts of shared values. An entry holds its value, so that its address stands for nothing else meanwhile.
#[derive(Debug, Default)]
pub struct Texts(Mutex<Known>);

type Known = HashMap<usize, (Arc<Value>, Arc<str>)>;

impl Texts {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The JSON text of a resource, with the `@type` that a dump shows where the resource has none itself.
    #[must_use]
    pub fn of(&self, value: &Arc<Value>, type_url: &str) -> Arc<str> {
        let place = Arc::as_ptr(value) as usize;
        if let Some((_, text)) = self.lock().get(&place) {
            return text.clone();
        }
        let text: Arc<str> = any(value, type_url).into();
        self.lock().insert(place, (value.clone(), text.clone()));
        text
    }

    /// Forgets all but these.
    pub fn keep<'a>(&self, values: impl Iterator<Item = &'a Arc<Value>>) {
        let live: std::collections::HashSet<usize> = values.map(|v| Arc::as_ptr(v) as usize).collect();
        self.lock().retain(|place, _| live.contains(place));
    }
}
