//! The parts of a name with a scheme (RFC 3986).

use std::io;

/// The parts of a URI as they are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Uri<'a> {
    /// What is before `://`.
    pub scheme: &'a str,
    /// The host and the port, without the user.
    pub authority: &'a str,
    /// The user and perhaps the password before the host.
    pub user: Option<&'a str>,
    /// From the slash after the authority; empty if the name ends with it.
    pub path: &'a str,
    /// What is after the question mark.
    pub query: Option<&'a str>,
}

impl<'a> Uri<'a> {
    /// Divides a name. A fragment is not part of what is opened.
    pub fn parse(text: &'a str) -> io::Result<Self> {
        let (scheme, rest) =
            text.split_once("://").ok_or_else(|| invalid("the name has no scheme"))?;
        if text.chars().any(|c| c.is_control() || c == ' ') {
            return Err(invalid("the name has a space or a control character in it"));
        }
        let (rest, fragment) = rest.split_once('#').map_or((rest, None), |(a, b)| (a, Some(b)));
        if fragment.is_some() {
            return Err(invalid("the name has a fragment: write %23 for a '#'"));
        }
        let (rest, query) = rest.split_once('?').map_or((rest, None), |(a, b)| (a, Some(b)));
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (user, authority) =
            authority.rsplit_once('@').map_or((None, authority), |(user, host)| (Some(user), host));
        Ok(Self { scheme, authority, user, path, query })
    }

    /// The host, in brackets where it is an IPv6 address that was written so, and the port.
    pub fn host_and_port(&self) -> io::Result<(&'a str, Option<u16>)> {
        let (host, port) = match self.authority.strip_prefix('[') {
            Some(rest) => {
                let (host, rest) =
                    rest.split_once(']').ok_or_else(|| invalid("a bracket is not closed"))?;
                let port = rest.strip_prefix(':');
                if port.is_none() && !rest.is_empty() {
                    return Err(invalid("something else than a port follows the address"));
                }
                (host, port)
            }
            None => self
                .authority
                .split_once(':')
                .map_or((self.authority, None), |(host, port)| (host, Some(port))),
        };
        let number = |port: &str| port.parse().ok().filter(|&port: &u16| port != 0);
        match port.filter(|port| !port.is_empty()) {
            None => Ok((host, None)),
            Some(port) => {
                number(port).map(|port| (host, Some(port))).ok_or_else(|| invalid("bad port"))
            }
        }
    }

    /// The decoded value of a parameter of the query, and the name of one that is not in `known`.
    pub fn parameter(&self, known: &str) -> io::Result<Option<String>> {
        let mut found = None;
        let pairs = self.query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        for pair in pairs {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            if name != known {
                return Err(invalid(&format!("the parameter '{name}' is not supported")));
            }
            if found.replace(decoded(value)?).is_some() {
                return Err(invalid(&format!("the parameter '{name}' is given twice")));
            }
        }
        Ok(found)
    }
}

/// Text with each `%` and two digits replaced by the byte that they mean.
pub fn decoded(text: &str) -> io::Result<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let mut digit = || bytes.next().and_then(|digit| char::from(digit).to_digit(16));
        let value = digit().and_then(|high| Some(high * 16 + digit()?));
        let value = value.and_then(|value| u8::try_from(value).ok());
        match value {
            Some(value) if value != 0 => out.push(value),
            _ => return Err(invalid("a '%' is not followed by the digits of a character")),
        }
    }
    String::from_utf8(out).map_err(|_| invalid("the name is not UTF-8"))
}

/// Text with everything but letters, digits and `-._~/` as `%` and two digits.
pub fn encoded(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut out, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                out.push(char::from(byte));
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
        out
    })
}

/// An error of the name.
pub fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_parts() {
        let uri = Uri::parse("s://me:secret@[::1]:80/a/b?x=%2fy").unwrap();
        assert_eq!((uri.scheme, uri.user, uri.path), ("s", Some("me:secret"), "/a/b"));
        assert_eq!(uri.host_and_port().unwrap(), ("::1", Some(80)));
        assert_eq!(uri.parameter("x").unwrap().as_deref(), Some("/y"));
        assert!(uri.parameter("y").is_err());
        let short = Uri::parse("s://host").unwrap();
        assert_eq!((short.path, short.query), ("", None));
        assert_eq!(short.host_and_port().unwrap(), ("host", None));
        for wrong in ["s://h:0", "s://h:x", "s://h:99999", "s://[::1", "s://[::1]x"] {
            assert!(Uri::parse(wrong).unwrap().host_and_port().is_err(), "{wrong}");
        }
        for wrong in ["s:/h", "s://a b", "s://h/x\n", "s://h/#x"] {
            assert!(Uri::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_encoded_is_decoded_to_itself() {
        for text in ["", "a b", "ä%/?#&=", "/tmp/x.sock"] {
            assert_eq!(decoded(&encoded(text)).unwrap(), text);
        }
        for wrong in ["%", "%1", "%zz", "%00", "%ff"] {
            assert!(decoded(wrong).is_err(), "{wrong}");
        }
    }
}
