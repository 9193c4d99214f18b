//! What a new image is to be: its `-o` options as the library takes them.

pub mod encryption;

use anyhow::{Result, anyhow, bail};
use qcheck::ImageFormat;
use qcheck::create::{
    BackingName, Compression, CreateOptions, DataFile, NewImage, Preallocation, Version,
};
use qcheck::crypt::Secrets;

use super::nearest;
use super::options::Options;
use encryption::Given;

/// What a new image has from the start.
pub fn preallocation(given: &Options) -> Result<Preallocation> {
    let Some(name) = given.text("preallocation") else { return Ok(Preallocation::Off) };
    parse_preallocation(name).map_err(|error| anyhow!("preallocation: {error}"))
}

/// The same of a LUKS image, which has no metadata to preallocate.
pub fn luks_preallocation(given: &Options) -> Result<Preallocation> {
    Ok(match preallocation(given)? {
        Preallocation::Metadata => Preallocation::Off,
        other => other,
    })
}

/// A way to preallocate by its name.
pub fn parse_preallocation(name: &str) -> Result<Preallocation, String> {
    match name {
        "off" => Ok(Preallocation::Off),
        "metadata" => Ok(Preallocation::Metadata),
        "falloc" => Ok(Preallocation::Falloc),
        "full" => Ok(Preallocation::Full),
        _ => {
            let hint = nearest::hint(name, &["off", "metadata", "falloc", "full"]);
            Err(format!("'{name}' is not one of off, metadata, falloc, full{hint}"))
        }
    }
}

/// The version of the format, where it is given.
pub fn version(given: &Options) -> Result<Option<Version>> {
    Ok(match given.text("compat") {
        None => None,
        Some("1.1" | "v3") => Some(Version::V3),
        Some("0.10" | "v2") => Some(Version::V2),
        Some(other) => {
            let hint = nearest::hint(other, &["0.10", "v2", "1.1", "v3"]);
            // The beginning is qemu-img's.
            bail!("Unknown compatibility level {other}: compat is 0.10, v2, 1.1 or v3{hint}")
        }
    })
}

/// What a new qcow2 image is to be.
pub fn create_options(given: &Options) -> Result<CreateOptions> {
    let version = version(given)?.unwrap_or_default();
    let compression = match given.text("compression_type") {
        None | Some("zlib") => Compression::Zlib,
        Some("zstd") => Compression::Zstd,
        Some(other) => {
            let hint = nearest::hint(other, &["zlib", "zstd"]);
            bail!("compression_type: '{other}' is neither zlib nor zstd{hint}")
        }
    };
    let raw = given.switch("data_file_raw");
    let data_file = given.text("data_file").map(|name| DataFile { name: name.into(), raw });
    if raw && data_file.is_none() {
        bail!("data_file_raw needs data_file");
    }
    let backing = given.text("backing_file").filter(|name| !name.is_empty());
    let format = given.text("backing_fmt").unwrap_or_default();
    Ok(CreateOptions::default()
        .size(given.number("size").unwrap_or(0))
        .version(version)
        .cluster_bytes(given.number("cluster_size").unwrap_or(1 << 16))
        .refcount_bits(given.number("refcount_bits").unwrap_or(16))
        .lazy_refcounts(given.switch("lazy_refcounts"))
        .preallocation(preallocation(given)?)
        .compression(compression)
        .extended_l2(given.switch("extended_l2"))
        .data_file(data_file)
        .backing(backing.map(|name| BackingName { name: name.into(), format: format.into() })))
}

/// The new qcow2 image, with its encryption where it has one.
pub fn new_qcow2(given: &Options, secrets: &Secrets) -> Result<NewImage> {
    let options = create_options(given)?;
    Ok(match Given::of(given, ImageFormat::Qcow2)? {
        None => NewImage::new(&options)?,
        Some(encryption) => {
            // What does not fit together is refused before the time for the header is spent.
            NewImage::new(&options)?;
            NewImage::encrypted(&options, encryption.header(secrets)?)?
        }
    })
}
