//! Where an object is: the parts of `http://` and `https://` names.

use std::fmt;
use std::io;

use crate::remote::stream::Server;
use crate::remote::uri::{Uri, decoded, invalid};

/// Most bytes in a name.
const MAX_NAME: usize = 8192;

/// The address of an object.
#[derive(Clone, PartialEq, Eq)]
pub struct Location {
    /// Whether the connection is TLS.
    pub is_secure: bool,
    /// The host, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Path and query, as they are sent.
    pub target: String,
    /// User and password, for this host alone.
    user: Option<(String, String)>,
}

impl Location {
    /// Fails with [`io::ErrorKind::InvalidInput`] for a name that is not valid.
    pub fn parse(name: &str) -> io::Result<Self> {
        if name.len() > MAX_NAME || !name.is_ascii() {
            return Err(invalid("the name is longer than 8192 bytes, or not ASCII"));
        }
        let uri = Uri::parse(name)?;
        let is_secure = match uri.scheme {
            "https" => true,
            "http" => false,
            other => return Err(invalid(&format!("the scheme '{other}' is not supported"))),
        };
        let (host, port) = uri.host_and_port()?;
        if host.is_empty() {
            return Err(invalid("the name has no host"));
        }
        let user = uri.user.map(|user| {
            let (name, password) = user.split_once(':').unwrap_or((user, ""));
            Ok::<_, io::Error>((decoded(name)?, decoded(password)?))
        });
        let path = if uri.path.is_empty() { "/" } else { uri.path };
        let query = uri.query.map_or_else(String::new, |query| format!("?{query}"));
        Ok(Self {
            is_secure,
            host: host.to_ascii_lowercase(),
            port: port.unwrap_or(if is_secure { 443 } else { 80 }),
            target: format!("{path}{query}"),
            user: user.transpose()?,
        })
    }

    /// The location that an answer from here refers to. User and password do not go to another
    /// host, nor does a secure connection become another one.
    pub fn redirected(&self, to: &str) -> io::Result<Self> {
        let scheme = if self.is_secure { "https" } else { "http" };
        let folder = || self.path().rsplit_once('/').map_or("", |(folder, _)| folder);
        let to = to.split('#').next().unwrap_or(to);
        let is_absolute =
            to.split_once("://").is_some_and(|(scheme, _)| !scheme.contains(['/', '?']));
        let absolute = match to {
            _ if is_absolute => to.to_owned(),
            _ if to.starts_with("//") => format!("{scheme}:{to}"),
            _ if to.starts_with('/') => format!("{scheme}://{}{to}", self.authority()),
            _ if to.starts_with('?') => {
                format!("{scheme}://{}{}{to}", self.authority(), self.path())
            }
            _ => format!("{scheme}://{}{}/{to}", self.authority(), folder()),
        };
        let mut new = Self::parse(&absolute)?;
        if self.is_secure && !new.is_secure {
            return Err(invalid("the server redirects from https to http"));
        }
        if new.user.is_none() && new.has_origin_of(self) {
            new.user.clone_from(&self.user);
        }
        Ok(new)
    }

    /// Whether both are of the same server.
    pub fn has_origin_of(&self, other: &Self) -> bool {
        (self.is_secure, &self.host, self.port) == (other.is_secure, &other.host, other.port)
    }

    /// Where the server listens.
    pub fn server(&self) -> Server {
        Server::Tcp(self.host.clone(), self.port)
    }

    /// Host and port for a request; the port only where it is not the usual one.
    pub fn authority(&self) -> String {
        let host = match self.host.contains(':') {
            true => format!("[{}]", self.host),
            false => self.host.clone(),
        };
        match (self.is_secure, self.port) {
            (true, 443) | (false, 80) => host,
            (_, port) => format!("{host}:{port}"),
        }
    }

    /// User and password.
    pub const fn user(&self) -> Option<&(String, String)> {
        self.user.as_ref()
    }

    /// One name for each location, whatever the ways to write it.
    pub fn name(&self) -> String {
        let scheme = if self.is_secure { "https" } else { "http" };
        format!("{scheme}://{}{}", self.authority(), self.target)
    }

    fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }
}

/// Without what may be secret: user, password and query.
impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_secure { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority(), self.path())
    }
}

/// As [`fmt::Display`].
impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_where_an_object_is() {
        let at = Location::parse("https://me:s%3Ac@Host/a/b?sig=x").unwrap();
        assert_eq!((at.host.as_str(), at.port, at.is_secure), ("host", 443, true));
        assert_eq!(at.target, "/a/b?sig=x");
        assert_eq!(at.user(), Some(&("me".into(), "s:c".into())));
        assert_eq!(at.to_string(), "https://host/a/b");
        assert_eq!(format!("{at:?}"), "https://host/a/b");
        let six = Location::parse("http://[::1]:8080").unwrap();
        assert_eq!((six.authority().as_str(), six.target.as_str()), ("[::1]:8080", "/"));
        for wrong in ["http://", "http:///x", "ftp://h/", "http://h/a b", "http://h/\u{e4}"] {
            assert!(Location::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_redirect_keeps_credentials_for_its_own_server_alone() {
        let at = Location::parse("https://me:pw@host/a/b?q").unwrap();
        for (to, want, keeps) in [
            ("c", "https://host/a/c", true),
            ("/c?d", "https://host/c", true),
            ("https://host:443/c", "https://host/c", true),
            ("https://host:444/c", "https://host:444/c", false),
            ("https://other/c", "https://other/c", false),
            ("//other/c", "https://other/c", false),
        ] {
            let new = at.redirected(to).unwrap();
            assert_eq!((new.to_string().as_str(), new.user().is_some()), (want, keeps), "{to}");
        }
        assert!(at.redirected("http://host/c").is_err());
        assert!(at.redirected("file:///etc/passwd").is_err());
        assert!(Location::parse("http://h/").unwrap().redirected("https://h/").is_ok());
    }
}
