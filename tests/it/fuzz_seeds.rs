//! The fuzz targets on their seeds, and on every input that ever showed a fault.

use std::collections::BTreeMap;
use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use crate::fuzzing::damage::{CHANGE_BYTES, bases};
use crate::fuzzing::{TARGETS, repair, seeds};
use crate::support::rng::Rng;
use crate::support::sample::{is_full, seed};
use crate::support::skip::skip;

fn folder(path: &str, target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path).join(target)
}

/// The files of a folder by name; none where there is no folder.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let Ok(entries) = fs::read_dir(folder) else { return BTreeMap::new() };
    let files = entries.map(|entry| {
        let entry = entry.unwrap();
        (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())
    });
    files.collect()
}

#[test]
fn every_target_holds_on_its_seeds() {
    for (name, run) in TARGETS {
        for (_, input) in seeds::of(name) {
            run(&input);
        }
    }
}

/// Random damage that changes little, as an input describes it.
#[test]
fn a_repair_holds_on_random_inputs() {
    let count = if is_full() { 4_000 } else { 1_000 };
    let mut rng = Rng::new(seed());
    let mut wrong = Vec::new();
    for number in 0..count {
        let changes = 1 + rng.below(3) as usize;
        let mut input = rng.bytes(2 + changes * CHANGE_BYTES);
        input[0] %= bases().len() as u8;
        if catch_unwind(|| repair::run(&input)).is_err() {
            wrong.push(format!("{number}: {input:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {count}:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn what_fuzzing_found_stays_repaired() {
    for (name, run) in TARGETS {
        for (file, input) in files(&folder("tests/data/fuzz", name)) {
            println!("{name}/{file}");
            run(&input);
        }
    }
}

/// With `QCHECK_WRITE_SEEDS` set the files are written.
#[test]
fn the_seeds_in_the_repository_are_those_that_the_code_makes() {
    if !Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").exists() {
        return skip("the seeds", "a package has no folder fuzz/");
    }
    let mut total = 0;
    for (name, _) in TARGETS {
        let folder = folder("fuzz/corpus", name);
        let made: BTreeMap<_, _> = seeds::of(name).into_iter().collect();
        if std::env::var_os("QCHECK_WRITE_SEEDS").is_some() {
            let _ = fs::remove_dir_all(&folder);
            fs::create_dir_all(&folder).unwrap();
            for (file, bytes) in &made {
                fs::write(folder.join(file), bytes).unwrap();
            }
        }
        total += made.values().map(Vec::len).sum::<usize>();
        assert!(files(&folder) == made, "{name}: write the seeds again with QCHECK_WRITE_SEEDS=1");
    }
    assert!(total < 1 << 20, "{total} bytes of seeds");
}
