//! Decompressing a cluster, apart from the code under test.

/// Decompresses a cluster; `None` where that gives another number of bytes.
pub fn inflate(input: &[u8], output: &mut [u8], zstd: bool) -> Option<()> {
    if zstd {
        let mut decoder = zstd::stream::raw::Decoder::new().ok()?;
        let (mut read, mut written) = (0, 0);
        while written < output.len() && read < input.len() {
            use zstd::stream::raw::Operation;
            let step = decoder.run_on_buffers(&input[read..], &mut output[written..]).ok()?;
            if step.bytes_read == 0 && step.bytes_written == 0 {
                return None;
            }
            read += step.bytes_read;
            written += step.bytes_written;
        }
        return (written == output.len()).then_some(());
    }
    let mut stream = flate2::Decompress::new(false);
    stream.decompress(input, output, flate2::FlushDecompress::Finish).ok()?;
    (stream.total_out() == output.len() as u64).then_some(())
}
