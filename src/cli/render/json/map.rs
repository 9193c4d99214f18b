//! An image's layout and its disk's allocation as runs, for programs.

use std::io;

use qcheck::layout::GuestMap;
use serde_json::json;

use super::document::{self, Object};
use super::metadata::space;
use super::stream::{Sink, Streamed};
use crate::cli::render::inspected::Inspected;
use crate::cli::terminal::ui::Output;

/// Prints one object.
pub fn print(out: &mut Output, image: &Inspected) -> io::Result<()> {
    let layout = image.layout();
    let geometry = &image.survey.area.geometry;
    let mut object = Streamed::default();
    object
        .set("filename", image.path.to_string_lossy().into_owned())
        .set("file-length", image.survey.file_bytes)
        .set("cluster-size", geometry.cluster_bytes())
        .set("virtual-size", geometry.virtual_size())
        .set("space", space(&layout))
        .each("file", |sink| file(image, sink))
        .each("guest", |sink| guest(image, sink));
    document::write(out, &object)
}

/// Stops a walk whose result nobody wants any more.
struct Enough;

fn file(image: &Inspected, sink: &mut Sink<'_>) {
    let layout = image.layout();
    let _: Result<(), Enough> = layout.try_for_each(|run| {
        let (offset, bytes) = layout.bytes_of(&run);
        let mut object = Object::default();
        object.set("offset", offset.get()).set("length", bytes).set("kind", run.role.code());
        object.set("hole", run.hole);
        if run.damaged {
            object.set("touched-by-errors", true);
        }
        if sink(object.into_value()) { Ok(()) } else { Err(Enough) }
    });
}

fn guest(image: &Inspected, sink: &mut Sink<'_>) {
    let map = GuestMap::new(&image.storage, &image.survey);
    let _: Result<(), Enough> = map.try_for_each(|run| {
        let (offset, bytes, state) = (run.offset, run.bytes, run.state.code());
        let value = json!({ "offset": offset, "length": bytes, "state": state });
        if sink(value) { Ok(()) } else { Err(Enough) }
    });
}
