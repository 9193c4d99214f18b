//! An image's layout and its disk's allocation as runs, for programs.

use std::borrow::Cow;
use std::io;

use qcheck::layout::GuestMap;
use qcheck::remote::without_secrets;
use serde::Serialize;

use super::space::Space;
use crate::cli::render::inspected::Inspected;
use crate::cli::render::json::document;
use crate::cli::render::json::stream::{Each, Sink};
use crate::cli::terminal::ui::Output;

/// The layout of a file and the allocation of its virtual disk.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub struct Layout<'a> {
    /// The image's name as it was given.
    filename: Cow<'a, str>,
    /// Bytes.
    file_length: u64,
    /// Bytes.
    cluster_size: u64,
    /// Bytes.
    virtual_size: u64,
    space: Space,
    /// The bytes of the file, in order and without gaps.
    file: Each<'a, FileRun>,
    /// The bytes of the virtual disk, in order and without gaps.
    guest: Each<'a, GuestRun>,
}

/// Bytes of the file with one role.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
struct FileRun {
    /// Host offset in bytes.
    offset: u64,
    /// Bytes.
    length: u64,
    /// What they are used for.
    kind: &'static str,
    /// Whether they are a hole in the file.
    hole: bool,
    /// Whether a finding is about them; left out where none is.
    #[serde(skip_serializing_if = "is_false")]
    touched_by_errors: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_false(flag: &bool) -> bool {
    !*flag
}

/// Bytes of the virtual disk in one state.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct GuestRun {
    /// Guest offset in bytes.
    offset: u64,
    /// Bytes.
    length: u64,
    /// How they are allocated.
    state: &'static str,
}

/// Prints one object.
pub fn print(out: &mut Output, image: &Inspected) -> io::Result<()> {
    let geometry = &image.survey.area.geometry;
    let shown = without_secrets(&image.path);
    let layout = Layout {
        filename: shown.to_string_lossy(),
        file_length: image.survey.file_bytes,
        cluster_size: geometry.cluster_bytes(),
        virtual_size: geometry.virtual_size(),
        space: Space::from(&image.layout()),
        file: Each::new(|sink| file(image, sink)),
        guest: Each::new(|sink| guest(image, sink)),
    };
    document::write(out, &layout)
}

/// Stops a walk whose result is no longer needed.
struct Enough;

fn file(image: &Inspected, sink: &mut Sink<'_, FileRun>) {
    let layout = image.layout();
    let _: Result<(), Enough> = layout.try_for_each(|run| {
        let (offset, length) = layout.bytes_of(&run);
        let (kind, hole, touched_by_errors) = (run.role.code(), run.hole, run.damaged);
        let run = FileRun { offset: offset.get(), length, kind, hole, touched_by_errors };
        if sink(run) { Ok(()) } else { Err(Enough) }
    });
}

fn guest(image: &Inspected, sink: &mut Sink<'_, GuestRun>) {
    let map = GuestMap::new(&image.storage, &image.survey);
    let _: Result<(), Enough> = map.try_for_each(|run| {
        let run = GuestRun { offset: run.offset, length: run.bytes, state: run.state.code() };
        if sink(run) { Ok(()) } else { Err(Enough) }
    });
}
