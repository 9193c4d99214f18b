//! `qcheck info --metadata` and `qcheck info --layout`, and colours.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::images::builder::Builder;
use crate::support::images::bytes::{header, l2_entry_at, poke};
use crate::support::programs::run::{Ran, qcheck, qemu_create, qemu_io, qemu_ok};

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

fn json(folder: &Path, args: &[&str]) -> Value {
    let ran = qcheck(folder, args);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{args:?}");
    serde_json::from_str(&ran.out).expect("JSON")
}

fn damaged() -> &'static str {
    concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/damaged.qcow2")
}

#[test]
fn a_damaged_image_is_drawn_with_what_is_wrong_in_its_place() {
    // The heading has the name, and is wrapped where that is long.
    let file = Path::new(damaged());
    let ran = qcheck(file.parent().unwrap(), &["info", "--layout", "damaged.qcow2"]);
    let want = "\
damaged.qcow2: 116 KiB; a cell is a cluster, 4 KiB

    0x0  HRRLL#!#!#!##########L####xxx

  !  errors                        12 KiB   10.34 %
  x  leaked                        12 KiB   10.34 %
  H  headers                        4 KiB    3.45 %
  R  refcount table and blocks      8 KiB    6.90 %
  L  L1 and L2 tables              12 KiB   10.34 %
  #  data                          68 KiB   58.62 %

The virtual disk: 4 MiB; a cell is 2 clusters, 8 KiB

     0x0  ########........................................................
";
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    assert!(ran.out.starts_with(want), "{}", ran.out);
    assert!(!ran.out.contains('\u{1b}'));
}

#[test]
fn with_colours_every_kind_has_its_own() {
    let ran = qcheck(Path::new("."), &["info", "--layout", "--color", "always", damaged()]);
    let (red, blue, cyan, green, yellow) = (
        "\u{1b}[1m\u{1b}[37m\u{1b}[41m",
        "\u{1b}[37m\u{1b}[44m",
        "\u{1b}[30m\u{1b}[46m",
        "\u{1b}[32m\u{1b}[42m",
        "\u{1b}[30m\u{1b}[43m",
    );
    let end = "\u{1b}[0m";
    for part in [
        format!("{blue}RR{end}{cyan}LL{end}{green}#{end}{red}!{end}"),
        format!("{yellow}xxx{end}\n"),
        format!("  {red}!{end}  errors  "),
    ] {
        assert!(ran.out.contains(&part), "{part:?}: {:?}", ran.out);
    }
}

#[test]
fn the_runs_of_file_and_disk_are_without_gaps() {
    let dir = folder();
    qemu_create(dir.path(), &["-f", "qcow2", "a", "64M"]);
    qemu_io(dir.path(), "a", "write 1M 1M");
    qemu_io(dir.path(), "a", "write -z 4M 1M");
    qemu_ok(dir.path(), "qemu-img", &["snapshot", "-c", "one", "a"]);
    qemu_io(dir.path(), "a", "write 1M 64k");
    let map = json(dir.path(), &["info", "--layout", "--output", "json", "a"]);
    for (runs, length) in [("file", "file-length"), ("guest", "virtual-size")] {
        let mut at = 0;
        for run in map[runs].as_array().unwrap() {
            assert_eq!(run["offset"], at, "{runs}");
            at += run["length"].as_u64().unwrap();
        }
        assert_eq!(map[length], at, "{runs}");
    }
    let bytes = |kind: &str| map["space"][kind]["bytes"].as_u64();
    assert_eq!(bytes("data"), Some(1 << 20));
    assert_eq!(bytes("snapshot-data"), Some(65536));
    assert_eq!(map["space"]["sum"], map["file-length"]);
    let guest: Vec<&Value> = map["guest"].as_array().unwrap().iter().map(|r| &r["state"]).collect();
    assert_eq!(guest, ["unallocated", "data", "unallocated", "zero", "unallocated"]);
}

#[test]
fn every_table_is_listed_with_its_offset() {
    let dir = folder();
    let built = Builder::new(4 << 20).data(0..700, 0x11).bitmap("day", 12, 1).build();
    fs::write(dir.path().join("a"), &built.bytes).unwrap();
    let all = json(dir.path(), &["info", "--metadata", "--output", "json", "a"]);
    let l1 = header(&built.bytes, "l1_table_offset");
    assert_eq!(all["l1-tables"][0]["offset"], l1);
    assert_eq!(all["l1-tables"][0]["in-use"], 2);
    assert_eq!(all["refcount-table"]["offset"], header(&built.bytes, "refcount_table_offset"));
    let second = crate::support::images::bytes::be64(&built.bytes, l1 as usize + 8);
    assert_eq!(all["l1-entries"][1]["l2-table"], second & 0x00ff_ffff_ffff_fe00);
    assert_eq!(all["l2-tables"].as_array().unwrap().len(), 2);
    assert_eq!(all["bitmaps"][0]["name"], "day");
    assert_eq!(all["space"]["sum"], built.bytes.len());
    let text = qcheck(dir.path(), &["info", "--metadata", "a"]).out;
    for line in [
        "  l1_size                  2                     entries",
        "table of bitmap 'day'",
        "L2 tables: 2 ",
        "the file's length",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
}

#[test]
fn the_list_of_tables_is_bounded_for_people_and_whole_for_programs() {
    let dir = folder();
    let options = "size=64M,cluster_size=512,preallocation=metadata";
    qemu_create(dir.path(), &["-f", "qcow2", "-o", options, "a"]);
    let all = json(dir.path(), &["info", "--metadata", "--output", "json", "a"]);
    assert_eq!(all["l2-tables"].as_array().unwrap().len(), 2048);
    let text = qcheck(dir.path(), &["info", "--metadata", "a"]).out;
    assert!(text.lines().count() < 120, "{}", text.lines().count());
    assert!(text.contains(" more; --output json has all"), "{text}");
}

#[test]
fn what_is_wrong_is_reported_after_the_part_that_it_is_about() {
    let dir = folder();
    let mut bytes = Builder::new(4 << 20).data(0..4, 0x11).build().bytes;
    let at = l2_entry_at(&bytes, 0);
    poke(&mut bytes, at, 8, 0x8000_0000_0000_0000 | 1 << 40);
    fs::write(dir.path().join("a"), &bytes).unwrap();
    let text = qcheck(dir.path(), &["info", "--metadata", "a"]).out;
    let (_, behind) = text.split_once("L2 tables: 1").unwrap();
    let (tables, space) = behind.split_once("Space:").unwrap();
    assert!(tables.contains("  ! ERROR: counting reference for region exceeding"), "{text}");
    assert!(space.contains("past the end"), "{text}");
}

#[test]
fn wrong_refcounts_are_reported_with_the_space_that_they_are_about() {
    let dir = folder();
    let mut bytes = Builder::new(4 << 20).data(0..4, 0x11).build().bytes;
    let end = bytes.len() as u64 >> 12;
    bytes.resize(bytes.len() + (60 << 12), 0);
    let table = header(&bytes, "refcount_table_offset") as usize;
    let block = crate::support::images::bytes::be64(&bytes, table) as usize;
    // A run of three leaks, followed by single ones.
    for cluster in [end, end + 1, end + 2].into_iter().chain((0..20).map(|n| end + 4 + 2 * n)) {
        poke(&mut bytes, block + 2 * cluster as usize, 2, 1);
    }
    fs::write(dir.path().join("a"), &bytes).unwrap();
    let text = qcheck(dir.path(), &["info", "--metadata", "a"]).out;
    let (_, space) = text.split_once("Space:").unwrap();
    let run = format!(
        "  ! Leaked cluster {end} refcount=1 reference=0, and likewise 2 clusters after it\n"
    );
    assert!(space.contains(&run), "{text}");
    assert!(space.contains(&format!("  ! Leaked cluster {} refcount=1 reference=0\n", end + 4)));
    assert!(space.lines().filter(|line| line.starts_with("  ! Leaked")).count() == 8, "{text}");
    assert!(space.contains("  ! and 13 more: 'qcheck check' has all\n"), "{text}");
}

#[test]
fn a_header_that_points_nowhere_is_still_printed_field_by_field() {
    let dir = folder();
    let mut bytes = Builder::new(4 << 20).data(0..4, 0x11).build().bytes;
    poke(&mut bytes, 20, 4, 77);
    fs::write(dir.path().join("a"), &bytes).unwrap();
    let ran = qcheck(dir.path(), &["info", "--metadata", "a"]);
    assert_eq!(ran.code, 1);
    assert!(ran.out.contains("cluster_bits             77\n"), "{}", ran.out);
    assert!(ran.err.contains("unsupported cluster size"), "{}", ran.err);
    fs::write(dir.path().join("raw"), [0; 512]).unwrap();
    for option in ["--layout", "--metadata"] {
        let ran = qcheck(dir.path(), &["info", option, "raw"]);
        assert_eq!(ran.code, 1);
        assert!(ran.err.contains("raw has no metadata"), "{}", ran.err);
    }
}

fn colored(program: &Path, args: &[&str], set: &[(&str, &str)]) -> Ran {
    let mut command = Command::new(program);
    command.args(args).env_remove("NO_COLOR").env_remove("CLICOLOR_FORCE");
    command.envs(set.iter().copied()).output().expect("it starts").into()
}

#[test]
fn colours_come_when_they_are_asked_for() {
    let program = assert_cmd::cargo::cargo_bin!("qcheck");
    let leaks = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/leaks.qcow2");
    let many = ["check", leaks, damaged()];
    let has = |args: &[&str], set: &[(&str, &str)]| {
        let ran = colored(program, args, set);
        (ran.out.contains('\u{1b}'), ran.err.contains('\u{1b}'))
    };
    assert_eq!(has(&many, &[]), (false, false), "no terminal");
    assert_eq!(has(&many, &[("CLICOLOR_FORCE", "1")]), (true, true));
    assert_eq!(has(&many, &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]), (false, false));
    let never = [&many[..], &["--color", "never"]].concat();
    assert_eq!(has(&never, &[("CLICOLOR_FORCE", "1")]), (false, false));
    let always = [&["--color=always"], &many[..]].concat();
    assert_eq!(has(&always, &[("NO_COLOR", "1")]), (true, true));
    assert_eq!(has(&["--color", "always", "help"], &[]), (true, false), "clap's help too");
    assert_eq!(has(&["--color", "always", "check", "missing"], &[]), (false, true));
    assert_eq!(has(&["--color", "always", "chekc"], &[]), (false, true));
    let ran = colored(program, &always, &[]);
    assert!(
        ran.out.contains("leaks.qcow2: \u{1b}[33m192 leaked clusters\u{1b}[0m\n"),
        "{}",
        ran.out
    );
    assert!(ran.out.contains("damaged.qcow2: \u{1b}[1m\u{1b}[31m"), "{}", ran.out);
}

#[test]
fn qemu_imgs_lines_have_no_colours_and_neither_has_its_name() {
    let program = assert_cmd::cargo::cargo_bin!("qcheck");
    let plain = colored(program, &["check", damaged()], &[]);
    let always = colored(program, &["check", "--color", "always", damaged()], &[]);
    assert_eq!(always, plain);
    let dir = folder();
    let link = dir.path().join("qemu-img");
    std::os::unix::fs::symlink(program, &link).unwrap();
    let ran = colored(&link, &["info", "--layout", "--color", "always", damaged()], &[]);
    assert!(!ran.out.contains('\u{1b}') && ran.code == 0, "{}", ran.out);
    let ran = colored(&link, &["check", "missing"], &[("CLICOLOR_FORCE", "1")]);
    assert!(ran.err.starts_with("qemu-img: Could not open"), "{}", ran.err);
}
