//! What the bytes of a file are used for, as JSON.

use qcheck::layout::{Layout, Role};
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

/// Bytes by role; together they are the file's length.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub struct Space {
    #[serde(flatten)]
    roles: Roles,
    /// Bytes in all.
    sum: u64,
    /// Bytes of structures with errors.
    touched_by_errors: u64,
}

/// A key for each role that the file has.
#[derive(Debug)]
struct Roles(Vec<(&'static str, Bytes)>);

/// The bytes of a role.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Bytes {
    bytes: u64,
    /// Bytes of them that are holes in the file.
    holes: u64,
}

impl From<&Layout<'_>> for Space {
    fn from(layout: &Layout<'_>) -> Self {
        let totals = layout.totals();
        let roles = Role::ALL.into_iter().filter(|role| totals.bytes(*role) > 0);
        let bytes = |role| Bytes { bytes: totals.bytes(role), holes: totals.holes(role) };
        let roles = Roles(roles.map(|role| (role.code(), bytes(role))).collect());
        Self { roles, sum: totals.sum(), touched_by_errors: totals.damaged }
    }
}

impl Serialize for Roles {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        self.0.iter().try_for_each(|(role, bytes)| map.serialize_entry(role, bytes))?;
        map.end()
    }
}

#[cfg(test)]
impl schemars::JsonSchema for Roles {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Roles".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let bytes = generator.subschema_for::<Bytes>().to_value();
        let keys = Role::ALL.into_iter().map(|role| (role.code().to_owned(), bytes.clone()));
        let keys: serde_json::Map<String, serde_json::Value> = keys.collect();
        schemars::json_schema!({ "type": "object", "properties": keys })
    }
}
