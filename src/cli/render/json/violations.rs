//! What a policy denies, as JSON.

use qcheck::policy::Violation;
use serde_json::{Value, json};

/// Adds the violations to an image's object, where there are any.
pub fn add_to(value: &mut Value, violations: &[Violation]) {
    if !violations.is_empty() {
        value["violations"] =
            violations.iter().map(|v| json!({ "word": v.word, "message": v.message })).collect();
    }
}
