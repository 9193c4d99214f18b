//! Opens the backing file of an image, and through it that one's.

use crate::chain::{Below, Format, Link, Walk};
use crate::error::{Error, Result};
use crate::format::probe::ImageFormat;
use crate::image::options::{BackingPolicy, OpenOptions};
use crate::image::raw::RawImage;
use crate::image::{Backing, Image};
use crate::tables::HeaderArea;

/// Opens the backing file of the image with this header, if there is one.
pub(super) fn open(
    area: &HeaderArea,
    options: &OpenOptions,
    walk: &mut Walk<'_>,
) -> Result<Option<Backing>> {
    let named = || Link::of(area, options.path.as_deref());
    let recorded = || area.backing_format().map(String::from_utf8_lossy);
    let link = match &options.backing {
        BackingPolicy::Instead(path, format) => Some(Link::new(path.clone(), format)),
        BackingPolicy::Leave | BackingPolicy::Layers(0) if area.header.backing_name_offset != 0 => {
            return Ok(Some(Backing::Closed));
        }
        BackingPolicy::Described(Below::Nothing) => None,
        BackingPolicy::Described(Below::Image(described)) => {
            let link = Link::described((**described).clone(), None)?;
            Some(match recorded() {
                Some(format) => link.or_format(&format),
                None => link,
            })
        }
        BackingPolicy::AsNamedOr(format) => named()?.map(|link| link.or_format(format)),
        BackingPolicy::AsNamed | BackingPolicy::Leave | BackingPolicy::Layers(_) => named()?,
    };
    let Some(link) = link else { return Ok(None) };
    let below = open_link(link, options, walk);
    below.map(Some).map_err(|error| Error::OpenBelow { role: "backing file", source: error.into() })
}

fn open_link(link: Link, options: &OpenOptions, walk: &mut Walk<'_>) -> Result<Backing> {
    walk.enter(&link.path)?;
    let source = link.open(walk.opener())?;
    let format = link.format(source.as_ref())?;
    link.instead.require_for(&format)?;
    let Link { path, key_secret, instead, .. } = link;
    match format {
        Format::Raw => Ok(Backing::Raw(RawImage::part(source, Some(path), instead.part)?)),
        Format::Qcow2 => {
            let below = OpenOptions {
                path: Some(path),
                key: options.key.renamed(key_secret),
                ..OpenOptions::below(options)
            };
            let below = below.with(instead);
            Ok(Backing::Qcow2(Box::new(Image::open_in_chain(source, &below, walk)?)))
        }
        Format::Other(name) if name == ImageFormat::LUKS.name() => {
            let key = options.key.renamed(key_secret);
            Ok(Backing::Raw(RawImage::luks(source, Some(path), &key)?))
        }
        Format::Other(name) => Err(Error::Unsupported(format!(
            "the format '{}' of the backing file is not supported (raw and qcow2 are)",
            name.escape_debug()
        ))),
    }
}
