//! JSON that need not fit into memory: lists whose elements are made when they are written.

use std::fmt;

use serde::ser::{Serialize, SerializeSeq, Serializer};

/// Takes an element; returns whether to continue.
pub type Sink<'s, T> = dyn FnMut(T) -> bool + 's;

/// A list that gives its elements when it is written.
pub struct Each<'a, T>(Box<Give<'a, T>>);

/// Hands the elements to a sink.
type Give<'a, T> = dyn Fn(&mut Sink<'_, T>) + 'a;

impl<'a, T> Each<'a, T> {
    /// The list that `give` hands out.
    pub fn new(give: impl Fn(&mut Sink<'_, T>) + 'a) -> Self {
        Self(Box::new(give))
    }
}

impl<T> fmt::Debug for Each<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Each")
    }
}

impl<T: Serialize> Serialize for Each<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(None)?;
        let mut result = Ok(());
        (self.0)(&mut |value| {
            if result.is_ok() {
                result = list.serialize_element(&value);
            }
            result.is_ok()
        });
        result?;
        list.end()
    }
}

#[cfg(test)]
impl<T: schemars::JsonSchema> schemars::JsonSchema for Each<'_, T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        Vec::<T>::schema_name()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        Vec::<T>::json_schema(generator)
    }
}
