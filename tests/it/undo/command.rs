//! `qcheck check --undo` and `qcheck undo` as a user and a script see them.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use qcheck::storage::{Access, FileStorage, lock};

use crate::support::images::bytes::set_refcount;
use crate::support::programs::run::{Ran, assert_clean, qcheck, qemu, qemu_create, qemu_io};
use crate::support::storages::mounted::Mounted;

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

/// An image of qemu-img's with wrong counts and a leaked cluster after its data; its bytes.
fn damaged(folder: &Path, name: &str) -> Vec<u8> {
    qemu_create(folder, &["-f", "qcow2", "-o", "cluster_size=4k", name, "10M"]);
    qemu_io(folder, name, "write -P 5 0 1M");
    let file = fs::OpenOptions::new().read(true).write(true).open(folder.join(name)).unwrap();
    let length = file.metadata().unwrap().len();
    file.write_all_at(&[7; 4096], length).unwrap();
    let mut pointer = [0; 8];
    file.read_exact_at(&mut pointer, 0x1000).unwrap();
    let block = u64::from_be_bytes(pointer);
    for (cluster, count) in [(length / 4096, 1_u16), (7, 0), (8, 2)] {
        file.write_all_at(&count.to_be_bytes(), block + 2 * cluster).unwrap();
    }
    fs::read(folder.join(name)).unwrap()
}

fn bytes(folder: &Path, name: &str) -> Vec<u8> {
    fs::read(folder.join(name)).unwrap()
}

/// One line on standard error and nothing else.
fn refusal(folder: &Path, args: &[&str]) -> String {
    let ran = qcheck(folder, args);
    assert_eq!((ran.code, ran.out.as_str()), (1, ""), "{args:?}: {}", ran.err);
    assert!(ran.err.starts_with("qcheck: ") && ran.err.lines().count() == 1, "{}", ran.err);
    ran.err
}

fn repair(folder: &Path) {
    let ran = qcheck(folder, &["check", "-q", "-r", "all", "--undo", "u", "a"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
}

#[test]
fn a_repair_is_undone_to_the_byte() {
    let dir = folder();
    let before = damaged(dir.path(), "a");
    let verdict = |name| {
        let Ran { code, out, err } = qemu(dir.path(), "qemu-img", &["check", name]);
        (code, out, err)
    };
    let said = verdict("a");
    for mode in ["--repair", "-rall", "-rleaks"] {
        let ran = qcheck(dir.path(), &["check", mode, "--undo", "u", "a"]);
        assert_eq!(ran.code, if mode == "-rleaks" { 2 } else { 0 }, "{}", ran.err);
        assert_ne!(bytes(dir.path(), "a"), before);
        let ran = qcheck(dir.path(), &["undo", "u", "a"]);
        assert_eq!((ran.code, ran.err.as_str()), (0, ""));
        assert!(ran.out.starts_with("Repair undone: "), "{}", ran.out);
        assert!(bytes(dir.path(), "a") == before);
        assert_eq!(verdict("a"), said);
        let ran = qcheck(dir.path(), &["undo", "u", "a"]);
        assert_eq!(ran.code, 0);
        assert!(ran.out.starts_with("Nothing to undo"), "{}", ran.out);
        fs::remove_file(dir.path().join("u")).unwrap();
    }
}

#[test]
fn a_quiet_undo_prints_nothing() {
    let dir = folder();
    damaged(dir.path(), "a");
    repair(dir.path());
    let ran = qcheck(dir.path(), &["undo", "-q", "u", "a"]);
    assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (0, "", ""));
}

#[test]
fn a_repair_that_writes_nothing_leaves_no_undo_file() {
    let dir = folder();
    qemu_create(dir.path(), &["-f", "qcow2", "a", "10M"]);
    repair(dir.path());
    assert!(!dir.path().join("u").exists());
    // An existing empty one stays.
    fs::write(dir.path().join("u"), "").unwrap();
    repair(dir.path());
    assert!(bytes(dir.path(), "u").is_empty());
}

#[test]
fn an_empty_file_is_taken_and_any_other_is_never_overwritten() {
    let dir = folder();
    let before = damaged(dir.path(), "a");
    fs::write(dir.path().join("u"), "mine").unwrap();
    fs::create_dir(dir.path().join("d")).unwrap();
    for name in ["u", "a", "d", "missing/u", "/dev/null"] {
        let error = refusal(dir.path(), &["check", "-r", "all", "--undo", name, "a"]);
        assert!(error.contains(&format!("'{name}'")), "{error}");
        assert!(bytes(dir.path(), "a") == before, "{error}");
    }
    // The lock is not that of another process.
    fs::hard_link(dir.path().join("a"), dir.path().join("h")).unwrap();
    for name in ["a", "h"] {
        let error = refusal(dir.path(), &["check", "-r", "all", "--undo", name, "a"]);
        assert!(error.contains(&format!("'{name}': is the file of the image")), "{error}");
    }
    assert_eq!(bytes(dir.path(), "u"), b"mine");
    fs::write(dir.path().join("u"), "").unwrap();
    repair(dir.path());
    assert_eq!(qcheck(dir.path(), &["undo", "u", "a"]).code, 0);
    assert!(bytes(dir.path(), "a") == before);
}

#[test]
fn an_undo_file_whose_folder_cannot_be_flushed_is_taken_away_again() {
    let dir = folder();
    let path = dir.path();
    let before = damaged(path, "a");
    fs::create_dir(path.join("closed")).unwrap();
    fs::copy(assert_cmd::cargo::cargo_bin!("qcheck"), path.join("qcheck")).unwrap();
    // Files can be made in such a folder, but it cannot be opened, except by root.
    let script = "chmod 755 . qcheck; chmod 666 a; chmod 733 closed
if [ \"$(id -u)\" = 0 ]; then as='setpriv --reuid 65534 --clear-groups'; else chmod 333 closed; fi
$as ./qcheck check -r all --undo closed/u a
code=$?; chmod 755 closed; exit $code";
    let mut shell = Command::new("sh");
    let ran: Ran = shell.current_dir(path).args(["-c", script]).output().unwrap().into();
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.err.contains("could not create 'closed/u': Permission denied"), "{ran:?}");
    assert!(bytes(path, "a") == before && !path.join("closed/u").exists());
}

/// An image of qemu-img's with a megabyte of leaked data, which a repair punches out; its bytes.
fn leaky(folder: &Path) -> Vec<u8> {
    qemu_create(folder, &["-f", "qcow2", "-o", "cluster_size=4k", "a", "10M"]);
    // An L2 table without an empty part, which might have had entries.
    qemu_io(folder, "a", "write -q -P 5 0 2M");
    let mut image = bytes(folder, "a");
    let end = image.len() as u64 / 4096;
    image.resize(image.len() + (1 << 20), 9);
    (end..end + 256).for_each(|cluster| set_refcount(&mut image, cluster, 1));
    fs::write(folder.join("a"), &image).unwrap();
    image
}

#[test]
fn a_full_device_leaves_an_undo_file_that_can_be_used_or_none() {
    let Some(small) = Mounted::in_memory(4 << 20) else { return };
    let dir = folder();
    let before = leaky(dir.path());
    let name = small.path().join("u");
    let undo = name.to_str().unwrap();
    let repair = ["check", "-q", "-r", "all", "--undo", undo, "a"];
    let (mut unwritten, mut written) = (0, 0);
    for (pages, is_there) in (0..24).step_by(3).chain([64, 255]).zip([false, true].repeat(5)) {
        if is_there {
            fs::write(&name, "").unwrap();
        }
        small.fill_but(pages * 4096);
        let error = refusal(dir.path(), &repair);
        assert!(error.contains("No space left on device"), "{pages} pages: {error}");
        small.make_space();
        if bytes(dir.path(), "a") == before {
            unwritten += 1;
            assert_eq!(name.exists(), is_there, "{pages} pages: {error}");
            assert!(!is_there || fs::read(&name).unwrap().is_empty(), "{pages} pages: {error}");
            let again = qcheck(dir.path(), &repair);
            assert_eq!(again.code, 0, "{pages} pages: {}", again.err);
        } else {
            written += 1;
        }
        let done = qcheck(dir.path(), &["undo", undo, "a"]);
        assert_eq!((done.code, done.err.as_str()), (0, ""), "{pages} pages");
        assert!(bytes(dir.path(), "a") == before, "{pages} pages: not undone");
        fs::remove_file(&name).unwrap();
    }
    assert!(unwritten > 0 && written > 0, "{unwritten} and {written}");
}

#[test]
fn what_is_cut_off_by_an_undo_is_printed() {
    let dir = folder();
    let before = leaky(dir.path());
    let Some(small) = Mounted::in_memory(4 << 20) else { return };
    let name = small.path().join("u");
    let undo = name.to_str().unwrap();
    small.fill_but(64 * 4096);
    refusal(dir.path(), &["check", "-q", "-r", "all", "--undo", undo, "a"]);
    // The repair was interrupted, so that nothing shows who appended what.
    let mut longer = bytes(dir.path(), "a");
    assert!(longer != before && longer.len() == before.len());
    longer.extend([9; 8192]);
    fs::write(dir.path().join("a"), longer).unwrap();
    let done = qcheck(dir.path(), &["undo", "--force", undo, "a"]);
    assert_eq!(done.code, 0, "{}", done.err);
    assert!(
        done.out.contains("8192 bytes at the end") && done.out.contains("cut off"),
        "{}",
        done.out
    );
    assert!(bytes(dir.path(), "a") == before);
}

#[test]
fn undo_files_are_for_repairs_only() {
    let dir = folder();
    damaged(dir.path(), "a");
    let ran = qcheck(dir.path(), &["check", "--undo", "u", "a"]);
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("--repair") && !dir.path().join("u").exists(), "{}", ran.err);
}

#[test]
fn an_image_that_was_written_since_is_refused_unless_forced() {
    let dir = folder();
    damaged(dir.path(), "a");
    repair(dir.path());
    qemu_io(dir.path(), "a", "write -P 9 8M 64k");
    let written = bytes(dir.path(), "a");
    let error = refusal(dir.path(), &["undo", "u", "a"]);
    assert!(error.contains("'a'") && error.contains("has changed since"), "{error}");
    assert!(bytes(dir.path(), "a") == written);
    assert_eq!(qcheck(dir.path(), &["undo", "--force", "u", "a"]).code, 0);
}

#[test]
fn a_copy_of_the_image_is_as_good_as_the_image() {
    let dir = folder();
    let before = damaged(dir.path(), "a");
    repair(dir.path());
    fs::copy(dir.path().join("a"), dir.path().join("b")).unwrap();
    assert_eq!(qcheck(dir.path(), &["undo", "u", "b"]).code, 0);
    assert!(bytes(dir.path(), "b") == before);
    assert_clean(dir.path(), "a");
}

#[test]
fn another_image_is_refused_even_with_force() {
    let dir = folder();
    damaged(dir.path(), "a");
    repair(dir.path());
    qemu_create(dir.path(), &["-f", "qcow2", "other", "10M"]);
    qemu_io(dir.path(), "other", "write -P 6 512k 1M");
    let other = bytes(dir.path(), "other");
    for args in [&["undo", "u", "other"][..], &["undo", "--force", "u", "other"]] {
        let error = refusal(dir.path(), args);
        assert!(error.contains("'other'") && error.contains("is not the image"), "{error}");
    }
    assert!(bytes(dir.path(), "other") == other);
}

#[test]
fn what_is_not_a_whole_undo_file_is_reported_in_one_line() {
    let dir = folder();
    damaged(dir.path(), "a");
    repair(dir.path());
    let (after, whole) = (bytes(dir.path(), "a"), bytes(dir.path(), "u"));
    fs::write(dir.path().join("cut"), &whole[..whole.len() - 1]).unwrap();
    fs::write(dir.path().join("empty"), "").unwrap();
    for (name, why) in [
        ("missing", "No such file"),
        ("a", "is not an undo file"),
        ("cut", "is cut off"),
        ("empty", "is empty"),
        (".", "is a directory"),
    ] {
        let error = refusal(dir.path(), &["undo", name, "a"]);
        assert!(error.contains(&format!("'{name}'")) && error.contains(why), "{error}");
    }
    assert!(bytes(dir.path(), "a") == after);
}

#[test]
fn an_image_in_use_is_not_undone() {
    let dir = folder();
    damaged(dir.path(), "a");
    repair(dir.path());
    let after = bytes(dir.path(), "a");
    let user = FileStorage::open_write(&dir.path().join("a")).unwrap();
    lock(&user, Access::Write).unwrap();
    let error = refusal(dir.path(), &["undo", "u", "a"]);
    assert!(error.contains("Is another process using the image ["), "{error}");
    assert!(bytes(dir.path(), "a") == after);
}
