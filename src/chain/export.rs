//! An export of a server that options describe, as QEMU's driver `nbd` takes them.

use std::io;
use std::path::PathBuf;

use super::options::{Options, text};
use crate::error::{Error, Result};
use crate::remote::nbd::{Address, Server};

/// Options that change nothing of what is read.
const NEUTRAL: [&str; 4] =
    ["open-timeout", "reconnect-delay", "server.keep-alive", "server.numeric"];

/// The name of the export; its options are taken out. They begin with `prefix`.
pub fn name(options: &mut Options, prefix: &str) -> Result<PathBuf> {
    let mut take = |name: &str| text(options, &format!("{prefix}{name}"));
    let export = take("export")?.unwrap_or_default();
    let kind = take("server.type")?;
    let (host, port, path) = match kind {
        Some(_) => (take("server.host")?, take("server.port")?, take("server.path")?),
        None => (take("host")?, take("port")?, take("path")?),
    };
    for name in NEUTRAL {
        take(name)?;
    }
    let refused = |why: &str| Error::Refused(format!("the options of the driver 'nbd': {why}"));
    let address = match (kind.as_deref(), host, path) {
        (Some("inet") | None, Some(host), None) => {
            Address::of_host(&host, port.as_deref(), &export)
        }
        (Some("unix") | None, None, Some(path)) if port.is_none() => {
            Ok(Address { server: Server::Unix(path.into()), export })
        }
        (Some("inet" | "unix") | None, None, None) => return Err(refused("no server is given")),
        (Some("inet" | "unix") | None, ..) => {
            return Err(refused("a host and a path exclude each other"));
        }
        (Some(other), ..) => {
            return Err(refused(&format!("the server type '{other}' is not supported")));
        }
    };
    // What a name cannot have is found where the name is read.
    let name = address.and_then(|address| {
        let name = address.name();
        match Address::parse(&name)? == address {
            true => Ok(name),
            false => Err(io::Error::new(io::ErrorKind::InvalidInput, "the host is not valid")),
        }
    });
    name.map(PathBuf::from).map_err(|error: io::Error| refused(&error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<PathBuf> {
        let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
        let mut options = pairs.map(|(a, b)| (format!("file.{a}"), Some(b.to_owned()))).collect();
        let name = name(&mut options, "file.");
        assert!(name.is_err() || options.is_empty(), "{options:?}");
        name
    }

    #[test]
    fn options_mean_the_export_that_a_name_means() {
        for (text, want) in [
            ("server.type=inet,server.host=h,server.port=7,export=a b", "nbd://h:7/a%20b"),
            ("server.type=inet,server.host=::1,server.port=7", "nbd://[::1]:7"),
            ("server.type=unix,server.path=/s,export=x", "nbd+unix:///x?socket=/s"),
            ("host=h", "nbd://h:10809"),
            ("path=/s,reconnect-delay=3", "nbd+unix://?socket=/s"),
        ] {
            assert_eq!(of(text).unwrap(), PathBuf::from(want), "{text}");
        }
        for wrong in [
            "export=x",
            "server.type=vsock,server.host=3",
            "host=h,path=/s",
            "server.type=unix,server.host=h",
            "server.type=inet,server.host=h,server.port=x",
            "host=127.0.0.1/b,export=x",
        ] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
    }
}
