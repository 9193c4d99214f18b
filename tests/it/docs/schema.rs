//! What programs read is as in `docs/schema/`: real output of every command that prints JSON.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::programs::oracle::Scratch;

/// A published schema, made strict: a key that it does not have is an error.
fn strict(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/schema").join(name);
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut schema = serde_json::from_str(&text).expect("a schema is JSON");
    close(&mut schema);
    schema
}

/// Forbids keys that are not described.
fn close(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            map.values_mut().for_each(close);
            // The properties of an object, not a property of this name.
            let describes = map.get("properties").is_some_and(|p| p.is_object());
            if describes && map.get("type").is_some_and(|t| t == "object") {
                map.entry("additionalProperties").or_insert(Value::Bool(false));
            }
        }
        Value::Array(list) => list.iter_mut().for_each(close),
        _ => {}
    }
}

/// The output of a command, valid by a schema.
fn valid(scratch: &Scratch, schema: &str, args: &[&str]) -> Value {
    let ran = scratch.qcheck(args);
    assert!(!ran.out.is_empty(), "{args:?}: {}", ran.err);
    let value: Value = serde_json::from_str(&ran.out).expect("it prints JSON");
    assert_valid(schema, &value, args);
    value
}

fn assert_valid(schema: &str, value: &Value, args: &[&str]) {
    let validator = jsonschema::validator_for(&strict(schema)).expect("a schema is valid");
    let errors: Vec<String> = validator
        .iter_errors(value)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{args:?} by {schema}: {}\n{value:#}", errors.join("\n"));
}

/// A folder with images of every kind that real qemu-img makes, and damaged ones.
fn images() -> Scratch {
    let scratch = Scratch::new();
    let make = |args: &[&str]| drop(scratch.qemu_img(args).success());
    make(&["create", "-q", "-f", "raw", "raw", "1M"]);
    make(&["create", "-q", "-f", "qcow2", "base.qcow2", "8M"]);
    make(&["create", "-q", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", "top.qcow2"]);
    make(&["snapshot", "-c", "before", "top.qcow2"]);
    make(&["bitmap", "--add", "top.qcow2", "changes"]);
    make(&["create", "-q", "-f", "qcow2", "-o", "compat=0.10", "old.qcow2", "8M"]);
    make(&["create", "-q", "-f", "qcow2", "-o", "data_file=data.raw", "outside.qcow2", "8M"]);
    make(&[
        "create",
        "-q",
        "-f",
        "qcow2",
        "--object",
        "secret,id=key,data=secret",
        "-o",
        "encrypt.format=luks,encrypt.key-secret=key,encrypt.iter-time=10",
        "locked.qcow2",
        "1M",
    ]);
    for name in STORED {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name);
        scratch.write(name, &fs::read(from).expect("an image of the tests"));
    }
    scratch.write("garbage.qcow2", b"QFI\xfb\0\0\0\x03 and nothing else");
    scratch
}

/// Images of the repository.
const STORED: [&str; 6] = [
    "damaged.qcow2",
    "leaks.qcow2",
    "bitmaps.qcow2",
    "snapshots.qcow2",
    "subclusters.qcow2",
    "zstd.qcow2",
];

/// Images that [`images`] makes.
const MADE: [&str; 5] = ["base.qcow2", "top.qcow2", "old.qcow2", "outside.qcow2", "locked.qcow2"];

fn qcow2() -> Vec<&'static str> {
    [&MADE[..], &STORED].concat()
}

#[test]
fn the_output_of_check_is_valid_by_its_schemas() {
    let scratch = images();
    for image in qcow2() {
        valid(&scratch, "check.json", &["check", "--output", "json", "--explain", image]);
        valid(&scratch, "check.json", &["check", "--output", "json", "--live", image]);
    }
    let limited = ["check", "--output", "json", "--max-findings", "1", "damaged.qcow2"];
    assert!(valid(&scratch, "check.json", &limited)["findings-omitted"].is_u64());
    let denied = ["check", "--output", "json", "--policy", "untrusted", "top.qcow2"];
    assert!(valid(&scratch, "check.json", &denied)["violations"].is_array());
    let digest = ["check", "--output", "json", "--digest", "sha256", "top.qcow2"];
    assert!(valid(&scratch, "check.json", &digest)["snapshots"][0]["digest"].is_object());
    let raw = ["check", "--output", "json", "--digest", "blake3", "raw"];
    valid(&scratch, "check-digest.json", &raw);
    let all = [&qcow2()[..], &["raw", "garbage.qcow2", "missing"]].concat();
    let many = [&["check", "--output", "json", "--deny", "snapshots"], &all[..]].concat();
    let many = valid(&scratch, "check-many.json", &many);
    let verdicts = many.as_array().expect("a list").iter().map(|one| one["verdict"].as_str());
    let verdicts: BTreeSet<_> = verdicts.map(|verdict| verdict.expect("a word")).collect();
    assert_eq!(verdicts.len(), 6, "{verdicts:?}");
    let lines = [&["check", "--output", "ndjson"], &all[..]].concat();
    let ran = scratch.qcheck(&lines);
    assert_eq!(ran.out.lines().count(), all.len());
    for line in ran.out.lines() {
        assert_valid("check-line.json", &serde_json::from_str(line).unwrap(), &lines);
    }
    let sarif = [&["check", "--output", "sarif", "--deny", "snapshots"], &all[..]].concat();
    valid(&scratch, "check-sarif.json", &sarif);
}

#[test]
fn the_output_of_a_repair_and_of_its_plan_is_valid_by_the_schema() {
    let scratch = images();
    let plan = ["check", "-r", "all", "--dry-run", "--output", "json", "damaged.qcow2"];
    let plan = valid(&scratch, "check.json", &plan);
    assert!(plan["plan"]["stages"][0]["writes"][0]["offset"].is_u64());
    let repair = ["check", "-r", "all", "--output", "json", "damaged.qcow2"];
    assert!(valid(&scratch, "check.json", &repair)["corruptions-fixed"].is_u64());
    let mut bytes = fs::read(scratch.path().join("base.qcow2")).unwrap();
    bytes[..104].fill(0);
    scratch.write("lost.qcow2", &bytes);
    let lost = "check -f qcow2 -r all --allow-data-loss --hint-size 8M --output json lost.qcow2";
    let lost: Vec<&str> = lost.split(' ').collect();
    assert!(valid(&scratch, "check.json", &lost)["rebuilt-header"].is_object());
}

#[test]
fn the_output_of_info_is_valid_by_its_schemas() {
    let scratch = images();
    for image in [&qcow2()[..], &["raw"]].concat() {
        valid(&scratch, "info.json", &["info", "--output", "json", image]);
        let chain = ["info", "--backing-chain", "--output", "json", image];
        valid(&scratch, "info-chain.json", &chain);
    }
    for image in qcow2() {
        valid(&scratch, "info-layout.json", &["info", "--layout", "--output", "json", image]);
        let metadata = ["info", "--metadata", "--output", "json", image];
        valid(&scratch, "info-metadata.json", &metadata);
    }
}

#[test]
fn the_output_of_the_other_commands_is_valid_by_their_schemas() {
    let scratch = images();
    for image in ["raw", "base.qcow2", "top.qcow2", "old.qcow2"] {
        valid(&scratch, "map.json", &["map", "--output", "json", image]);
        let measure = ["measure", "-O", "qcow2", "--output", "json", image];
        valid(&scratch, "measure.json", &measure);
        valid(&scratch, "snapshot.json", &["snapshot", "-l", "--output", "json", image]);
    }
    let compact = ["compact", "--dry-run", "--output", "json", "base.qcow2"];
    valid(&scratch, "compact.json", &compact);
    let convert = "convert --salvage --output json -O raw damaged.qcow2 saved";
    let convert: Vec<&str> = convert.split(' ').collect();
    valid(&scratch, "convert.json", &convert);
}

/// An empty schema would accept anything.
#[test]
fn a_schema_refuses_what_is_not_printed() {
    let scratch = images();
    let mut value = valid(&scratch, "check.json", &["check", "--output", "json", "damaged.qcow2"]);
    let refused =
        |value: &Value| !jsonschema::validator_for(&strict("check.json")).unwrap().is_valid(value);
    assert!(!refused(&value));
    value["findings"][0]["severity"] = "terrible".into();
    assert!(refused(&value));
    value["findings"][0]["severity"] = "leak".into();
    value["findings"][0]["start"] = 1.into();
    assert!(refused(&value));
    assert!(refused(&serde_json::json!({ "filename": "x" })));
}

#[test]
fn every_schema_is_of_some_output() {
    let own = include_str!("schema.rs");
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/schema")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(own.contains(&format!("\"{name}\"")), "{name} is compared with nothing");
    }
}
