//! `qcheck check` as a user and a script see it: arguments, exit codes, streams.

use std::fs;
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use qcheck::storage::{Access, FileStorage, lock};

use crate::support::programs::run::{Ran, qcheck, qemu, qemu_create, qemu_ok};

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

/// Where qemu-img puts the first refcount block of a new image with 64 KiB clusters.
const REFBLOCK: u64 = 0x20000;
const CLUSTER: u64 = 0x10000;

/// An image with 1 MiB of data, 21 clusters long.
fn image(folder: &Path, name: &str) {
    qemu_create(folder, &["-f", "qcow2", "--", name, "10M"]);
    qemu_ok(folder, "qemu-io", &["-c", "write 0 1M", "--", name]);
    assert_eq!(fs::metadata(folder.join(name)).unwrap().len(), 21 * CLUSTER);
}

fn set_count(folder: &Path, name: &str, cluster: u64, count: u16) {
    let file = fs::OpenOptions::new().write(true).open(folder.join(name)).unwrap();
    file.write_all_at(&count.to_be_bytes(), REFBLOCK + 2 * cluster).unwrap();
}

/// An image with `count` leaked clusters after its data.
fn leaky_image(folder: &Path, name: &str, count: u64) {
    image(folder, name);
    (21..21 + count).for_each(|cluster| set_count(folder, name, cluster, 1));
    let file = fs::OpenOptions::new().write(true).open(folder.join(name)).unwrap();
    file.set_len((21 + count) * CLUSTER).unwrap();
}

/// An image with counts that are too low and too high, and the flags that disagree.
fn corrupt_image(folder: &Path, name: &str) {
    leaky_image(folder, name, 1);
    set_count(folder, name, 6, 0);
    set_count(folder, name, 7, 2);
}

fn both(folder: &Path, args: &[&str]) -> (Ran, Ran) {
    (qcheck(folder, args), qemu(folder, "qemu-img", args))
}

/// The text with the findings cut out of a JSON object.
fn without_findings(out: &str) -> String {
    let Some((head, _)) = out.split_once(",\n    \"findings\"") else { return out.into() };
    format!("{head}\n}}\n")
}

fn refusal(folder: &Path, args: &[&str]) -> String {
    let ran = qcheck(folder, args);
    assert_eq!((ran.code, ran.out.as_str()), (1, ""), "{args:?}: {}", ran.err);
    assert!(ran.err.starts_with("qcheck: "), "{args:?}: {}", ran.err);
    ran.err
}

#[test]
fn arguments_that_cannot_be_are_refused_with_exit_code_1() {
    let dir = folder();
    qemu_create(dir.path(), &["-f", "qcow2", "a", "1M"]);
    for args in [
        &["check"][..],
        &["check", "--nonsense", "a"],
        &["check", "-r"],
        &["check", "-r", "some", "a"],
        &["check", "--repair=some", "a"],
        &["check", "-U", "-r", "all", "a"],
        &["check", "-U", "--repair", "a"],
        &["check", "--output", "xml", "a"],
        &["check", "-T", "fast", "a"],
        &["check", "-f", "nonsense", "a"],
        &["check", "--max-findings", "some", "a"],
        &["nonsense"],
        &[],
    ] {
        refusal(dir.path(), args);
    }
}

#[test]
fn what_cannot_be_opened_is_reported_in_one_line_with_its_name_and_cause() {
    let dir = folder();
    let err = refusal(dir.path(), &["check", "missing"]);
    assert_eq!(err, "qcheck: Could not open 'missing': No such file or directory\n");
    let err = refusal(dir.path(), &["check", "."]);
    assert!(err.contains("'.'") && err.contains("directory"), "{err}");
    assert_eq!(err.lines().count(), 1);
}

#[test]
fn a_file_that_is_not_qcow2_is_refused_where_qcow2_was_asked_for() {
    let dir = folder();
    fs::write(dir.path().join("a"), [7; 1000]).unwrap();
    let err = refusal(dir.path(), &["check", "-f", "qcow2", "a"]);
    assert!(err.contains("'a'") && err.contains("Image is not in qcow2 format"), "{err}");
}

#[test]
fn formats_without_a_checker_end_with_63_as_in_qemu_img() {
    let dir = folder();
    fs::write(dir.path().join("raw"), b"some bytes\0").unwrap();
    fs::write(dir.path().join("empty"), b"").unwrap();
    qemu_create(dir.path(), &["-f", "qcow2", "a", "1M"]);
    for args in [
        &["check", "raw"][..],
        &["check", "empty"],
        &["check", "/dev/null"],
        &["check", "-f", "raw", "a"],
        &["check", "-q", "raw"],
        &["check", "--output", "json", "raw"],
    ] {
        let ran = qcheck(dir.path(), args);
        assert_eq!((ran.code, ran.out.as_str()), (63, ""), "{args:?}: {}", ran.err);
        assert_eq!(qemu(dir.path(), "qemu-img", args).code, 63, "{args:?}");
        assert_eq!(ran.err.lines().count(), 1);
    }
}

/// A disk with a footer in place of a header, as Azure takes it: qemu-img reads it as raw.
fn fixed_vhd(folder: &Path) -> Vec<u8> {
    qemu_create(folder, &["-f", "vpc", "-o", "subformat=fixed,force_size=on", "vhd", "1M"]);
    fs::read(folder.join("vhd")).unwrap()
}

#[test]
fn what_a_file_seems_to_be_is_a_notice_of_check_and_info() {
    let dir = folder();
    for (bytes, words) in [
        (&b"\x1F\x8B\x08\0"[..], "seems to be a gzip file"),
        (b"\x28\xB5\x2F\xFD\0", "seems to be a zstd file"),
        (b"<!doctype HTML>\n", "seems to be an HTML page"),
        (b"hello\n", "seems to be text"),
        (b"VMA\0\0\0\0\x01", "seems to be a backup of Proxmox VE"),
        (&fixed_vhd(dir.path()), "seems to be a fixed VHD image"),
    ] {
        fs::write(dir.path().join("image"), bytes).unwrap();
        for (args, code) in [(["check", "image"], 63), (["info", "image"], 0)] {
            let ran = qcheck(dir.path(), &args);
            assert_eq!(ran.code, code);
            let notice = ran.err.lines().last().unwrap_or_default();
            assert!(notice.starts_with("qcheck: NOTICE: 'image' ") && notice.contains(words));
            assert_eq!(qemu(dir.path(), "qemu-img", &args).code, code);
        }
        let ran = qcheck(dir.path(), &["info", "-f", "raw", "image"]);
        assert_eq!((ran.code, ran.err.as_str()), (0, ""), "the format is given");
    }
}

#[test]
fn other_formats_have_no_checker() {
    let dir = folder();
    for format in ["vdi", "vmdk", "vhdx", "qed", "vpc", "parallels", "qcow"] {
        qemu_create(dir.path(), &["-f", format, format, "1M"]);
        let ran = qcheck(dir.path(), &["check", format]);
        assert_eq!(ran.code, 63, "{format}: {}", ran.err);
        let lines: Vec<&str> = ran.err.lines().collect();
        let notice =
            format!("qcheck: NOTICE: '{format}' is {format}; only qcow2 images can be checked");
        assert_eq!(lines, ["qcheck: This image format does not support checks", &notice]);
    }
}

#[test]
fn help_and_version_succeed_on_standard_output() {
    let dir = folder();
    for args in [&["--help"][..], &["check", "--help"], &["--version"]] {
        let ran = qcheck(dir.path(), args);
        assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{args:?}");
        assert!(ran.out.contains("qcheck"), "{}", ran.out);
    }
}

#[test]
fn streams_and_exit_codes_are_those_of_qemu_img() {
    let dir = folder();
    image(dir.path(), "clean");
    leaky_image(dir.path(), "leaky", 3);
    corrupt_image(dir.path(), "corrupt");
    for (name, code) in [("clean", 0), ("leaky", 3), ("corrupt", 2)] {
        let before = fs::read(dir.path().join(name)).unwrap();
        for args in [
            &["check", name][..],
            &["check", "-f", "qcow2", name],
            &["check", "-q", name],
            &["check", "-U", name],
            &["check", "-T", "none", name],
        ] {
            let (ours, theirs) = both(dir.path(), args);
            assert_eq!(ours.code, code);
            assert_eq!(ours, theirs, "{args:?}");
        }
        let (ours, theirs) = both(dir.path(), &["check", "--output=json", name]);
        assert_eq!(without_findings(&ours.out), theirs.out);
        assert_eq!((ours.code, ours.err), (theirs.code, theirs.err));
        assert_eq!(fs::read(dir.path().join(name)).unwrap(), before, "{name} was written");
    }
}

#[test]
fn quiet_json_prints_nothing() {
    let dir = folder();
    leaky_image(dir.path(), "a", 1);
    let (ours, theirs) = both(dir.path(), &["check", "-q", "--output", "json", "a"]);
    assert_eq!(ours, theirs);
    assert_eq!(ours.out, "");
}

#[test]
fn json_describes_each_run_of_findings() {
    let dir = folder();
    leaky_image(dir.path(), "a", 3);
    let ran = qcheck(dir.path(), &["check", "--output", "json", "a"]);
    let mut json: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    let leak = json["findings"][0].as_object_mut().unwrap();
    for key in ["meaning", "remedy"] {
        let text = leak.remove(key).unwrap();
        assert!(text.as_str().unwrap().len() > 10, "{text}");
    }
    assert_eq!(
        json["findings"],
        serde_json::json!([{
            "code": "leak",
            "severity": "leak",
            "place": "clusters 21 to 23",
            "message": "Leaked cluster 21 refcount=1 reference=0",
            "clusters": { "first": 21, "count": 3 },
            "stored": 1,
            "referenced": 0,
            "repair": "leaks",
        }])
    );
    image(dir.path(), "b");
    let ran = qcheck(dir.path(), &["check", "--output", "json", "b"]);
    assert!(!ran.out.contains("findings"), "{}", ran.out);
}

#[test]
fn json_has_the_guest_range_of_a_finding() {
    let dir = folder();
    corrupt_image(dir.path(), "a");
    let ran = qcheck(dir.path(), &["check", "--output", "json", "a"]);
    let json: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    let findings = json["findings"].as_array().unwrap();
    let flag = findings.iter().find(|f| f["code"] == "copied-data").unwrap();
    assert_eq!(flag["guest"], serde_json::json!({ "offset": 65536, "length": 65536 }));
    assert_eq!(flag["clusters"], serde_json::json!({ "first": 6, "count": 1 }));
}

#[test]
fn findings_over_the_limit_are_summed_up() {
    let dir = folder();
    leaky_image(dir.path(), "a", 100);
    let ran = qcheck(dir.path(), &["check", "--max-findings", "3", "a"]);
    let lines: Vec<&str> = ran.err.lines().collect();
    assert_eq!(lines.len(), 4, "{}", ran.err);
    assert_eq!(lines[2], "Leaked cluster 23 refcount=1 reference=0");
    assert_eq!(lines[3], "... and 97 more: leak: clusters 24 to 120");
    let ran = qcheck(dir.path(), &["check", "--max-findings", "0", "a"]);
    assert_eq!(ran.err.lines().count(), 100);
    corrupt_image(dir.path(), "b");
    let ran = qcheck(dir.path(), &["check", "--max-findings", "1", "--output", "json", "b"]);
    let json: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(json["findings"].as_array().unwrap().len(), 1);
    assert_eq!(json["findings-omitted"], 4);
}

#[test]
fn an_image_in_use_is_refused_unless_sharing_is_forced() {
    let dir = folder();
    image(dir.path(), "a");
    let user = FileStorage::open_write(&dir.path().join("a")).unwrap();
    lock(&user, Access::Write).unwrap();
    let err = refusal(dir.path(), &["check", "a"]);
    assert!(err.contains("'a'") && err.contains("\"write\" lock"), "{err}");
    refusal(dir.path(), &["check", "-r", "all", "a"]);
    assert_eq!(qcheck(dir.path(), &["check", "-U", "a"]).code, 0);
}

#[test]
fn a_reader_that_went_away_changes_neither_the_exit_code_nor_prints_an_error() {
    let dir = folder();
    leaky_image(dir.path(), "a", 1);
    let mut child = Command::new(assert_cmd::cargo::cargo_bin!("qcheck"))
        .current_dir(dir.path())
        .args(["check", "a"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(output.stderr, b"Leaked cluster 21 refcount=1 reference=0\n");
}

#[test]
fn a_reader_of_the_progress_that_went_away_does_not_stop_a_repair() {
    let dir = folder();
    leaky_image(dir.path(), "a", 1);
    let mut child = Command::new(assert_cmd::cargo::cargo_bin!("qcheck"))
        .current_dir(dir.path())
        .args(["check", "-p", "-r", "leaks", "a"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stderr.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(qemu(dir.path(), "qemu-img", &["check", "a"]).code, 0);
}

#[test]
fn messages_begin_with_the_name_under_which_the_program_was_called() {
    let dir = folder();
    let output = Command::new(assert_cmd::cargo::cargo_bin!("qcheck"))
        .arg0("/usr/sbin/fsck.qcow2")
        .current_dir(dir.path())
        .args(["check", "missing"])
        .output()
        .unwrap();
    assert!(output.stderr.starts_with(b"fsck.qcow2: "));
}

#[test]
fn progress_is_printed_where_it_was_asked_for_and_never_with_quiet() {
    let dir = folder();
    image(dir.path(), "a");
    assert_eq!(qcheck(dir.path(), &["check", "a"]).err, "");
    assert!(qcheck(dir.path(), &["check", "-p", "a"]).err.starts_with("qcheck: "));
    assert_eq!(qcheck(dir.path(), &["check", "-q", "-p", "a"]).err, "");
}

#[test]
fn names_that_look_like_options_or_modes_are_names_after_two_dashes() {
    let dir = folder();
    image(dir.path(), "--repair");
    assert_eq!(qcheck(dir.path(), &["check", "--", "--repair"]).code, 0);
    fs::rename(dir.path().join("--repair"), dir.path().join("leaks")).unwrap();
    assert_eq!(qcheck(dir.path(), &["check", "leaks"]).code, 0);
}

/// Repairs the same damage with both programs.
fn both_repair(damage: impl Fn(&Path), args: &[&str]) -> (Ran, Ran) {
    let (ours, theirs) = (folder(), folder());
    damage(ours.path());
    damage(theirs.path());
    let args = [&["check"], args].concat();
    let ran = (qcheck(ours.path(), &args), qemu(theirs.path(), "qemu-img", &args));
    let check = |dir: &Path| qemu(dir, "qemu-img", &["check", "a"]);
    assert_eq!(check(ours.path()), check(theirs.path()), "{args:?}");
    ran
}

#[test]
fn a_repair_of_leaks_is_reported_as_by_qemu_img() {
    for args in [
        &["-r", "leaks", "a"][..],
        &["-r", "all", "a"],
        &["--repair=leaks", "a"],
        &["-q", "-r", "leaks", "a"],
    ] {
        let (ours, theirs) = both_repair(|dir| leaky_image(dir, "a", 3), args);
        assert_eq!(ours, theirs, "{args:?}");
    }
    let args = ["--output=json", "-r", "leaks", "a"];
    let (ours, theirs) = both_repair(|dir| leaky_image(dir, "a", 3), &args);
    assert_eq!((ours.code, &ours.out), (0, &theirs.out));
    assert!(ours.out.contains("\"leaks-fixed\": 3"), "{}", ours.out);
}

#[test]
fn a_flag_and_a_leak_are_reported_and_repaired_in_the_order_of_qemu_img() {
    let damage = |dir: &Path| {
        leaky_image(dir, "a", 2);
        let file = fs::OpenOptions::new().write(true).open(dir.join("a")).unwrap();
        // COPIED of the first entry of the L2 table, after the L1 table.
        file.write_all_at(&[0], 4 * CLUSTER).unwrap();
    };
    for args in [&["-r", "all", "a"][..], &["-r", "leaks", "a"], &["-q", "--repair=all", "a"]] {
        let (ours, theirs) = both_repair(damage, args);
        assert_eq!(ours, theirs, "{args:?}");
    }
}

#[test]
fn leaks_that_damage_may_hide_references_to_are_kept_and_reported() {
    let dir = folder();
    leaky_image(dir.path(), "a", 2);
    let file = fs::OpenOptions::new().write(true).open(dir.path().join("a")).unwrap();
    // The second entry of the L2 table, after the L1 table, points far out of the file.
    file.write_all_at(&[0x7f], 4 * CLUSTER + 9).unwrap();
    let ran = qcheck(dir.path(), &["check", "-r", "all", "a"]);
    assert_eq!(ran.code, 2);
    assert!(ran.out.contains("\n3 leaked clusters were found"), "{}", ran.out);
    assert!(ran.err.contains("qcheck: 'a': 3 leaked clusters were not released"), "{}", ran.err);
}

#[test]
fn repair_takes_its_mode_in_every_spelling() {
    for (args, mended) in [
        (&["--repair", "a"][..], true),
        (&["a", "--repair"], true),
        (&["--repair", "all", "a"], true),
        (&["--repair=all", "a"], true),
        (&["--rep", "a"], true),
        (&["-r", "all", "a"], true),
        (&["-rall", "a"], true),
        (&["--repair", "leaks", "a"], false),
        (&["--repair=leaks", "a"], false),
        (&["-r", "leaks", "a"], false),
    ] {
        let dir = folder();
        image(dir.path(), "a");
        set_count(dir.path(), "a", 6, 0);
        let args = [&["check"], args].concat();
        let code = qcheck(dir.path(), &args).code;
        assert_eq!(code, if mended { 0 } else { 2 }, "{args:?}");
        assert_eq!(qemu(dir.path(), "qemu-img", &["check", "a"]).code, code, "{args:?}");
    }
}

#[test]
fn a_file_that_cannot_be_written_is_not_repaired() {
    let dir = folder();
    leaky_image(dir.path(), "a", 1);
    let before = fs::read(dir.path().join("a")).unwrap();
    let user = FileStorage::open_read(&dir.path().join("a")).unwrap();
    lock(&user, Access::Read).unwrap();
    refusal(dir.path(), &["check", "-r", "leaks", "a"]);
    assert_eq!(fs::read(dir.path().join("a")).unwrap(), before);
}

#[test]
fn no_repair_is_advised_for_what_may_be_a_raw_disk() {
    let dir = folder();
    fs::write(dir.path().join("disk"), vec![7; 1 << 20]).unwrap();
    for args in [&["check", "-f", "qcow2", "disk"][..], &["check", "-r", "all", "disk"]] {
        let ran = qcheck(dir.path(), args);
        assert!([1, 63].contains(&ran.code), "{args:?}");
        assert!(!ran.err.contains("--allow-data-loss"), "{}", ran.err);
    }
    let ran = qcheck(dir.path(), &["check", "-f", "qcow2", "disk"]);
    assert!(ran.err.contains("may be a raw disk"), "{}", ran.err);
}
