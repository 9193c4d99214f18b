//! `docs/systemd/` and `docs/fleet.md`: what schedulers are given is valid for them.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::support::programs::run::{qcheck, qemu_create, run};
use crate::support::servers::real::has;
use crate::support::skip::skip;

fn docs() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/docs"))
}

#[test]
fn systemd_finds_nothing_wrong_with_the_units() {
    if !has("systemd-analyze") {
        return skip("units", "there is no systemd-analyze");
    }
    let dir = tempfile::tempdir().unwrap();
    let units = ["qcheck-check@.service", "qcheck-check@.timer"];
    for unit in units {
        let text = fs::read(docs().join("systemd").join(unit)).unwrap();
        fs::write(dir.path().join(unit.replace('@', "@tmp")), text).unwrap();
    }
    let args = ["verify", "--man=no", "./qcheck-check@tmp.service", "./qcheck-check@tmp.timer"];
    let ran = run(dir.path(), "systemd-analyze", &args, Duration::from_secs(60));
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{ran:?}");
}

/// The command of the service, with its folders in place of what systemd puts there.
#[test]
fn the_command_of_the_service_checks_the_images_of_a_folder() {
    let unit = fs::read_to_string(docs().join("systemd/qcheck-check@.service")).unwrap();
    let unit = unit.replace("\\\n", " ");
    let command = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let images = dir.path().join("images of guests");
    fs::create_dir(&images).unwrap();
    qemu_create(&images, &["-f", "qcow2", "a b.qcow2", "1M"]);
    qemu_create(&images, &["-f", "qcow2", "c.img", "1M"]);
    qemu_create(&images, &["-f", "qcow2", "other", "1M"]);
    let program = assert_cmd::cargo::cargo_bin!("qcheck").parent().unwrap();
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
    let command = command.replace("%f", "\"$FOLDER\"").replace("%i", "folder");
    let ran = assert_cmd::Command::new("/bin/sh")
        .args(["-c", &command])
        .env("PATH", path)
        .env("FOLDER", &images)
        .env("STATE_DIRECTORY", dir.path())
        .output()
        .unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let metrics = fs::read_to_string(dir.path().join("folder.prom")).unwrap();
    assert_eq!(metrics.matches(",verdict=\"clean\"} 1").count(), 2, "{metrics}");
    assert_eq!(fs::read_to_string(dir.path().join("folder.state")).unwrap().lines().count(), 2);
}

#[test]
fn the_yaml_of_the_recipes_is_valid() {
    if !run(Path::new("/"), "python3", &["-c", "import yaml"], Duration::from_secs(60))
        .err
        .is_empty()
    {
        return skip("recipes", "there is no python3-yaml");
    }
    let text = fs::read_to_string(docs().join("fleet.md")).unwrap();
    let blocks: Vec<&str> = text.split("```yaml\n").skip(1).collect();
    assert!(blocks.len() >= 4);
    for block in blocks {
        let yaml = block.split("```").next().unwrap();
        let ran = assert_cmd::Command::new("python3")
            .args(["-c", "import sys, yaml; assert yaml.safe_load(sys.stdin)"])
            .write_stdin(yaml)
            .output()
            .unwrap();
        assert!(ran.status.success(), "{}\n{yaml}", String::from_utf8_lossy(&ran.stderr));
    }
}

/// Four hosts, two of which left no result: all are on one page.
#[test]
fn results_of_several_hosts_are_one_page() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["a", "b"] {
        qemu_create(dir.path(), &["-f", "qcow2", name, "1M"]);
    }
    let ran = qcheck(dir.path(), &["check", "--output", "ndjson", "-j", "1", "a", "b", "gone"]);
    assert_eq!(ran.code, 1);
    fs::write(dir.path().join("one.ndjson"), &ran.out).unwrap();
    fs::write(dir.path().join("two.ndjson"), &ran.out).unwrap();
    fs::write(dir.path().join("empty.ndjson"), "").unwrap();
    let from = ["one=one.ndjson", "two=two.ndjson", "three=three.ndjson", "four=empty.ndjson"];
    let args: Vec<&str> = from.iter().flat_map(|from| ["--from", from]).collect();
    let page = qcheck(dir.path(), &[&["report"][..], &args].concat()).success().out;
    for (word, count) in [
        (">gone</a>", 2),
        (">a</a>", 2),
        (">b</a>", 2),
        (">no results</a>", 2),
        ("<td>three</td>", 1),
        ("<td>four</td>", 1),
        ("there are no results in it", 1),
        ("<h3>History</h3>", 0),
    ] {
        assert_eq!(page.matches(word).count(), count, "{word}: {page}");
    }
    assert!(page.contains("4 of 8 images"), "{page}");
}
