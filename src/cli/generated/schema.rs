//! The schemas of all documents, generated from their types.

use std::path::{Path, PathBuf};

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema};

use super::compare_or_write;
use crate::cli::render::json::checked::verdict;
use crate::cli::render::json::described::{image, layout, metadata};
use crate::cli::render::json::{compacted, extents, losses, measured, sarif};

/// The schema of what a program prints as a `T`.
fn schema<T: JsonSchema>(name: &str, title: &str) -> (PathBuf, Vec<u8>) {
    let generator = SchemaSettings::draft2020_12().for_serialize().into_generator();
    let mut schema: Schema = generator.into_root_schema_for::<T>();
    schema.insert("title".into(), title.into());
    let mut text = serde_json::to_string_pretty(&schema).unwrap();
    text.push('\n');
    (Path::new("docs/schema").join(format!("{name}.json")), text.into_bytes())
}

/// One for each document, by the name of its file.
fn schemas() -> Vec<(PathBuf, Vec<u8>)> {
    vec![
        schema::<verdict::Alone<'_>>("check", "qcheck check --output json, of one image"),
        schema::<verdict::Digested<'_>>(
            "check-digest",
            "qcheck check --digest --output json, of one raw image",
        ),
        schema::<Vec<verdict::OneOfMany<'_>>>(
            "check-many",
            "qcheck check --output json, of several images",
        ),
        schema::<verdict::OneOfMany<'_>>("check-line", "A line of qcheck check --output ndjson"),
        schema::<sarif::Log>("check-sarif", "qcheck check --output sarif"),
        schema::<losses::Losses<'_>>("convert", "qcheck convert --output json"),
        schema::<image::Image<'_>>("info", "qcheck info --output json"),
        schema::<Vec<image::Image<'_>>>("info-chain", "qcheck info --backing-chain --output json"),
        schema::<layout::Layout<'_>>("info-layout", "qcheck info --layout --output json"),
        schema::<metadata::Metadata<'_>>("info-metadata", "qcheck info --metadata --output json"),
        schema::<Vec<extents::Extent>>("map", "qcheck map --output json"),
        schema::<compacted::Compacted>("compact", "qcheck compact --output json"),
        schema::<measured::Measured>("measure", "qcheck measure --output json"),
        schema::<Vec<image::Snapshot<'_>>>("snapshot", "qcheck snapshot -l --output json"),
    ]
}

#[test]
fn the_schemas_are_up_to_date() {
    compare_or_write(schemas());
}
