//! A deflate encoder with search parameters of its own.
//!
//! The C interface of zlib-rs is the only one with `deflateTune`, so this file has unsafe code.

#![allow(unsafe_code)]

use std::ffi::{c_int, c_uint};

use libz_rs_sys::{
    Z_DEFAULT_STRATEGY, Z_DEFLATED, Z_FINISH, Z_OK, Z_STREAM_END, deflate, deflateEnd,
    deflateInit2_, deflateReset, deflateTune, z_stream, zlibVersion,
};

/// QEMU decompresses with a window of 4 KiB. Negative: without a header and a checksum.
const WINDOW_BITS: c_int = -12;
/// The default of zlib.
const MEMORY_LEVEL: c_int = 8;

/// How long the encoder searches for a match at one offset: the parameters of `deflateTune`.
#[derive(Clone, Copy)]
pub(super) struct Search {
    /// Bytes of a match from which the search for a longer one is a quarter as long.
    pub(super) good_length: u16,
    /// Bytes of a match from which the next offset is not searched.
    pub(super) max_lazy: u16,
    /// Bytes of a match that end the search.
    pub(super) nice_length: u16,
    /// Candidates that are compared at most.
    pub(super) max_chain: u16,
}

/// An encoder of raw deflate streams, one after the other.
pub(super) struct Encoder {
    stream: Box<z_stream>,
    search: Option<Search>,
}

impl Encoder {
    /// An encoder of a level from 1 to 9. `None`: no memory.
    pub(super) fn new(level: u8, search: Option<Search>) -> Option<Self> {
        let mut stream = Box::<z_stream>::default();
        let size = c_int::try_from(size_of::<z_stream>()).ok()?;
        let (level, strategy) = (level.into(), Z_DEFAULT_STRATEGY);
        // SAFETY: the stream is a valid `z_stream` without a state, and the size is its own.
        let status = unsafe {
            let version = zlibVersion();
            deflateInit2_(
                &mut *stream,
                level,
                Z_DEFLATED,
                WINDOW_BITS,
                MEMORY_LEVEL,
                strategy,
                version,
                size,
            )
        };
        (status == Z_OK).then_some(Self { stream, search })
    }

    /// A whole stream, if there is space for it. After `None` the encoder is not used again.
    pub(super) fn encode(&mut self, bytes: &[u8], space: &mut [u8]) -> Option<usize> {
        let stream = &mut *self.stream;
        let free = c_uint::try_from(space.len()).ok()?;
        // SAFETY: `new` made the state of the stream.
        if unsafe { deflateReset(stream) } != Z_OK {
            return None;
        }
        // A reset puts the parameters of the level back.
        if let Some(Search { good_length, max_lazy, nice_length, max_chain }) = self.search {
            let [good, lazy, nice, chain] =
                [good_length, max_lazy, nice_length, max_chain].map(c_int::from);
            // SAFETY: as above.
            unsafe { deflateTune(stream, good, lazy, nice, chain) };
        }
        stream.avail_in = c_uint::try_from(bytes.len()).ok()?;
        stream.avail_out = free;
        stream.next_in = bytes.as_ptr().cast_mut();
        stream.next_out = space.as_mut_ptr();
        // SAFETY: as above; the pointers and lengths are those of two slices, of which the first is
        // only read, and the stream keeps neither after this call: the state has copies.
        let status = unsafe { deflate(stream, Z_FINISH) };
        stream.next_in = std::ptr::null_mut();
        stream.next_out = std::ptr::null_mut();
        (status == Z_STREAM_END).then(|| space.len() - stream.avail_out as usize)
    }
}

impl Drop for Encoder {
    fn drop(&mut self) {
        // SAFETY: `new` made the state of the stream, and nothing uses it after this.
        unsafe { deflateEnd(&mut *self.stream) };
    }
}
