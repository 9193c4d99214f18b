//! JSON that need not fit into memory: an object whose lists come element by element.

use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};
use serde_json::Value;

/// Takes an element; returns whether more are wanted.
pub type Sink<'s> = dyn FnMut(Value) -> bool + 's;

/// A list that gives its elements when it is written.
pub struct Each<'a>(Box<dyn Fn(&mut Sink<'_>) + 'a>);

impl Serialize for Each<'_> {
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

/// An object, in the order in which its keys were set.
#[derive(Default)]
pub struct Streamed<'a> {
    parts: Vec<(&'static str, Part<'a>)>,
}

enum Part<'a> {
    Value(Value),
    Each(Each<'a>),
}

impl<'a> Streamed<'a> {
    /// Sets a key to a value.
    pub fn set(&mut self, key: &'static str, value: impl Into<Value>) -> &mut Self {
        self.parts.push((key, Part::Value(value.into())));
        self
    }

    /// Sets a key to a list that `give` hands out.
    pub fn each(&mut self, key: &'static str, give: impl Fn(&mut Sink<'_>) + 'a) -> &mut Self {
        self.parts.push((key, Part::Each(Each(Box::new(give)))));
        self
    }
}

impl Serialize for Streamed<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (key, part) in &self.parts {
            match part {
                Part::Value(value) => map.serialize_entry(key, value)?,
                Part::Each(each) => map.serialize_entry(key, each)?,
            }
        }
        map.end()
    }
}
