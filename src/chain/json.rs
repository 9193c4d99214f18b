//! JSON as QEMU reads it: strings can have single quotes.

/// The same text with every string in double quotes. What is not valid stays so.
pub fn with_double_quotes(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    // The quote that ends the string here.
    let mut quote = None;
    let mut bytes = text.iter().copied();
    while let Some(byte) = bytes.next() {
        match (byte, quote) {
            (b'"' | b'\'', None) => {
                quote = Some(byte);
                out.push(b'"');
            }
            (byte, Some(end)) if byte == end => {
                quote = None;
                out.push(b'"');
            }
            (b'"', Some(_)) => out.extend(b"\\\""),
            (b'\\', Some(_)) => match bytes.next() {
                // Standard JSON has no such escape.
                Some(b'\'') => out.push(b'\''),
                escaped => {
                    out.push(b'\\');
                    out.extend(escaped);
                }
            },
            (byte, _) => out.push(byte),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_get_double_quotes_whatever_is_in_them() {
        for (text, want) in [
            (r#"{"a": "b'c", "d\"": 1}"#, r#"{"a": "b'c", "d\"": 1}"#),
            (r#"{'a': 'b"c', 'd\'': 'e\\'}"#, r#"{"a": "b\"c", "d'": "e\\"}"#),
            ("{'a", "{\"a"),
            ("'\\", "\"\\"),
        ] {
            assert_eq!(with_double_quotes(text.as_bytes()), want.as_bytes(), "{text}");
        }
    }
}
