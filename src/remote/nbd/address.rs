//! The name of an export: `nbd://host[:port]/export` and `nbd+unix:///export?socket=PATH`.

use std::io;
use std::path::PathBuf;

use crate::remote::stream::Server;
use crate::remote::uri::{Uri, decoded, encoded, invalid};

/// The port that is registered for the protocol.
const PORT: u16 = 10809;
/// Most bytes in a string of the protocol.
const MAX_STRING: usize = 4096;

/// An export of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// The server.
    pub server: Server,
    /// The name of the export; the empty one is the server's default.
    pub export: String,
}

impl Address {
    /// Fails with [`io::ErrorKind::InvalidInput`] for a name that is not valid.
    pub fn parse(name: &str) -> io::Result<Self> {
        let uri = Uri::parse(name)?;
        if uri.user.is_some() {
            return Err(invalid("a user is not supported before the host"));
        }
        let export = decoded(uri.path.strip_prefix('/').unwrap_or_default())?;
        if export.len() > MAX_STRING {
            return Err(invalid("the name of the export is longer than 4096 bytes"));
        }
        let server = match uri.scheme {
            "nbd+unix" => {
                if !uri.authority.is_empty() {
                    return Err(invalid("nbd+unix:// is followed by a slash, not by a host"));
                }
                let socket = uri.parameter("socket")?.filter(|path| !path.is_empty());
                let missing = || invalid("the parameter 'socket' has to name a socket");
                Server::Unix(PathBuf::from(socket.ok_or_else(missing)?))
            }
            _ => {
                if uri.query.is_some_and(|query| !query.is_empty()) {
                    return Err(invalid("parameters are supported for nbd+unix:// alone"));
                }
                let (host, port) = uri.host_and_port()?;
                let host = if host.is_empty() { "localhost" } else { host };
                Server::Tcp(host.to_owned(), port.unwrap_or(PORT))
            }
        };
        Ok(Self { server, export })
    }

    /// An address by the options of QEMU's driver; `None` for the port is the registered one.
    pub fn of_host(host: &str, port: Option<&str>, export: &str) -> io::Result<Self> {
        let number = |port: &str| port.parse().map_err(|_| invalid("the port is not a number"));
        let port = port.map_or(Ok(PORT), number)?;
        Ok(Self { server: Server::Tcp(host.to_owned(), port), export: export.to_owned() })
    }

    /// An address in QEMU's older form, after its `nbd:`: `HOST:PORT` or `unix:PATH`, then
    /// `:exportname=NAME` where it is not the default export.
    pub fn parse_older(text: &str) -> io::Result<Self> {
        let (server, export) = match text.split_once(":exportname=") {
            Some((_, "")) => return Err(invalid("the name of the export is missing")),
            Some(parts) => parts,
            None => (text, ""),
        };
        if let Some(path) = server.strip_prefix("unix:") {
            let server = Server::Unix(PathBuf::from(path));
            return Ok(Self { server, export: export.to_owned() });
        }
        let missing = || invalid("a host is followed by a colon and a port");
        let (host, port) = server.rsplit_once(':').ok_or_else(missing)?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        Self::of_host(host, Some(port), export)
    }

    /// One name for each export, whatever the ways to write it.
    pub fn identity(&self) -> String {
        let server = match &self.server {
            Server::Tcp(host, port) => Server::Tcp(host.to_ascii_lowercase(), *port),
            Server::Unix(path) => {
                Server::Unix(path.canonicalize().unwrap_or_else(|_| path.clone()))
            }
        };
        Self { server, export: self.export.clone() }.name()
    }

    /// The name of this export that [`Self::parse`] takes, in the form of QEMU's.
    pub fn name(&self) -> String {
        let slash = if self.export.is_empty() { "" } else { "/" };
        let export = format!("{slash}{}", encoded(&self.export));
        match &self.server {
            Server::Tcp(host, port) if host.contains(':') => {
                format!("nbd://[{host}]:{port}{export}")
            }
            Server::Tcp(host, port) => format!("nbd://{host}:{port}{export}"),
            Server::Unix(path) => {
                format!("nbd+unix://{export}?socket={}", encoded(&path.to_string_lossy()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_mean_servers_and_exports() {
        let tcp = |host: &str, port| Server::Tcp(host.into(), port);
        for (name, server, export) in [
            ("nbd://host", tcp("host", PORT), ""),
            ("nbd://host/", tcp("host", PORT), ""),
            ("nbd+tcp://host:7/a%20b", tcp("host", 7), "a b"),
            ("nbd://[::1]:7/a/b", tcp("::1", 7), "a/b"),
            ("nbd:///x", tcp("localhost", PORT), "x"),
            ("nbd+unix:///x?socket=/a%26b", Server::Unix("/a&b".into()), "x"),
            ("nbd+unix://?socket=s", Server::Unix("s".into()), ""),
        ] {
            let address = Address::parse(name).unwrap();
            assert_eq!((&address.server, address.export.as_str()), (&server, export), "{name}");
            assert_eq!(Address::parse(&address.name()).unwrap(), address);
        }
        for (older, name) in [
            ("host:7", "nbd://host:7"),
            ("[::1]:7:exportname=a:b", "nbd://[::1]:7/a%3Ab"),
            ("unix:/a:b:exportname=x", "nbd+unix:///x?socket=/a%3Ab"),
            ("unix:s", "nbd+unix://?socket=s"),
        ] {
            assert_eq!(Address::parse_older(older).unwrap().name(), name);
        }
        for older in ["host", "7", "host:x", "host:7:exportname=", "host:7:other=1"] {
            assert!(Address::parse_older(older).is_err(), "{older}");
        }
        for name in [
            "nbd+unix:///x",
            "nbd+unix://host/x?socket=s",
            "nbd://host/x?socket=s",
            "nbd://user@host/x",
            "nbd://host:0/x",
        ] {
            assert!(Address::parse(name).is_err(), "{name}");
        }
    }
}
