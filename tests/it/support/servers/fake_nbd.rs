//! An NBD server of literal numbers that keeps to the protocol unless a test has a fault for it.

use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

/// Read, write, flush, trim, write zeroes, block status.
pub const READ: u16 = 0;
pub const WRITE: u16 = 1;
pub const FLUSH: u16 = 3;
pub const TRIM: u16 = 4;
pub const ZEROES: u16 = 6;
pub const STATUS: u16 = 7;

/// What goes wrong, with the request that it begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// The reply has the cookie of no request.
    Cookie,
    /// The reply begins with other bytes.
    Magic,
    /// The connection ends in the middle of the data.
    Cut,
    /// The connection ends before the reply.
    Close,
    /// No reply comes.
    Hang,
    /// The end comes before all data has.
    Less,
    /// The same data comes twice.
    Twice,
    /// Data comes for bytes that were not requested.
    Outside,
    /// A chunk is announced that is larger than memory.
    Huge,
    /// The data comes in chunks of a sector, each after a pause.
    Drip,
    /// Chunks come that carry nothing, without an end.
    Endless,
    /// The server reports this error.
    Error(u32),
}

/// How a server is, where it keeps to the protocol.
#[derive(Debug, Clone, Copy)]
pub struct Manner {
    /// Replies are in chunks, and the last half of the data comes first.
    pub structured: bool,
    /// The option that ends the handshake and reports errors is known.
    pub has_go: bool,
    /// The transmission flags.
    pub flags: u16,
    /// Bytes that requests are made of.
    pub block: u32,
    /// The length that is announced, where it is another one than that of the content.
    pub bytes: Option<u64>,
    /// What goes wrong.
    pub fault: Fault,
    /// Which command it goes wrong with.
    pub command: u16,
    /// With how many of these before.
    pub after: usize,
}

/// Flush, FUA, trim and write zeroes.
pub const ALL_FLAGS: u16 = 1 | 4 | 8 | 32 | 64;

impl Default for Manner {
    fn default() -> Self {
        Self {
            structured: true,
            has_go: true,
            flags: ALL_FLAGS,
            block: 1,
            bytes: None,
            fault: Fault::None,
            command: READ,
            after: 0,
        }
    }
}

/// A request as it came: the flags, the command, the offset and the length.
pub type Seen = (u16, u16, u64, u32);

/// A server with its content.
#[derive(Debug)]
pub struct FakeNbd {
    folder: TempDir,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    manner: Manner,
    content: Mutex<Vec<u8>>,
    seen: Mutex<Vec<Seen>>,
}

impl FakeNbd {
    /// Serves these bytes until the value is dropped.
    pub fn start(content: Vec<u8>, manner: Manner) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("s")).unwrap();
        let (content, seen) = (Mutex::new(content), Mutex::default());
        let shared = Arc::new(Shared { manner, content, seen });
        let served = shared.clone();
        // It waits for clients until the process ends.
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let shared = served.clone();
                thread::spawn(move || shared.serve(client));
            }
        });
        Self { folder, shared }
    }

    /// The name of its export.
    pub fn name(&self) -> String {
        format!("nbd+unix:///x?socket={}", self.folder.path().join("s").display())
    }

    /// Its content now.
    pub fn content(&self) -> Vec<u8> {
        self.shared.content.lock().unwrap().clone()
    }

    /// The requests so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }
}

fn number<const N: usize>(client: &mut UnixStream) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    client.read_exact(&mut bytes)?;
    Ok(bytes)
}

impl Shared {
    fn serve(&self, mut client: UnixStream) -> io::Result<()> {
        self.shake_hands(&mut client)?;
        let mut requests = 0;
        loop {
            let head: [u8; 28] = number(&mut client)?;
            assert_eq!(head[..4], [0x25, 0x60, 0x95, 0x13]);
            let flags = u16::from_be_bytes([head[4], head[5]]);
            let command = u16::from_be_bytes([head[6], head[7]]);
            let cookie: [u8; 8] = head[8..16].try_into().unwrap();
            let offset = u64::from_be_bytes(head[16..24].try_into().unwrap());
            let length = u32::from_be_bytes(head[24..].try_into().unwrap());
            if command == 2 {
                return Ok(());
            }
            self.seen.lock().unwrap().push((flags, command, offset, length));
            let mut data = vec![0; if command == WRITE { length as usize } else { 0 }];
            client.read_exact(&mut data)?;
            let mut fault = Fault::None;
            if command == self.manner.command {
                requests += 1;
                fault = if requests > self.manner.after { self.manner.fault } else { fault };
            }
            let range = offset as usize..offset as usize + length as usize;
            match fault {
                Fault::Hang => thread::sleep(Duration::from_secs(3600)),
                Fault::Close => return Ok(()),
                Fault::Error(error) => self.refuse(&mut client, cookie, error)?,
                _ => self.answer(&mut client, (command, range, cookie), &data, fault)?,
            }
        }
    }

    fn shake_hands(&self, client: &mut UnixStream) -> io::Result<()> {
        client.write_all(b"NBDMAGICIHAVEOPT\0\x03")?;
        let _flags: [u8; 4] = number(client)?;
        loop {
            let head: [u8; 16] = number(client)?;
            assert_eq!(head[..8], *b"IHAVEOPT");
            let option = u32::from_be_bytes(head[8..12].try_into().unwrap());
            let mut data = vec![0; u32::from_be_bytes(head[12..].try_into().unwrap()) as usize];
            client.read_exact(&mut data)?;
            let mut reply = |kind: u32, data: &[u8]| {
                let mut message = 0x0003_e889_0455_65a9_u64.to_be_bytes().to_vec();
                message.extend(option.to_be_bytes());
                message.extend(kind.to_be_bytes());
                message.extend((data.len() as u32).to_be_bytes());
                message.extend(data);
                client.write_all(&message)
            };
            let bytes = self.content.lock().unwrap().len() as u64;
            let bytes = self.manner.bytes.unwrap_or(bytes).to_be_bytes();
            let export = [&bytes[..], &self.manner.flags.to_be_bytes()].concat();
            match option {
                1 => return client.write_all(&export),
                7 if self.manner.has_go => {
                    reply(3, &[&[0, 0], &export[..]].concat())?;
                    let sizes = [self.manner.block, 4096.max(self.manner.block), 1 << 20];
                    let sizes = sizes.map(u32::to_be_bytes).concat();
                    reply(3, &[&[0, 3], &sizes[..]].concat())?;
                    return reply(1, &[]);
                }
                8 if self.manner.structured => reply(1, &[])?,
                10 if self.manner.structured => {
                    reply(4, b"\0\0\0\x07base:allocation")?;
                    reply(1, &[])?;
                }
                _ => reply(0x8000_0001, b"what is that?")?,
            }
        }
    }

    /// The data of a reply to a read, and what a change changes.
    fn answer(
        &self,
        client: &mut UnixStream,
        (command, range, mut cookie): (u16, std::ops::Range<usize>, [u8; 8]),
        data: &[u8],
        fault: Fault,
    ) -> io::Result<()> {
        let mut content = self.content.lock().unwrap();
        let end = content.len();
        match command {
            READ if range.end > end => {
                drop(content);
                return self.refuse(client, cookie, 22);
            }
            WRITE => content[range.clone()].copy_from_slice(data),
            TRIM | ZEROES => content[range.clone()].fill(0),
            _ => {}
        }
        let payload = if command == READ { content[range.clone()].to_vec() } else { Vec::new() };
        let blocks = (command == STATUS).then(|| extents(&content, &range));
        drop(content);
        if fault == Fault::Cookie {
            cookie[0] ^= 0x80;
        }
        if fault == Fault::Magic {
            return client.write_all(&[0xee; 64]);
        }
        if !self.manner.structured {
            let head = [&0x6744_6698_u32.to_be_bytes()[..], &[0; 4], &cookie].concat();
            client.write_all(&head)?;
            let cut = if fault == Fault::Cut { payload.len() / 2 } else { payload.len() };
            client.write_all(&payload[..cut])?;
            return if fault == Fault::Cut {
                Err(io::ErrorKind::BrokenPipe.into())
            } else {
                Ok(())
            };
        }
        let chunk = |flags: u16, kind: u16, data: &[u8]| chunk(cookie, flags, kind, data);
        if let Some(blocks) = blocks {
            return client.write_all(&chunk(1, 5, &blocks));
        }
        if command != READ {
            return client.write_all(&chunk(1, 0, &[]));
        }
        let part = |from: usize, to: usize| {
            let at = ((range.start + from) as u64).to_be_bytes();
            [&at[..], &payload[from..to]].concat()
        };
        let (half, all) = (payload.len() / 2, payload.len());
        match fault {
            Fault::Cut => {
                let whole = chunk(1, 1, &part(0, all));
                client.write_all(&whole[..whole.len() / 2])?;
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            Fault::Less => client.write_all(&chunk(1, 1, &part(0, half)))?,
            Fault::Twice => {
                client.write_all(&chunk(0, 1, &part(0, all)))?;
                client.write_all(&chunk(1, 1, &part(0, all)))?;
            }
            Fault::Outside => {
                let mut wrong = part(0, all);
                wrong[..8].copy_from_slice(&(range.start as u64 + 1).to_be_bytes());
                client.write_all(&chunk(1, 1, &wrong))?;
            }
            Fault::Huge => {
                let mut wrong = chunk(1, 5, &[]);
                wrong[16..20].fill(0xff);
                client.write_all(&wrong)?;
            }
            Fault::Endless => loop {
                client.write_all(&chunk(0, 0, &[]))?;
            },
            Fault::Drip => {
                for at in (0..all).step_by(512) {
                    std::thread::sleep(std::time::Duration::from_millis(200));
                    client.write_all(&chunk(0, 1, &part(at, (at + 512).min(all))))?;
                }
                client.write_all(&chunk(1, 0, &[]))?;
            }
            _ => {
                if half > 0 {
                    client.write_all(&chunk(0, 1, &part(half, all)))?;
                    client.write_all(&chunk(0, 1, &part(0, half)))?;
                    client.write_all(&chunk(1, 0, &[]))?;
                } else {
                    client.write_all(&chunk(1, 1, &part(0, all)))?;
                }
            }
        }
        Ok(())
    }

    fn refuse(&self, client: &mut UnixStream, cookie: [u8; 8], error: u32) -> io::Result<()> {
        if !self.manner.structured {
            let head = [&0x6744_6698_u32.to_be_bytes()[..], &error.to_be_bytes(), &cookie].concat();
            return client.write_all(&head);
        }
        let text = b"\0\x02no";
        let data = [&error.to_be_bytes()[..], text].concat();
        client.write_all(&chunk(cookie, 1, 0x8001, &data))
    }
}

/// Allocation in blocks of 4096 bytes, after the number of the context.
fn extents(content: &[u8], range: &std::ops::Range<usize>) -> Vec<u8> {
    let mut out = 7_u32.to_be_bytes().to_vec();
    for block in content[range.start..range.end.min(content.len())].chunks(4096) {
        let state: u32 = if block.iter().all(|&byte| byte == 0) { 3 } else { 0 };
        out.extend((block.len() as u32).to_be_bytes());
        out.extend(state.to_be_bytes());
    }
    out
}

fn chunk(cookie: [u8; 8], flags: u16, kind: u16, data: &[u8]) -> Vec<u8> {
    let mut chunk = 0x668e_33ef_u32.to_be_bytes().to_vec();
    chunk.extend(flags.to_be_bytes());
    chunk.extend(kind.to_be_bytes());
    chunk.extend(cookie);
    chunk.extend((data.len() as u32).to_be_bytes());
    chunk.extend(data);
    chunk
}
