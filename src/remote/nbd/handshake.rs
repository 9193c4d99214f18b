//! What client and server agree on before the first request.

use std::io::{self, Read, Write};

use super::address::Address;
use super::wire::{
    BASE_ALLOCATION, FIXED_NEWSTYLE, Fields, HAS_FLAGS, INFO_BLOCK_SIZE, INFO_EXPORT, INIT,
    NO_ZEROES, OPT_EXPORT_NAME, OPT_GO, OPT_SET_META_CONTEXT, OPT_STRUCTURED_REPLY, OPTION,
    OPTION_REPLY, REP_ACK, REP_ERR_POLICY, REP_ERR_SHUTDOWN, REP_ERR_TLS_REQD, REP_ERR_UNKNOWN,
    REP_ERR_UNSUP, REP_ERROR, REP_INFO, REP_META_CONTEXT, violation,
};
use crate::remote::stream::Stream;

/// Most bytes in an answer to an option: a text that explains an error has at most 4096.
const MAX_ANSWER: u32 = 8192;
/// Most answers to one option.
const MAX_ANSWERS: usize = 100;
/// Blocks where the server does not report any, by the protocol.
const BLOCKS: Blocks = Blocks { minimum: 1, maximum: 32 << 20 };
/// The largest unit that requests may have to be made of, by the protocol.
const MAX_MINIMUM: u32 = 64 << 10;

/// What requests have to be like, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blocks {
    /// Offsets and lengths are multiples of it, a power of two.
    pub minimum: u32,
    /// The most data in one request.
    pub maximum: u32,
}

/// What the server offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Agreed {
    /// Length of the export in bytes.
    pub bytes: u64,
    /// The transmission flags.
    pub flags: u16,
    pub blocks: Blocks,
    /// The number of the context of allocation, where the server has it.
    pub allocation: Option<u32>,
    /// Whether replies may be structured.
    pub structured: bool,
}

/// Agrees with the server on an export.
pub fn agree(stream: &mut Stream, address: &Address) -> io::Result<Agreed> {
    let flags = greeting(stream)?;
    let mut options = Options { stream, address };
    let structured = options.structured()?;
    let allocation = if structured { options.allocation()? } else { None };
    if let Some(agreed) = options.go()? {
        return Ok(Agreed { allocation, structured, ..agreed });
    }
    // A server without NBD_OPT_GO has the older option alone, which has no error.
    let mut head = [0; 10];
    options.send(OPT_EXPORT_NAME, address.export.as_bytes())?;
    stream.restart_clock();
    stream.read_exact(&mut head)?;
    if flags & NO_ZEROES == 0 {
        stream.read_exact(&mut [0; 124])?;
    }
    let mut fields = Fields(&head);
    let (bytes, flags) = (fields.u64()?, fields.u16()?);
    valid(Agreed { bytes, flags, blocks: BLOCKS, allocation, structured })
}

/// The greeting of both sides; returns the handshake flags.
fn greeting(stream: &mut Stream) -> io::Result<u16> {
    let mut head = [0; 18];
    stream.read_exact(&mut head[..16])?;
    let mut fields = Fields(&head[..16]);
    if fields.u64()? != INIT {
        return Err(violation("it begins with other bytes than NBDMAGIC"));
    }
    if fields.u64()? != OPTION {
        let why = "the server has only the oldstyle handshake, which is not supported";
        return Err(io::Error::new(io::ErrorKind::Unsupported, why));
    }
    stream.read_exact(&mut head[16..])?;
    let flags = Fields(&head[16..]).u16()?;
    if flags & FIXED_NEWSTYLE == 0 {
        let why = "the server does not have the fixed newstyle handshake";
        return Err(io::Error::new(io::ErrorKind::Unsupported, why));
    }
    let both = flags & (FIXED_NEWSTYLE | NO_ZEROES);
    stream.write_all(&u32::from(both).to_be_bytes())?;
    Ok(flags)
}

/// An answer to an option: its type and its data.
struct Answer {
    kind: u32,
    data: Vec<u8>,
}

struct Options<'a> {
    stream: &'a mut Stream,
    address: &'a Address,
}

impl Options<'_> {
    fn send(&mut self, option: u32, data: &[u8]) -> io::Result<()> {
        let mut message = OPTION.to_be_bytes().to_vec();
        message.extend(option.to_be_bytes());
        message.extend(length(data)?.to_be_bytes());
        message.extend(data);
        self.stream.restart_clock();
        self.stream.write_all(&message)
    }

    fn answer(&mut self, option: u32) -> io::Result<Answer> {
        let mut head = [0; 20];
        self.stream.restart_clock();
        self.stream.read_exact(&mut head)?;
        let mut fields = Fields(&head);
        let (magic, of, kind) = (fields.u64()?, fields.u32()?, fields.u32()?);
        let bytes = fields.u32()?;
        if magic != OPTION_REPLY || of != option {
            return Err(violation("the answer to an option is not one"));
        }
        if bytes > MAX_ANSWER {
            return Err(violation(format_args!("an answer of {bytes} bytes")));
        }
        let mut data = vec![0; bytes as usize];
        self.stream.read_exact(&mut data)?;
        Ok(Answer { kind, data })
    }

    /// All answers to an option up to the one that ends them, which is returned.
    fn answers(
        &mut self,
        option: u32,
        mut take: impl FnMut(&Answer) -> io::Result<()>,
    ) -> io::Result<Answer> {
        for _ in 0..MAX_ANSWERS {
            let answer = self.answer(option)?;
            if answer.kind == REP_ACK || answer.kind & REP_ERROR != 0 {
                return Ok(answer);
            }
            take(&answer)?;
        }
        Err(violation("more answers to an option than there can be"))
    }

    fn structured(&mut self) -> io::Result<bool> {
        self.send(OPT_STRUCTURED_REPLY, &[])?;
        let last = self.answers(OPT_STRUCTURED_REPLY, |_| Ok(()))?;
        match last.kind {
            REP_ERR_TLS_REQD => Err(self.refused(&last)),
            kind => Ok(kind == REP_ACK),
        }
    }

    /// The number of the context of allocation.
    fn allocation(&mut self) -> io::Result<Option<u32>> {
        let mut data = name(self.address)?;
        data.extend(1_u32.to_be_bytes());
        data.extend(length(BASE_ALLOCATION)?.to_be_bytes());
        data.extend(BASE_ALLOCATION);
        self.send(OPT_SET_META_CONTEXT, &data)?;
        let mut found = None;
        let last = self.answers(OPT_SET_META_CONTEXT, |answer| {
            let mut fields = Fields(&answer.data);
            if answer.kind == REP_META_CONTEXT {
                let number = fields.u32()?;
                if fields.0 == BASE_ALLOCATION {
                    found = Some(number);
                }
            }
            Ok(())
        })?;
        Ok(found.filter(|_| last.kind == REP_ACK))
    }

    /// Ends the handshake; `None` where the server does not have this option.
    fn go(&mut self) -> io::Result<Option<Agreed>> {
        let mut data = name(self.address)?;
        data.extend(1_u16.to_be_bytes());
        data.extend(INFO_BLOCK_SIZE.to_be_bytes());
        self.send(OPT_GO, &data)?;
        let (mut export, mut blocks) = (None, BLOCKS);
        let last = self.answers(OPT_GO, |answer| {
            let mut fields = Fields(&answer.data);
            if answer.kind != REP_INFO {
                return Ok(());
            }
            match fields.u16()? {
                INFO_EXPORT => export = Some((fields.u64()?, fields.u16()?)),
                INFO_BLOCK_SIZE => {
                    let (minimum, _preferred) = (fields.u32()?, fields.u32()?);
                    blocks = Blocks { minimum, maximum: fields.u32()? };
                }
                _ => {}
            }
            Ok(())
        })?;
        match (last.kind, export) {
            (REP_ACK, Some((bytes, flags))) => {
                let agreed = Agreed { bytes, flags, blocks, allocation: None, structured: false };
                valid(agreed).map(Some)
            }
            (REP_ACK, None) => Err(violation("it does not report the length of the export")),
            (REP_ERR_UNSUP, _) => Ok(None),
            _ => Err(self.refused(&last)),
        }
    }

    /// The error of an option that was refused. The server's own words are of an untrusted length
    /// and content, so that they are cut and have no control characters.
    fn refused(&self, answer: &Answer) -> io::Error {
        let export = self.address.export.escape_debug();
        let (kind, why) = match answer.kind {
            // QEMU's words.
            REP_ERR_UNKNOWN => {
                (io::ErrorKind::NotFound, format!("Requested export not available: '{export}'"))
            }
            REP_ERR_TLS_REQD => {
                (io::ErrorKind::PermissionDenied, "the server requires TLS".to_owned())
            }
            REP_ERR_POLICY => {
                (io::ErrorKind::PermissionDenied, format!("the export '{export}' is denied"))
            }
            REP_ERR_SHUTDOWN => {
                (io::ErrorKind::ConnectionRefused, "the server is shutting down".to_owned())
            }
            other => {
                let number = other & !REP_ERROR;
                (io::ErrorKind::Other, format!("the server refused with NBD error {number}"))
            }
        };
        let said = String::from_utf8_lossy(&answer.data);
        let said: String = said.chars().take(200).filter(|c| !c.is_control()).collect();
        let said = if said.is_empty() { said } else { format!(" (server: {said})") };
        io::Error::new(kind, why + &said)
    }
}

/// The name of the export after its length.
fn name(address: &Address) -> io::Result<Vec<u8>> {
    let name = address.export.as_bytes();
    Ok([&length(name)?.to_be_bytes(), name].concat())
}

fn length(data: &[u8]) -> io::Result<u32> {
    u32::try_from(data.len()).map_err(|_| io::ErrorKind::InvalidInput.into())
}

/// Refuses what no server may report.
fn valid(agreed: Agreed) -> io::Result<Agreed> {
    let Blocks { minimum, maximum } = agreed.blocks;
    if !minimum.is_power_of_two() || minimum > MAX_MINIMUM || maximum < minimum {
        return Err(violation(format_args!("blocks of {minimum} to {maximum} bytes")));
    }
    if agreed.flags & HAS_FLAGS == 0 {
        return Err(violation("the flags of the export are missing"));
    }
    if i64::try_from(agreed.bytes).is_err() {
        return Err(violation(format_args!("an export of {} bytes", agreed.bytes)));
    }
    Ok(agreed)
}
