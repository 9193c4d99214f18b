//! An export as a storage of fixed length.

use std::io;
use std::ops::Range;
use std::sync::{PoisonError, RwLock};

use super::address::Address;
use super::allocation::{self, Allocation, Next};
use super::channel::Channel;
use super::handshake::{Agreed, agree};
use super::wire::{
    Command, READ_ONLY, Request, SEND_FLUSH, SEND_FUA, SEND_TRIM, SEND_WRITE_ZEROES,
};
use crate::remote::settings::Settings;
use crate::remote::stream::Stream;
use crate::storage::{Capacity, ReadAt, Storage};

/// Data of one request: more are sent before the first is answered.
const PIECE: u32 = 1 << 20;
/// Requests of one read or write that wait for their answers at the same time.
const IN_FLIGHT: usize = 8;
/// Zeroes that are requested at once; a server that writes them needs a moment for each.
const ZEROES: u32 = 128 << 20;
/// Bytes whose allocation is looked up at once.
const STATUS: u32 = 1 << 30;

/// An export that is open. All methods may be called from several threads at once; their requests
/// share one connection and are in flight at the same time.
#[derive(Debug)]
pub struct Export {
    channel: Channel,
    agreed: Agreed,
    bytes: u64,
    allocation: Allocation,
    /// A write of parts of blocks reads and writes whole ones, alone.
    blocks: RwLock<()>,
}

impl Export {
    /// Connects to an export, for reading or also for writing.
    ///
    /// Fails with the error of the connection, with [`io::ErrorKind::NotFound`] where the server
    /// has no such export, with [`io::ErrorKind::PermissionDenied`] where it may not be used or
    /// written, with [`io::ErrorKind::TimedOut`], and with [`io::ErrorKind::InvalidData`] where the
    /// server does not keep to the protocol.
    pub fn open(address: &Address, write: bool, settings: Settings) -> io::Result<Self> {
        let mut stream = Stream::connect(&address.server, settings.timeout)?;
        let agreed = agree(&mut stream, address)?;
        if write && agreed.flags & READ_ONLY != 0 {
            let why = "the export is read-only";
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
        }
        // A last part of a block cannot be reached.
        let bytes = agreed.bytes & !(u64::from(agreed.blocks.minimum) - 1);
        log::info!("{}: {agreed:?}", address.name());
        Ok(Self {
            channel: Channel::new(stream, agreed.structured)?,
            agreed,
            bytes,
            allocation: Allocation::default(),
            blocks: RwLock::new(()),
        })
    }

    fn can(&self, flag: u16) -> bool {
        self.agreed.flags & flag != 0
    }

    /// Whole blocks that have all of a range in them.
    fn outward(&self, range: &Range<u64>) -> Range<u64> {
        let mask = u64::from(self.agreed.blocks.minimum) - 1;
        range.start & !mask..(range.end + mask) & !mask
    }

    /// Whole blocks within a range; empty where there are none.
    fn inward(&self, range: &Range<u64>) -> Range<u64> {
        let mask = u64::from(self.agreed.blocks.minimum) - 1;
        let (start, end) = ((range.start + mask) & !mask, range.end & !mask);
        start..end.max(start)
    }

    /// Parts of a range of whole blocks, each of at most `most` bytes.
    fn pieces(&self, range: Range<u64>, most: u32) -> impl Iterator<Item = (u64, u32)> + use<> {
        let most = u64::from((most & !(self.agreed.blocks.minimum - 1)).max(1));
        let mut at = range.start;
        std::iter::from_fn(move || {
            let bytes = (range.end.saturating_sub(at)).min(most);
            let piece = (at, u32::try_from(bytes).ok().filter(|&bytes| bytes > 0)?);
            at += bytes;
            Some(piece)
        })
    }

    fn request(&self, command: Command, (offset, length): (u64, u32)) -> Request {
        // Without a flush the writes themselves have to be durable.
        let writes = matches!(command, Command::Write | Command::WriteZeroes | Command::Trim);
        let fua = writes && !self.can(SEND_FLUSH) && self.can(SEND_FUA);
        Request { command, fua, offset, length }
    }

    /// Sends the requests for all pieces, some of them before the first is answered, and hands on
    /// each answer in the order of the pieces.
    fn pipeline<'d>(
        &self,
        command: Command,
        pieces: impl Iterator<Item = (u64, u32)>,
        data: impl Fn((u64, u32)) -> &'d [u8],
        mut take: impl FnMut((u64, u32), Vec<u8>),
    ) -> io::Result<()> {
        let failed = |error: io::Error| named(command, error);
        let mut sent = std::collections::VecDeque::new();
        let mut outcome = Ok(());
        let mut receive = |sent: &mut std::collections::VecDeque<_>| match sent.pop_front() {
            Some((piece, one)) => self.channel.receive(one).map(|data| take(piece, data)),
            None => Ok(()),
        };
        for piece in pieces {
            if sent.len() >= IN_FLIGHT {
                outcome = receive(&mut sent);
            }
            if outcome.is_err() {
                break;
            }
            match self.channel.send(self.request(command, piece), data(piece)) {
                Ok(one) => sent.push_back((piece, one)),
                Err(error) => outcome = Err(error),
            }
        }
        // What was sent is answered, whatever failed before.
        while !sent.is_empty() {
            outcome = outcome.and(receive(&mut sent));
        }
        outcome.map_err(failed)
    }

    /// Reads a range of whole blocks.
    fn read_blocks(&self, range: Range<u64>, mut take: impl FnMut(u64, &[u8])) -> io::Result<()> {
        let pieces = self.pieces(range, PIECE.min(self.agreed.blocks.maximum));
        self.pipeline(Command::Read, pieces, |_| &[], |piece, data| take(piece.0, &data))
    }

    /// Writes whole blocks.
    fn write_blocks(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let pieces =
            self.pieces(offset..offset + data.len() as u64, PIECE.min(self.agreed.blocks.maximum));
        let part = |(at, bytes): (u64, u32)| {
            let from = usize::try_from(at - offset).unwrap_or(usize::MAX);
            data.get(from..).and_then(|rest| rest.get(..bytes as usize)).unwrap_or_default()
        };
        self.pipeline(Command::Write, pieces, part, |_, _| {})
    }

    /// The range of an access that changes the export.
    fn changed(&self, offset: u64, length: u64) -> io::Result<Range<u64>> {
        let end = offset.checked_add(length).filter(|&end| end <= self.bytes);
        let full = || io::Error::from_raw_os_error(libc::ENOSPC);
        let range = offset..end.ok_or_else(full)?;
        self.allocation.forget();
        Ok(range)
    }

    /// Runs a change; a report of allocation that comes meanwhile is not kept.
    fn change<T>(&self, change: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let outcome = change();
        self.allocation.forget();
        outcome
    }

    /// Requests a change without data for a range of whole blocks; `false`: the server does not
    /// support it after all.
    fn change_blocks(&self, command: Command, range: Range<u64>) -> io::Result<bool> {
        let pieces = self.pieces(range, ZEROES);
        match self.change(|| self.pipeline(command, pieces, |_| &[], |_, _| {})) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn write_zero_buffers(&self, range: &Range<u64>) -> io::Result<()> {
        let zeroes = vec![0; PIECE as usize];
        let mut at = range.start;
        while at < range.end {
            let left = usize::try_from(range.end - at).unwrap_or(usize::MAX);
            let part = &zeroes[..left.min(zeroes.len())];
            self.write_at(at, part)?;
            at += part.len() as u64;
        }
        Ok(())
    }

    /// Asks the server what follows an offset, and keeps what it reports.
    fn ask(&self, context: u32, offset: u64) -> io::Result<Option<Next>> {
        let end = offset.saturating_add(u64::from(STATUS)).min(self.bytes);
        let range = self.outward(&(offset..end));
        let writes = self.allocation.writes();
        let length = u32::try_from(range.end - range.start).unwrap_or(STATUS);
        let request = self.request(Command::BlockStatus, (range.start, length));
        let report = self.channel.call(request, &[]);
        let report = report.map_err(|error| named(Command::BlockStatus, error))?;
        let extents = allocation::extents(&report, context, &range)?;
        let next = allocation::next(&extents, offset);
        self.allocation.learn(extents, writes);
        Ok(next)
    }
}

/// An error of the server with what was requested; one of the connection stands alone.
fn named(command: Command, error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(_) => {
            let why = crate::error::cause(&error);
            let action = command.action();
            io::Error::new(error.kind(), format!("the NBD server could not {action}: {why}"))
        }
        None => error,
    }
}

impl ReadAt for Export {
    fn len(&self) -> io::Result<u64> {
        Ok(self.bytes)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let inside = self.bytes.saturating_sub(offset).min(buf.len() as u64);
        if inside == 0 {
            return Ok(0);
        }
        let wanted = offset..offset + inside;
        self.read_blocks(self.outward(&wanted), |at, data| {
            let part = at.max(wanted.start)..(at + data.len() as u64).min(wanted.end);
            let index = |of: u64, base: u64| usize::try_from(of - base).unwrap_or(usize::MAX);
            if part.start < part.end {
                let to = index(part.start, offset)..index(part.end, offset);
                buf[to].copy_from_slice(&data[index(part.start, at)..index(part.end, at)]);
            }
        })?;
        Ok(usize::try_from(inside).unwrap_or(buf.len()))
    }

    fn is_remote(&self) -> bool {
        true
    }

    fn failure(&self) -> Option<io::Error> {
        self.channel.failure()
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<Range<u64>>> {
        let mut at = offset;
        while at < self.bytes {
            let Some(context) = self.agreed.allocation else { return Ok(Some(at..self.bytes)) };
            let next = match self.allocation.next(at) {
                Some(Next::ZeroesTo(_)) | None => match self.ask(context, at) {
                    Ok(next) => next,
                    // A server may refuse this alone; whatever it has may be data.
                    Err(error)
                        if matches!(
                            error.kind(),
                            io::ErrorKind::Unsupported | io::ErrorKind::InvalidInput
                        ) =>
                    {
                        None
                    }
                    Err(error) => return Err(error),
                },
                known => known,
            };
            match next {
                Some(Next::Data(range)) => return Ok(Some(range)),
                Some(Next::ZeroesTo(end)) => at = end,
                None => return Ok(Some(at..self.bytes)),
            }
        }
        Ok(None)
    }
}

impl Storage for Export {
    fn capacity(&self) -> Capacity {
        Capacity::Fixed(self.bytes)
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let range = self.changed(offset, data.len() as u64)?;
        let whole = self.outward(&range);
        if whole == range {
            let _shared = self.blocks.read().unwrap_or_else(PoisonError::into_inner);
            return self.change(|| self.write_blocks(offset, data));
        }
        let _alone = self.blocks.write().unwrap_or_else(PoisonError::into_inner);
        let bytes = usize::try_from(whole.end - whole.start).map_err(io::Error::other)?;
        let mut blocks = vec![0; bytes];
        self.read_exact_at(whole.start, &mut blocks)?;
        let from = usize::try_from(offset - whole.start).map_err(io::Error::other)?;
        blocks[from..from + data.len()].copy_from_slice(data);
        self.change(|| self.write_blocks(whole.start, &blocks))
    }

    /// An export accepts only the length that it has.
    fn set_len(&self, len: u64) -> io::Result<()> {
        match len == self.bytes {
            true => Ok(()),
            false => Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "the length of an NBD export cannot be changed",
            )),
        }
    }

    /// Without a flush on the server, writes are durable by themselves as far as they can be.
    fn sync(&self) -> io::Result<()> {
        if !self.can(SEND_FLUSH) {
            return Ok(());
        }
        let flush = self.request(Command::Flush, (0, 0));
        self.channel.call(flush, &[]).map(drop).map_err(|error| named(Command::Flush, error))
    }

    fn discard(&self, offset: u64, length: u64) -> io::Result<()> {
        let range = self.inward(&self.changed(offset, length)?);
        if self.can(SEND_TRIM) && !range.is_empty() {
            self.change_blocks(Command::Trim, range)?;
        }
        Ok(())
    }

    /// An export has its space, or the server allocates it when it is written.
    fn allocate(&self, offset: u64, length: u64) -> io::Result<()> {
        self.changed(offset, length).map(drop)
    }

    fn write_zeroes(&self, offset: u64, length: u64) -> io::Result<()> {
        let range = self.changed(offset, length)?;
        let inner = self.inward(&range);
        if !self.can(SEND_WRITE_ZEROES) || inner.is_empty() {
            return self.write_zero_buffers(&range);
        }
        let is_zeroed = {
            let _shared = self.blocks.read().unwrap_or_else(PoisonError::into_inner);
            self.change_blocks(Command::WriteZeroes, inner.clone())?
        };
        if !is_zeroed {
            return self.write_zero_buffers(&range);
        }
        self.write_zero_buffers(&(range.start..inner.start))?;
        self.write_zero_buffers(&(inner.end..range.end))
    }
}
