//! The numbers of the protocol, and its messages as bytes. All integers are big-endian.

use std::io;

/// First bytes of a server: `NBDMAGIC`.
pub const INIT: u64 = 0x4e42_444d_4147_4943;
/// First bytes of an option, and of the newstyle handshake: `IHAVEOPT`.
pub const OPTION: u64 = 0x4948_4156_454f_5054;
/// First bytes of the answer to an option.
pub const OPTION_REPLY: u64 = 0x0003_e889_0455_65a9;
/// First bytes of a request.
pub const REQUEST: u32 = 0x2560_9513;
/// First bytes of a simple reply.
pub const SIMPLE_REPLY: u32 = 0x6744_6698;
/// First bytes of a chunk of a structured reply.
pub const STRUCTURED_REPLY: u32 = 0x668e_33ef;

/// Handshake flag: more options can follow a refused one.
pub const FIXED_NEWSTYLE: u16 = 1;
/// Handshake flag: no zeroes follow the flags of the export.
pub const NO_ZEROES: u16 = 2;

/// Options.
pub const OPT_EXPORT_NAME: u32 = 1;
pub const OPT_GO: u32 = 7;
pub const OPT_STRUCTURED_REPLY: u32 = 8;
pub const OPT_SET_META_CONTEXT: u32 = 10;

/// Answers to options.
pub const REP_ACK: u32 = 1;
pub const REP_INFO: u32 = 3;
pub const REP_META_CONTEXT: u32 = 4;
pub const REP_ERROR: u32 = 1 << 31;
pub const REP_ERR_UNSUP: u32 = REP_ERROR | 1;
pub const REP_ERR_POLICY: u32 = REP_ERROR | 2;
pub const REP_ERR_TLS_REQD: u32 = REP_ERROR | 5;
pub const REP_ERR_UNKNOWN: u32 = REP_ERROR | 6;
pub const REP_ERR_SHUTDOWN: u32 = REP_ERROR | 7;

/// What a server reports of an export.
pub const INFO_EXPORT: u16 = 0;
pub const INFO_BLOCK_SIZE: u16 = 3;

/// What an export can do.
pub const HAS_FLAGS: u16 = 1 << 0;
pub const READ_ONLY: u16 = 1 << 1;
pub const SEND_FLUSH: u16 = 1 << 2;
pub const SEND_FUA: u16 = 1 << 3;
pub const SEND_TRIM: u16 = 1 << 5;
pub const SEND_WRITE_ZEROES: u16 = 1 << 6;

/// Chunks of a structured reply.
pub const CHUNK_DONE: u16 = 1;
pub const CHUNK_NONE: u16 = 0;
pub const CHUNK_DATA: u16 = 1;
pub const CHUNK_HOLE: u16 = 2;
pub const CHUNK_STATUS: u16 = 5;
/// The bit of chunks that are errors.
pub const CHUNK_ERROR: u16 = 1 << 15;

/// The context of allocation, and the bit of its status for what reads as zeroes.
pub const BASE_ALLOCATION: &[u8] = b"base:allocation";
pub const STATE_ZERO: u32 = 1 << 1;

/// The flag of a request that returns when its data is on stable storage.
const FUA: u16 = 1;
/// Bytes of a request before its data.
pub const REQUEST_BYTES: usize = 28;

/// What is asked of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    Read,
    Write,
    Disconnect,
    Flush,
    Trim,
    WriteZeroes,
    BlockStatus,
}

impl Command {
    const fn number(self) -> u16 {
        match self {
            Self::Read => 0,
            Self::Write => 1,
            Self::Disconnect => 2,
            Self::Flush => 3,
            Self::Trim => 4,
            Self::WriteZeroes => 6,
            Self::BlockStatus => 7,
        }
    }

    /// What it does, after "could not".
    pub const fn action(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Disconnect => "disconnect",
            Self::Flush => "flush",
            Self::Trim => "discard",
            Self::WriteZeroes => "write zeroes",
            Self::BlockStatus => "look for data",
        }
    }
}

/// One request, without data that may follow it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    pub command: Command,
    /// Whether it returns only when its data is on stable storage.
    pub fua: bool,
    pub offset: u64,
    pub length: u32,
}

impl Request {
    /// Its bytes; the reply repeats the cookie.
    pub fn encode(&self, cookie: u64) -> [u8; REQUEST_BYTES] {
        let mut bytes = [0; REQUEST_BYTES];
        bytes[..4].copy_from_slice(&REQUEST.to_be_bytes());
        bytes[4..6].copy_from_slice(&(if self.fua { FUA } else { 0 }).to_be_bytes());
        bytes[6..8].copy_from_slice(&self.command.number().to_be_bytes());
        bytes[8..16].copy_from_slice(&cookie.to_be_bytes());
        bytes[16..24].copy_from_slice(&self.offset.to_be_bytes());
        bytes[24..].copy_from_slice(&self.length.to_be_bytes());
        bytes
    }
}

/// Big-endian fields, one after the other.
#[derive(Debug)]
pub struct Fields<'a>(pub &'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk::<N>().ok_or_else(too_short)?;
        self.0 = rest;
        Ok(*field)
    }

    pub fn u16(&mut self) -> io::Result<u16> {
        Ok(u16::from_be_bytes(self.take()?))
    }

    pub fn u32(&mut self) -> io::Result<u32> {
        Ok(u32::from_be_bytes(self.take()?))
    }

    pub fn u64(&mut self) -> io::Result<u64> {
        Ok(u64::from_be_bytes(self.take()?))
    }
}

/// A server that does not keep to the protocol.
pub fn violation(what: impl std::fmt::Display) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("the server does not keep to the NBD protocol: {what}"),
    )
}

fn too_short() -> io::Error {
    violation("a message is too short")
}

/// The error of a number in a reply: the protocol has those of Linux.
pub fn failure(number: u32) -> io::Error {
    /// `ESHUTDOWN` of the protocol.
    const SHUTDOWN: u32 = 108;
    match number {
        SHUTDOWN => io::Error::new(io::ErrorKind::ConnectionAborted, "the server is shutting down"),
        1 | 5 | 12 | 22 | 28 | 75 | 95 => {
            io::Error::from_raw_os_error(i32::try_from(number).unwrap_or(libc::EIO))
        }
        // What the protocol does not list counts as EINVAL.
        _ => io::Error::from_raw_os_error(libc::EINVAL),
    }
}
