//! The connection to a server: bytes that have to come in time.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Server {
    /// On a port of a host.
    Tcp(String, u16),
    /// On a socket in the file system.
    Unix(PathBuf),
}

/// As QEMU has it in its messages.
impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(host, port) => write!(f, "{host}:{port}"),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

/// A connection. A read or write ends at the deadline at the latest.
#[derive(Debug)]
pub struct Stream {
    socket: Socket,
    timeout: Duration,
    /// The time that there was at first until the deadline.
    patience: Duration,
    deadline: Instant,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    /// Connects to a server.
    pub fn connect(server: &Server, timeout: Duration) -> io::Result<Self> {
        let connected = match server {
            Server::Tcp(host, port) => tcp(host, *port, timeout).map(Socket::Tcp),
            Server::Unix(path) => unix(path, timeout).map(Socket::Unix),
        };
        let failed = |error: io::Error| {
            // A backlog that stays full is reported so.
            let kind = match error.kind() {
                io::ErrorKind::WouldBlock => io::ErrorKind::TimedOut,
                kind => kind,
            };
            let why = crate::error::cause(&error);
            io::Error::new(kind, format!("Failed to connect to '{server}': {why}"))
        };
        Ok(Self::of(connected.map_err(failed)?, timeout))
    }

    fn of(socket: Socket, timeout: Duration) -> Self {
        Self { socket, timeout, patience: timeout, deadline: after(timeout) }
    }

    /// From now on there is this time for what is requested.
    #[cfg(feature = "http")]
    pub fn restart_clock_with(&mut self, timeout: Duration) {
        self.timeout = timeout;
        self.restart_clock();
    }

    /// The same connection for another direction, with a deadline of its own.
    pub fn try_clone(&self) -> io::Result<Self> {
        let socket = match &self.socket {
            Socket::Tcp(tcp) => Socket::Tcp(tcp.try_clone()?),
            Socket::Unix(unix) => Socket::Unix(unix.try_clone()?),
        };
        Ok(Self::of(socket, self.timeout))
    }

    /// From now on there is the whole time again.
    pub fn restart_clock(&mut self) {
        self.restart_clock_times(1);
    }

    /// From now on there is the whole time so many times over.
    pub fn restart_clock_times(&mut self, times: u32) {
        self.patience = self.timeout.saturating_mul(times);
        self.deadline = after(self.patience);
    }

    /// Ends the connection in both directions, for all clones.
    pub fn shut_down(&self) {
        // One that is closed already is as good.
        let _ = match &self.socket {
            Socket::Tcp(tcp) => tcp.shutdown(Shutdown::Both),
            Socket::Unix(unix) => unix.shutdown(Shutdown::Both),
        };
    }

    /// The time for an answer.
    #[cfg(feature = "nbd")]
    pub const fn timeout(&self) -> Duration {
        self.timeout
    }

    /// The error of an answer that has not come in this time.
    #[cfg(feature = "nbd")]
    pub fn late(&self) -> io::Error {
        late(self.timeout)
    }

    fn time_left(&self) -> io::Result<Duration> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(late(self.patience)) } else { Ok(left) }
    }
}

/// The error of a server that does not answer in time.
fn late(timeout: Duration) -> io::Error {
    let why = format!("the server did not answer within {} s", timeout.as_secs_f64());
    io::Error::new(io::ErrorKind::TimedOut, why)
}

fn after(timeout: Duration) -> Instant {
    // A time that no clock reaches is one hour a thousand times over.
    let now = Instant::now();
    now.checked_add(timeout).unwrap_or_else(|| now + Duration::from_secs(3_600_000))
}

fn tcp(host: &str, port: u16, timeout: Duration) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    let unknown = |error| io::Error::new(io::ErrorKind::NotFound, crate::error::cause(&error));
    for address in (host, port).to_socket_addrs().map_err(unknown)? {
        match TcpStream::connect_timeout(&address, timeout) {
            Ok(stream) => {
                // Requests are small and waited for.
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Connecting waits while the server's queue is full, and the standard library sets no limit.
fn unix(path: &Path, timeout: Duration) -> io::Result<UnixStream> {
    let flags = SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, Some(timeout))?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(UnixStream::from(socket))
}

impl Read for Stream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let left = Some(self.time_left()?);
        let outcome = match &mut self.socket {
            Socket::Tcp(tcp) => tcp.set_read_timeout(left).and_then(|()| tcp.read(buf)),
            Socket::Unix(unix) => unix.set_read_timeout(left).and_then(|()| unix.read(buf)),
        };
        match outcome {
            Ok(0) if !buf.is_empty() => Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the server closed the connection",
            )),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(late(self.patience)),
            other => other,
        }
    }
}

impl Write for Stream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let left = Some(self.time_left()?);
        let outcome = match &mut self.socket {
            Socket::Tcp(tcp) => tcp.set_write_timeout(left).and_then(|()| tcp.write(buf)),
            Socket::Unix(unix) => unix.set_write_timeout(left).and_then(|()| unix.write(buf)),
        };
        match outcome {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(late(self.patience)),
            other => other,
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
