//! Option structs that may grow: what an embedder writes does not name every field.

/// Gives an option struct a method for each field, of the field's name, that sets it.
macro_rules! setters {
    ($options:ident { $($field:ident: $kind:ty),* $(,)? }) => {
        impl $options {
            $(
                #[doc = concat!("The same options with another [`", stringify!($field), "`](",
                    stringify!($options), "#structfield.", stringify!($field), ").")]
                #[must_use]
                pub fn $field(mut self, $field: $kind) -> Self {
                    self.$field = $field;
                    self
                }
            )*
        }
    };
}

pub(crate) use setters;
